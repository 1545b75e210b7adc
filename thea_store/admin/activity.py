"""What runs on a server now, and what ran: by query, from pg_stat_activity and pg_stat_statements.

The text of a statement is never handed on, since it may name a tenant: only the name in its last comment.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import psycopg
from psycopg import Connection, sql

from thea_store.errors import StoreUnavailableError
from thea_store.postgres.operator import connect, read_only
from thea_store.postgres.url import DatabaseUrl

__all__ = ["Activity", "Session", "Statement", "Watcher", "as_dictionary", "difference"]

_NAME = re.compile(r"/\* ([a-z][a-z0-9_.+]*) \*/\s*$")
_TENANT = re.compile(r"\bset (?:local )?app\.tenant_id = '((?:[^']|'')*)'")
_WORD = re.compile(r"\s*([a-z]+)", re.IGNORECASE)
_HIDDEN = "<insufficient privilege>"
_COMMANDS = frozenset(
    {"begin", "commit", "rollback", "set", "savepoint", "release", "select", "insert", "update", "delete"}
)

NO_STATEMENTS = (
    "pg_stat_statements is not there, so calls are not counted: set shared_preload_libraries = 'pg_stat_statements', "
    "restart the server, and `create extension pg_stat_statements` in this database"
)
HIDDEN = "statements of other logins are not shown: `grant pg_read_all_stats to …` this one"


@dataclass(frozen=True, slots=True)
class Statement:
    """The calls of one query, added up since the server began to count."""

    query: str
    """The query's name; `(set)` and the like for a statement that has none."""
    calls: int
    total_ms: float
    rows: int

    @property
    def mean_ms(self) -> float:
        """Milliseconds of one call."""
        return self.total_ms / self.calls if self.calls else 0.0


@dataclass(frozen=True, slots=True)
class Session:
    """A connection that is at work, or sits in a transaction."""

    pid: int
    application: str
    state: str
    seconds: float
    """Since its statement began, or since it has been idle in its transaction."""
    waits_for: str | None
    query: str
    tenant: str | None
    """The tenant that its last message names; `None` where it names none."""


@dataclass(frozen=True, slots=True)
class Activity:
    """A look at the server."""

    statements: tuple[Statement, ...]
    """The one that took the longest time first."""
    sessions: tuple[Session, ...]
    """The one that has been at it longest first."""
    notes: tuple[str, ...]
    """What could not be seen, and how it can be."""


class Watcher:
    """A connection that looks at the server as often as it is asked."""

    def __init__(self, address: DatabaseUrl) -> None:
        self._connection = connect(address, application_name="thea_store top")
        self._place = str(address)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def look(self) -> Activity:
        """The statements and the sessions of this database; `StoreUnavailableError` when the connection is lost."""
        try:
            with read_only(self._connection):
                statements, notes = _statements(self._connection)
                return Activity(statements, _sessions(self._connection), notes)
        except psycopg.OperationalError as error:
            raise StoreUnavailableError(f"{self._place}: the connection was lost: look at the server's log") from error


def difference(before: Activity, after: Activity) -> Activity:
    """The calls between two looks, and the sessions of the second."""
    known = {each.query: each for each in before.statements}
    between = [_less(each, known.get(each.query)) for each in after.statements]
    return Activity(_sorted([each for each in between if each.calls > 0]), after.sessions, after.notes)


def _less(after: Statement, before: Statement | None) -> Statement:
    if before is None or after.calls < before.calls:  # the server began to count anew
        return after
    return Statement(
        after.query, after.calls - before.calls, after.total_ms - before.total_ms, after.rows - before.rows
    )


# --- asking -------------------------------------------------------------------------------------

_EXTENSION = """
select n.nspname
from pg_extension e join pg_namespace n on n.oid = e.extnamespace
where e.extname = 'pg_stat_statements'
"""

_STATEMENTS = """
select s.query, s.calls, s.total_exec_time, s.rows
from {}.pg_stat_statements s
where s.dbid = (select oid from pg_database where datname = current_database())
"""

_SESSIONS = """
select
  pid, application_name, state,
  extract(epoch from clock_timestamp() - case when state = 'active' then query_start else state_change end)
    ::double precision,
  case when wait_event_type <> 'Client' then wait_event_type || ': ' || wait_event end,
  query
from pg_stat_activity
where datname = current_database()
  and backend_type = 'client backend'
  and state <> 'idle'
  and pid <> pg_backend_pid()
order by 4 desc nulls last, pid
"""


def _statements(connection: Connection[Any]) -> tuple[tuple[Statement, ...], tuple[str, ...]]:
    schema = connection.execute(_EXTENSION).fetchone()
    if schema is None:
        return (), (NO_STATEMENTS,)
    try:
        with connection.transaction():
            rows = connection.execute(sql.SQL(_STATEMENTS).format(sql.Identifier(schema[0]))).fetchall()
    except (psycopg.errors.ObjectNotInPrerequisiteState, psycopg.errors.InsufficientPrivilege):
        return (), (NO_STATEMENTS,)
    found: dict[str, Statement] = {}
    for text, calls, total, number in rows:
        if text != _HIDDEN:
            name = named(text)
            sofar = found.get(name, Statement(name, 0, 0.0, 0))
            found[name] = Statement(name, sofar.calls + calls, sofar.total_ms + total, sofar.rows + number)
    return _sorted(list(found.values())), ((HIDDEN,) if any(row[0] == _HIDDEN for row in rows) else ())


def _sessions(connection: Connection[Any]) -> tuple[Session, ...]:
    return tuple(
        Session(pid, application, state or "unknown", max(seconds or 0.0, 0.0), waits, named(text), tenant_of(text))
        for pid, application, state, seconds, waits, text in connection.execute(_SESSIONS).fetchall()
    )


def _sorted(statements: list[Statement]) -> tuple[Statement, ...]:
    return tuple(sorted(statements, key=lambda each: (-each.total_ms, each.query)))


def named(text: str) -> str:
    """The name of a statement's query; for one that has none its command alone, in brackets."""
    if text == _HIDDEN:
        return "(hidden)"
    if match := _NAME.search(text):
        return match[1]
    word = _WORD.match(text)
    command = word[1].lower() if word else ""
    return f"({command})" if command in _COMMANDS else "(other)"


def tenant_of(text: str) -> str | None:
    """The tenant that a message sets."""
    match = _TENANT.search(text)
    return match[1].replace("''", "'") if match else None


def as_dictionary(activity: Activity, *, tenants: bool) -> Mapping[str, object]:
    """What a machine reads of it."""
    return {
        "statements": [
            {
                "query": each.query,
                "calls": each.calls,
                "total_ms": round(each.total_ms, 3),
                "mean_ms": round(each.mean_ms, 3),
                "rows": each.rows,
            }
            for each in activity.statements
        ],
        "sessions": [
            {
                "pid": each.pid,
                "application": each.application,
                "state": each.state,
                "seconds": round(each.seconds, 3),
                "waits_for": each.waits_for,
                "query": each.query,
                **({"tenant": each.tenant} if tenants else {}),
            }
            for each in activity.sessions
        ],
        "notes": list(activity.notes),
    }
