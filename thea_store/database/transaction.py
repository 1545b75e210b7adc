"""One transaction of one tenant, with savepoints.

The tenant travels with the message that begins the transaction, and ends with it. That message waits for the first
statement and goes out with it, so that a transaction of n statements takes n + 1 round trips. Where the connection
turns out to be dead then, nothing is lost: the first statement is sent on another one.

    begin ──► in step ──► out of step ──► in step …    a message goes out, and its answer comes
                 │             │
                 │             ▼ the call is cut short, or nothing answers
                 │          doubtful ──► in step       only by undoing the savepoint that the call was made in
                 ▼             ▼
              commit       roll back                   the connection goes back to the pool, or is ended

- *In step*: each message has its answer, and the next one can be sent.
- *Doubtful*: a call may have been done or not. Then no call succeeds and nothing is committed.
- *Failed*: the server refused a statement. It does nothing more, until the savepoint or the transaction is undone.

The message that releases a savepoint waits for the next call, because a block that has ended well has nothing to wait
for; so there is no moment at which it could be cancelled and yet be kept. (`savepoints` has what is not of messages.)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any, Literal, NamedTuple, TypeVar

from thea_store.database import wire
from thea_store.database.connection import Connection
from thea_store.database.driver_errors import answered, is_silent, needs_new_connections, takes_no_writes
from thea_store.database.executor import Executor, Row
from thea_store.database.failures import statement_failed, translate
from thea_store.database.pool import Pool
from thea_store.database.reading import noting
from thea_store.database.retries import ATTEMPTS
from thea_store.database.savepoints import Savepoints, uninterrupted
from thea_store.encryption import Keyring
from thea_store.errors import EncryptionKeyError, QuotaExceededError, StoreError, TenantMismatchError
from thea_store.queries.arguments import check_tenant
from thea_store.queries.binding import bind_in_turns
from thea_store.queries.file import Query
from thea_store.telemetry import Observer

__all__ = ["POSITION", "Place", "Transaction"]

T = TypeVar("T")

POSITION = "select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint as position"
"""Up to where the server's log is written."""

# A transaction in which a statement has failed refuses the first of these; the second would say "done" and undo it.
_COMMIT = wire.statement("select where false") + wire.statement("commit")


class Place(NamedTuple):
    """Where a transaction may run, and how it begins there."""

    pool: Pool
    opening: Sequence[str]
    """The statements that begin it, and tell the server its tenant."""
    rides_along: bool = True
    """Whether these may go in the message of the first statement."""
    goes_apart: bool = False
    """Whether otherwise each has a message of its own: where one sets something, a cluster's nodes run all of it."""
    failed: Callable[[StoreError], object] = lambda _: None
    """Told of each error there."""
    longest_ms: int | None = None
    """For how many milliseconds each statement may run, where the tenant has a limit, which `opening` sets."""
    tells_position: bool = False
    """Whether a commit asks up to where the server's log was written then."""
    is_noted: bool = False
    """Whether each read is noted in the activity log."""


