"""The calls by which every repository runs its queries; the cardinality is in the call's name."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

from thea_store.errors import NotFoundError
from thea_store.queries.binding import read, read_in_turns
from thea_store.queries.file import Query

__all__ = ["Executor", "Row"]

R = TypeVar("R")

Row = Any  # asyncpg.Record: a mapping that is also a sequence


class Executor(ABC):
    """Runs a query for one tenant: in a transaction of its own, or within an open one.

    Every call raises `InvalidTenantError` and `InvalidArgumentError` before any I/O, and otherwise
    the errors of `thea_store.errors` that the server's answer stands for.
    """

    def executor_of(self, repository: type[Any]) -> Executor:
        """Itself: a repository may be made over an executor as over a store."""
        del repository
        return self

    async def fetch_all(self, query: Query[R], tenant_id: str, /, **values: object) -> list[R]:
        """All records, in the query's order; empty when there are none."""
        return await read_in_turns(query, await self._rows(query, tenant_id, values))

    async def fetch_optional(self, query: Query[R], tenant_id: str, /, **values: object) -> R | None:
        """The only record, or `None`."""
        rows = await self._rows(query, tenant_id, values)
        return read(query, _at_most_one(query, rows))[0] if rows else None

    async def fetch_one(self, query: Query[R], tenant_id: str, /, **values: object) -> R:
        """The only record; `NotFoundError` when there is none."""
        rows = await self._rows(query, tenant_id, values)
        if not rows:
            raise NotFoundError(f"{query.name.partition('.')[0]}: this tenant has no such row")
        return read(query, _at_most_one(query, rows))[0]

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

    @abstractmethod
    async def _rows(self, query: Query[Any], tenant_id: str, values: Mapping[str, object]) -> Sequence[Row]: ...

    @abstractmethod
    async def atomic(self, tenant_id: str, work: Callable[[Executor], Awaitable[R]]) -> R:
        """What `work` returns, in one transaction: the open one, or one of its own, which may run it again."""


def _at_most_one(query: Query[Any], rows: Sequence[Row]) -> Sequence[Row]:
    assert len(rows) == 1, f"{query.name} ({query.source}) promises one row and returned {len(rows)}"  # noqa: S101
    return rows
