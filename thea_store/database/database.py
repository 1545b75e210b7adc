"""The database as a store sees it: single queries, and transactions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Literal, TypeVar

from thea_store.database import messages
from thea_store.database.connection import Connection, Connector, set_local
from thea_store.database.executor import Executor, Row
from thea_store.database.explaining import generic_plan, has_plan
from thea_store.database.failures import (
    answered,
    is_of_other_isolation,
    is_silent,
    needs_new_connections,
    translate,
)
from thea_store.database.nobody import NOBODY, OfNobody
from thea_store.database.pool import Pool
from thea_store.database.retries import repeat
from thea_store.database.transaction import Transaction
from thea_store.errors import PoolTimeoutError, StoreUnavailableError
from thea_store.postgres.password import PasswordSource
from thea_store.postgres.session import fixed_at_once, local_statements, which_tenants
from thea_store.queries.arguments import Key, check, check_tenant
from thea_store.queries.binding import bind_in_turns
from thea_store.queries.file import Query
from thea_store.settings import Settings
from thea_store.telemetry import Observer, PoolFigures
from thea_store.telemetry.calls import Watch
from thea_store.telemetry.plans import SlowPlans

__all__ = ["Database", "Isolation"]

T = TypeVar("T")

Isolation = Literal["read committed", "repeatable read", "serializable"]

_BEGIN = "begin isolation level read committed"


class Database(Executor):
    """Runs each query in its own transaction, on a pool of connections that remember their tenant."""

    def __init__(self, settings: Settings, password: PasswordSource | None = None) -> None:
        self._settings = settings
        self._sticky = settings.tenant_scope == "session"
        self._brought = {
            "statement_timeout": str(round(settings.command_timeout * 1000)),
            **which_tenants(settings.tenants),
        }
        self.observer = Observer(echo=settings.echo, slow_ms=settings.slow_query_ms)
        self._plans = SlowPlans(self._explain)
        self.observer.on_slow = self._plans.consider
        self._connector, self._pool = _pool(settings, None, password, self.observer)
        self._replica_connector: Connector | None = None
        self._replicas: Pool | None = None
        if settings.replica_url:
            self._replica_connector, self._replicas = _pool(settings, settings.replica_url, password, self.observer)

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
            await self._plans.close()
            await self._pool.close(patience)
        except BaseException:  # cancelled, so that the other does not wait at all
            deadline = 0.0
            raise
        finally:
            if self._replicas is not None:
                await self._replicas.close(max(0.0, deadline - time.monotonic()))

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
            self._take_back(connection, error)
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
        """A transaction of this tenant, begun at the block's start; read-only ones go to a replica."""
        self.check_origin()
        tenant = check_tenant(tenant_id)
        check("isolation", isolation, Isolation | None)
        check("read_only", read_only, bool)
        check("actor", actor, Key | None)
        check("request_id", request_id, Key | None)
        # Always said: a role or a database may have another default.
        modes = f" isolation level {isolation or 'read committed'}{' read only' if read_only else ''}"
        opening = [f"begin{modes}", *set_local(tenant_id=tenant, actor=actor, request_id=request_id)]
        pool = self._replicas if read_only and self._replicas is not None else self._pool
        return TransactionScope(self, pool, tenant, opening, self.observer, read_only=read_only)

    async def atomic(self, tenant_id: str, work: Callable[[Executor], Awaitable[T]]) -> T:
        """What `work` returns, run in a transaction of its own, and anew where the server undid it."""

        async def once() -> T:
            async with self.transaction(tenant_id) as transaction:
                return await work(transaction)

        return await repeat(once)

    def of_nobody(self) -> OfNobody:
        """What runs the queries that belong to no tenant."""
        opening = [_BEGIN, *set_local(tenant_id=NOBODY)]
        return OfNobody(lambda: TransactionScope(self, self._pool, NOBODY, opening, Observer()), self.observer)

    async def begin(
        self,
        pool: Pool,
        tenant_id: str,
        opening: Sequence[str],
        *,
        read_only: bool,
        retried: Callable[[], None] = lambda: None,
    ) -> Transaction:
        """A transaction that begins with these statements, on a connection that is not known to be dead."""
        connector = self._connector if pool is self._pool else self._replica_connector
        if connector is not None and connector.pooled:
            # A pooler took no start-up settings, so each transaction brings its own, before the tenant's.
            opening = [opening[0], *local_statements(**self._brought), *opening[1:]]
        rides_along = connector is not None and bool(connector.rides_along)
        return await repeat(
            lambda: Transaction.begin(
                pool, tenant_id, opening, self.observer, read_only=read_only, rides_along=rides_along
            ),
            retried=retried,
        )

    async def _explain(self, query: Query[Any], tenant_id: str) -> str | None:
        """A query's generic plan; `None` where it has none, and while no connection is idle, which a call may need."""
        if not has_plan(query) or not self._pool.figures().idle:
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
        tenant = check_tenant(tenant_id)
        bound = await bind_in_turns(query, tenant, values)
        with self.observer.watch(query.name, tenant, bound.query) as call:
            rows = await repeat(lambda: self._alone(bound.query, tenant, bound.arguments), retried=call.retried)
            call.rows = len(rows)
        return rows

    async def _alone(self, query: Query[Any], tenant: str, arguments: Sequence[object]) -> Sequence[Row]:
        if self._sticky:
            return await self._on_sticky(query, tenant, arguments)
        if self._connector.at_once:
            return await self._in_one_message(query, tenant, arguments)
        return await self._in_transaction(query, tenant, arguments)

    async def _on_sticky(self, query: Query[Any], tenant: str, arguments: Sequence[object]) -> Sequence[Row]:
        connection = await self._pool.acquire(tenant)
        sent = False
        try:
            # Telling the tenant once more finds out, before the statement is sent, whether the connection is dead.
            if connection.tenant != tenant or connection.is_doubtful():
                await connection.carry(tenant)
            sent = True
            rows = await connection.fetch(query.text, arguments)
        except BaseException as error:
            self._take_back(connection, error)
            if isinstance(error, Exception):
                raise translate(error, query.name, unknown=sent and query.writes, prompt=not sent) from error
            raise
        self._pool.release(connection)
        return rows

    async def _in_one_message(self, query: Query[Any], tenant: str, arguments: Sequence[object]) -> Sequence[Row]:
        """The tenant and the statement, which the server runs in one transaction that ends with them."""
        connection = await self._pool.acquire(tenant)
        connection.sent, is_doubtful = False, connection.is_doubtful()
        try:
            if is_doubtful:
                await connection.catch_up()
                is_doubtful = False
            if connection.lacks_settings_for(query.text):
                opening = ["begin", *local_statements(**self._brought), *set_local(tenant_id=tenant)]
                await connection.describe(opening, query.text)
            rows = await connection.fetch_behind(self._tenants_message(tenant), query.text, arguments)
        except BaseException as error:
            if connection.dangling:  # what went before would be the next call's tenant
                connection.raw.terminate()
            self._take_back(connection, error)
            if isinstance(error, Exception):
                unknown = connection.sent and query.writes
                failure = translate(error, query.name, unknown=unknown, prompt=is_doubtful)
                if is_of_other_isolation(error):
                    self._connector.reads_committed, failure.repeatable = False, True
                raise failure from error
            raise
        self._pool.release(connection)
        return rows

    def _tenants_message(self, tenant: str) -> bytes:
        if not self._connector.pooled:
            return messages.set_tenant(tenant)
        # Nothing is prepared behind a pooler, and each transaction brings the settings of its own.
        return messages.statement(fixed_at_once(**{**self._brought, "app.tenant_id": tenant}))

    async def _in_transaction(self, query: Query[Any], tenant: str, arguments: Sequence[object]) -> Sequence[Row]:
        opening = [_BEGIN, *set_local(tenant_id=tenant)]
        # Not watched: the call itself is.
        async with TransactionScope(self, self._pool, tenant, opening, Observer()) as transaction:
            return await transaction.run(query, arguments)

    def _take_back(self, connection: Connection, error: BaseException) -> None:
        if needs_new_connections(error):
            self._pool.expire()
        if is_silent(error):
            self._pool.doubt()
        # Where the SET was cut short, nobody knows whose connection it is.
        is_nobodys = self._sticky and connection.tenant is None
        if is_nobodys or is_silent(error):
            self._pool.end(connection)
        elif answered(error):
            self._pool.release(connection)
        else:
            self._pool.settle(connection)


