"""The connection by which a database is looked at: one transaction, whose errors say what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from thea_store.errors import StoreError, StoreUnavailableError
from thea_store.postgres.session import fixed_locally
from thea_store.postgres.url import DatabaseUrl

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["PATIENCE", "connected"]

PATIENCE = 30.0
"""Seconds that the server may take for an answer."""


@contextmanager
def connected(address: DatabaseUrl, *, standby: bool = False) -> Iterator[Connection[Any]]:
    """A connection within a transaction; blocks. `StoreUnavailableError` without a server that answers."""
    import psycopg  # noqa: PLC0415 - 60 ms, and a store that is never opened does not need it

    from thea_store.postgres import operator  # noqa: PLC0415 - as psycopg

    try:
        with (
            operator.connect(address, application_name="thea_store verify", standby=standby) as connection,
            connection.transaction(),
        ):
            connection.execute(fixed_locally(statement_timeout=f"{PATIENCE:g}s").encode())
            yield connection
    except psycopg.OperationalError as error:
        raise StoreUnavailableError(f"{address}: the connection was lost while the schema was checked") from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise StoreError(
            f"{address}: the login may not read the schema's version: make it a member, `grant thea_app to …`"
        ) from error
    except psycopg.Error as error:
        raise StoreError(f"{address}: the schema cannot be checked (SQLSTATE {error.sqlstate})") from error
