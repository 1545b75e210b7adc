"""Keeps what callers saw, and cuts some of them short at a chosen pause."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Coroutine, Generator
from contextvars import Context
from itertools import count
from typing import Any, Literal, NamedTuple

from tests.interleaving.history import Event
from thea_store import StoreError

# Seconds: long enough for a call to wait in the server for a lock, or here for a connection.
_LATER = 0.02


class Cut(NamedTuple):
    """Where a call is cancelled: at one of its pauses, before what it waits for, with it, or some time later."""

    pause: int
    moment: Literal["before", "with", "later"]


class Seen(NamedTuple):
    """What a caller saw: an answer, or an error."""

    answer: Any
    error: StoreError | asyncio.CancelledError | None = None


async def seen(work: Coroutine[Any, Any, Any], cut: Cut | None, context: Context) -> Seen:
    """What comes of the work; other errors than the store's own are the test's."""
    try:
        return Seen(await (asyncio.create_task(_cut_short(work, cut), context=context) if cut else work))
    except (StoreError, asyncio.CancelledError) as error:
        return Seen(None, error)


class Witness:
    """Numbers moments, transactions and marks, and keeps the events of each tenant."""

    def __init__(self) -> None:
        self._events: defaultdict[str, list[Event]] = defaultdict(list)
        self.moments, self.transactions, self._marks = count(1), count(1), count(1)

    def mark(self, tenant: str) -> str:
        """A text that is nowhere else."""
        return f"{tenant} {next(self._marks)}"

    def note(self, tenant: str, event: Event) -> None:
        self._events[tenant].append(event)

    def take(self) -> dict[str, list[Event]]:
        """The events of each tenant since this was called last."""
        taken, self._events = self._events, defaultdict(list)
        return taken


async def _cut_short(work: Coroutine[Any, Any, Any], cut: Cut) -> Any:
    """What the work returns, if it has fewer pauses than that."""
    cutting = _Cutting(work, cut)
    answer = await cutting
    assert not cutting.done, f"{work} swallowed its cancellation"
    return answer


class _Cutting:
    """Goes on as `work` does, and cancels the task at one of the pauses."""

    def __init__(self, work: Coroutine[Any, Any, Any], cut: Cut) -> None:
        self._work, self._cut, self.done = work, cut, False

    def __await__(self) -> Generator[Any, Any, Any]:
        error: BaseException | None = None
        for pause in count(1):
            try:
                future = self._work.throw(error) if error else self._work.send(None)
            except StopIteration as end:
                return end.value
            if pause == self._cut.pause:
                self._cancel(future)
            error = None
            try:
                yield future
            except BaseException as thrown:  # noqa: BLE001 - it belongs to the work
                error = thrown
        raise AssertionError

    def _cancel(self, future: asyncio.Future[Any]) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self._cut.moment == "later":
            task.get_loop().call_later(_LATER, task.cancel)
        elif self._cut.moment == "before":
            self.done = task.cancel()
        else:  # called just before the task is told that the future is done
            future.add_done_callback(lambda _: task.cancel())
