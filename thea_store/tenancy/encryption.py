"""Encrypts a tenant that has texts already, gives it a new key, seals all with that, and opens all again.

All of it goes on while the tenant's services work: a row that one of them changes at the same moment is taken in the
next pass. Stopped at any place, it goes on where it was when it is run again.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, LiteralString, NamedTuple

from psycopg import Connection, sql

from thea_store.encryption import (
    FRESH,
    ROW,
    SEALED,
    Document,
    KeyProvider,
    Keyring,
    TenantKeys,
    WrappedKey,
    new_key,
    prefix_of,
    wrapped_by,
)
from thea_store.errors import NotFoundError
from thea_store.postgres.url import DatabaseUrl
from thea_store.queries.arguments import check_tenant
from thea_store.tenancy.archive.session import Progress, connected, no_progress, transaction

__all__ = ["Encrypted", "SealedTable", "encrypt_tenant", "end_encryption", "note_forgotten_key", "sealed_tables"]

_ACTOR = "encryption"

_KEYS = """
select version, wrapped, retired_at is not null
from thea.encryption_keys
where tenant_id = %s
order by version
"""
_ADD_KEY = "select thea.add_key(%s, %s, %s)"
_RETIRE_KEYS = "select thea.retire_keys(%s)"
_END = "select thea.end_encryption(%s)"
_RETIRED_FOR = """
select extract(epoch from clock_timestamp() - max(retired_at))::double precision
from thea.encryption_keys
where tenant_id = %s
"""
_FORGOTTEN = "select thea.log_forgotten_key()"

# The tables whose texts can be sealed, the names of the texts, and which of these are documents.
_TABLES = """
select s.target::text, s.names, array(
  select a.attname::text
  from pg_attribute a
  where a.attrelid = s.target
    and a.attname = any (s.names)
    and a.atttypid = 'jsonb'::regtype
)
from thea.sealed_columns() s
"""

# Rows that have a plain text, or one that an older key sealed.
_TO_SEAL = """
select x.id, x.xmin::text, x.sealed, {texts}
from {table} x
where x.tenant_id = %(tenant)s
  and x.id > %(after)s
  and (
    {plain}
    or exists (
      select from jsonb_each_text(x.sealed) e where e.key <> %(row)s and left(e.value, %(length)s) <> %(newest)s
    )
  )
order by x.id
limit %(limit)s
"""
_TO_OPEN = """
select x.id, x.xmin::text, x.sealed
from {table} x
where x.tenant_id = %(tenant)s
  and x.id > %(after)s
  and x.sealed is not null
order by x.id
limit %(limit)s
"""
_SEAL = "select thea.seal_rows(%s, %s, %s)"
_OPEN = "select thea.open_rows(%s, %s, %s)"
_REDACT = "select thea.redact_texts(%s, %s, %s, %s)"
_AT_ONCE = 500
_ENTRIES_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Encrypted:
    """What became of a tenant: the version of its newest key, and the rows that were sealed or opened by table."""

    tenant: str
    version: int
    tables: dict[str, int] = field(default_factory=dict)


class SealedTable(NamedTuple):
    """A table whose texts can be sealed."""

    name: str
    texts: Sequence[str]
    documents: Sequence[str]
    """Those of the texts that are JSON documents."""

    def column(self, text: str) -> sql.Composable:
        """The column as a text, so that no number of a document is rounded."""
        column: sql.Composable = sql.Identifier("x", text)
        return sql.SQL("{}::text").format(column) if text in self.documents else column

    def statement(self, text: LiteralString) -> sql.Composed:
        """A statement with the table's names in their places."""
        return sql.SQL(text).format(
            table=sql.Identifier(*self.name.split(".")),
            texts=sql.SQL(", ").join(map(self.column, self.texts)),
            plain=sql.SQL(" or ").join(sql.SQL("{} is not null").format(sql.Identifier("x", t)) for t in self.texts),
        )


def sealed_tables(connection: Connection[Any]) -> list[SealedTable]:
    """The tables whose texts can be sealed; the library's own, and those of extensions."""
    return [SealedTable(*row) for row in connection.execute(_TABLES)]


