"""Three tenants of one database, with about 10, 600 and 20,000 rows in each table; a hundredth is one user's."""

from __future__ import annotations

import psycopg

from tests.support.calls import NOW, Ground, prepare
from thea_store import Settings, Store
from thea_store.testing import TestDatabase

__all__ = ["SIZES", "fill"]

SIZES = {"small": 10, "middle": 600, "large": 20_000}

# The rows that the calls are about have the text of the ground, and belong to its user and conversation.
_FILL = """
set session_replication_role = replica;
insert into thea.users (tenant_id, telegram_id, first_name, language_code, preferences, last_activity, created_at)
select '{tenant}', n, 'Ana', 'es', '{{"theme": "dark"}}', '{now}'::timestamptz - interval '1 minute' * n,
  '{now}'::timestamptz - interval '1 minute' * n
from generate_series(1, {rows} / 20 + 1) n;
create temporary table person on commit drop as
select n, case when n % 100 = 0 then {user} else u.id end as user_id
from generate_series(1, {rows}) n
join (
  select id, row_number() over (order by id) - 1 as place, count(*) over () as people
  from thea.users where tenant_id = '{tenant}'
) u on u.place = n % u.people;
insert into thea.conversations (
  tenant_id, user_id, session_id, current_state, context_data, is_active, last_activity, created_at
)
select '{tenant}', user_id, 's-' || n, 'idle', '{{}}', n % 4 = 0, '{now}'::timestamptz - interval '1 minute' * n,
  '{now}'::timestamptz - interval '1 minute' * n
from person;
insert into thea.message_history (
  tenant_id, user_id, conversation_id, message_id, user_message, bot_response, intent_detected, confidence_score,
  processing_time_ms, created_at
)
select '{tenant}', user_id, case when n % 100 = 0 then {conversation} else 0 end, n,
  'Recuérdame mañana lo del dentista.', 'Hecho.',
  case when n % 200 = 0 then '{text}' else 'greet' end, 0.9, n % 2000, '{now}'::timestamptz - interval '1 minute' * n
from person;
insert into thea.events (
  tenant_id, user_id, title, start_datetime, end_datetime, category, external_id, reminder_minutes, next_reminder_at,
  created_at
)
select '{tenant}', user_id, 'Dentista', '{now}'::timestamptz + interval '1 hour' * (n - {rows} / 2),
  '{now}'::timestamptz + interval '1 hour' * (n - {rows} / 2 + 1), case when n % 200 = 0 then '{text}' else 'casa' end,
  'e-' || n, 10, '{now}'::timestamptz + interval '1 hour' * (n - {rows} / 2) - interval '10 minutes',
  '{now}'::timestamptz - interval '1 minute' * n
from person;
insert into thea.notes (tenant_id, user_id, content, category, tags, search_vector, created_at)
select '{tenant}', user_id, 'Comprar ' || case when n % 200 = 0 then '{text}' else 'leche' end,
  case when n % 200 = 0 then '{text}' else 'casa' end, array[case when n % 200 = 0 then '{text}' else 'compra' end],
  case
    when n % 100 = 0
      then thea.note_vector('{tenant}', user_id, null, '{{}}', case when n % 200 = 0 then '{text}' else 'leche' end)
    else ''
  end,
  '{now}'::timestamptz - interval '1 minute' * n
from person;
"""


async def fill(database: TestDatabase) -> dict[str, Ground]:
    """The tenants by their size, each with what the calls are about."""
    async with Store.open(Settings(url=database.app_url, pool_size=1)) as store:
        grounds = {size: await prepare(store, size) for size in SIZES}
    with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
        for size, ground in grounds.items():
            statements = _FILL.format(
                tenant=size,
                rows=SIZES[size],
                now=NOW.isoformat(),
                text=ground.text,
                user=ground.live["users"],
                conversation=ground.live["conversations"],
            )
            with superuser.transaction():
                superuser.execute(statements.encode())
        superuser.execute("vacuum analyze")
    return grounds
