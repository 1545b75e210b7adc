-- depends: 0002.audit

-- Why: the people a tenant serves. Everything else hangs on a user.
--
-- Deleting is soft: `deleted_at` hides a row from every read. Its rows in other tables are hidden
-- with it and say so in their `deleted_with`, so that a restore brings back exactly those.

create table thea.users (
  tenant_id text not null,
  id bigint generated always as identity,
  telegram_id bigint not null,
  username text,
  first_name text,
  last_name text,
  language_code text,
  timezone text not null default 'UTC',
  is_active boolean not null default true,
  preferences jsonb not null default '{}',
  last_activity timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  deleted_at timestamptz,
  constraint users_pkey primary key (tenant_id, id),
  constraint users_tenant_id_check
    check (char_length(tenant_id) between 1 and 50 and tenant_id !~ '^\s|\s$|[[:cntrl:]]'),
  constraint users_telegram_id_key unique (tenant_id, telegram_id),
  constraint users_preferences_check check (jsonb_typeof(preferences) = 'object')
);

alter table thea.users owner to thea_owner;

alter table thea.users alter column tenant_id set (n_distinct = 50);

comment on constraint users_telegram_id_key on thea.users
  is 'users.get_by_telegram_id, users.get_or_create_from_telegram';

create index users_created_at_idx on thea.users (tenant_id, created_at, id);
comment on index thea.users_created_at_idx is 'users.get_all_newest, users.get_all_oldest';

create index users_last_activity_idx on thea.users (tenant_id, last_activity)
  where last_activity is not null;
comment on index thea.users_last_activity_idx is 'users.count';

alter table thea.users enable row level security;
alter table thea.users force row level security;

create policy tenant on thea.users to thea_app, thea_readonly
  using (tenant_id = thea.tenant()) with check (tenant_id = thea.tenant());

create policy tenant_guard on thea.users as restrictive to thea_app, thea_readonly
  using (tenant_id = thea.tenant()) with check (tenant_id = thea.tenant());

create policy maintenance_reads on thea.users for select to thea_maintenance using (true);

create policy maintenance_deletes on thea.users for delete to thea_maintenance using (true);

grant select on thea.users to thea_readonly;
grant select, delete on thea.users to thea_maintenance;
grant select, insert, delete on thea.users to thea_app;
grant update (telegram_id, username, first_name, last_name, language_code, timezone, is_active,
    preferences, last_activity, deleted_at)
  on thea.users to thea_app;

create trigger touch before update on thea.users
  for each row execute function thea.touch();

create trigger audit after insert or update or delete on thea.users
  for each row execute function thea.audit('users', 'last_activity');
