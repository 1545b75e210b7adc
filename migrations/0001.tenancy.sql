-- Why: every later migration stands on this one. It makes the schema, the roles, and the one
-- function through which row policies learn the tenant of the running transaction.
--
-- Roles belong to the whole server, so another database may have made them before: each is made
-- only where it is missing. None of them can log in; a service's login is made by the operator:
--   create role my_service login password '…' in role thea_app;

do $$
declare
  missing text;
begin
  for missing in
    select wanted.name
    from unnest(array[
      'thea_owner', 'thea_app', 'thea_readonly', 'thea_maintenance', 'thea_mover', 'thea_loader',
      'thea_privacy', 'thea_redactor'
    ]) as wanted (name)
    where not exists (select from pg_catalog.pg_roles r where r.rolname = wanted.name)
  loop
    execute format('create role %I nologin noinherit', missing);
  end loop;
  -- What follows is created by the login that migrates and then handed to thea_owner.
  if not pg_catalog.pg_has_role(current_user, 'thea_owner', 'usage') then
    execute format('grant thea_owner to %I', current_user);
  end if;
  -- The owner inherits nothing of it, but may become it to look whether sequences lag behind the ids that there are
  -- (`thea-store doctor`). A login that did not make that role may be unable to grant it; then doctor says so.
  if not pg_catalog.pg_has_role('thea_owner', 'thea_maintenance', 'member') then
    begin
      grant thea_maintenance to thea_owner;
    exception
      when insufficient_privilege then null;
    end;
  end if;
  -- What brings whole tenants in runs as thea_loader (0011.archive), to which only a member may hand functions over.
  if not pg_catalog.pg_has_role('thea_owner', 'thea_loader', 'member') then
    grant thea_loader to thea_owner;
  end if;
  -- Who may connect is left as the operator has it: the roles are the server's, so the groups of two databases are the
  -- same, and a right given to a group could not keep the services of one out of the other (docs/isolation.md).
  -- Temporary tables would let a service keep rows of one tenant for the next.
  execute format('revoke temporary on database %I from public', current_database());
end
$$;

create schema thea;

alter schema thea owner to thea_owner;

grant usage on schema thea to thea_app, thea_privacy, thea_readonly, thea_maintenance, thea_mover, thea_loader,
  thea_redactor;

-- `stable`, not `immutable`: a cached plan must ask again. `nullif`: an ended `set local` leaves an
-- empty string. `return`, not a string body: names are resolved now, whatever the search path later.
create function thea.tenant() returns text
  language sql stable parallel safe
  return nullif(current_setting('app.tenant_id', true), '');

alter function thea.tenant() owner to thea_owner;

revoke all on function thea.tenant() from public;

grant execute on function thea.tenant() to thea_app, thea_readonly, thea_maintenance;

-- The tenant that the session names, whether it may work or not. It is for what must not ask a directory of tenants:
-- `thea.tenant()` asks it, once there is one (0010.tenants).
create function thea.named_tenant() returns text
  language sql stable parallel safe
  return nullif(current_setting('app.tenant_id', true), '');

alter function thea.named_tenant() owner to thea_owner;

revoke all on function thea.named_tenant() from public;

-- Who moves a tenant, or ends it, works on one that is suspended.
grant execute on function thea.named_tenant() to thea_app, thea_mover, thea_loader;

-- Whoever is a member of a group may `drop owned by` it, which would take the group out of every policy. The
-- command fails as a whole at a sequence's privilege that only its owner could take back, so each group has one.
create sequence thea.keystone;

alter sequence thea.keystone owner to thea_owner;

comment on sequence thea.keystone is 'keeps `drop owned by` from taking the groups out of the policies';

grant usage on sequence thea.keystone to thea_app, thea_readonly, thea_maintenance, thea_mover;

-- Services compare the applied migrations with those they were built for.
grant select on _yoyo_migration to thea_app, thea_readonly, thea_maintenance, thea_mover;
