-- The events of users' calendars and their reminders. A recurring event is one row.

-- name: get_by_id
-- The event with this id; no row when there is none or it was deleted.
select
  tenant_id, id, user_id, title, description, start_datetime, end_datetime, location, event_type, category,
  status, reminder_minutes, recurrence_rule, all_day, skipped, external_id, extra_data, created_at, updated_at,
  deleted_at
from thea.events
where tenant_id = :tenant_id
  and id = :id
  and deleted_at is null;

-- name: exists
-- Whether there is an event with this id that is not deleted.
-- not null: found
select exists (
  select from thea.events
  where tenant_id = :tenant_id
    and id = :id
    and deleted_at is null
) as found;

-- name: count
-- How many events there are that are not deleted.
-- not null: total
-- variants: user_id
select count(*) as total
from thea.events
where tenant_id = :tenant_id
  and deleted_at is null
  and (:user_id::bigint is null or user_id = :user_id)
  and (:event_type::text is null or event_type = :event_type)
  and (:category::text is null or category = :category)
  and (:status::text is null or status = :status)
  and (:starts_from::timestamptz is null or start_datetime >= :starts_from)
  and (:starts_before::timestamptz is null or start_datetime < :starts_before);

-- name: get_all
-- A page of events in the order of time, from after the given place; empty past the end.
-- one plan: user_id, after_at, after_id
-- variants: user_id, after_at, newest_first
select
  tenant_id, id, user_id, title, description, start_datetime, end_datetime, location, event_type, category,
  status, reminder_minutes, recurrence_rule, all_day, skipped, external_id, extra_data, created_at, updated_at,
  deleted_at
from thea.events
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
  -- As a number that is not 0, because the planner takes "null or equal" for narrow: then a plan for all calls reads
  -- all events, and each call is planned anew.
  and case
    when (:event_type::text is null or event_type = :event_type)
      and (:category::text is null or category = :category)
      and (:status::text is null or status = :status)
      and (:starts_from::timestamptz is null or start_datetime >= :starts_from)
      and (:starts_before::timestamptz is null or start_datetime < :starts_before)
    then 1
    else 0
  end <> 0
order by case when :newest_first then (created_at, id) end desc, created_at, id
limit :limit;

-- name: get_by_location
-- The user's events at a place whose name contains this text, both with their case folded, by their start; empty
-- when there are none.
select
  tenant_id, id, user_id, title, description, start_datetime, end_datetime, location, event_type, category,
  status, reminder_minutes, recurrence_rule, all_day, skipped, external_id, extra_data, created_at, updated_at,
  deleted_at
from thea.events
where tenant_id = :tenant_id
  and user_id = :user_id
  and strpos(location_key, :location_key) > 0
  and deleted_at is null
order by start_datetime, id;

-- name: get_by_category
-- The user's events of this category, by their start; empty when there are none.
select
  tenant_id, id, user_id, title, description, start_datetime, end_datetime, location, event_type, category,
  status, reminder_minutes, recurrence_rule, all_day, skipped, external_id, extra_data, created_at, updated_at,
  deleted_at
from thea.events
where tenant_id = :tenant_id
  and user_id = :user_id
  and category = :category
  and deleted_at is null
order by start_datetime, id;

