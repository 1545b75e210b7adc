"""Rounds in which every contender makes the same calls, in random order, and what their ratios say."""

from __future__ import annotations

import asyncio
import gc
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ground import Place, Traffic
from peers import POOL_SIZE, Peer

__all__ = ["OPERATIONS", "Contender", "Operation", "Ratio", "Times", "run"]

_TASKS = 8
# Beyond the fifth use of a statement the server may keep its plan, so each connection gets past that.
_WARM_UP = 12
# Seconds.
_PATIENCE = 90.0

Call = Callable[[Place], Awaitable[Sequence[Any]]]


@dataclass(frozen=True, slots=True)
class Contender:
    """A peer, and where its calls go; its baseline is the one it is compared with."""

    name: str
    peer: Peer
    traffic: Traffic
    baseline: Contender | None = None


@dataclass(frozen=True, slots=True)
class Operation:
    """A call, made `calls` times in each round: one after the other, or by tasks at the same time.

    They are few, so that most rounds pass without another program's taking the processor away.
    """

    name: str
    of: Callable[[Peer], Call]
    calls: int
    tasks: int = 1


OPERATIONS = (
    Operation("one row", lambda peer: peer.one_row, 4),
    Operation("20 rows", lambda peer: peer.twenty_rows, 3),
    Operation("insert", lambda peer: peer.insert, 3),
    Operation("context of 50", lambda peer: peer.context_window, 2),
    Operation(f"one row, {_TASKS} tasks", lambda peer: peer.one_row, 2 * _TASKS, _TASKS),
)


@dataclass(frozen=True, slots=True)
class Ratio:
    """The median of the rounds' ratios, and their quartiles."""

    median: float
    low: float
    high: float


@dataclass(slots=True)
class Times:
    """Seconds a call took in each round, by operation and contender."""

    taken: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    rounds: int = 0

    def microseconds(self, operation: Operation, contender: str) -> float:
        """The median over the rounds."""
        return statistics.median(self.taken[operation.name, contender]) * 1e6

    def ratio(self, operation: Operation, contender: str, baseline: str) -> Ratio:
        """How many times the baseline's time the contender takes, round by round."""
        pairs = zip(self.taken[operation.name, contender], self.taken[operation.name, baseline], strict=True)
        low, median, high = statistics.quantiles([mine / theirs for mine, theirs in pairs], n=4)
        return Ratio(median, low, high)


async def run(contenders: Sequence[Contender], rounds: int, seed: int, progress: Callable[[], None]) -> Times:
    """Warm up, see that all peers answer the same, then measure; the garbage collector waits meanwhile.

    A machine that is too busy for so many rounds gets through fewer of them.
    """
    rng = random.Random(seed)
    await _warm_up(contenders, rng)
    await _agree(contenders, rng)
    times = Times({(operation.name, who.name): [] for operation in OPERATIONS for who in contenders})
    gc.collect()
    gc.freeze()
    gc.disable()
    end = time.monotonic() + _PATIENCE
    try:
        while times.rounds < rounds and (times.rounds < 2 or time.monotonic() < end):
            for operation in OPERATIONS:
                await _round(operation, contenders, rng, times)
            times.rounds += 1
            gc.collect()
            progress()
    finally:
        gc.enable()
        gc.unfreeze()
    return times


async def _round(operation: Operation, contenders: Sequence[Contender], rng: random.Random, times: Times) -> None:
    # The same places for all that share a traffic, and a new order each time.
    drawn: dict[Traffic, list[Place]] = {}
    for who in rng.sample(contenders, len(contenders)):
        places = drawn.setdefault(who.traffic, [])
        missing = operation.calls * who.traffic.stretch - len(places)
        places.extend(who.traffic.draw(rng) for _ in range(missing))
        times.taken[operation.name, who.name].append(await _time(operation, who.peer, places))


async def _time(operation: Operation, peer: Peer, places: Sequence[Place]) -> float:
    call = operation.of(peer)
    started = time.perf_counter()
    if operation.tasks == 1:
        await _each(call, places)
    else:
        await asyncio.gather(*(_each(call, places[task :: operation.tasks]) for task in range(operation.tasks)))
    return (time.perf_counter() - started) / len(places)


async def _each(call: Call, places: Iterable[Place]) -> None:
    for place in places:
        await call(place)


async def _warm_up(contenders: Sequence[Contender], rng: random.Random) -> None:
    for who in contenders:
        for operation in OPERATIONS:
            lanes = [[who.traffic.draw(rng) for _ in range(_WARM_UP)] for _ in range(POOL_SIZE)]
            await asyncio.gather(*(_each(operation.of(who.peer), places) for places in lanes))


async def _agree(contenders: Sequence[Contender], rng: random.Random) -> None:
    place = contenders[0].traffic.draw(rng)
    for operation in OPERATIONS:
        answers = [await operation.of(who.peer)(place) for who in contenders]
        column = "conversation_id" if operation.name == "insert" else "id"
        if len({tuple(_value(row, column) for row in rows) for rows in answers}) != 1:
            raise AssertionError(f"{operation.name}: the peers do not return the same rows")


def _value(row: Any, column: str) -> object:
    return getattr(row, column, None) or row[column]
