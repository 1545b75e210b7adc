-- The people a tenant serves.

-- name: get_by_id
-- The user with this id; no row when there is none or it was deleted.
select
  tenant_id, id, telegram_id, username, first_name, last_name, language_code, timezone, is_active,
  preferences, last_activity, created_at, updated_at, deleted_at
from thea.users
where tenant_id = :tenant_id
  and id = :id
  and deleted_at is null;

-- name: get_by_telegram_id
-- The user with this Telegram id; no row when there is none or it was deleted.
select
  tenant_id, id, telegram_id, username, first_name, last_name, language_code, timezone, is_active,
  preferences, last_activity, created_at, updated_at, deleted_at
from thea.users
where tenant_id = :tenant_id
  and telegram_id = :telegram_id
  and deleted_at is null;

-- name: exists
-- Whether there is a user with this id who is not deleted.
-- not null: found
select exists (
  select from thea.users
  where tenant_id = :tenant_id
    and id = :id
    and deleted_at is null
) as found;

-- name: count
-- How many users there are that are not deleted.
-- not null: total
-- variants: active_since
select count(*) as total
from thea.users
where tenant_id = :tenant_id
  and deleted_at is null
  and (:is_active::boolean is null or is_active = :is_active)
  and (:language_code::text is null or language_code = :language_code)
  and (:active_since::timestamptz is null or last_activity >= :active_since);

-- name: get_all
-- A page of users in the order of time, from after the given place; empty past the end.
-- one plan: after_at, after_id
-- variants: after_at, newest_first
select
  tenant_id, id, telegram_id, username, first_name, last_name, language_code, timezone, is_active,
  preferences, last_activity, created_at, updated_at, deleted_at
from thea.users
where tenant_id = :tenant_id
  and (
    :after_at::timestamptz is null
    or case when :newest_first
      then (created_at, id) < (:after_at, :after_id)
      else (created_at, id) > (:after_at, :after_id)
    end
  )
  and (:include_deleted or deleted_at is null)
  and (:is_active::boolean is null or is_active = :is_active)
  and (:language_code::text is null or language_code = :language_code)
  and (:active_since::timestamptz is null or last_activity >= :active_since)
order by case when :newest_first then (created_at, id) end desc, created_at, id
limit :limit;

-- name: create_many
-- The new users, in the order of the rows; an error when a Telegram id is taken.
insert into thea.users (
  tenant_id, telegram_id, username, first_name, last_name, language_code, timezone, is_active, preferences,
  last_activity
)
select
  :tenant_id, r.telegram_id, r.username, r.first_name, r.last_name, r.language_code,
  coalesce(r.timezone, 'UTC'), coalesce(r.is_active, true), coalesce(r.preferences, '{}'), r.last_activity
from rows from (
  jsonb_to_recordset(:rows) as (
    telegram_id bigint, username text, first_name text, last_name text, language_code text, timezone text,
    is_active boolean, preferences jsonb, last_activity timestamptz
  )
) with ordinality as r (
  telegram_id, username, first_name, last_name, language_code, timezone, is_active, preferences, last_activity, place
)
order by r.place
returning
  tenant_id, id, telegram_id, username, first_name, last_name, language_code, timezone, is_active,
  preferences, last_activity, created_at, updated_at, deleted_at;

-- name: update
-- The user with the given fields changed; no row when there is none.
update thea.users
set (
  telegram_id, username, first_name, last_name, language_code, timezone, is_active, preferences, last_activity
) = (
  select
    n.telegram_id, n.username, n.first_name, n.last_name, n.language_code, n.timezone, n.is_active,
    n.preferences, n.last_activity
  from jsonb_populate_record(users, :changes) n
)
where tenant_id = :tenant_id
  and id = :id
  and deleted_at is null
returning
  tenant_id, id, telegram_id, username, first_name, last_name, language_code, timezone, is_active,
  preferences, last_activity, created_at, updated_at, deleted_at;

-- name: get_or_create_from_telegram
-- The user with this Telegram id, made where there is none; profile fields that are given replace what
-- was there, also by null. One who is deleted comes back, with what the delete hid: a trigger sees to that.
insert into thea.users as u (tenant_id, telegram_id, username, first_name, last_name, language_code)
values (
  :tenant_id, :telegram_id, :profile::jsonb ->> 'username', :profile ->> 'first_name', :profile ->> 'last_name',
  :profile ->> 'language_code'
)
on conflict (tenant_id, telegram_id) do update
set username = case when :profile ? 'username' then excluded.username else u.username end,
  first_name = case when :profile ? 'first_name' then excluded.first_name else u.first_name end,
  last_name = case when :profile ? 'last_name' then excluded.last_name else u.last_name end,
  language_code = case when :profile ? 'language_code' then excluded.language_code else u.language_code end,
  deleted_at = null
returning
  u.tenant_id, u.id, u.telegram_id, u.username, u.first_name, u.last_name, u.language_code,
  u.timezone, u.is_active, u.preferences, u.last_activity, u.created_at, u.updated_at, u.deleted_at;