-- name: in_range
-- What may happen within a span of time, with the timezone that it is worked out in: the first single events that
-- begin in it or are running in it, and the recurring ones that may not have ended before it.
with chosen as (
  (
    select id
    from thea.events
    where tenant_id = :tenant_id
      and user_id = :user_id
      and recurrence_rule is null
      and start_datetime > :after::timestamptz - interval '24 hours'
      and start_datetime < :before
      and (start_datetime >= :after or :running and end_datetime > :after)
      and start_datetime <> all(skipped)
      and (not :scheduled_only or status = 'scheduled')
      and (:exclude_event_id::bigint is null or id <> :exclude_event_id)
      and deleted_at is null
    order by start_datetime, id
    limit :limit
  )
  union all
  (
    -- Few events are longer than a day, and an index holds them alone, so that not all of the past is read.
    select id
    from thea.events
    where :running
      and tenant_id = :tenant_id
      and user_id = :user_id
      and recurrence_rule is null
      and end_datetime - start_datetime >= interval '24 hours'
      and start_datetime <= :after::timestamptz - interval '24 hours'
      and end_datetime > :after
      and start_datetime <> all(skipped)
      and (not :scheduled_only or status = 'scheduled')
      and (:exclude_event_id::bigint is null or id <> :exclude_event_id)
      and deleted_at is null
    order by start_datetime, id
    limit :limit
  )
  union all
  (
    select id
    from thea.events
    where tenant_id = :tenant_id
      and user_id = :user_id
      and recurrence_rule is not null
      and series_end >= :after
      and start_datetime < :before
      and (not :scheduled_only or status = 'scheduled')
      and (:exclude_event_id::bigint is null or id <> :exclude_event_id)
      and deleted_at is null
    order by series_end, id
    limit :series_limit
  )
)
select
  e.tenant_id, e.id, e.user_id, e.title, e.description, e.start_datetime, e.end_datetime, e.location,
  e.event_type, e.category, e.status, e.reminder_minutes, e.recurrence_rule, e.all_day,
  e.skipped, e.external_id, e.extra_data, e.created_at, e.updated_at, e.deleted_at,
  e.timezone
from chosen c
join thea.events e on e.tenant_id = :tenant_id and e.id = c.id
order by e.start_datetime, e.id;

-- name: create_many
-- The new events, in the order of the rows; an error when an external id is taken or a user missing.
with parents as (
  select id, timezone
  from thea.users
  where tenant_id = :tenant_id
    and id = any (array(select user_id from jsonb_to_recordset(:rows) as (user_id bigint)))
    and deleted_at is null
  for share
),
zones as (
  select jsonb_object_agg(id, timezone) as by_user
  from parents
)
insert into thea.events (
  tenant_id, user_id, title, description, start_datetime, end_datetime, location, event_type, category, status,
  reminder_minutes, recurrence_rule, all_day, timezone, external_id, extra_data, location_key, series_end,
  next_reminder_at
)
select
  :tenant_id, case when r.user_id in (select id from parents) then r.user_id end, r.title, r.description,
  r.start_datetime, r.end_datetime, r.location, coalesce(r.event_type, 'event'), r.category,
  coalesce(r.status, 'scheduled'), r.reminder_minutes, r.recurrence_rule, coalesce(r.all_day, false),
  coalesce(zones.by_user ->> r.user_id::text, 'UTC'), r.external_id, r.extra_data, r.location_key,
  case when r.recurrence_rule is not null then coalesce(r.series_end, 'infinity') end,
  r.start_datetime - make_interval(mins => r.reminder_minutes)
from rows from (
  jsonb_to_recordset(:rows) as (
    user_id bigint, title text, description text, start_datetime timestamptz, end_datetime timestamptz,
    location text, event_type text, category text, status text, reminder_minutes integer, recurrence_rule text,
    all_day boolean, external_id text, extra_data jsonb, location_key text, series_end timestamptz
  )
) with ordinality as r (
  user_id, title, description, start_datetime, end_datetime, location, event_type, category, status,
  reminder_minutes, recurrence_rule, all_day, external_id, extra_data, location_key, series_end, place
)
cross join zones
order by r.place
returning
  tenant_id, id, user_id, title, description, start_datetime, end_datetime, location, event_type, category,
  status, reminder_minutes, recurrence_rule, all_day, skipped, external_id, extra_data, created_at, updated_at,
  deleted_at;

