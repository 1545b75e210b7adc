"""A query's arguments checked and put in order, and its rows made records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, with_config
from typing_extensions import TypedDict

from thea_store.errors import StoreError
from thea_store.postgres.types import is_model
from thea_store.queries.arguments import refusal
from thea_store.queries.file import Query

__all__ = ["Bound", "bind", "check_values", "read"]

R = TypeVar("R")


class Bound(NamedTuple):
    """A call, ready to be sent."""

    query: Query[Any]
    """The variant that serves this call, or the query itself."""
    arguments: list[object]
    """The values for its `$1`, `$2` …"""


def bind(query: Query[Any], tenant_id: str, values: Mapping[str, object]) -> Bound:
    """What to send for this call; `InvalidArgumentError` names the value that is not of its declared type."""
    checked = check_values(query, values)
    chosen = query.variant(checked)
    return Bound(chosen, [tenant_id if name == "tenant_id" else checked[name] for name in chosen.parameters])


def check_values(query: Query[Any], values: Mapping[str, object]) -> dict[str, Any]:
    """The values as their types make them: moments in UTC. `InvalidArgumentError` as `bind`."""
    try:
        return _validator(query)(values)
    except ValidationError as error:
        refused = refusal(error)
    raise refused


def read(query: Query[R], rows: Sequence[Any]) -> list[R]:
    """The record of each row, or the only column of each where the query returns no records."""
    return _reader(query)(rows)


# Built at the first call of each query, so that importing the library costs nothing for the others.
@cache
def _validator(query: Query[Any]) -> Callable[[Mapping[str, object]], dict[str, Any]]:
    fields = {name: kind for name, kind in query.types.items() if name != "tenant_id"}
    arguments = with_config(ConfigDict(extra="forbid"))(TypedDict(query.name, fields))  # type: ignore[operator]
    validate: Callable[..., dict[str, Any]] = TypeAdapter(arguments).validator.validate_python
    return lambda values: validate(values, strict=True)


@cache
def _records(record: type[BaseModel]) -> Callable[[list[dict[str, Any]]], list[Any]]:
    validate: Callable[..., list[Any]] = TypeAdapter(list[record]).validator.validate_python  # type: ignore[valid-type]
    return validate


@cache
def _reader(query: Query[Any]) -> Callable[[Sequence[Any]], list[Any]]:
    record = query.record
    if not is_model(record):
        return lambda rows: [row[0] for row in rows]
    validate = _records(record)

    def records(rows: Sequence[Any]) -> list[Any]:
        # A quarter faster than dict(row), which asks each row for its keys anew.
        names = tuple(rows[0].keys()) if rows else ()
        try:
            found = validate([dict(zip(names, row, strict=False)) for row in rows])
        except ValidationError as error:
            misfit = _misfit(query, error)
        else:
            return found
        raise misfit  # here, since the validation's own error quotes the row

    return records


def _misfit(query: Query[Any], error: ValidationError) -> StoreError:
    place = error.errors(include_url=False, include_context=False, include_input=False)[0]["loc"]
    column = place[1] if len(place) > 1 else "a column"
    record = getattr(query.record, "__name__", "its record")
    return StoreError(
        f"{query.name}: {column} of a row is not what {record} takes: correct the row in the database, or what the "
        f"statement selects ({query.source})"
    )
