"""yoyo's PostgreSQL backend with what it lacks: a lock that ends with its process, and atomic marks."""

from __future__ import annotations

import getpass
import logging
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, LiteralString
from uuid import uuid4

import psycopg
from yoyo import default_migration_table, internalmigrations
from yoyo.backends import PostgresqlPsycopgBackend
from yoyo.connections import DatabaseURI

from thea_store.errors import MigrationError
from thea_store.migrator import statements
from thea_store.migrator.blockers import watch
from thea_store.migrator.connection import connection_parameters
from thea_store.migrator.failures import bookkeeping, failed, location
from thea_store.migrator.files import Migration
from thea_store.migrator.losses import losses
from thea_store.migrator.splitting import Statement
from thea_store.postgres.encoding import UTF8, wrong_encoding
from thea_store.postgres.operator import forget_login, is_refused_by_pooler, unreachable
from thea_store.postgres.session import STATE, UNSAFE_REPLICATION_ROLE

__all__ = ["Backend"]

_log = logging.getLogger("thea_store.migrations")
_POLL = 0.2
_PREFIX = "sha256:"
_POOLER = "there is a pooler in between: give the URL of the server itself (DATABASE_MIGRATOR_URL)"
_PLAIN_YOYO = (
    "a plain `yoyo` is at work, or died there, and left its lock (a row in public.yoyo_lock): wait until it has ended "
    "and run again; if it was killed, run `yoyo break-lock` first"
)


@dataclass(slots=True)
class _Work:
    """How far a transaction has come, for its errors."""

    migration: str = ""
    path: Path = field(default_factory=Path)
    statement: Statement | None = None
    committing: bool = False


