"""Pages of a query by keyset: each page starts after the last row of the one before.

So rows that come or go meanwhile move no page, and the last page costs no more than the first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, TypeVar

from pydantic_core import to_json

from thea_store.database import Executor
from thea_store.errors import InvalidArgumentError
from thea_store.queries.arguments import Limit, checker
from thea_store.queries.binding import check_values
from thea_store.queries.file import Query
from thea_store.repositories import cursors
from thea_store.repositories.records import Page

__all__ = ["read_page"]

R = TypeVar("R")

_check_limit = checker(Limit)

Place = tuple[datetime, cursors.Key]
"""A row's time and its key, in the order of which the pages are."""


async def read_page(
    db: Executor,
    query: Query[R],
    tenant_id: str,
    question: Mapping[str, object],
    *,
    limit: int,
    cursor: str | None,
    place: Callable[[R], Place],
) -> Page[R]:
    """The first `limit` rows of a query, or those after `cursor`; empty past the end.

    `question` are the query's arguments but `after_at`, `after_id` and `limit`. `InvalidArgumentError` for a
    cursor that did not come from a page of the same question.
    """
    _check_limit("limit", limit)
    after: Place | tuple[None, None] = (None, None)
    if cursor is not None:
        after = cursors.decode(_asked(query, question), tenant_id, cursor)
        _check_place(query, question, after)
    rows, are_more = await db.fetch_first(
        limit, query, tenant_id, **question, after_at=after[0], after_id=after[1], limit=limit + 1
    )
    if not are_more:
        return Page(items=rows, next_cursor=None)
    at, key = place(rows[-1])
    return Page(items=rows, next_cursor=cursors.encode(_asked(query, question), tenant_id, at, key))


def _check_place(query: Query[Any], question: Mapping[str, object], after: Place) -> None:
    """`InvalidArgumentError` about the cursor where its key is of another kind than the rows'."""
    try:
        check_values(query, {**question, "after_at": after[0], "after_id": after[1], "limit": 1})
    except InvalidArgumentError as error:
        raise InvalidArgumentError("cursor", cursors.NOT_OURS) from error


def _asked(query: Query[Any], question: Mapping[str, object]) -> str:
    """The question as a text: the query's name without its variant, and the values as they were checked."""
    if _KEPT.issuperset(map(type, question.values())):
        return _asked_before(query, tuple(question.items()))
    return _written(query, question)


# Texts of users are not kept; and two times of the hour that comes twice are equal, though they are other instants.
_KEPT = frozenset({bool, type(None)})


@lru_cache(maxsize=1024)
def _asked_before(query: Query[Any], question: tuple[tuple[str, object], ...]) -> str:
    return _written(query, dict(question))


def _written(query: Query[Any], question: Mapping[str, object]) -> str:
    checked = check_values(query, {**question, "after_at": None, "after_id": None, "limit": 1})
    return f"{query.name} {to_json({name: checked[name] for name in sorted(question)}).decode()}"
