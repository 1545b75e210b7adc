"""A database of unequal tenants: one with about a million rows, and a thousand with some fifty each.

Inside the large one, too, nothing is even: one user has a fifth of everything, one conversation has twenty thousand
messages, most users have a handful of rows, and some words, tags and categories are common where others are rare.
Rows are numbered in the order of time, and their tenants are mixed, as they come in a table that many write to.
"""

from __future__ import annotations

import psycopg

__all__ = ["BIG", "GONE", "HEAVY", "HIDDEN", "LIGHT", "MIDDLE", "SMALL", "SMALL_USER", "build"]

BIG, SMALL = "big", "small-500"
HEAVY, LIGHT, GONE, MIDDLE, SMALL_USER = 1, 2, 3, 4, 30_000
"""Users by their id: with very many rows, with a handful, deleted with some hundreds; and one of the small tenant."""
HIDDEN = 2500
"""More than the deleted user has deleted rows in all tables, or the heavy user's first deleted conversation."""

_USERS, _CONVERSATIONS, _MESSAGES, _EVENTS, _NOTES, _ENTRIES = 60_000, 105_000, 530_000, 160_000, 210_000, 160_000
_CERTIFICATES = 20_000

# Every twentieth row belongs to a small tenant, of whose users two have them all. What a row gets is drawn by its
# number, so that every build is the same.
_HELPERS = """
create function pg_temp.tenant(n bigint) returns text language sql immutable
  return case when n % 20 = 0 then 'small-' || n / 20 % 1000 else 'big' end;

create function pg_temp.draw(n bigint, salt bigint) returns double precision language sql immutable
  return (hashint8extended(n, salt) & 1048575) / 1048576.0;

create function pg_temp.pick(n bigint, salt bigint, choice text[]) returns text language sql immutable
  return choice[1 + floor(pg_temp.draw(n, salt) * cardinality(choice))];

-- The number of the large tenant's row number k.
create function pg_temp.big(k double precision) returns bigint language sql immutable
  return floor(k)::bigint + floor(k)::bigint / 19 + 1;

-- The user of a row; the first ones have more than those who came later.
create function pg_temp.person(n bigint) returns bigint language sql immutable
  return case
    when n % 20 = 0 then 20 * (n / 20 % 1000 + 1000 * (1 + n / 20000 % 2))
    when n % 5 = 1 then 1
    when n % 50000 = 2 then 2
    when n % 400 = 18 then 3
    when n % 1000 = 12 then 4
    else pg_temp.big(10 + 56900 * pg_temp.draw(n, 1) ^ 2)
  end;

-- The conversation of a message.
create function pg_temp.session(n bigint) returns bigint language sql immutable
  return case
    when n % 20 = 0 then 20 * (n / 20 % 1000 + 1000 * (1 + n / 20000 % 4))
    when n % 25 = 1 then 1
    when n % 500 = 2 then 116
    when n % 500 = 3 then 12
    else pg_temp.big(99700 * pg_temp.draw(n, 2))
  end;

-- Over the last year; `place` is between 0 and 1.
create function pg_temp.moment(place double precision) returns timestamptz language sql stable
  return now() - interval '1 year' * (1 - place);
"""

_USERS_SQL = f"""
insert into thea.users (
  tenant_id, id, telegram_id, username, first_name, language_code, timezone, is_active, preferences, last_activity,
  created_at, deleted_at
)
overriding system value
select
  pg_temp.tenant(n), n, 1000000 + n, 'user_' || n, 'Ana',
  case when n % 10000 = 12 then 'eu' else pg_temp.pick(n, 10, '{{es,es,es,en,en,pt}}') end,
  pg_temp.pick(n, 11, '{{Europe/Madrid,America/Lima,UTC}}'), n % 20 <> 9, '{{"theme": "dark"}}',
  case when n % 3 > 0 then pg_temp.moment(greatest(n::float8 / {_USERS}, pg_temp.draw(n, 12))) end,
  pg_temp.moment(n::float8 / {_USERS}), case when n = 3 or n % 50 = 17 then now() end
from generate_series(1, {_USERS}) n
"""

_CONVERSATIONS_SQL = f"""
insert into thea.conversations (
  tenant_id, id, user_id, session_id, current_state, context_data, last_message_id, is_active, started_at,
  last_activity, created_at, deleted_at, deleted_with
)
overriding system value
select
  pg_temp.tenant(n), n, pg_temp.person(n), 'session-' || n || ':' || pg_temp.person(n),
  case when n % 10000 = 11 then 'handed_over' else pg_temp.pick(n, 20, '{{idle,idle,idle,waiting}}') end,
  '{{"step": "date"}}', n, n = 1 or n % 10 = 2, pg_temp.moment(n::float8 / {_CONVERSATIONS}),
  pg_temp.moment(greatest(n::float8 / {_CONVERSATIONS}, pg_temp.draw(n, 21))),
  pg_temp.moment(n::float8 / {_CONVERSATIONS}),
  case when n % 37 = 5 or pg_temp.person(n) = 3 then now() end,
  case when pg_temp.person(n) = 3 then 'users' end
from generate_series(1, {_CONVERSATIONS}) n
"""

