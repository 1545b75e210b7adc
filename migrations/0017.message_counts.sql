-- depends: 0016.compliance

-- Why: how many messages a tenant has, and what they are about, is asked for often, and reading a history of millions
-- for it takes seconds. So a worker counts what is older than two hours: `thea.message_counts` has the sums of each
-- day and intent, and `thea.message_folds` says up to which moment they go. What is newer is read as it is, and so an
-- answer is the sums and the rest, seen by one statement.
--
-- A new message costs nothing. A row that is older than an hour and comes, changes or goes leaves its difference beside
-- the sums, as one more row of them, and the worker adds these up. It is exact at every moment, because:
--
-- - who wrote a row without leaving a difference did so before the row was an hour old. The worker counts rows that are
--   two hours old, after every transaction has ended that had begun to write before it decided to. The hour between
--   is for a clock that is set back;
-- - a difference that the worker sees belongs to a row that it sees, and goes when that row is counted; one that it
--   does not see stays, and counts from the moment when the row does;
-- - rows of a tenant that is not counted leave no difference. The worker begins with a tenant while no transaction is
--   left that found it so.
--
-- A tenant of few messages is never counted, and where no worker runs nobody is; then all rows are read.

-- How far a tenant's messages are counted. `closing_until` is how far they will be, once all transactions have ended
-- whose numbers are below `closing_before`.
create table thea.message_folds (
  tenant_id text not null,
  id bigint generated always as identity,
  until timestamptz not null default '-infinity',
  closing_until timestamptz,
  closing_before xid8,
  constraint message_folds_pkey primary key (tenant_id, id),
  constraint message_folds_tenant_id_key unique (tenant_id),
  constraint message_folds_tenant_id_check
    check (char_length(tenant_id) between 1 and 50 and tenant_id !~ '^\s|\s$|[[:cntrl:]]'),
  constraint message_folds_closing_check check ((closing_until is null) = (closing_before is null))
);

comment on table thea.message_folds is 'no person: up to which moment a tenant''s messages are counted';

-- Sums of the messages that are not deleted, in which no person is told from another: of a day and an intent, where
-- they are `folded`, with the day's beginning in UTC as their moment; or the difference that one row made, with that
-- row's. The sum of the confidences is in units of 1e-11, because whole numbers add up to the same in any order.
create table thea.message_counts (
  tenant_id text not null,
  id bigint generated always as identity,
  at timestamptz not null,
  folded boolean not null,
  intent text,
  messages bigint not null,
  confidences bigint not null,
  confidence_sum bigint not null,
  times bigint not null,
  time_sum bigint not null,
  constraint message_counts_pkey primary key (tenant_id, id),
  constraint message_counts_tenant_id_check
    check (char_length(tenant_id) between 1 and 50 and tenant_id !~ '^\s|\s$|[[:cntrl:]]')
);

comment on table thea.message_counts is 'no person: how many messages a tenant has, by day and intent';

create index message_counts_at_idx on thea.message_counts (tenant_id, at);
comment on index thea.message_counts_at_idx is 'messages.count_by_day, messages.count_by_day+intent, '
  'messages.get_statistics, work.fold_messages';

create unique index message_counts_day_key on thea.message_counts (tenant_id, at, intent) nulls not distinct
  where folded;
comment on index thea.message_counts_day_key is 'work.fold_messages';

do $$
declare
  target text;
begin
  foreach target in array array['thea.message_folds', 'thea.message_counts'] loop
    execute format('alter table %s owner to thea_owner', target);
    execute format('alter table %s alter column tenant_id set (n_distinct = 50)', target);
    execute format('alter table %s enable row level security', target);
    execute format('alter table %s force row level security', target);
    execute format('create policy tenant on %s for select to thea_app, thea_privacy, thea_readonly'
      ' using (tenant_id = thea.tenant())', target);
    execute format('create policy tenant_guard on %s as restrictive to thea_app, thea_privacy, thea_readonly'
      ' using (tenant_id = thea.tenant()) with check (tenant_id = thea.tenant())', target);
    -- The functions that count run as this role, which may read every tenant anyway.
    execute format('create policy counting on %s to thea_maintenance using (true) with check (true)', target);
    execute format('grant select on %s to thea_app, thea_privacy, thea_readonly', target);
    execute format('grant select, insert, update, delete on %s to thea_maintenance', target);
  end loop;
end
$$;

