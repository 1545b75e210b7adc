"""What a caller waits for, and is told, when the server or the network says nothing any more."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from tests.support.stopping import stopped
from tests.support.wire import Wire
from thea_store import (
    OutcomeUnknownError,
    PoolTimeoutError,
    Settings,
    Store,
    StoreError,
    StoreTransaction,
    StoreUnavailableError,
    User,
)
from thea_store.embedded import EmbeddedPostgres
from thea_store.migrator import migrate
from thea_store.postgres.url import DatabaseUrl
from thea_store.testing import TestDatabase

COMMAND = 1.0
# What a statement waits for beyond the command timeout; what costs a server nothing may take; and what a busy machine
# that runs these tests may add.
GRACE, PROMPT, NOISE = 1.0, 1.0, 0.9


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started <= seconds + NOISE


@pytest_asyncio.fixture
async def wire(thea_database: TestDatabase) -> AsyncIterator[Wire]:
    async with Wire(thea_database.app_url).listening() as proxy:
        yield proxy


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def opened(url: str, **settings: Any) -> Any:
    given = {"pool_size": 3, "max_overflow": 2, "command_timeout": COMMAND, **settings}
    return Store.open(Settings(url=url, ssl_mode="disable", **given))


async def filled(store: Store, tenant: str, idle: int = 3) -> User:
    """All connections open and idle."""
    user = await store.users.create(tenant, telegram_id=1)
    async with asyncio.timeout(10):
        while store._database.figures().idle < idle:  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.01)
    return user


async def costs(store: Store, tenant: str, user: User) -> None:
    """One call ends within the command timeout and a second, and those after it at once."""
    with within(COMMAND + GRACE), pytest.raises(StoreUnavailableError, match=r"did not answer in time|does not answer"):
        await store.users.get_by_id(tenant, user.id)
    for _ in range(4):
        with within(PROMPT), pytest.raises(StoreUnavailableError, match="does not answer"):
            await store.users.get_by_id(tenant, user.id)
    with within(PROMPT), pytest.raises(StoreUnavailableError, match="does not answer"):
        async with store.transaction(tenant):
            pytest.fail("the block was entered")
    many = [store.users.get_by_id(tenant, user.id) for _ in range(30)]
    with within(2 * PROMPT):
        assert {type(one) for one in await asyncio.gather(*many, return_exceptions=True)} == {StoreUnavailableError}


async def serves_again(store: Store, tenant: str) -> None:
    with within(2 * PROMPT):
        while True:
            with contextlib.suppress(StoreUnavailableError):
                assert await store.users.count(tenant) == 1
                return


@pytest.mark.slow
@pytest.mark.parametrize("scope", ["session", "transaction"])
async def test_a_server_that_says_nothing_costs_one_call_its_timeout_and_the_next_ones_little(
    wire: Wire, tenant: str, scope: str
) -> None:
    async with opened(wire.url, tenant_scope=scope) as store:
        user = await filled(store, tenant)
        wire.answers.clear()
        await costs(store, tenant, user)
        wire.answers.set()

        await serves_again(store, tenant)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
async def test_a_server_that_is_stopped_costs_no_more_and_is_found_again() -> None:
    async with EmbeddedPostgres() as server:
        await asyncio.to_thread(migrate, server.migrator_url)
        async with opened(server.app_url) as store:
            user = await filled(store, "acme")
            (connection, *_) = store._database._pool._open
            with stopped(connection.raw.get_server_pid()):
                await costs(store, "acme", user)
                with within(0.5), pytest.raises(StoreUnavailableError):
                    await store.ping(timeout=0.5)

            await serves_again(store, "acme")


@pytest.mark.slow
async def test_a_server_that_says_nothing_costs_no_more_beside_a_host_that_takes_no_writes(
    wire: Wire, tenant: str
) -> None:
    hosts = (*DatabaseUrl.parse(wire.url).hosts, ("127.0.0.1", free_port()))
    async with opened(replace(DatabaseUrl.parse(wire.url), hosts=hosts).render()) as store:
        user = await filled(store, tenant)
        wire.answers.clear()
        for _ in range(2):  # the first ones meet with silence, the next ones wait for another primary
            many = [store.users.get_by_id(tenant, user.id) for _ in range(30)]
            with within(COMMAND + GRACE + 2 * PROMPT):
                results = await asyncio.gather(*many, return_exceptions=True)
            assert {type(one) for one in results} == {StoreUnavailableError}
        wire.answers.set()

        await serves_again(store, tenant)


@pytest.mark.slow
async def test_a_host_that_says_nothing_is_asked_after_one_that_may_become_the_primary(
    wire: Wire, thea_database: TestDatabase, tenant: str
) -> None:
    port = free_port()
    hosts = (*DatabaseUrl.parse(wire.url).hosts, ("127.0.0.1", port))
    async with opened(replace(DatabaseUrl.parse(wire.url), hosts=hosts).render()) as store:
        user = await filled(store, tenant)
        wire.answers.clear()
        store._database._pool.expire()
        with pytest.raises(StoreUnavailableError):
            await store.users.get_by_id(tenant, user.id)
        async with Wire(thea_database.app_url).listening(port):
            with within(0):  # an attempt at the silent one takes longer
                assert await store.users.get_by_id(tenant, user.id) == user


async def test_all_calls_go_on_when_a_server_that_refused_takes_connections_again(
    thea_database: TestDatabase, tenant: str
) -> None:
    port, server = free_port(), Wire(thea_database.app_url)
    async with contextlib.AsyncExitStack() as up:
        await up.enter_async_context(server.listening(port))
        async with opened(server.url, pool_size=1, max_overflow=14, command_timeout=2.0) as store:
            await filled(store, tenant, 1)
            await up.aclose()
            calls = [asyncio.create_task(store.users.count(tenant)) for _ in range(15)]
            await asyncio.sleep(1.5)
            assert not any(call.done() for call in calls)
            async with server.listening(port):
                with within(0):
                    assert await asyncio.gather(*calls) == [1] * 15


async def test_a_server_that_refuses_costs_a_call_twice_the_command_timeout(
    thea_database: TestDatabase, tenant: str
) -> None:
    async with contextlib.AsyncExitStack() as up:
        wire = await up.enter_async_context(Wire(thea_database.app_url).listening())
        async with opened(wire.url, command_timeout=0.5) as store:
            await filled(store, tenant)
            await up.aclose()
            many = [store.users.count(tenant) for _ in range(30)]
            with within(2 * COMMAND):  # the timeout counts as a second at least
                results = await asyncio.gather(*many, return_exceptions=True)

    assert {type(one) for one in results} == {StoreUnavailableError}


async def test_calls_that_fell_silent_together_cost_each_one_timeout(wire: Wire, tenant: str) -> None:
    async with opened(wire.url) as store:
        user = await filled(store, tenant)
        wire.answers.clear()
        with within(COMMAND + GRACE + 2 * PROMPT):
            many = [store.users.get_by_id(tenant, user.id) for _ in range(12)]
            results = await asyncio.gather(*many, return_exceptions=True)

        assert {type(one) for one in results} == {StoreUnavailableError}


async def test_a_write_that_met_with_silence_is_of_unknown_outcome(wire: Wire, tenant: str) -> None:
    async with opened(wire.url) as store:
        user = await filled(store, tenant)
        wire.answers.clear()

        with within(COMMAND + GRACE), pytest.raises(OutcomeUnknownError, match="read it back"):
            await store.users.update(tenant, user.id, first_name="Ana")


async def test_silence_within_a_transaction_or_savepoint_ends_the_block_in_time(wire: Wire, tenant: str) -> None:
    async with opened(wire.url) as store:
        user = await filled(store, tenant)

        async def works(tx: StoreTransaction) -> None:
            async with tx.savepoint():
                await tx.users.get_by_id(tenant, user.id)
                wire.answers.clear()
                await tx.users.update(tenant, user.id, first_name="Ana")

        with within(COMMAND + GRACE), pytest.raises(StoreUnavailableError, match="nothing was written"):
            async with store.transaction(tenant) as tx:
                await works(tx)
        wire.answers.set()

        found = await store.users.get_by_id(tenant, user.id)
        assert found == user


async def test_a_commit_that_met_with_silence_is_of_unknown_outcome(wire: Wire, tenant: str) -> None:
    async with opened(wire.url) as store:
        with within(COMMAND + GRACE), pytest.raises(OutcomeUnknownError):
            async with store.transaction(tenant) as tx:
                await tx.users.create(tenant, telegram_id=1)
                wire.answers.clear()


# --- connections that a firewall has forgotten --------------------------------------------------


@pytest.mark.parametrize("name", ["the same", "another"])
@pytest.mark.parametrize("scope", ["session", "transaction"])
async def test_connections_that_were_forgotten_while_they_were_idle_cost_a_moment(
    wire: Wire, tenant: str, other_tenant: str, scope: str, name: str
) -> None:
    name = tenant if name == "the same" else other_tenant
    async with opened(wire.url, tenant_scope=scope) as store:
        await filled(store, tenant)
        for connection in store._database._pool._idle:
            connection.used -= 60  # a firewall forgets what is idle
        wire.forget()
        with within(PROMPT):  # something is sent first that costs nothing, and so nothing is lost
            assert await store.users.count(name) == (name == tenant)
        for _ in range(5):
            with within(0):
                assert await store.users.count(tenant) == 1


async def test_connections_that_were_forgotten_cost_at_most_one_call(wire: Wire, tenant: str) -> None:
    async with opened(wire.url) as store:
        await filled(store, tenant)
        wire.forget()
        with within(COMMAND + GRACE), pytest.raises(StoreUnavailableError, match="did not answer in time"):
            await store.users.count(tenant)
        for _ in range(5):
            with within(PROMPT):
                assert await store.users.count(tenant) == 1


async def test_a_ping_meets_a_forgotten_connection_and_asks_another(wire: Wire, tenant: str) -> None:
    async with opened(wire.url) as store:
        await filled(store, tenant)
        wire.forget()

        with within(PROMPT):
            assert await store.ping() > 0


@pytest.mark.parametrize(
    ("options", "bounds"),
    [
        ("", (1, 2, 1, 3, round(COMMAND * 1000))),
        ("keepalives_idle=7&keepalives_interval=4&keepalives_count=2&tcp_user_timeout=900", (1, 7, 4, 2, 900)),
    ],
)
async def test_the_kernel_looks_after_connections(wire: Wire, options: str, bounds: tuple[int, ...]) -> None:
    async with opened(f"{wire.url}?{options}", pool_size=1) as store:
        (connection,) = store._database._pool._open
        connected = connection.raw._transport.get_extra_info("socket")

        assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == bounds[0]
        if sys.platform == "linux":
            names = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
            assert tuple(connected.getsockopt(socket.IPPROTO_TCP, name) for name in names) == bounds[1:]


# --- bounds that a caller gives -----------------------------------------------------------------


@pytest.mark.parametrize("seconds", [0.2, 1.0])
async def test_a_ping_says_within_its_timeout_that_nobody_answers(wire: Wire, seconds: float) -> None:
    async with opened(wire.url) as store:
        wire.answers.clear()
        for _ in range(3):
            with within(seconds), pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1"):
                await store.ping(timeout=seconds)


async def test_a_ping_says_within_its_timeout_that_all_connections_are_in_use(
    thea_database: TestDatabase, tenant: str
) -> None:
    async with opened(thea_database.app_url, pool_size=1, max_overflow=0) as store, store.transaction(tenant):
        with within(0.2), pytest.raises(StoreUnavailableError, match="within 0.2 s"):
            await store.ping(timeout=0.2)


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), "5", None, True])
@pytest.mark.parametrize("call", [Store.ping, Store.close])
async def test_a_timeout_is_a_number_of_seconds(store: Store, call: Callable[..., Any], seconds: object) -> None:
    with pytest.raises(StoreError, match="timeout"):
        await call(store, timeout=seconds)

    assert await store.ping(timeout=5) > 0


@pytest.mark.parametrize("silent", [False, True])
async def test_closing_waits_for_running_work_as_long_as_it_is_told(wire: Wire, tenant: str, *, silent: bool) -> None:
    store = await opened(wire.url)
    await filled(store, tenant)

    async def works() -> None:
        async with store.transaction(tenant):
            inside.set()
            await asyncio.sleep(30)

    inside = asyncio.Event()
    worker = asyncio.create_task(works())
    await inside.wait()
    if silent:
        wire.answers.clear()
    with within(0.5):
        await store.close(timeout=0.5)
    worker.cancel()
    await asyncio.wait([worker])

    with pytest.raises(StoreError, match="closed"):
        await store.users.count(tenant)


async def test_closing_does_not_wait_for_a_connection_that_is_being_opened(wire: Wire, tenant: str) -> None:
    store = await opened(wire.url, pool_size=1)
    store._database._pool.expire()
    wire.answers.clear()
    late = asyncio.create_task(store.users.count(tenant))
    await asyncio.sleep(0.1)
    with within(0):
        await store.close(timeout=5)

    with pytest.raises(StoreError, match="closed"):
        await late


@pytest.mark.parametrize("answer", ["release", "end", "close"])
async def test_a_call_that_is_cancelled_in_the_turn_of_its_answer_harms_nothing(
    thea_database: TestDatabase, tenant: str, answer: str
) -> None:
    store = await opened(thea_database.app_url, pool_size=1, max_overflow=0)
    pool = store._database._pool
    connection = await pool.acquire(None)
    cancelled, behind = (asyncio.create_task(store.users.count(tenant)) for _ in range(2))
    await asyncio.sleep(0.05)
    cancelled.cancel()
    if answer == "close":
        pool.end(connection)
        await store.close(timeout=1)
    else:
        getattr(pool, answer)(connection)
    results = await asyncio.gather(cancelled, behind, return_exceptions=True)
    await store.close(timeout=1)

    assert [type(one) for one in results] == [asyncio.CancelledError, StoreError if answer == "close" else int]


# --- opening ------------------------------------------------------------------------------------


async def test_an_opening_that_nobody_answers_names_the_address(wire: Wire) -> None:
    wire.answers.clear()

    with within(0.5), pytest.raises(StoreUnavailableError, match=r"127\.0\.0\.1:\d+/"):
        await opened(wire.url, pool_timeout=0.5)


# --- the server's own limit ---------------------------------------------------------------------


@contextlib.contextmanager
def connections(database: TestDatabase, most: int) -> Iterator[None]:
    """Let the server take at most so many connections to this database."""
    with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
        superuser.execute(f"alter database {database.name} connection limit {most}".encode())
        yield


async def test_at_the_servers_limit_a_connection_that_comes_back_serves_who_waits(
    thea_new_database: Callable[..., TestDatabase],
) -> None:
    database = thea_new_database()
    async with opened(database.app_url, pool_size=1, max_overflow=5) as store:

        async def works(number: int) -> None:
            async with store.transaction("acme") as tx:
                await tx.users.create("acme", telegram_id=number)
                await asyncio.sleep(0.05)

        with connections(database, 3), within(2):
            await asyncio.gather(*(works(number) for number in range(1, 13)))

        assert await store.users.count("acme") == 12


async def test_a_place_that_becomes_free_serves_who_waits_at_once(thea_database: TestDatabase, tenant: str) -> None:
    async with opened(thea_database.app_url, pool_size=1, max_overflow=0) as store:
        connection = await store._database._pool.acquire(None)
        waiting = asyncio.create_task(store.users.count(tenant))
        await asyncio.sleep(0.05)
        store._database._pool.end(connection)

        with within(PROMPT):
            assert await waiting == 0


async def test_at_the_servers_limit_who_waits_in_vain_is_told_of_it(
    thea_new_database: Callable[..., TestDatabase], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thea_store.database.connector._STARTING", 0.1)
    database = thea_new_database()
    async with opened(database.app_url, pool_size=1, max_overflow=5, pool_timeout=1.5) as store:
        with connections(database, 1):
            async with store.transaction("acme"):
                with within(1.5), pytest.raises(PoolTimeoutError, match="the server has no connection left"):
                    await store.users.count("acme")


async def test_a_connection_that_the_server_takes_again_serves_who_waits(
    thea_new_database: Callable[..., TestDatabase], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thea_store.database.connector._STARTING", 0.1)
    database = thea_new_database()
    async with opened(database.app_url, pool_size=1, max_overflow=5) as store, store.transaction("acme"):
        with connections(database, 1):
            waiting = asyncio.create_task(store.users.count("acme"))
            await asyncio.sleep(0.5)
        with connections(database, -1), within(2):
            assert await waiting == 0
