"""The store: where everything is put together, opened, checked and closed."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, AsyncExitStack
from functools import partial
from types import TracebackType
from typing import Any, NoReturn, Self, TypeVar

from thea_store.assistant import AGGREGATES
from thea_store.assistant.conversations import Conversations
from thea_store.assistant.events.repository import Events
from thea_store.assistant.messages import Messages
from thea_store.assistant.notes import Notes
from thea_store.assistant.users import Users
from thea_store.assistant.work import AssistantWork
from thea_store.database import Database, Executor, Isolation, Transaction, keys, repeat
from thea_store.errors import (
    InvalidArgumentError,
    QueryMismatchError,
    StoreError,
    UnsafeRoleError,
    UnsafeSchemaError,
)
from thea_store.extensions import Extension, discover
from thea_store.migrator import migrate
from thea_store.postgres.password import PasswordSource, check_password_source, with_password
from thea_store.queries.arguments import Count, Seconds, check
from thea_store.queries.file import SqlFile
from thea_store.repositories import audit
from thea_store.repositories.audit import Audit
from thea_store.settings import EMBEDDED, Settings
from thea_store.telemetry import Call
from thea_store.telemetry.logs import write_json
from thea_store.tenancy import directory, erasure, limits, people, retention, work
from thea_store.tenancy.directory import Tenants
from thea_store.tenancy.people import People
from thea_store.tenancy.retention import Retention
from thea_store.verification import health, opening
from thea_store.verification.health import Health

__all__ = ["GROUP_FILES", "SQL_FILES", "Store", "StoreTransaction"]

T = TypeVar("T")

SQL_FILES = (*(aggregate.sql for aggregate in AGGREGATES), audit.SQL, people.SQL, limits.SQL, keys.SQL)
"""The library's own queries of tenants' rows."""

GROUP_FILES: Mapping[str, Sequence[SqlFile]] = {
    "thea_admin": (directory.SQL, retention.SQL),
    "thea_worker": (work.SQL,),
    "thea_privacy": (erasure.SQL,),
}
"""The queries of the other groups of logins, who do what no service may."""

_log = logging.getLogger("thea_store")

_CLOSING = 10.0
"""Seconds that closing waits for running work."""


class _Repositories:
    """The repositories, over a pool or within a transaction; a repository of an extension is made over it."""

    def __init__(self, db: Executor, extensions: Sequence[Extension]) -> None:
        self._db, self._extensions = db, extensions
        aggregates = [*AGGREGATES, *(each for extension in extensions for each in extension.aggregates)]
        self._known = frozenset(aggregate.repository for aggregate in aggregates)
        self.users = Users(self)
        self.conversations = Conversations(self)
        self.messages = Messages(self)
        self.events = Events(self)
        self.notes = Notes(self)
        self.audit = Audit(db, [aggregate.table for aggregate in aggregates])
        self.people = People(db)

    def executor_of(self, repository: type[Any]) -> Executor:
        """What runs a repository's queries; `StoreError` for one of an extension that is not opened."""
        if self._known.isdisjoint(repository.__mro__):
            known = ", ".join(extension.name for extension in self._extensions) or "none"
            raise StoreError(
                f"{repository.__name__} belongs to no extension that this store was opened with (those are: {known}): "
                "give it with `Store.open(extensions=[…])`, by DATABASE_EXTENSIONS, or by an entry point"
            )
        return self._db


class StoreTransaction(_Repositories):
    """The same repositories as the store's, within one transaction of one tenant."""

    def __init__(self, transaction: Transaction, extensions: Sequence[Extension] = ()) -> None:
        super().__init__(transaction, extensions)
        self._transaction = transaction

    def savepoint(self) -> AbstractAsyncContextManager[None]:
        """A part of the transaction that is undone alone when an exception leaves the block."""
        return self._transaction.savepoint()


