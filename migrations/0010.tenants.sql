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
  -- Every process reads these. The library checks them before; what is written by hand must be as good.
  constraint tenants_limits_of_calls_check
    check ((limits ->> 'calls_in_flight')::integer >= 1 and (limits ->> 'statement_ms')::integer >= 1),
  constraint tenants_settings_check check (jsonb_typeof(settings) = 'object'),
  constraint tenants_log_reads_check
    check (not settings ? 'log_reads' or jsonb_typeof(settings -> 'log_reads') = 'boolean')
);

alter table thea.tenants owner to thea_owner;

create index tenants_created_at_idx on thea.tenants (created_at, id);
comment on index thea.tenants_created_at_idx is 'tenants.get_all, tenants.get_all+after_at';

create index tenants_status_idx on thea.tenants (status, created_at, id);
comment on index thea.tenants_status_idx is 'tenants.get_all+status, tenants.get_all+status+after_at';

-- The few tenants that have limits of calls: each process asks again and again whether there is one.
create index tenants_limits_of_calls_idx on thea.tenants (id)
  where limits ?| array['calls_in_flight', 'statement_ms'];
comment on index thea.tenants_limits_of_calls_idx is 'limits.of_calls';

-- And those whose reads are noted (0016.compliance), of which the same is asked.
create index tenants_log_reads_idx on thea.tenants (id) where settings @> '{"log_reads": true}';
comment on index thea.tenants_log_reads_idx is 'limits.of_calls';

alter table thea.tenants enable row level security;

alter table thea.tenants force row level security;

create policy directory on thea.tenants to thea_admin using (true) with check (true);

create policy directory_is_read on thea.tenants for select to thea_owner using (true);

grant select, insert on thea.tenants to thea_admin;

grant update (name, status, reason, limits, settings, suspended_at, ended_at) on thea.tenants to thea_admin;

create trigger touch before update on thea.tenants for each row execute function thea.touch();

-- Whether a tenant may work, for functions that name tenants: one that is suspended or has ended may not.
create function thea.may_work(p_id text) returns boolean
  language plpgsql stable parallel safe security definer set search_path = pg_catalog, pg_temp
as $$
begin
  return not exists (select from thea.tenants t where t.id = p_id and t.status <> 'active');
end
$$;

-- The tenant that the session names, if it may work. It raises instead of returning null, because without a tenant
-- there would be no row and no error, and a count of 0.
create function thea.admitted_tenant() returns text
  language plpgsql stable parallel safe security definer set search_path = pg_catalog, pg_temp
as $$
declare
  named constant text := nullif(current_setting('app.tenant_id', true), '');
  standing text;
begin
  select t.status into standing from thea.tenants t where t.id = named;
  if standing = 'active' then
    return named;
  elsif standing = 'suspended' then
    raise exception 'this tenant is suspended' using errcode = 'TH001';
  elsif standing = 'ended' then
    raise exception 'this tenant has ended' using errcode = 'TH002';
  elsif named is not null and current_setting('app.tenants', true) = 'registered' then
    raise exception 'the directory has no such tenant' using errcode = 'TH003';
  end if;
  return named;
end
$$;

-- The same without a look at the directory, unless the session takes none but registered tenants.
create function thea.unchecked_tenant() returns text
  language sql stable parallel safe
  return case
    when current_setting('app.tenants', true) = 'registered' then thea.admitted_tenant()
    else nullif(current_setting('app.tenant_id', true), '')
  end;

-- Until the first tenant comes into the directory, nothing is looked up.
create or replace function thea.tenant() returns text
  language sql stable parallel safe
  return thea.unchecked_tenant();

-- The first tenant that comes into the directory lets every policy ask it from then on. Of several that come at once,
-- one does it, and the others wait for it.
create function thea.install_directory() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  asks constant text := 'RETURN thea.admitted_tenant()';
begin
  if pg_get_function_sqlbody('thea.tenant()'::regprocedure) <> asks then
    perform pg_advisory_xact_lock(7423642010);
    if pg_get_function_sqlbody('thea.tenant()'::regprocedure) <> asks then
      create or replace function thea.tenant() returns text
        language sql stable parallel safe
        return thea.admitted_tenant();
    end if;
  end if;
  return null;
end
$$;

alter function thea.may_work(text) owner to thea_owner;

alter function thea.admitted_tenant() owner to thea_owner;

alter function thea.unchecked_tenant() owner to thea_owner;

alter function thea.install_directory() owner to thea_owner;

revoke all on function thea.may_work(text), thea.admitted_tenant(), thea.unchecked_tenant(), thea.install_directory()
  from public;

grant execute on function thea.admitted_tenant(), thea.unchecked_tenant()
  to thea_app, thea_readonly, thea_maintenance, thea_search;

grant execute on function thea.may_work(text) to thea_maintenance;

create trigger install_directory after insert on thea.tenants
  for each statement execute function thea.install_directory();
