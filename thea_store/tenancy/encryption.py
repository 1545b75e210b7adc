"""Encrypts a tenant that has texts already, gives it a new key, and seals with that what an older one sealed.

All of it goes on while the tenant's services work: a row that one of them changes at the same moment is taken in the
next pass. Stopped at any place, it goes on where it was when it is run again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from psycopg import Connection, sql
from psycopg.types.json import Jsonb

from thea_store.encryption import (
    ROW,
    SEALED,
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

__all__ = ["Encrypted", "encrypt_tenant"]

_ACTOR = "encryption"

_KEYS = "select version, wrapped from thea.encryption_keys where tenant_id = %s order by version"
_ADD_KEY = "select thea.add_key(%s, %s, %s)"

# The tables whose texts can be sealed, and the names of the texts.
_TABLES = "select s.target::text, s.names from thea.sealed_columns() s"

# Rows that have a plain text, or one that an older key sealed.
_ROWS = """
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
_SEAL = "select thea.seal_rows(%s, %s, %s)"
_REDACT = "select thea.redact_texts(%s, %s, %s, %s)"
_AT_ONCE = 500
_ENTRIES_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Encrypted:
    """What became of a tenant: the version of the key that seals its texts, and the rows that were sealed by table."""

    tenant: str
    version: int
    tables: dict[str, int] = field(default_factory=dict)


def encrypt_tenant(
    address: DatabaseUrl,
    provider: KeyProvider,
    tenant_id: str,
    *,
    rotate: bool = False,
    on_progress: Progress = no_progress,
) -> Encrypted:
    """Seal all texts of a tenant with its newest key, with a login in `thea_mover`; blocks.

    The tenant gets a key where it has none, and with `rotate` a new one. The audit log's entries lose the plain texts
    that they have. Services take a new key within a minute, so what they wrote until then is sealed by a second run.

    `NotFoundError` for a `rotate` of a tenant without a key; `EncryptionKeyError` where the provider fails.
    """
    check_tenant(tenant_id)
    with connected(address) as connection:
        work = _Work(connection, tenant_id, provider)
        keys = work.keys(rotate=rotate)
        with transaction(connection, tenant_id):
            tables = connection.execute(_TABLES).fetchall()
        sealed = {name: work.seal(name, texts, keys, on_progress) for name, texts in tables}
        for name, _ in tables:
            work.redact(name)
        return Encrypted(tenant_id, keys.newest.version, sealed)


@dataclass(slots=True)
class _Work:
    connection: Connection[Any]
    tenant_id: str
    provider: KeyProvider

    def keys(self, *, rotate: bool) -> TenantKeys:
        """The tenant's keys, with one that is new where it has none, and where it is to have another."""
        with transaction(self.connection, self.tenant_id, actor=_ACTOR):
            known = [WrappedKey(version=v, wrapped=w) for v, w in self.connection.execute(_KEYS, [self.tenant_id])]
            if rotate and not known:
                raise NotFoundError(
                    "this tenant is not encrypted, so there is no key to replace: `thea-store encryption begin` first"
                )
            # Before another key is made in the place of one that is lost.
            keys = asyncio.run(Keyring(self.provider).unwrapped(self.tenant_id, known))
            if rotate or not known:
                newest = known[-1].version + 1 if known else 1
                wrapped = asyncio.run(wrapped_by(self.provider, self.tenant_id, new_key()))
                self.connection.execute(_ADD_KEY, [self.tenant_id, newest, wrapped])
                known.append(WrappedKey(version=newest, wrapped=wrapped))
                keys = asyncio.run(Keyring(self.provider).unwrapped(self.tenant_id, known))
        assert keys is not None  # noqa: S101 - there is one at least
        return keys

    def seal(self, table: str, texts: Sequence[str], keys: TenantKeys, on_progress: Progress) -> int:
        """Seal the rows of a table, pass after pass until one finds none; how many that were."""
        total = 0
        while sealed := self._pass(table, texts, keys, on_progress):
            total += sealed
        return total

    def _pass(self, table: str, texts: Sequence[str], keys: TenantKeys, on_progress: Progress) -> int:
        statement = sql.SQL(_ROWS).format(
            table=sql.Identifier(*table.split(".")),
            texts=sql.SQL(", ").join(sql.Identifier("x", name) for name in texts),
            plain=sql.SQL(" or ").join(sql.SQL("{} is not null").format(sql.Identifier("x", name)) for name in texts),
        )
        newest = prefix_of(keys.newest.version)
        asked = {"tenant": self.tenant_id, "row": ROW, "newest": newest, "length": len(newest), "limit": _AT_ONCE}
        after, total = -(2**63), 0
        while True:
            with transaction(self.connection, self.tenant_id):
                rows = self.connection.execute(statement, asked | {"after": after}).fetchall()
                if not rows:
                    return total
                after = rows[-1][0]
                sealed = Jsonb([self._sealed(table, texts, keys, row) for row in rows])
                [(done,)] = self.connection.execute(_SEAL, [self.tenant_id, table, sealed]).fetchall()
            total += done
            on_progress(table, done)

    @staticmethod
    def _sealed(table: str, texts: Sequence[str], keys: TenantKeys, row: Sequence[Any]) -> dict[str, Any]:
        id_, xmin, sealed, *plain = row
        values = {name: text for name, text in zip(texts, plain, strict=True) if text is not None}
        keys.open(table, values, sealed or {}, texts)
        keys.seal(table, texts, values, (sealed or {}).get(ROW))
        return {"id": id_, "xmin": xmin, SEALED: values[SEALED]}

    def redact(self, table: str) -> None:
        """Take the plain texts of a table's rows out of the audit log."""
        after: int | None = -(2**63)
        while after is not None:
            with transaction(self.connection, self.tenant_id):
                arguments = [self.tenant_id, table, after, _ENTRIES_AT_ONCE]
                [(after,)] = self.connection.execute(_REDACT, arguments).fetchall()
