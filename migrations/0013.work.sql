-- depends: 0012.people

-- Why: a worker must learn which tenants have something to do, and nothing else. No row of a tenant is open to its
-- group, `thea_worker`. It may call functions that return the names of tenants; they read as `thea_maintenance`, which
-- may read every tenant, and compare with the server's clock alone: with a time of the caller's choice, a few calls
-- would find out when a tenant's next reminder is due.
--
-- A kind of work is an index of a table of tenants: its first column is the tenant, its second one the moment from
-- which there is something to do, its condition says for which rows. Each look walks from the first entry of one
-- tenant to the first entry of the next, whatever was asked for: everybody sees how many rows were fetched, so that
-- number must depend on nothing that a caller chooses. For the same reason the settings of the planner are fixed, by
-- which only that index will do.
--
-- No message below a warning goes to the caller, here and in every function that works with rows which its caller may
-- not see: with `debug_print_plan` any session has plans printed to it, and rows are folded into these as constants.

do $$
begin
  if not exists (select from pg_catalog.pg_roles where rolname = 'thea_worker') then
    create role thea_worker nologin noinherit;
  end if;
end
$$;

grant usage on schema thea to thea_worker;

grant usage on sequence thea.keystone to thea_worker;

grant select on _yoyo_migration to thea_worker;

-- How long rows are kept. `rule` says what the time is counted from: `deleted`, the moment when the row was deleted;
-- `old`, the moment when it was made; `inactive`, the last activity of a conversation, which is then closed and not
-- removed. A row without a tenant is for all tenants that have none of their own. Without `keep` it is for ever.
create table thea.retention_policies (
  tenant text,
  table_name text not null,
  rule text not null,
  keep interval,
  constraint retention_policies_tenant_key unique nulls not distinct (tenant, table_name, rule),
  constraint retention_policies_tenant_check
    check (char_length(tenant) between 1 and 50 and tenant !~ '^\s|\s$|[[:cntrl:]]'),
  constraint retention_policies_rule_check check (rule in ('deleted', 'old', 'inactive')),
  constraint retention_policies_keep_check check (keep >= interval '0')
);

comment on table thea.retention_policies is 'how long rows are kept, for all tenants or for one';

comment on constraint retention_policies_tenant_key on thea.retention_policies is 'retention.set_policy, '
  'retention.remove_policy';

create index retention_policies_table_name_idx on thea.retention_policies (table_name, rule);
comment on index thea.retention_policies_table_name_idx is 'work.expire_rows, work.tenants_with_expired_rows';

alter table thea.retention_policies owner to thea_owner;

alter table thea.retention_policies enable row level security;

alter table thea.retention_policies force row level security;

create policy owner_reads on thea.retention_policies for select to thea_owner using (true);

create policy admin_keeps on thea.retention_policies to thea_admin using (true) with check (true);

create policy maintenance_reads on thea.retention_policies for select to thea_maintenance using (true);

grant select on thea.retention_policies to thea_maintenance;

grant select, insert, delete on thea.retention_policies to thea_admin;

grant update (keep) on thea.retention_policies to thea_admin;

-- For how long a tenant's rows are kept by a rule; null for ever. Without a policy, a conversation is inactive after a
-- day.
create function thea.kept(p_tenant text, p_table text, p_rule text) returns interval
  language sql stable
  -- A migrator's session has it off, and could not make this function.
  set row_security = on
begin atomic
  select p.keep
  from (
    select keep, 1 as place
    from thea.retention_policies
    where tenant = p_tenant
      and table_name = p_table
      and rule = p_rule
    union all
    select keep, 2
    from thea.retention_policies
    where tenant is null
      and table_name = p_table
      and rule = p_rule
    union all
    select interval '1 day', 3
    where p_rule = 'inactive'
  ) p
  order by p.place
  limit 1;
end;

alter function thea.kept(text, text, text) owner to thea_owner;

