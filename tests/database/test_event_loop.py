"""No public call keeps the event loop for long, whatever it is given: others are served meanwhile.

What is measured is the time of the loop's own thread, so that a busy machine changes little.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import time
from collections.abc import AsyncIterator, Awaitable
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import pytest
import pytest_asyncio

from tests.support.calls import CALLS, Call, Ground, prepare
from thea_store import InvalidArgumentError, Store, StoreError

NOW = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)
BOUND = 0.1
"""Seconds for which the loop may serve one call alone."""
_TRIES = 4

# Half a second of work to find out that it fires, and one that fires very often.
RARE = "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=29;BYDAY=MO"
OFTEN = "FREQ=DAILY;BYHOUR=" + ",".join(map(str, range(24)))
DATES = "\nEXDATE:" + ",".join(f"{NOW + timedelta(days=n):%Y%m%dT%H%M%SZ}" for n in range(1000))
DOCUMENT = {"a": list(range(49_000)), "b": "ñ" * 900_000}
LONG = "palabra larga " * 71_000

# What takes the most of what each argument may be.
HEAVIEST: dict[str, Any] = {
    **dict.fromkeys(("content", "description", "user_message", "bot_response", "query"), LONG),
    **dict.fromkeys(("extra_data", "context_data", "context_update", "entities_extracted"), DOCUMENT),
    **dict.fromkeys(("limit", "batch_size", "notes", "events", "conversations", "messages"), 1000),
    "days_ahead": 3660,
    "end": NOW + timedelta(days=100_000),
    "now": NOW,
    "patch": DOCUMENT,
    "preferences": DOCUMENT,
    "recurrence_rule": RARE + DATES,
    "start": NOW,
    "tags": [f"{n} " + "x" * 240 for n in range(100)],
}


class Watch:
    """Measures the longest time of the loop's thread between two turns of a task that only waits for its turn."""

    longest = 0.0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._beat())
        await asyncio.sleep(0)
        self.longest = 0.0
        return self

    async def __aexit__(self, *_: object) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _beat(self) -> None:
        since = time.thread_time()
        while True:
            await asyncio.sleep(0.001)
            now = time.thread_time()
            self.longest, since = max(self.longest, now - since), now


async def held(call: Awaitable[Any]) -> tuple[float, Any]:
    """The longest time for which the call kept the loop, and what it returned or raised."""
    async with Watch() as watch:
        try:
            result: Any = await call
        except StoreError as error:
            result = error
    return watch.longest, result


@pytest_asyncio.fixture(scope="module")
async def ground(thea_store: Store) -> AsyncIterator[Ground]:
    """A tenant that has a lot of everything."""
    tenant = "event-loop"
    ground = await prepare(thea_store, tenant)
    user, conversation = ground.live["users"], ground.live["conversations"]
    rules = [None, None, OFTEN, "FREQ=WEEKLY;BYDAY=MO,WE,FR", "FREQ=MONTHLY;BYDAY=-1FR"]
    events = [
        {
            "user_id": user,
            "title": f"{ground.text} {n}",
            "start_datetime": NOW - timedelta(days=n),
            "end_datetime": NOW - timedelta(days=n, hours=-1),
            "location": ground.text,
            "category": ground.text,
            "reminder_minutes": 30,
            "recurrence_rule": rules[n % len(rules)],
        }
        for n in range(1500)
    ]
    await thea_store.events.create_many(tenant, events)
    for n in range(8):
        await thea_store.events.create(
            tenant, user, "rara", NOW - timedelta(days=n), recurrence_rule=RARE, reminder_minutes=5
        )
    dates = "\nEXDATE:" + ",".join(f"{NOW + timedelta(days=n):%Y%m%dT%H%M%S}" for n in range(1000))
    for n in range(40):
        rule = f"FREQ=DAILY;COUNT={900 + n}{dates}"
        await thea_store.events.create(tenant, user, "fechas", NOW - timedelta(days=n), recurrence_rule=rule)
    message = {"user_id": user, "conversation_id": conversation, "user_message": ground.text * 30}
    await thea_store.messages.create_many(tenant, [message | {"intent_detected": ground.text} for _ in range(1500)])
    note = {"user_id": user, "content": f"{ground.text} " * 60, "category": ground.text, "tags": [ground.text]}
    await thea_store.notes.create_many(tenant, [note] * 1500)
    # What the other tests left behind is no work of a call's.
    gc.collect()
    gc.freeze()
    yield ground
    gc.unfreeze()


