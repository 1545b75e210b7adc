-- Spread a migrated database over a Citus cluster, by tenant. On the coordinator, as a superuser:
--
--   psql "$URL" -v dry_run=1 -f distribute.sql     tells the statements that would run, and runs none
--   psql "$URL" -f distribute.sql                  runs them
--
-- It runs after every `thea-store migrate`, and does what is not done yet: a second run changes nothing.
-- docs/citus.md says what works on a cluster, and who must be let in between the nodes.
\set ON_ERROR_STOP on
\set QUIET on
\pset format unaligned
\pset tuples_only on
\if :{?dry_run}
\else
\set dry_run 0
\endif
set search_path = pg_catalog, public;
set client_min_messages = warning;

-- --- refusals -----------------------------------------------------------------------------------

do $$
declare
  wrong text;
  target regclass;
  has_rows boolean;
begin
  if not exists (select from pg_extension where extname = 'citus') then
    raise exception 'this database has no Citus: `create extension citus` in it, on every node';
  end if;
  if not (select rolsuper from pg_roles where rolname = current_user) then
    raise exception 'this login is no superuser: run it as one, since it changes roles and functions on every node';
  end if;
  if to_regclass('thea.users') is null then
    raise exception 'this database has no tables of the library: run `thea-store migrate` first';
  end if;
  if not citus_is_coordinator() then
    raise exception 'this is no coordinator of a cluster: run it there, after `select citus_set_coordinator_host(…)`';
  end if;
  if not exists (select from pg_dist_node where groupid <> 0 and isactive and shouldhaveshards) then
    raise exception 'the cluster has no worker: `select citus_add_node(…)` first';
  end if;
  select string_agg(nodename || ':' || nodeport, ', ') into wrong from pg_dist_node where not isactive;
  if wrong is not null then
    raise exception 'these nodes are not active: %: bring them back with `select citus_activate_node(…)`', wrong;
  end if;
  select string_agg(format('%s by %s', d.table_name, d.distribution_column), ', ') into wrong
    from citus_tables d
    join pg_policy p on p.polrelid = d.table_name and p.polname = 'tenant'
    where d.distribution_column <> 'tenant_id';
  if wrong is not null then
    raise exception 'these tables are distributed already, but not by tenant_id: %: `select undistribute_table(…)`', wrong;
  end if;
  select string_agg(d.table_name::text, ', ') into wrong
    from citus_tables d
    join pg_policy p on p.polrelid = d.table_name and p.polname = 'tenant'
    where d.colocation_id <> coalesce(
      (select u.colocation_id from citus_tables u where u.table_name = 'thea.users'::regclass), d.colocation_id
    );
  if wrong is not null then
    raise exception 'these tables do not lie where their tenants'' users do: %: `select undistribute_table(…)`', wrong;
  end if;
  -- To copy rows to the nodes fires their triggers there, which ask tables that are not there yet.
  for target in
    select p.polrelid from pg_policy p
    where p.polname = 'tenant' and not exists (select from pg_dist_partition d where d.logicalrelid = p.polrelid)
    order by p.polrelid::regclass::text
  loop
    execute format('select exists (select from %s)', target) into has_rows;
    if has_rows then
      wrong := concat_ws(', ', wrong, target);
    end if;
  end loop;
  if wrong is not null then
    raise exception 'these tables have rows: %: take them out, or spread a new database and `thea-store move tenant`', wrong;
  end if;
end
$$;

-- --- what is still to do ------------------------------------------------------------------------

create temporary table thea_steps (place int generated always as identity, statement text not null);

-- Without it a worker does not learn the transaction's tenant: reads find nothing there, and writes are refused.
insert into thea_steps (statement)
select format('alter database %I set citus.propagate_set_commands = ''local''', current_database())
where not exists (
  select from pg_db_role_setting s
  join pg_database d on d.oid = s.setdatabase and d.datname = current_database()
  where s.setrole = 0 and 'citus.propagate_set_commands=local' = any (s.setconfig)
);

