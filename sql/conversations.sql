-- The sessions of users, each with the state of its state machine.

-- name: get_by_id
-- The conversation with this id; no row when there is none or it was deleted.
select
  tenant_id, id, user_id, session_id, current_state, context_data, last_message_id, is_active,
  started_at, last_activity, created_at, updated_at, deleted_at
from thea.conversations
where tenant_id = :tenant_id
  and id = :id
  and deleted_at is null;

-- name: get_by_session_id
-- The conversation of this session, open or closed; no row when there is none or it was deleted.
select
  tenant_id, id, user_id, session_id, current_state, context_data, last_message_id, is_active,
  started_at, last_activity, created_at, updated_at, deleted_at
from thea.conversations
where tenant_id = :tenant_id
  and session_id = :session_id
  and deleted_at is null;

-- name: exists
-- Whether there is a conversation with this id that is not deleted.
-- not null: found
select exists (
  select from thea.conversations
  where tenant_id = :tenant_id
    and id = :id
    and deleted_at is null
) as found;

-- name: count
-- How many conversations there are that are not deleted.
-- not null: total
-- variants: user_id
select count(*) as total
from thea.conversations
where tenant_id = :tenant_id
  and deleted_at is null
  and (:user_id::bigint is null or user_id = :user_id)
  and (:current_state::text is null or current_state = :current_state)
  and (:is_active::boolean is null or is_active = :is_active);

-- name: get_all
-- A page of conversations in the order of time, from after the given place; empty past the end.
-- one plan: user_id, after_at, after_id
-- variants: user_id, after_at, newest_first
select
  tenant_id, id, user_id, session_id, current_state, context_data, last_message_id, is_active,
  started_at, last_activity, created_at, updated_at, deleted_at
from thea.conversations
where tenant_id = :tenant_id
  and (
    :after_at::timestamptz is null
    or case when :newest_first
      then (created_at, id) < (:after_at, :after_id)
      else (created_at, id) > (:after_at, :after_id)
    end
  )
  and (:include_deleted or deleted_at is null)
  and (:user_id::bigint is null or user_id = :user_id)
  and (:current_state::text is null or current_state = :current_state)
  and (:is_active::boolean is null or is_active = :is_active)
order by case when :newest_first then (created_at, id) end desc, created_at, id
limit :limit;

-- name: get_active
-- The open conversations of the user, the one active last first; empty when all are closed.
select
  tenant_id, id, user_id, session_id, current_state, context_data, last_message_id, is_active,
  started_at, last_activity, created_at, updated_at, deleted_at
from thea.conversations
where tenant_id = :tenant_id
  and user_id = :user_id
  and is_active
  and deleted_at is null
order by last_activity desc, id desc;

-- name: get_inactive_since
-- The open conversations without activity since the given moment, the longest silent first.
select
  tenant_id, id, user_id, session_id, current_state, context_data, last_message_id, is_active,
  started_at, last_activity, created_at, updated_at, deleted_at
from thea.conversations
where tenant_id = :tenant_id
  and is_active
  and deleted_at is null
  and last_activity < :since
order by last_activity, id
limit :limit;

-- name: close_inactive
-- The ids of the conversations of one batch that were closed, the longest silent first.
update thea.conversations
set is_active = false
where tenant_id = :tenant_id
  and id = any (array(
    select locked.id
    from (
      select id
      from thea.conversations
      where tenant_id = :tenant_id
        and is_active
        and deleted_at is null
        and last_activity < :since
      order by last_activity, id
      limit :batch_size
      for no key update
    ) locked
  ))
returning id;

-- name: close_inactive_by_policy
-- The ids of the conversations of one batch that were closed, because they were inactive for as long as the policy of
-- retention says; empty when there are none that another worker does not close.
update thea.conversations
set is_active = false
where tenant_id = :tenant_id
  and id = any (array(
    select locked.id
    from (
      select id
      from thea.conversations
      where tenant_id = :tenant_id
        and is_active
        and deleted_at is null
        and last_activity <= now() - thea.tenant_keeps('conversations', 'inactive')
      order by last_activity, id
      limit :limit
      for no key update skip locked
    ) locked
  ))
returning id;