class Backend(PostgresqlPsycopgBackend):  # type: ignore[misc]  # its base has no types
    """One connection to the database to migrate; a context manager that closes it.

    yoyo's tables are written by yoyo's own methods. Its lock is a row, which outlives a killed process;
    here it is an advisory lock, which the server drops with the session.
    """

    log_migration_sql = statements.LOG
    _is_locked: bool = False
    _internal_schema_updated = True  # `prepare` sees to it, so yoyo need not ask within a migration

    def __init__(self, url: str, lock_timeout: float) -> None:
        """Connect; `StoreUnavailableError` where that fails, `InvalidArgumentError` for a malformed URL."""
        address, self._parameters = connection_parameters(url)
        arguments = {name: value for name, value in self._parameters.items() if name != "dbname"}
        database = self._parameters.get("dbname")
        target = DatabaseURI("postgresql+psycopg", None, None, None, None, database, arguments)
        try:
            super().__init__(target, default_migration_table)
        except psycopg.Error as error:
            forget_login(error)
            if is_refused_by_pooler(error):
                raise MigrationError(f"{address}: {_POOLER}") from error
            raise unreachable(error, address) from error
        try:
            self._require_fit(str(address))
        except BaseException:
            self.connection.close()
            raise
        self._lock_timeout = lock_timeout
        self._settings = statements.settings(lock_timeout).encode()
        self.connection.add_notice_handler(_log_warning)

    @property
    def connection(self) -> psycopg.Connection:
        """The connection, in autocommit: transactions are begun explicitly."""
        connection: psycopg.Connection = self._connection
        return connection

    def get_log_data(self, migration: Migration | None = None, operation: str = "apply") -> dict[str, Any]:
        """The row for yoyo's log; unlike yoyo's own, without a DNS query, and for users without a name."""
        try:
            user = getpass.getuser()
        except (KeyError, OSError):  # a container's numeric user
            user = "unknown"
        return {
            "id": str(uuid4()),
            "migration_id": migration and migration.id,
            "migration_hash": migration and migration.hash,
            "username": user[:255],
            "hostname": socket.gethostname()[:255],
            "created_at_utc": datetime.now(UTC).replace(tzinfo=None),
            "operation": operation,
            "comment": _PREFIX + migration.checksum if migration and operation == "apply" else None,
        }

    def _require_fit(self, address: str) -> None:
        """`MigrationError` where no migration may run: a pooler, another encoding, a session without triggers."""
        with bookkeeping(self.connection):
            row = self.connection.execute(STATE).fetchone()
        arrived, replication_role, encoding, *_ = row or (False, "", "")
        if not arrived:
            raise MigrationError(f"{address}: {_POOLER}")
        if encoding != UTF8:
            raise MigrationError(f"{address}: {wrong_encoding(encoding)}")
        if replication_role != "origin":
            raise MigrationError(f"{address}: {UNSAFE_REPLICATION_ROLE}")

    @contextmanager
    def lock(self, timeout: float = 10) -> Iterator[None]:
        """Hold the migrators' lock; after `timeout` seconds `MigrationError`, which names the holder."""
        if self._is_locked:
            yield
            return
        deadline = time.monotonic() + timeout
        with bookkeeping(self.connection):
            while not self._value(statements.TRY_LOCK):
                if time.monotonic() >= deadline:
                    raise MigrationError(self._holder(timeout))
                time.sleep(_POLL)
        self._is_locked = True
        try:
            yield
        finally:
            self._is_locked = False
            with suppress(psycopg.Error):  # a lost connection has lost its lock
                self.connection.execute(statements.UNLOCK)

    def prepare(self, timeout: float) -> None:
        """Let a plain yoyo that is at work end first, for `timeout` seconds, and make yoyo's missing tables."""
        with bookkeeping(self.connection):
            with self._work():
                if not self._value(statements.HAS_LOCK_TABLE):
                    self.execute(self.format_sql(self.create_lock_table_sql))
            deadline = time.monotonic() + timeout
            while self._plain_yoyo_is_at_work():
                if time.monotonic() >= deadline:
                    raise MigrationError(_PLAIN_YOYO)
                time.sleep(_POLL)
            with self._work():
                if internalmigrations.needs_upgrading(self):
                    internalmigrations.upgrade(self)

    def applied(self) -> dict[str, str | None]:
        """The ids that the database has, each with the checksum recorded when it was applied, if one was."""
        with bookkeeping(self.connection), self._work():
            if not self._value(statements.HAS_MIGRATIONS):
                return {}
            return {id_: _checksum(comment) for id_, comment in self.connection.execute(statements.APPLIED)}

    def run(self, migration: Migration, operation: Literal["apply", "rollback"], *, discard_rows: bool = False) -> None:
        """Apply a migration or roll it back, and note that in yoyo's tables: all of it or nothing."""
        work = _Work()
        with self._reported(work):
            if operation == "rollback" and not discard_rows:
                self._refuse_losses([migration], work)
            self._execute(migration, operation, work)
            self._note(migration, operation)
            work.committing = True

    def require_empty(self, migrations: Sequence[Migration]) -> None:
        """`MigrationError` where rolling these back would drop rows; whatever comes of it, nothing is done."""
        work = _Work()
        with self._reported(work):
            self._refuse_losses(migrations, work)

    @contextmanager
    def _reported(self, work: _Work) -> Iterator[None]:
        """A transaction whose errors name the statement that `work` has come to."""
        blockers = list[str]()
        try:
            with watch(self.connection, self._parameters, self._lock_timeout) as blockers, self._work():
                self._stay_alone()
                yield
        except psycopg.Error as error:
            broken = self.connection.broken
            place = f"{work.migration} ({location(error, work.path, work.statement)})"
            raise failed(error, place, broken=broken, committing=work.committing, blockers=blockers) from error

    def _execute(self, migration: Migration, operation: Literal["apply", "rollback"], work: _Work) -> None:
        forward = operation == "apply"
        work.migration = migration.id
        work.path = migration.path if forward else migration.rollback_path
        for work.statement in migration.statements if forward else migration.rollback or ():
            self.connection.execute(work.statement.sql.encode())
        work.statement = None

    def _refuse_losses(self, migrations: Sequence[Migration], work: _Work) -> None:
        def go_back() -> None:
            for migration in migrations:
                self._execute(migration, "rollback", work)
                self.connection.execute(self._settings)  # the file may have left others

        found = losses(self.connection, go_back)
        if found:
            ids = ", ".join(migration.id for migration in migrations)
            raise MigrationError(
                f"rolling back {ids} would drop {', '.join(map(str, found))}: nothing was done; make a backup, and "
                "give --discard-rows (`discard_rows=True`) to lose them"
            )

    @contextmanager
    def _work(self) -> Iterator[None]:
        # yoyo's flag makes it use savepoints inside, instead of a BEGIN of its own.
        with self.connection.transaction():
            self._in_transaction = True
            try:
                self.connection.execute(self._settings)
                yield
            finally:
                self._in_transaction = False

    def _stay_alone(self) -> None:
        if not self._value(statements.HOLDS_LOCK):
            raise MigrationError(f"this transaction does not hold the migrators' lock: {_POOLER}")
        # A plain yoyo that comes now waits until this transaction has ended.
        self.connection.execute(statements.SHUT_OUT_PLAIN_YOYO)
        if self.connection.execute(statements.PLAIN_LOCK).fetchone():
            raise MigrationError(_PLAIN_YOYO)

    def _plain_yoyo_is_at_work(self) -> bool:
        with self._work():
            row = self.connection.execute(statements.PLAIN_LOCK).fetchone()
            others = self.connection.execute(statements.OTHER_MIGRATORS, [statements.APPLICATION_NAME]).fetchone()
            if row and not others:
                self.connection.execute(statements.FORGET_PLAIN_LOCK, row)
                _log.warning("removed the lock that a plain yoyo (its process %s) left behind", row[0])
                row = None
            return row is not None

    def _note(self, migration: Migration, operation: str) -> None:
        # The file may have left another role or search path.
        self.connection.execute(self._settings)
        self.log_migration(migration, operation)
        if operation == "apply":
            self.mark_one(migration, log=False)
        else:
            self.unmark_one(migration, log=False)

    def _holder(self, waited: float) -> str:
        row = self.connection.execute(statements.LOCK_HOLDER).fetchone()
        if row is None:
            return f"other migrators held the lock for longer than {waited:g} s: run again"
        pid, name, since = row
        return (
            f"another migrator has held the lock for longer than {waited:g} s: server process {pid} "
            f"({name or 'without an application name'}), connected since {since or 'an unknown time'}; wait for it and "
            f"run again, or end it with `select pg_terminate_backend({pid})`"
        )

    def _value(self, query: LiteralString) -> Any:
        row = self.connection.execute(query).fetchone()
        return row and row[0]


def _checksum(comment: str | None) -> str | None:
    return comment.removeprefix(_PREFIX) if comment and comment.startswith(_PREFIX) else None


def _log_warning(notice: psycopg.errors.Diagnostic) -> None:
    # A grant that grants nothing is a mere warning to the server.
    if notice.severity_nonlocalized == "WARNING":
        _log.warning("%s (SQLSTATE %s)", notice.message_primary, notice.sqlstate)
