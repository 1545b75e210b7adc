"""The plan of a slow query, in the log."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any, Literal

import pytest

from tests.support.patience import let_calls_wait
from thea_store import PoolTimeoutError, Settings, Store
from thea_store.store import SQL_FILES
from thea_store.telemetry.calls import Watch
from thea_store.telemetry.plans import SlowPlans
from thea_store.testing import TestDatabase

SECRET = "hunter2"


def plans(caplog: pytest.LogCaptureFixture) -> dict[str, str]:
    records = [record for record in caplog.records if record.name == "thea_store.plans"]
    return {vars(record)["query"]: vars(record).get("plan", record.getMessage()) for record in records}


async def recorded(store: Store) -> None:
    """Wait until the plan that is under way is in the log."""
    task = store._database._plans._task
    assert task
    await task


@pytest.fixture(params=["session", "transaction"])
async def slow_store(thea_database: TestDatabase, request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    scope: Literal["session", "transaction"] = request.param
    settings = Settings(url=thea_database.app_url, pool_size=2, max_overflow=0, slow_query_ms=0, tenant_scope=scope)
    async with Store.open(settings) as store:
        await recorded(store)  # open asks for the limits of calls
        yield store


async def test_a_slow_query_has_its_generic_plan_logged_once_an_hour_without_a_value(
    slow_store: Store, tenant: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.clear()
    for _ in range(3):
        await slow_store.notes.search(tenant, 424242, SECRET)
        await recorded(slow_store)

    [(query, plan)] = plans(caplog).items()
    assert query == "notes.search"
    assert len([record for record in caplog.records if record.name == "thea_store.plans"]) == 1
    assert "$1" in plan
    assert not any(word in plan for word in (tenant, SECRET, "424242"))


async def test_an_hour_later_the_plan_is_logged_again(store: Store, tenant: str) -> None:
    asked: list[str] = []

    async def explain(query: Any, _: str) -> str | None:
        asked.append(query.name)
        return "plan"

    [query] = [query for file in SQL_FILES for query in file.claimed if query.name == "users.exists"]
    slow = SlowPlans(explain, every=0)
    for _ in range(2):
        slow.consider(store.observer.watch(query.name, tenant, query))
        assert slow._task
        await slow._task

    assert asked == ["users.exists"] * 2


async def test_the_connection_is_as_it_was_before(slow_store: Store, tenant: str) -> None:
    """Neither a prepared statement nor a transaction nor a setting stays."""
    await slow_store.users.count(tenant)
    await recorded(slow_store)

    for connection in list(slow_store._database._pool._idle):
        left = await connection.raw.fetchrow(
            "select (select count(*) from pg_prepared_statements where name = 'thea_plan') as statements, "
            "current_setting('plan_cache_mode') as mode, coalesce(current_setting('app.tenant_id', true), '') as tenant"
        )
        assert left
        assert (left["statements"], left["mode"]) == (0, "auto")
        assert left["tenant"] == (connection.tenant or "")
        assert not connection.raw.is_in_transaction()


async def test_no_plan_is_asked_for_while_all_connections_are_in_use(
    thea_database: TestDatabase, tenant: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(url=thea_database.app_url, pool_size=1, max_overflow=0, slow_query_ms=0)
    async with Store.open(settings) as store:
        async with store.transaction(tenant) as tx:
            await tx.users.count(tenant)
            await recorded(store)
            assert plans(caplog) == {}
        await store.users.count(tenant)
        await recorded(store)

    assert list(plans(caplog)) == ["users.count"]


@pytest.mark.slow
async def test_every_query_of_the_library_has_a_generic_plan(store: Store, tenant: str) -> None:
    for file in SQL_FILES:
        for claimed in file.claimed:
            for query in claimed.each:
                plan = await store._database._explain(query, tenant)
                assert "cost=" in (plan or "") or query.text.startswith("discard plans"), query.name


async def test_a_call_that_waited_for_a_connection_in_vain_asks_for_no_plan(
    thea_database: TestDatabase, tenant: str
) -> None:
    async with Store.open(Settings(url=thea_database.app_url, pool_size=1, max_overflow=0, slow_query_ms=40)) as store:
        let_calls_wait(store._database._pool, 0.05)  # not before: a store that opens waits as long, too
        asked: list[Watch] = []
        store.observer.on_slow = asked.append
        async with store.transaction(tenant):
            with pytest.raises(PoolTimeoutError):
                await store.users.count(tenant)
        assert "users.count" not in [watch.query for watch in asked]


async def test_a_plan_that_cannot_be_had_is_said_and_harms_nobody(
    thea_database: TestDatabase, tenant: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = Settings(url=thea_database.app_url, pool_size=1, max_overflow=0, slow_query_ms=0)
    async with Store.open(settings) as store:
        await next(iter(store._database._pool._idle)).raw.execute("prepare thea_plan as select 1")
        with caplog.at_level(logging.WARNING):
            await store.users.count(tenant)
            await recorded(store)
            assert await store.users.count(tenant) == 0

    assert plans(caplog)["users.count"].startswith("no plan of users.count")


async def test_a_store_closes_while_a_plan_is_under_way(thea_database: TestDatabase, tenant: str) -> None:
    store = await Store.open(Settings(url=thea_database.app_url, pool_size=1, slow_query_ms=0))
    await store.users.count(tenant)
    await store.close()

    task = store._database._plans._task
    assert task
    assert task.done()
    assert asyncio.current_task() is not task
