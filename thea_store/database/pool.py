"""The pool: connections kept warm, and one that already carries the tenant handed out first.

asyncpg's own pool cannot prefer a connection, asks the server to reset each one at release, and
awaits there. Here `release` is a plain function, so that no cancellation can come between the end of
a call and the return of its connection; what is in doubt is settled by a task of the pool's.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass

from thea_store.database.connection import Connection
from thea_store.errors import PoolTimeoutError, StoreError, StoreUnavailableError

__all__ = ["Pool", "PoolFigures"]

# Seconds: a connection in doubt gets this long to answer; an idle one beyond the pool's size stays
# this long; and the janitor looks this often.
_SETTLE = 5.0
_LINGER = 60.0
_SWEEP = 15.0

# After so many calls, what a tenant called before counts half.
_FADE = 1000


@dataclass(frozen=True, slots=True)
class PoolFigures:
    """How many connections there are, how many of them are idle, and how many calls wait for one."""

    size: int
    idle: int
    waiting: int
    limit: int


class Pool:
    """Connections to one server, `size` of them held and `overflow` more while they are needed."""

    def __init__(
        self,
        connect: Callable[[], Awaitable[Connection]],
        *,
        size: int,
        overflow: int,
        recycle: float,
        timeout: float,
    ) -> None:
        self._connect = connect
        self._size, self._limit = size, size + overflow
        self._recycle, self._timeout = recycle, timeout
        self._taken = 0  # connections that are open, being opened or being settled
        self._open: set[Connection] = set()
        self._idle: OrderedDict[Connection, None] = OrderedDict()  # least recently used first
        self._by_tenant: defaultdict[str | None, dict[Connection, None]] = defaultdict(dict)
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._calls: Counter[str | None] = Counter()
        self._calls_until_fade = _FADE
        self._expired_before = 0.0
        self._closed = False
        self._ended = False  # closed, and no longer waiting for running work
        self._loop: asyncio.AbstractEventLoop | None = None
        self._drained = asyncio.Event()

    async def start(self) -> None:
        """Open the first connection, raising what stops it; then the others in the background."""
        self._loop = asyncio.get_running_loop()
        self.release(await self.acquire(None))
        self._spawn(self._sweep())

    async def acquire(self, tenant_id: str | None) -> Connection:
        """A connection for this caller alone, one that carries the tenant where there is one."""
        if self._closed:
            raise StoreError("the store is closed")
        self._count(tenant_id)
        while (idle := self._choose(tenant_id)) is not None:
            self._forget(idle)
            if not self._is_spent(idle):
                return idle
            self._end(idle)
        try:
            async with asyncio.timeout(self._timeout):
                return await self._wait_or_open()
        except TimeoutError:
            raise self._nothing_in_time() from None

    def release(self, connection: Connection) -> None:
        """Take a connection back; one in doubt is settled or ended first, in the background."""
        if self._closed or self._is_spent(connection):
            self._end(connection)
        elif connection.raw.is_in_transaction():
            self.settle(connection)
        else:
            self._offer(connection)

    def settle(self, connection: Connection) -> None:
        """Take back a connection whose last call was cut short."""
        if self._closed or connection.raw.is_closed() or not self._has_loop():
            self._end(connection)
        else:
            self._spawn(self._settle(connection))

    def end(self, connection: Connection) -> None:
        """Take back a connection and close it, without a word to the server."""
        self._end(connection)

    def expire(self) -> None:
        """Replace every connection before its next use: the server is no longer the right one."""
        self._expired_before = time.monotonic()

    def figures(self) -> PoolFigures:
        """The pool's state now."""
        waiting = sum(not future.done() for future in self._waiting)
        return PoolFigures(self._taken, len(self._idle), waiting, self._limit)

    async def close(self, patience: float) -> None:
        """Wait up to `patience` seconds for the connections in use, then end them. Idempotent."""
        self._closed = True
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_exception(StoreError("the store is closed"))
        for connection in list(self._idle):
            self._forget(connection)
            self._spawn(self._say_goodbye(connection))
        try:
            if self._taken:
                # Not `wait_for`, which swallows a cancellation that comes with the result (Python 3.11).
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(patience):
                        await self._drained.wait()
        finally:  # hard, also when the closing itself is cancelled
            self._ended = True
            for connection in list(self._open):
                connection.raw.terminate()
            for task in self._tasks:
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # --- choosing ---------------------------------------------------------------------------------

    def _choose(self, tenant_id: str | None) -> Connection | None:
        for wanted in (tenant_id, None):
            if of_tenant := self._by_tenant.get(wanted):
                return next(reversed(of_tenant))
        # The connection of the tenant that calls least, of these the one longest unused: of a hundred
        # tenants by Zipf, 41 % of the calls then find their own among five connections, instead of 25 %.
        return min(self._idle, key=lambda connection: self._calls[connection.tenant], default=None)

    def _count(self, tenant_id: str | None) -> None:
        self._calls[tenant_id] += 1
        self._calls_until_fade -= 1
        if not self._calls_until_fade:
            self._calls = Counter({tenant: calls // 2 for tenant, calls in self._calls.items() if calls > 1})
            self._calls_until_fade = _FADE

    def _is_spent(self, connection: Connection) -> bool:
        born = connection.born
        return connection.raw.is_closed() or born < self._expired_before or time.monotonic() - born > self._recycle

    async def _wait_or_open(self) -> Connection:
        if self._taken < self._limit:
            self._taken += 1
            return await self._open_one()
        future: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            connection = await future
        except BaseException:  # GeneratorExit too, of a coroutine that is closed while it waits
            # The answer may have come in the same moment; then it belongs to the next in line.
            if not future.cancel() and not future.cancelled() and future.exception() is None:
                given = future.result()
                self.release(given) if given is not None else self._vacate()
            raise
        # `None` is a place in which to open one.
        return connection if connection is not None else await self._open_one()

    def _nothing_in_time(self) -> StoreError:
        if len(self._open) < self._limit:  # there was a place, but nothing to put there
            return StoreUnavailableError(
                f"no connection could be opened in {self._timeout:g} s, because the server does not answer: start it, "
                "or correct DATABASE_URL"
            )
        return PoolTimeoutError(
            f"no connection became free in {self._timeout:g} s: all {self._limit} are in use; shorten the "
            "transactions, or raise DATABASE_POOL_SIZE or DATABASE_MAX_OVERFLOW"
        )

    async def _open_one(self) -> Connection:
        try:
            connection = await self._connect()
            if self._ended:
                connection.raw.terminate()
                raise StoreError("the store is closed")
        except BaseException:
            self._vacate()
            raise
        self._open.add(connection)
        return connection

    # --- giving back ------------------------------------------------------------------------------

    def _offer(self, connection: Connection) -> None:
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(connection)
                return
        connection.used = time.monotonic()
        self._idle[connection] = None
        self._by_tenant[connection.tenant][connection] = None

    def _forget(self, connection: Connection) -> None:
        del self._idle[connection]
        of_tenant = self._by_tenant[connection.tenant]
        del of_tenant[connection]
        if not of_tenant:
            del self._by_tenant[connection.tenant]

    def _end(self, connection: Connection) -> None:
        connection.tenant = None
        with contextlib.suppress(RuntimeError):  # its loop is closed, and the socket is with it
            connection.raw.terminate()
        self._open.discard(connection)
        self._vacate()

    def _vacate(self) -> None:
        while self._waiting and not self._closed:
            future = self._waiting.popleft()
            if not future.done():
                future.set_result(None)
                return
        self._taken -= 1
        if self._closed and not self._taken:
            self._drained.set()

    # --- tasks of the pool ------------------------------------------------------------------------

    def _has_loop(self) -> bool:
        """Whether the pool's loop runs; it does not for what is destroyed after it."""
        try:
            return asyncio.get_running_loop() is self._loop
        except RuntimeError:
            return False

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work, name="thea_store pool")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _settle(self, connection: Connection) -> None:
        try:
            async with asyncio.timeout(_SETTLE):
                await connection.catch_up()
                if connection.raw.is_in_transaction():
                    await connection.raw.execute("rollback")
        except BaseException as error:
            self._end(connection)
            if not isinstance(error, Exception):
                raise
        else:
            self.release(connection)

    async def _say_goodbye(self, connection: Connection) -> None:
        try:
            await connection.raw.close(timeout=_SETTLE)
        except Exception:  # noqa: BLE001 - it is going away; the reason does not matter
            connection.raw.terminate()
        finally:
            self._end(connection)

    async def _sweep(self) -> None:
        while not self._closed:
            await self._fill()
            await asyncio.sleep(_SWEEP)
            now = time.monotonic()
            for connection in list(self._idle):
                lingers = self._taken > self._size and now - connection.used > _LINGER
                if lingers or self._is_spent(connection):
                    self._forget(connection)
                    self._spawn(self._say_goodbye(connection))

    async def _fill(self) -> None:
        while self._taken < self._size and not self._closed:
            self._taken += 1
            try:
                connection = await self._open_one()
            except Exception:  # noqa: BLE001 - a call that needs a connection will say why there is none
                return
            self.release(connection)
