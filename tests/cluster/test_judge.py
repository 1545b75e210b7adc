"""The judge of `test_failover`: it reports each way in which a writer may have been told what is not so."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest
import pytest_asyncio

from tests.cluster.judge import Told, Verdict, judge
from tests.cluster.writing import Write, counted, create, write
from tests.support.wire import Wire
from thea_store import OutcomeUnknownError, Settings, Store, StoreError
from thea_store.testing import TestDatabase

TOLD = Told(done={"a", "b"}, unknown={"c", "d"}, failed={"e"})
"""What the writers were told where all goes well: of c and d nobody knows, and c is there."""


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ({"a": 1, "b": 1, "c": 1}, Verdict([], [], [])),
        ({"a": 1, "c": 1}, Verdict(["b"], [], [])),
        ({"a": 1, "b": 2, "c": 1}, Verdict([], ["b"], [])),
        ({"a": 1, "b": 1, "d": 2}, Verdict([], ["d"], [])),
        ({"a": 1, "b": 1, "e": 1}, Verdict([], [], ["e"])),
        ({"b": 2, "e": 3}, Verdict(["a"], ["b", "e"], ["e"])),
    ],
)
def test_it_tells_what_was_lost_written_twice_or_told_wrongly(found: dict[str, int], verdict: Verdict) -> None:
    assert judge(TOLD, found) == verdict


@pytest_asyncio.fixture
async def wire(thea_database: TestDatabase) -> AsyncIterator[Wire]:
    async with Wire(thea_database.app_url).listening() as proxy:
        yield proxy


async def repeat_blindly(store: Store, tenant: str, user: int, text: str) -> None:
    """As a caller does that takes an unknown outcome for a failure, and tries again."""
    try:
        await create(store, tenant, user, text)
    except OutcomeUnknownError:
        await create(store, tenant, user, text)


async def deny(store: Store, tenant: str, user: int, text: str) -> None:
    """As a library would that takes an unknown outcome for a failure."""
    try:
        await create(store, tenant, user, text)
    except OutcomeUnknownError:
        raise StoreError("nothing was written") from None


FIRST = "writer 0 note 1"


@pytest.mark.parametrize(
    ("one", "verdict"),
    [
        (create, Verdict([], [], [])),
        (repeat_blindly, Verdict([], [FIRST], [])),
        (deny, Verdict([], [], [FIRST])),
    ],
)
async def test_writers_that_read_nothing_back_and_errors_that_deny_a_write_are_reported(
    wire: Wire, thea_database: TestDatabase, tenant: str, one: Write, verdict: Verdict
) -> None:
    told, over = Told(), asyncio.Event()
    async with Store.open(Settings(url=wire.url, pool_size=1, ssl_mode="disable")) as store:
        user = (await store.users.create(tenant, telegram_id=1)).id
        await store.notes.create(tenant, user, "prepared")
        wire.answers.clear()
        writer = asyncio.create_task(write(0, partial(one, store, tenant, user), told, over))
        while FIRST not in counted(thea_database.superuser_url, tenant):  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.01)
        wire.cut()
        wire.answers.set()
        over.set()
        await writer

    assert judge(told, counted(thea_database.superuser_url, tenant)) == verdict