-- Nodes speak with each other as the owner of the function that asks; no password is given to these roles.
insert into thea_steps (statement)
select format('alter role %I login', rolname)
from pg_roles
where rolname in (
    'thea_owner', 'thea_search', 'thea_maintenance', 'thea_loader', 'thea_redactor', 'thea_recorder',
    'thea_audit_expirer'
  )
  and not rolcanlogin
order by rolname;

-- The directory is asked from the beginning: its first tenant could not change a function from a node. The database
-- keeps no limits here, because their figures would be changed from the nodes; nor does it note what administrators do,
-- because the nodes would each have a log of it.
insert into thea_steps (statement)
select 'create or replace function thea.tenant() returns text language sql stable parallel safe'
  ' return thea.admitted_tenant()'
where pg_get_function_sqlbody('thea.tenant()'::regprocedure) not like '%admitted_tenant%';

insert into thea_steps (statement)
select format('drop trigger %I on %s', t.tgname, t.tgrelid::regclass)
from pg_trigger t
where t.tgrelid in (
    to_regclass('thea.tenants'), to_regclass('thea.retention_policies'), to_regclass('thea.audit_log'),
    to_regclass('thea.encryption_keys')
  )
  and t.tgname in (
    'install_directory', 'install_encryption', 'keep_limits', 'record_directory', 'record_policy', 'record_whole',
    'record_key'
  )
order by t.tgname;

insert into thea_steps (statement)
select 'alter table thea.tenants add constraint tenants_limits_on_cluster_check'
  ' check (not (limits ? ''rows'' or limits ? ''text_bytes''))'
where not exists (
  select from pg_constraint
  where conrelid = to_regclass('thea.tenants') and conname = 'tenants_limits_on_cluster_check'
);

-- What belongs to no tenant is on every node, because policies and triggers ask it there.
insert into thea_steps (statement)
select format('select create_reference_table(%L)', c.oid::regclass::text)
from pg_class c
where c.oid in (to_regclass('thea.tenants'), to_regclass('thea.retention_policies'), to_regclass('thea.quotas'))
  and not exists (select from pg_dist_partition p where p.logicalrelid = c.oid)
order by c.relname;

-- A table comes after those that it hangs on.
insert into thea_steps (statement)
with recursive of_tenants (target) as (
  select polrelid from pg_policy where polname = 'tenant'
),
above (target, parent, depth) as (
  select target, target, 0 from of_tenants
  union
  select a.target, k.confrelid, a.depth + 1
  from above a
  join pg_constraint k on k.conrelid = a.parent and k.contype = 'f' and k.confrelid <> k.conrelid
  where a.depth < 20
)
select format('select create_distributed_table(%L, ''tenant_id'', colocate_with => %L)', target::regclass,
  case when target = 'thea.users'::regclass then 'none' else 'thea.users' end)
from above
where not exists (select from pg_dist_partition p where p.logicalrelid = target)
group by target
order by target <> 'thea.users'::regclass, max(depth), target::regclass::text;

-- Functions that a node did not get, because a table that they read was not there yet.
insert into thea_steps (statement)
select format('select create_distributed_function(%L)', p.oid::regprocedure)
from pg_proc p
join pg_namespace n on n.oid = p.pronamespace
where n.oid in (select c.relnamespace from pg_policy y join pg_class c on c.oid = y.polrelid where y.polname = 'tenant')
  and not exists (select from pg_dist_object o where o.classid = 'pg_proc'::regclass and o.objid = p.oid)
  -- What reads a table that no node has, as the activity log, or takes its rows, is called on the coordinator alone.
  and not exists (
    select from pg_depend d
    join pg_class c on c.relkind in ('r', 'p') and c.relnamespace = n.oid and (
      (d.refclassid = 'pg_class'::regclass and c.oid = d.refobjid)
      or (d.refclassid = 'pg_type'::regclass and c.reltype = d.refobjid)
    )
    where d.classid = 'pg_proc'::regclass and d.objid = p.oid
      and c.oid not in (
        'thea.tenants'::regclass, 'thea.retention_policies'::regclass, 'thea.quotas'::regclass
      )
      and not exists (select from pg_policy y where y.polrelid = c.oid and y.polname = 'tenant')
  )
order by 1;

