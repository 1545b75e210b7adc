"""The plan of a slow query, recorded once an hour for each query."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

from thea_store.errors import StoreError
from thea_store.queries.file import Query
from thea_store.telemetry.calls import Watch

__all__ = ["SlowPlans"]

_EVERY = 3600.0
"""Seconds."""

_log = logging.getLogger("thea_store.plans")


class SlowPlans:
    """Logs the plan of a query that was slow, in a task of its own; one plan at a time."""

    def __init__(self, explain: Callable[[Query[Any], str], Awaitable[str | None]], every: float = _EVERY) -> None:
        self._explain, self._every = explain, every
        self._recorded: dict[str, float] = {}
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def consider(self, watch: Watch) -> None:
        """Record the plan of a slow call's query, unless that was done within the hour, or another one is under way."""
        if watch.sent is None or self._closed or (self._task is not None and not self._task.done()):
            return
        recorded = self._recorded.get(watch.sent.name)
        if recorded is None or time.monotonic() - recorded >= self._every:
            self._task = asyncio.create_task(self._record(watch.sent, watch.tenant_id), name="thea_store plan")

    async def close(self) -> None:
        """Let go of a plan that is under way."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _record(self, query: Query[Any], tenant_id: str) -> None:
        try:
            plan = await self._explain(query, tenant_id)
        except StoreError as error:
            self._recorded[query.name] = time.monotonic()
            _log.warning("no plan of %s: %s", query.name, error, extra={"query": query.name})
            return
        if plan is not None:
            self._recorded[query.name] = time.monotonic()
            _log.warning("plan of %s:\n%s", query.name, plan, extra={"query": query.name, "plan": plan})
