"""The operator's verbs: what is applied, apply what is pending, take back."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from thea_store.errors import InvalidArgumentError
from thea_store.migrator.files import Lineage, Migration, available, listed
from thea_store.migrator.plan import Status, compare, lacking, to_apply, to_roll_back

if TYPE_CHECKING:
    from thea_store.migrator.backend import Backend

__all__ = ["migrate", "pending", "rollback", "status"]

_DAY = 86_400
_ASKS = re.compile(r"create\s+extension\s+if\s+not\s+exists\s", re.IGNORECASE)
_Progress = Callable[[str, float], None]


def pending(applied: Container[str], lineages: Sequence[Lineage] = ()) -> tuple[str, ...]:
    """The ids of the migrations, the extensions' among them, that are not among those applied, in order."""
    return tuple(migration.id for migration in lacking(listed(lineages=lineages), applied))


def status(url: str, directory: Path | None = None, *, lineages: Sequence[Lineage] = ()) -> Status:
    """What the database has of the migrations, the extensions' among them; waits for nobody and changes nothing.

    The login needs `select` on `public._yoyo_migration` and `public._yoyo_log`.
    """
    migrations = available(directory, lineages=lineages)
    with _session(url, lock_timeout=10, wait=0) as backend:
        return compare(migrations, backend.applied())


def migrate(
    url: str,
    directory: Path | None = None,
    *,
    lineages: Sequence[Lineage] = (),
    dry_run: bool = False,
    lock_timeout: float = 10.0,
    wait: float = 60.0,
    on_progress: _Progress | None = None,
    superuser_url: str | None = None,
) -> list[str]:
    """Apply what is pending, in order; return the ids applied, or with `dry_run` those that would be.

    Each migration is one transaction, its mark included: a crash or an error leaves those before it
    applied and nothing of it. `lock_timeout` bounds the wait for a table in use, `wait` the one for
    another migrator (seconds). `on_progress` is called after each with its id and seconds. On a server of one's own,
    the superuser at `superuser_url` first creates the server's extensions that migrations ask for by
    `create extension if not exists`, which no other login may.

    `MigrationError`: a file or the database's state forbids it, or a migration failed.
    `StoreUnavailableError`: no connection, or it broke. `OutcomeUnknownError`: it broke at a commit.
    """
    migrations = available(directory, lineages=lineages)
    with _session(url, lock_timeout, wait) as backend:
        if dry_run:
            return [migration.id for migration in to_apply(migrations, backend.applied())]
        if superuser_url is not None:
            _create_extensions(superuser_url, migrations)
        done: list[str] = []
        with backend.lock(wait):
            # Asked anew each time: a plain yoyo may have come in between two.
            while pending := _next(backend, migrations, wait):
                _run(backend, pending, "apply", on_progress)
                done.append(pending.id)
        return done


def rollback(
    url: str,
    directory: Path | None = None,
    *,
    lineages: Sequence[Lineage] = (),
    extension: str | None = None,
    to: str | None = None,
    discard_rows: bool = False,
    dry_run: bool = False,
    lock_timeout: float = 10.0,
    wait: float = 60.0,
    on_progress: _Progress | None = None,
) -> list[str]:
    """Take back what was applied of one lineage after `to`, newest first.

    Returns the ids, or with `dry_run` those that would be taken back. The lineage is the library's own, or that of
    `extension`. `to` is an id or its number, `0000` for everything; without it the newest alone is taken back, and
    an empty database gives an empty list. Where a table holds rows that would be dropped, or a column values, nothing
    is done, and `MigrationError` names them with their numbers, unless `discard_rows`. Else as `migrate`.
    """
    migrations = available(directory, lineages=lineages)
    with _session(url, lock_timeout, wait) as backend:
        if dry_run:
            return [migration.id for migration in to_roll_back(migrations, backend.applied(), to, extension or "")]
        with backend.lock(wait):
            backend.prepare(wait)
            chosen = to_roll_back(migrations, backend.applied(), to, extension or "")
            if len(chosen) > 1 and not discard_rows:  # else some would be taken back before another is refused
                backend.require_empty(chosen)
            for migration in chosen:
                backend.prepare(wait)
                _run(backend, migration, "rollback", on_progress, discard_rows=discard_rows)
        return [migration.id for migration in chosen]


@contextmanager
def _session(url: str, lock_timeout: float, wait: float) -> Iterator[Backend]:
    if not 0 < lock_timeout <= _DAY:
        raise InvalidArgumentError("lock_timeout", "must be more than 0 and at most 86400 seconds")
    if not 0 <= wait <= _DAY:
        raise InvalidArgumentError("wait", "must be from 0 to 86400 seconds")
    # psycopg takes 70 ms to import: a service, which asks only what is `available`, goes without.
    from thea_store.migrator.backend import Backend  # noqa: PLC0415

    with Backend(url, lock_timeout) as backend:
        yield backend


def _create_extensions(superuser_url: str, migrations: Iterable[Migration]) -> None:
    """What the server cannot create, the migration that asks for it will tell."""
    asked = [each.sql for migration in migrations for each in migration.statements if _ASKS.match(each.sql)]
    if not asked:
        return
    import psycopg  # noqa: PLC0415 - as the backend

    for statement in asked:
        with suppress(psycopg.Error), psycopg.connect(superuser_url, autocommit=True) as connection:
            connection.execute(statement.encode())


def _next(backend: Backend, migrations: list[Migration], wait: float) -> Migration | None:
    backend.prepare(wait)
    return next(iter(to_apply(migrations, backend.applied())), None)


def _run(
    backend: Backend,
    migration: Migration,
    operation: Literal["apply", "rollback"],
    on_progress: _Progress | None,
    *,
    discard_rows: bool = False,
) -> None:
    began = time.monotonic()
    backend.run(migration, operation, discard_rows=discard_rows)
    if on_progress is not None:
        on_progress(migration.id, time.monotonic() - began)
