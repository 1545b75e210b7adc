-- depends: 0003.protection

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
  constraint users_telegram_id_key unique (tenant_id, telegram_id),
  constraint users_preferences_check check (jsonb_typeof(preferences) = 'object')
);

comment on constraint users_telegram_id_key on thea.users
  is 'users.get_by_telegram_id, users.get_or_create_from_telegram';

-- With what a count asks for, so that it need not read the rows.
create index users_created_at_idx on thea.users (tenant_id, created_at, id) include (deleted_at);
comment on index thea.users_created_at_idx is 'users.get_all+newest_first, users.get_all, users.count';

create index users_last_activity_idx on thea.users (tenant_id, last_activity)
  where last_activity is not null;
comment on index thea.users_last_activity_idx is 'users.count+active_since';

select thea.protect('thea.users', quiet => array['last_activity']);
