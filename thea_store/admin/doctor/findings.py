"""What a check is, and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, LiteralString, TypeAlias

import psycopg
from psycopg import Connection

from thea_store.errors import StoreError
from thea_store.postgres.operator import read_only
from thea_store.settings import Settings

__all__ = [
    "LOGS",
    "ONLY_READ",
    "SUMS",
    "Check",
    "CheckContext",
    "Finding",
    "State",
    "Verdict",
    "ok",
    "problem",
    "quoted",
    "run_checks",
    "split_fix",
    "warning",
]

LOGS = ("audit_log", "compliance_log")
"""The tables that nobody changes."""

SUMS = ("message_counts", "message_folds")
"""The tables of sums, which the database itself keeps."""

ONLY_READ = (*LOGS, *SUMS, "encryption_keys")
"""The tables that the application only reads."""

State: TypeAlias = Literal["ok", "warning", "problem"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a check found; the fix is there unless all is well."""

    check: str
    state: State
    found: str
    fix: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """A finding of a check, which does not know its own name."""

    state: State
    found: str
    fix: str | None = None


def ok(found: str) -> Verdict:
    """All is well."""
    return Verdict("ok", found)


def warning(found: str, fix: str) -> Verdict:
    """It works, but not as it should."""
    return Verdict("warning", found, fix)


def problem(found: str, fix: str) -> Verdict:
    """It does not work, or is not safe."""
    return Verdict("problem", found, fix)


@dataclass(frozen=True, slots=True)
class CheckContext:
    """The database under examination."""

    connection: Connection[Any]
    settings: Settings
    is_service: bool = True
    """Whether the connection is the service's; else it is the migrator's, because the service's failed."""
    pooled: bool = False
    """Whether a pooler is in between."""
    has_migrator: bool = False
    """Whether the migrator's login works, too."""

    def ask(self, query: LiteralString, **values: object) -> list[tuple[Any, ...]]:
        """The rows of a query on the catalogs."""
        return self.connection.execute(query, values or None).fetchall()


Check: TypeAlias = Callable[[CheckContext], Sequence[Verdict]]


def run_checks(checks: Mapping[str, Check], context: CheckContext) -> list[Finding]:
    """The findings of all checks, of which a failing one ends none but itself.

    `psycopg.Error` when the connection is lost.
    """
    return [
        Finding(name, verdict.state, verdict.found, verdict.fix)
        for name, check in checks.items()
        for verdict in _conduct(check, context)
    ]


def _conduct(check: Check, context: CheckContext) -> Sequence[Verdict]:
    try:
        with read_only(context.connection):
            return check(context)
    except psycopg.errors.InsufficientPrivilege:
        return [warning("the login may not look", "run it with a login of more rights in DATABASE_MIGRATOR_URL")]
    except psycopg.errors.QueryCanceled:
        return [warning("the server took longer than 10 s", "look for who holds locks, in pg_locks, and run again")]
    except psycopg.Error as error:
        if context.connection.broken:
            raise
        return [problem(f"the server refuses to tell (SQLSTATE {error.sqlstate})", "please report this")]
    except StoreError as error:
        return [problem(*split_fix(error))]
    except Exception as error:  # noqa: BLE001 - the other checks still have something to say
        return [problem(f"an unexpected {type(error).__name__} in this check", "please report this")]


def split_fix(error: StoreError) -> tuple[str, str]:
    """What an error says is wrong, and what it says to do."""
    found, colon, fix = str(error).rpartition(": ")
    return (found, fix) if colon else (fix, "see the manual of the server, or report this")


def quoted(name: str) -> str:
    """A name as an SQL statement takes it."""
    plain = name.isascii() and name.isidentifier() and name == name.lower()
    return name if plain else '"' + name.replace('"', '""') + '"'
