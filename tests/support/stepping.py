"""Stops a coroutine at its n-th suspension, as `Task.cancel` does: before what it awaits is there, or as it comes.

A suspension is each time the coroutine gives the event loop a future to wait for. Random cancellation finds the wide
gaps only; stepping through all suspensions finds the ones that are open for one turn of the loop.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Generator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

__all__ = ["MOMENTS", "Interruption", "Moment", "Stepped", "stepped_through", "stopped"]

Moment = Literal["before", "with", "closed", "interrupted"]
"""When, or how: the task is cancelled before the awaited future is done, and so is the future; or in the very turn of
the loop that brings its result. Or the coroutine is closed, as by the end of a loop that has it, and may await nothing
more. Or another `BaseException` than cancellation is thrown into it."""
MOMENTS: tuple[Moment, ...] = ("before", "with")


class Interruption(BaseException):
    """As `KeyboardInterrupt`, for whatever is no `Exception` and no cancellation."""


@dataclass
class Stepped(Awaitable[Any]):
    """Awaits `work` in the current task, and stops it at these suspensions, counted from 1."""

    work: Coroutine[Any, Any, Any]
    stops: dict[int, Moment]
    suspended: Callable[[int], object] = lambda _: None
    """Told of each suspension, after a cancellation before it and ahead of one that comes with it."""
    suspensions: int = 0
    made: list[Moment] = field(default_factory=list)
    result: Any = field(default=None, repr=False)

    def __await__(self) -> Generator[Any, None, Any]:
        go_on: Callable[[], Any] = partial(self.work.send, None)
        while True:
            try:
                awaited = go_on()
            except StopIteration as end:
                self.result = end.value
                return end.value
            self.suspensions += 1
            moment = self.stops.get(self.suspensions)
            self.made += [moment] if moment else []
            self._cancel(moment, awaited)
            if moment == "closed":
                self.work.close()
                raise GeneratorExit
            try:
                if moment == "interrupted":
                    raise Interruption
                yield awaited
            except BaseException as error:  # noqa: BLE001 - it belongs to the work
                go_on = partial(self.work.throw, error)
            else:
                go_on = partial(self.work.send, None)

    def _cancel(self, moment: Moment | None, awaited: object) -> None:
        task = asyncio.current_task()
        assert task is not None
        if moment == "before":
            task.cancel()  # reaches the future as soon as the task waits for it
        self.suspended(self.suspensions)
        if moment == "with" and isinstance(awaited, asyncio.Future):
            awaited.add_done_callback(lambda _: task.cancel())  # just ahead of the task's own awakening
        elif moment == "with":  # a bare yield, as of `sleep(0)`
            asyncio.get_running_loop().call_soon(task.cancel)


async def stopped(
    work: Coroutine[Any, Any, Any], stops: dict[int, Moment], suspended: Callable[[int], object] = lambda _: None
) -> Stepped:
    """The work, over; where it was stopped it has ended with just that error, neither swallowed nor replaced."""
    task = asyncio.current_task()
    assert task is not None
    stepped = Stepped(work, stops, suspended)
    ended: BaseException | None = None
    try:
        await stepped
    except (asyncio.CancelledError, GeneratorExit, Interruption) as error:
        ended = error
    expected: set[object] = {_ERRORS[moment] for moment in stepped.made} or {type(None)}
    assert type(ended) in expected, f"{ended!r} after {stepped}"
    assert task.cancelling() == sum(moment in MOMENTS for moment in stepped.made), "a cancellation was taken back"
    while task.uncancel():
        pass
    return stepped


_ERRORS: dict[Moment, type[BaseException]] = {
    "before": asyncio.CancelledError,
    "with": asyncio.CancelledError,
    "closed": GeneratorExit,
    "interrupted": Interruption,
}


async def stepped_through(
    run: Callable[[dict[int, Moment]], Coroutine[Any, Any, Stepped]],
    moments: Sequence[Moment] = MOMENTS,
    *,
    again: bool = False,
) -> int:
    """Run it with a stop at every suspension there is, and at last without any; how many there were.

    `again` stops once more, at the next suspension, which is in what cleans up.
    """
    points = 0
    for moment, after in itertools.product(moments, moments if again else [None]):
        for step in range(1, 1000):
            stops: dict[int, Moment] = {step: moment} | ({step + 1: after} if after else {})
            made = (await run(stops)).made
            points += len(made)
            if not made:
                assert step > 1, "it never suspended"
                break
    return points


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how many points calls were stopped at; a `conftest.py` that imports this makes it a hook."""
    reports = [one for found in terminalreporter.stats.values() for one in found if getattr(one, "when", "") == "call"]
    points = sum(count for one in reports for name, count in one.user_properties if name == "cancellation points")
    if points:
        terminalreporter.write_line(f"cancellation points stepped: {points}")
