"""A look at what is kept, by a login that may, whose errors say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import psycopg
from psycopg import Connection

from thea_store.errors import (
    InsufficientPrivilegeError,
    MigrationRequiredError,
    StoreError,
    TenantEndedError,
    TenantSuspendedError,
)
from thea_store.postgres.operator import UnreachableError, connect, read_only
from thea_store.postgres.session import literal
from thea_store.postgres.url import DatabaseUrl
from thea_store.verification.groups import groups_of, serves_tenants

__all__ = ["asked", "is_auditor", "name_tenant", "require_auditor", "require_reader"]

_AUDITOR = "thea_auditor"
# All entries of a log are hashed, and a tenant's rows are counted one by one.
_PATIENCE = "600s"
_NO_SCHEMA = {"3F000", "42P01", "42883"}
_HINT = "the server tells a service's login nothing of it: take one in thea_auditor, who sees no row of it"


@contextmanager
def asked(address: DatabaseUrl, *, writes: bool = False) -> Iterator[Connection[Any]]:
    """A read-only connection for as long a look as it takes; one that may write where that is said.

    `TenantSuspendedError` and `TenantEndedError` for a tenant that the server refuses to this login,
    `InsufficientPrivilegeError` where the login may not look, `MigrationRequiredError` without a schema of this
    version, `StoreUnavailableError` without a connection.
    """
    try:
        with connect(address) as connection, nullcontext() if writes else read_only(connection):
            if writes:
                connection.read_only = None
            connection.execute("select set_config('statement_timeout', %s, %s)", [_PATIENCE, not writes])
            yield connection
    except psycopg.Error as error:
        raise _told(error, address) from error


def name_tenant(connection: Connection[Any], tenant: str) -> None:
    """Say whose rows the transaction reads; by a statement, because a cluster passes that on to its nodes."""
    connection.execute(f"set local app.tenant_id = {literal(tenant)}".encode())


def is_auditor(connection: Connection[Any]) -> bool:
    """Whether the login has the rights of `thea_auditor`."""
    return _AUDITOR in groups_of(connection)


def require_auditor(connection: Connection[Any], address: DatabaseUrl) -> None:
    """`InsufficientPrivilegeError` for a login that does not see all tenants: it would find nothing, and no fault."""
    if not is_auditor(connection):
        raise InsufficientPrivilegeError(
            f"{address}: only a login in thea_auditor sees the logs of all tenants: take one, or name a tenant"
        )


def require_reader(connection: Connection[Any], address: DatabaseUrl) -> None:
    """`InsufficientPrivilegeError` for a login that sees no tenant's rows, as that of the migrations: the same."""
    groups = groups_of(connection)
    if _AUDITOR not in groups and not (groups and serves_tenants(groups)):
        raise _may_not(address)


def _may_not(address: DatabaseUrl) -> InsufficientPrivilegeError:
    return InsufficientPrivilegeError(
        f"{address}: the login may not read the tenant's rows: take a service's, or one in thea_privacy or thea_auditor"
    )


def _told(error: psycopg.Error, address: DatabaseUrl) -> StoreError:
    match error.sqlstate:
        case "TH001":
            return TenantSuspendedError(f"this tenant is suspended, and {_HINT}")
        case "TH002":
            return TenantEndedError(f"this tenant has ended, and {_HINT}")
        case "42501":
            return _may_not(address)
        case state if state in _NO_SCHEMA:
            return MigrationRequiredError(f"{address}: the schema is missing or older: run `thea-store migrate`")
        case state:
            return UnreachableError(
                f"{address}: the server does not say what is kept (SQLSTATE {state})", "run `thea-store doctor`"
            )
