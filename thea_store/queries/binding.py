"""A query's arguments checked and put in order, and its rows made records."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from typing import Annotated, Any, NamedTuple, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError, with_config
from pydantic_core import to_json
from typing_extensions import TypedDict, is_typeddict

from thea_store.errors import InvalidArgumentError, StoreError
from thea_store.postgres.types import is_model
from thea_store.queries.arguments import refusal
from thea_store.queries.file import Query
from thea_store.queries.json_text import JsonText
from thea_store.queries.pacing import Pace

__all__ = ["Bound", "bind", "bind_in_turns", "check_values", "read", "read_in_turns"]

R = TypeVar("R")

# Rows that become records in one turn of the event loop, some milliseconds.
_AT_ONCE = 100
# What the rows of a bulk call may hold, as bytes of JSON, because they are sent in one piece.
_MOST = 16_000_000
# Seconds that the check of some rows of a bulk call should take.
_A_TURN = 0.005


class Bound(NamedTuple):
    """A call, ready to be sent."""

    query: Query[Any]
    """The variant that serves this call, or the query itself."""
    arguments: list[object]
    """The values for its `$1`, `$2` …"""


def bind(query: Query[Any], tenant_id: str, values: Mapping[str, object]) -> Bound:
    """What to send for this call; `InvalidArgumentError` names the value that is not of its declared type."""
    return _bound(query, tenant_id, check_values(query, values))


def _bound(query: Query[Any], tenant_id: str, checked: Mapping[str, Any]) -> Bound:
    chosen = query.variant(checked)
    return Bound(chosen, [tenant_id if name == "tenant_id" else checked[name] for name in chosen.parameters])


def check_values(query: Query[Any], values: Mapping[str, object]) -> dict[str, Any]:
    """The values as their types make them: moments in UTC. `InvalidArgumentError` as `bind`."""
    try:
        return _validator(query)(values)
    except ValidationError as error:
        refused = refusal(error)
    raise refused


async def bind_in_turns(query: Query[Any], tenant_id: str, values: Mapping[str, object]) -> Bound:
    """As `bind`; between the rows of a bulk call, which become JSON one by one, the event loop serves others."""
    name = _bulk_parameter(query)
    rows = values.get(name) if name else None
    if name is None or not isinstance(rows, list) or len(rows) <= 1:
        return bind(query, tenant_id, values)
    checked, pieces = dict[str, Any](), [b"["]
    pace, place, size, total = Pace(), 0, 1, 0
    while place < len(rows):
        started = time.perf_counter()
        checked = _check_some(query, {**values, name: rows[place : place + size]}, name, place)
        piece = to_json(checked[name])[1:-1]
        pieces += piece, b","
        if (total := total + len(piece)) > _MOST:
            reason = f"must be up to {_MOST} bytes of JSON, all rows together: write fewer at once"
            raise InvalidArgumentError(name, reason)
        place += size
        size = min(2 * size, _AT_ONCE) if time.perf_counter() - started < _A_TURN else max(1, size // 4)
        await pace.keep()
    pieces[-1] = b"]"
    checked[name] = JsonText(pieces)
    return _bound(query, tenant_id, checked)


def _check_some(query: Query[Any], values: Mapping[str, object], name: str, first: int) -> dict[str, Any]:
    """As `check_values`, of rows of which the first one has this place among all."""
    try:
        return check_values(query, values)
    except InvalidArgumentError as error:
        row = re.match(rf"{name}\[([0-9]+)\]", error.argument)
        if row is None:
            raise
        argument = f"{name}[{int(row[1]) + first}]{error.argument[row.end() :]}"
        refused = InvalidArgumentError(argument, error.reason)
    raise refused


@cache
def _bulk_parameter(query: Query[Any]) -> str | None:
    """The parameter that takes many rows."""
    for name, kind in query.types.items():
        if get_origin(kind) is list and _is_row(get_args(kind)[0]):
            return name
    return None


def _is_row(kind: Any) -> bool:
    return is_typeddict(get_args(kind)[0] if get_origin(kind) is Annotated else kind)


async def read_in_turns(query: Query[R], rows: Sequence[Any]) -> list[R]:
    """As `read`; between some rows and the next ones the event loop serves others."""
    if len(rows) <= _AT_ONCE:
        return read(query, rows)
    pace, records = Pace(), list[R]()
    for place in range(0, len(rows), _AT_ONCE):
        records += read(query, rows[place : place + _AT_ONCE])
        await pace.keep()
    return records


def read(query: Query[R], rows: Sequence[Any]) -> list[R]:
    """The record of each row, or the only column of each where the query returns no records."""
    return _reader(query)(rows)


# Built at the first call of each query, so that importing the library costs nothing for the others.
@cache
def _validator(query: Query[Any]) -> Callable[[Mapping[str, object]], dict[str, Any]]:
    fields = {name: kind for name, kind in query.types.items() if name != "tenant_id"}
    # The typed dictionaries among the types refuse keys that they do not have, too, as pydantic passes this on to them.
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