_MESSAGES_SQL = f"""
insert into thea.message_history (
  tenant_id, id, user_id, conversation_id, message_id, user_message, bot_response, answer_ids, intent_detected,
  entities_extracted, confidence_score, processing_time_ms, created_at, deleted_at, deleted_with
)
overriding system value
select
  pg_temp.tenant(n), n, u, c, case when n % 2 = 0 or n % 50 = 1 then n end,
  'Recuérdame mañana a las diez lo del dentista, por favor.', 'Hecho: dentista, mañana a las 10:00.',
  -- Of the conversation with very many: answers alone, and others to messages.
  case n % 50 when 1 then array[n] when 26 then array[n + 1] end,
  case
    when n % 50000 = 26 then 'complaint'
    when n % 10 <> 4 then pg_temp.pick(n, 30, '{{create_event,create_event,list_events,create_note,search,greet}}')
  end,
  '{{"title": "dentista"}}', pg_temp.draw(n, 31), floor(2000 * pg_temp.draw(n, 32) ^ 4),
  pg_temp.moment(n::float8 / {_MESSAGES}),
  case when n % 41 = 6 or c % 37 = 5 or u = 3 then now() end,
  case when u = 3 then 'users' when c % 37 = 5 then 'conversations' end
from generate_series(1, {_MESSAGES}) n, pg_temp.session(n) c, pg_temp.person(c) u
"""

_EVENTS_SQL = f"""
insert into thea.events (
  tenant_id, id, user_id, title, start_datetime, end_datetime, location, location_key, event_type, category, status,
  reminder_minutes, recurrence_rule, external_id, series_end, next_reminder_at, created_at, deleted_at, deleted_with
)
overriding system value
select
  pg_temp.tenant(n), n, u, 'Dentista', starts,
  case when n % 200 = 9 then starts + interval '5 days' when n % 10 <> 8 then starts + interval '1 hour' end,
  case when n % 2 = 1 then 'Calle ' || n / 2 % 50 end,
  case when n % 2 = 1 then 'calle ' || n / 2 % 50 end,
  case when n % 20000 = 16 then 'visit' else pg_temp.pick(n, 40, '{{event,event,meeting,call}}') end,
  case when n % 20000 = 11 then 'visado' else pg_temp.pick(n, 41, '{{trabajo,casa,salud,ocio,viajes}}') end,
  pg_temp.pick(n, 42, '{{scheduled,scheduled,scheduled,completed,cancelled}}'),
  case when n % 3 = 0 then 30 end,
  case when n % 33 = 4 then 'FREQ=WEEKLY' end,
  case when n % 2 = 0 then 'cal-' || n end,
  case when n % 33 = 4 then case when n % 2 = 0 then 'infinity' else starts + interval '100 days' end end,
  case when n % 3 = 0 and (starts > now() or n % 100 = 33) then starts - interval '30 minutes' end,
  pg_temp.moment(n::float8 / {_EVENTS}),
  case when n % 37 = 5 or u = 3 then now() end, case when u = 3 then 'users' end
from generate_series(1, {_EVENTS}) n, pg_temp.person(n) u,
  (select pg_temp.moment(1)) today (now_),
  lateral (select pg_temp.moment(n::float8 / {_EVENTS}) + interval '90 days' * pg_temp.draw(n, 43)) when_ (starts)
"""

# A thousand texts, of which each note has one. A vector is dear: each text's is made once, for nobody, and whom
# every lexeme begins with is put in afterwards.
_NOTES_SQL = f"""
create temporary table texts as
select place, title, content, tags, thea.note_vector('', 0, title, tags, content)::text as vector
from (
  select
    n as place,
    initcap(pg_temp.pick(n, 50, '{{lista,ideas,pendientes,compras,viaje}}')) as title,
    (
      select string_agg(
        'palabra' || floor(20000 * pg_temp.draw(n * 100 + m, 51) ^ 3),
        ' ' order by m
      )
      from generate_series(1, 12) m
    ) || case when n % 2 = 0 then ' importante' when n = 7 then ' ornitorrinco' else '' end as content,
    array(
      select distinct case when n = 7 then 'pasaporte' else 'tag' || floor(20 * pg_temp.draw(n * 100 + m, 52) ^ 2) end
      from generate_series(1, n % 4) m
    ) as tags
  from generate_series(0, 999) n
) t;

insert into thea.notes (
  tenant_id, id, user_id, title, content, category, priority, tags, is_pinned, reminder_datetime, next_reminder_at,
  search_vector, created_at, deleted_at, deleted_with
)
overriding system value
select
  pg_temp.tenant(n), n, u, t.title, t.content,
  case when n % 20000 = 11 then 'visado' else pg_temp.pick(n, 53, '{{trabajo,casa,salud,ocio,viajes}}') end,
  n % 3, t.tags, n % 50 = 1, reminds, case when n % 100 = 33 or reminds > now() then reminds end,
  replace(t.vector, thea.note_scope('', 0), thea.note_scope(pg_temp.tenant(n), u))::tsvector,
  pg_temp.moment(n::float8 / {_NOTES}),
  case when n % 37 = 5 or u = 3 then now() end, case when u = 3 then 'users' end
from generate_series(1, {_NOTES}) n
cross join lateral pg_temp.person(n) u
cross join lateral (
  select case when n % 3 = 0 then pg_temp.moment(n::float8 / {_NOTES}) + interval '30 days' * pg_temp.draw(n, 55) end
) r (reminds)
join texts t on t.place = case when n % 20000 = 11 then 7 else floor(1000 * pg_temp.draw(n, 54)) end
order by n
"""

