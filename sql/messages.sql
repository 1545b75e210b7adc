-- Every exchange of a conversation, with what the language model made of it.

-- name: get_by_id
-- The message with this id; no row when there is none or it was deleted.
select
  tenant_id, id, user_id, conversation_id, message_id, user_message, bot_response, intent_detected,
  entities_extracted, confidence_score, processing_time_ms, created_at, updated_at, deleted_at, sealed
from thea.message_history
where tenant_id = :tenant_id
  and id = :id
  and deleted_at is null;

-- name: exists
-- Whether there is a message with this id that is not deleted.
-- not null: found
select exists (
  select from thea.message_history
  where tenant_id = :tenant_id
    and id = :id
    and deleted_at is null
) as found;

-- name: count
-- How many messages there are that are not deleted.
-- not null: total
-- variants: user_id, conversation_id, intent, created_from, created_before
select count(*) as total
from thea.message_history
where tenant_id = :tenant_id
  and deleted_at is null
  and (:user_id::bigint is null or user_id = :user_id)
  and (:conversation_id::bigint is null or conversation_id = :conversation_id)
  and (:intent::text is null or intent_detected = :intent)
  -- As in get_all.
  and case when :message_id::bigint is null or message_id = :message_id then 1 else 0 end <> 0
  and (:created_from::timestamptz is null or created_at >= :created_from)
  and (:created_before::timestamptz is null or created_at < :created_before);

-- name: count_by_day
-- How many messages there are that are not deleted, of an intent and of a span of time: the sums of the whole days
-- in it that were counted, what has changed since in these, and all others as they are.
-- not null: total
-- variants: intent
with asked as (
  select
    coalesce(:created_from::timestamptz, '-infinity') as first,
    coalesce(:created_before::timestamptz, 'infinity') as until,
    (
      select coalesce(max(until), '-infinity')
      from thea.message_folds
      where tenant_id = :tenant_id
    ) as counted_until
),
whole_days as (
  select
    first, until, day,
    -- The sums of the last day end where the counting does, which is mostly within the day.
    greatest(day, case when until < counted_until then date_trunc('day', until, 'UTC') else counted_until end) as rest
  from asked
  cross join lateral (
    select date_trunc('day', first + interval '24 hours' - interval '1 microsecond', 'UTC') as day
  ) d
)
select (
  (
    select coalesce(sum(messages), 0)
    from thea.message_counts
    where tenant_id = :tenant_id
      and at >= (select day from whole_days)
      and at < (select rest from whole_days)
      and (:intent::text is null or intent = :intent)
  ) + (
    select count(*)
    from thea.message_history
    where tenant_id = :tenant_id
      and created_at >= (select first from whole_days)
      and created_at < (select least(day, until) from whole_days)
      and deleted_at is null
      and (:intent::text is null or intent_detected = :intent)
  ) + (
    select count(*)
    from thea.message_history
    where tenant_id = :tenant_id
      and created_at >= (select rest from whole_days)
      and created_at < (select until from whole_days)
      and deleted_at is null
      and (:intent::text is null or intent_detected = :intent)
  )
)::bigint as total;

-- name: get_all
-- A page of messages in the order of time, from after the given place; empty past the end.
-- one plan: user_id, after_at, after_id
-- variants: user_id, conversation_id, intent, created_from, created_before, newest_first
select
  tenant_id, id, user_id, conversation_id, message_id, user_message, bot_response, intent_detected,
  entities_extracted, confidence_score, processing_time_ms, created_at, updated_at, deleted_at, sealed
from thea.message_history
where tenant_id = :tenant_id
  -- The page starts after the last row of the one before, or where the time asked for begins.
  and case when :newest_first
    then (created_at, id) < (
      case
        when :after_at::timestamptz is not null then :after_at
        when :created_before::timestamptz is not null then :created_before
        else 'infinity'
      end,
      case when :after_id::bigint is null then 0 else :after_id end
    )
    else (created_at, id) > (
      case
        when :after_at::timestamptz is not null then :after_at
        when :created_from::timestamptz is not null then :created_from
        else '-infinity'
      end,
      case when :after_id::bigint is null then 0 else :after_id end
    )
  end
  and (:include_deleted or deleted_at is null)
  and (:user_id::bigint is null or user_id = :user_id)
  and (:conversation_id::bigint is null or conversation_id = :conversation_id)
  and (:intent::text is null or intent_detected = :intent)
  -- As a number that is not 0, because the planner takes "null or equal" for narrow, and then plans each call anew.
  and case when :message_id::bigint is null or message_id = :message_id then 1 else 0 end <> 0
  and (:created_from::timestamptz is null or created_at >= :created_from)
  and (:created_before::timestamptz is null or created_at < :created_before)
