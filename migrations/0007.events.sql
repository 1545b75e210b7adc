-- depends: 0006.messages

-- Why: a user's calendar and its reminders. A recurring event is one row; its occurrences are
-- computed from `recurrence_rule` (RFC 5545) in `timezone`, which is the one that its user had when its
-- start was written. `skipped` are the starts of occurrences that were called off.
--
-- `series_end` is a moment after the last occurrence of a recurring event, whatever the timezone
-- ('infinity': there may be no last one), so that a range is found without reading every rule.
--
-- Of the occurrences that start up to `reminded_until`, no reminder is due. Of later ones, `reminded`
-- are the starts of those that somebody was reminded of, at the times in `reminded_at`: so a change of
-- the rule reminds of none of them again, and a shorter notice does. `next_reminder_at` is a moment up
-- to which no reminder is due: a claim looks at the event then, and moves it on. So whoever changes an
-- event need not know when it happens next, only when to look.
--
-- `location_key` is the location with its case folded by the service, because what the server takes
-- for the other case of a letter depends on the database's locale.

create table thea.events (
  tenant_id text not null,
  id bigint generated always as identity,
  user_id bigint not null,
  title text not null,
  description text,
  start_datetime timestamptz not null,
  end_datetime timestamptz,
  location text,
  event_type text not null default 'event',
  category text,
  status text not null default 'scheduled',
  reminder_minutes integer,
  recurrence_rule text,
  all_day boolean not null default false,
  timezone text not null default 'UTC',
  skipped timestamptz[] not null default '{}',
  external_id text,
  extra_data jsonb,
  series_end timestamptz,
  location_key text,
  reminded_until timestamptz,
  reminded timestamptz[] not null default '{}',
  reminded_at timestamptz[] not null default '{}',
  next_reminder_at timestamptz,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  deleted_at timestamptz,
  constraint events_pkey primary key (tenant_id, id),
  constraint events_user_id_fkey foreign key (tenant_id, user_id)
    references thea.users (tenant_id, id) on delete cascade,
  constraint events_end_datetime_check check (end_datetime >= start_datetime),
  constraint events_status_check check (status in ('scheduled', 'completed', 'cancelled')),
  constraint events_reminder_minutes_check check (reminder_minutes between 0 and 527040),
  constraint events_recurrence_rule_check check (char_length(recurrence_rule) <= 40000),
  constraint events_series_end_check check ((recurrence_rule is null) = (series_end is null))
);

create unique index events_external_id_key on thea.events (tenant_id, user_id, external_id)
  where external_id is not null;
comment on index thea.events_external_id_key is 'events.upsert_external';

create index events_start_datetime_idx on thea.events (tenant_id, user_id, start_datetime, id);
comment on index thea.events_start_datetime_idx is 'events.in_range, events.get_by_location';

-- Few events are longer than a day: of the past, a range reads only these.
create index events_long_idx on thea.events (tenant_id, user_id, start_datetime, id)
  where recurrence_rule is null and end_datetime - start_datetime >= interval '24 hours';
comment on index thea.events_long_idx is 'events.in_range';

create index events_series_end_idx on thea.events (tenant_id, user_id, series_end, id)
  where recurrence_rule is not null;
comment on index thea.events_series_end_idx is 'events.in_range';

create index events_category_idx on thea.events (tenant_id, user_id, category, start_datetime, id);
comment on index thea.events_category_idx is 'events.get_by_category';

create index events_next_reminder_at_idx on thea.events (tenant_id, next_reminder_at, id)
  where next_reminder_at is not null and status = 'scheduled' and deleted_at is null;
comment on index thea.events_next_reminder_at_idx is 'events.lock_due, work.tenants_with_work';

-- With what a count asks for, so that it need not read the rows.
create index events_created_at_idx on thea.events (tenant_id, created_at, id) include (deleted_at);
comment on index thea.events_created_at_idx is 'events.get_all+newest_first, events.get_all';

create index events_user_id_idx on thea.events (tenant_id, user_id, created_at, id) include (deleted_at);
comment on index thea.events_user_id_idx is 'events.get_all+user_id+newest_first, events.get_all+user_id';

-- A claim of a reminder is no change of the event.
select thea.protect('thea.events',
  quiet => array[
    'timezone', 'location_key', 'series_end', 'reminded_until', 'reminded', 'reminded_at', 'next_reminder_at'
  ],
  untouched => array[
    'timezone', 'location_key', 'series_end', 'reminded_until', 'reminded', 'reminded_at', 'next_reminder_at'
  ]
);