class Store(_Repositories):
    """The data of many tenants. Every call takes the tenant first, and is its own transaction.

    `users`, `events`, `notes`, `conversations` and `messages` are its repositories; `audit` reads what changed,
    and `people` gives out and erases all that is kept of one person.
    `tenants` is the directory of tenants, and `retention` says how long rows are kept: both are for a login in the
    group `thea_admin`. `work` names the tenants that have something to do, for a login in `thea_worker`.
    """

    def __init__(
        self,
        database: Database,
        settings: Settings,
        resources: AsyncExitStack,
        password: PasswordSource | None = None,
        extensions: Sequence[Extension] = (),
    ) -> None:
        super().__init__(database, extensions)
        self._database, self._settings, self._resources = database, settings, resources
        self._password = password
        self.observer = database.observer
        """What sees each call and each pool: for `thea_store.telemetry`."""
        self.tenants = Tenants(database.of_nobody())
        aggregates = [*AGGREGATES, *(each for extension in extensions for each in extension.aggregates)]
        self.retention = Retention(database.of_nobody(), [aggregate.table for aggregate in aggregates])
        self.work = AssistantWork(database.of_nobody())

    @classmethod
    def open(
        cls,
        source: str | Settings | None = None,
        *,
        extensions: Sequence[Extension] = (),
        password: PasswordSource | None = None,
    ) -> _Opening:
        """A store on a URL, on `Settings`, or on those of the environment; await it, or enter it.

        `extensions` are a service's own tables, beside those of `DATABASE_EXTENSIONS` and of installed distributions.

        `password` is for passwords that change: a function, or a coroutine function, that is called at each new
        connection and returns the password. It counts instead of the URL's.

        Raises, in this order: `SettingsError`; `StoreUnavailableError` when no server answers;
        `MigrationRequiredError` when the schema is older than the library; `UnsafeRoleError` when the
        login could bypass row security; `UnsafeSchemaError` when a table of an extension does not keep
        tenants apart; `QueryMismatchError` when a query does not fit the schema.
        """
        return _Opening(source, password, extensions)

    async def close(self, timeout: float = _CLOSING) -> None:  # noqa: ASYNC109 - the contract's name
        """Wait up to `timeout` seconds for running work, then end all connections. Idempotent."""
        self._database.check_origin()
        check("timeout", timeout, Seconds)
        try:
            await self._database.close(timeout)
        finally:
            await self._resources.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._leave(error)

    async def _leave(self, error: BaseException | None) -> None:
        """Close at a block's end; where the block may not close it, its own error goes first."""
        try:
            self._database.check_origin()
        except StoreError:
            if error is None:
                raise
        else:
            await self.close()

    async def ping(self, timeout: float = 5.0) -> float:  # noqa: ASYNC109 - the contract's name
        """Milliseconds of one round trip to the server.

        `StoreUnavailableError` within `timeout` seconds when there is none, whatever the server or the network does.
        """
        check("timeout", timeout, Seconds)
        return await self._database.ping(timeout)

    def on_call(self, callback: Callable[[Call], object]) -> Callable[[], None]:
        """Have `callback` called with each call when it has ended; what comes back ends that.

        It is called on the store's event loop, in the task of the call, so it must be quick and a plain function. What
        it raises is logged, and does not reach whoever made the call.
        """
        if inspect.iscoroutinefunction(callback):
            raise InvalidArgumentError("callback", "is a coroutine function: give a plain one, which may begin a task")
        return self.observer.listen(callback)

    async def health(self) -> Health:
        """What an operator asks first; a database that is down is an answer too, not an error."""
        self._database.check_origin()
        return await health.ask(
            self._settings, self._database.figures(), self._password, [each.lineage for each in self._extensions]
        )

    def transaction(
        self,
        tenant_id: str,
        *,
        actor: str | None = None,
        request_id: str | None = None,
        isolation: Isolation | None = None,
        read_only: bool = False,
        retry: int = 0,
    ) -> AbstractAsyncContextManager[StoreTransaction]:
        """One transaction of one tenant: committed at the end of the block, rolled back by an exception.

        `actor` and `request_id` go into the audit log. A block cannot be run again, so `retry` is an
        argument of `run` and refused here. `TenantMismatchError` when another tenant is named inside.
        """
        if retry:
            raise InvalidArgumentError("retry", "a block cannot be run again: use `await store.run(tenant_id, fn)`")
        return _StoreTransactionScope(
            self._database.transaction(
                tenant_id, isolation=isolation, read_only=read_only, actor=actor, request_id=request_id
            ),
            self._extensions,
        )

    def acting(self, *, actor: str | None = None, request_id: str | None = None) -> AbstractContextManager[None]:
        """A block whose calls the audit log has under this actor and request, without a message more.

        They hold for the task that enters the block and for the tasks that it begins there, for single calls and for
        transactions that begin there; a transaction that says its own keeps that one. Inside of another such block,
        what is not given is as there.
        """
        return self._database.acting(actor, request_id)

    async def run(
        self,
        tenant_id: str,
        work: Callable[[StoreTransaction], Awaitable[T]],
        *,
        retry: int = 3,
        actor: str | None = None,
        request_id: str | None = None,
        isolation: Isolation | None = None,
        read_only: bool = False,
    ) -> T:
        """What `work(tx)` returns, run in a transaction, and run anew up to `retry` times.

        It is run anew only when surely nothing was written: after a serialization failure, a deadlock,
        or a connection lost before the commit. So `work` should touch nothing but the transaction.
        """
        check("retry", retry, Count)

        async def once() -> T:
            async with self.transaction(
                tenant_id, isolation=isolation, read_only=read_only, actor=actor, request_id=request_id
            ) as transaction:
                return await work(transaction)

        return await repeat(once, attempts=retry + 1, retried=lambda: self.observer.retried("run"))


