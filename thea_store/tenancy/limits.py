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
    log_reads: bool = False


class _OfCalls(Record, frozen=True):
    limits: _Limits | None


SQL = SqlFile("limits")

OF_CALLS = SQL.query("of_calls", _OfCalls)


async def limits_of_calls(named: Callable[[str], Executor], tenants: Collection[str]) -> Mapping[str, CallLimit] | None:
    """What is said of the calls of those of these tenants of whom something is, each asked for in its own name.

    `None` where nothing is said of any tenant.
    """
    found: dict[str, CallLimit] = {}
    for tenant in tenants or (NOBODY,):
        limits = (await named(tenant).fetch_one(OF_CALLS, NOBODY)).limits
        if limits is None:
            return None
        if limits != _Limits():
            found[tenant] = CallLimit(limits.calls_in_flight, limits.statement_ms, limits.log_reads)
    return found