-- The difference that an old row makes, where the tenant's messages are counted.
create function thea.leave_difference() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
declare
  whose constant text := case tg_op when 'DELETE' then old.tenant_id else new.tenant_id end;
  waited text;
begin
  if tg_op = 'UPDATE' and (
    (old.deleted_at is null, old.created_at, old.intent_detected, old.confidence_score, old.processing_time_ms)
    is not distinct from
    (new.deleted_at is null, new.created_at, new.intent_detected, new.confidence_score, new.processing_time_ms)
  ) then
    return null;
  end if;
  -- Who is told here that nothing is counted holds the lock until its end, and the counting begins after that. A
  -- stricter transaction might not see that it has begun, and so always leaves its difference.
  if current_setting('transaction_isolation') = 'read committed' then
    -- An assignment is no statement of its own, and so half as dear.
    waited := pg_advisory_xact_lock_shared(hashtextextended('thea.message_folds ' || whose, 0))::text;
    if not exists (select from thea.message_folds f where f.tenant_id = whose) then
      return null;
    end if;
  end if;
  if tg_op <> 'INSERT' and old.deleted_at is null then
    insert into thea.message_counts (
      tenant_id, at, folded, intent, messages, confidences, confidence_sum, times, time_sum
    )
    values (
      old.tenant_id, old.created_at, false, old.intent_detected, -1,
      -(old.confidence_score is not null)::integer, -coalesce(old.confidence_score * 1e11, 0)::bigint,
      -(old.processing_time_ms is not null)::integer, -coalesce(old.processing_time_ms, 0)
    );
  end if;
  if tg_op <> 'DELETE' and new.deleted_at is null then
    insert into thea.message_counts (
      tenant_id, at, folded, intent, messages, confidences, confidence_sum, times, time_sum
    )
    values (
      new.tenant_id, new.created_at, false, new.intent_detected, 1,
      (new.confidence_score is not null)::integer, coalesce(new.confidence_score * 1e11, 0)::bigint,
      (new.processing_time_ms is not null)::integer, coalesce(new.processing_time_ms, 0)
    );
  end if;
  return null;
end
$$;

-- After the row is written, so that its transaction has its number before the clock is read. The conditions name no
-- column whose type a later migration may want to change, which a trigger would forbid.
create trigger count_insert after insert on thea.message_history for each row
  when (new.created_at < clock_timestamp() - interval '1 hour' and new.deleted_at is null)
  execute function thea.leave_difference();

create trigger count_delete after delete on thea.message_history for each row
  when (old.created_at < clock_timestamp() - interval '1 hour' and old.deleted_at is null)
  execute function thea.leave_difference();

create trigger count_update after update on thea.message_history for each row
  when (
    least(old.created_at, new.created_at) < clock_timestamp() - interval '1 hour'
    and (old.deleted_at is null or new.deleted_at is null)
  )
  execute function thea.leave_difference();

-- What `thea.fold_messages` says, on the server that has the tenant's rows, whose numbers of transactions it compares.
create function thea.fold_messages_here(whose_rows text) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set client_min_messages = warning
  set plan_cache_mode = force_custom_plan
  set jit = off
  set enable_seqscan = off
  set enable_bitmapscan = off
  set enable_indexscan = on
  set enable_indexonlyscan = on
  set max_parallel_workers_per_gather = 0
as $$
declare
  fold thea.message_folds;
  next_until timestamptz;
  seen bigint[];
  added jsonb;
