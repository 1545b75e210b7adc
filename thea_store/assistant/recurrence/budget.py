"""A bound for what one call may compute, and a way to compute it without stopping everybody else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

__all__ = ["TooMuchWork", "WorkBudget", "within"]

T = TypeVar("T")

# Units of work that are done at once: some 10 ms, in which the event loop does nothing else.
_AT_ONCE = 200_000


class TooMuchWork(Exception):  # noqa: N818 - it is no error of the caller's
    """More had to be computed than `work` allows."""

    def __init__(self, work: WorkBudget) -> None:
        super().__init__("more had to be computed than a call may take")
        self.work = work


class WorkBudget:
    """Counts what is computed, in units of about 50 ns, and ends it with TooMuchWork beyond `limit`.

    What is counted here counts in the work that this is `within` as well.
    """

    def __init__(self, limit: int, *, within: WorkBudget | None = None) -> None:
        self.done, self.limit, self._within = 0, limit, within

    def charge(self, units: int) -> None:
        """Count this work before it is done."""
        if self._within is not None:
            self._within.charge(units)
        self.done += units
        if self.done > self.limit:
            raise TooMuchWork(self)


async def within(limit: int, compute: Callable[[WorkBudget], T]) -> T:
    """What `compute` returns; TooMuchWork beyond so many units.

    A little work is done at once. More of it is done anew in a thread, so that the event loop goes on serving
    others. So `compute` may run twice, and changes nothing.
    """
    try:
        return compute(WorkBudget(min(limit, _AT_ONCE)))
    except TooMuchWork:
        if limit <= _AT_ONCE:
            raise
    return await asyncio.to_thread(compute, WorkBudget(limit))