order by case when :newest_first then (created_at, id) end desc, created_at, id
limit :limit;

-- name: get_context_window
-- The newest messages of the session, the oldest of them first; empty when there is no such session.
with newest as (
  select
    m.tenant_id, m.id, m.user_id, m.conversation_id, m.message_id, m.user_message, m.bot_response,
    m.intent_detected, m.entities_extracted, m.confidence_score, m.processing_time_ms, m.created_at,
    m.updated_at, m.deleted_at, m.sealed
  from thea.message_history m
  where m.tenant_id = :tenant_id
    -- No join, so that the newest are read alone, and in their order.
    and m.conversation_id = (
      select c.id
      from thea.conversations c
      where c.tenant_id = :tenant_id
        and c.session_id = :session_id
        and c.deleted_at is null
      limit 1
    )
    and m.deleted_at is null
  order by m.created_at desc, m.id desc
  limit :limit
)
select
  tenant_id, id, user_id, conversation_id, message_id, user_message, bot_response, intent_detected,
  entities_extracted, confidence_score, processing_time_ms, created_at, updated_at, deleted_at, sealed
from newest
order by created_at, id;

-- name: get_by_message_id
-- The message of this session that has the channel's number; no row when there is none or it was deleted.
select
  tenant_id, id, user_id, conversation_id, message_id, user_message, bot_response, intent_detected,
  entities_extracted, confidence_score, processing_time_ms, created_at, updated_at, deleted_at, sealed
from thea.message_history
where tenant_id = :tenant_id
  and conversation_id in (
    select id
    from thea.conversations
    where tenant_id = :tenant_id
      and session_id = :session_id
      and deleted_at is null
  )
  and message_id = :message_id
  and deleted_at is null;

-- name: create_many
-- The new messages, in the order of the rows; an error when a user or a conversation is missing.
with owners as (
  select id
  from (
    select id
    from thea.users
    where tenant_id = :tenant_id
      and id = any (array(select user_id from jsonb_to_recordset(:rows) as (user_id bigint)))
      and deleted_at is null
    for share
  ) locked
),
parents as (
  select id, user_id
  from (
    select c.id, c.user_id
    -- As in conversations.advance: a list, of whose length a server expects ten, has each looked up by its key.
    from unnest(
      array(select distinct conversation_id from jsonb_to_recordset(:rows) as (conversation_id bigint))
    ) as asked (id)
    join thea.conversations c on c.tenant_id = :tenant_id and c.id = asked.id and c.deleted_at is null
    -- `is true`, so that the conversations are looked up by their ids: a user may have thousands.
    where (c.user_id in (select id from owners)) is true
    for share of c
  ) locked
)
insert into thea.message_history (
  tenant_id, user_id, conversation_id, message_id, user_message, bot_response, intent_detected,
  entities_extracted, confidence_score, processing_time_ms, created_at, sealed
)
select
  :tenant_id,
  r.user_id,
  case when (r.conversation_id, r.user_id) in (select id, user_id from parents) then r.conversation_id end,
  r.message_id, r.user_message, r.bot_response, r.intent_detected, r.entities_extracted, r.confidence_score,
  -- Not the time at which the transaction began, because other messages may have arrived since then.
  r.processing_time_ms, coalesce(r.created_at, moment.at), r.sealed
from rows from (
  jsonb_to_recordset(:rows) as (
    user_id bigint, conversation_id bigint, message_id bigint, user_message text, bot_response text,
    intent_detected text, entities_extracted jsonb, confidence_score double precision,
    processing_time_ms integer, created_at timestamptz, sealed jsonb
  )
) with ordinality as r (
  user_id, conversation_id, message_id, user_message, bot_response, intent_detected, entities_extracted,
  confidence_score, processing_time_ms, created_at, sealed, place
)
cross join (select clock_timestamp() as at) moment
order by r.place
returning
  tenant_id, id, user_id, conversation_id, message_id, user_message, bot_response, intent_detected,
  entities_extracted, confidence_score, processing_time_ms, created_at, updated_at, deleted_at, sealed;

-- name: add
-- The new message, at the end of its session, which is made where there is none and opened where it was closed;
-- or the message that has this `message_id` in it already, with the answer if it had none. No row when the session
-- is deleted or another user's, or when somebody made it or added this message at the same moment.
-- not null: tenant_id, id, user_id, conversation_id, created_at, updated_at
-- writes: thea.add_message adds the message, and makes or moves its conversation
select
  f.tenant_id, f.id, f.user_id, f.conversation_id, f.message_id, f.user_message, f.bot_response, f.intent_detected,
  f.entities_extracted, f.confidence_score, f.processing_time_ms, f.created_at, f.updated_at, f.deleted_at, f.sealed