begin
  -- Every statement must see what was committed before it.
  if current_setting('transaction_isolation') <> 'read committed' then
    raise exception 'messages are counted in a transaction that is `read committed`'
      using errcode = 'invalid_transaction_state';
  end if;
  select * into fold from thea.message_folds f where f.tenant_id = whose_rows for update skip locked;
  if not found then
    if exists (select from thea.message_folds f where f.tenant_id = whose_rows)
      or not pg_try_advisory_xact_lock(hashtextextended('thea.message_folds ' || whose_rows, 0))
    then
      return false;
    end if;
    insert into thea.message_folds (tenant_id) values (whose_rows) on conflict do nothing;
    return found;
  end if;
  -- In a database that was restored from a dump the numbers of transactions begin anew.
  if fold.closing_until is null or fold.closing_before > pg_current_xact_id() then
    -- What was done a moment ago is not worth doing again.
    if fold.until > now() - interval '2 hours 1 minute' then
      return false;
    end if;
    -- From the beginning of this transaction, which had no number then.
    fold.closing_until := now() - interval '2 hours';
    fold.closing_before := pg_current_xact_id();
    update thea.message_folds f
    set closing_until = fold.closing_until, closing_before = fold.closing_before
    where f.tenant_id = whose_rows;
  end if;
  if pg_snapshot_xmin(pg_current_snapshot()) < fold.closing_before then
    return fold.closing_before = pg_current_xact_id();
  end if;
  -- A statement's work is bounded, but for messages of one and the same moment.
  select m.created_at into next_until
  from thea.message_history m
  where m.tenant_id = whose_rows
    and m.created_at >= fold.until
    and m.created_at < fold.closing_until
  order by m.created_at
  limit 1 offset 100000;
  if next_until is null or next_until = fold.until then
    next_until := fold.closing_until;
  end if;
  -- One statement, and so one snapshot. It writes nothing, because of one that does a cluster takes a snapshot for each
  -- part.
  with differences as (
    select c.id, c.at, c.intent, c.messages, c.confidences, c.confidence_sum, c.times, c.time_sum
    from thea.message_counts c
    where c.tenant_id = whose_rows
      and not c.folded
      and c.at < next_until
  ),
  counted as (
    select date_trunc('day', d.at, 'UTC') as at, d.intent, d.messages, d.confidences, d.confidence_sum, d.times,
      d.time_sum
    from differences d
    where d.at < fold.until
    union all
    select date_trunc('day', m.created_at, 'UTC'), m.intent_detected, count(*), count(m.confidence_score),
      coalesce(sum((m.confidence_score * 1e11)::bigint), 0), count(m.processing_time_ms),
      coalesce(sum(m.processing_time_ms), 0)
    from thea.message_history m
    where m.tenant_id = whose_rows
      and m.created_at >= fold.until
      and m.created_at < next_until
      and m.deleted_at is null
    group by 1, 2
  ),
  sums as (
    select t.at, t.intent, sum(t.messages) as messages, sum(t.confidences) as confidences,
      sum(t.confidence_sum) as confidence_sum, sum(t.times) as times, sum(t.time_sum) as time_sum
    from counted t
    group by t.at, t.intent
  )
  select (select array_agg(d.id) from differences d), (select jsonb_agg(to_jsonb(s)) from sums s)
    into seen, added;
  delete from thea.message_counts c where c.tenant_id = whose_rows and c.id = any (seen);
  insert into thea.message_counts as c (
    tenant_id, at, folded, intent, messages, confidences, confidence_sum, times, time_sum
  )
  select whose_rows, t.at, true, t.intent, t.messages, t.confidences, t.confidence_sum, t.times, t.time_sum
  from jsonb_to_recordset(added) as t (
    at timestamptz, intent text, messages bigint, confidences bigint, confidence_sum bigint, times bigint,
    time_sum bigint
  )
  on conflict (tenant_id, at, intent) where folded do update
  set messages = c.messages + excluded.messages,
    confidences = c.confidences + excluded.confidences,
    confidence_sum = c.confidence_sum + excluded.confidence_sum,
    times = c.times + excluded.times,
    time_sum = c.time_sum + excluded.time_sum;
  delete from thea.message_counts c where c.tenant_id = whose_rows and c.folded and c.messages = 0;
  update thea.message_folds f
  set until = next_until,
    closing_until = nullif(fold.closing_until, next_until),
    closing_before = case when fold.closing_until <> next_until then fold.closing_before end
  where f.tenant_id = whose_rows;
  return true;
end
$$;

-- Count some of a tenant's messages that nobody has counted yet, and add up the differences; whether there may be more
-- to do at once. It is false where another worker is at it, or where a transaction has not ended that began before.
create function thea.fold_messages(whose_rows text) returns boolean
  language plpgsql volatile security definer
  set search_path = pg_catalog, pg_temp
  set client_min_messages = warning
as $$
begin
  -- As part of a query of the tenant's rows, which a cluster runs as a whole on the node that has them.
  return (
    select thea.fold_messages_here(whose_rows)
    from (select count(*) from thea.message_folds f where f.tenant_id = whose_rows) as one
  );
end
$$;

-- The tenants that have five thousand messages or differences, or more, that a worker may count; by name, from after
-- the given one.
create function thea.tenants_with_uncounted_messages(p_after text, p_limit integer) returns setof text
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
  -- Worked out once, so that the index serves it.
  settled constant timestamptz := clock_timestamp() - interval '2 hours';
