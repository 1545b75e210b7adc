"""An operator's session that works on one tenant, and what becomes of its errors."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

import psycopg
from psycopg import Connection, IsolationLevel

from thea_store.errors import (
    ConflictError,
    InsufficientPrivilegeError,
    MigrationRequiredError,
    QuotaExceededError,
    StoreError,
    StoreUnavailableError,
    TenantEndedError,
    TenantSuspendedError,
    UnknownTenantError,
)
from thea_store.postgres.operator import connect
from thea_store.postgres.session import fixed_locally
from thea_store.postgres.url import DatabaseUrl

__all__ = ["Progress", "applied_migrations", "connected", "no_progress", "transaction"]

Progress: TypeAlias = Callable[[str, int], None]
"""Called with the table that is worked on, and how many more of its rows are done."""


def no_progress(table: str, rows: int) -> None:
    """Tell nobody."""


@contextmanager
def connected(address: DatabaseUrl) -> Iterator[Connection[Any]]:
    """A connection whose errors leave the block as the library's.

    `StoreUnavailableError` without a connection, or when it is lost; `InsufficientPrivilegeError` when the login may
    not do this.
    """
    connection = connect(address)
    connection.read_only = None
    try:
        with connection:
            yield connection
    except psycopg.Error as error:
        raise _told(error, address) from _without_values(error)


@contextmanager
def transaction(
    connection: Connection[Any],
    tenant_id: str,
    *,
    actor: str = "",
    request_id: str = "",
    is_snapshot: bool = False,
) -> Iterator[None]:
    """A transaction of the tenant; a snapshot sees one moment from its beginning to its end, and writes nothing."""
    connection.isolation_level = IsolationLevel.REPEATABLE_READ if is_snapshot else IsolationLevel.READ_COMMITTED
    connection.read_only = is_snapshot
    settings = {
        "app.tenant_id": tenant_id,
        "app.actor": actor,
        "app.request_id": request_id,
        "search_path": "pg_catalog",
        # A large table takes as long as it takes.
        "statement_timeout": "0",
    }
    with connection.transaction():
        connection.execute(fixed_locally(**settings).encode())
        yield


def applied_migrations(connection: Connection[Any], address: DatabaseUrl) -> tuple[str, ...]:
    """The applied migrations by their ids; `MigrationRequiredError` where there is no schema."""
    known = "select to_regclass('public._yoyo_migration') is not null and to_regnamespace('thea') is not null"
    if connection.execute(known).fetchone() != (True,):
        raise MigrationRequiredError(f"{address}: there is no schema of the library: run `thea-store migrate`")
    rows = connection.execute('select migration_id from public._yoyo_migration order by migration_id collate "C"')
    return tuple(row[0] for row in rows)


_REFUSED: dict[str, tuple[type[StoreError], str]] = {
    "TH001": (TenantSuspendedError, "this tenant is suspended: resume it first"),
    "TH002": (TenantEndedError, "this tenant has ended: bring it in under another name (--as)"),
    "TH003": (UnknownTenantError, "the directory has no such tenant: create it there first"),
    "TH004": (QuotaExceededError, "it would have more than its limit of text allows: let an operator raise it first"),
    "23505": (ConflictError, "somebody else did the same at this moment: run it again"),
    "55000": (ConflictError, "it has rows of this tenant already: end the tenant there first"),
}


def _told(error: psycopg.Error, address: DatabaseUrl) -> StoreError:
    state = error.sqlstate or ""
    if state == "42501":
        return InsufficientPrivilegeError(
            f"{address}: the login may not do this: to bring a tenant in, to move and to end it, log in as a member of "
            "thea_mover; to bring rows back from a backup, as a member of thea_app"
        )
    if state in _REFUSED:
        kind, sentence = _REFUSED[state]
        return kind(f"{address}: {sentence}")
    if state == "42883":
        return MigrationRequiredError(f"{address}: the schema is older than this library: run `thea-store migrate`")
    if not state or state.startswith(("08", "57P")):
        return StoreUnavailableError(
            f"{address}: the connection was lost; what is done is kept: run the same command again, and it goes on"
        )
    return StoreError(f"{address}: the server refuses it (SQLSTATE {state}); what is done is kept: see its log")


def _without_values(error: psycopg.Error) -> psycopg.Error:
    """The error by its SQLSTATE alone, since the server's text may quote a row."""
    return type(error)(f"SQLSTATE {error.sqlstate}")