_ENTRIES_SQL = f"""
insert into thea.audit_log (tenant_id, id, at, actor, request_id, table_name, row_id, action, after, subject_id)
select
  pg_temp.tenant(n), md5(n::text)::uuid, pg_temp.moment(n::float8 / {_ENTRIES}),
  case when n % 20000 = 11 then 'operator' else pg_temp.pick(n, 60, '{{bot,bot,api,NULL}}') end, null,
  case
    when n % 20000 = 11 then 'users'
    else pg_temp.pick(n, 61, '{{message_history,message_history,message_history,notes,events,conversations}}')
  end,
  case when n % 20000 = 11 then 1 else pg_temp.big(30000 * pg_temp.draw(n, 62) ^ 2) end,
  pg_temp.pick(n, 63, '{{insert,update,update,delete}}'), '{{"a": 1}}', pg_temp.person(n)
from generate_series(1, {_ENTRIES}) n
"""

_CERTIFICATES_SQL = f"""
insert into thea.compliance_log (tenant_id, at, action, subject_id, reason, details, place, hash)
select
  pg_temp.tenant(n), pg_temp.moment(n::float8 / {_CERTIFICATES}), 'erase user', pg_temp.person(n), 'carta',
  '{{"counts": {{}}, "counts_of_others": {{}}, "redacted": 0}}', n, sha256(int8send(n))
from generate_series(1, {_CERTIFICATES}) n
"""

# Past the trigger that would have plain texts refused from then on.
_KEYS_SQL = """
insert into thea.encryption_keys (tenant_id, version, wrapped)
select t.tenant, v.version, sha256(convert_to(t.tenant, 'UTF8'))
from (select 'big' union all select 'small-' || n from generate_series(0, 999) n) t (tenant)
cross join generate_series(1, 3) v (version)
"""


# As a worker leaves them, of every tenant.
_SUMS_SQL = """
insert into thea.message_counts (
  tenant_id, at, folded, intent, messages, confidences, confidence_sum, times, time_sum
)
select tenant_id, date_trunc('day', created_at, 'UTC'), true, intent_detected, count(*), count(confidence_score),
  sum((confidence_score * 1e11)::bigint), count(processing_time_ms), sum(processing_time_ms)
from thea.message_history
where deleted_at is null
  and created_at < now() - interval '2 hours'
group by 1, 2, 4
"""

_FOLDS_SQL = """
insert into thea.message_folds (tenant_id, until)
select distinct tenant_id, now() - interval '2 hours'
from thea.message_history
"""


def build(superuser_url: str) -> None:
    """Fill a migrated database, without triggers; about forty seconds."""
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        index = connection.execute(
            "select pg_get_indexdef(oid), format('comment on index thea.%I is %L', relname, obj_description(oid))"
            " from pg_class where oid = 'thea.notes_search_vector_idx'::regclass"
        ).fetchone()
        assert index is not None
        connection.execute("set session_replication_role = replica; set maintenance_work_mem = '512MB'")
        connection.execute("set work_mem = '128MB'; set max_parallel_workers_per_gather = 0")
        connection.execute("drop index if exists thea.notes_search_vector_idx")
        for script in (
            _HELPERS,
            _USERS_SQL,
            _CONVERSATIONS_SQL,
            _MESSAGES_SQL,
            _EVENTS_SQL,
            _NOTES_SQL,
            _ENTRIES_SQL,
            _CERTIFICATES_SQL,
            _SUMS_SQL,
            _FOLDS_SQL,
            _KEYS_SQL,
            *index,
        ):
            connection.execute(script.encode())
        for table in ("users", "conversations", "message_history", "events", "notes"):
            connection.execute(f"select setval('thea.{table}_id_seq', (select max(id) from thea.{table}))".encode())
        connection.execute("vacuum analyze")