-- Make the user's event with this external id, or have it become what is given, as the query `events.upsert_external`
-- says it, which has locked the user. Without a user (null) it is refused, as a column of the row is missing. It has no
-- more rights than its caller. What comes back has types of its own, so that one of a column can change under services
-- that are at work.
create function thea.upsert_event(
  p_tenant text, p_user bigint, p_timezone text, p_external_id text, p_row jsonb, p_given text[]
) returns table (
  tenant_id text, id bigint, user_id bigint, title text, description text, start_datetime timestamptz,
  end_datetime timestamptz, location text, event_type text, category text, status text, reminder_minutes integer,
  recurrence_rule text, all_day boolean, skipped timestamptz[], external_id text, extra_data jsonb,
  created_at timestamptz, updated_at timestamptz, deleted_at timestamptz
)
  language plpgsql volatile rows 1
  set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  r record;
  there record;
begin
  select * into r
  from jsonb_to_record(p_row) as g (
    title text, description text, start_datetime timestamptz, end_datetime timestamptz, location text,
    event_type text, category text, status text, reminder_minutes integer, recurrence_rule text, all_day boolean,
    extra_data jsonb, location_key text, series_end timestamptz
  );
  select
    e.description, e.start_datetime, e.location, e.location_key, e.event_type, e.category, e.status,
    e.reminder_minutes, e.recurrence_rule, e.all_day, e.timezone, e.skipped, e.extra_data, e.reminded_until,
    e.reminded_at, e.next_reminder_at, e.created_at
    into there
  from thea.events e
  where e.tenant_id = p_tenant
    and e.user_id = p_user
    -- Two bounds and an order, which the key alone gives: for `=`, any index of the user's events looks as good.
    and e.external_id >= p_external_id
    and e.external_id <= p_external_id
  order by e.external_id
  for no key update;
  return query
    insert into thea.events as e (
      tenant_id, user_id, title, description, start_datetime, end_datetime, location, event_type, category, status,
      reminder_minutes, recurrence_rule, all_day, timezone, external_id, extra_data, location_key, series_end, skipped,
      reminded_until, next_reminder_at, created_at
    )
    values (
      p_tenant, p_user, r.title,
      case when 'description' = any (p_given) then r.description else there.description end,
      r.start_datetime, r.end_datetime,
      case when 'location' = any (p_given) then r.location else there.location end,
      case when 'event_type' = any (p_given) then r.event_type else coalesce(there.event_type, 'event') end,
      case when 'category' = any (p_given) then r.category else there.category end,
      case when 'status' = any (p_given) then r.status else coalesce(there.status, 'scheduled') end,
      case when 'reminder_minutes' = any (p_given) then r.reminder_minutes else there.reminder_minutes end,
      r.recurrence_rule, r.all_day,
      -- Who moved to another timezone keeps the instants of a series until its start is another.
      case
        when r.all_day or (there.start_datetime = r.start_datetime) is not true then coalesce(p_timezone, 'UTC')
        else there.timezone
      end,
      p_external_id,
      case when 'extra_data' = any (p_given) then r.extra_data else there.extra_data end,
      case when 'location' = any (p_given) then r.location_key else there.location_key end,
      case when r.recurrence_rule is not null then coalesce(r.series_end, 'infinity') end,
      case when there.start_datetime = r.start_datetime then there.skipped else '{}' end,
      -- A single event that moved is reminded of anew. Of all else that changed, what is still to come is looked at
      -- again; what was claimed of it stands in `reminded`.
      case
        when there.created_at is null then null
        when r.recurrence_rule is null and there.start_datetime <> r.start_datetime then null
        when row(there.start_datetime, there.recurrence_rule) is distinct from row(r.start_datetime, r.recurrence_rule)
          or 'reminder_minutes' = any (p_given) and there.reminder_minutes is distinct from r.reminder_minutes
            and there.reminded_until is not null
          then least(
            there.reminded_until, greatest(there.reminded_at[cardinality(there.reminded_at)], now())
          )
        else there.reminded_until
      end,
      case
        when there.created_at is null then r.start_datetime - make_interval(mins => r.reminder_minutes)
        when row(there.start_datetime, there.recurrence_rule, there.all_day)
          is not distinct from row(r.start_datetime, r.recurrence_rule, r.all_day)
          and (there.reminder_minutes is not distinct from r.reminder_minutes or 'reminder_minutes' <> all (p_given))
          then there.next_reminder_at
        else '-infinity'::timestamptz
      end,
      coalesce(there.created_at, now())
    )
    on conflict (tenant_id, user_id, external_id) where external_id is not null do update
    set title = excluded.title,
      description = excluded.description,
      start_datetime = excluded.start_datetime,
      end_datetime = excluded.end_datetime,
      location = excluded.location,
      location_key = excluded.location_key,
      event_type = excluded.event_type,
      category = excluded.category,
      status = excluded.status,
      reminder_minutes = excluded.reminder_minutes,
      recurrence_rule = excluded.recurrence_rule,
      all_day = excluded.all_day,
      timezone = excluded.timezone,
      skipped = excluded.skipped,
      extra_data = excluded.extra_data,
      series_end = excluded.series_end,
      reminded_until = excluded.reminded_until,
      next_reminder_at = excluded.next_reminder_at
    where e.deleted_at is null
      -- Not of one that was made since, which `there` did not see.
      and e.created_at = excluded.created_at
    returning
      e.tenant_id, e.id, e.user_id, e.title, e.description, e.start_datetime, e.end_datetime, e.location,
      e.event_type, e.category, e.status, e.reminder_minutes, e.recurrence_rule, e.all_day,
      e.skipped, e.external_id, e.extra_data, e.created_at, e.updated_at, e.deleted_at;