-- name: create_many
-- The new conversations, in the order of the rows; an error when a session id is taken or a user missing.
with parents as (
  select id
  from thea.users
  where tenant_id = :tenant_id
    and id = any (array(select user_id from jsonb_to_recordset(:rows) as (user_id bigint)))
    and deleted_at is null
  for share
)
insert into thea.conversations (tenant_id, user_id, session_id, current_state, context_data)
select
  :tenant_id, case when r.user_id in (select id from parents) then r.user_id end, r.session_id,
  coalesce(r.current_state, 'idle'), coalesce(r.context_data, '{}')
from rows from (
  jsonb_to_recordset(:rows) as (user_id bigint, session_id text, current_state text, context_data jsonb)
) with ordinality as r (user_id, session_id, current_state, context_data, place)
order by r.place
returning
  tenant_id, id, user_id, session_id, current_state, context_data, last_message_id, is_active,
  started_at, last_activity, created_at, updated_at, deleted_at;

-- name: open
-- The conversation of this session, made where there is none and opened where it was closed; no row when
-- it is deleted or another user's.
with owner as (
  select (
    select id
    from thea.users
    where tenant_id = :tenant_id
      and id = :user_id
      and deleted_at is null
    for share
  ) as id
)
insert into thea.conversations as c (tenant_id, user_id, session_id)
select :tenant_id, owner.id, :session_id
from owner
on conflict (tenant_id, session_id) do update
set is_active = true,
  last_activity = greatest(c.last_activity, excluded.last_activity)
where c.user_id = excluded.user_id
  and c.deleted_at is null
returning
  c.tenant_id, c.id, c.user_id, c.session_id, c.current_state, c.context_data, c.last_message_id,
  c.is_active, c.started_at, c.last_activity, c.created_at, c.updated_at, c.deleted_at;

-- name: begin_anew
-- The id of the user's conversation of this session, which is deleted and now idle, open, with an empty context;
-- no row when it is not deleted, or when the user is.
with owner as (
  select locked.id
  from (
    select id
    from thea.users
    where tenant_id = :tenant_id
      and id = :user_id
      and deleted_at is null
    for share
  ) locked
)
update thea.conversations c
set current_state = 'idle',
  context_data = '{}',
  last_message_id = null,
  is_active = true,
  started_at = greatest(now(), (c.deleted_at at time zone 'UTC' + interval '1 microsecond') at time zone 'UTC'),
  last_activity = now(),
  -- No longer the time at which its messages were hidden, so that a restore of it does not bring them back. In UTC,
  -- because what depends on a timezone is refused here by a cluster.
  deleted_at = (c.deleted_at at time zone 'UTC' + interval '1 microsecond') at time zone 'UTC'
from owner
where c.tenant_id = :tenant_id
  and c.session_id = :session_id
  -- Not `=`, so that the session's key leads to the row: the user may have thousands.
  and c.user_id is not distinct from owner.id
  and c.deleted_at is not null
returning c.id;

-- name: import_many
-- The ids of the conversations that were new. They are closed, since an imported chat is of the past until
-- somebody writes in it again; one of a user who is not there is not made.
with people as (
  select id, telegram_id
  from thea.users
  where tenant_id = :tenant_id
    and telegram_id = any (array(select telegram_id from jsonb_to_recordset(:rows) as (telegram_id bigint)))
    and deleted_at is null
  for share
)
insert into thea.conversations (tenant_id, user_id, session_id, is_active, started_at, last_activity)
select :tenant_id, u.id, r.session_id, false, r.started_at, r.last_activity
from (
  select g.telegram_id, g.session_id, g.started_at, g.last_activity
  from jsonb_to_recordset(:rows) as g (
    telegram_id bigint, session_id text, started_at timestamptz, last_activity timestamptz
  )
  -- `offset 0`: one by one, never by reading all conversations.
  where not exists (
    select from thea.conversations c
    where c.tenant_id = :tenant_id
      and c.session_id = g.session_id
    offset 0
  )
  order by g.session_id
) r
join people u on u.telegram_id = r.telegram_id
on conflict (tenant_id, session_id) do nothing
returning id;

-- name: lock_sessions
-- The ids of the conversations of these sessions, which nobody else may change until the end of the
-- transaction; none for a conversation that is deleted or another user's.
select c.id, c.session_id
from (
  select g.telegram_id, g.session_id
  from jsonb_to_recordset(:rows) as g (telegram_id bigint, session_id text)
  order by g.session_id
) r
-- One by one: a lateral subquery that locks its row is no join that the planner could do otherwise.
cross join lateral (
  select k.id
  from thea.users k
  where k.tenant_id = :tenant_id
    and k.telegram_id = r.telegram_id
    and k.deleted_at is null
  for share
) u
cross join lateral (
  select k.id, k.session_id
  from thea.conversations k
  where k.tenant_id = :tenant_id
    and k.session_id = r.session_id
    -- Not `=`, so that the session's key leads to the row: the user may have thousands.
    and k.user_id is not distinct from u.id
    and k.deleted_at is null
  for update
) c
order by c.session_id;

