"""Pages have the one plan that the server keeps for all values, and nothing else of their session has."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from thea_store import Settings, Store
from thea_store.database.connection import Connection
from thea_store.store import SQL_FILES
from thea_store.testing import TestDatabase

# More than a server plans anew before it compares.
CALLS = 7


@pytest_asyncio.fixture(params=["session", "transaction"])
async def store(thea_database: TestDatabase, request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    settings = Settings(url=thea_database.app_url, pool_size=1, max_overflow=0, tenant_scope=request.param)
    async with Store.open(settings) as store:
        yield store


def connection_of(store: Store) -> Connection:
    (connection,) = store._database._pool._open
    return connection


async def plans(store: Store, query: str) -> tuple[int, int]:
    """How often a query ran by the plan that is kept, and by one of its own."""
    row = await connection_of(store).raw.fetchrow(
        "select generic_plans, custom_plans from pg_prepared_statements where statement like $1", f"%/* {query} */"
    )
    assert row is not None
    return row["generic_plans"], row["custom_plans"]


async def test_a_page_is_not_planned_anew(store: Store, tenant: str) -> None:
    user = await store.users.create(tenant, telegram_id=1)
    for number in range(CALLS):
        await store.notes.create(tenant, user.id, f"note {number}")
    for cursor in [None, *[(await store.notes.get_all(tenant, limit=2)).next_cursor] * CALLS]:
        await store.notes.get_all(tenant, limit=2, cursor=cursor)
        await store.notes.get_all(tenant, user_id=user.id, limit=2)

    assert await plans(store, "notes.get_all+newest_first") == (2 + CALLS, 0)
    assert await plans(store, "notes.get_all+user_id+newest_first") == (1 + CALLS, 0)
    assert await connection_of(store).raw.fetchval("show plan_cache_mode") == "auto"


async def test_a_page_whose_filter_decides_on_the_plan_is_planned_for_it(store: Store, tenant: str) -> None:
    await store.notes.get_all(tenant, tags=["rare"])
    await store.notes.get_all(tenant, category="rare")
    await store.users.count(tenant)

    assert await plans(store, "notes.get_all+newest_first") == (0, 1)
    assert await plans(store, "notes.get_all+category+newest_first") == (0, 1)
    assert await plans(store, "users.count") == (0, 1)


def test_every_aggregate_has_such_a_page() -> None:
    aggregates = {"users", "conversations", "messages", "notes", "events", "audit"}
    pages = {query.name for file in SQL_FILES for query in file.written if query.one_plan}

    assert pages == {f"{name}.get_all" for name in aggregates}
