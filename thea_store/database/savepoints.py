"""The savepoints that are open in one transaction, and which tasks may call meanwhile.

What is done while a savepoint is open may be undone with it. So only the task that began it may call then, and the
tasks that were begun inside it.

A savepoint's own messages are never cut short: a cancellation is raised when their answer is there, at most a few
seconds later.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

__all__ = ["Savepoints", "uninterrupted"]

# The open savepoints round this task, each with those of its transaction. A task begun inside one inherits it.
_around: ContextVar[tuple[tuple[Savepoints, int], ...]] = ContextVar("thea_store_savepoints", default=())


class Savepoints:
    """The open savepoints of a transaction, by number; a later one has a higher number."""

    def __init__(self) -> None:
        self._last = 0
        # The innermost last, each with the task that began it, which this must not keep alive.
        self._open: dict[int, Callable[[], asyncio.Task[Any] | None]] = {}

    def next(self) -> int:
        """A number that none had before."""
        self._last += 1
        return self._last

    def opened(self, number: int) -> None:
        """Note that the server knows it, and that this task began it."""
        self._open[number] = _reference(asyncio.current_task())

    @contextmanager
    def around(self, number: int) -> Iterator[None]:
        """The block inside it; at its end this one is open no more, nor are those that another task left open in it."""
        outside = _around.get()
        _around.set((*outside, (self, number)))
        try:
            yield
        finally:
            _around.set(outside)
            self._open = {one: task for one, task in self._open.items() if one < number}

    def are_of_another_task(self) -> bool:
        """Whether the innermost one was begun by a task that still runs, and not round this call."""
        if not self._open:
            return False
        number, began = next(reversed(self._open.items()))
        task = began()
        # `wait_for` begins a task up to Python 3.11: a savepoint that was entered there belongs to whoever waited.
        runs = task is not None and not task.done()
        return runs and (self, number) not in _around.get()


def _reference(task: asyncio.Task[Any] | None) -> Callable[[], asyncio.Task[Any] | None]:
    return weakref.ref(task) if task is not None else lambda: None


async def uninterrupted(work: Coroutine[Any, Any, None]) -> None:
    """Do this work, which takes a moment, to its end: a cancellation is raised after it."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        task.exception()  # the cancellation takes its place
        raise cancelled
    task.result()
