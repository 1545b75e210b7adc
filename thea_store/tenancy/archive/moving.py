"""Moves a tenant from one database to another, while its service goes on until the last moment.

All rows are copied first, then what was written meanwhile, again and again until that is little. Only then does the
server refuse the tenant's service, for the last round. What a round must copy is told by `xmin`, the transaction that
wrote a row, so no table needs a column or a trigger for it; what is gone is told by comparing ids.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from psycopg import Connection, sql
from psycopg.types.json import Jsonb

from thea_store.errors import ConflictError, NotFoundError, StoreError
from thea_store.postgres.url import DatabaseUrl
from thea_store.queries.arguments import check_tenant
from thea_store.tenancy.archive.exporting import OWN_ENTRIES, highest_ids, rows_of
from thea_store.tenancy.archive.file import batches
from thea_store.tenancy.archive.importing import ADVANCE, require_same_schema
from thea_store.tenancy.archive.session import Progress, applied_migrations, connected, no_progress, transaction
from thea_store.tenancy.archive.tables import Table, read_tables

__all__ = ["Moved", "move_tenant"]

_ACTOR = "move"
_MOVES = uuid.UUID("7d1f6a52-9f0e-4a53-9b0c-2f1f4a1f7a10")

# The service is stopped once a round copied fewer rows than this, or after so many rounds.
_FEW = 500
_ROUNDS = 6

# Seconds that transactions which were running when the service was stopped have to end.
_PATIENCE = 10.0
_POLL = 0.01

_BEGIN = "select thea.import_begin(%s, %s::uuid, %s)"
_SYNC = "select thea.sync_rows(%s, %s::uuid, %s, %s::json)"
_REMOVE = "select thea.remove_rows(%s, %s::uuid, %s, %s)"
_OLDEST = "select pg_snapshot_xmin(pg_current_snapshot())::text::bigint % 4294967296"
_IDS = "select r.id::text from {table} r where r.tenant_id = {tenant}{condition} order by r.id"
_SUMMARY = """
select count(*), coalesce(sum(hashtextextended(id::text, 0)), 0)
from {table}
where tenant_id = {tenant}{condition}
"""
_HERE = "select exists (select from {table} where tenant_id = {tenant})"

# Whoever writes to a table of tenants at this moment.
_WRITERS = """
select distinct l.virtualtransaction
from pg_locks l
where l.locktype = 'relation'
  and l.database = (select oid from pg_database where datname = current_database())
  and l.relation = any(%s::regclass[])
  and l.mode = 'RowExclusiveLock'
  and l.granted
"""
_STILL = "select exists (select from pg_locks where virtualtransaction = any(%s))"


@dataclass(frozen=True, slots=True)
class Moved:
    """What a move copied, by table, in how many rounds, and for how many seconds the tenant's service was stopped."""

    tenant: str
    tables: dict[str, int]
    rounds: int
    pause: float


def move_tenant(
    source: DatabaseUrl, target: DatabaseUrl, tenant_id: str, *, on_progress: Progress = no_progress
) -> Moved:
    """Copy a tenant to another database and stop it in this one, with logins in `thea_mover` on both; blocks.

    Ids, times and the audit log stay as they are. The rows here stay as well, until `end_tenant`, and the tenant is
    suspended in this database's directory. When it fails, the tenant goes on here; run again, it goes on where it was.

    `ConflictError` where the target has rows of this tenant from elsewhere, or a transaction that writes does not end;
    `NotFoundError` for a tenant without a row.
    """
    check_tenant(tenant_id)
    with ExitStack() as resources:
        origin = resources.enter_context(connected(source))
        destination = resources.enter_context(connected(target))
        require_same_schema(
            applied_migrations(origin, source), applied_migrations(destination, target), str(source), str(target)
        )
        with transaction(origin, tenant_id):
            tables = read_tables(origin)
            if not any(_has_rows(origin, table, tenant_id) for table in tables):
                raise NotFoundError(f"{source}: there is no row of this tenant: check its name")
        return _Move(origin, destination, tenant_id, tables, on_progress).run()


def _has_rows(connection: Connection[Any], table: Table, tenant_id: str) -> bool:
    statement = sql.SQL(_HERE).format(table=table.identifier, tenant=sql.Literal(tenant_id))
    return connection.execute(statement).fetchone() == (True,)


