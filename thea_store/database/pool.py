"""The pool: connections kept warm, and one that already carries the tenant handed out first.

asyncpg's own pool cannot prefer a connection, asks the server to reset each one at release, and awaits there. Here
`release` is a plain function, so that no cancellation can come between the end of a call and the return of its
connection; what is in doubt is settled by a task of the pool's.

A call takes an idle connection (`acquire`), or waits in line until one comes back or is opened, whichever is first:
the pool's own tasks open connections, so that a call never waits for the server while a connection lies idle. Tenants
in line take turns, and none gets more than a little over half of the connections while another one waits
(`thea_store.database.waiters`).

                    acquire
    opening ──► idle ──────► in use
                 ▲  ▲ release  │
                 │  └──────────┤
                 │             │ settle: a call was cut short, or left its transaction open
                 │             ▼
                 └───────── settling ◄── doubt: an idle one, because another one met with silence

Every state leads to *ended*: a connection that is too old or broken, or that does not answer in time, is closed,
and its place is free for another one. One whose tenant nobody knows is not ended, but told that it carries none: the
driver's cancel request would end with it, and the server would go on with what nobody waits for.

`_taken` counts the connections in all states but that one, and never exceeds the limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import time
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Coroutine, Iterable
from functools import partial
from typing import Any, Literal

from thea_store.database.connection import Connection
from thea_store.database.driver_errors import answered, is_silent
from thea_store.database.origin import Origin
from thea_store.database.waiters import Waiters
from thea_store.errors import PoolTimeoutError, StoreError, StoreUnavailableError
from thea_store.telemetry.pools import Ended, PoolFigures, PoolStatistics

__all__ = ["Pool"]

# Seconds: an idle connection beyond the pool's size stays this long; the janitor looks this often; and where the server
# takes no more connections, this is the pause.
_LINGER = 60.0
_SWEEP = 15.0
_PAUSE = 1.0

# After so many calls, what a tenant called before counts half.
_FADE = 1000


class Pool:
    """Connections to one server, `size` of them held and `overflow` more while they are needed."""

    def __init__(
        self,
        connect: Callable[[], Coroutine[Any, Any, Connection]],
        *,
        place: str,
        size: int,
        overflow: int,
        recycle: float,
        timeout: float,
        standby: bool = False,
        admit: Callable[[str | None], None] = lambda _: None,
    ) -> None:
        self._connect, self.place, self.standby, self._admit = connect, place, standby, admit
        self.statistics = PoolStatistics()
        self._size, self._limit = size, size + overflow
        self._recycle, self._timeout = recycle, timeout
        self._taken = 0  # connections that are open, being opened or being settled
        self._opening = 0  # of these, those being opened
        self._open: set[Connection] = set()
        self._idle: OrderedDict[Connection, None] = OrderedDict()  # least recently used first
        self._by_tenant: defaultdict[str | None, dict[Connection, None]] = defaultdict(dict)
        self._waiting = Waiters[Connection]()
        self._line_is_watched = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._openers: set[asyncio.Task[Connection]] = set()
        self._calls: Counter[str | None] = Counter()
        self._calls_until_fade = _FADE
        self._expired_before = 0.0
        self._refusal: BaseException | None = None  # why the last connection could not be opened
        self._closed = False
        self._ended = False  # closed, and no longer waiting for running work
        self._origin: Origin | None = None
        self._drained = asyncio.Event()

    @property
    def server(self) -> Literal["primary", "replica"]:
        """Which kind of server its connections lead to."""
        return "replica" if self.standby else "primary"

    async def start(self) -> None:
        """Open the first connection, raising what stops it; then the others in the background."""
        self._origin = Origin.here()
        self.release(await self.acquire(None))
        self._spawn(self._sweep())

    def start_later(self) -> None:
        """Let connections be opened in the background, and none be needed; nothing is raised."""
        self._origin = Origin.here()
        self._spawn(self._sweep())

    def check_origin(self) -> None:
        """`StoreError` where the caller is not in the process and on the event loop that opened the store."""
        if self._origin is not None:
            self._origin.check()

    def is_here(self) -> bool:
        """Whether the caller is in the process and on the event loop that opened the store."""
        return self._origin is None or self._origin.is_here()

    async def acquire(self, tenant_id: str | None) -> Connection:
        """A connection for this caller alone, one that carries the tenant where there is one.

        `QuotaExceededError` where the tenant may have no more of them.
        """
        self.check_origin()
        if self._closed:
            raise StoreError("the store is closed")
        self._admit(tenant_id)
        self._count(tenant_id)
        while (idle := self._choose(tenant_id)) is not None:
            self._forget(idle)
            if (spent := self._spent(idle)) is None:
                self.statistics.at_once += 1
                idle.holder = tenant_id
                return self._handed_out(idle, tenant_id)
            self._end(idle, spent)
        started = time.monotonic()
        try:
            return self._handed_out(await self._wait_in_line(tenant_id), tenant_id)
        finally:
            self.statistics.waits.add(time.monotonic() - started)

    def _handed_out(self, connection: Connection, tenant_id: str | None) -> Connection:
        if tenant_id:  # what is asked for nobody looks for no tenant's connection
            self.statistics.asked += 1
            self.statistics.found += connection.tenant == tenant_id
        return connection

    def release(self, connection: Connection) -> None:
        """Take a connection back; one in doubt is settled or ended first, in the background."""
        if self._closed:
            self._end(connection, "closed")
        elif (spent := self._spent(connection)) is not None:
            self._end(connection, spent)
        elif connection.raw.is_in_transaction():
            self.settle(connection)
        else:
            self._offer(connection)

    def settle(self, connection: Connection) -> None:
        """Take back a connection whose last call was cut short."""
        # No task can settle what is destroyed after its loop, or in a forked child.
        if self._closed or not self.is_here():
            self._end(connection, "closed")
        elif connection.raw.is_closed():
            self._end(connection, "lost")
        else:
            self._spawn(self._settle(connection))

    def end(self, connection: Connection) -> None:
        """Take back a connection whose call was cut short, and close it without a word to the server."""
        self._end(connection, "lost" if connection.raw.is_closed() else "cut short")

    def expire(self) -> None:
        """Replace every connection before its next use: the server is no longer the right one."""
        self._expired_before = time.monotonic()

    def doubt(self) -> None:
        """Let every idle connection answer before its next use, because another one met with silence."""
        for connection in list(self._idle):
            self._forget(connection)
            self.settle(connection)

    def abandon(self) -> None:
        """Close every connection, also those in use, because the server does not answer any more."""
        for connection in list(self._open):
            connection.raw.terminate()

    def figures(self) -> PoolFigures:
        """The pool's state now."""
        return PoolFigures(self._taken, len(self._idle), len(self._waiting), self._limit)

    def in_flight(self, tenant_id: str) -> int:
        """How many calls and transactions of the tenant hold a connection or wait for one."""
        return self._held_by(tenant_id) + self._waiting.count(tenant_id)

    async def close(self, patience: float) -> None:
        """Wait up to `patience` seconds for the connections in use, then end them. Idempotent."""
        self._closed = True
        self._refuse(StoreError("the store is closed"), self._waiting.take_all())
        for opener in self._openers:
            opener.cancel()
        for connection in list(self._idle):
            self._forget(connection)
            self._spawn(self._say_goodbye(connection, "closed"))
        try:
            if self._taken:
                # Not `wait_for`, which swallows a cancellation that comes with the result (Python 3.11).
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(patience):
                        await self._drained.wait()
        finally:  # hard, also when the closing itself is cancelled
            self._ended = True
            self._drained.set()
            for connection in list(self._open):
                connection.raw.terminate()
            for task in self._tasks:
                task.cancel()
        await asyncio.gather(*self._tasks, *self._openers, return_exceptions=True)

    # --- choosing ---------------------------------------------------------------------------------

    def _choose(self, tenant_id: str | None) -> Connection | None:
        for wanted in (tenant_id, None):
            if of_tenant := self._by_tenant.get(wanted):
                return next(reversed(of_tenant))
        # Evict the connection of the least active tenant; on ties, the least recently used one: of a hundred tenants by
        # Zipf, 41 % of the calls then find their own among five connections, instead of 25 %.
        return min(self._idle, key=lambda connection: self._calls[connection.tenant], default=None)

    def _count(self, tenant_id: str | None) -> None:
        self._calls[tenant_id] += 1
        self._calls_until_fade -= 1
        if not self._calls_until_fade:
            self._calls = Counter({tenant: calls // 2 for tenant, calls in self._calls.items() if calls > 1})
            self._calls_until_fade = _FADE

    def _spent(self, connection: Connection) -> Ended | None:
        """Why a connection is not used again; `None` where it is."""
        if connection.raw.is_closed():
            return "lost"
        if connection.born < self._expired_before:
            return "expired"
        return "recycled" if time.monotonic() - connection.born > self._recycle else None

    # --- waiting and opening ----------------------------------------------------------------------

    async def _wait_in_line(self, tenant_id: str | None) -> Connection:
        future: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        self._waiting.add(tenant_id, future)
        if not self._line_is_watched:
            self._watch_line()
        self._open_for_the_waiting()
        try:
            return await future
        except BaseException:  # GeneratorExit too, of a coroutine that is closed while it waits
            self._waiting.remove(tenant_id, future)
            # The answer may have come in the same moment; then it belongs to the next in line.
            if not future.cancel() and not future.cancelled() and future.exception() is None:
                self.release(future.result())
            raise

    def _open_for_the_waiting(self) -> None:
        """Open a connection for each call in line that has none coming yet, as far as there is room."""
        while self._opening < len(self._waiting) and self._taken < self._limit and not self._closed:
            self._open_one()

    def _watch_line(self) -> None:
        """Have the call that waits longest refused once it has waited for too long.

        One timer for the line: one for each call took a tenth of what a call that waits costs.
        """
        since = self._waiting.oldest()
        self._line_is_watched = since is not None
        if since is not None:
            left = since + self._timeout - time.monotonic()
            asyncio.get_running_loop().call_later(left, self._refuse_late, since)

    def _refuse_late(self, since: float) -> None:
        """Refuse the calls that wait since this time or longer, and watch the others."""
        late = self._waiting.take_all(since)
        if late:
            self.statistics.timeouts += len(late)
            error = self._nothing_in_time()
            error.__cause__ = self._refusal
            self._refuse(error, late)
        self._watch_line()

    def _open_one(self) -> asyncio.Task[Connection]:
        """Begin to open a connection, for the first in line."""
        self._taken += 1
        self._opening += 1
        task = asyncio.create_task(self._connect(), name="thea_store pool")
        self._openers.add(task)
        task.add_done_callback(partial(self._opened, time.monotonic()))
        return task

    def _opened(self, started: float, task: asyncio.Task[Connection]) -> None:
        self._openers.discard(task)
        self._opening -= 1
        if task.cancelled():
            self._vacate()
        elif (error := task.exception()) is not None:
            self._give_up_place()
            self.statistics.failures[type(error).__name__] += 1
            self._could_not_open(error, started)
        elif self._ended:
            task.result().raw.terminate()
            self._give_up_place()
        else:
            self._refusal = None
            self.statistics.opening.add(time.monotonic() - started)
            self._open.add(task.result())
            self.release(task.result())

    def _could_not_open(self, error: BaseException, started: float) -> None:
        self._refusal, reason = error, error.__cause__
        if reason is not None and is_silent(reason):
            self._refuse(error, self._waiting.take_all())
        elif not self._open or reason is None or not answered(reason):
            # Nobody answers. Who came after this attempt began has one of their own, where there was room for it.
            self._refuse(error, self._waiting.take_all(started))
            self._refuse(error, self._waiting.take_oldest(len(self._waiting) - self._opening))
        if self._waiting and not self._closed:
            # The server lives and takes no more connections: one that is in use may come back, or the server may take
            # another one later.
            asyncio.get_running_loop().call_later(_PAUSE, self._open_for_the_waiting)

    def _refuse(self, error: BaseException, calls: Iterable[asyncio.Future[Connection]]) -> None:
        """Fail these calls, which were in line."""
        for future in calls:
            own = copy.copy(error)  # each with a traceback of its own
            own.__cause__ = error.__cause__
            future.set_exception(own)

    def _nothing_in_time(self) -> StoreError:
        reason = self._refusal or f"{self.place} does not answer: start the server, or correct DATABASE_URL"
        if not self._open:
            return StoreUnavailableError(f"no connection could be opened in {self._timeout:g} s: {reason}")
        if len(self._open) < self._limit:
            return PoolTimeoutError(
                f"no connection became free in {self._timeout:g} s: {len(self._open)} are in use, and no other could "
                f"be opened: {reason}"
            )
        return PoolTimeoutError(
            f"no connection became free in {self._timeout:g} s: all {self._limit} are in use; shorten the "
            "transactions, or raise DATABASE_POOL_SIZE or DATABASE_MAX_OVERFLOW"
        )

    # --- giving back ------------------------------------------------------------------------------

    def _offer(self, connection: Connection) -> None:
        connection.holder = None
        if (next_in_line := self._waiting.take(self._has_its_share)) is not None:
            connection.holder, future = next_in_line
            future.set_result(connection)
            return
        connection.used = time.monotonic()
        self._idle[connection] = None
        self._by_tenant[connection.tenant][connection] = None

    def _has_its_share(self, tenant_id: str | None) -> bool:
        """Whether the tenant's calls hold more than half of all connections that there may be."""
        return self._held_by(tenant_id) > self._limit // 2

    def _held_by(self, tenant_id: str | None) -> int:
        return sum(connection.holder == tenant_id for connection in self._open)

    def _forget(self, connection: Connection) -> None:
        del self._idle[connection]
        of_tenant = self._by_tenant[connection.tenant]
        del of_tenant[connection]
        if not of_tenant:
            del self._by_tenant[connection.tenant]

    def _end(self, connection: Connection, reason: Ended) -> None:
        self.statistics.ended[reason] += 1
        connection.tenant = None
        with contextlib.suppress(RuntimeError):  # its loop is closed, and the socket is with it
            connection.raw.terminate()
        self._open.discard(connection)
        self._vacate()

    def _vacate(self) -> None:
        """Give up a place, and use it for whoever waits in line."""
        self._give_up_place()
        if self.is_here():
            self._open_for_the_waiting()

    def _give_up_place(self) -> None:
        self._taken -= 1
        if self._closed and not self._taken:
            self._drained.set()

    # --- tasks of the pool ------------------------------------------------------------------------

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work, name="thea_store pool")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _settle(self, connection: Connection) -> None:
        try:
            await connection.catch_up()
            if connection.raw.is_in_transaction():
                await connection.raw.execute("rollback", timeout=connection.prompt)
            if connection.unclear:
                await connection.carry_none()
        except BaseException as error:
            self._end(connection, "lost" if connection.raw.is_closed() else "not settled")
            if not isinstance(error, Exception):
                raise
        else:
            self.release(connection)

    async def _say_goodbye(self, connection: Connection, reason: Ended) -> None:
        try:
            await connection.raw.close(timeout=connection.prompt)
        except Exception:  # noqa: BLE001 - it is going away; the reason does not matter
            connection.raw.terminate()
        finally:
            self._end(connection, reason)

    async def _sweep(self) -> None:
        while not self._closed:
            while self._taken < self._size and not self._closed:
                opener = self._open_one()
                await asyncio.wait([opener])
                if opener.cancelled() or opener.exception() is not None:
                    break  # a call that needs a connection will say why there is none
            await asyncio.sleep(_SWEEP)
            now = time.monotonic()
            for connection in list(self._idle):
                lingers = self._taken > self._size and now - connection.used > _LINGER
                if (reason := "surplus" if lingers else self._spent(connection)) is not None:
                    self._forget(connection)
                    self._spawn(self._say_goodbye(connection, reason))