-- name: advance
-- The ids of the conversations that moved: their start to an earlier time, their last activity to a later
-- one, their last message to the newest that they hold.
update thea.conversations c
set started_at = least(c.started_at, r.started_at),
  last_activity = greatest(c.last_activity, r.last_activity),
  last_message_id = newest.number
-- The ids by themselves, of whose number a server expects ten: then it looks each up by its key. Of the rows it
-- expects a hundred, for which it may read all conversations of the tenant, as it may for a list (`any`).
from unnest(array(select id from jsonb_to_recordset(:rows) as (id bigint))) as asked (id)
join jsonb_to_recordset(:rows) as r (id bigint, started_at timestamptz, last_activity timestamptz) on r.id = asked.id
cross join lateral (
  select coalesce(m.message_id, m.id) as number
  from thea.message_history m
  where m.tenant_id = :tenant_id
    and m.conversation_id = r.id
  order by m.created_at desc, m.id desc
  limit 1
) newest
where c.tenant_id = :tenant_id
  and c.id = asked.id
  and (
    c.started_at > r.started_at
    or c.last_activity < r.last_activity
    or c.last_message_id is distinct from newest.number
  )
returning c.id;

-- name: update
-- The conversation with the given fields changed; no row when there is none.
update thea.conversations
set (
  session_id, current_state, context_data, is_active, last_message_id, last_activity
) = (
  select
    n.session_id, n.current_state, n.context_data, n.is_active, n.last_message_id, n.last_activity
  from jsonb_populate_record(conversations, :changes) n
)
where tenant_id = :tenant_id
  and id = :id
  and deleted_at is null
returning
  tenant_id, id, user_id, session_id, current_state, context_data, last_message_id, is_active,
  started_at, last_activity, created_at, updated_at, deleted_at;

-- name: update_state
-- The conversation in its new state, with the context merged; no row when there is none, or when it is
-- in another state than the expected one.
update thea.conversations
set current_state = :new_state,
  context_data = (context_data || :patch) - :removed::text[],
  last_activity = greatest(last_activity, now())
where tenant_id = :tenant_id
  and id = :id
  and deleted_at is null
  and current_state = coalesce(:expected_state, current_state)
returning
  tenant_id, id, user_id, session_id, current_state, context_data, last_message_id, is_active,
  started_at, last_activity, created_at, updated_at, deleted_at;

-- name: close
-- The conversation, closed; no row when there is none.
update thea.conversations
set is_active = false
where tenant_id = :tenant_id
  and id = :id
  and deleted_at is null
returning
  tenant_id, id, user_id, session_id, current_state, context_data, last_message_id, is_active,
  started_at, last_activity, created_at, updated_at, deleted_at;

-- name: delete
-- The id of the conversation, which is hidden with its messages; no row when there was none.
update thea.conversations
-- After the time at which it began anew, if that was in this transaction: its messages are told apart by it.
set deleted_at = greatest(now(), started_at)
where tenant_id = :tenant_id
  and id = :id
  and deleted_at is null
returning id;

-- name: restore
-- The conversation, back with the messages that its delete hid; no row when it was not deleted, or when
-- its user is.
with parent as (
  select u.id
  from thea.conversations k
  join thea.users u on u.tenant_id = :tenant_id and u.id = k.user_id and u.deleted_at is null
  where k.tenant_id = :tenant_id
    and k.id = :id
  for share of u
)
update thea.conversations c
set deleted_at = null, deleted_with = null
from parent
where c.tenant_id = :tenant_id
  and c.id = :id
  and c.user_id = parent.id
  and c.deleted_at is not null
returning
  c.tenant_id, c.id, c.user_id, c.session_id, c.current_state, c.context_data, c.last_message_id,
  c.is_active, c.started_at, c.last_activity, c.created_at, c.updated_at, c.deleted_at;

-- name: purge
-- The id of the conversation, which is gone for good with its messages; no row when there was none.
delete from thea.conversations
where tenant_id = :tenant_id
  and id = :id
returning id;
