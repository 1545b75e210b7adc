"""What is written into the activity log when a call reads, for the tenants that want it written down.

The statement travels with the query, in its transaction: no read without its entry. The server looks once more whether
the tenant wants it, so that it may be sent for a tenant of which that is not known yet.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from thea_store.postgres.session import literal
from thea_store.queries.file import Query
from thea_store.queries.query import TENANT

__all__ = ["noting", "noting_all"]

_PERSON = ("user_id", "subject_id")


def noting(query: Query[Any], arguments: Sequence[object]) -> Sequence[str]:
    """The statement that notes this read; none for a query that writes, or that reads no row of a tenant.

    It says of whom the read was, where the query is given a person: not what was asked for, nor what was found.
    """
    if query.writes or TENANT not in query.parameters:
        return ()
    given = dict(zip(query.parameters, arguments, strict=True))
    names = (*_PERSON, "id") if query.name.startswith("users.") else _PERSON
    person = next((given[name] for name in names if isinstance(given.get(name), int)), None)
    return (f"call thea.log_read({literal(query.name)}, {'null' if person is None else person})",)


def noting_all() -> Sequence[str]:
    """The statements that note that a transaction reads, before it may write no more, and then make it read only."""
    return ("call thea.log_read('transaction', null)", "set transaction read only")
