"""Opening, asking and closing a store, cancelled at every suspension; and loops that end with an open store."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest
import pytest_asyncio

from tests.cancellation.arena import Arena
from tests.support.aftermath import settled
from tests.support.stepping import Moment, Stepped, stepped_through, stopped
from tests.support.wire import Wire
from thea_store import Settings, Store, StoreError
from thea_store.testing import TestDatabase


@pytest_asyncio.fixture(scope="module")
async def arena(thea_new_database: Callable[..., TestDatabase]) -> AsyncIterator[Arena]:
    async with Arena.on(thea_new_database()) as arena:
        yield arena


@pytest_asyncio.fixture(scope="module")
async def single(arena: Arena) -> AsyncIterator[Store]:
    async with arena.store(pool_timeout=20) as store:
        yield store


# --- the store itself ---------------------------------------------------------------------------


@pytest.mark.parametrize("ask", [Store.ping, Store.health])
async def test_asking_after_the_server_can_be_cancelled_at_every_point(
    single: Store, arena: Arena, ask: Callable[[Store], Awaitable[object]], request: pytest.FixtureRequest
) -> None:
    async def asked(_: str) -> object:
        return await ask(single)

    points = await arena.step_through(single, asked, single.users.count, writes=False)
    request.node.user_properties.append(("cancellation points", points))


async def test_an_opening_that_is_cancelled_leaves_no_connection(arena: Arena, request: pytest.FixtureRequest) -> None:
    settings = Settings(url=arena.database.app_url, pool_size=2)

    async def run(stops: dict[int, Moment]) -> Stepped:
        async def opened() -> Store:
            return await Store.open(settings)

        stepped = await stopped(opened(), stops)
        if stepped.result is not None:
            await stepped.result.close()
        await settled()
        await arena.no_backend_is_left()
        return stepped

    points = await stepped_through(run)
    request.node.user_properties.append(("cancellation points", points))

    assert points >= 4


async def test_a_closing_that_is_cancelled_ends_all_connections(arena: Arena, request: pytest.FixtureRequest) -> None:
    async def run(stops: dict[int, Moment]) -> Stepped:
        store = await Store.open(Settings(url=arena.database.app_url, pool_size=3))
        inside, go_on = asyncio.Event(), asyncio.Event()

        async def works() -> None:
            async with store.transaction("bystander") as tx:
                await tx.users.count("bystander")
                inside.set()
                await go_on.wait()

        worker = asyncio.create_task(works())
        await inside.wait()
        # There is something to wait for at first: the connection in use.
        stepped = await stopped(store.close(), stops, lambda _: None if stops == {1: "before"} else go_on.set())
        await arena.no_backend_is_left()
        go_on.set()
        await asyncio.wait([worker])
        assert worker.exception() is None or isinstance(worker.exception(), StoreError)
        await settled()
        with pytest.raises(StoreError, match="closed"):
            await store.users.count("bystander")
        return stepped

    points = await stepped_through(run)
    request.node.user_properties.append(("cancellation points", points))

    assert points >= 4


async def test_a_closing_that_is_cancelled_does_not_wait_for_the_replica(arena: Arena) -> None:
    url = arena.database.app_url
    store = await Store.open(Settings(url=url, replica_url=url))
    assert store._database._replicas is not None
    pools = [store._database._pool, *(replica.pool for replica in store._database._replicas.each)]
    in_use = [(pool, await pool.acquire(None)) for pool in pools]
    closing = asyncio.create_task(store.close())
    await asyncio.sleep(0)
    closing.cancel()
    await asyncio.wait([closing], timeout=5)  # half of what closing waits for running work
    for pool, connection in in_use:
        pool.release(connection)

    assert len(in_use) == 2
    assert closing.cancelled()
    await arena.no_backend_is_left()


async def test_a_connection_that_comes_after_the_store_was_closed_is_ended(arena: Arena) -> None:
    async with Wire(arena.database.app_url).listening() as wire:
        store = await Store.open(Settings(url=wire.url, ssl_mode="disable", pool_size=1, max_overflow=0))
        store._database._pool.expire()
        wire.answers.clear()
        wire.reset()
        late = asyncio.create_task(store.users.count("bystander"))
        await wire.until_sent()
        await store._database.close(patience=0.01)
        wire.answers.set()

        with pytest.raises(StoreError, match="closed"):
            await late
        await settled()
        await arena.no_backend_is_left()


# --- the end of the loop ------------------------------------------------------------------------

_LEFT_OPEN = """
import asyncio, sys
from thea_store import Store

async def main():
    store = await Store.open(sys.argv[1])
    inside = asyncio.Event()

    async def works():
        async with store.transaction("bystander") as tx:
            await tx.users.create("bystander", telegram_id=4_000_000_000)
            inside.set()
            await asyncio.sleep(100)

    keep = asyncio.create_task(works()), asyncio.create_task(store.users.count("bystander"))
    await inside.wait()
    return store, keep

"""


@pytest.mark.parametrize(
    "ending",
    [
        "kept = asyncio.run(main())",
        "loop = asyncio.new_event_loop(); kept = loop.run_until_complete(main()); loop.close()",
        "loop = asyncio.new_event_loop(); kept = loop.run_until_complete(main()); loop.close(); del kept",
    ],
)
async def test_a_loop_that_ends_with_an_open_store_ends_its_connections(arena: Arena, ending: str) -> None:
    program = [sys.executable, "-c", textwrap.dedent(_LEFT_OPEN) + ending, arena.database.app_url]
    ended = await asyncio.to_thread(subprocess.run, program, capture_output=True, text=True, timeout=60, check=False)
    await arena.no_backend_is_left()

    assert ended.returncode == 0
    assert "Traceback" not in ended.stderr, ended.stderr
    assert "never awaited" not in ended.stderr, ended.stderr
    assert arena.state("bystander") == arena.quiet
