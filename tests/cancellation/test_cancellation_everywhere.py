"""Every public call, cancelled at every suspension, wherever it can run and whatever the pool has for it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import pytest_asyncio

from tests.cancellation.arena import Arena
from tests.support.calls import CALLS, Call
from tests.support.stepping import Moment, Stepped, stepped_through
from thea_store import Store, StoreTransaction
from thea_store.testing import TestDatabase

pytestmark = pytest.mark.slow

Count = Callable[[int], None]


@pytest_asyncio.fixture(scope="module")
async def arena(thea_new_database: Callable[..., TestDatabase]) -> AsyncIterator[Arena]:
    async with Arena.on(thea_new_database()) as arena:
        yield arena


@pytest_asyncio.fixture(scope="module")
async def stores(arena: Arena) -> AsyncIterator[dict[str, Store]]:
    async with arena.store() as session, arena.store(tenant_scope="transaction") as transaction:
        yield {"session": session, "transaction": transaction}


@pytest.fixture
def count(request: pytest.FixtureRequest) -> Count:
    """Notes how many cancellations a test made, for the summary."""
    return lambda points: request.node.user_properties.append(("cancellation points", points))


async def alone(store: Store, call: Call, arguments: dict[str, Any], tenant: str) -> object:
    return await call.run(store, tenant, arguments)


async def in_a_transaction(store: Store, call: Call, arguments: dict[str, Any], tenant: str) -> object:
    async with store.transaction(tenant) as tx:
        await tx.users.create(tenant, telegram_id=1)
        return await call.run(tx, tenant, arguments)


async def in_a_savepoint(store: Store, call: Call, arguments: dict[str, Any], tenant: str) -> object:
    async with store.transaction(tenant) as tx:
        await tx.users.create(tenant, telegram_id=1)
        async with tx.savepoint():
            return await call.run(tx, tenant, arguments)


async def in_a_function(store: Store, call: Call, arguments: dict[str, Any], tenant: str) -> object:
    async def work(tx: StoreTransaction) -> object:
        await tx.users.create(tenant, telegram_id=1)
        return await call.run(tx, tenant, arguments)

    return await store.run(tenant, work)


@dataclass(frozen=True)
class Place:
    """Where a call runs; and whether the pool's connection carries its tenant or another, has no statement prepared, or
    is yet to be made."""

    scope: str
    run: Callable[[Store, Call, dict[str, Any], str], Coroutine[Any, Any, object]]
    connection: str

    def __str__(self) -> str:
        return f"{self.run.__name__}-{self.scope}-{self.connection}"

    async def ready(self, arena: Arena, store: Store, tenant: str) -> None:
        pool = store._database._pool
        if self.connection == "none":
            pool.expire()
        elif self.connection == "unprepared":
            for connection in pool._idle:
                connection.raw._drop_local_statement_cache()  # type: ignore[attr-defined]
        else:
            await store.users.count(tenant if self.connection == "own" else arena.bystander.tenant)

    async def step_through(self, arena: Arena, stores: dict[str, Store], call: Call, **how: Any) -> int:
        store = stores[self.scope]
        work = partial(self.run, store, call, arena.arguments(call))
        writes = self.run is not alone or arena.is_seen_to_write(call)
        return await arena.step_through(store, work, partial(self.ready, arena, store), writes=writes, **how)


# A transaction begins with the same message in both scopes, and whatever the connection carries.
PLACES = [
    Place("transaction", alone, "own"),
    Place("session", alone, "unprepared"),
    Place("session", in_a_transaction, "another"),
    Place("transaction", in_a_savepoint, "own"),
    Place("session", in_a_function, "own"),
]


@pytest.mark.parametrize("place", PLACES, ids=str)
@pytest.mark.parametrize("call", CALLS, ids=str)
async def test_a_cancelled_call_is_done_or_not_wherever_it_runs(
    stores: dict[str, Store], arena: Arena, call: Call, place: Place, count: Count
) -> None:
    count(await place.step_through(arena, stores, call))


@pytest.mark.parametrize(
    "place", [Place("session", alone, "another"), Place("session", in_a_savepoint, "own")], ids=str
)
@pytest.mark.parametrize("call", [call for call in CALLS if call.writes], ids=str)
async def test_a_call_that_is_cancelled_again_while_it_cleans_up_leaves_nothing(
    stores: dict[str, Store], arena: Arena, call: Call, place: Place, count: Count
) -> None:
    count(await place.step_through(arena, stores, call, again=True))


@pytest.mark.parametrize(
    "place", [Place("session", alone, "another"), Place("session", in_a_savepoint, "own")], ids=str
)
@pytest.mark.parametrize("call", CALLS, ids=str)
async def test_a_call_that_is_closed_or_interrupted_is_done_or_not(
    stores: dict[str, Store], arena: Arena, call: Call, place: Place, count: Count
) -> None:
    count(await place.step_through(arena, stores, call, moments=["closed", "interrupted"]))


@pytest.mark.parametrize("given", ["a connection", "a place for one"])
@pytest.mark.parametrize("call", CALLS, ids=str)
async def test_a_call_that_is_cancelled_in_the_queue_gives_its_turn_to_the_next(
    stores: dict[str, Store], arena: Arena, call: Call, given: str, count: Count
) -> None:
    for store in stores.values():
        count(await arena.step_through_the_queue(store, partial(alone, store, call, arena.arguments(call)), given))


@pytest.mark.parametrize("call", CALLS, ids=str)
async def test_a_savepoint_that_a_cancellation_left_is_undone_and_the_rest_is_kept(
    stores: dict[str, Store], arena: Arena, call: Call, count: Count
) -> None:
    """As with `asyncio.timeout` round a savepoint: the transaction goes on without it."""
    store, arguments = stores["session"], arena.arguments(call)
    without = arena.copy().tenant
    await arena.between_two_writes(store, without, lambda tx: tx.users.count(without), {})
    kept: list[str] = []

    async def run(stops: dict[int, Moment]) -> Stepped:
        tenant = arena.copy().tenant

        async def inside(tx: StoreTransaction) -> None:
            async with tx.savepoint():
                await call.run(tx, tenant, arguments)

        stepped, refused = await arena.between_two_writes(store, tenant, inside, stops)
        assert refused is None
        if stepped.made:
            kept.append(tenant)
        return stepped

    count(await stepped_through(run))
    states = arena.states([without, *kept])

    assert {states[tenant] for tenant in kept} == {states[without]}


@pytest.mark.parametrize("call", CALLS, ids=str)
async def test_a_transaction_goes_on_after_no_call_that_was_cut_short_in_it(
    stores: dict[str, Store], arena: Arena, call: Call, count: Count
) -> None:
    store, arguments, tenants = stores["transaction"], arena.arguments(call), [arena.copy().tenant]

    async def run(stops: dict[int, Moment]) -> Stepped:
        tenant = arena.copy().tenant
        stepped, refused = await arena.between_two_writes(
            store, tenant, lambda tx: call.run(tx, tenant, arguments), stops
        )
        assert bool(refused) == bool(stepped.made)
        tenants.extend([tenant] if refused else [])
        return stepped

    count(await stepped_through(run))

    assert len({*arena.states(tenants).values()}) == 1


# One call sets a setting of its transaction: it reads no table, and waits for none.
@pytest.mark.parametrize("call", [call for call in CALLS if str(call) != "messages.plan_for_sizes"], ids=str)
@pytest.mark.parametrize(
    "place",
    [Place("session", alone, "another"), Place("session", alone, "own"), Place("transaction", alone, "own")],
    ids=str,
)
async def test_a_call_that_is_cancelled_while_the_server_works_is_not_done_and_stops_the_server(
    stores: dict[str, Store], arena: Arena, call: Call, place: Place, count: Count
) -> None:
    store, arguments = stores[place.scope], arena.arguments(call)
    await call.run(store, arena.copy().tenant, arguments)  # from now on its statement is prepared
    tenant = arena.copy().tenant
    await place.ready(arena, store, tenant)
    await arena.cancel_while_the_server_works(store, call.run(store, tenant, arguments))
    await arena.unharmed(store, tenant)
    count(1)

    assert arena.state(tenant) == arena.state(arena.copy().tenant)