-- Plain texts of encrypted tenants are refused from the beginning, since no node may put triggers on tables when a first
-- key comes to it. What the first key of a database does is done by a row of no importance.
insert into thea_steps (statement)
select s.statement
from (
  values
    (1, 'create temporary table thea_first_key ()'),
    (2, 'create trigger install_encryption after insert on thea_first_key'
      ' for each statement execute function thea.install_encryption()'),
    (3, 'insert into thea_first_key default values'),
    (4, 'drop table thea_first_key')
) as s (place, statement)
where pg_get_function_sqlbody('thea.is_encrypted(text)'::regprocedure) = 'RETURN false'
  or exists (
    select from thea.sealed_columns() c
    where not exists (select from pg_trigger t where t.tgrelid = c.target and t.tgname = 'keep_row_key')
  )
order by s.place;

-- A search runs on the node that has the tenant, and reads that node's rows alone.
insert into thea_steps (statement)
select replace(
  pg_get_functiondef(p.oid), 'm.search_vector @@ asked offset 0',
  'm.search_vector @@ asked and m.tenant_id = p_tenant offset 0'
)
from pg_proc p
where p.oid in (
    to_regprocedure('thea.search_notes(text,bigint,jsonb,integer)'),
    to_regprocedure('thea.tagged_notes(text,bigint,text[],boolean)')
  )
  and pg_get_functiondef(p.oid) like '%m.search\_vector @@ asked offset 0%'
order by p.oid;

insert into thea_steps (statement)
select format('alter function %s set citus.allow_nested_distributed_execution = on', p.oid::regprocedure)
from pg_proc p
where p.oid in (
    to_regprocedure('thea.search_notes(text,bigint,jsonb,integer)'),
    to_regprocedure('thea.tagged_notes(text,bigint,text[],boolean)')
  )
  and 'citus.allow_nested_distributed_execution=on' <> all (coalesce(p.proconfig, '{}'))
order by p.oid;

-- Sequences come to the nodes without their grants, and a coordinator asks them itself. They are granted anew each time,
-- because the catalogs of the nodes are not seen from here.
insert into thea_steps (statement)
select format(s.statement, string_agg(pg_get_serial_sequence(a.attrelid::regclass::text, a.attname), ', '
  order by a.attrelid::regclass::text))
from (
  values
    (1, 'grant usage on sequence %1$s to thea_app, thea_loader, thea_maintenance'),
    (2, 'select nodename, nodeport, success, result'
      ' from run_command_on_workers(''grant usage on sequence %1$s to thea_app, thea_loader, thea_maintenance'')')
) as s (place, statement)
cross join pg_policy p
join pg_attribute a on a.attrelid = p.polrelid and a.attidentity <> ''
where p.polname = 'tenant'
group by s.place, s.statement
order by s.place;

-- Policies ask the directory several times in a statement, and each node has a copy. They read the copy's own table,
-- with one plan, which is cheaper than to ask Citus for it.
insert into thea_steps (statement)
select format(
  'do $do$ begin execute (select replace(pg_get_functiondef(%s), ''from thea.tenants t'','
    ' format(''from %%s t'', shard_name(logicalrelid, shardid)))'
    ' from pg_dist_shard where logicalrelid = ''thea.tenants''::regclass); end $do$',
  quote_literal(p.oid::regprocedure) || '::regprocedure'
)
from pg_proc p
where p.oid in (to_regprocedure('thea.admitted_tenant()'), to_regprocedure('thea.may_work(text)'))
  and pg_get_functiondef(p.oid) like '%from thea.tenants t%'
order by p.oid;

insert into thea_steps (statement)
select 'alter function thea.admitted_tenant() set plan_cache_mode = force_generic_plan'
from pg_proc p
where p.oid = to_regprocedure('thea.admitted_tenant()')
  and 'plan_cache_mode=force_generic_plan' <> all (coalesce(p.proconfig, '{}'));

