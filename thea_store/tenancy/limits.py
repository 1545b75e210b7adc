"""The limits of tenants' calls, as the directory has them: for `thea_store.database.limits`, which keeps them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from thea_store.database import NOBODY, CallLimit, Executor
from thea_store.queries.file import SqlFile
from thea_store.repositories.records import Record

__all__ = ["SQL", "limits_of_calls"]


class _Limits(Record, frozen=True):
    calls_in_flight: int | None = None
    statement_ms: int | None = None
    log_reads: bool = False


class _OfCalls(Record, frozen=True):
    limits: dict[str, _Limits] | None


SQL = SqlFile("limits")

OF_CALLS = SQL.query("of_calls", _OfCalls, tenants=list[str])

# Tenants of one question, which the server names one after the other.
_AT_ONCE = 500


async def limits_of_calls(nobody: Executor, tenants: Collection[str]) -> Mapping[str, CallLimit] | None:
    """What is said of the calls of those of these tenants of whom something is, each named in turn by the server.

    `None` where nothing is said of any tenant.
    """
    found: dict[str, CallLimit] = {}
    names = list(tenants)
    for place in range(0, max(len(names), 1), _AT_ONCE):
        limits = (await nobody.fetch_one(OF_CALLS, NOBODY, tenants=names[place : place + _AT_ONCE])).limits
        if limits is None:
            return None
        found |= {name: CallLimit(one.calls_in_flight, one.statement_ms, one.log_reads) for name, one in limits.items()}
    return found
