"""A tenant that floods the pool delays the others by a call each, and never holds all connections against them."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.database.test_pool import opened, settled
from thea_store import Store
from thea_store.database.waiters import Waiters
from thea_store.testing import TestDatabase

FLOOD, OTHERS = "flood", ["other-1", "other-2", "other-3"]


class Holders:
    """Transactions that stay open until they are told to end, and the order in which they began."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.order: list[str] = []
        self._ends: dict[str, list[asyncio.Event]] = {}
        self.holding: Counter[str] = Counter()
        self._tasks: list[asyncio.Task[None]] = []

    async def ask(self, tenant: str, calls: int = 1) -> None:
        """Begin so many transactions, each by a task of its own, and let them come into the line."""
        for _ in range(calls):
            self._tasks.append(asyncio.create_task(self._hold(tenant)))
            await asyncio.sleep(0)

    async def began(self, count: int) -> None:
        """Wait until so many transactions have begun."""
        async with asyncio.timeout(30):
            while len(self.order) < count:  # noqa: ASYNC110 - the server answers when it answers
                await asyncio.sleep(0.001)

    async def end(self, tenant: str) -> None:
        """End the oldest open transaction of this tenant, and wait until the next one in line has begun."""
        begun = len(self.order)
        self._ends[tenant].pop(0).set()
        await self.began(begun + 1)

    async def end_all(self) -> None:
        """End every transaction, also those that have not begun yet."""
        while not all(task.done() for task in self._tasks):
            for ends in self._ends.values():
                while ends:
                    ends.pop().set()
            await asyncio.sleep(0.001)
        await asyncio.gather(*self._tasks)

    async def _hold(self, tenant: str) -> None:
        async with self._store.transaction(tenant):
            self.order.append(tenant)
            self.holding[tenant] += 1
            event = asyncio.Event()
            self._ends.setdefault(tenant, []).append(event)
            await event.wait()
        self.holding[tenant] -= 1


async def test_a_call_waits_for_one_call_of_a_tenant_that_floods(thea_database: TestDatabase) -> None:
    async with opened(thea_database.app_url, pool_size=1, max_overflow=0) as store:
        await settled(store, idle=1)
        holders = Holders(store)
        await holders.ask(FLOOD, 20)
        await holders.began(1)
        for tenant in OTHERS:
            await holders.ask(tenant)

        await holders.end_all()
        assert holders.order[: 2 + len(OTHERS)] == [FLOOD, FLOOD, *OTHERS]
        assert holders.order.count(FLOOD) == 20


@pytest.mark.parametrize("through", ["idle connections", "the line"])
async def test_a_tenant_gets_no_more_than_a_little_over_half_of_the_pool_while_others_wait(
    thea_database: TestDatabase, through: str
) -> None:
    async with opened(thea_database.app_url, pool_size=6, max_overflow=0) as store:
        await settled(store, idle=6)
        holders = Holders(store)
        if through == "the line":
            await holders.ask("before", 6)
            await holders.began(6)
        await holders.ask(FLOOD, 26)
        for _ in range(6 if through == "the line" else 0):
            await holders.end("before")
        await holders.began(6)
        assert holders.holding[FLOOD] == 6, "nobody else waits"

        for tenant in OTHERS:
            await holders.ask(tenant, 2)
        holders.order.clear()
        for _ in range(4):
            await holders.end(FLOOD)
        # Of the five, four and three that the flood still held, three leave it a turn.
        assert holders.order == ["other-1", "other-2", FLOOD, "other-3"]
        await holders.end_all()


_LOOP = asyncio.new_event_loop()
_TENANTS = ["a", "b", "c", None]
_STEPS = st.lists(st.tuples(st.sampled_from(["add", "add", "take", "cancel", "leave"]), st.integers(0, 3)), max_size=60)


_COMES_AGAIN = [*[("add", 0)] * 3, ("add", 1), ("take", 0), ("leave", 2), ("add", 1), ("take", 0), ("take", 0)]


@example(_COMES_AGAIN)
@given(_STEPS)
def test_each_call_leaves_the_line_once_in_the_order_of_its_tenant_and_tenants_take_turns(
    steps: list[tuple[str, int]],
) -> None:
    waiters = Waiters[str]()
    waiting: list[tuple[str | None, asyncio.Future[str]]] = []
    passed: Counter[tuple[str | None, str | None]] = Counter()  # a tenant that waits, and one that was served meanwhile
    for step, number in steps:
        tenant = _TENANTS[number]
        if step == "add":
            future = _LOOP.create_future()
            waiting.append((tenant, future))
            waiters.add(tenant, future)
        elif step == "take":
            taken = waiters.take(lambda _: False)
            waiting = [each for each in waiting if not each[1].done()]
            assert (taken is None) == (not waiting)
            if taken is not None:
                assert taken == next(each for each in waiting if each[0] == taken[0])
                waiting.remove(taken)
                for other in {each[0] for each in waiting} - {taken[0]}:
                    passed[other, taken[0]] += 1
                    assert passed[other, taken[0]] <= 1, "a tenant was served twice while another one waited"
                passed = Counter({pair: count for pair, count in passed.items() if pair[0] != taken[0]})
        elif waiting:
            _, future = waiting[number % len(waiting)]
            future.cancel()
            if step == "leave":
                waiters.remove(*waiting.pop(number % len(waiting)))
            waiting = [each for each in waiting if not each[1].done() or step == "cancel"]
            # Who has no call left, and comes again, stands behind those that wait.
            left = {each[0] for each in waiting if not each[1].done()}
            passed = Counter({pair: count for pair, count in passed.items() if pair[0] in left})

    assert {future for _, future in waiting if not future.done()} == set(waiters.take_all())
    assert len(waiters) == 0


def test_who_came_after_a_moment_stays_in_line() -> None:
    waiters = Waiters[str]()
    early, late = _LOOP.create_future(), _LOOP.create_future()
    waiters.add("a", early)
    moment = time.monotonic()
    while time.monotonic() == moment:
        pass
    waiters.add("a", late)

    assert waiters.take_all(since=moment) == [early]
    assert waiters.take(lambda _: True) == ("a", late)


def test_the_calls_that_have_waited_longest_leave_the_line_together() -> None:
    waiters = Waiters[str]()
    futures = [_LOOP.create_future() for _ in range(4)]
    for tenant, future in zip("abab", futures, strict=True):
        waiters.add(tenant, future)
    futures[1].cancel()

    assert waiters.take_oldest(0) == waiters.take_oldest(-1) == []
    assert set(waiters.take_oldest(3)) == {futures[0], futures[2]}
    assert waiters.take_all() == [futures[3]]
    assert len(waiters) == 0