def encrypt_tenant(
    address: DatabaseUrl,
    provider: KeyProvider,
    tenant_id: str,
    *,
    rotate: bool = False,
    on_progress: Progress = no_progress,
) -> Encrypted:
    """Seal all texts of a tenant with its newest key, with a login in `thea_mover`; blocks.

    The tenant gets a key where it has none that seals, and with `rotate` a new one. The audit log's entries lose the
    plain texts that they have. Services take a new key within a minute, so what they wrote until then is sealed by a
    second run.

    `NotFoundError` for a `rotate` of a tenant that is not encrypted; `EncryptionKeyError` where the provider fails.
    """
    check_tenant(tenant_id)
    with connected(address) as connection:
        work = _Work(connection, tenant_id, provider, on_progress)
        keys = work.sealing_keys(rotate=rotate)
        tables = work.tables()
        sealed = {table.name: work.seal(table, keys) for table in tables}
        for table in tables:
            work.redact(table)
        return Encrypted(tenant_id, keys.newest.version, sealed)


def end_encryption(
    address: DatabaseUrl,
    provider: KeyProvider,
    tenant_id: str,
    *,
    patience: float = FRESH,
    on_progress: Progress = no_progress,
) -> Encrypted:
    """Have a tenant's texts plain again, with a login in `thea_mover`; blocks.

    From its beginning on, services write plain texts as soon as they learn of it, which takes up to a minute: so long,
    `patience`, the call waits before it opens what they sealed meanwhile. Its notes can be searched at the end. The
    keys stay, because backups and the audit log have texts that they sealed.

    `NotFoundError` for a tenant that never was encrypted; `EncryptionKeyError` where the provider fails, and
    `SealedTextError` for a text that was altered: what is opened by then stays open.
    """
    check_tenant(tenant_id)
    with connected(address) as connection:
        work = _Work(connection, tenant_id, provider, on_progress)
        keys = work.retired_keys()
        tables = work.tables()
        opened = {table.name: work.open(table, keys) for table in tables}
        work.wait_for_services(patience)
        for table in tables:
            opened[table.name] += work.open(table, keys)
        with transaction(connection, tenant_id, actor=_ACTOR):
            connection.execute(_END, [tenant_id])
        return Encrypted(tenant_id, keys.newest.version, opened)


def note_forgotten_key(address: DatabaseUrl, tenant_id: str) -> None:
    """Write into the activity log that the tenant's key is being destroyed, with a login in `thea_mover`; blocks."""
    with connected(address) as connection, transaction(connection, check_tenant(tenant_id)):
        connection.execute(_FORGOTTEN)


class _Step(NamedTuple):
    """What is done to the rows of a table."""

    table: SealedTable
    rows: LiteralString
    """Which rows, and in what order."""
    asked: Mapping[str, Any]
    write: LiteralString
    """The function that puts what is made of them in their places."""
    change: Callable[[Sequence[Any]], str]
    """Makes that of a row, as JSON."""