-- name: upsert_external
-- The user's event with this external id, made where there is none; its title, its time and the other
-- fields that are given replace what was there. No row when the event is deleted, or when somebody made it at the same
-- moment.
-- not null: tenant_id, id, user_id, title, start_datetime, event_type, status, all_day, skipped, created_at, updated_at
-- writes: thea.upsert_event makes the event, or changes it
select
  f.tenant_id, f.id, f.user_id, f.title, f.description, f.start_datetime, f.end_datetime, f.location, f.event_type,
  f.category, f.status, f.reminder_minutes, f.recurrence_rule, f.all_day, f.skipped, f.external_id, f.extra_data,
  f.created_at, f.updated_at, f.deleted_at
from (select 1) as one
left join lateral (
  select id, timezone
  from thea.users
  where tenant_id = :tenant_id
    and id = :user_id
    and deleted_at is null
  for share
) owner on true
-- A function, because a cluster runs it as a whole where the tenant is.
cross join lateral thea.upsert_event(
  :tenant_id, owner.id, owner.timezone, :external_id, :row, :given
) f;

-- name: get_deleted_id
-- The id of the user's deleted event with this external id, locked until the end of the transaction; no row
-- when there is none, or when the user is deleted.
select e.id
from thea.events e
join thea.users u on u.tenant_id = :tenant_id and u.id = e.user_id and u.deleted_at is null
where e.tenant_id = :tenant_id
  and e.user_id = :user_id
  and e.external_id = :external_id
  and e.deleted_at is not null
for share of u
for update of e;

-- name: lock_zones
-- The timezones of these users, which nobody may change until the end of the transaction.
select id, timezone
from thea.users
where tenant_id = :tenant_id
  and id = any(:user_ids::bigint[])
  and deleted_at is null
order by id
for share;

-- name: lock_schedule
-- When the event happens, with the timezone that this is meant in and its user's present one; its row nobody else
-- may change until the end of the transaction.
select e.start_datetime, e.end_datetime, e.recurrence_rule, e.all_day, e.timezone, u.timezone as user_timezone
from thea.events e
join thea.users u on u.tenant_id = :tenant_id and u.id = e.user_id
where e.tenant_id = :tenant_id
  and e.id = :id
  and e.deleted_at is null
for share of u
for update of e;

-- name: lock_candidate
-- The event, with the timezone that it is worked out in; its row nobody else may change until the end of the
-- transaction.
select
  tenant_id, id, user_id, title, description, start_datetime, end_datetime, location, event_type, category,
  status, reminder_minutes, recurrence_rule, all_day, skipped, external_id, extra_data, created_at, updated_at,
  deleted_at, timezone
from thea.events
where tenant_id = :tenant_id
  and id = :id
  and deleted_at is null
for update;

-- name: skip
-- The event, without the occurrence that starts then; no row when there is no such event.
update thea.events
set skipped = skipped || :occurrence_start::timestamptz
where tenant_id = :tenant_id
  and id = :id
  and deleted_at is null
returning
  tenant_id, id, user_id, title, description, start_datetime, end_datetime, location, event_type, category,
  status, reminder_minutes, recurrence_rule, all_day, skipped, external_id, extra_data, created_at, updated_at,
  deleted_at;

