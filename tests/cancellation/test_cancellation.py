"""Every public call, cancelled at every suspension it has: it is done or not, and leaves nothing behind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from functools import partial

import pytest
import pytest_asyncio

from tests.cancellation.arena import Arena
from tests.support.calls import CALLS, Call
from thea_store import Store
from thea_store.testing import TestDatabase


@pytest_asyncio.fixture(scope="module")
async def arena(thea_new_database: Callable[..., TestDatabase]) -> AsyncIterator[Arena]:
    async with Arena.on(thea_new_database()) as arena:
        yield arena


@pytest_asyncio.fixture(scope="module")
async def single(arena: Arena) -> AsyncIterator[Store]:
    async with arena.store() as store:
        yield store


@pytest.mark.parametrize("carried", ["its own tenant", "another tenant"])
@pytest.mark.parametrize("call", CALLS, ids=str)
async def test_a_call_that_is_cancelled_is_done_or_not_and_leaves_nothing(
    single: Store, arena: Arena, call: Call, carried: str, request: pytest.FixtureRequest
) -> None:
    async def carry(tenant: str) -> None:
        await single.users.count(tenant if carried == "its own tenant" else arena.bystander.tenant)

    work = partial(call.run, single, arguments=arena.arguments(call))
    points = await arena.step_through(single, work, carry, writes=arena.is_seen_to_write(call))
    request.node.user_properties.append(("cancellation points", points))

    assert points >= 2
