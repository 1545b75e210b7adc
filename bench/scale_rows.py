"""Rows for `scale.py`, made by the server itself: as many as are asked for, over tenants of very unequal size.

A tenant's part goes down as 1/n (Zipf). Each user has, on average, a hundred messages in two conversations, ten notes
and ten events, whatever the size of the whole, so that a call about a user finds as much in each database. The rows of
all tenants are mixed, in the order of time, over one year.
"""

from __future__ import annotations

import psycopg
from indexes import built_afterwards

__all__ = ["WORD", "build"]

MESSAGES_OF_A_USER, CONVERSATIONS_OF_A_USER, OTHERS_OF_A_USER = 100, 2, 10
WORD = "palabra7"
"""A word that one note in twenty has."""

# What a row gets is drawn by its number, so that every build is the same.
_HELPERS = """
set session_replication_role = replica;
set maintenance_work_mem = '1GB';
set work_mem = '256MB';

create function pg_temp.draw(n bigint, salt bigint) returns double precision language sql immutable
  return (hashint8extended(n, salt) & 1048575) / 1048576.0;

create function pg_temp.pick(n bigint, salt bigint, choice text[]) returns text language sql immutable
  return choice[1 + floor(pg_temp.draw(n, salt) * cardinality(choice))];

-- Over the last year; `place` is between 0 and 1.
create function pg_temp.moment(place double precision) returns timestamptz language sql stable
  return now() - interval '1 year' * (1 - place);
"""

