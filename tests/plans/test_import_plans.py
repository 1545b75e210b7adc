"""The import's statement looks each exchange up by its key, whatever the statistics say of the tenant.

An import makes a tenant large before anything analyzes the table: its statistics then say that the tenant has no rows.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from tests.plans.explain import Planner, open_planner
from thea_store.assistant.messages import IMPORT_MANY
from thea_store.testing import TestDatabase

TENANT = "imported"
STORED, GIVEN = 3000, 50

# The statistics are of three other tenants, and are made before this one has its rows.
_FILL = f"""
set session_replication_role = replica;
insert into thea.users (tenant_id, id, telegram_id) overriding system value values ('{TENANT}', 1, 1);
insert into thea.conversations (tenant_id, id, user_id, session_id) overriding system value
values ('{TENANT}', 1, 1, 's');
insert into thea.message_history (tenant_id, user_id, conversation_id, message_id, user_message)
select 'other-' || n % 3, 1, 1, n, 'Hola' from generate_series(1, 9000) n;
alter table thea.message_history set (autovacuum_enabled = off);
analyze thea.users, thea.conversations, thea.message_history;
insert into thea.message_history (tenant_id, user_id, conversation_id, message_id, user_message)
select '{TENANT}', 1, 1, n, 'Hola' from generate_series(1, {STORED}) n;
"""


@pytest_asyncio.fixture(scope="module")
async def planner(thea_new_database: Callable[..., TestDatabase]) -> AsyncIterator[Planner]:
    database = thea_new_database()
    with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
        superuser.execute(_FILL.encode())
    async with open_planner(database) as planner:
        yield planner


def _rows(first: int) -> list[dict[str, Any]]:
    """Exchanges with an answer, of a conversation whose stored messages have none."""
    return [
        {
            "conversation_id": 1,
            "message_id": number,
            "user_message": "Hola",
            "bot_response": "Buenos días",
            "answer_ids": [number],
            "created_at": datetime(2026, 1, 1, tzinfo=UTC),
        }
        for number in range(first, first + GIVEN)
    ]


@pytest.mark.parametrize("mode", ["custom", "generic"])
@pytest.mark.parametrize("first", [1, STORED - GIVEN // 2, STORED + 1], ids=["all stored", "half stored", "all new"])
async def test_an_import_reads_only_what_it_is_given(planner: Planner, mode: Any, first: int) -> None:
    plans = await planner.explain(IMPORT_MANY, TENANT, {"rows": _rows(first)}, mode)

    own = next(plan for plan in plans if plan.statement == IMPORT_MANY.text)
    assert own.returned == GIVEN
    assert own.read <= 3 * GIVEN, f"{own.read:.0f} rows are read for {GIVEN}, by {own.indexes}"