-- name: import_many
-- The ids of the users that were new; one who is there, or was deleted, stays as they are.
insert into thea.users (tenant_id, telegram_id, first_name)
select :tenant_id, r.telegram_id, r.first_name
from jsonb_to_recordset(:rows) as r (telegram_id bigint, first_name text)
-- Asked first, because an insert that meets a conflict has used up an id; the conflict is left for races.
-- `offset 0`: one by one, never by reading all users.
where not exists (
  select from thea.users u
  where u.tenant_id = :tenant_id
    and u.telegram_id = r.telegram_id
  offset 0
)
order by r.telegram_id
on conflict (tenant_id, telegram_id) do nothing
returning id;

-- name: update_last_activity
-- The user, active at the given moment or now; an earlier moment than the last one changes nothing.
update thea.users u
set last_activity = greatest(u.last_activity, moment.at)
from (select coalesce(:at, now()) as at) moment
where u.tenant_id = :tenant_id
  and u.id = :id
  and u.deleted_at is null
returning
  u.tenant_id, u.id, u.telegram_id, u.username, u.first_name, u.last_name, u.language_code, u.timezone, u.is_active,
  u.preferences, u.last_activity, u.created_at, u.updated_at, u.deleted_at;

-- name: get_with
-- The user, and the newest of what hangs on them, as many of each as asked for, each as a document beside the name
-- of its kind; without the user when there is none. Each is a row of its own, because one document of all of them
-- might be larger than a document can be.
-- not null: kind, document
select
  'user' as kind,
  to_jsonb(r) as document
from (
  select
    tenant_id, id, telegram_id, username, first_name, last_name, language_code, timezone, is_active,
    preferences, last_activity, created_at, updated_at, deleted_at
  from thea.users
  where tenant_id = :tenant_id
    and id = :id
    and deleted_at is null
) r
union all
select 'events', to_jsonb(r)
from (
  select
    tenant_id, id, user_id, title, description, start_datetime, end_datetime, location,
    event_type, category, status, reminder_minutes, recurrence_rule, all_day, skipped,
    external_id, extra_data, created_at, updated_at, deleted_at
  from thea.events
  where tenant_id = :tenant_id
    and user_id = :id
    and deleted_at is null
  order by created_at desc, id desc
  limit :events
) r
union all
select 'notes', to_jsonb(r)
from (
  select
    tenant_id, id, user_id, title, content, category, priority, tags, is_pinned,
    reminder_datetime, extra_data, created_at, updated_at, deleted_at, sealed
  from thea.notes
  where tenant_id = :tenant_id
    and user_id = :id
    and deleted_at is null
  order by created_at desc, id desc
  limit :notes
) r
union all
select 'conversations', to_jsonb(r)
from (
  select
    tenant_id, id, user_id, session_id, current_state, context_data, last_message_id,
    is_active, started_at, last_activity, created_at, updated_at, deleted_at
  from thea.conversations
  where tenant_id = :tenant_id
    and user_id = :id
    and deleted_at is null
  order by created_at desc, id desc
  limit :conversations
) r
union all
select 'messages', to_jsonb(r)
from (
  select
    tenant_id, id, user_id, conversation_id, message_id, user_message, bot_response,
    intent_detected, entities_extracted, confidence_score, processing_time_ms, created_at,
    updated_at, deleted_at, sealed
  from thea.message_history
  where tenant_id = :tenant_id
    and user_id = :id
    and deleted_at is null
  order by created_at desc, id desc
  limit :messages
) r;

-- name: get_preferences
-- The preferences of the user; no row when there is none.
select preferences
from thea.users
where tenant_id = :tenant_id
  and id = :id
  and deleted_at is null;

-- name: merge_preferences
-- The preferences after the merge; no row when there is no such user.
update thea.users
set preferences = (preferences || :patch) - :removed::text[]
where tenant_id = :tenant_id
  and id = :id
  and deleted_at is null
returning preferences;

-- name: delete
-- The id of the user, who is hidden with all that hangs on them; no row when there was none.
update thea.users u
set deleted_at = moment.at
-- Not the transaction's time, at which it may have hidden messages of a conversation that began anew since: a restore
-- tells by the time what this delete hid.
from (select clock_timestamp() as at) moment
where u.tenant_id = :tenant_id
  and u.id = :id
  and u.deleted_at is null
returning u.id;

-- name: restore
-- The user, back with what their delete hid; no row when they were not deleted.
update thea.users
set deleted_at = null
where tenant_id = :tenant_id
  and id = :id
  and deleted_at is not null
returning
  tenant_id, id, telegram_id, username, first_name, last_name, language_code,
  timezone, is_active, preferences, last_activity, created_at, updated_at, deleted_at;

-- name: purge
-- The id of the user, who is gone for good with all that hung on it; no row when there was none.
delete from thea.users
where tenant_id = :tenant_id
  and id = :id
returning id;
