"""The limits of tenants' calls, as the directory has them: for `thea_store.database.limits`, which keeps them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from thea_store.database import NOBODY, CallLimit, Executor
from thea_store.queries.file import SqlFile
from thea_store.repositories.records import Record

__all__ = ["SQL", "limits_of_calls"]


class _Limits(Record, frozen=True):
    calls_in_flight: int | None = None
    statement_ms: int | None = None


class _OfCalls(Record, frozen=True):
    limits: _Limits | None


SQL = SqlFile("limits")

OF_CALLS = SQL.query("of_calls", _OfCalls)


async def limits_of_calls(named: Callable[[str], Executor], tenants: Collection[str]) -> Mapping[str, CallLimit]:
    """The limits of those of these tenants that have one, each asked for in its own name."""
    found: dict[str, CallLimit] = {}
    for tenant in tenants:
        limits = (await named(tenant).fetch_one(OF_CALLS, NOBODY)).limits
        if limits is None:  # no tenant has one
            return {}
        if limits.calls_in_flight is not None or limits.statement_ms is not None:
            found[tenant] = CallLimit(limits.calls_in_flight, limits.statement_ms)
    return found