class TransactionScope(AbstractAsyncContextManager[Transaction]):
    """Begins a transaction and commits it, or rolls it back when an exception leaves the block."""

    def __init__(
        self,
        database: Database,
        pool: Pool,
        tenant_id: str,
        opening: Sequence[str],
        observer: Observer,
        *,
        read_only: bool = False,
    ) -> None:
        self._database, self._pool, self._tenant_id, self._opening = database, pool, tenant_id, opening
        self._observer, self._read_only = observer, read_only

    def _watch(self, name: str) -> Watch:
        return self._observer.watch(name, self._tenant_id, server=self._pool.server, in_transaction=True)

    async def __aenter__(self) -> Transaction:
        with self._watch("begin") as call:
            self._transaction = await self._database.begin(
                self._pool, self._tenant_id, self._opening, read_only=self._read_only, retried=call.retried
            )
        return self._transaction

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            with self._watch("commit"):
                await self._transaction.commit()
        elif isinstance(error, GeneratorExit):  # a coroutine that is closed, or destroyed with its task
            self._transaction.abandon()
        else:
            await self._transaction.roll_back()


def _pool(
    settings: Settings, replica_url: str | None, password: PasswordSource | None, observer: Observer
) -> tuple[Connector, Pool]:
    connector = Connector(
        settings.address(replica_url),
        settings.command_timeout,
        direct_only=settings.tenant_scope == "session",
        password=password,
        standby=replica_url is not None,
        tenants=settings.tenants,
    )
    pool = Pool(
        connector,
        place=str(connector.address),
        size=settings.pool_size,
        overflow=settings.max_overflow,
        recycle=settings.pool_recycle,
        timeout=settings.pool_timeout,
        standby=replica_url is not None,
    )
    observer.add_pool(connector.address, pool.server, pool.figures, pool.statistics)
    return connector, pool
