-- depends: 0005.messages

-- Why: a user's calendar and its reminders. A recurring event is one row; its occurrences are
-- computed from `recurrence_rule` (RFC 5545) in the user's timezone.
--
-- `series_end` is a moment after the last occurrence of a recurring event, whatever the timezone
-- ('infinity': there may be no last one), so that a range is found without reading every rule.
--
-- `reminded_until` is the start of the last occurrence that somebody was reminded of, and
-- `next_reminder_at` a moment up to which no reminder is due: a claim looks at the event then, and
-- moves both on. So whoever changes an event need not know when it happens next, only when to look.

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
  external_id text,
  extra_data jsonb,
  series_end timestamptz,
  reminded_until timestamptz,
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
  constraint events_recurrence_rule_check check (char_length(recurrence_rule) <= 512),
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
comment on index thea.events_next_reminder_at_idx is 'events.lock_due';

create index events_created_at_idx on thea.events (tenant_id, created_at, id);
comment on index thea.events_created_at_idx is 'events.get_all_newest, events.get_all_oldest';

create index events_user_id_idx on thea.events (tenant_id, user_id, created_at, id);
comment on index thea.events_user_id_idx is 'events.get_all_of_user_newest, events.get_all_of_user_oldest';

-- A claim of a reminder is no change of the event.
select thea.protect('thea.events',
  quiet => array['series_end', 'reminded_until', 'next_reminder_at'],
  untouched => array['series_end', 'reminded_until', 'next_reminder_at']
);

-- In another timezone a recurring event may happen, and so remind, earlier than it was worked out.
create function thea.look_at_reminders_again() returns trigger
  language plpgsql set search_path = pg_catalog, pg_temp
as $$
begin
  update thea.events
  set next_reminder_at = '-infinity'
  where tenant_id = new.tenant_id
    and user_id = new.id
    and recurrence_rule is not null
    and next_reminder_at is not null;
  return null;
end
$$;

alter function thea.look_at_reminders_again() owner to thea_owner;

revoke all on function thea.look_at_reminders_again() from public;

create trigger look_at_reminders_again after update of timezone on thea.users
  for each row when (old.timezone is distinct from new.timezone)
  execute function thea.look_at_reminders_again();
