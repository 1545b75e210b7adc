-- depends: 0015.limits

-- Why: who answers for personal data must be able to show that no entry of the compliance log was altered or removed,
-- and to say what is kept of a tenant, above all of one that is suspended or has ended. The group `thea_auditor` reads
-- the compliance log of every tenant, the directory and the policies of retention, and learns how many rows each table
-- has of a tenant, and of when. It sees no row, and writes nothing.
--
-- The log is read, and not judged by a function, because who owns the database could replace a function.

do $$
begin
  if not exists (select from pg_catalog.pg_roles where rolname = 'thea_auditor') then
    create role thea_auditor nologin noinherit;
  end if;
end
$$;

grant usage on schema thea to thea_auditor;

grant usage on sequence thea.keystone to thea_auditor;

grant select on _yoyo_migration to thea_auditor;

create policy auditor_reads on thea.compliance_log for select to thea_auditor using (true);

grant select on thea.compliance_log to thea_auditor;

create policy auditor_reads on thea.tenants for select to thea_auditor using (true);

grant select on thea.tenants to thea_auditor;

create policy auditor_reads on thea.retention_policies for select to thea_auditor using (true);

grant select on thea.retention_policies to thea_auditor;

-- How many rows each table has of a tenant, whether it may work or not, and when the oldest and the newest came about.
-- Rows are found by an index, because how many were fetched is for everybody to see.
create function thea.kept_of(p_tenant text)
  returns table (table_name text, row_count bigint, oldest timestamptz, newest timestamptz)
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off
as $$
declare
  target regclass;
begin
  for target in select t from thea.tables_of_tenants() t loop
    table_name := thea.short_name(target::text);
    execute format('select count(*), min(created_at), max(created_at) from %s where tenant_id = $1', target)
      into row_count, oldest, newest
      using p_tenant;
    return next;
  end loop;
end
$$;

-- The same of the audit log, which another role may read.
create function thea.entries_kept_of(
  p_tenant text, out row_count bigint, out oldest timestamptz, out newest timestamptz
)
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
  set enable_seqscan = off
as $$
begin
  select count(*), min(e.at), max(e.at) into row_count, oldest, newest
  from thea.audit_log e
  where e.tenant_id = p_tenant;
end
$$;

revoke all on function thea.kept_of(text), thea.entries_kept_of(text) from public;

grant execute on function thea.kept_of(text), thea.entries_kept_of(text) to thea_auditor;

-- Who gets a function must be allowed to create in its schema: for this moment only.
grant create on schema thea to thea_maintenance, thea_audit_expirer;

alter function thea.kept_of(text) owner to thea_maintenance;

alter function thea.entries_kept_of(text) owner to thea_audit_expirer;

revoke create on schema thea from thea_maintenance, thea_audit_expirer;