def heaviest(call: Call, ground: Ground, many: int) -> dict[str, Any]:
    """The call's arguments, each as heavy as it may be; of rows so many."""
    arguments = call.arguments(ground)
    arguments |= {name: value for name, value in HEAVIEST.items() if name in arguments}
    if "rows" in arguments:
        (row,) = arguments["rows"]
        heavy = row | {name: value for name, value in HEAVIEST.items() if name in row}
        arguments["rows"] = [heavy | _unique(row, n) for n in range(many)]
    return arguments


def _unique(row: dict[str, Any], place: int) -> dict[str, Any]:
    """What must not be the same in two rows."""
    names = {"session_id", "external_id", "telegram_id", "message_id"} & row.keys()
    return {name: f"{row[name]} {place}" if isinstance(row[name], str) else row[name] + place for name in names}


async def longest_of(store: Store, ground: Ground, call: Call, arguments: dict[str, Any]) -> float:
    """The longest time for which the call kept the loop; the shortest of some tries, since a busy machine only adds."""
    longest = float("inf")
    for _ in range(_TRIES):
        with contextlib.suppress(ZeroDivisionError):
            async with store.transaction(ground.tenant) as tx:
                longest = min(longest, (await held(call.run(tx, ground.tenant, arguments)))[0])
                raise ZeroDivisionError  # so that nothing changes
        if longest < BOUND:
            break
    return longest


@pytest.mark.slow
@pytest.mark.parametrize("call", CALLS, ids=str)
async def test_no_call_keeps_the_loop_for_long(store: Store, ground: Ground, call: Call) -> None:
    await longest_of(store, ground, call, call.arguments(ground))  # its validators are made at the first call
    longest = await longest_of(store, ground, call, heaviest(call, ground, 4))
    if "rows" in call.arguments(ground):
        longest = max(longest, await longest_of(store, ground, call, heaviest(call, ground, 30)))

    assert longest < BOUND, f"{call}: {longest * 1000:.0f} ms"


@pytest.mark.slow
@pytest.mark.parametrize("call", [call for call in CALLS if call.method.endswith("_many")], ids=str)
async def test_thousands_of_rows_keep_the_loop_no_longer(store: Store, ground: Ground, call: Call) -> None:
    (row,) = call.arguments(ground)["rows"]
    await longest_of(store, ground, call, call.arguments(ground))
    longest = await longest_of(store, ground, call, {"rows": [row | _unique(row, n) for n in range(5000)]})

    assert longest < BOUND, f"{call}: {longest * 1000:.0f} ms"


@pytest.mark.slow
async def test_a_hundred_rules_that_hardly_ever_fire_are_refused_and_others_are_served_meanwhile(
    store: Store, ground: Ground
) -> None:
    row = {"user_id": ground.live["users"], "title": "x", "start_datetime": NOW, "recurrence_rule": RARE}
    served = 0

    async def serve_others() -> None:
        nonlocal served
        while True:
            await store.notes.exists(ground.tenant, ground.live["notes"])
            served += 1

    others = asyncio.create_task(serve_others())
    longest, result = await held(store.events.create_many(ground.tenant, [row] * 100))
    others.cancel()

    assert isinstance(result, InvalidArgumentError)
    assert (result.argument, result.reason[:42]) == ("rows", "the recurrence rules take too long to work")
    assert longest < BOUND
    assert served > 10


@pytest.mark.parametrize("size", ["rows", "bytes", "values", "characters"])
async def test_more_than_a_call_may_work_on_is_refused_at_once(store: Store, ground: Ground, size: str) -> None:
    row: dict[str, Any] = {"user_id": ground.live["users"], "content": "x"}
    rows, argument, reason = {
        "rows": ([row] * 100_001, "rows", "must be up to 100000 rows"),
        "bytes": ([row | {"content": LONG}] * 17, "rows", "must be up to 16000000 bytes"),
        "values": (
            [row | {"extra_data": {"a": [0] * 10**6}}],
            "rows[0].extra_data",
            "must be JSON of up to 50000 values",
        ),
        "characters": ([row | {"extra_data": {"a": "x" * 10**6}}], "rows[0].extra_data", "must be JSON of up to"),
    }[size]
    longest, result = await held(store.notes.create_many(ground.tenant, rows))

    assert isinstance(result, InvalidArgumentError)
    assert (result.argument, result.reason[: len(reason)]) == (argument, reason)
    assert longest < BOUND
