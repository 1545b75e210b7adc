-- depends: 0009.note_search

-- Why: operators list, suspend, limit and end tenants. The directory is optional: a tenant that is not in it works as
-- if there were none.
--
-- Logins in `thea_admin` keep it. They see no tenant's rows: no other table has a policy or a grant for them. A
-- service has no right on it. The owner may read it, for the functions that look at it on a service's behalf.

do $$
begin
  if not exists (select from pg_catalog.pg_roles where rolname = 'thea_admin') then
    create role thea_admin nologin noinherit;
  end if;
end
$$;

grant usage on schema thea to thea_admin;

grant usage on sequence thea.keystone to thea_admin;

grant select on _yoyo_migration to thea_admin;

create table thea.tenants (
  id text not null,
  name text,
  status text not null default 'active',
  reason text,
  limits jsonb not null default '{}',
  settings jsonb not null default '{}',
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  suspended_at timestamptz,
  ended_at timestamptz,
  constraint tenants_id_key primary key (id),
  constraint tenants_id_check check (char_length(id) between 1 and 50 and id !~ '^\s|\s$|[[:cntrl:]]'),
  constraint tenants_status_check check (status in ('active', 'suspended', 'ended')),
  constraint tenants_suspended_at_check check ((suspended_at is null) = (status <> 'suspended')),
  constraint tenants_ended_at_check check ((ended_at is null) = (status <> 'ended')),
  constraint tenants_limits_check check (jsonb_typeof(limits) = 'object'),
  constraint tenants_settings_check check (jsonb_typeof(settings) = 'object')
);

alter table thea.tenants owner to thea_owner;

create index tenants_created_at_idx on thea.tenants (created_at, id);
comment on index thea.tenants_created_at_idx is 'tenants.get_all, tenants.get_all+after_at';

create index tenants_status_idx on thea.tenants (status, created_at, id);
comment on index thea.tenants_status_idx is 'tenants.get_all+status, tenants.get_all+status+after_at';

alter table thea.tenants enable row level security;

alter table thea.tenants force row level security;

create policy directory on thea.tenants to thea_admin using (true) with check (true);

create policy directory_is_read on thea.tenants for select to thea_owner using (true);

grant select, insert on thea.tenants to thea_admin;

grant update (name, status, reason, limits, settings, suspended_at, ended_at) on thea.tenants to thea_admin;

create trigger touch before update on thea.tenants for each row execute function thea.touch();
