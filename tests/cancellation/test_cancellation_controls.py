"""The controls of the tests of cancellation: each check fails where there is what it looks for."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

import pytest
import pytest_asyncio

from tests.cancellation.arena import Arena
from tests.support.stepping import Interruption, Moment, stepped_through, stopped
from thea_store import Store
from thea_store.testing import TestDatabase


@pytest_asyncio.fixture(scope="module")
async def arena(thea_new_database: Callable[..., TestDatabase]) -> AsyncIterator[Arena]:
    async with Arena.on(thea_new_database()) as arena:
        yield arena


@pytest_asyncio.fixture
async def single(arena: Arena, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Store]:
    async with arena.store() as store:
        await store.users.count("bystander")
        await arena.unharmed(store, "model")
        monkeypatch.setattr("tests.support.aftermath._PATIENCE", 0.1)
        yield store


async def test_every_suspension_is_stepped_to() -> None:
    passed: list[int] = []

    async def work() -> None:
        await asyncio.sleep(0)
        passed.append(1)
        await asyncio.sleep(0.001)
        passed.append(2)
        await asyncio.gather(asyncio.sleep(0), asyncio.sleep(0.001))

    assert await stepped_through(lambda stops: stopped(work(), stops)) == 2 * 3
    assert passed == [1, 1, 2, 1, 2] * 2


@pytest.mark.parametrize("moment", ["before", "with"])
async def test_what_is_awaited_is_cancelled_before_it_is_done_and_not_with_it(moment: Moment) -> None:
    future = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(lambda: None if future.done() else future.set_result(1))

    async def work() -> None:
        await future

    await stopped(work(), {1: moment})
    assert future.cancelled() == (moment == "before")


@pytest.mark.parametrize("moment", ["before", "with", "interrupted"])
async def test_a_stop_that_is_swallowed_or_replaced_is_noticed(moment: Moment) -> None:
    async def swallows() -> None:
        with contextlib.suppress(asyncio.CancelledError, Interruption):
            await asyncio.sleep(0.001)

    async def replaces() -> None:
        try:
            await asyncio.sleep(0.001)
        except (asyncio.CancelledError, Interruption):
            raise KeyError from None

    with pytest.raises(AssertionError):
        await stopped(swallows(), {1: moment})
    with pytest.raises(KeyError):
        await stopped(replaces(), {1: moment})
    task = asyncio.current_task()
    while task is not None and task.uncancel():
        pass


async def test_a_connection_that_is_not_given_back_is_noticed(single: Store, arena: Arena) -> None:
    connection = await single._database._pool.acquire(None)
    with pytest.raises(AssertionError, match="not all connections are back"):
        await arena.unharmed(single, "model")
    single._database._pool.release(connection)


async def test_a_task_that_goes_on_is_noticed(single: Store, arena: Arena) -> None:
    task = asyncio.create_task(asyncio.sleep(1))
    with pytest.raises(AssertionError, match="still running"):
        await arena.unharmed(single, "model")
    task.cancel()


async def test_a_transaction_that_stays_open_is_noticed(single: Store, arena: Arena) -> None:
    (connection,) = single._database._pool._idle
    await connection.raw.execute("begin")
    with pytest.raises(AssertionError):
        await arena.unharmed(single, "model")
    await connection.raw.execute("rollback")


async def test_a_lock_that_stays_is_noticed(single: Store, arena: Arena) -> None:
    (connection,) = single._database._pool._idle
    await connection.raw.execute("select pg_advisory_lock(1)")
    with pytest.raises(AssertionError, match="left behind on the server"):
        await arena.unharmed(single, "model")
    await connection.raw.execute("select pg_advisory_unlock(1)")


async def test_a_wrong_tenant_is_noticed(single: Store, arena: Arena) -> None:
    (connection,) = single._database._pool._idle
    await connection.raw.execute("set app.tenant_id = 'model'")
    with pytest.raises(AssertionError, match="another tenant's"):
        await arena.unharmed(single, "model")


async def test_a_connection_that_the_pool_does_not_know_is_noticed(single: Store, arena: Arena) -> None:
    connection = await single._database._connector()
    with pytest.raises(AssertionError, match="left behind on the server"):
        await arena.unharmed(single, "model")
    await connection.raw.close()


@pytest.mark.parametrize("wrong", ["half", "always"])
async def test_work_that_is_half_done_is_noticed(single: Store, arena: Arena, wrong: str) -> None:
    async def work(tenant: str) -> None:
        await single.users.create(tenant, telegram_id=1)
        if wrong == "half":
            await single.users.create(tenant, telegram_id=2)

    with pytest.raises(AssertionError):
        await arena.step_through(single, work, single.users.count, writes=wrong == "half")