begin
  -- A cluster walks no index across its nodes: of each tenant that has users, its node counts what is not counted yet.
  if to_regclass('pg_catalog.pg_dist_partition') is not null then
    return query
      with uncounted as materialized (
        select t.tenant_id
        from (
          select distinct u.tenant_id
          from thea.users u
          where p_after is null or u.tenant_id > p_after
        ) t
        left join thea.message_folds f on f.tenant_id = t.tenant_id
        where 5000 <= (
            select count(*)
            from thea.message_history m
            where m.tenant_id = t.tenant_id
              and m.created_at >= coalesce(f.until, '-infinity')
              and m.created_at < settled
          )
          or 5000 <= (
            select count(*)
            from thea.message_counts c
            where c.tenant_id = t.tenant_id
              and not c.folded
              and c.at < f.until
          )
      )
      select n.tenant_id from uncounted n where thea.may_work(n.tenant_id) order by n.tenant_id limit p_limit;
    return;
  end if;
  return query
    with recursive first (tenant_id) as (
      (select m.tenant_id from thea.message_history m order by m.tenant_id limit 1)
      union all
      select n.tenant_id
      from first f
      cross join lateral (
        select m.tenant_id from thea.message_history m where m.tenant_id > f.tenant_id order by m.tenant_id limit 1
      ) n
    )
    select t.tenant_id
    from first t
    left join thea.message_folds f on f.tenant_id = t.tenant_id
    where (
        exists (
          select from thea.message_history m
          where m.tenant_id = t.tenant_id
            and m.created_at >= coalesce(f.until, '-infinity')
            and m.created_at < settled
          order by m.created_at
          limit 1 offset 4999
        )
        or exists (
          select from thea.message_counts c
          where c.tenant_id = t.tenant_id
            and not c.folded
            and c.at < f.until
          order by c.at
          limit 1 offset 4999
        )
      )
      and thea.may_work(t.tenant_id)
      and (p_after is null or t.tenant_id > p_after)
    order by t.tenant_id
    limit p_limit;
end
$$;

-- Nothing of the session's tenant is counted any more; all its messages are read, until a worker begins anew.
create function thea.forget_message_counts(p_tenant text) returns void
  language plpgsql volatile security definer set search_path = pg_catalog, pg_temp
as $$
begin
  if (p_tenant = thea.named_tenant()) is not true then
    raise exception 'this is not the tenant of the transaction' using errcode = 'insufficient_privilege';
  end if;
  delete from thea.message_folds f where f.tenant_id = p_tenant;
  delete from thea.message_counts c where c.tenant_id = p_tenant;
end
$$;

-- How many sums there are of a tenant, and of when, for who answers for what is kept of it (see 0016.compliance).
create function thea.sums_kept_of(p_tenant text)
  returns table (table_name text, row_count bigint, oldest timestamptz, newest timestamptz)
  language plpgsql stable security definer
  set search_path = pg_catalog, pg_temp
  set client_min_messages = warning
  set enable_seqscan = off
as $$
begin
  return query
    select 'message_counts', count(*), min(c.at), max(c.at) from thea.message_counts c where c.tenant_id = p_tenant
    union all
    select 'message_folds', count(*), null, null from thea.message_folds f where f.tenant_id = p_tenant;
end
$$;

revoke all on function thea.leave_difference(), thea.fold_messages_here(text), thea.fold_messages(text),
    thea.tenants_with_uncounted_messages(text, integer), thea.forget_message_counts(text), thea.sums_kept_of(text)
  from public;

grant execute on function thea.fold_messages(text), thea.tenants_with_uncounted_messages(text, integer) to thea_worker;

grant execute on function thea.forget_message_counts(text) to thea_mover;

grant execute on function thea.sums_kept_of(text) to thea_auditor;

grant execute on function thea.named_tenant() to thea_maintenance;

-- Who gets a function must be allowed to create in its schema: for this moment only.
grant create on schema thea to thea_maintenance;

alter function thea.leave_difference() owner to thea_maintenance;

alter function thea.fold_messages_here(text) owner to thea_maintenance;

alter function thea.fold_messages(text) owner to thea_maintenance;

alter function thea.tenants_with_uncounted_messages(text, integer) owner to thea_maintenance;

alter function thea.forget_message_counts(text) owner to thea_maintenance;

alter function thea.sums_kept_of(text) owner to thea_maintenance;

revoke create on schema thea from thea_maintenance;