-- The same of the transaction's tenant, for the service, which may not read the policies.
create function thea.tenant_keeps(p_table text, p_rule text) returns interval
  language sql stable security definer set search_path = pg_catalog, pg_temp
  return thea.kept(thea.tenant(), p_table, p_rule);

alter function thea.tenant_keeps(text, text) owner to thea_owner;

-- The kinds of work that are offered, each with its index and its rule. An offer is remembered where a dump keeps it,
-- as the lists of thea.protect are: in the comment of a policy of its table.
create function thea.work_kinds() returns table (kind text, index_name regclass, rule text)
  language sql stable set search_path = pg_catalog, pg_temp
begin atomic
  select o.key, to_regclass(o.value ->> 'index'), o.value ->> 'rule'
  from pg_catalog.pg_policy p
  cross join lateral jsonb_each(obj_description(p.oid, 'pg_policy')::jsonb) as o (key, value)
  where p.polname = 'maintenance_reads';
end;

alter function thea.work_kinds() owner to thea_owner;

-- The active tenants whose first entry of this index has come: now, or by the rule, in any order. The recursion looks
-- up the first entry of each tenant, so it reads as many entries as there are tenants in the index.
create function thea.tenants_due(wanted regclass, rule text) returns setof text
  language plpgsql volatile set search_path = pg_catalog, pg_temp
as $$
declare
  target regclass;
  moment text;
  condition text;
begin
  select i.indrelid, quote_ident(a.attname), coalesce(pg_get_expr(i.indpred, i.indrelid), 'true')
    into target, moment, condition
    from pg_index i
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[1]
    where i.indexrelid = wanted;
  if target is null then
    return;
  end if;
  return query execute format(
    'with recursive thea_first (thea_tenant, thea_moment) as ('
    '  (select tenant_id, %2$s from %1$s where %3$s order by tenant_id, %2$s limit 1)'
    '  union all'
    '  select n.thea_tenant, n.thea_moment'
    '  from thea_first f'
    '  cross join lateral ('
    '    select t.tenant_id as thea_tenant, t.%2$s as thea_moment'
    '    from %1$s t'
    '    where t.tenant_id > f.thea_tenant and (%3$s)'
    '    order by t.tenant_id, t.%2$s'
    '    limit 1'
    '  ) n'
    ')'
    'select f.thea_tenant'
    ' from thea_first f'
    ' left join thea.retention_policies p on p.tenant = f.thea_tenant and p.table_name = $3 and p.rule = $2'
    ' where f.thea_moment <= $1 - case when $2 is null then interval ''0'' when p.rule is null then $4 else p.keep end'
    ' and thea.may_work(f.thea_tenant)',
    target, moment, condition
  ) using clock_timestamp(), rule, thea.short_name(target::text),
    thea.kept(null, thea.short_name(target::text), rule);
end
$$;

alter function thea.tenants_due(regclass, text) owner to thea_owner;

-- The tenants that have this kind of work, by name, from after the given one; an error for a kind that nobody offers.
create function thea.tenants_with_work(p_kind text, p_after text, p_limit integer) returns setof text
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set client_min_messages = warning
  set plan_cache_mode = force_custom_plan
  set jit = off
  set enable_seqscan = off
  set enable_bitmapscan = off
  set enable_indexscan = on
  set enable_indexonlyscan = on
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
  offered record;
begin
  select k.index_name, k.rule into offered
    from thea.work_kinds() k
    where k.kind = p_kind;
  if offered.index_name is null then
    raise exception 'nobody offers this kind of work' using errcode = 'invalid_parameter_value';
  end if;
  -- All are found before the first is returned.
  return query
    select d.tenant_id
    from thea.tenants_due(offered.index_name, offered.rule) as d (tenant_id)
    where p_after is null or d.tenant_id > p_after
    order by d.tenant_id
    limit p_limit;
end
$$;

