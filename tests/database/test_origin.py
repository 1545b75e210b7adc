"""A store used elsewhere than in the process and on the event loop that opened it."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import pytest
import pytest_asyncio

from tests.support.calls import CALLS, Ground, prepare
from thea_store import Settings, Store, StoreError, StoreTransaction
from thea_store.testing import TestDatabase

Attempts = dict[str, Callable[[], Coroutine[Any, Any, object]]]


@pytest_asyncio.fixture(params=["session", "transaction"])
async def own(thea_database: TestDatabase, request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    """A store with one connection, which carries the tenant of the last call."""
    settings = Settings(
        url=thea_database.app_url, tenant_scope=request.param, pool_size=1, max_overflow=1, command_timeout=5
    )
    async with Store.open(settings) as store:
        yield store


def attempts(store: Store, tx: StoreTransaction, ground: Ground) -> Attempts:
    """All that can be asked of a store, and of a transaction of its."""

    async def transaction() -> None:
        async with store.transaction(ground.tenant):
            pytest.fail("the block was entered")

    async def savepoint() -> None:
        async with tx.savepoint():
            pytest.fail("the block was entered")

    async def block() -> None:
        async with store:
            pass

    async def nothing(_: object) -> None: ...

    found: Attempts = {
        "ping": store.ping,
        "health": store.health,
        "close": store.close,
        "run": lambda: store.run(ground.tenant, nothing),
        "transaction": transaction,
        "savepoint": savepoint,
        "block": block,
        "commit": tx._transaction.commit,
    }
    for call in CALLS:
        found[f"store {call}"] = partial(call.run, store, ground.tenant, call.arguments(ground))
        found[f"tx {call}"] = partial(call.run, tx, ground.tenant, call.arguments(ground))
    return found


async def answers(every: Attempts) -> list[str]:
    """What each says that does not say what it should; the last line is one that does."""
    said, wrong = "", []
    for name, attempt in every.items():
        try:
            result = await attempt()
        except StoreError as error:
            said = str(error)
            if "this store was opened" not in said:
                wrong.append(f"{name}: {said}")
        except BaseException as error:  # noqa: BLE001 - it is told to the test
            wrong.append(f"{name}: {error!r}")
        else:
            wrong.append(f"{name} returned {result!r}")
    return [*wrong, said]


def in_a_child(work: Callable[[], list[str]]) -> list[str]:
    """What `work` returns in a forked process."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of a fork in a process with threads
        child = os.fork()
    if child == 0:
        try:
            lines = work()
        except BaseException as error:  # noqa: BLE001 - it is told to the test
            lines = [repr(error)]
        os.write(writing, "\n".join(lines).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="utf-8") as told:
        lines = told.read().split("\n")
    os.waitpid(child, 0)
    return lines


def in_a_thread(work: Callable[[], list[str]]) -> list[str]:
    """What `work` returns in another thread, as with the test clients of web frameworks."""
    told: list[str] = []
    thread = threading.Thread(target=lambda: told.extend(work()))
    thread.start()
    thread.join()
    return told


@pytest.mark.parametrize(
    ("place", "says"),
    [
        (in_a_child, r"opened in another process .* open a store in each process after the fork"),
        (in_a_thread, r"opened on another event loop, in another thread"),
    ],
    ids=["a forked child", "another thread"],
)
async def test_every_call_is_refused_and_nothing_of_it_reaches_the_server(
    own: Store, tenant: str, place: Any, says: str
) -> None:
    ground = await prepare(own, tenant)
    before = await own.users.get_by_id(tenant, ground.live["users"])
    async with own.transaction(tenant) as tx:
        *wrong, said = place(lambda: asyncio.run(answers(attempts(own, tx, ground))))
        await tx.users.update(tenant, ground.live["users"], first_name="Eva")

    assert wrong == []
    assert re.search(says, said)
    assert before is not None
    assert await own.users.get_by_id(tenant, before.id) != before
    assert own._database.figures().size <= 2


async def test_a_call_without_an_event_loop_is_refused_too(own: Store, tenant: str) -> None:
    def begin() -> list[str]:
        with pytest.raises(StoreError, match="in another thread"):
            own.transaction(tenant)
        return ["refused"]

    assert in_a_thread(begin) == ["refused"]


async def test_a_call_that_is_handed_to_the_stores_loop_is_served(own: Store, tenant: str) -> None:
    loop = asyncio.get_running_loop()

    def ask() -> int:
        return asyncio.run_coroutine_threadsafe(own.users.count(tenant), loop).result(10)

    assert await asyncio.to_thread(ask) == 0