from (
  select (
    select id
    from thea.users
    where tenant_id = :tenant_id
      and id = :user_id
      and deleted_at is null
    for share
  ) as id
) owner
-- A function, because a cluster runs it as a whole where the tenant is; of a statement with several writes, it would
-- hand each one's rows from node to node.
cross join lateral thea.add_message(
  :tenant_id, owner.id, :session_id, :message_id, :user_message, :bot_response, :intent_detected,
  :entities_extracted, :confidence_score, :processing_time_ms, :sealed
) f;

-- name: prune
-- The ids of the messages that were removed for good: all of the conversation but the newest, and none that is
-- as new as the given one.
delete from thea.message_history m
where m.tenant_id = :tenant_id
  and m.conversation_id = :conversation_id
  and (m.created_at, m.id) < (:created_at, :id)
  and (m.created_at, m.id) < (
    select k.created_at, k.id
    from thea.message_history k
    where k.tenant_id = :tenant_id
      and k.conversation_id = :conversation_id
      and k.deleted_at is null
    order by k.created_at desc, k.id desc
    limit 1 offset :keep - 1
  )
returning m.id;

-- name: update
-- The message with the given fields changed; no row when there is none.
update thea.message_history
set (
  message_id, user_message, bot_response, intent_detected, entities_extracted, confidence_score, processing_time_ms,
  sealed
) = (
  select
    n.message_id, n.user_message, n.bot_response, n.intent_detected, n.entities_extracted,
    n.confidence_score, n.processing_time_ms, jsonb_strip_nulls(coalesce(message_history.sealed, '{}') || n.sealed)
  from jsonb_populate_record(message_history, :changes) n
)
where tenant_id = :tenant_id
  and id = :id
  and deleted_at is null
returning
  tenant_id, id, user_id, conversation_id, message_id, user_message, bot_response, intent_detected,
  entities_extracted, confidence_score, processing_time_ms, created_at, updated_at, deleted_at, sealed;

-- name: get_statistics
-- One row: the totals of all messages, from the sums of those that were counted, what has changed since in these, and
-- all others as they are; averages are null over nothing.
-- not null: total_messages, unique_intents, intent_distribution
with fold as (
  select coalesce(max(until), '-infinity') as until
  from thea.message_folds
  where tenant_id = :tenant_id
),
parts as (
  select intent, sum(messages) as messages, sum(confidences) as confidences,
    sum(confidence_sum)::double precision / 1e11 as confidence_sum, sum(times) as times, sum(time_sum) as time_sum
  from thea.message_counts
  where tenant_id = :tenant_id
    and at < (select until from fold)
  group by intent
  union all
  select intent_detected, count(*), count(confidence_score), sum(confidence_score), count(processing_time_ms),
    sum(processing_time_ms)
  from thea.message_history
  where tenant_id = :tenant_id
    and created_at >= (select until from fold)
    -- All of them; but a server that sees no end takes these for a third of the table, and then reads all of it.
    and created_at <= 'infinity'
    and deleted_at is null
  group by intent_detected
),
intents as (
  select intent, sum(messages)::bigint as total
  from parts
  where intent is not null
  group by intent
  having sum(messages) > 0
)
select
  (select coalesce(sum(messages), 0)::bigint from parts) as total_messages,
  (select count(*) from intents) as unique_intents,
  (select coalesce(jsonb_object_agg(intent, total), '{}') from intents) as intent_distribution,
  (select sum(confidence_sum) / nullif(sum(confidences), 0)::double precision from parts) as avg_confidence,
  (select (sum(time_sum) / nullif(sum(times), 0))::double precision from parts) as avg_processing_time_ms;

-- name: get_statistics_of_user
-- One row: the totals of one user's messages; averages are null over nothing.
-- not null: total_messages, unique_intents, intent_distribution
with chosen as (
  select intent_detected, confidence_score, processing_time_ms
  from thea.message_history
  where tenant_id = :tenant_id
    and deleted_at is null
    and user_id = :user_id
),
intents as (
  select intent_detected as intent, count(*) as total
  from chosen
  where intent_detected is not null
  group by intent_detected
)
select
  (select count(*) from chosen) as total_messages,
  (select count(*) from intents) as unique_intents,
  (select coalesce(jsonb_object_agg(intent, total), '{}') from intents) as intent_distribution,
  (select avg(confidence_score) from chosen) as avg_confidence,
  (select avg(processing_time_ms)::double precision from chosen) as avg_processing_time_ms;

