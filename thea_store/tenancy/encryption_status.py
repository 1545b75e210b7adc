"""Which tenants are encrypted, by which keys, how much of their texts is sealed, and what is to be done next."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Literal, TypeAlias

from psycopg import Connection

from thea_store.encryption import ROW, KeyProvider, prefix_of, unwrapped_by
from thea_store.errors import EncryptionKeyError, NotFoundError
from thea_store.postgres.url import DatabaseUrl
from thea_store.queries.arguments import check_tenant
from thea_store.tenancy.archive.session import connected, transaction
from thea_store.tenancy.encryption import SealedTable, sealed_tables

__all__ = ["Key", "Rows", "TenantEncryption", "encrypted_tenants", "encryption_of"]

State: TypeAlias = Literal["encrypted", "ending", "ended"]

_TENANTS = """
select e.tenant, e.version, e.since, e.retired_at is not null, e.opened_at is not null
from thea.encrypted_tenants() e
"""
_KEYS = """
select k.version, k.created_at, k.retired_at is not null, k.opened_at is not null, k.wrapped
from thea.encryption_keys k
where k.tenant_id = %s
order by k.version
"""
_ROWS = """
select
  count(*) filter (where ({plain})),
  count(*) filter (where s.is_sealed and not s.is_old),
  count(*) filter (where s.is_old)
from {table} x
cross join lateral (
  select count(*) > 0 as is_sealed, coalesce(bool_or(left(e.value, %(length)s) <> %(newest)s), false) as is_old
  from jsonb_each_text(x.sealed) e
  where e.key <> %(row)s
) s
where x.tenant_id = %(tenant)s
"""


@dataclass(frozen=True, slots=True)
class Key:
    """A version of a tenant's data key; whether the provider unwraps it, `None` where no provider was asked."""

    version: int
    since: datetime
    is_retired: bool
    opens: bool | None


@dataclass(frozen=True, slots=True)
class Rows:
    """How many rows of a table have a plain text, texts that are sealed by the newest key, and by an older one."""

    plain: int
    sealed: int
    of_an_older_key: int


@dataclass(frozen=True, slots=True)
class TenantEncryption:
    """How a tenant's texts are kept."""

    tenant: str
    state: State
    keys: tuple[Key, ...]
    tables: dict[str, Rows] = field(default_factory=dict)

    @property
    def advice(self) -> tuple[str, ...]:
        """What to do next; empty where all is as it is meant to be."""
        rows = self.tables.values()
        lost = [key.version for key in self.keys if key.opens is False]
        found = []
        if lost:
            found.append(
                f"the provider does not open version {', '.join(map(str, lost))} of the key: texts that it sealed "
                "cannot be read: bring the provider's key back from its backup"
            )
        if self.state == "encrypted" and any(each.plain or each.of_an_older_key for each in rows):
            found.append(
                "texts are plain, or sealed by an older key: `thea-store encryption begin` seals them by the newest one"
            )
        if self.state != "encrypted" and (self.state == "ending" or any(e.sealed or e.of_an_older_key for e in rows)):
            found.append("texts are still sealed, or notes not searched: `thea-store encryption end` goes on")
        return tuple(found)

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        keys = [{**asdict(key), "since": key.since.isoformat()} for key in self.keys]
        tables = {name: asdict(rows) for name, rows in self.tables.items()}
        return {
            "tenant": self.tenant,
            "state": self.state,
            "keys": keys,
            "tables": tables,
            "advice": list(self.advice),
        }


def encrypted_tenants(address: DatabaseUrl) -> list[TenantEncryption]:
    """The tenants that have keys, each with its newest one, with a login in `thea_mover` or `thea_auditor`; blocks."""
    with connected(address) as connection:
        rows = connection.execute(_TENANTS).fetchall()
    return [
        TenantEncryption(tenant, _state(is_retired=retired, is_opened=opened), (Key(version, since, retired, None),))
        for tenant, version, since, retired, opened in rows
    ]


def encryption_of(address: DatabaseUrl, tenant_id: str, provider: KeyProvider | None) -> TenantEncryption:
    """The keys of a tenant, and how many of its rows are sealed, with a login in `thea_mover`; blocks.

    It reads all rows that have texts. `NotFoundError` for a tenant that never was encrypted.
    """
    with connected(address) as connection, transaction(connection, check_tenant(tenant_id), is_snapshot=True):
        known = connection.execute(_KEYS, [tenant_id]).fetchall()
        if not known:
            raise NotFoundError("this tenant is not encrypted, and never was: check its name")
        newest = known[-1]
        tables = {
            table.name: _rows(connection, tenant_id, table, prefix_of(newest[0])) for table in sealed_tables(connection)
        }
    state = _state(is_retired=newest[2], is_opened=newest[3])
    return TenantEncryption(tenant_id, state, tuple(_keys(provider, tenant_id, known)), tables)


def _state(*, is_retired: bool, is_opened: bool) -> State:
    if is_opened:
        return "ended"
    return "ending" if is_retired else "encrypted"


def _rows(connection: Connection[Any], tenant_id: str, table: SealedTable, newest: str) -> Rows:
    asked = {"tenant": tenant_id, "row": ROW, "newest": newest, "length": len(newest)}
    [counts] = connection.execute(table.statement(_ROWS), asked).fetchall()
    return Rows(*counts)


def _keys(provider: KeyProvider | None, tenant_id: str, known: Iterable[Any]) -> Iterable[Key]:
    for version, since, retired, _, wrapped in known:
        opens = None
        if provider is not None:
            try:
                asyncio.run(unwrapped_by(provider, tenant_id, wrapped))
            except EncryptionKeyError:
                opens = False
            else:
                opens = True
        yield Key(version, since, retired, opens)