async def test_a_child_that_leaves_the_block_goes_with_its_own_error(own: Store) -> None:
    def leave() -> list[str]:
        async def work() -> None:
            async with own:
                raise SystemExit(3)

        with pytest.raises(SystemExit):
            asyncio.run(work())
        return ["left"]

    assert in_a_child(leave) == ["left"]
    assert await own.ping() > 0


# --- programs -----------------------------------------------------------------------------------


def run(program: str, url: str) -> str:
    """What a program prints, which gets the URL as its argument."""
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-c", textwrap.dedent(program), url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["os._exit(0)", "sys.exit(0)"])
@pytest.mark.parametrize(
    "forgetting",
    [
        "pass",
        "loop.close()",
        "[one.raw.terminate() for one in store._database._pool._open]",  # as the driver does when it is collected
    ],
)
def test_a_child_that_forgets_or_ends_leaves_the_parents_connections_alone(
    thea_database: TestDatabase, ending: str, forgetting: str
) -> None:
    program = f"""
        import asyncio, gc, os, sys
        from thea_store import Settings, Store

        loop = asyncio.new_event_loop()

        async def opened():
            store = await Store.open(Settings(url=sys.argv[1], pool_size=2, command_timeout=5))
            await store.users.count("acme")
            entered = asyncio.Event()

            async def works():
                async with store.transaction("acme") as tx, tx.savepoint():
                    await tx.users.count("acme")
                    entered.set()
                    await done.wait()
                    return await tx.users.create("acme", telegram_id=4711)

            done = asyncio.Event()
            task = asyncio.create_task(works())
            await entered.wait()
            return store, task, done

        def pids(store):
            return {{one.raw.get_server_pid() for one in store._database._pool._open}}

        store, task, done = loop.run_until_complete(opened())
        child = os.fork()
        if child == 0:
            {forgetting}
            task = store = done = loop = None
            gc.collect()
            {ending}
        os.waitpid(child, 0)

        async def goes_on():
            before = pids(store)
            assert await store.users.count("acme") == 0
            done.set()
            user = await task
            assert await store.users.get_by_id("acme", user.id) == user
            assert pids(store) == before, "a connection was lost"
            await store.users.purge("acme", user.id)
            await store.close()

        loop.run_until_complete(goes_on())
        loop.close()
        print("went on")
    """

    assert "went on" in run(program, thea_database.app_url)


def test_a_child_opens_a_store_of_its_own_in_the_place_of_its_parents(thea_database: TestDatabase) -> None:
    program = """
        import asyncio, gc, os, sys
        from thea_store import Settings, Store

        loop = asyncio.new_event_loop()
        store = loop.run_until_complete(Store.open(Settings(url=sys.argv[1], command_timeout=5)))
        child = os.fork()
        if child == 0:
            async def main():
                global store
                async with Store.open(sys.argv[1]) as store:
                    gc.collect()
                    assert await store.users.count("acme") == 0
            asyncio.run(main())
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert loop.run_until_complete(store.users.count("acme")) == 0
        loop.run_until_complete(store.close())
        loop.close()
        print("both")
    """

    assert "both" in run(program, thea_database.app_url)


def test_a_store_of_an_earlier_asyncio_run_says_so(thea_database: TestDatabase) -> None:
    program = """
        import asyncio, sys
        from thea_store import Store, StoreError

        async def use(store, call):
            try:
                await call(store)
            except StoreError as error:
                assert "opened on another event loop: open it" in str(error), error
            else:
                raise AssertionError

        store = asyncio.run(Store.open(sys.argv[1]).__aenter__())
        for call in (lambda s: s.users.count("acme"), Store.ping, Store.health, Store.close):
            asyncio.run(use(store, call))
        print("said so")
    """

    assert "said so" in run(program, thea_database.app_url)


def test_a_child_does_not_stop_its_parents_embedded_server() -> None:
    program = """
        import asyncio, os, sys
        from thea_store import Store, StoreError

        async def main():
            async with Store.open("embedded:") as store:
                child = os.fork()
                if child == 0:
                    try:
                        asyncio.run(store.close())
                    except StoreError:
                        os._exit(0)
                    os._exit(1)
                assert os.waitpid(child, 0)[1] == 0
                assert await store.users.count("acme") == 0
        asyncio.run(main())
        print("serves")
    """

    assert "serves" in run(program, "")


async def test_a_savepoint_may_be_entered_and_left_in_tasks_of_wait_for(own: Store, tenant: str) -> None:
    async with own.transaction(tenant) as tx:
        stack = AsyncExitStack()
        await asyncio.wait_for(asyncio.create_task(stack.enter_async_context(tx.savepoint())), 5)
        await tx.users.create(tenant, telegram_id=1)
        await asyncio.wait_for(asyncio.create_task(stack.aclose()), 5)
        await tx.users.create(tenant, telegram_id=2)
    gc.collect()

    assert await own.users.count(tenant) == 2
