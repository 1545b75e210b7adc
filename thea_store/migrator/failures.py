"""What the driver and the server raise, as errors that name the migration, its file and the remedy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import psycopg

from thea_store.errors import MigrationError, OutcomeUnknownError, StoreError, StoreUnavailableError
from thea_store.migrator.splitting import Statement
from thea_store.postgres.types import remedy as lacking

__all__ = ["bookkeeping", "failed", "location", "one_line"]

_LOCK_TIMEOUT = "55P03"
_REMEDIES = {
    "25006": "the server is a standby or read-only: give the primary's URL",
    "40P01": "two transactions waited for each other: run again",
    "42P06": (
        "it is of others, or was made by hand: give the extension another name, or rename that schema, and run again"
    ),
    "42501": (
        "the migrator must own the database (or be allowed to create in it and in its schema public), be a member of "
        "the owner of what it changes, and have CREATEROLE where roles are to be created"
    ),
    _LOCK_TIMEOUT: "another transaction held a lock for too long: wait for its end or end it, then run again",
}


def failed(
    error: psycopg.Error, place: str, *, broken: bool, committing: bool, blockers: Sequence[str] = ()
) -> StoreError:
    """The error for a migration that failed at `place`, with what became of it, and who it waited for in vain."""
    if broken and committing:
        return OutcomeUnknownError(f"{place}: the connection broke during the commit; run again to see and to go on")
    if broken:
        return StoreUnavailableError(f"{place}: the connection broke; nothing of it was done: run again")
    lacks = lacking(error.sqlstate, error.diag.message_primary or "")
    remedy = lacks or _REMEDIES.get(error.sqlstate or "", "correct it and run again")
    if blockers and error.sqlstate == _LOCK_TIMEOUT:
        remedy += f". It waited for {', and '.join(blockers)}"
    return MigrationError(f"{place}: {_message(error)}. Nothing of it was done; {remedy}.")


def location(error: psycopg.Error, path: Path, statement: Statement | None) -> str:
    """The `file:line` at which the server points, or at which the statement begins; else the file."""
    if statement is None:
        return str(path)
    position = error.diag.statement_position
    return f"{path}:{statement.line + (statement.sql.count(chr(10), 0, int(position) - 1) if position else 0)}"


@contextmanager
def bookkeeping(connection: psycopg.Connection) -> Iterator[None]:
    """Translate what goes wrong between the migrations: yoyo's tables, the locks, the session."""
    try:
        yield
    except psycopg.Error as error:
        if connection.broken:
            raise StoreUnavailableError("the connection broke between two migrations: run again") from error
        remedy = _REMEDIES.get(error.sqlstate or "", "they must be as yoyo 9 creates them")
        raise MigrationError(f"yoyo's tables in schema public: {_message(error)}; {remedy}.") from error


def one_line(error: psycopg.Error) -> str:
    """The driver's whole text on one line: for failed connections alone, where it holds no rows."""
    return " ".join(str(error).split())


def _message(error: psycopg.Error) -> str:
    """What the server says, and all that is left of the driver's text, which stays behind ours as its cause."""
    primary, state = error.diag.message_primary, error.sqlstate or ""
    if state.startswith("22"):  # these texts quote the value
        primary = "a value in a row or in the migration is refused, which the server's own log shows"
    # Not the DETAIL and CONTEXT, which may show rows.
    message = f"{primary} (SQLSTATE {state})" if primary else one_line(error)
    error.args = (message,)
    return message
