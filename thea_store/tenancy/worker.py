"""A worker: it does one kind of work for all tenants that have it, a piece at a time, until it is stopped.

Any number of workers may run at once. They look for tenants in different orders, and what a piece takes it takes for
itself alone, so each piece is done once. Among tenants a worker is fair: each gets one piece after the other in turns,
and after some turns it looks anew who has work.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Protocol

from pydantic import Field

from thea_store.errors import InsufficientPrivilegeError, StoreError
from thea_store.queries.arguments import Seconds, check

__all__ = ["Find", "WorkReport", "Worker"]

_log = logging.getLogger("thea_store.work")

_PAGE = 1000
# Pieces of one tenant before it is looked for anew who has work.
_TURNS = 20
# A tenant whose piece failed is left alone for as long as the pause, then twice as long each time, up to this long.
_LONGEST_REST = 300.0

_Concurrency = Annotated[int, Field(ge=1, le=1000)]


class Find(Protocol):
    """Names a page of the tenants that have work, as the methods of `store.work` do."""

    def __call__(self, *, limit: int, after: str | None) -> Awaitable[list[str]]:
        """Up to `limit` names, from after `after`; fewer than `limit` are the last ones."""
        ...


@dataclass(slots=True)
class WorkReport:
    """What a worker has done since it was made."""

    pieces: int = 0
    """Pieces that were done."""
    tenants: int = 0
    """How often a tenant had work when it was looked for."""
    failures: int = 0
    """Pieces that failed, and looks for tenants that did."""


@dataclass(slots=True)
class _Rest:
    until: float
    seconds: float


class Worker:
    """Finds the tenants that have work, and does it.

    `find` names tenants; `do(tenant)` does one piece of a tenant's work and says whether there was one. A piece that
    raises an error is told to `on_error(tenant, error)`, or else logged by the error's class. The tenant is then left
    alone for a while, each time longer, and all others go on. `asyncio.CancelledError` ends the worker at once;
    `InsufficientPrivilegeError` of a look for tenants ends it too, since waiting would not help.
    """

    def __init__(
        self,
        find: Find,
        do: Callable[[str], Awaitable[bool]],
        *,
        concurrency: int = 4,
        pause: float = 10.0,
        on_error: Callable[[str | None, Exception], None] | None = None,
    ) -> None:
        """`concurrency` pieces are done at once; `pause` seconds pass until the next look where nothing is left."""
        check("concurrency", concurrency, _Concurrency)
        check("pause", pause, Seconds)
        self._find, self._do = find, do
        self._concurrency, self._pause = concurrency, pause
        self._on_error = on_error or _log_error
        self._stopping = asyncio.Event()
        self._resting: dict[str, _Rest] = {}
        self.report = WorkReport()

    def stop(self) -> None:
        """Let `run` return after the pieces that are under way; no other one is begun."""
        self._stopping.set()

    async def run(self) -> WorkReport:
        """Work until `stop` is called; what was done."""
        while not self._stopping.is_set():
            if not await self._round():
                await self._wait()
        return self.report

    async def run_once(self) -> WorkReport:
        """Work until nothing is left that can be done now; what was done."""
        while await self._round() and not self._stopping.is_set():
            pass
        return self.report

    async def _round(self) -> bool:
        """Give each tenant that has work some turns; whether there may be more to do at once."""
        try:
            tenants = await self._tenants()
        except InsufficientPrivilegeError:
            raise
        except StoreError as error:
            self._failed(None, error)
            return False
        self.report.tenants += len(tenants)
        turns = deque((tenant, _TURNS) for tenant in tenants)
        left = deque[str]()
        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._concurrency, len(tenants))):
                group.create_task(self._take_turns(turns, left))
        return bool(left)

    async def _tenants(self) -> list[str]:
        """All tenants that have work and are not left alone, in an order that other workers do not have."""
        found: list[str] = []
        while True:
            page = await self._find(limit=_PAGE, after=found[-1] if found else None)
            found += page
            if len(page) < _PAGE:
                break
        now = time.monotonic()
        found = [tenant for tenant in found if tenant not in self._resting or self._resting[tenant].until <= now]
        random.shuffle(found)
        return found

    async def _take_turns(self, turns: deque[tuple[str, int]], left: deque[str]) -> None:
        while turns and not self._stopping.is_set():
            tenant, more = turns.popleft()
            try:
                done = await self._do(tenant)
            except Exception as error:  # noqa: BLE001 - of one tenant, while the others go on
                self._failed(tenant, error)
                continue
            self._resting.pop(tenant, None)
            self.report.pieces += done
            if done and more > 1:
                turns.append((tenant, more - 1))
            elif done:
                left.append(tenant)

    def _failed(self, tenant: str | None, error: Exception) -> None:
        self.report.failures += 1
        if tenant is not None:
            before = self._resting.get(tenant)
            seconds = min(_LONGEST_REST, before.seconds * 2) if before else self._pause
            self._resting[tenant] = _Rest(time.monotonic() + seconds, seconds)
        self._on_error(tenant, error)

    async def _wait(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._pause * random.uniform(0.8, 1.2)):
                await self._stopping.wait()


def _log_error(tenant: str | None, error: Exception) -> None:
    # A message that is not the library's own may quote what a handler was given.
    reason = str(error) if isinstance(error, StoreError) else type(error).__name__
    about = "the look for tenants" if tenant is None else f"a piece of work of tenant {tenant!r}"
    _log.warning("%s failed and is tried again later: %s", about, reason)
