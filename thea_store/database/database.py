"""The database as a store sees it: single queries, and transactions, each on the server that is fit for it.

A single query goes to the primary, or to a replica that has what the tenant wrote. There it is sent in the shortest way
that the server allows (`single_call`); where none of these is, in a transaction of its own. A transaction begins with
its first statement (`transaction`), on the primary, or where it is read-only, on a replica.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from functools import partial
from types import TracebackType
from typing import Any, Literal, TypeVar

from thea_store.database.acting import UNSAID, acting, who_acts
from thea_store.database.connection import BEGIN, set_local
from thea_store.database.executor import Executor, Row, RowKeyNeededError
from thea_store.database.explaining import generic_plan
from thea_store.database.failures import translate
from thea_store.database.limits import CallLimits, limit_time
from thea_store.database.nobody import NOBODY, OfNobody
from thea_store.database.reading import noting, noting_all
from thea_store.database.replicas import Replica, Replicas
from thea_store.database.retries import repeat
from thea_store.database.server import Server
from thea_store.database.single_call import Call, in_one_message, in_session
from thea_store.database.transaction import Place, Transaction
from thea_store.encryption import Keyring, provider_of
from thea_store.errors import (
    EncryptionKeyError,
    PoolTimeoutError,
    QuotaExceededError,
    StoreError,
    StoreUnavailableError,
)
from thea_store.postgres.password import PasswordSource
from thea_store.postgres.session import local_statements
from thea_store.queries.arguments import Key, check, check_tenant
from thea_store.queries.binding import Bound, bind_in_turns, changes_texts
from thea_store.queries.file import Query
from thea_store.settings import Settings
from thea_store.telemetry import Observer, PoolFigures
from thea_store.telemetry.calls import Watch
from thea_store.telemetry.plans import SlowPlans

__all__ = ["Database", "Isolation"]

T = TypeVar("T")

Isolation = Literal["read committed", "repeatable read", "serializable"]

_Bind = Callable[[Query[Any], str, Mapping[str, object]], Awaitable[Bound]]

_READ_ONLY = " read only"


class Database(Executor):
    """Runs each query in its own transaction, on a pool of connections that remember their tenant."""

    def __init__(self, settings: Settings, password: PasswordSource | None = None) -> None:
        self._settings = settings
        self._sticky = settings.tenant_scope == "session"
        self.observer = Observer(echo=settings.echo, slow_ms=settings.slow_query_ms)
        self._plans = SlowPlans(self._explain)
        self.observer.on_slow = self._plans.consider
        self.limits = CallLimits(self._in_flight, round(settings.command_timeout * 1000))
        """What tenants may do in calls."""
        self.keyring = Keyring(provider_of(settings.encryption_keys) if settings.encryption_keys else None)
        self._primary = Server.at(settings.address(), settings, password, self.limits.admit)
        self._connector, self._pool = self._primary.connector, self._primary.pool
        self.observer.add_pool(self._connector.address, self._pool.server, self._pool.figures, self._pool.statistics)
        self._replicas = self._standbys(settings, password) if settings.replica_url else None

    def _standbys(self, settings: Settings, password: PasswordSource | None) -> Replicas:
        address = settings.address(settings.replica_url)
        hosts = address.each_host() or [address]
        replicas = [Replica.at(host, settings, password, self.limits.admit, standby=True) for host in hosts]
        for replica in replicas:
            pool = replica.pool
            self.observer.add_pool(
                replica.connector.address, pool.server, pool.figures, pool.statistics, replica.known_lag
            )
        return Replicas(self._primary, replicas, max_lag=settings.replica_max_lag)

    async def start(self) -> None:
        """Connect; `StoreUnavailableError` says what stops it."""
        await self._pool.start()
        if self._replicas is not None:
            await self._replicas.start()

    async def close(self, patience: float) -> None:
        """Wait up to `patience` seconds for running work, then end it. Idempotent."""
        deadline = time.monotonic() + patience
        self.observer.closed = True
        try:
            await self.limits.close()
            await self._plans.close()
            await self._pool.close(patience)
        except BaseException:  # cancelled, so that the other does not wait at all
            deadline = 0.0
            raise
        finally:
            if self._replicas is not None:
                await self._replicas.close(max(0.0, deadline - time.monotonic()))

    def _in_flight(self, tenant_id: str) -> int:
        replicas = () if self._replicas is None else self._replicas.each
        return sum(server.pool.in_flight(tenant_id) for server in (self._primary, *replicas))

    def wrote(self, tenant_id: str, position: int | None = None) -> None:
        """Note that the tenant wrote, or may have, up to this position or now: what it reads on a replica has that."""
        if self._replicas is not None:
            self._replicas.wrote(tenant_id, position)

    def check_origin(self) -> None:
        """`StoreError` where the caller is not in the process and on the event loop that opened the store."""
        self._pool.check_origin()

    async def ping(self, patience: float) -> float:
        """Milliseconds of one round trip to the server; `StoreUnavailableError` within `patience` seconds."""
        try:
            async with asyncio.timeout(patience):
                # Half of the time for a connection that may be dead, so that another one can be tried.
                return await repeat(lambda: self._ping_once(patience / 2))
        except TimeoutError:
            raise StoreUnavailableError(f"{self._connector.address}: no answer within {patience:g} s") from None
        except PoolTimeoutError as error:
            raise StoreUnavailableError(f"ping: {error}") from error

    async def _ping_once(self, patience: float) -> float:
        connection = await self._pool.acquire(None)
        started = time.perf_counter()
        try:
            await connection.raw.execute("select 1", timeout=min(patience, connection.prompt))
        except BaseException as error:
            self._primary.take_back(connection, error)
            if isinstance(error, Exception):
                raise translate(error, "ping", prompt=True) from error
            raise
        took = time.perf_counter() - started
        self._pool.release(connection)
        return took * 1000

    def figures(self) -> PoolFigures:
        """The state of the primary's pool."""
        return self._pool.figures()

    def transaction(
        self,
        tenant_id: str,
        *,
        isolation: Isolation | None = None,
        read_only: bool = False,
        actor: str | None = None,
        request_id: str | None = None,
    ) -> TransactionScope:
        """A transaction of this tenant, begun with its first statement; read-only ones go to a replica."""
        self.check_origin()
        tenant = check_tenant(tenant_id)
        check("isolation", isolation, Isolation | None)
        check("read_only", read_only, bool)
        check("actor", actor, Key | None)
        check("request_id", request_id, Key | None)
        # Always said: a role or a database may have another default.
        modes = f" isolation level {isolation or 'read committed'}{_READ_ONLY if read_only else ''}"
        who = who_acts(self, actor, request_id)
        opening = [f"begin{modes}", *set_local(tenant_id=tenant, actor=who.actor, request_id=who.request_id)]
        return TransactionScope(self, tenant, opening, self.observer, read_only=read_only)

    def acting(self, actor: str | None, request_id: str | None) -> AbstractContextManager[None]:
        """A block whose calls and transactions are made by this actor, in this request."""
        return acting(self, actor, request_id)

    async def atomic(self, tenant_id: str, work: Callable[[Executor], Awaitable[T]]) -> T:
        """What `work` returns, run in a transaction of its own, and anew where the server undid it."""

        async def once() -> T:
            async with self.transaction(tenant_id) as transaction:
                return await work(transaction)

        return await repeat(once)

    def of_nobody(self, named: str = NOBODY) -> OfNobody:
        """What runs the queries that belong to no tenant, while the transaction names this one."""

        def begin() -> TransactionScope:
            who = who_acts(self)
            opening = [BEGIN, *set_local(tenant_id=named, actor=who.actor, request_id=who.request_id)]
            return TransactionScope(self, NOBODY, opening, Observer())

        return OfNobody(begin, self.observer)

    async def begin(
        self,
        tenant_id: str,
        opening: Sequence[str],
        *,
        read_only: bool,
        retried: Callable[[], None] = lambda: None,
        server: Server | None = None,
    ) -> Transaction:
        """A transaction that begins with these statements, on a connection that is not known to be dead.

        On this server; or else a read-only one on a replica, where one is fit for it.
        """
        longest_ms = self.limits.statement_ms(tenant_id)
        limit = limit_time(longest_ms)
        is_noted = server is None and self.limits.reads_are_noted(tenant_id)
        if is_noted and read_only:
            opening = [opening[0].removesuffix(_READ_ONLY), *opening[1:], *noting_all()]
        places = [
            self._place(server or self._primary, [*opening, *limit], longest_ms, is_noted=is_noted and not read_only)
        ]
        if read_only and server is None and self._replicas is not None and not is_noted:
            places = [*await self._replicas_places(self._replicas, tenant_id, opening, longest_ms), *places]
        begin = partial(Transaction.begin, places, tenant_id, self.observer, read_only=read_only, keyring=self.keyring)
        while len(places) > 1:
            try:
                return await begin()
            except QuotaExceededError:  # no server has more for the tenant
                raise
            except StoreError as error:
                places.pop(0).failed(error)
        return await repeat(begin, retried=retried)

    def _place(
        self, server: Server, opening: Sequence[str], longest_ms: int | None, *, is_noted: bool = False
    ) -> Place:
        if server.connector.pooled:
            # A pooler took no start-up settings, so each transaction brings its own, before the tenant's.
            opening = [opening[0], *local_statements(**server.connector.settings), *opening[1:]]
        failed = server.failed if isinstance(server, Replica) else lambda _: None
        rides_along = bool(server.connector.rides_along)
        asks = self._replicas is not None and self._replicas.knows_positions
        tells_position = asks and rides_along and not server.connector.pooled
        goes_apart = server.connector.distributed
        return Place(server.pool, opening, rides_along, goes_apart, failed, longest_ms, tells_position, is_noted)

    async def _replicas_places(
        self, replicas: Replicas, tenant_id: str, opening: Sequence[str], longest_ms: int | None
    ) -> list[Place]:
        places = []
        for replica in replicas.in_order():
            try:
                wait = await replicas.wait_for(replica, tenant_id)
            except StoreError:  # the primary does not tell what has to be there
                break
            # Elsewhere the wait would take the snapshot that all statements of the transaction see.
            if not wait or opening[0].startswith(BEGIN):
                # The wait does not count towards the tenant's limit.
                places.append(self._place(replica, [*opening, *wait, *limit_time(longest_ms)], longest_ms))
        return places

    async def _explain(self, query: Query[Any], tenant_id: str) -> str | None:
        """A query's generic plan; `None` where it has none, and while no connection is idle, which a call may need.

        None on a Citus cluster: a coordinator plans for the node of a tenant that is known, and shows it in the plan.
        """
        if not query.has_plan or self._connector.distributed or not self._pool.figures().idle:
            return None
        connection = await self._pool.acquire(None)
        try:
            plan = await generic_plan(connection, query, tenant_id)
        except BaseException as error:
            self._pool.end(connection)
            if isinstance(error, Exception):
                raise translate(error, query.name) from error
            raise
        self._pool.release(connection)
        return plan

    async def _rows(self, query: Query[Any], tenant_id: str, values: Mapping[str, object]) -> Sequence[Row]:
        if self.keyring.is_empty:
            return await self._rows_of(query, tenant_id, values, bind_in_turns)
        try:
            return await self._rows_of(query, tenant_id, values, self._bound)
        except EncryptionKeyError as error:  # the tenant has been encrypted since it was asked about
            if not self.keyring.doubt(tenant_id):
                raise
            if changes_texts(query):
                raise RowKeyNeededError(*error.args) from error
        return await self._rows_of(query, tenant_id, values, self._bound)

    async def _rows_of(
        self, query: Query[Any], tenant_id: str, values: Mapping[str, object], bind: _Bind
    ) -> Sequence[Row]:
        tenant = check_tenant(tenant_id)
        bound = await bind(query, tenant, values)
        with self.observer.watch(query.name, tenant, bound.query) as call:
            before = noting(bound.query, bound.arguments) if self.limits.reads_are_noted(tenant) else ()
            # What neither writes nor is noted has no entry in a log.
            who = who_acts(self) if query.writes or before else UNSAID
            longest_ms = self.limits.statement_ms(tenant)
            wanted = Call(bound.query, tenant, bound.arguments, before, who, longest_ms, bound.has_one_plan)
            rows = await self._run(wanted, call)
            call.rows = len(rows)
        return rows

    async def _run(self, call: Call, watch: Watch) -> Sequence[Row]:
        if self._replicas is None:
            return await self._on_primary(call, watch)
        if call.query.writes:
            try:
                return await self._on_primary(call, watch)
            finally:
                self._replicas.wrote(call.tenant)
        if self._settings.reads == "replica" and not call.before:  # no standby takes an entry of a log
            for replica in self._replicas.in_order():
                try:
                    wait = await self._replicas.wait_for(replica, call.tenant)
                    rows = await self._alone(replica, call._replace(before=wait))
                except QuotaExceededError:  # no server has more for the tenant
                    watch.server = "replica"
                    raise
                except StoreError as error:  # the primary has the last word
                    replica.failed(error)
                    watch.retried()
                else:
                    watch.server = "replica"
                    return rows
        return await self._on_primary(call, watch)

    def _on_primary(self, call: Call, watch: Watch) -> Awaitable[Sequence[Row]]:
        return repeat(partial(self._alone, self._primary, call), retried=watch.retried)

    def _alone(self, server: Server, call: Call) -> Awaitable[Sequence[Row]]:
        if self._sticky and (server.connector.rides_along or not (call.longest_ms or call.who != UNSAID)):
            return in_session(server, call)
        if not self._sticky and (
            server.connector.at_once or (server.connector.reads_at_once and not call.query.writes)
        ):
            return in_one_message(server, call)
        return self._in_transaction(server, call)

    async def _in_transaction(self, server: Server, call: Call) -> Sequence[Row]:
        query, tenant, arguments, before, who, *_ = call
        opening = [BEGIN, *set_local(tenant_id=tenant, actor=who.actor, request_id=who.request_id), *before]
        # Not watched: the call itself is.
        async with TransactionScope(self, tenant, opening, Observer(), server=server) as transaction:
            return await transaction.run(query, arguments)


