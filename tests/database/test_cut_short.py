"""What else cuts a call short, and must leave nothing behind: groups, timeouts, closed coroutines, iterators left."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from functools import partial

import pytest
import pytest_asyncio

from tests.cancellation.arena import Arena
from tests.support.aftermath import carries_what_its_pool_thinks
from tests.support.calls import CALLS, Call
from tests.support.stepping import Interruption, Moment, Stepped, stepped_through, stopped
from tests.support.wire import Wire
from thea_store import Settings, Store, StoreError, StoreTransaction, User
from thea_store.database import wire
from thea_store.testing import TestDatabase


@pytest_asyncio.fixture(scope="module")
async def arena(thea_new_database: Callable[..., TestDatabase]) -> AsyncIterator[Arena]:
    async with Arena.on(thea_new_database()) as arena:
        yield arena


@pytest_asyncio.fixture(scope="module")
async def single(arena: Arena) -> AsyncIterator[Store]:
    async with arena.store(pool_timeout=20) as store:
        yield store


# --- a tenant that does not reach the server ----------------------------------------------------


class Garbling(Wire):
    """Spoils what tells the server a tenant on its way, so that the server refuses it."""

    spoils = False
    tells = wire.SET_TENANT_NAME.encode()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        spoiled = asyncio.StreamReader()

        async def pump() -> None:
            while data := await reader.read(65536):
                spoiled.feed_data(data.replace(self.tells, self.tells.upper()) if self.spoils else data)
            spoiled.feed_eof()

        await asyncio.gather(pump(), super()._forward(spoiled, writer))


@pytest.mark.parametrize("cancelled", [False, True])
async def test_a_connection_that_did_not_take_its_tenant_is_not_taken_for_that_tenants(
    arena: Arena, *, cancelled: bool
) -> None:
    tenant = arena.copy().tenant
    between = Garbling(arena.database.app_url)
    async with (
        between.listening(),
        Store.open(Settings(url=between.url, ssl_mode="disable", pool_size=1, max_overflow=0)) as store,
    ):
        assert await store.users.count("bystander") == 1
        between.spoils = True
        with contextlib.suppress(StoreError):
            await stopped(store.users.count(tenant), {1: "before"} if cancelled else {})
            assert cancelled
        between.spoils = False
        async with asyncio.timeout(20):
            while store._database.figures().idle < store._database.figures().size:  # noqa: ASYNC110 - there is no event
                await asyncio.sleep(0.001)
        await carries_what_its_pool_thinks(store)

        assert await store.users.count(tenant) == 1


# --- the server ---------------------------------------------------------------------------------


@pytest.mark.parametrize("carried", ["its own tenant", "another tenant"])
async def test_a_call_that_is_cancelled_while_the_server_works_stops_the_server(
    single: Store, arena: Arena, carried: str
) -> None:
    tenant = arena.copy().tenant
    await single.users.create(arena.copy().tenant, telegram_id=9)  # so that the statement is prepared
    if carried == "its own tenant":
        await single.users.count(tenant)

    await arena.cancel_while_the_server_works(single, single.users.create(tenant, telegram_id=9))

    await carries_what_its_pool_thinks(single)
    assert await single.users.get_by_telegram_id(tenant, 9) is None


# --- several at once ----------------------------------------------------------------------------


async def _create(store: Store, tenant: str, number: int) -> None:
    """A user with a note: both or none."""
    async with store.transaction(tenant) as tx:
        user = await tx.users.create(tenant, telegram_id=number)
        async with tx.savepoint():
            await tx.notes.create(tenant, user.id, "suya")


async def _all_have_notes(store: Store, tenant: str) -> bool:
    overviews = [await store.users.get_with(tenant, user.id, notes=9) async for user in store.users.iterate(tenant)]
    return all(found is not None and len(found.notes) == 1 for found in overviews)


async def test_many_that_are_cancelled_together_are_each_done_or_not(single: Store, arena: Arena) -> None:
    for turns in range(0, 80, 5):
        tenant = arena.copy().tenant
        many = asyncio.gather(*(_create(single, tenant, n) for n in range(1, 12)))
        for _ in range(turns):
            await asyncio.sleep(0)
        many.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await many
        await arena.unharmed(single, tenant)

        assert await _all_have_notes(single, tenant)


async def test_a_group_that_one_failure_ends_leaves_each_of_the_others_done_or_not(single: Store, arena: Arena) -> None:
    for turns in range(0, 80, 5):
        tenant = arena.copy().tenant

        async def fail(turns: int = turns) -> None:
            for _ in range(turns):
                await asyncio.sleep(0)
            raise KeyError

        with pytest.raises(ExceptionGroup, check=lambda group: len(group.exceptions) == 1):
            async with asyncio.TaskGroup() as group:
                for number in range(1, 12):
                    group.create_task(_create(single, tenant, number))
                group.create_task(fail())
        await arena.unharmed(single, tenant)

        assert await _all_have_notes(single, tenant)


@pytest.mark.parametrize("seconds", [0, 0.0001, 0.001, 0.002, 0.004, 0.008])
async def test_a_timeout_round_a_transaction_is_just_that(single: Store, arena: Arena, seconds: float) -> None:
    tenant = arena.copy().tenant
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await _create(single, tenant, 1)
    await arena.unharmed(single, tenant)

    assert await _all_have_notes(single, tenant)


@pytest.mark.parametrize("given", ["a connection", "a place for one"])
async def test_a_call_that_is_stopped_in_the_queue_gives_its_turn_to_the_next(
    single: Store, arena: Arena, given: str, request: pytest.FixtureRequest
) -> None:
    points = await arena.step_through_the_queue(single, single.users.count, given)
    request.node.user_properties.append(("cancellation points", points))

    assert points == 3


@pytest.mark.parametrize("moment", ["before", "with", "closed"])
async def test_a_call_that_is_stopped_while_another_has_its_turn_in_the_transaction_harms_none(
    single: Store, arena: Arena, moment: Moment
) -> None:
    tenant = arena.copy().tenant
    async with single.transaction(tenant) as tx:
        first = asyncio.create_task(tx.users.create(tenant, telegram_id=1))
        await asyncio.sleep(0)
        later: list[asyncio.Task[User]] = []
        stepped = await stopped(
            tx.users.create(tenant, telegram_id=2),
            {1: moment},
            lambda _: later.append(asyncio.create_task(tx.users.create(tenant, telegram_id=3))),
        )
        await asyncio.gather(first, *later)
    await arena.unharmed(single, tenant)

    assert stepped.made
    assert {user.telegram_id async for user in single.users.iterate(tenant)} & {1, 2, 3} == {1, 3}


async def test_a_group_that_fails_within_a_savepoint_is_undone_with_it(single: Store, arena: Arena) -> None:
    for turns in range(0, 40, 3):
        tenant = arena.copy().tenant

        async def fail(turns: int = turns) -> None:
            for _ in range(turns):
                await asyncio.sleep(0)
            raise KeyError

        async with single.transaction(tenant) as tx:
            await tx.users.create(tenant, telegram_id=1)
            with pytest.raises(ExceptionGroup):
                async with tx.savepoint(), asyncio.TaskGroup() as group:
                    for number in range(2, 6):
                        group.create_task(tx.users.create(tenant, telegram_id=number))
                    group.create_task(fail())
            await tx.users.create(tenant, telegram_id=7)
        await arena.unharmed(single, tenant)

        assert {user.telegram_id async for user in single.users.iterate(tenant)} & {*range(1, 8)} == {1, 7}


@pytest.mark.parametrize("moment", ["before", "with"])
async def test_an_undo_that_is_cancelled_while_it_waits_for_its_turn_lets_nothing_be_committed(
    single: Store, arena: Arena, moment: Moment
) -> None:
    tenant = arena.copy().tenant
    before = arena.state(tenant)
    begun: list[asyncio.Task[User]] = []

    async def inside(tx: StoreTransaction) -> None:
        async with tx.savepoint():
            begun.append(asyncio.create_task(tx.users.create(tenant, telegram_id=3)))
            await asyncio.sleep(0)
            raise KeyError

    stepped, refused = await arena.between_two_writes(single, tenant, inside, {3: moment})
    await asyncio.wait(begun)

    assert stepped.suspensions == 3
    assert stepped.made
    assert "cut short" in str(refused)
    assert arena.state(tenant) == before


@pytest.mark.parametrize("again", [False, True])
async def test_a_savepoint_that_is_cut_short_anywhere_is_undone_and_the_transaction_goes_on(
    single: Store, arena: Arena, *, again: bool, request: pytest.FixtureRequest
) -> None:
    states: dict[str, bool] = {}

    async def run(stops: dict[int, Moment]) -> Stepped:
        tenant = arena.copy().tenant

        async def inside(tx: StoreTransaction) -> None:
            async with tx.savepoint():
                await tx.users.create(tenant, telegram_id=3)
                async with tx.savepoint():
                    await tx.users.create(tenant, telegram_id=4)
            async with tx.savepoint():
                await tx.users.create(tenant, telegram_id=5)

        stepped, refused = await arena.between_two_writes(single, tenant, inside, stops)
        assert refused is None
        ids = {user.telegram_id async for user in single.users.iterate(tenant)} & {*range(1, 6)}
        assert ids == {1, 2, 3, 4, 5} if not stepped.made else ids in ({1, 2}, {1, 2, 3, 4})
        states[tenant] = bool(stepped.made)
        return stepped

    points = await stepped_through(run, again=again)
    request.node.user_properties.append(("cancellation points", points))

    assert points >= 2 * len(["savepoint", "create", "savepoint", "create", "release and savepoint", "create"])


@pytest.mark.parametrize("form", ["timeout", "wait_for"])
async def test_a_timeout_round_a_savepoint_leaves_a_transaction_that_goes_on(
    single: Store, arena: Arena, form: str
) -> None:
    for turn in range(120):
        tenant = arena.copy().tenant

        async def part(tx: StoreTransaction, tenant: str = tenant) -> None:
            async with tx.savepoint():
                await tx.users.create(tenant, telegram_id=3)
                await tx.users.create(tenant, telegram_id=4)

        async with single.transaction(tenant) as tx:
            await tx.users.create(tenant, telegram_id=1)
            with contextlib.suppress(TimeoutError):
                if form == "wait_for":
                    await asyncio.wait_for(part(tx), turn * 0.00004)
                else:
                    async with asyncio.timeout(turn * 0.00004):
                        await part(tx)
            await tx.users.create(tenant, telegram_id=2)

        ids = {user.telegram_id async for user in single.users.iterate(tenant)} & {*range(1, 5)}
        assert ids in ({1, 2}, {1, 2, 3, 4})


# --- calls of several statements ----------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "users.get_or_create_from_telegram",
        "conversations.get_or_create",
        "messages.add_message",
        "messages.add_message_with_prune",
        "events.upsert_external",
    ],
)
async def test_a_call_that_restores_what_it_needs_is_done_or_not(
    single: Store, arena: Arena, name: str, request: pytest.FixtureRequest
) -> None:
    (call,) = (call for call in CALLS if str(call) == name)
    work = partial(call.run, single, arguments=arena.arguments_of_what_is_deleted(call))
    points = await arena.step_through(single, work, single.users.count, writes=True)
    request.node.user_properties.append(("cancellation points", points))

    # A user returns by one statement; it may have to be tried again.
    steps = ["try"] if name.startswith("users.") else ["try", "begin and find", "restore", "do", "commit"]
    assert points >= 2 * len(steps)


# --- coroutines that are closed, and other exceptions -------------------------------------------


@pytest.mark.parametrize("call", [Call("users", "get_by_id"), Call("users", "delete")], ids=str)
async def test_a_call_that_is_closed_or_interrupted_is_done_or_not(
    single: Store, arena: Arena, call: Call, request: pytest.FixtureRequest
) -> None:
    work = partial(call.run, single, arguments=arena.arguments(call))
    points = await arena.step_through(
        single, work, single.users.count, writes=call.writes, moments=["closed", "interrupted"]
    )
    request.node.user_properties.append(("cancellation points", points))

    assert points >= 2


@pytest.mark.parametrize("again", [False, True])
async def test_a_transaction_that_fails_is_undone_though_its_undoing_is_cancelled(
    single: Store, arena: Arena, *, again: bool, request: pytest.FixtureRequest
) -> None:
    async def fails(tenant: str) -> None:
        with contextlib.suppress(KeyError):
            async with single.transaction(tenant) as tx:
                await tx.users.create(tenant, telegram_id=1)
                with contextlib.suppress(KeyError):
                    async with tx.savepoint():
                        await tx.users.create(tenant, telegram_id=2)
                        raise KeyError
                raise KeyError

    points = await arena.step_through(single, fails, single.users.count, writes=False, again=again)
    request.node.user_properties.append(("cancellation points", points))

    assert points >= 2 * len(["begin and create", "savepoint", "create", "undo", "rollback"])


async def test_a_begin_of_its_own_that_is_cut_short_leaves_no_transaction_open(
    single: Store, arena: Arena, request: pytest.FixtureRequest
) -> None:
    async def lay_idle(tenant: str) -> None:
        await single.users.count(tenant)
        for connection in single._database._pool._idle:
            connection.used -= 60

    async def create(tenant: str) -> None:
        async with single.transaction(tenant) as tx:
            await tx.users.create(tenant, telegram_id=1)

    points = await arena.step_through(single, create, lay_idle, writes=True)
    request.node.user_properties.append(("cancellation points", points))

    assert points >= 2 * len(["begin", "create", "commit"])


@pytest.mark.parametrize("joined", [True, False])
async def test_a_read_that_is_a_block_of_its_own_and_cut_short_leaves_no_transaction_open(
    arena: Arena, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, *, joined: bool
) -> None:
    """A Citus cluster needs one; without joining, its end goes by itself."""
    if not joined:
        monkeypatch.setattr(wire, "_SYNC", b"none")
    async with arena.store(tenant_scope="transaction") as store:
        store._database._connector.distributed = True

        points = await arena.step_through(store, store.users.count, store.users.count, writes=False)
        request.node.user_properties.append(("cancellation points", points))

    assert points >= 2


async def test_a_task_that_is_destroyed_within_a_transaction_gives_its_connection_back(
    single: Store, arena: Arena
) -> None:
    """As one that nobody keeps, and that waits for what nobody else knows."""
    tenant = arena.copy().tenant
    before, inside = arena.state(tenant), asyncio.Event()

    async def forgotten() -> None:
        async with single.transaction(tenant) as tx, tx.savepoint():
            await tx.users.create(tenant, telegram_id=1)
            inside.set()
            await asyncio.get_running_loop().create_future()

    tasks = {asyncio.create_task(forgotten())}
    await inside.wait()
    await asyncio.sleep(0)
    tasks.clear()  # the last reference
    gc.collect()
    await arena.unharmed(single, tenant)

    assert arena.state(tenant) == before


async def test_a_savepoint_that_another_kind_of_exception_leaves_is_undone(single: Store, arena: Arena) -> None:
    tenant = arena.copy().tenant
    async with single.transaction(tenant) as tx:
        await tx.users.create(tenant, telegram_id=1)
        with pytest.raises(Interruption):
            async with tx.savepoint():
                await tx.users.create(tenant, telegram_id=2)
                raise Interruption
        await tx.users.create(tenant, telegram_id=3)

    assert {1, 3} == {user.telegram_id async for user in single.users.iterate(tenant)} & {1, 2, 3}


async def test_after_an_iterator_was_closed_within_its_savepoint_nothing_of_the_transaction_is_kept(
    single: Store, arena: Arena
) -> None:
    """Nothing can be awaited there, so that the savepoint stays; what is done later would be undone with it, or not."""
    tenant = arena.copy().tenant
    before = arena.state(tenant)

    async def numbers(tx: StoreTransaction) -> AsyncGenerator[int, None]:
        async with tx.savepoint():
            yield (await tx.users.create(tenant, telegram_id=1)).id
            yield (await tx.users.create(tenant, telegram_id=2)).id

    with pytest.raises(StoreError, match="commit: an earlier call .* was cut short"):
        async with single.transaction(tenant) as tx:
            async with contextlib.aclosing(numbers(tx)) as found:
                await anext(found)
            with pytest.raises(StoreError, match="cut short"):
                await tx.users.create(tenant, telegram_id=3)
    await arena.unharmed(single, tenant)

    assert arena.state(tenant) == before


async def test_an_iteration_that_is_left_half_way_holds_no_connection(single: Store, arena: Arena) -> None:
    tenant = arena.copy().tenant
    await single.users.create_many(tenant, [{"telegram_id": number} for number in range(1, 10)])
    for wanted in range(1, 9):
        seen = 0
        async for _ in single.users.iterate(tenant, batch_size=2):
            seen += 1
            assert single._database.figures().idle == 1
            if seen == wanted:
                break
    gc.collect()
    await arena.unharmed(single, tenant)
