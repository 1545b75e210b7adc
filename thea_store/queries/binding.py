"""A query's arguments checked and put in order."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Annotated, Any, NamedTuple, TypeVar, get_args, get_origin

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config
from pydantic_core import to_json
from typing_extensions import TypedDict, is_typeddict

from thea_store.encryption import TenantKeys, sealed_in
from thea_store.errors import InvalidArgumentError
from thea_store.postgres.types import is_optional
from thea_store.queries.arguments import refusal
from thea_store.queries.file import Query
from thea_store.queries.json_text import JsonText
from thea_store.queries.pacing import Pace

__all__ = [
    "Bound",
    "bind",
    "bind_in_turns",
    "changes_texts",
    "check_values",
    "seals",
]

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

    @property
    def has_one_plan(self) -> bool:
        """Whether the server is to keep one plan for all values, where it might plan each call anew."""
        places = _planned_anew(self.query)
        return places is not None and all(self.arguments[place] is None for place in places)


def bind(
    query: Query[Any],
    tenant_id: str,
    values: Mapping[str, object],
    keys: TenantKeys | None = None,
    row_key: str | None = None,
) -> Bound:
    """What to send for this call; `InvalidArgumentError` names the value that is not of its declared type.

    With `keys`, texts that are to be sealed are, after they were checked; see `seals`. `row_key` is what the row's
    texts that are stored were sealed for.
    """
    checked = check_values(query, values)
    if keys is not None:
        _seal(query, checked, keys, row_key)
    return _bound(query, tenant_id, checked)


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


async def bind_in_turns(
    query: Query[Any],
    tenant_id: str,
    values: Mapping[str, object],
    keys: TenantKeys | None = None,
    row_key: str | None = None,
) -> Bound:
    """As `bind`; between the rows of a bulk call, which become JSON one by one, the event loop serves others."""
    name = _bulk_parameter(query)
    rows = values.get(name) if name else None
    if name is None or not isinstance(rows, list) or len(rows) <= 1:
        return bind(query, tenant_id, values, keys, row_key)
    checked, pieces = dict[str, Any](), [b"["]
    pace, place, size, total = Pace(), 0, 1, 0
    while place < len(rows):
        started = time.perf_counter()
        checked = _check_some(query, {**values, name: rows[place : place + size]}, name, place)
        if keys is not None:
            _seal(query, checked, keys)
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
    return is_typeddict(_plainly(kind))


def _plainly(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


class _Sealing(NamedTuple):
    """Where a query's arguments have texts that can be sealed."""

    parameter: str | None
    """The parameter that has the row or the rows; `None` where each text is a parameter of its own."""
    table: str
    names: frozenset[str]
    is_change: bool = False
    """Whether the parameter says what of a row changes."""


@cache
def seals(query: Query[Any]) -> _Sealing | None:
    """Where its arguments have texts that can be sealed; `None` where there are none.

    Their row gets `sealed` beside them: a key of the document that the row is, or a parameter of this name.
    """
    if single := sealed_in(query.types):
        return _Sealing(None, *single)
    for name, kind in query.types.items():
        is_list = get_origin(kind) is list
        row = _plainly(get_args(kind)[0] if is_list else kind)
        if is_typeddict(row) and (found := sealed_in(row)):
            return _Sealing(name, *found, is_change=not is_list)
    return None


def changes_texts(query: Query[Any]) -> bool:
    """Whether it changes texts of a row that is there, and may have others sealed already."""
    place = seals(query)
    return place is not None and place.is_change


def _seal(query: Query[Any], checked: dict[str, Any], keys: TenantKeys, row_key: str | None = None) -> None:
    place = seals(query)
    if place is None:
        return
    rows = checked if place.parameter is None else checked[place.parameter]
    for row in rows if isinstance(rows, list) else [rows]:
        keys.seal(place.table, place.names, row, row.pop("row_key", row_key), keeps_none=place.is_change)


@cache
def _planned_anew(query: Query[Any]) -> tuple[int, ...] | None:
    """The places of the optional arguments that need a plan of their own; `None` where all calls may have one."""
    if query.one_plan is None:
        return None
    names = query.parameters
    return tuple(n for n, name in enumerate(names) if is_optional(query.types[name]) and name not in query.one_plan)


# Built at the first call of each query, so that importing the library costs nothing for the others.
@cache
def _validator(query: Query[Any]) -> Callable[[Mapping[str, object]], dict[str, Any]]:
    fields = {name: kind for name, kind in query.types.items() if name != "tenant_id"}
    # The typed dictionaries among the types refuse keys that they do not have, too, as pydantic passes this on to them.
    arguments = with_config(ConfigDict(extra="forbid"))(TypedDict(query.name, fields))  # type: ignore[operator]
    validate: Callable[..., dict[str, Any]] = TypeAdapter(arguments).validator.validate_python
    return lambda values: validate(values, strict=True)
