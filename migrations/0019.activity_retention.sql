-- depends: 0018.encryption

-- Why: the activity log is personal data of those who read and administer, so its entries go when their time is over,
-- by the policies `old` of `activity_log.administration` and `activity_log.reads`. The first ones of a chain go, and
-- an entry at its end says up to which place, and with which hash the last of them ended: so the rest is still a
-- chain. The role that removes them (0014.retention) cannot add an entry; that is done for it.

grant select, delete on thea.activity_log to thea_audit_expirer;

create policy expirer_reads on thea.activity_log for select to thea_audit_expirer using (true);

create policy expirer_deletes on thea.activity_log for delete to thea_audit_expirer using (true);

-- Say that the entries of a chain up to this place, which ended with this hash, were removed by its policy.
create function thea.record_expiry(
  p_tenant text, p_kind text, p_place bigint, p_hash bytea, p_entries bigint, p_until timestamptz
) returns void
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  perform thea.record_activity(
    p_tenant, p_kind, 'expire', null, null,
    jsonb_build_object('place', p_place, 'hash', encode(p_hash, 'hex'), 'entries', p_entries, 'until', p_until)
  );
end
$$;

-- The tenants whose chains begin with entries whose time is over, by name, from after the given one. What is about all
-- tenants together is never removed.
create function thea.tenants_with_expired_activity(p_after text, p_limit integer) returns setof text
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
begin
  if not exists (
    select from thea.retention_policies p where p.table_name in ('activity_log.administration', 'activity_log.reads')
  ) then
    return;
  end if;
  return query
    -- Each chain is looked up once, however long it is.
    with recursive chains (tenant, kind) as (
      (
        select l.tenant, l.kind
        from thea.activity_log l
        where l.tenant > coalesce(p_after, '')
        order by l.tenant, l.kind
        limit 1
      )
      union all
      select n.tenant, n.kind
      from chains c
      cross join lateral (
        select l.tenant, l.kind
        from thea.activity_log l
        where (l.tenant, l.kind) > (c.tenant, c.kind)
        order by l.tenant, l.kind
        limit 1
      ) n
    ),
    due (tenant) as (
      select distinct c.tenant
      from chains c
      cross join lateral (
        select l.at, l.place
        from thea.activity_log l
        where l.tenant = c.tenant
          and l.kind = c.kind
          and l.action <> 'expire'
        order by l.place
        limit 1
      ) first
      where first.at <= clock_timestamp() - thea.kept(c.tenant, 'activity_log.' || c.kind, 'old')
        and exists (
          select from thea.activity_log l where l.tenant = c.tenant and l.kind = c.kind and l.place > first.place
        )
    )
    select d.tenant from due d order by d.tenant limit p_limit;
end
$$;

-- Remove one batch of a tenant's entries of the activity log whose time is over; whether there was one. The last entry
-- of a chain stays, since the chain goes on from it.
create function thea.expire_activity(whose_entries text) returns boolean
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
  log text;
  keep interval;
  until timestamptz;
  entry record;
  gone record;
  removed bigint;
begin
  foreach log in array array['administration', 'reads'] loop
    keep := thea.kept(whose_entries, 'activity_log.' || log, 'old');
    continue when keep is null;
    until := clock_timestamp() - keep;
    gone := null;
    for entry in
      select l.place, l.at, l.hash, l.action
      from thea.activity_log l
      where l.tenant = whose_entries
        and l.kind = log
        and exists (select from thea.activity_log n where n.tenant = l.tenant and n.kind = log and n.place > l.place)
      order by l.place
      limit 500
    loop
      exit when entry.at > until;
      -- What says that others were removed goes with one that says more: else it would be replaced for ever.
      if entry.action <> 'expire' then
        gone := entry;
      end if;
    end loop;
    continue when gone is null;
    delete from thea.activity_log l
    where l.tenant = whose_entries
      and l.kind = log
      and l.place <= gone.place;
    get diagnostics removed = row_count;
    -- Those that another worker removed are its to tell of.
    if removed > 0 then
      perform thea.record_expiry(whose_entries, log, gone.place, gone.hash, removed, gone.at);
      return true;
    end if;
  end loop;
  return false;
end
$$;

revoke all on function thea.record_expiry(text, text, bigint, bytea, bigint, timestamptz),
    thea.tenants_with_expired_activity(text, integer), thea.expire_activity(text)
  from public;

grant execute on function thea.record_expiry(text, text, bigint, bytea, bigint, timestamptz) to thea_audit_expirer;

grant execute on function thea.tenants_with_expired_activity(text, integer), thea.expire_activity(text)
  to thea_worker;

-- Who gets a function must be allowed to create in its schema: for this moment only.
grant create on schema thea to thea_audit_expirer, thea_recorder;

alter function thea.record_expiry(text, text, bigint, bytea, bigint, timestamptz) owner to thea_recorder;

alter function thea.tenants_with_expired_activity(text, integer) owner to thea_audit_expirer;

alter function thea.expire_activity(text) owner to thea_audit_expirer;

revoke create on schema thea from thea_audit_expirer, thea_recorder;