class _StoreTransactionScope(AbstractAsyncContextManager[StoreTransaction]):
    def __init__(self, scope: AbstractAsyncContextManager[Transaction], extensions: Sequence[Extension]) -> None:
        self._scope, self._extensions = scope, extensions

    async def __aenter__(self) -> StoreTransaction:
        return StoreTransaction(await self._scope.__aenter__(), self._extensions)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._scope.__aexit__(kind, error, trace)


class _Opening:
    """A store that is not open yet: `await` gives it, `async with` gives it and closes it."""

    def __init__(
        self, source: str | Settings | None, password: PasswordSource | None, extensions: Sequence[Extension]
    ) -> None:
        self._source, self._password, self._extensions = source, password, extensions
        self._store: Store | None = None

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{name}: the store is not open yet: `async with Store.open(…) as store:`, or await it")

    def __await__(self) -> Generator[Any, None, Store]:
        return _open(self._source, self._password, self._extensions).__await__()

    async def __aenter__(self) -> Store:
        self._store = await _open(self._source, self._password, self._extensions)
        return self._store

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._store is not None:
            await self._store._leave(error)  # noqa: SLF001 - its own module's


async def _open(source: str | Settings | None, password: PasswordSource | None, given: Sequence[Extension]) -> Store:
    check_password_source(password)
    settings = _settings(source)
    if settings.log_format == "json":
        write_json()
    extensions = discover(given, settings.extensions or "")
    async with AsyncExitStack() as resources:
        if settings.url.startswith(EMBEDDED):
            settings = await _start_embedded(settings, extensions, resources)
        database = Database(settings, password)
        resources.push_async_callback(database.close, _CLOSING)
        await database.start()
        address = await with_password(settings.address(), password)
        findings = await asyncio.to_thread(opening.inspect, address, SQL_FILES, extensions, GROUP_FILES)
        # Some hundred queries are compared: other tasks of the loop need not wait for that.
        await asyncio.to_thread(_check, findings, settings, extensions)
        database.limits.ask_by(partial(limits.limits_of_calls, database.of_nobody()))
        await database.limits.refresh()  # before the first call, so that no read goes without its entry
        return Store(database, settings, resources.pop_all(), password, extensions)


def _settings(source: object) -> Settings:
    if source is None:
        return Settings()
    if isinstance(source, Settings):
        return source
    if isinstance(source, str):
        return Settings(url=source)
    raise InvalidArgumentError("source", "must be a URL or Settings")


async def _start_embedded(settings: Settings, extensions: Sequence[Extension], resources: AsyncExitStack) -> Settings:
    from thea_store.embedded import EmbeddedPostgres  # noqa: PLC0415 - not for Windows, nor needed elsewhere

    server = await resources.enter_async_context(EmbeddedPostgres(settings.url.removeprefix(EMBEDDED) or None))
    lineages = [extension.lineage for extension in extensions]
    await asyncio.to_thread(migrate, server.migrator_url, lineages=lineages, superuser_url=server.superuser_url)
    return settings.model_copy(update={"url": server.app_url, "migrator_url": server.migrator_url})


def _check(findings: opening.Findings, settings: Settings, extensions: Sequence[Extension]) -> None:
    lineages = [extension.lineage for extension in extensions]
    opening.require_migrated(findings.server, settings.address(), lineages)
    if not findings.server.is_safe:
        powers = " and ".join(str(power) for power in findings.server.powers if power.is_refused)
        reason = f"the login {powers}, so row security would not bind it"
        if not settings.allow_unsafe_role:
            raise UnsafeRoleError(
                f"{settings.address()}: {reason}: log in as a role made with "
                "`create role … login password … in role thea_app` "
                "(for development alone: DATABASE_ALLOW_UNSAFE_ROLE=true)"
            )
        _log.warning("%s (allowed by DATABASE_ALLOW_UNSAFE_ROLE)", reason)
    if findings.lacks:
        raise UnsafeSchemaError(findings.lacks)
    if found := opening.mismatches(findings):
        raise QueryMismatchError(found)
