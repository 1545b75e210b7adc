"""Which fields of a record, and of the arguments that write it, are sealed where a tenant is encrypted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

from typing_extensions import is_typeddict

__all__ = ["SEALED", "SealedIn", "sealed_in"]

SEALED = "sealed"
"""The column that has the sealed texts of a row, and the key of each in it: its column's name."""


@dataclass(frozen=True, slots=True)
class SealedIn:
    """Marks a text of this table, as in `content: Annotated[str, SealedIn("thea.notes")]`.

    The table has a column `sealed jsonb`, and the comment of that column names the texts: `seals title, content`.
    """

    table: str


def sealed_in(fields: Any) -> tuple[str, frozenset[str]] | None:
    """The table of these fields and which of them are sealed; `None` where none is.

    `fields` is a record, a typed dictionary, or a mapping from names to annotations.
    """
    return _in_hints(fields) if isinstance(fields, Mapping) else _in_class(fields)


@cache  # reading the hints of a class takes long, and a store that opens asks about each of its queries
def _in_class(fields: Any) -> tuple[str, frozenset[str]] | None:
    return _in_hints(get_type_hints(fields, include_extras=True))


def _in_hints(hints: Mapping[str, Any]) -> tuple[str, frozenset[str]] | None:
    marked = {name: mark.table for name, kind in hints.items() for mark in _marks(kind)}
    if not marked:
        return None
    [table] = set(marked.values())
    return table, frozenset(marked)


def _marks(kind: Any) -> Iterator[SealedIn]:
    if is_typeddict(kind) or get_origin(kind) is list:
        return
    yield from (mark for mark in getattr(kind, "__metadata__", ()) if isinstance(mark, SealedIn))
    for inner in get_args(kind):
        yield from _marks(inner)
