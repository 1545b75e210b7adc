"""Whether what the server says of a query fits its record and the types that it is claimed with."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from thea_store.encryption import SEALED, sealed_in
from thea_store.postgres.types import fits, is_model, is_optional
from thea_store.queries.file import Query
from thea_store.queries.reading import opens
from thea_store.verification.describing import Column, Described

if TYPE_CHECKING:
    from pydantic import BaseModel

__all__ = ["fields_of", "problems"]


def problems(described: Described, not_null: frozenset[tuple[int, int]]) -> list[str]:
    """A sentence for all of the query that does not fit; empty when everything does."""
    if described.failure is not None:
        return [f"the server refuses it: {described.failure}"]
    return [*_parameter_problems(described), *_column_problems(described, not_null)]


def _parameter_problems(described: Described) -> list[str]:
    query = described.query
    return [
        f"the parameter :{name} is {type_} on the server, which the declared type does not fit"
        for name, type_ in zip(query.parameters, described.parameters, strict=True)
        if not fits(type_, query.types[name])
    ]


def _column_problems(described: Described, not_null: frozenset[tuple[int, int]]) -> list[str]:
    query, columns = described.query, described.columns
    fields = _fields(query, columns)
    if isinstance(fields, str):
        return [fields]
    misfits = [f"the hint names {name}, which is no column" for name in sorted(_hinted(query) - _names(columns))]
    misfits += [f"{_record(query)}.{name} has no column" for name in sorted(fields.keys() - _names(columns))]
    # Of a sealed text the column is null, and `sealed` has it; the record gets it opened.
    _, sealed = opens(query) or ("", frozenset())
    if sealed and columns[-1].name != SEALED:
        misfits.append(f"the column {SEALED} must be the last one, since {_record(query)} may have sealed texts")
    for column in columns:
        if column.name not in fields:
            misfits.append(f"the column {column.name} has no field in {_record(query)}")
            continue
        annotation = fields[column.name]
        dimensions = column.modifier if column.type == "vector" and column.modifier > 0 else None
        if not fits(column.type, annotation, dimensions):
            found = f"{column.type}({dimensions})" if dimensions else column.type
            misfits.append(f"the column {column.name} is {found}, which {_record(query)} does not take")
        elif _may_be_null(query, column, not_null) and not is_optional(annotation) and column.name not in sealed:
            misfits.append(
                f"the column {column.name} can be null, but not in {_record(query)}: let it be None there, "
                f"or write `-- not null: {column.name}` where the server cannot know better"
            )
    return misfits


def _fields(query: Query[Any], columns: Sequence[Column]) -> dict[str, Any] | str:
    record = query.record
    if record is None:
        return {} if not columns else f"it returns the column {columns[0].name}, but is claimed for none"
    if is_model(record):
        return fields_of(record) | ({SEALED: dict[str, Any] | None} if sealed_in(record) else {})
    if len(columns) != 1:
        return f"it returns {len(columns)} columns, but is claimed for one value"
    return {columns[0].name: record}


@cache
def fields_of(record: type[BaseModel]) -> dict[str, Any]:
    """The annotations of a record's fields, by their names."""
    return {name: field.rebuild_annotation() for name, field in record.model_fields.items()}


def _may_be_null(query: Query[Any], column: Column, not_null: frozenset[tuple[int, int]]) -> bool:
    if column.name in query.nullable:
        return True
    if column.name in query.not_null:
        return False
    return query.outer_join or column.origin not in not_null


def _hinted(query: Query[Any]) -> frozenset[str]:
    return query.not_null | query.nullable


def _names(columns: Sequence[Column]) -> set[str]:
    return {column.name for column in columns}


def _record(query: Query[Any]) -> str:
    return getattr(query.record, "__name__", str(query.record))
