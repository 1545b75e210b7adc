"""Queries that belong to no tenant: those of an operator's groups, which row security shows no tenant's rows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, TypeVar

from thea_store.database.executor import Executor, Row
from thea_store.database.retries import repeat
from thea_store.database.transaction import Transaction
from thea_store.errors import StoreError
from thea_store.queries.binding import bind_in_turns
from thea_store.queries.file import Query
from thea_store.queries.query import TENANT
from thea_store.telemetry import Observer

__all__ = ["NOBODY", "OfNobody"]

T = TypeVar("T")

NOBODY = ""
"""Stands where a call has its tenant, for queries that belong to none. It is no tenant's id."""


class OfNobody(Executor):
    """Runs queries of no tenant, each in its own transaction, in which the session is no tenant's."""

    def __init__(self, begin: Callable[[], AbstractAsyncContextManager[Transaction]], observer: Observer) -> None:
        self._begin, self._observer = begin, observer

    async def _rows(self, query: Query[Any], tenant_id: str, values: Mapping[str, object]) -> Sequence[Row]:
        async def once() -> Sequence[Row]:
            async with self._begin() as transaction:
                return await _Within(transaction, self._observer).rows(query, tenant_id, values)

        return await repeat(once)

    async def atomic(self, tenant_id: str, work: Callable[[Executor], Awaitable[T]]) -> T:
        """What `work` returns, run in one transaction of no tenant."""
        del tenant_id
        async with self._begin() as transaction:
            return await work(_Within(transaction, self._observer))


class _Within(Executor):
    """Runs queries of no tenant within a transaction."""

    def __init__(self, transaction: Transaction, observer: Observer) -> None:
        self._transaction, self._observer = transaction, observer

    async def rows(self, query: Query[Any], tenant_id: str, values: Mapping[str, object]) -> Sequence[Row]:
        """The rows of a query of no tenant; `StoreError` for one that belongs to a tenant."""
        if TENANT in query.parameters:
            raise StoreError(f"{query.name}: belongs to a tenant, and this transaction to none")
        bound = await bind_in_turns(query, tenant_id, values)
        with self._observer.watch(query.name, tenant_id, bound.query) as call:
            rows = await self._transaction.run(bound.query, bound.arguments)
            call.rows = len(rows)
        return rows

    async def _rows(self, query: Query[Any], tenant_id: str, values: Mapping[str, object]) -> Sequence[Row]:
        return await self.rows(query, tenant_id, values)

    async def atomic(self, tenant_id: str, work: Callable[[Executor], Awaitable[T]]) -> T:
        del tenant_id
        return await work(self)
