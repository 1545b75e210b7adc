-- depends: 0013.work

-- Why: rows go when their time is over, by the policies of thea.retention_policies, a batch at a time. A worker asks
-- for it and learns nothing of what went but whether there may be more. Rows of tables go as `thea_maintenance`, each
-- with its entry in the audit log, whose actor is `retention`. Entries of the audit log go as `thea_audit_expirer`,
-- which can do nothing else and which nobody can log in as; an entry says how many went.
--
-- Everybody sees how many rows were fetched, so whatever the session has set, the rows that are looked at are those
-- whose time is over: the settings of the planner are fixed, by which only the index in the order of time will do.

do $$
begin
  if not exists (select from pg_catalog.pg_roles where rolname = 'thea_audit_expirer') then
    create role thea_audit_expirer nologin noinherit;
  end if;
  -- Only a member may hand a function over.
  if not pg_catalog.pg_has_role('thea_owner', 'thea_audit_expirer', 'member') then
    grant thea_audit_expirer to thea_owner;
  end if;
end
$$;

grant usage on schema thea to thea_audit_expirer;

grant select, delete, insert on thea.audit_log to thea_audit_expirer;

create policy expirer_reads on thea.audit_log for select to thea_audit_expirer using (true);

create policy expirer_deletes on thea.audit_log for delete to thea_audit_expirer using (true);

create policy expirer_tells on thea.audit_log for insert to thea_audit_expirer
  with check (table_name = 'audit_log' and action = 'purge' and actor = 'retention');

grant select on thea.retention_policies to thea_audit_expirer;

create policy expirer_reads on thea.retention_policies for select to thea_audit_expirer using (true);

grant execute on function thea.kept(text, text, text), thea.tenants_due(regclass, text), thea.short_name(text),
    thea.index_on(regclass, text), thea.may_work(text)
  to thea_audit_expirer;

grant execute on function thea.index_on(regclass, text), thea.parents(regclass) to thea_maintenance;

-- The tables that a policy is about, what a row's time is counted from, and how deep each hangs: the deepest first,
-- so that a row goes before the one that it hangs on, and no batch takes along more than its own rows.
create function thea.expiring_tables() returns table (target regclass, table_name text, rule text, moment text)
  language sql stable
  set search_path = pg_catalog, pg_temp
  set row_security = on
begin atomic
  -- Each table and rule is looked up once: there may be policies of each of many tenants.
  with recursive named (table_name, rule) as (
    (
      select p.table_name, p.rule
      from thea.retention_policies p
      order by p.table_name, p.rule
      limit 1
    )
    union all
    select n.table_name, n.rule
    from named d
    cross join lateral (
      select p.table_name, p.rule
      from thea.retention_policies p
      where (p.table_name, p.rule) > (d.table_name, d.rule)
      order by p.table_name, p.rule
      limit 1
    ) n
  ),
  wanted (target, table_name, rule) as (
    select
      to_regclass(case when d.table_name like '%.%' then d.table_name else 'thea.' || d.table_name end),
      d.table_name, d.rule
    from named d
    where d.rule in ('deleted', 'old')
      and d.table_name <> 'audit_log'
      -- A log of 0019.activity_retention.
      and d.table_name not like 'activity\_log.%'
  ),
  above (target, parent, depth) as (
    select w.target, w.target, 0
    from wanted w
    union
    select a.target, p.parent::regclass, a.depth + 1
    from above a
    cross join lateral thea.parents(a.parent) p
    where p.parent::regclass <> a.parent
      and a.depth < 20
  )
  select w.target, w.table_name, w.rule, case w.rule when 'deleted' then 'deleted_at' else 'created_at' end
  from wanted w
  where w.target is not null
  order by (select max(a.depth) from above a where a.target = w.target) desc, w.table_name, w.rule;
end;

alter function thea.expiring_tables() owner to thea_owner;

-- The tenants that have rows whose time is over, by name, from after the given one.
create function thea.tenants_with_expired_rows(p_after text, p_limit integer) returns setof text
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set client_min_messages = warning
  set plan_cache_mode = force_custom_plan
  set jit = off
  set enable_seqscan = off
  set enable_bitmapscan = off
  set enable_indexscan = on
  set enable_indexonlyscan = on
  set enable_tidscan = on
  set enable_sort = off
  set enable_incremental_sort = off
  set seq_page_cost = 1
  set random_page_cost = 4
  set cpu_tuple_cost = 0.01
  set cpu_index_tuple_cost = 0.005
  set cpu_operator_cost = 0.0025
  set max_parallel_workers_per_gather = 0
as $$
begin
  return query
    select distinct d.tenant_id
    from thea.expiring_tables() e
    cross join lateral thea.tenants_due(thea.index_on(e.target, e.moment), e.rule) as d (tenant_id)
    where p_after is null or d.tenant_id > p_after
    order by d.tenant_id
    limit p_limit;
end
$$;

-- The tenants that have entries of the audit log whose time is over, by name, from after the given one.
create function thea.tenants_with_expired_audit(p_after text, p_limit integer) returns setof text
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set client_min_messages = warning
  set plan_cache_mode = force_custom_plan
  set jit = off
  set enable_seqscan = off
  set enable_bitmapscan = off
  set enable_indexscan = on
  set enable_indexonlyscan = on
  set enable_tidscan = on
  set enable_sort = off
  set enable_incremental_sort = off
  set seq_page_cost = 1
  set random_page_cost = 4
  set cpu_tuple_cost = 0.01
  set cpu_index_tuple_cost = 0.005
  set cpu_operator_cost = 0.0025
  set max_parallel_workers_per_gather = 0
