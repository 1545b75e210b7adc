"""The pool on a real server: whose connection it is, and what a call cut short leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from tests.support.wire import Wire
from thea_store import (
    OutcomeUnknownError,
    PoolTimeoutError,
    QueryTimeoutError,
    Settings,
    Store,
    StoreError,
    StoreUnavailableError,
    User,
)
from thea_store.database.pool import Pool
from thea_store.testing import TestDatabase

TENANTS = [f"pool-{n}" for n in range(4)]


@contextlib.asynccontextmanager
async def opened(url: str, **settings: Any) -> AsyncIterator[Store]:
    async with Store.open(Settings(url=url, ssl_mode="disable", **settings)) as store:
        yield store


def pool_of(store: Store) -> Pool:
    return store._database._pool


async def settled(store: Store, idle: int | None = None) -> None:
    """Wait until no connection is in doubt any more."""
    for _ in range(500):
        figures = store._database.figures()
        if figures.size == figures.idle and (idle is None or figures.idle == idle):
            return
        await asyncio.sleep(0.01)
    pytest.fail(f"the pool did not settle: {store._database.figures()}")


async def carried(store: Store) -> dict[str, str]:
    """What the pool believes of each idle connection, and what the server says."""
    pool = pool_of(store)
    found = {}
    for connection in list(pool._idle):
        actual = await connection.raw.fetchval("select current_setting('app.tenant_id')")
        if connection.tenant is not None:
            found[connection.tenant] = actual
    return found


@pytest_asyncio.fixture
async def wire(thea_database: TestDatabase) -> AsyncIterator[Wire]:
    async with Wire(thea_database.app_url).listening() as proxy:
        yield proxy


async def test_each_tenant_finds_its_own_connection_again(wire: Wire) -> None:
    async with opened(wire.url, pool_size=4, max_overflow=0) as store:
        await settled(store, idle=4)
        for tenant in TENANTS * 3:
            await store.users.count(tenant)
        wire.reset()

        for tenant in reversed(TENANTS):
            await store.users.count(tenant)
        assert wire.round_trips == len(TENANTS)
        assert await carried(store) == {tenant: tenant for tenant in TENANTS}


async def test_the_pool_grows_to_its_limit_and_then_says_that_it_is_full(
    thea_database: TestDatabase, tenant: str
) -> None:
    async with opened(thea_database.app_url, pool_size=1, max_overflow=1, pool_timeout=1) as store:
        async with store.transaction(tenant), store.transaction(tenant):
            with pytest.raises(PoolTimeoutError, match="DATABASE_POOL_SIZE"):
                await store.users.count(tenant)
        assert await store.users.count(tenant) == 0


async def test_each_call_in_line_is_refused_once_it_has_waited_for_the_timeout(
    thea_database: TestDatabase, tenant: str
) -> None:
    refused: list[str] = []
    async with opened(thea_database.app_url, pool_size=1, max_overflow=0, pool_timeout=0.4) as store:

        async def call(name: str) -> None:
            began = time.monotonic()
            with pytest.raises(PoolTimeoutError):
                await store.users.count(tenant)
            assert time.monotonic() - began >= 0.4
            refused.append(name)

        async with store.transaction(tenant):
            early = asyncio.create_task(call("early"))
            await asyncio.sleep(0.2)
            await asyncio.gather(early, call("late"))
            await call("after the line was empty")
            served = asyncio.create_task(store.users.count(tenant))
            await asyncio.sleep(0.2)
        assert await served == 0

    assert refused == ["early", "late", "after the line was empty"]


async def test_waiting_calls_are_served_in_order_as_connections_come_back(
    thea_database: TestDatabase, tenant: str
) -> None:
    order: list[int] = []
    async with opened(thea_database.app_url, pool_size=1, max_overflow=0) as store:

        async def call(n: int) -> None:
            await store.users.count(tenant)
            order.append(n)

        async with store.transaction(tenant):
            calls = []
            for n in range(10):
                calls.append(asyncio.create_task(call(n)))
                await asyncio.sleep(0)
        await asyncio.gather(*calls)

    assert order == list(range(10))


async def test_a_waiting_call_that_is_cancelled_takes_no_connection_with_it(
    thea_database: TestDatabase, tenant: str
) -> None:
    async with opened(thea_database.app_url, pool_size=1, max_overflow=0, pool_timeout=5) as store:
        async with store.transaction(tenant):
            waiting = [asyncio.create_task(store.users.count(tenant)) for _ in range(5)]
            await asyncio.sleep(0.01)
            for task in waiting[:4]:
                task.cancel()
        assert await waiting[4] == 0
        await settled(store, idle=1)


async def test_a_set_that_is_cut_short_ends_its_connection(wire: Wire) -> None:
    async with opened(wire.url, pool_size=1, max_overflow=0) as store:
        await store.users.count("first")
        wire.answers.clear()
        wire.reset()
        call = asyncio.create_task(store.users.count("second"))
        await wire.until_sent()
        call.cancel()
        wire.answers.set()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert await carried(store) == {}

        await store.users.count("second")
        assert await carried(store) == {"second": "second"}


@pytest.mark.parametrize("scope", ["session", "transaction"])
async def test_cancelled_calls_leave_no_wrong_tenant_no_transaction_and_a_full_pool(
    thea_database: TestDatabase, scope: str
) -> None:
    async with opened(thea_database.app_url, pool_size=3, max_overflow=0, tenant_scope=scope) as store:
        users = {tenant: await store.users.get_or_create_from_telegram(tenant, 1) for tenant in TENANTS}

        async def work(n: int) -> None:
            tenant = TENANTS[n % len(TENANTS)]
            for _ in range(3):
                async with store.transaction(tenant) as tx:
                    await tx.users.update_last_activity(tenant, users[tenant].id)
                    found = await tx.users.get_by_telegram_id(tenant, 1)
                    assert found is not None
                    assert found.tenant_id == tenant
                assert await store.users.get_by_id(tenant, users[tenant].id)

        tasks = [asyncio.create_task(work(n)) for n in range(24)]
        for n, task in enumerate(tasks):
            await asyncio.sleep(0.001)
            if n % 3:
                task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        failures = [r for r in results if isinstance(r, Exception)]
        await settled(store)

        assert failures == []
        assert all(tenant == actual for tenant, actual in (await carried(store)).items())
        for connection in list(pool_of(store)._idle):
            assert not connection.raw.is_in_transaction()


async def test_every_step_of_a_call_can_be_cancelled(thea_database: TestDatabase, tenant: str) -> None:
    async with opened(thea_database.app_url, pool_size=1, max_overflow=0) as store:
        user = await store.users.get_or_create_from_telegram(tenant, 1)
        steps = 0
        while True:
            await store.users.count("another")  # so that the tenant has to be set anew
            task = asyncio.create_task(store.users.update(tenant, user.id, first_name=str(steps)))
            for _ in range(steps):
                await asyncio.sleep(0)
            if task.done():
                break
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await settled(store)
            assert all(tenant == actual for tenant, actual in (await carried(store)).items())
            steps += 1

    assert steps >= 3


async def test_a_statement_that_takes_too_long_is_cancelled_by_the_server(
    thea_database: TestDatabase, tenant: str, superuser: psycopg.Connection[Any]
) -> None:
    async with opened(thea_database.app_url, pool_size=1, max_overflow=0, command_timeout=1) as store:
        user = await store.users.create(tenant, telegram_id=1)
        with superuser.transaction():
            superuser.execute("select from thea.users where tenant_id = %s for update", [tenant])
            with pytest.raises(QueryTimeoutError, match="nothing was written"):
                await store.users.update(tenant, user.id, first_name="Ana")

        found = await store.users.get_by_id(tenant, user.id)
        assert found is not None
        assert found.first_name is None


async def test_a_read_survives_the_end_of_its_connection(
    thea_database: TestDatabase, tenant: str, superuser: psycopg.Connection[Any]
) -> None:
    async with opened(thea_database.app_url, pool_size=2, max_overflow=0) as store:
        user = await store.users.create(tenant, telegram_id=1)
        superuser.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity"
            " where datname = %s and application_name = 'thea_store'",
            [thea_database.name],
        )

        assert await store.users.get_by_id(tenant, user.id) == user


async def test_a_write_whose_answer_got_lost_is_an_unknown_outcome(wire: Wire, tenant: str) -> None:
    async with opened(wire.url, pool_size=1, max_overflow=0) as store:
        user = await store.users.create(tenant, telegram_id=1)
        await store.users.update(tenant, user.id, first_name="Ana")
        wire.answers.clear()
        wire.reset()
        call = asyncio.create_task(store.users.update(tenant, user.id, first_name="Eva"))
        await wire.until_sent()
        wire.cut()
        with pytest.raises(OutcomeUnknownError, match="read it back"):
            await call
        wire.answers.set()

        found = await store.users.get_by_id(tenant, user.id)
        assert found is not None
        assert found.first_name in {"Ana", "Eva"}


async def test_a_commit_whose_answer_got_lost_is_an_unknown_outcome(wire: Wire, tenant: str) -> None:
    async with opened(wire.url, pool_size=1, max_overflow=0) as store:

        async def cut_during_commit() -> None:
            async with store.transaction(tenant) as tx:
                await tx.users.create(tenant, telegram_id=1)
                wire.answers.clear()
                asyncio.get_running_loop().call_later(0.05, wire.cut)

        with pytest.raises(OutcomeUnknownError):
            await cut_during_commit()
        wire.answers.set()


async def test_a_transaction_lost_before_its_commit_is_run_again(wire: Wire, tenant: str) -> None:
    runs = 0
    async with opened(wire.url, pool_size=1, max_overflow=0) as store:

        async def work(tx: Any) -> User:
            nonlocal runs
            runs += 1
            user = await tx.users.create(tenant, telegram_id=1)
            if runs == 1:
                wire.cut()
            assert isinstance(user, User)
            await tx.users.count(tenant)
            return user

        user = await store.run(tenant, work)
        assert runs == 2
        assert [found async for found in store.users.iterate(tenant)] == [user]


async def test_a_server_that_is_not_there_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thea_store.database.connector._STARTING", 0.1)

    with pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1:1/nowhere.*start it") as caught:
        await Store.open("postgresql://someone:secret-word@127.0.0.1:1/nowhere")
    assert "secret-word" not in str(caught.value)


async def test_closing_waits_for_running_work_and_is_idempotent(thea_database: TestDatabase, tenant: str) -> None:
    store = await Store.open(thea_database.app_url)
    async with asyncio.timeout(10):
        while pool_of(store).figures().idle < 5:  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.01)
    running = [asyncio.create_task(store.users.count(tenant)) for _ in range(5)]
    await asyncio.sleep(0)
    await asyncio.gather(store.close(), store.close())
    await store.close()

    assert {await call for call in running} == {0}
    with pytest.raises(StoreError, match="closed"):
        await store.users.count(tenant)


async def test_a_connection_past_its_time_is_replaced(thea_database: TestDatabase, tenant: str) -> None:
    async with opened(thea_database.app_url, pool_size=1, max_overflow=0, pool_recycle=3600) as store:
        await store.users.count(tenant)
        (old,) = pool_of(store)._idle
        await store.users.count(tenant)
        assert list(pool_of(store)._idle) == [old]

        old.born -= 3601
        await store.users.count(tenant)
        (new,) = pool_of(store)._idle
        assert new is not old
        assert old.raw.is_closed()


def test_a_clock_that_a_services_tests_set_replaces_no_connection(
    thea_database: TestDatabase, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def connections() -> set[int]:
        clock = time.monotonic
        monkeypatch.setattr(time, "monotonic", lambda: 1_809_338_400 + clock())  # as freezegun does
        async with opened(thea_database.app_url, pool_size=1, max_overflow=0, pool_timeout=1) as store:
            seen = set()
            for _ in range(3):
                await store.users.count(tenant)
                seen |= {id(connection) for connection in pool_of(store)._idle}
            return seen

    assert len(asyncio.run(connections())) == 1