@dataclass(slots=True)
class _Move:
    origin: Connection[Any]
    destination: Connection[Any]
    tenant_id: str
    tables: Sequence[Table]
    on_progress: Progress
    since: int | None = None
    rounds: int = 0
    copied: dict[str, int] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The same for each move of this tenant, so that one which was stopped goes on."""
        return str(uuid.uuid5(_MOVES, self.tenant_id))

    def run(self) -> Moved:
        self._begin()
        while self._round() >= _FEW and self.rounds < _ROUNDS:
            pass
        began = time.monotonic()
        is_moved = False
        self._called(self.origin, "select thea.pause_tenant(%s)", [self.tenant_id])
        try:
            self._wait_for_writers()
            self._round()
            self._compare()
            for table in self.tables:
                if not table.is_log:
                    self._called(self.destination, ADVANCE, [self.tenant_id, table.name])
            is_moved = True
        finally:
            pause = time.monotonic() - began
            self._called(self.origin, "select thea.unpause_tenant(%s, %s)", [self.tenant_id, is_moved])
        return Moved(self.tenant_id, self.copied, self.rounds, pause)

    def _begin(self) -> None:
        with transaction(self.origin, self.tenant_id, is_snapshot=True):
            ids = highest_ids(self.origin, self.tables, self.tenant_id)
        told = {
            "tenant": self.tenant_id,
            "ids": "kept",
            "tables": {name: {"lowest": lowest, "highest": highest} for name, (lowest, highest) in ids.items()},
        }
        self._called(self.destination, _BEGIN, [self.tenant_id, self.id, Jsonb(told)])

    def _round(self) -> int:
        """Copy what was written since the last round, as it is at one moment; how many rows that were comes back."""
        changed = 0
        with transaction(self.origin, self.tenant_id, is_snapshot=True):
            [(oldest,)] = self.origin.execute(_OLDEST).fetchall()
            for table in reversed(self.tables):
                changed += self._remove(table)
            for table in self.tables:
                changed += self._copy(table)
            ids = highest_ids(self.origin, self.tables, self.tenant_id)
        for name, (_, highest) in ids.items():
            self._called(self.destination, "select thea.advance_ids(%s, %s)", [name, highest])
        self.since = oldest
        self.rounds += 1
        return changed

    def _copy(self, table: Table) -> int:
        waiting: int | None = None
        while True:
            copied, orphans = 0, 0
            for rows in batches(rows_of(self.origin, table, self.tenant_id, since=self.since)):
                text = (b"[" + b",".join(rows) + b"]").decode()
                orphans += len(self._called(self.destination, _SYNC, [self.tenant_id, self.id, table.name, text]))
                copied += len(rows)
                if waiting is None:
                    self.on_progress(table.name, len(rows))
            # A row may hang on one of its own table that comes later. What is missing in the end is found by comparing.
            if not orphans or orphans == waiting:
                break
            waiting = orphans
        self.copied[table.name] = self.copied.get(table.name, 0) + copied
        return copied

    def _remove(self, table: Table) -> int:
        gone = list(self._only_at_the_destination(table))
        for start in range(0, len(gone), _REMOVED_AT_ONCE):
            ids = gone[start : start + _REMOVED_AT_ONCE]
            self._called(self.destination, _REMOVE, [self.tenant_id, self.id, table.name, ids])
        return len(gone)

    def _only_at_the_destination(self, table: Table) -> Iterator[str]:
        with transaction(self.destination, self.tenant_id, is_snapshot=True):
            theirs = self._ids(self.destination, table)
            ours = iter(self._ids(self.origin, table))
            wanted = next(ours, None)
            for each in theirs:
                while wanted is not None and _before(wanted, each, table):
                    wanted = next(ours, None)
                if wanted != each:
                    yield each
            # A COPY is read to its end.
            for _ in ours:
                pass

    def _ids(self, connection: Connection[Any], table: Table) -> Iterable[str]:
        statement = sql.SQL("copy (" + _IDS + ") to stdout").format(
            table=table.identifier,
            tenant=sql.Literal(self.tenant_id),
            condition=self._condition(table),
        )
        with connection.cursor() as cursor, cursor.copy(statement) as copy:
            for row in copy:
                yield bytes(row).decode().rstrip("\n")

    def _wait_for_writers(self) -> None:
        """Wait until nobody writes any more who began before the server refused the tenant's service."""
        names = [table.name for table in self.tables]
        with transaction(self.origin, self.tenant_id):
            writers = [row[0] for row in self.origin.execute(_WRITERS, [names])]
        deadline = time.monotonic() + _PATIENCE
        while writers and self.origin.execute(_STILL, [writers]).fetchone() == (True,):
            if time.monotonic() > deadline:
                raise ConflictError(
                    f"a transaction that writes did not end within {_PATIENCE:.0f} s, so the tenant goes on where it "
                    "was: end it (pg_stat_activity tells which is the oldest), and move again"
                )
            time.sleep(_POLL)

    def _compare(self) -> None:
        """Raise `StoreError` unless each table has the same ids on both sides."""
        for table in self.tables:
            if self._summary(self.origin, table) != self._summary(self.destination, table):
                raise StoreError(
                    f"{table.name} is not the same on both sides, so the tenant goes on where it was: move it again"
                )

    def _summary(self, connection: Connection[Any], table: Table) -> tuple[int, int]:
        statement = sql.SQL(_SUMMARY).format(
            table=table.identifier, tenant=sql.Literal(self.tenant_id), condition=self._condition(table)
        )
        with transaction(connection, self.tenant_id):
            [(rows, hashes)] = connection.execute(statement).fetchall()
        return rows, hashes

    @staticmethod
    def _condition(table: Table) -> sql.SQL:
        return sql.SQL(OWN_ENTRIES if table.is_log else "")

    def _called(self, connection: Connection[Any], statement: str, arguments: Sequence[Any]) -> Any:
        with transaction(connection, self.tenant_id, actor=_ACTOR):
            [(found,)] = connection.execute(statement.encode(), arguments).fetchall()
        return found


_REMOVED_AT_ONCE = 2_000


def _before(one: str, other: str, table: Table) -> bool:
    """Whether one id comes before another in the order of the server: as a text of a uuid, or as a number."""
    return one < other if table.is_log else int(one) < int(other)