-- Offer a kind of work to workers, or say anew by which index it is found. A service's own migration calls it:
-- `select thea.offer_work('planner.due_tasks', 'planner.tasks_due_at_idx')`. With a rule, a row's work begins that much
-- later than its moment.
create function thea.offer_work(kind text, index_name regclass, rule text default null) returns void
  language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  target regclass;
  home text;
begin
  select i.indrelid, n.nspname into target, home
    from pg_index i
    join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0] and a.attname = 'tenant_id'
    join pg_attribute b on b.attrelid = i.indrelid and b.attnum = i.indkey[1]
      and b.atttypid = 'timestamptz'::regtype
    join pg_class c on c.oid = i.indexrelid
    join pg_namespace n on n.oid = c.relnamespace
    join pg_am m on m.oid = c.relam and m.amname = 'btree'
    where i.indexrelid = offer_work.index_name
      and thea.is_protected(i.indrelid);
  if target is null then
    raise exception '% is no index of a protected table on (tenant_id, a timestamptz, …): make one, and offer that',
      index_name using errcode = 'invalid_parameter_value';
  end if;
  if (case when home = 'thea' then kind ~ '\.' else split_part(kind, '.', 1) <> home end) then
    raise exception 'the kind of work % does not belong to the schema of %: write `%.…`', kind, target, home
      using errcode = 'invalid_parameter_value';
  end if;
  perform thea.withdraw_work(kind);
  perform thea.note_work(target, jsonb_build_object(kind, jsonb_build_object('index', index_name::text, 'rule', rule)));
end
$$;

-- Take back an offer, in the way back of the migration that made it.
create function thea.withdraw_work(kind text) returns void
  language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  offered record;
begin
  for offered in
    select p.polrelid::regclass as target
    from pg_policy p
    where p.polname = 'maintenance_reads'
      and obj_description(p.oid, 'pg_policy')::jsonb ? kind
  loop
    perform thea.note_work(offered.target, jsonb_build_object(kind, null));
  end loop;
end
$$;

-- Change what is remembered of a table's offers; an offer that becomes null is forgotten.
create function thea.note_work(target regclass, changes jsonb) returns void
  language plpgsql set search_path = pg_catalog, pg_temp
as $$
declare
  noted constant jsonb := (
    select obj_description(oid, 'pg_policy')::jsonb
    from pg_policy
    where polrelid = target and polname = 'maintenance_reads'
  );
begin
  execute format('comment on policy maintenance_reads on %s is %L',
    target, nullif(jsonb_strip_nulls(coalesce(noted, '{}') || changes), '{}'));
end
$$;

alter function thea.note_work(regclass, jsonb) owner to thea_owner;

alter function thea.offer_work(text, regclass, text) owner to thea_owner;

alter function thea.withdraw_work(text) owner to thea_owner;

select thea.offer_work('due_reminders', 'thea.events_next_reminder_at_idx');

select thea.offer_work('due_note_reminders', 'thea.notes_next_reminder_at_idx');

select thea.offer_work('inactive_conversations', 'thea.conversations_last_activity_idx', 'inactive');

revoke all on function thea.kept(text, text, text),
    thea.tenant_keeps(text, text),
    thea.work_kinds(),
    thea.note_work(regclass, jsonb),
    thea.tenants_due(regclass, text),
    thea.tenants_with_work(text, text, integer),
    thea.offer_work(text, regclass, text),
    thea.withdraw_work(text)
  from public;

grant execute on function thea.tenant_keeps(text, text) to thea_app;

grant execute on function thea.kept(text, text, text), thea.work_kinds(), thea.tenants_due(regclass, text),
    thea.short_name(text)
  to thea_maintenance;

grant execute on function thea.tenants_with_work(text, text, integer) to thea_worker;

-- Who gets a function must be allowed to create in its schema: for this moment only.
grant create on schema thea to thea_maintenance;

alter function thea.tenants_with_work(text, text, integer) owner to thea_maintenance;

revoke create on schema thea from thea_maintenance;
