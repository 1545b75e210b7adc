"""The calls by which every repository runs its queries; the cardinality is in the call's name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Any, TypeVar

from thea_store.database.keys import GET_WRAPPED
from thea_store.encryption import ROW, SEALED, Keyring, TenantKeys, version_of, without_key
from thea_store.errors import EncryptionKeyError, NotFoundError
from thea_store.queries.binding import Bound, bind_in_turns, seals
from thea_store.queries.file import Query
from thea_store.queries.reading import read, read_in_turns, sealed_versions

__all__ = ["Executor", "Row", "RowKeyNeededError"]

R = TypeVar("R")

ROW_KEY = "row_key"
"""What a call says beside the query's values of a row with stored texts: what these are sealed for."""


class RowKeyNeededError(EncryptionKeyError):
    """The tenant was found to be encrypted by a change of a row's texts: what they are sealed for has to be read."""


Row = Any  # asyncpg.Record: a mapping that is also a sequence


class Executor(ABC):
    """Runs a query for one tenant: in a transaction of its own, or within an open one.

    Every call raises `InvalidTenantError` and `InvalidArgumentError` before any I/O, and otherwise
    the errors of `thea_store.errors` that the server's answer stands for.
    """

    keyring: Keyring = Keyring()
    """The keys of encrypted tenants."""

    def executor_of(self, repository: type[Any]) -> Executor:
        """Itself: a repository may be made over an executor as over a store."""
        del repository
        return self

    async def fetch_all(self, query: Query[R], tenant_id: str, /, **values: object) -> list[R]:
        """All records, in the query's order; empty when there are none."""
        return await self._records(query, tenant_id, await self._rows(query, tenant_id, values))

    async def fetch_first(
        self, count: int, query: Query[R], tenant_id: str, /, **values: object
    ) -> tuple[list[R], bool]:
        """The first `count` records, in the query's order, and whether there was another one."""
        rows = await self._rows(query, tenant_id, values)
        return await self._records(query, tenant_id, rows[:count]), len(rows) > count

    async def fetch_optional(self, query: Query[R], tenant_id: str, /, **values: object) -> R | None:
        """The only record, or `None`."""
        rows = await self._rows(query, tenant_id, values)
        versions = sealed_versions(query, rows)
        keys = await self._keys_of_versions(tenant_id, versions) if versions else None
        return read(query, _at_most_one(query, rows), keys)[0] if rows else None

    async def fetch_one(self, query: Query[R], tenant_id: str, /, **values: object) -> R:
        """The only record; `NotFoundError` when there is none."""
        rows = await self._rows(query, tenant_id, values)
        if not rows:
            raise NotFoundError(f"{query.name.partition('.')[0]}: this tenant has no such row")
        versions = sealed_versions(query, rows)
        keys = await self._keys_of_versions(tenant_id, versions) if versions else None
        return read(query, _at_most_one(query, rows), keys)[0]

    async def fetch_value(self, query: Query[R], tenant_id: str, /, **values: object) -> R:
        """The only column of the only row; `NotFoundError` when there is no row."""
        rows = await self._rows(query, tenant_id, values)
        if not rows:
            raise NotFoundError(f"{query.name.partition('.')[0]}: this tenant has no such row")
        value: R = _at_most_one(query, rows)[0][0]
        return value

    async def execute(self, query: Query[None], tenant_id: str, /, **values: object) -> None:
        """Run a query that returns nothing."""
        await self._rows(query, tenant_id, values)

    async def keys_of(self, tenant_id: str) -> TenantKeys | None:
        """The keys that seal and open the tenant's texts; `None` where they are not encrypted, or without a provider.

        `EncryptionKeyError` where the provider does not unwrap them.
        """
        return await self.keyring.of(tenant_id, lambda: self.fetch_all(GET_WRAPPED, tenant_id))

    async def open_documents(self, tenant_id: str, table: str, documents: Sequence[dict[str, Any]]) -> None:
        """Put the sealed texts of rows of this table, each as a document, into their places; `sealed` is taken out.

        `EncryptionKeyError`, `SealedTextError`.
        """
        for document in documents:
            if sealed := document.pop(SEALED, None):
                await self._open_document(tenant_id, table, document, sealed)

    async def _open_document(
        self, tenant_id: str, table: str, document: dict[str, Any], sealed: Mapping[str, Any]
    ) -> None:
        names = sealed.keys() - {ROW}
        keys = await self._keys_of_versions(tenant_id, {version_of(sealed[name]) for name in names})
        if keys is None:
            raise without_key(table)
        keys.open(table, document, sealed, names)

    async def _records(self, query: Query[R], tenant_id: str, rows: Sequence[Row]) -> list[R]:
        versions = sealed_versions(query, rows)
        keys = await self._keys_of_versions(tenant_id, versions) if versions else None
        return await read_in_turns(query, rows, keys)

    async def _bound(self, query: Query[Any], tenant_id: str, values: Mapping[str, object]) -> Bound:
        """What to send for a call, with the texts of an encrypted tenant sealed."""
        if seals(query) is None:
            return await bind_in_turns(query, tenant_id, values)
        given: dict[str, Any] = dict(values)
        row_key: str | None = given.pop(ROW_KEY, None)
        return await bind_in_turns(query, tenant_id, given, await self.keys_of(tenant_id), row_key)

    async def _keys_of_versions(self, tenant_id: str, versions: Collection[int | None]) -> TenantKeys | None:
        keys = await self.keys_of(tenant_id)
        if keys is None or not all(map(keys.knows, versions)):  # the tenant was encrypted, or got a key, meanwhile
            self.keyring.doubt(tenant_id)
            keys = await self.keys_of(tenant_id)
        return keys

    @abstractmethod
    async def _rows(self, query: Query[Any], tenant_id: str, values: Mapping[str, object]) -> Sequence[Row]: ...

    @abstractmethod
    async def atomic(self, tenant_id: str, work: Callable[[Executor], Awaitable[R]]) -> R:
        """What `work` returns, in one transaction: the open one, or one of its own, which may run it again."""


def _at_most_one(query: Query[Any], rows: Sequence[Row]) -> Sequence[Row]:
    assert len(rows) == 1, f"{query.name} ({query.source}) promises one row and returned {len(rows)}"  # noqa: S101
    return rows
