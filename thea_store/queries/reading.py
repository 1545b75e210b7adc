"""A query's rows made records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError

from thea_store.encryption import SEALED, TenantKeys, sealed_in, version_of, without_key
from thea_store.errors import StoreError
from thea_store.postgres.types import is_model
from thea_store.queries.by_column import maker
from thea_store.queries.file import Query
from thea_store.queries.pacing import Pace

__all__ = ["opens", "read", "read_in_turns", "sealed_versions"]

R = TypeVar("R")

# Rows that become records in one turn of the event loop, some milliseconds.
_AT_ONCE = 100
# Up to so many rows are validated faster one by one.
_FEW = 3


@cache
def opens(query: Query[Any]) -> tuple[str, frozenset[str]] | None:
    """The table of its records and which of their fields may be sealed; `None` where none is."""
    return sealed_in(query.record) if is_model(query.record) else None


def sealed_versions(query: Query[Any], rows: Sequence[Any]) -> set[int | None]:
    """The versions of the keys that sealed what these rows have; empty where nothing is sealed."""
    found = opens(query)
    if found is None:
        return set()
    texts = [sealed for row in rows if (sealed := row[SEALED])]
    return {version_of(sealed[name]) for sealed in texts for name in found[1] & sealed.keys()}


async def read_in_turns(query: Query[R], rows: Sequence[Any], keys: TenantKeys | None = None) -> list[R]:
    """As `read`; between some rows and the next ones the event loop serves others."""
    if len(rows) <= _AT_ONCE:
        return read(query, rows, keys)
    pace, records = Pace(), list[R]()
    for place in range(0, len(rows), _AT_ONCE):
        records += read(query, rows[place : place + _AT_ONCE], keys)
        await pace.keep()
    return records


def read(query: Query[R], rows: Sequence[Any], keys: TenantKeys | None = None) -> list[R]:
    """The record of each row, or the only column of each where the query returns no records.

    Sealed texts are opened with `keys`. `EncryptionKeyError`, `SealedTextError`.
    """
    return _reader(query)(rows, keys)


@cache
def _records(record: type[BaseModel]) -> Callable[[list[dict[str, Any]]], list[Any]]:
    validate: Callable[..., list[Any]] = TypeAdapter(list[record]).validator.validate_python  # type: ignore[valid-type]
    return validate


@cache
def _reader(query: Query[Any]) -> Callable[[Sequence[Any], TenantKeys | None], list[Any]]:
    record = query.record
    if not is_model(record):
        return lambda rows, _: [row[0] for row in rows]
    may_be_sealed = opens(query)

    def records(rows: Sequence[Any], keys: TenantKeys | None) -> list[Any]:
        # A quarter faster than dict(row), which asks each row for its keys anew.
        names: tuple[str, ...] = tuple(rows[0].keys()) if rows else ()
        if may_be_sealed:
            names = names[:-1]  # `sealed` comes last, and no record has it
        is_sealed = may_be_sealed and any(row[SEALED] for row in rows)
        if len(rows) > _FEW and not is_sealed and (made := maker(record, names)(rows)) is not None:
            return made
        fields = [dict(zip(names, row)) for row in rows]  # noqa: B905 - the same without it, and faster
        if is_sealed:
            for row, values in zip(rows, fields, strict=True):
                if sealed := row[SEALED]:
                    _open(query, values, sealed, keys)
        try:
            found = _records(record)(fields)
        except ValidationError as error:
            misfit = _misfit(query, error)
        else:
            return found
        raise misfit  # here, since the validation's own error quotes the row

    return records


def _open(query: Query[Any], values: dict[str, Any], sealed: Mapping[str, Any], keys: TenantKeys | None) -> None:
    table, names = opens(query) or ("", frozenset())
    if names.isdisjoint(sealed):  # they have been opened, and the row's key is left
        return
    if keys is None:
        raise without_key(query.name)
    keys.open(table, values, sealed, names)


def _misfit(query: Query[Any], error: ValidationError) -> StoreError:
    place = error.errors(include_url=False, include_context=False, include_input=False)[0]["loc"]
    column = place[1] if len(place) > 1 else "a column"
    record = getattr(query.record, "__name__", "its record")
    return StoreError(
        f"{query.name}: {column} of a row is not what {record} takes: correct the row in the database, or what the "
        f"statement selects ({query.source})"
    )