-- name: analyze_performance
-- One row: how the messages of the last hours were handled; percentiles are null over nothing.
-- not null: total_messages, messages_per_hour, slow_queries, low_confidence, failed_detections
select
  count(*) as total_messages,
  count(*) / :hours::double precision as messages_per_hour,
  count(*) filter (where processing_time_ms > :slow_ms) as slow_queries,
  count(*) filter (where confidence_score < :low_confidence) as low_confidence,
  count(*) filter (where intent_detected is null) as failed_detections,
  percentile_cont(0.50) within group (order by processing_time_ms) as p50_ms,
  percentile_cont(0.95) within group (order by processing_time_ms) as p95_ms,
  percentile_cont(0.99) within group (order by processing_time_ms) as p99_ms
from thea.message_history
where tenant_id = :tenant_id
  and created_at >= now() - make_interval(secs => :hours::double precision * 3600)
  and deleted_at is null;

-- name: delete_old
-- The ids of the messages of one batch that were removed for good, the oldest first.
delete from thea.message_history
where tenant_id = :tenant_id
  -- An array is looked up by the primary key; a join might read the whole table for each batch.
  and id = any (array(
    select locked.id
    from (
      select id
      from thea.message_history
      where tenant_id = :tenant_id
        and created_at < :older_than
      order by created_at, id
      limit :batch_size
      for update
    ) locked
  ))
returning id;

-- name: plan_for_sizes
-- Nothing; all statements of this session are planned anew, for the tables as they are then.
-- tenant: none, it reads no table.
-- writes: the session's plans.
discard plans;

-- name: import_many
-- The exchanges that were new, and those that got their answer or more of it; none for one that is there
-- already, or was deleted. The caller has locked their conversations.
-- not null: conversation_id, message_id, is_new
with given as materialized (
  select
    r.conversation_id, r.message_id, r.user_message, r.bot_response, r.answer_ids, r.created_at, r.sealed,
    r.continues, r.place,
    s.id as stored_id, s.bot_response as stored_response, s.answer_ids as stored_ids, s.deleted_at
  from rows from (
    jsonb_to_recordset(:rows) as (
      conversation_id bigint, message_id bigint, user_message text, bot_response text, answer_ids bigint[],
      created_at timestamptz, sealed jsonb, continues boolean
    )
  ) with ordinality as r (
    conversation_id, message_id, user_message, bot_response, answer_ids, created_at, sealed, continues, place
  )
  -- Each exchange is looked up by itself, through the key: joined as sets, they might be compared each with each.
  left join lateral (
    select k.id, k.bot_response, k.answer_ids, k.deleted_at
    from thea.message_history k
    where k.tenant_id = :tenant_id
      and k.conversation_id = r.conversation_id
      and k.message_id = r.message_id
      and k.deleted_at is null
    union all
    select k.id, k.bot_response, k.answer_ids, k.deleted_at
    from thea.message_history k
    where k.tenant_id = :tenant_id
      and k.conversation_id = r.conversation_id
      and k.message_id = r.message_id
      and k.deleted_at is not null
    limit 1
  ) s on true
)
insert into thea.message_history as m (
  tenant_id, user_id, conversation_id, message_id, user_message, bot_response, answer_ids, created_at, sealed
)
select
  :tenant_id,
  (
    select c.user_id
    from thea.conversations c
    where c.tenant_id = :tenant_id
      and c.id = g.conversation_id
      and c.deleted_at is null
  ),
  g.conversation_id, g.message_id, g.user_message, g.bot_response, g.answer_ids, g.created_at, g.sealed
from given g
where g.stored_id is null
  or g.deleted_at is null
  -- Answers are only ever appended: another beginning is not the chat's, and is left alone.
  and (
    g.continues
    or g.stored_response is null and g.bot_response is not null
    -- What a bot stored itself: from now on it is known which messages these are.
    or g.stored_response = g.bot_response and g.stored_ids is null
    or starts_with(g.bot_response, g.stored_response || chr(10))
  )
order by g.place
-- No update that joins what is stored: such a join may read all messages of the tenant.
on conflict (tenant_id, conversation_id, message_id) where message_id is not null and deleted_at is null
  do update set bot_response = excluded.bot_response, answer_ids = excluded.answer_ids,
    sealed = case
      when excluded.sealed is null then m.sealed - 'bot_response'
      else coalesce(m.sealed, '{}') || (excluded.sealed - 'user_message')
    end
-- A row that was inserted has nobody who deleted or locked it; one that was updated was locked before.
returning m.conversation_id, m.message_id, m.xmax = 0 as is_new;