as $$
begin
  return query
    select d.tenant_id
    from thea.tenants_due(thea.index_on('thea.audit_log', 'at'), 'old') as d (tenant_id)
    where (p_after is null or d.tenant_id > p_after)
      and exists (select from thea.retention_policies p where p.table_name = 'audit_log')
    order by d.tenant_id
    limit p_limit;
end
$$;

-- Remove one batch of a tenant's rows whose time is over, of one table; whether there was one.
create function thea.expire_rows(whose_rows text) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set client_min_messages = warning
  set plan_cache_mode = force_custom_plan
  set jit = off
  set enable_seqscan = off
  set enable_bitmapscan = off
  set enable_indexscan = on
  set enable_indexonlyscan = on
  set enable_tidscan = on
  set enable_sort = off
  set enable_incremental_sort = off
  set seq_page_cost = 1
  set random_page_cost = 4
  set cpu_tuple_cost = 0.01
  set cpu_index_tuple_cost = 0.005
  set cpu_operator_cost = 0.0025
  set max_parallel_workers_per_gather = 0
as $$
declare
  whose constant text := coalesce(current_setting('app.tenant_id', true), '');
  actor constant text := coalesce(current_setting('app.actor', true), '');
  request constant text := coalesce(current_setting('app.request_id', true), '');
  expiring record;
  keep interval;
  until timestamptz;
  place tid;
  removed bigint := 0;
begin
  -- What the session says of itself does not count: the entries of the audit log say who does it.
  -- Statements, because a cluster passes those on to its nodes.
  set local app.tenant_id = '';
  set local app.actor = 'retention';
  set local app.request_id = '';
  for expiring in select * from thea.expiring_tables() loop
    keep := thea.kept(whose_rows, expiring.table_name, expiring.rule);
    if keep is not null then
      until := clock_timestamp() - keep;
      -- Each row by its place: a plan for many may read all rows of the tenant, to keep those that are over.
      for place in
        execute format(
          'select ctid from %1$s where tenant_id = $1 and %2$I <= $2 order by %2$I, id limit 500',
          expiring.target, expiring.moment
        ) using whose_rows, until
      loop
        execute format(
          'delete from %1$s where ctid = $1 and tenant_id = $2 and %2$I <= $3', expiring.target, expiring.moment
        ) using place, whose_rows, until;
        removed := removed + 1;
      end loop;
    end if;
    exit when removed > 0;
  end loop;
  execute format('set local app.tenant_id = %L', whose);
  execute format('set local app.actor = %L', actor);
  execute format('set local app.request_id = %L', request);
  return removed > 0;
end
$$;

-- Remove one batch of a tenant's entries of the audit log whose time is over; whether there was one. The entry that
-- tells of it goes in its own time, without another one.
create function thea.expire_audit(whose_rows text) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set client_min_messages = warning
  set plan_cache_mode = force_custom_plan
  set jit = off
  set enable_seqscan = off
  set enable_bitmapscan = off
  set enable_indexscan = on
  set enable_indexonlyscan = on
  set enable_tidscan = on
  set enable_sort = off
  set enable_incremental_sort = off
  set seq_page_cost = 1
  set random_page_cost = 4
  set cpu_tuple_cost = 0.01
  set cpu_index_tuple_cost = 0.005
  set cpu_operator_cost = 0.0025
  set max_parallel_workers_per_gather = 0
as $$
declare
  -- Worked out once, so that the index serves it.
  until constant timestamptz := clock_timestamp() - thea.kept(whose_rows, 'audit_log', 'old');
  entry record;
  removed bigint := 0;
  told bigint := 0;
  latest timestamptz;
begin
  for entry in
    select ctid as place, at, table_name
    from thea.audit_log
    where tenant_id = whose_rows
      and at <= until
    order by at, id
    limit 500
  loop
    delete from thea.audit_log where ctid = entry.place and tenant_id = whose_rows and at <= until;
    removed := removed + 1;
    -- One that another worker removed is its to tell of.
    if found and entry.table_name <> 'audit_log' then
      told := told + 1;
      latest := entry.at;
    end if;
  end loop;
  if told > 0 then
    insert into thea.audit_log (tenant_id, actor, table_name, row_id, action, before)
    values (
      whose_rows, 'retention', 'audit_log', 0, 'purge', jsonb_build_object('entries', told, 'until', latest)
    );
  end if;
  return removed > 0;
end
$$;

revoke all on function thea.expiring_tables(),
    thea.tenants_with_expired_rows(text, integer),
    thea.tenants_with_expired_audit(text, integer),
    thea.expire_rows(text),
    thea.expire_audit(text)
  from public;

grant execute on function thea.expiring_tables() to thea_maintenance;

grant execute on function thea.tenants_with_expired_rows(text, integer),
    thea.tenants_with_expired_audit(text, integer),
    thea.expire_rows(text),
    thea.expire_audit(text)
  to thea_worker;

-- Who gets a function must be allowed to create in its schema: for this moment only.
grant create on schema thea to thea_maintenance, thea_audit_expirer;

alter function thea.tenants_with_expired_rows(text, integer) owner to thea_maintenance;

alter function thea.expire_rows(text) owner to thea_maintenance;

alter function thea.tenants_with_expired_audit(text, integer) owner to thea_audit_expirer;

alter function thea.expire_audit(text) owner to thea_audit_expirer;

revoke create on schema thea from thea_maintenance, thea_audit_expirer;
