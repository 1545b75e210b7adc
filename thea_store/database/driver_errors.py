"""What a driver's error is, told by its SQLSTATE and its class: what it means for the connection, and whose it is.

What becomes of it for the caller is in `failures`.
"""

from __future__ import annotations

import ssl

import asyncpg

__all__ = [
    "DEMOTED",
    "LATE",
    "answered",
    "is_late",
    "is_misconfigured",
    "is_of_other_isolation",
    "is_of_other_types",
    "is_silent",
    "is_unavailable",
    "needs_new_connections",
    "sqlstate",
    "takes_no_writes",
]

# PostgreSQL manual, appendix A.
DEMOTED = "25006"
"""The SQLSTATE of a write where none is taken."""
_BEGUN_OTHERWISE = "25001"
LATE = "THLAG"
"""The SQLSTATE of a read on a standby that would not have found what its tenant wrote."""
_ENDING = {"57P01", "57P02", "57P03"}


def sqlstate(error: BaseException | None) -> str:
    """The SQLSTATE; empty where the server said none."""
    return getattr(error, "sqlstate", None) or ""


def answered(error: BaseException) -> bool:
    """Whether the server itself refused the statement, and the connection stays in step with it."""
    return (
        isinstance(error, asyncpg.PostgresError)
        and sqlstate(error) not in _ENDING
        and not sqlstate(error).startswith("08")
    )


def needs_new_connections(error: BaseException) -> bool:
    """Whether every pooled connection is on the wrong server or holds statements that no longer fit."""
    return takes_no_writes(error) or is_of_other_types(error)


def is_of_other_types(error: BaseException) -> bool:
    """Whether a type has changed since the connection learned of it."""
    # Where nothing is prepared, behind a pooler, the server cannot tell it, and the driver meets with another length.
    # Within a composite type, the driver alone can tell.
    return isinstance(error, (asyncpg.InvalidCachedStatementError, BufferError, asyncpg.OutdatedSchemaCacheError))


def takes_no_writes(error: BaseException | None) -> bool:
    """Whether the server refused a write, because it is a standby by now or the transaction is read-only."""
    return sqlstate(error) == DEMOTED


def is_late(error: BaseException | None) -> bool:
    """Whether a standby refused a read, because it has not replayed yet what the tenant wrote."""
    return sqlstate(error) == LATE


def is_of_other_isolation(error: BaseException) -> bool:
    """Whether the server refused to make a transaction read committed that had begun otherwise."""
    return sqlstate(error) == _BEGUN_OTHERWISE


def is_unavailable(error: BaseException) -> bool:
    """Whether the connection is gone, or could not be made."""
    if isinstance(error, asyncpg.PostgresError):
        return sqlstate(error) in _ENDING | {"53300"} or sqlstate(error).startswith("08")
    # InterfaceError "connection is closed" and InternalClientError "cannot switch to state …" are
    # what asyncpg says when the socket went away between two messages.
    return isinstance(error, (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError)) and not isinstance(
        error, (TimeoutError, asyncpg.DataError)
    )


def is_silent(error: BaseException) -> bool:
    """Whether no answer came in time: the server hangs, or the network swallows what is sent."""
    return isinstance(error, TimeoutError)


def is_misconfigured(error: BaseException) -> bool:
    """Whether the TLS settings stop every attempt to connect: a certificate that is missing, or not trusted."""
    if isinstance(error, ssl.SSLError):
        return not isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError))
    return isinstance(error, asyncpg.ClientConfigurationError)