-- name: get_answers
-- The answers of those of these exchanges that are stored, which nobody else changes until the end of the transaction;
-- empty when none is.
-- not null: message_id
with asked as materialized (
  select conversation_id, message_id
  from jsonb_to_recordset(:rows) as (conversation_id bigint, message_id bigint)
)
select
  m.conversation_id, m.message_id, m.bot_response, m.answer_ids, m.sealed ->> 'row' as row_key, m.sealed
from asked r
-- Each is looked up by itself, as in import_many.
cross join lateral (
  select k.conversation_id, k.message_id, k.bot_response, k.answer_ids, k.sealed
  from thea.message_history k
  where k.tenant_id = :tenant_id
    and k.conversation_id = r.conversation_id
    and k.message_id = r.message_id
    and k.deleted_at is null
  for no key update
) m;

-- name: row_key
-- What the texts of this message are sealed for, locked until the end of the transaction; null where they are not.
-- nullable: row_key
select sealed ->> 'row' as row_key
from thea.message_history
where tenant_id = :tenant_id
  and id = :id
  and deleted_at is null
for no key update;

-- name: find_answers
-- Those of these messages that their chat has as answers, joined or alone, with whomever; also deleted ones.
-- not null: session, message_id, id
with asked as materialized (
  select session, array_agg(message_id) as message_ids
  from jsonb_to_recordset(:rows) as (session text, message_id bigint)
  group by session
)
select r.session, a.message_id, m.id
from asked r
-- `offset 0`, so that each is looked up through its key: joined as sets, whole tables might be compared.
cross join lateral (
  select id
  from thea.conversations
  where tenant_id = :tenant_id
    -- What begins with the session: the key is in the order of bytes, and no character comes after this one.
    and session_id >= r.session
    and session_id < r.session || chr(1114111)
  offset 0
) c
cross join lateral (
  select id, answer_ids
  from thea.message_history
  where tenant_id = :tenant_id
    and conversation_id = c.id
    and answer_ids && r.message_ids
  offset 0
) m
cross join unnest(m.answer_ids) as a (message_id)
where a.message_id = any (r.message_ids);

-- name: take_back_answers
-- The conversations of the answers that were removed for good. Each stood alone; now it is joined to a message, or
-- stands in the conversation that it is kept in.
with alone as (
  select m.id
  from jsonb_to_recordset(:rows) as r (session text, message_id bigint, kept_in bigint)
  -- `offset 0`, so that each is looked up through its key: joined as sets, all answers might be compared.
  cross join lateral (
    select id, conversation_id
    from thea.message_history
    where tenant_id = :tenant_id
      and message_id = r.message_id
      and conversation_id is distinct from r.kept_in
      -- `is true`, as the index has it: an equality would be merged with the one above, and then fit no index.
      and (answer_ids[1] = message_id) is true
      and deleted_at is null
    offset 0
  ) m
  cross join lateral (
    select session_id
    from thea.conversations
    where tenant_id = :tenant_id
      and id = m.conversation_id
    offset 0
  ) c
  where starts_with(c.session_id, r.session)
)
delete from thea.message_history
where tenant_id = :tenant_id
  and id = any (array(select id from alone))
  and deleted_at is null
returning conversation_id;

-- name: delete
-- The id of the message, which is hidden; no row when there was none.
update thea.message_history
set deleted_at = now()
where tenant_id = :tenant_id
  and id = :id
  and deleted_at is null
returning id;

-- name: restore
-- The message, back; no row when it was not deleted, or when its conversation is.
with parent as (
  select c.id
  from thea.message_history k
  join thea.conversations c on c.tenant_id = :tenant_id and c.id = k.conversation_id and c.deleted_at is null
  join thea.users u on u.tenant_id = :tenant_id and u.id = c.user_id and u.deleted_at is null
  where k.tenant_id = :tenant_id
    and k.id = :id
  for share of u
  for share of c
)
update thea.message_history m
set deleted_at = null, deleted_with = null
from parent
where m.tenant_id = :tenant_id
  and m.id = :id
  and m.conversation_id = parent.id
  and m.deleted_at is not null
returning
  m.tenant_id, m.id, m.user_id, m.conversation_id, m.message_id, m.user_message, m.bot_response,
  m.intent_detected, m.entities_extracted, m.confidence_score, m.processing_time_ms, m.created_at,
  m.updated_at, m.deleted_at, m.sealed;

-- name: purge
-- The id of the message, which is gone for good; no row when there was none.
delete from thea.message_history
where tenant_id = :tenant_id
  and id = :id
returning id;
