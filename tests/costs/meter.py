"""What a public call costs, in figures that no machine changes much.

Statements, rows and pages are told by auto_explain in the store's own session, round trips by a proxy on the wire, and
Python's part by the calls of functions and by the memory that it takes for a moment.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

import psycopg

from tests.plans.explain import Plan, read_plan
from tests.support.calls import Call, Ground
from tests.support.wire import Wire
from thea_store import Settings, Store
from thea_store.postgres.url import DatabaseUrl
from thea_store.testing import TestDatabase

__all__ = ["Meter", "ServerCost", "opened"]

_TELLING = {
    "session_preload_libraries": "auto_explain",
    "auto_explain.log_min_duration": "0",
    "auto_explain.log_nested_statements": "on",
    "auto_explain.log_analyze": "on",
    "auto_explain.log_buffers": "on",
    "auto_explain.log_timing": "off",
    "auto_explain.log_format": "json",
    "client_min_messages": "log",
}


class _UndoneError(Exception):
    """Rolls a measured call back."""


@dataclass(frozen=True, slots=True)
class ServerCost:
    """The statements of a call with those of its triggers and functions, and what they looked at."""

    statements: int
    rows: int
    pages: int


@dataclass
class Meter:
    """A store with one connection, whose server and wire are listened to, and one without the proxy on its wire."""

    store: Store
    direct: Store
    wire: Wire
    _told: list[str]

    async def server_cost(self, call: Call, ground: Ground) -> ServerCost:
        """The cost of a call whose statements are prepared, and whose writes are undone."""
        await self._plans(call, ground)
        plans = await self._plans(call, ground)
        return ServerCost(len(plans), round(sum(plan.read for plan in plans)), sum(plan.pages for plan in plans))

    async def _plans(self, call: Call, ground: Ground) -> list[Plan]:
        try:
            async with self.store.transaction(ground.tenant) as tx:
                await asyncio.sleep(0)
                self._told.clear()
                await call.run(tx, ground.tenant, call.arguments(ground))
                await asyncio.sleep(0)  # what the server told is handed on by then
                raise _UndoneError
        except _UndoneError:
            return [plan for plan in map(read_plan, self._told) if plan is not None]

    async def round_trips(self, call: Call, ground: Ground) -> int:
        """How often the client waits for the server, in a call of its own whose statements are prepared."""
        arguments = call.arguments(ground)
        self.wire.reset()
        await call.run(self.store, ground.tenant, arguments)
        return self.wire.round_trips

    async def python_calls(self, call: Call, ground: Ground) -> int:
        """How many functions Python calls for it, those in C as well."""
        arguments = call.arguments(ground)
        count = 0

        def each(frame: FrameType, event: str, argument: Any) -> None:
            nonlocal count
            del frame, argument
            count += event in {"call", "c_call"}

        with _quiet():
            sys.setprofile(each)
            try:
                await call.run(self.direct, ground.tenant, arguments)
            finally:
                sys.setprofile(None)
        return count

    async def python_bytes(self, call: Call, ground: Ground) -> int:
        """How many bytes of objects it has at once, its result among them."""
        arguments = call.arguments(ground)
        with _quiet():
            tracemalloc.start()
            try:
                before, _ = tracemalloc.get_traced_memory()
                tracemalloc.reset_peak()
                await call.run(self.direct, ground.tenant, arguments)
                return tracemalloc.get_traced_memory()[1] - before
            finally:
                tracemalloc.stop()


@contextmanager
def _quiet() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@asynccontextmanager
async def opened(database: TestDatabase, *, telling: bool) -> AsyncIterator[Meter]:
    """A store whose server tells of each statement, where `telling` asks for it."""
    service = DatabaseUrl.parse(database.app_url)
    if telling:
        with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
            for name, value in _TELLING.items():
                superuser.execute(
                    f"alter role {service.user} in database {service.database} set {name} = '{value}'".encode()
                )
    async with Wire(database.app_url).listening() as wire:
        settings = [
            Settings(url=url, pool_size=1, max_overflow=0, ssl_mode="disable") for url in (wire.url, database.app_url)
        ]
        async with Store.open(settings[0]) as store, Store.open(settings[1]) as direct:
            told: list[str] = []
            connection = next(iter(store._database._pool._idle))
            connection.raw.add_log_listener(lambda _, message: told.append(str(message.message)))
            # asyncio reads into a buffer of 256 kB, beside which nothing else would be seen.
            for own in direct._database._pool._idle:
                own.raw._transport.max_size = 4096  # type: ignore[attr-defined]
            yield Meter(store, direct, wire, told)