class TransactionScope(AbstractAsyncContextManager[Transaction]):
    """Begins a transaction and commits it, or rolls it back when an exception leaves the block."""

    def __init__(
        self,
        database: Database,
        tenant_id: str,
        opening: Sequence[str],
        observer: Observer,
        *,
        read_only: bool = False,
        server: Server | None = None,
    ) -> None:
        self._database, self._tenant_id, self._opening, self._server = database, tenant_id, opening, server
        self._observer, self._read_only = observer, read_only

    async def __aenter__(self) -> Transaction:
        with self._observer.watch("begin", self._tenant_id, in_transaction=True) as call:
            self._transaction = await self._database.begin(
                self._tenant_id,
                self._opening,
                read_only=self._read_only,
                retried=call.retried,
                server=self._server,
            )
            call.server = self._transaction.server
        return self._transaction

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._leave(error)
        finally:
            if self._transaction.wrote:
                self._database.wrote(self._tenant_id, self._transaction.position)

    async def _leave(self, error: BaseException | None) -> None:
        if error is None:
            server = self._transaction.server
            with self._observer.watch("commit", self._tenant_id, server=server, in_transaction=True):
                await self._transaction.commit()
        elif isinstance(error, GeneratorExit):  # a coroutine that is closed, or destroyed with its task
            self._transaction.abandon()
        else:
            await self._transaction.roll_back()
