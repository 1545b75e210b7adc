"""What a call costs on the wire, counted by a proxy between the pool and the server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Literal

import pytest
import pytest_asyncio

from tests.support.pooler import pgbouncer
from tests.support.wire import Wire
from thea_store import Settings, Store, User
from thea_store.testing import TestDatabase


async def opened(wire: Wire, scope: Literal["session", "transaction"]) -> Store:
    settings = Settings(url=wire.url, pool_size=1, max_overflow=0, tenant_scope=scope, ssl_mode="disable")
    return await Store.open(settings)


@pytest_asyncio.fixture
async def wire(thea_database: TestDatabase) -> AsyncIterator[Wire]:
    async with Wire(thea_database.app_url).listening() as proxy:
        yield proxy


async def warmed_up(store: Store, tenant: str, other: str) -> User:
    """Every statement prepared once; the connection then carries `tenant`."""
    for one in (other, tenant):
        user = await store.users.get_or_create_from_telegram(one, 1)
        await store.users.get_by_id(one, user.id)
        await store.users.update_last_activity(one, user.id)
    return user


async def test_a_call_on_a_connection_that_carries_the_tenant_is_one_round_trip(
    wire: Wire, tenant: str, other_tenant: str
) -> None:
    store = await opened(wire, "session")
    user = await warmed_up(store, tenant, other_tenant)

    wire.reset()
    await store.users.get_by_id(tenant, user.id)
    assert wire.round_trips == 1

    wire.reset()
    await store.users.update_last_activity(tenant, user.id)
    assert wire.round_trips == 1
    await store.close()


async def test_a_call_on_a_connection_of_another_tenant_is_one_round_trip_too(
    wire: Wire, tenant: str, other_tenant: str
) -> None:
    store = await opened(wire, "session")
    user = await warmed_up(store, tenant, other_tenant)

    wire.reset()
    assert await store.users.get_by_id(other_tenant, user.id) is None
    assert wire.round_trips == 1

    wire.reset()
    await store.users.update_last_activity(tenant, user.id)
    assert wire.round_trips == 1
    await store.close()


@pytest.mark.parametrize("statements", [1, 2, 5])
@pytest.mark.parametrize("scope", ["session", "transaction"])
async def test_a_transaction_of_n_statements_is_n_plus_one_round_trips(
    wire: Wire, tenant: str, other_tenant: str, scope: Literal["session", "transaction"], statements: int
) -> None:
    store = await opened(wire, scope)
    user = await warmed_up(store, tenant, other_tenant)

    wire.reset()
    async with store.transaction(tenant, actor="user:1", request_id="r-1") as tx:
        for _ in range(statements):
            await tx.users.update_last_activity(tenant, user.id)
    assert wire.round_trips == statements + 1
    await store.close()


@pytest.mark.parametrize("scope", ["session", "transaction"])
async def test_a_transaction_that_begins_with_a_savepoint_takes_it_along(
    wire: Wire, tenant: str, other_tenant: str, scope: Literal["session", "transaction"]
) -> None:
    store = await opened(wire, scope)
    user = await warmed_up(store, tenant, other_tenant)

    wire.reset()
    async with store.transaction(tenant) as tx, tx.savepoint():
        await tx.users.update_last_activity(tenant, user.id)
    assert wire.round_trips == 3  # the savepoint's release goes before the commit
    await store.close()


async def test_a_transaction_without_a_statement_says_nothing(wire: Wire, tenant: str, other_tenant: str) -> None:
    store = await opened(wire, "session")
    await warmed_up(store, tenant, other_tenant)

    wire.reset()
    async with store.transaction(tenant):
        pass
    with pytest.raises(KeyError):
        async with store.transaction(tenant):
            raise KeyError
    assert wire.round_trips == 0
    await store.close()


async def test_in_transaction_scope_a_single_call_is_one_round_trip_whoever_called_before(
    wire: Wire, tenant: str, other_tenant: str
) -> None:
    store = await opened(wire, "transaction")
    user = await warmed_up(store, tenant, other_tenant)

    for one in (tenant, other_tenant, tenant):
        wire.reset()
        await store.users.get_by_id(one, user.id)
        assert wire.round_trips == 1
    wire.reset()
    await store.users.update_last_activity(tenant, user.id)
    assert wire.round_trips == 1
    await store.close()


async def test_behind_a_pooler_a_single_call_is_one_round_trip_and_a_transaction_n_plus_one(
    thea_database: TestDatabase, tenant: str, other_tenant: str
) -> None:
    with pgbouncer(thea_database.app_url) as url:
        async with Wire(url).listening() as wire:
            store = await opened(wire, "transaction")
            user = await warmed_up(store, tenant, other_tenant)

            wire.reset()
            await store.users.get_by_id(tenant, user.id)
            await store.users.update_last_activity(tenant, user.id)
            assert wire.round_trips == 2

            wire.reset()
            async with store.transaction(tenant, actor="user:1") as tx:
                await tx.users.get_by_id(tenant, user.id)
                await tx.users.update_last_activity(tenant, user.id)
            assert wire.round_trips == 3
            await store.close()