end
$$;

alter function thea.upsert_event(text, bigint, text, text, jsonb, text[]) owner to thea_owner;

revoke all on function thea.upsert_event(text, bigint, text, text, jsonb, text[]) from public;

grant execute on function thea.upsert_event(text, bigint, text, text, jsonb, text[]) to thea_app;

-- The midnight, in the new timezone, of the day that begins at this moment in the old one. Of a midnight that comes
-- twice it is the first, where PostgreSQL takes the second. It is as immutable as `at time zone`, and hours are taken
-- off in UTC, because a cluster takes nothing less in an update.
create function thea.same_day(midnight timestamptz, old_zone text, new_zone text) returns timestamptz
  language sql immutable set search_path = pg_catalog, pg_temp
begin atomic
  select case when e.earlier at time zone new_zone = o.day then e.earlier else d.midnight end
  from (select date_trunc('day', same_day.midnight at time zone old_zone)) as o (day)
  cross join lateral (select o.day at time zone new_zone) as d (midnight)
  cross join lateral (
    select ((d.midnight at time zone 'UTC') - interval '1 hour') at time zone 'UTC'
  ) as e (earlier);
end;

alter function thea.same_day(timestamptz, text, text) owner to thea_owner;

revoke all on function thea.same_day(timestamptz, text, text) from public;

grant execute on function thea.same_day(timestamptz, text, text) to thea_app;

-- Who moves to another timezone keeps the dates of events that last whole days. All other events keep their instants.
create function thea.keep_dates() returns trigger
  language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  -- Events that are brought in from elsewhere have their dates already.
  if current_user = 'thea_loader' then
    return null;
  end if;
  update thea.events e
  set start_datetime = thea.same_day(e.start_datetime, e.timezone, new.timezone),
    end_datetime = thea.same_day(e.end_datetime, e.timezone, new.timezone),
    skipped = array(
      select thea.same_day(s.start, e.timezone, new.timezone)
      from unnest(e.skipped) with ordinality as s (start, place)
      order by s.place
    ),
    reminded_until = thea.same_day(e.reminded_until, e.timezone, new.timezone),
    reminded = array(
      select thea.same_day(r.start, e.timezone, new.timezone)
      from unnest(e.reminded) with ordinality as r (start, place)
      order by r.place
    ),
    next_reminder_at = case when e.next_reminder_at is not null then '-infinity'::timestamptz end,
    timezone = new.timezone
  where e.tenant_id = new.tenant_id
    and e.user_id = new.id
    and e.all_day;
  return null;
end
$$;

alter function thea.keep_dates() owner to thea_owner;

revoke all on function thea.keep_dates() from public;

create trigger keep_dates after update of timezone on thea.users
  for each row when (old.timezone is distinct from new.timezone)
  execute function thea.keep_dates();