_PEOPLE = """
create temporary table people as
select u as id, 'tenant-' || 1 + width_bucket(pg_temp.draw(u, 1), s.upto) as tenant_id
from generate_series(1, {users}) u,
  (
    select array_agg(part order by n) as upto
    from (
      select n, sum(1.0 / n) over (order by n) / sum(1.0 / n) over () as part from generate_series(1, {tenants}) n
    ) parts
    where n < {tenants}
  ) s;

insert into thea.users (
  tenant_id, id, telegram_id, username, first_name, language_code, timezone, preferences, last_activity, created_at
)
overriding system value
select
  tenant_id, id, 1000000 + id, 'user_' || id, 'Ana', pg_temp.pick(id, 2, '{{es,es,en}}'), 'Europe/Madrid',
  '{{"theme": "dark"}}', pg_temp.moment(pg_temp.draw(id, 3)), pg_temp.moment(id::float8 / {users})
from people;

insert into thea.conversations (
  tenant_id, id, user_id, session_id, current_state, context_data, is_active, last_activity, last_message_at, created_at
)
overriding system value
select
  p.tenant_id, c, p.id, 'session-' || c, pg_temp.pick(c, 10, '{{idle,idle,waiting}}'), '{{"step": "date"}}', c % 10 = 2,
  pg_temp.moment(pg_temp.draw(c, 11)), now(), pg_temp.moment(c::float8 / {conversations})
from generate_series(1, {conversations}) c
join people p on p.id = 1 + c % {users}
order by c;

insert into thea.message_history (
  tenant_id, id, user_id, conversation_id, message_id, user_message, bot_response, intent_detected, entities_extracted,
  confidence_score, processing_time_ms, created_at, deleted_at
)
overriding system value
select
  p.tenant_id, m, p.id, c, m, 'Recuérdame mañana a las diez lo del dentista, por favor.',
  'Hecho: dentista, mañana a las 10:00. Te aviso una hora antes.',
  pg_temp.pick(m, 20, '{{create_event,create_event,list_events,create_note,search,greet}}'), '{{"title": "dentista"}}',
  pg_temp.draw(m, 21), floor(2000 * pg_temp.draw(m, 22) ^ 4), pg_temp.moment(m::float8 / {messages}),
  case when m % 50 = 6 then now() end
from generate_series(1, {messages}) m
cross join lateral (select 1 + floor({conversations} * pg_temp.draw(m, 23))::bigint as c) d
join people p on p.id = 1 + c % {users};

insert into thea.events (
  tenant_id, id, user_id, title, start_datetime, end_datetime, location, location_key, event_type, category, status,
  reminder_minutes, recurrence_rule, external_id, series_end, next_reminder_at, created_at, deleted_at
)
overriding system value
select
  p.tenant_id, e, p.id, 'Dentista', starts, starts + interval '1 hour', 'Calle ' || e % 50, 'calle ' || e % 50,
  'event', pg_temp.pick(e, 30, '{{trabajo,casa,salud,ocio,viajes}}'),
  pg_temp.pick(e, 31, '{{scheduled,scheduled,completed}}'), case when e % 3 = 0 then 30 end,
  case when e % 33 = 4 then 'FREQ=WEEKLY' end, 'cal-' || e, case when e % 33 = 4 then 'infinity'::timestamptz end,
  case when e % 3 = 0 and starts > now() then starts - interval '30 minutes' end,
  pg_temp.moment(e::float8 / {others}), case when e % 50 = 6 then now() end
from generate_series(1, {others}) e
join people p on p.id = 1 + floor({users} * pg_temp.draw(e, 32))::bigint
cross join lateral (select pg_temp.moment(e::float8 / {others}) + interval '60 days' * pg_temp.draw(e, 33) as starts) w;

-- A vector is dear: each of a thousand texts has its words made once, for nobody, and whom they belong to is put in
-- afterwards.
create temporary table texts as
select place, content, tags, thea.note_vector('', 0, 'Lista', tags, content)::text as vector
from (
  select
    n as place,
    (
      select string_agg('palabra' || floor(20000 * pg_temp.draw(n * 100 + m, 40) ^ 3), ' ')
      from generate_series(1, 12) m
    ) || case when n % 20 = 0 then ' {word}' else '' end as content,
    array['tag' || n % 20, 'tag' || 20 + n % 7] as tags
  from generate_series(0, 999) n
) t;

insert into thea.notes (
  tenant_id, id, user_id, title, content, category, tags, is_pinned, reminder_datetime, next_reminder_at,
  search_vector, created_at, deleted_at
)
overriding system value
select
  p.tenant_id, n, p.id, 'Lista', t.content, pg_temp.pick(n, 41, '{{trabajo,casa,salud,ocio,viajes}}'), t.tags,
  n % 50 = 1, w.reminds, case when w.reminds > now() then w.reminds end,
  replace(t.vector, thea.note_scope('', 0), thea.note_scope(p.tenant_id, p.id))::tsvector,
  pg_temp.moment(n::float8 / {others}), case when n % 50 = 6 then now() end
from generate_series(1, {others}) n
join people p on p.id = 1 + floor({users} * pg_temp.draw(n, 42))::bigint
join texts t on t.place = floor(1000 * pg_temp.draw(n, 43))
cross join lateral (
  select case when n % 3 = 0 then pg_temp.moment(n::float8 / {others}) + interval '60 days' * pg_temp.draw(n, 44) end
) w (reminds)
order by n;

insert into thea.audit_log (tenant_id, id, at, actor, table_name, row_id, action, after, subject_id)
select
  tenant_id, md5(id::text)::uuid, created_at, case when id % 7 > 0 then 'bot' end, 'notes', id, 'insert',
  '{{"title": "Lista"}}', user_id
from thea.notes
order by id
"""


def build(superuser_url: str, messages: int, tenants: int) -> None:
    """Fill a migrated database with so many messages, a tenth as many notes, events and audit entries, and users."""
    users = messages // MESSAGES_OF_A_USER
    fill = _PEOPLE.format(
        users=users,
        tenants=tenants,
        conversations=users * CONVERSATIONS_OF_A_USER,
        messages=messages,
        others=users * OTHERS_OF_A_USER,
        word=WORD,
    )
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        connection.execute(_HELPERS.encode())
        with built_afterwards(connection, ["conversations", "message_history", "events", "notes", "audit_log"]):
            for statement in fill.split(";\n\n"):
                connection.execute(statement.encode())
        for table in ("users", "conversations", "message_history", "events", "notes"):
            connection.execute(f"select setval('thea.{table}_id_seq', (select max(id) from thea.{table}))".encode())
        connection.execute("vacuum (analyze, freeze)")
        # As a worker leaves it: all that is two hours old is counted.
        connection.execute("set session_replication_role = origin")
        for (tenant,) in connection.execute("select distinct tenant_id from thea.users").fetchall():
            while connection.execute("select thea.fold_messages(%s)", [tenant]).fetchone() == (True,):
                pass
        connection.execute("vacuum analyze thea.message_counts, thea.message_folds")