@dataclass(slots=True)
class _Work:
    connection: Connection[Any]
    tenant_id: str
    provider: KeyProvider
    on_progress: Progress

    def sealing_keys(self, *, rotate: bool) -> TenantKeys:
        """The tenant's keys, with one that is new where none of them seals, and where it is to have another."""
        with transaction(self.connection, self.tenant_id, actor=_ACTOR):
            known = self._known()
            is_encrypted = not all(key.is_retired for key in known)
            if rotate and not is_encrypted:
                raise NotFoundError(
                    "this tenant is not encrypted, so there is no key to replace: `thea-store encryption begin` first"
                )
            # Before another key is made in the place of one that is lost.
            keys = self._unwrapped(known) if known else None
            if keys is None or rotate or not is_encrypted:
                newest = known[-1].version + 1 if known else 1
                wrapped = asyncio.run(wrapped_by(self.provider, self.tenant_id, new_key()))
                self.connection.execute(_ADD_KEY, [self.tenant_id, newest, wrapped])
                keys = self._unwrapped([*known, WrappedKey(version=newest, wrapped=wrapped)])
        return keys

    def retired_keys(self) -> TenantKeys:
        """The tenant's keys, of which none seals any more."""
        with transaction(self.connection, self.tenant_id, actor=_ACTOR):
            known = self._known()
            if not known:
                raise NotFoundError("this tenant is not encrypted, and never was: check its name")
            keys = self._unwrapped(known)
            self.connection.execute(_RETIRE_KEYS, [self.tenant_id])
        return keys

    def _known(self) -> list[WrappedKey]:
        rows = self.connection.execute(_KEYS, [self.tenant_id])
        return [WrappedKey(version=version, wrapped=wrapped, is_retired=retired) for version, wrapped, retired in rows]

    def _unwrapped(self, wrapped: Sequence[WrappedKey]) -> TenantKeys:
        keys = asyncio.run(Keyring(self.provider).unwrapped(self.tenant_id, wrapped))
        assert keys is not None  # noqa: S101 - there is one at least
        return keys

    def tables(self) -> list[SealedTable]:
        with transaction(self.connection, self.tenant_id):
            return sealed_tables(self.connection)

    def wait_for_services(self, patience: float) -> None:
        """Wait until no process takes the tenant for an encrypted one."""
        with transaction(self.connection, self.tenant_id):
            [(since,)] = self.connection.execute(_RETIRED_FOR, [self.tenant_id]).fetchall()
        time.sleep(max(0.0, patience - since))

    def seal(self, table: SealedTable, keys: TenantKeys) -> int:
        """Seal the rows of a table, pass after pass until one finds none; how many that were."""
        newest = prefix_of(keys.newest.version)
        asked = {"row": ROW, "newest": newest, "length": len(newest)}
        return self._all_passes(_Step(table, _TO_SEAL, asked, _SEAL, lambda row: _sealed(table, keys, row)))

    def open(self, table: SealedTable, keys: TenantKeys) -> int:
        """Open the rows of a table, as `seal`."""
        return self._all_passes(_Step(table, _TO_OPEN, {}, _OPEN, lambda row: _opened(table, keys, row)))

    def _all_passes(self, step: _Step) -> int:
        total = 0
        while done := self._pass(step):
            total += done
        return total

    def _pass(self, step: _Step) -> int:
        statement = step.table.statement(step.rows)
        after, total = -(2**63), 0
        while True:
            with transaction(self.connection, self.tenant_id):
                asked = {**step.asked, "tenant": self.tenant_id, "after": after, "limit": _AT_ONCE}
                rows = self.connection.execute(statement, asked).fetchall()
                if not rows:
                    return total
                after = rows[-1][0]
                changed = f"[{', '.join(map(step.change, rows))}]"
                [(done,)] = self.connection.execute(step.write, [self.tenant_id, step.table.name, changed]).fetchall()
            total += done
            self.on_progress(step.table.name, done)

    def redact(self, table: SealedTable) -> None:
        """Take the plain texts of a table's rows out of the audit log."""
        after: int | None = -(2**63)
        while after is not None:
            with transaction(self.connection, self.tenant_id):
                arguments = [self.tenant_id, table.name, after, _ENTRIES_AT_ONCE]
                [(after,)] = self.connection.execute(_REDACT, arguments).fetchall()


def _sealed(table: SealedTable, keys: TenantKeys, row: Sequence[Any]) -> str:
    """The row with its texts sealed by the newest key, as JSON."""
    id_, xmin, sealed, *plain = row
    values: dict[str, Any] = {
        name: Document(text) if name in table.documents else text
        for name, text in zip(table.texts, plain, strict=True)
        if text is not None
    }
    keys.open(table.name, values, sealed or {}, table.texts, as_stored=True)
    keys.seal(table.name, table.texts, values, (sealed or {}).get(ROW))
    return json.dumps({"id": id_, "xmin": xmin, SEALED: values[SEALED]})


def _opened(table: SealedTable, keys: TenantKeys, row: Sequence[Any]) -> str:
    """The row with what was sealed of it, as JSON."""
    id_, xmin, sealed = row
    values: dict[str, Any] = {}
    keys.open(table.name, values, sealed, table.texts, as_stored=True)
    texts = ", ".join(
        f"{json.dumps(name)}: {value.text if isinstance(value, Document) else json.dumps(value)}"
        for name, value in values.items()
    )
    return f'{{"id": {id_}, "xmin": "{xmin}", "texts": {{{texts}}}}}'