-- Citus 13.2.1 and 13.2.2 keep another plan at each execution of a statement that has a kept one, on the node that runs
-- it, until the connection ends (pull request 8824 of Citus mends it). There the workers plan each anew.
insert into thea_steps (statement)
select format(
  'select nodename, nodeport, success, result from run_command_on_workers(%L)',
  format('set citus.enable_ddl_propagation = off; alter database %I %s', current_database(), w.change)
)
from (
  select case when citus_version() ~ '^Citus 13\.2\.[12]\M' then 1 else 0 end
) as f (is_faulty)
cross join lateral (
  select case f.is_faulty when 1 then 'set plan_cache_mode = force_custom_plan' else 'reset plan_cache_mode' end
) as w (change)
where exists (
  select from run_command_on_workers(
    'select count(*) from pg_db_role_setting s'
    ' join pg_database d on d.oid = s.setdatabase and d.datname = current_database()'
    ' where s.setrole = 0 and ''plan_cache_mode=force_custom_plan'' = any (s.setconfig)'
  ) r
  where r.result <> f.is_faulty::text
);

-- Messages are added and counted, and events synced, on the node that has the tenant; there a search asks for its keys,
-- and what is kept of it is told.
insert into thea_steps (statement)
select format('alter function %s set citus.allow_nested_distributed_execution = on', p.oid::regprocedure)
from pg_proc p
where p.oid in (
    to_regproc('thea.add_message'), to_regproc('thea.upsert_event'),
    to_regprocedure('thea.fold_messages_here(text)'),
    to_regprocedure('thea.has_sealed_texts(text)'), to_regprocedure('thea.kept_of(text)'),
    to_regprocedure('thea.entries_kept_of(text)'), to_regprocedure('thea.sums_kept_of(text)')
  )
  and 'citus.allow_nested_distributed_execution=on' <> all (coalesce(p.proconfig, '{}'))
order by p.oid;

-- A cluster walks no index across its nodes, so which tenants have work is found by reading each node's entries.
insert into thea_steps (statement)
select regexp_replace(
  pg_get_functiondef(p.oid), '''with recursive.*?\n    ''\)''',
  '''with thea_first as (select t.tenant_id as thea_tenant, min(t.%2$s) as thea_moment from %1$s t'
    ' where %3$s group by t.tenant_id)'''
)
from pg_proc p
where p.oid = to_regprocedure('thea.tenants_due(regclass,text)')
  and pg_get_functiondef(p.oid) like '%with recursive%';

-- A row in a trigger is of its shard's type, which no function takes.
insert into thea_steps (statement)
select replace(
  pg_get_functiondef(p.oid), 'thea.compliance_hash(last_hash, new)',
  'thea.compliance_hash(last_hash, jsonb_populate_record(null::thea.compliance_log, to_jsonb(new)))'
)
from pg_proc p
where p.oid = to_regprocedure('thea.chain_compliance()')
  and pg_get_functiondef(p.oid) like '%thea.compliance_hash(last\_hash, new)%';

-- A node lets one role alone change a tenant's rows in a transaction, so whoever erases a person writes the certificate.
insert into thea_steps (statement)
select 'create policy certificates_on_cluster on thea.compliance_log to thea_redactor'
  ' using (tenant_id = thea.tenant()) with check (tenant_id = thea.tenant())'
where to_regclass('thea.compliance_log') is not null
  and not exists (
    select from pg_policy
    where polrelid = to_regclass('thea.compliance_log') and polname = 'certificates_on_cluster'
  );

insert into thea_steps (statement)
select 'grant select, insert on thea.compliance_log to thea_redactor'
where not has_table_privilege('thea_redactor', to_regclass('thea.compliance_log'), 'insert');

insert into thea_steps (statement)
select format('alter function %s owner to thea_redactor', p.oid::regprocedure)
from pg_proc p
join pg_roles r on r.oid = p.proowner
where p.oid = to_regprocedure('thea.record_compliance(text,text,bigint,text,jsonb)')
  and r.rolname <> 'thea_redactor';

-- --- doing it -----------------------------------------------------------------------------------

\if :dry_run
select statement || ';' from thea_steps order by place;
\else
set citus.enable_unsafe_triggers = on;
select statement from thea_steps order by place \gexec
select 'this database is spread over ' || count(*) || ' worker(s)'
from pg_dist_node where groupid <> 0 and isactive and shouldhaveshards;
\endif