-- name: update
-- The event with the given fields changed; no row when there is none.
update thea.events
set (
  title, description, start_datetime, end_datetime, location, event_type, category, status, reminder_minutes,
  recurrence_rule, all_day, timezone, external_id, extra_data, location_key, skipped, series_end, reminded_until,
  next_reminder_at
) = (
  select
    n.title, n.description, n.start_datetime, n.end_datetime, n.location, n.event_type, n.category, n.status,
    n.reminder_minutes, n.recurrence_rule, n.all_day, n.timezone, n.external_id, n.extra_data, n.location_key,
    case when n.start_datetime = events.start_datetime then events.skipped else '{}' end,
    case when n.recurrence_rule is not null then coalesce(n.series_end, 'infinity') end,
    -- A single event that moved is reminded of anew. Of all else that changed, what is still to come is looked at
    -- again; what was claimed of it stands in `reminded`.
    case
      when n.recurrence_rule is null and n.start_datetime <> events.start_datetime then null
      when row(n.start_datetime, n.recurrence_rule) is distinct from row(events.start_datetime, events.recurrence_rule)
        or events.reminded_until is not null and n.reminder_minutes is distinct from events.reminder_minutes
        then least(events.reminded_until, greatest(events.reminded_at[cardinality(events.reminded_at)], now()))
      else events.reminded_until
    end,
    case
      when row(n.start_datetime, n.recurrence_rule, n.all_day, n.reminder_minutes) is not distinct from
        row(events.start_datetime, events.recurrence_rule, events.all_day, events.reminder_minutes)
        then events.next_reminder_at
      else '-infinity'::timestamptz
    end
  from jsonb_populate_record(events, :changes) n
)
where tenant_id = :tenant_id
  and id = :id
  and deleted_at is null
returning
  tenant_id, id, user_id, title, description, start_datetime, end_datetime, location, event_type, category,
  status, reminder_minutes, recurrence_rule, all_day, skipped, external_id, extra_data, created_at, updated_at,
  deleted_at;

-- name: lock_due
-- The events to look at for a reminder that is due, with what was claimed of them, locked for this worker alone;
-- empty when there are none that another worker does not look at.
select
  e.tenant_id, e.id, e.user_id, e.title, e.description, e.start_datetime, e.end_datetime, e.location,
  e.event_type, e.category, e.status, e.reminder_minutes, e.recurrence_rule, e.all_day,
  e.skipped, e.external_id, e.extra_data, e.created_at, e.updated_at, e.deleted_at,
  e.timezone, e.reminded_until, e.reminded, e.reminded_at
from thea.events e
join thea.users u on u.tenant_id = :tenant_id and u.id = e.user_id and u.deleted_at is null
where e.tenant_id = :tenant_id
  and e.next_reminder_at <= :now
  and e.status = 'scheduled'
  and e.deleted_at is null
order by e.next_reminder_at, e.id
limit :limit
for update of e skip locked;

-- name: move_on
-- Nothing; notes what the events were reminded of, and when to look at each again.
update thea.events e
set reminded_until = r.reminded_until,
  reminded = r.reminded,
  reminded_at = r.reminded_at,
  next_reminder_at = r.next_reminder_at
from jsonb_to_recordset(:rows) as r (
  id bigint, reminded_until timestamptz, reminded timestamptz[], reminded_at timestamptz[],
  next_reminder_at timestamptz
)
where e.tenant_id = :tenant_id
  and e.id = r.id;

-- name: delete
-- The id of the event, which is hidden; no row when there was none.
update thea.events
set deleted_at = now()
where tenant_id = :tenant_id
  and id = :id
  and deleted_at is null
returning id;

-- name: restore
-- The event, back; no row when it was not deleted, or when its user is.
with returning_event as (
  select e.id
  from thea.events e
  join thea.users u on u.tenant_id = :tenant_id and u.id = e.user_id and u.deleted_at is null
  where e.tenant_id = :tenant_id
    and e.id = :id
    and e.deleted_at is not null
  for share of u
  for update of e
)
update thea.events e
set deleted_at = null, deleted_with = null
from returning_event r
where e.tenant_id = :tenant_id
  and e.id = r.id
returning
  e.tenant_id, e.id, e.user_id, e.title, e.description, e.start_datetime, e.end_datetime, e.location,
  e.event_type, e.category, e.status, e.reminder_minutes, e.recurrence_rule, e.all_day,
  e.skipped, e.external_id, e.extra_data, e.created_at, e.updated_at, e.deleted_at;

-- name: purge
-- The id of the event, which is gone for good; no row when there was none.
delete from thea.events
where tenant_id = :tenant_id
  and id = :id
returning id;
