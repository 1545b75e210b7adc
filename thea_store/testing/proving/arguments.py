"""Arguments for any query, made of the rows that two tenants have.

A parameter gets the value that a row, or what the row hangs on, has under its name, as `user_id` or `session_id`;
where there is none, one of its declared type. So a new query needs nothing here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Required, Union, get_args, get_origin, get_type_hints
from uuid import UUID

from pydantic import TypeAdapter, ValidationError
from typing_extensions import is_typeddict

from thea_store.errors import StoreError
from thea_store.postgres.values import Range, Vector
from thea_store.queries.file import Query
from thea_store.queries.query import TENANT
from thea_store.verification.conditions_parsed import names

__all__ = ["Rows", "argument_sets", "as_argument"]

Values = dict[str, Any]

_EARLY, _LATE = datetime(2000, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
_OTHER = {_EARLY: _LATE, _LATE: _EARLY}
_WORD = "pan"


@dataclass(frozen=True)
class Rows:
    """The rows of a tenant by their tables, and what the catalog says of the columns."""

    tables: Mapping[str, Sequence[Values]]
    parents: Mapping[str, Mapping[str, str]]
    """By the table: the columns that refer to a row, and to the row of which table."""
    keys: Mapping[str, AbstractSet[str]]
    """By the table: the columns of its unique keys that a new row needs other values of."""

    def kinds(self, table: str) -> list[Values]:
        """The first row of each kind: there, deleted, deleted with its parent, of a user without a name."""
        found: dict[object, Values] = {}
        for row in self.tables[table]:
            whole = self._whole(table, row)
            shown = row.get("deleted_at") is None, row.get("deleted_with"), row.get("actor")
            found.setdefault((*shown, whole.get("username") is None), whole)
            if row.get("deleted_at") is None:
                found["the last one, on which nothing hangs"] = whole
        return list(found.values())

    def _whole(self, table: str, row: Values) -> Values:
        """The row under the names that parameters have, with what it hangs on."""
        whole: Values = {f"{table.partition('.')[2].removesuffix('s')}_id": row["id"]}
        for column, parent in self.parents.get(table, {}).items():
            above = next((above for above in self.tables.get(parent, ()) if above["id"] == row[column]), None)
            if above is not None and parent != table:
                whole |= self._whole(parent, above)
        return whole | row


def as_argument(value: Any, type_: str) -> Any:
    """What the driver has of a column of this type, as an argument is given."""
    if type_.endswith("range") and value is not None:
        return TypeAdapter(Range[Any]).validate_python(value)
    if type_.startswith("vector") and value is not None:
        return [float(number) for number in value[1:-1].split(",")]
    return value


def argument_sets(
    query: Query[Any], of_file: Sequence[Query[Any]], mine: Rows, others: Rows, about: str | None = None
) -> list[Values]:
    """What to call the query with: values of the other tenant's rows, of one's own, of both, and of new rows.

    `about` is the table whose rows are taken, where that is known.
    """
    table = about or _table(query, of_file, others)
    if not others.tables.get(table) or not mine.tables.get(table):
        raise StoreError(f"{query.name}: the table {table} has no rows to prove it with: `prove(EXTENSION, rows=…)`")
    foreign, own = others.kinds(table), mine.kinds(table)[:1]
    mixed = [foreign[0] | {name: own[0][name]} for name in mine.parents.get(table, {})]
    new = [{name: row[name] for name in row if name not in mine.keys.get(table, ())} for row in (foreign[0], own[0])]
    wide = [_values(query, row, wide=True) for row in (*foreign, *own)]
    narrow = [_values(query, row, wide=False) for row in (*foreign, *own, *mixed, *new)]
    sets = [*wide, *narrow]
    return list(_distinct([*sets, *map(_swapped, sets)]))


def _swapped(values: Values) -> Values:
    """With the late time in place of the early one, and the other way round: one of them lets rows through."""
    return {name: _OTHER.get(value, value) if isinstance(value, datetime) else value for name, value in values.items()}


def _table(query: Query[Any], of_file: Sequence[Query[Any]], rows: Rows) -> str:
    """The table that the query is about: of its own, or else of its file, the one that is named most often."""
    for queries in ([query], of_file):
        if named := Counter(name for one in queries for name in names(one) if name in rows.tables).most_common(1):
            return named[0][0]
    return max(rows.tables, key=lambda table: len(rows.tables[table]))


def _values(query: Query[Any], row: Values, *, wide: bool) -> Values:
    return {name: _value(name, kind, row, wide=wide) for name, kind in query.types.items() if name != TENANT}


def _value(name: str, kind: Any, row: Values, *, wide: bool) -> Any:
    """The first that the parameter takes; a wide one leaves a filter out, and lets as much through as it can."""
    for value in _candidates(name, kind, row, wide=wide):
        try:
            _adapter(kind).validate_python(value, strict=True)
        except ValidationError:
            continue
        return value
    raise StoreError(f"no value can be made for `:{name}` of the type {kind}")


def _candidates(name: str, kind: Any, row: Values, *, wide: bool) -> Iterator[Any]:
    if wide:
        yield None
    if name in row:
        yield row[name]
    yield from (value for column, value in row.items() if column.startswith(f"{name}_"))
    if dimensions := _dimensions(kind):
        yield [1.0] * dimensions
    bare = _bare(kind)
    if get_origin(bare) is list:
        yield [_value(name.removesuffix("s"), get_args(bare)[0], row, wide=wide)]
    if is_typeddict(bare):
        # The fields' own validators look at each other, so they are the business of the whole.
        fields = {field: _plain(of_field) for field, of_field in get_type_hints(bare, include_extras=True).items()}
        yield {field: _value(field, of_field, row, wide=wide) for field, of_field in fields.items()}
    yield wide
    yield 1000 if wide else 1
    yield 1.0
    yield _EARLY if name.startswith("after") or name.endswith("_from") else _LATE
    yield from (_WORD, {_WORD: 1}, UUID(int=0), Range[Any]())
    yield None


def _dimensions(kind: Any) -> int:
    """Of a vector; 0 for anything else."""
    parts = get_args(kind)
    own = (part.dimensions for part in parts if isinstance(part, Vector))
    return next(own, 0) or next(filter(None, map(_dimensions, parts)), 0)


def _bare(kind: Any) -> Any:
    kind = _plain(kind)
    if get_origin(kind) in (Union, UnionType):
        return _bare(next(part for part in get_args(kind) if part is not NoneType))
    return kind


def _plain(kind: Any) -> Any:
    return _plain(get_args(kind)[0]) if get_origin(kind) in (Annotated, Required) else kind


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)


def _distinct(sets: Iterable[Values]) -> Iterator[Values]:
    seen: set[str] = set()
    for values in sets:
        if repr(values) not in seen:
            seen.add(repr(values))
            yield values