class Transaction(Executor):
    """Runs queries on one connection, between its `begin` and the `commit` or `rollback`.

    Calls of several tasks take turns. After the end every call is a `StoreError`.
    """

    def __init__(
        self,
        places: Sequence[Place],
        connection: Connection,
        tenant_id: str,
        observer: Observer,
        *,
        read_only: bool = False,
        keyring: Keyring | None = None,
    ) -> None:
        self.keyring = keyring or Keyring()
        self._place, *self._elsewhere = places
        self._pool, self._connection, self._tenant_id, self._observer = places[0].pool, connection, tenant_id, observer
        self._opening = self._place.opening  # the statements that begin the transaction, until they were sent
        self._read_only = read_only
        self._holds = True  # whether the connection is this transaction's
        self._turn = asyncio.Lock()
        self._savepoints = Savepoints()
        self._left = ""  # the message that releases the savepoint which was left last
        self._failed = False  # the server refused a statement, and so refuses all others
        self._wrote = False
        self._in_step = True  # the last message was answered, so that the next can be sent
        self._doubtful = False  # a call was cut short: it may have been done or not
        self._over = False
        self.position: int | None = None
        """Up to where the server's log was written when this was committed; `None` where that was not asked for."""

    @classmethod
    async def begin(
        cls,
        places: Sequence[Place],
        tenant_id: str,
        observer: Observer,
        *,
        read_only: bool = False,
        keyring: Keyring | None = None,
    ) -> Transaction:
        """A transaction in the first of these places; where its first statement fails there, in the next one."""
        connection = await places[0].pool.acquire(tenant_id)
        transaction = cls(places, connection, tenant_id, observer, read_only=read_only, keyring=keyring)
        try:
            if connection.is_doubtful():
                await transaction._open()
        except BaseException:
            transaction._give_back()
            raise
        return transaction

    async def _open(self, *further: str) -> None:
        """Begin, and send these, before there is a statement."""
        statements = [*self._opening, *further]
        for message in statements if self._place.goes_apart else ["; ".join(statements)]:
            await self._command(message, "begin", self._connection.prompt_begin)
        self._opening = ()

    async def _rows(self, query: Query[Any], tenant_id: str, values: Mapping[str, object]) -> Sequence[Row]:
        if check_tenant(tenant_id) != self._tenant_id:
            raise TenantMismatchError(f"{query.name}: this transaction belongs to another tenant")
        bind = bind_in_turns if self.keyring.is_empty else self._bound
        bound = await bind(query, tenant_id, values)
        server = self._pool.server
        with self._observer.watch(query.name, tenant_id, bound.query, server=server, in_transaction=True) as call:
            try:
                rows = await self.run(bound.query, bound.arguments)
            except EncryptionKeyError as error:  # the tenant has been encrypted since its keys were asked for
                error.repeatable = self.keyring.doubt(tenant_id)
                raise
            call.rows, call.server = len(rows), self._pool.server
        return rows

    async def run(self, query: Query[Any], arguments: Sequence[object]) -> Sequence[Row]:
        """The rows of a query whose arguments were checked before."""
        self._pool.check_origin()
        async with self._turn:
            self._check_open(query.name)
            if self._left:
                await uninterrupted(self._release(query.name))
            self._wrote = self._wrote or query.writes
            if self._opening:
                return await self._first(query.name, lambda: self._fetch_first(query, arguments))
            try:
                with self._step(query.name):
                    return await self._fetch(b"", query, arguments)
            except StoreError as error:
                self._place.failed(error)
                raise

    async def _fetch_first(self, query: Query[Any], arguments: Sequence[object]) -> Sequence[Row]:
        if not self._place.rides_along or self._connection.lacks_settings_for(query.text):
            await self._open()
        before = b"".join(map(wire.statement, self._opening))
        try:
            with self._step(query.name):
                return await self._fetch(before, query, arguments)
        finally:
            if self._connection.sent or self._connection.dangling:
                self._opening = ()

    async def _fetch(self, before: bytes, query: Query[Any], arguments: Sequence[object]) -> Sequence[Row]:
        notes = noting(query, arguments) if self._place.is_noted else ()
        if self._place.rides_along:
            message = before + b"".join(map(wire.statement, notes))
            return await self._connection.fetch_behind(message, query.text, arguments)
        for note in notes:
            await self._connection.raw.execute(note)
        return await self._connection.fetch(query.text, arguments)

    async def _first(self, name: str, send: Callable[[], Awaitable[T]]) -> T:
        """What the first message gives, sent on another connection, or in another place, where it fails on this one."""
        attempts = 0
        while True:
            attempts += 1
            try:
                return await send()
            except QuotaExceededError:  # it has had its time, and gets no more of it elsewhere
                raise
            except StoreError as error:
                self._place.failed(error)
                # What the last place answered is final. What it did not, in a transaction that it lost, was not done.
                is_lost = error.repeatable and self._connection.raw.is_closed() and attempts < ATTEMPTS
                if self._over or not (self._elsewhere or is_lost):
                    raise
                await self._change_connection(name)

    async def _change_connection(self, name: str) -> None:
        """Begin again on another connection: in the next place, where there is one."""
        self._hand_back()
        while self._elsewhere:
            self._place, *self._elsewhere = self._elsewhere
            self._pool = self._place.pool
            try:
                await self._take_connection(name)
            except StoreError as error:
                self._place.failed(error)
                if self._over or not self._elsewhere:
                    raise
            else:
                return
        await self._take_connection(name)

    async def _take_connection(self, name: str) -> None:
        self._connection = await self._pool.acquire(self._tenant_id)
        self._holds, self._in_step, self._doubtful, self._failed = True, True, False, False
        self._opening = self._place.opening
        self._check_open(name)

    @property
    def wrote(self) -> bool:
        """Whether a statement of it writes."""
        return self._wrote

    @property
    def server(self) -> Literal["primary", "replica"]:
        """Which kind of server it runs on."""
        return self._pool.server

    async def atomic(self, tenant_id: str, work: Callable[[Executor], Awaitable[T]]) -> T:
        """What `work` returns, run once in this very transaction."""
        self._pool.check_origin()
        if check_tenant(tenant_id) != self._tenant_id:
            raise TenantMismatchError("this transaction belongs to another tenant")
        return await work(self)

    @asynccontextmanager
    async def savepoint(self) -> AsyncIterator[None]:
        """Undo what was done inside, and only that, when an exception leaves the block.

        While it is open, the calls of tasks that were not begun inside it are refused: they would be
        undone with it.
        """
        number = await self._enter_savepoint()
        name = f"thea_{number}"
        with self._savepoints.around(number):
            try:
                yield
                await self._leave_savepoint(name)
            except GeneratorExit:  # the coroutine is closed, so nothing can be awaited; no later call succeeds
                self._doubtful = True
                raise
            except BaseException:
                await self._undo(f"rollback to savepoint {name}; release savepoint {name}")
                raise

    async def _enter_savepoint(self) -> int:
        self._pool.check_origin()
        async with self._turn:
            self._check_open("savepoint")
            number = self._savepoints.next()
            await uninterrupted(self._begin_savepoint(f"thea_{number}"))
            self._savepoints.opened(number)
            self._left = ""
        return number

    async def _begin_savepoint(self, name: str) -> None:
        if self._opening:
            await self._first("savepoint", lambda: self._open(f"savepoint {name}"))
        else:
            message = f"{self._left}; savepoint {name}" if self._left else f"savepoint {name}"
            await self._command(message, "savepoint", self._connection.prompt)
        self._left = f"release savepoint {name}"  # where the block is not entered, because it was cancelled meanwhile

    async def _leave_savepoint(self, name: str) -> None:
        """Keep what was done inside; the message that says so goes before the next one."""
        self._pool.check_origin()
        async with self._turn:
            self._check_open("savepoint")
            if self._failed:
                raise StoreError(statement_failed("savepoint"))
            self._left = f"release savepoint {name}"

    async def _release(self, name: str) -> None:
        await self._command(self._left, name, self._connection.prompt)
        self._left = ""

    async def commit(self) -> None:
        """End the transaction; `OutcomeUnknownError` when the server's answer to a write got lost."""
        self._pool.check_origin()
        async with self._last_turn():
            try:
                self._check_open("commit")
                if self._opening:  # the server knows of no transaction: nothing was asked for, or nothing got there
                    answer = "ROLLBACK" if self._failed or self._doubtful else "COMMIT"
                else:
                    # What is lost before it is sent was surely not done.
                    unknown = self._wrote and not self._connection.raw.is_closed()
                    try:
                        answer = await self._send_commit(unknown=unknown)
                    except StoreError as error:
                        self._place.failed(error)
                        if not self._read_only or self._in_step:
                            raise
                        answer = "COMMIT"  # the connection is lost, and what was read is here
            finally:
                self._give_back()
        if answer != "COMMIT":
            raise StoreError(
                "the transaction was rolled back, because a statement in it had failed: let the error leave the "
                "block, or wrap what may fail in tx.savepoint()"
            )

    async def _send_commit(self, *, unknown: bool) -> str:
        """The server's answer; where reads on a standby wait for it, the log's position comes in the same message."""
        if not (self._wrote and self._place.tells_position) or self._failed:
            with self._step("commit", unknown=unknown):
                return await self._connection.raw.execute("commit")
        with self._step("commit"):
            await self._connection.know(POSITION)
        with self._step("commit", unknown=unknown, behind_commit=True):
            [row] = await self._connection.fetch_behind(_COMMIT, POSITION, ())
        self.position = row[0]
        return "COMMIT"

    async def roll_back(self) -> None:
        """End the transaction with nothing written; never raises for a lost connection."""
        if not self._pool.is_here():  # the error that leaves the block says so, or is the caller's own
            return
        async with self._last_turn():
            try:
                if self._in_step and not self._opening and not self._connection.raw.is_closed():
                    await self._command("rollback", "rollback", self._connection.prompt)
            except StoreError:
                pass  # the server rolls back what has lost its connection
            finally:
                self._give_back()

    def abandon(self) -> None:
        """End the transaction as `roll_back` does, in the background, where nothing can be awaited any more."""
        self._give_back()

    async def _undo(self, message: str) -> None:
        """Undo a savepoint, whose calls may have been cut short; where that fails, no later call succeeds."""
        self._doubtful = True
        if not self._pool.is_here():
            return
        with suppress(StoreError):
            async with self._turn:
                if not self._over:  # else it is another call's connection by now
                    await uninterrupted(self._undo_now(message))

    async def _undo_now(self, message: str) -> None:
        if not self._in_step:
            with self._step("savepoint", prompt=True):
                await self._connection.catch_up()
        await self._command(message, "savepoint", self._connection.prompt)
        self._doubtful, self._failed, self._left = False, False, ""

    @asynccontextmanager
    async def _last_turn(self) -> AsyncIterator[None]:
        try:
            await self._turn.acquire()
        except BaseException:  # cancelled while another task's call runs: that one ends with the connection
            self._over = True
            if self._holds:
                self._holds = False
                self._pool.end(self._connection)
            raise
        try:
            yield
        finally:
            self._turn.release()

    async def _command(self, message: str, name: str, patience: float | None) -> None:
        """Send what costs the server nothing, and wait up to `patience` seconds, or as long as for a statement."""
        with self._step(name, prompt=True):
            await self._connection.raw.execute(message, timeout=patience)

    @contextmanager
    def _step(
        self, name: str, *, unknown: bool = False, prompt: bool = False, behind_commit: bool = False
    ) -> Iterator[None]:
        """One message and its answer: out of step until the answer is there."""
        self._in_step = False
        try:
            yield
        except BaseException as error:
            self._in_step = answered(error)
            self._failed = self._failed or self._in_step
            self._doubtful = self._doubtful or not self._in_step
            write_in_read_only = self._read_only and takes_no_writes(error)
            if needs_new_connections(error) and not write_in_read_only:
                self._pool.expire()
            if is_silent(error):
                self._connection.raw.terminate()
                self._pool.doubt()
            if isinstance(error, Exception):
                if write_in_read_only:
                    raise StoreError(f"{name}: this transaction is read_only: begin one that is not") from error
                standby = self._pool.standby
                has_begun = self._connection.sent or not self._opening
                # What a standby did not answer in time can be asked elsewhere.
                raise translate(
                    error,
                    name,
                    unknown=unknown,
                    prompt=prompt or standby,
                    standby=standby,
                    behind_commit=behind_commit,
                    longest_ms=self._place.longest_ms if has_begun else None,
                ) from error
            raise
        self._in_step = True

    def _check_open(self, name: str) -> None:
        if self._over:
            raise StoreError(f"{name}: this transaction has ended; call the store's own repositories, or begin another")
        if self._savepoints.are_of_another_task():
            raise StoreError(
                f"{name}: another task has a savepoint open in this transaction, and may undo this call with it: "
                "begin the tasks inside the savepoint, or give each its own transaction"
            )
        if self._doubtful and not self._connection.raw.is_closed():
            raise StoreError(
                f"{name}: an earlier call of this transaction was cut short, and may have been done or not: let the "
                "cancellation or timeout leave the block, or wrap what may be cut short in tx.savepoint()"
            )

    def _give_back(self) -> None:
        self._over = True
        self._hand_back()

    def _hand_back(self) -> None:
        if not self._holds:
            return
        self._holds = False
        if self._in_step:
            self._pool.release(self._connection)
        else:
            self._pool.settle(self._connection)
