"""Which Python annotations a PostgreSQL type fits, in a record or as a parameter."""

from __future__ import annotations

import types
from functools import lru_cache
from typing import Annotated, Any, Literal, TypeGuard, Union, get_args, get_origin

from pydantic import AwareDatetime, BaseModel
from typing_extensions import is_typeddict

__all__ = ["fits", "is_model", "is_optional", "spelled", "without_none"]

_JSON = {"dict", "list", "Any"}

# The oids of built-in types never change (PostgreSQL's pg_type.dat).
_TYPES: dict[int, tuple[str, set[str]]] = {
    16: ("boolean", {"bool"}),
    17: ("bytea", {"bytes"}),
    20: ("bigint", {"int"}),
    21: ("smallint", {"int"}),
    23: ("integer", {"int"}),
    25: ("text", {"str"}),
    114: ("json", _JSON),
    700: ("real", {"float"}),
    701: ("double precision", {"float"}),
    1000: ("boolean[]", {"list[bool]"}),
    1005: ("smallint[]", {"list[int]"}),
    1007: ("integer[]", {"list[int]"}),
    1009: ("text[]", {"list[str]"}),
    1016: ("bigint[]", {"list[int]"}),
    1021: ("real[]", {"list[float]"}),
    1022: ("double precision[]", {"list[float]"}),
    1043: ("character varying", {"str"}),
    1082: ("date", {"date"}),
    1114: ("timestamp without time zone", set()),
    1182: ("date[]", {"list[date]"}),
    1184: ("timestamp with time zone", {"datetime"}),
    1185: ("timestamp with time zone[]", {"list[datetime]"}),
    1186: ("interval", {"timedelta"}),
    1700: ("numeric", {"Decimal"}),
    2950: ("uuid", {"UUID"}),
    2951: ("uuid[]", {"list[UUID]"}),
    3802: ("jsonb", _JSON),
}


def spelled(oid: int) -> str:
    """The type's name, for messages."""
    return _TYPES[oid][0] if oid in _TYPES else f"of a type with the oid {oid}"


def fits(oid: int, annotation: Any) -> bool:
    """Whether every value of this type has a place in the annotation, null apart."""
    try:
        return _fits(oid, annotation)
    except TypeError:  # something in the annotation has no hash
        return _fits.__wrapped__(oid, annotation)


# Variants of a query repeat the same columns and parameters.
@lru_cache(maxsize=1024)
def _fits(oid: int, annotation: Any) -> bool:
    if oid not in _TYPES:
        return False
    takes = _TYPES[oid][1]
    return all(_is_one_of(name, takes) for name in _names(annotation) - {"None"})


def is_optional(annotation: Any) -> bool:
    """Whether the annotation takes `None`."""
    return "None" in _names(annotation) or annotation is Any


def without_none(annotation: Any) -> Any:
    """The annotation without `None`, where it is one of the types of a union."""
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation
    return Union[tuple(part for part in get_args(annotation) if part is not types.NoneType)]  # noqa: UP007 - made here


def _is_one_of(name: str, takes: set[str]) -> bool:
    return name in takes or (takes is _JSON and name.partition("[")[0] in takes)


def _names(annotation: Any) -> set[str]:  # noqa: PLR0911 - one line for each form of annotation
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _names(arguments[0])
    if origin in (Union, types.UnionType):
        return set().union(*(_names(argument) for argument in arguments))
    if origin is Literal:
        return {type(value).__name__ for value in arguments}
    if origin in (list, tuple):
        return {f"list[{name}]" for name in _names(arguments[0])}
    if annotation is None or annotation is types.NoneType:
        return {"None"}
    if annotation is Any:
        return {"Any"}
    if origin is dict or is_typeddict(annotation) or is_model(annotation):
        return {"dict"}
    if annotation is AwareDatetime:
        return {"datetime"}
    return {getattr(annotation, "__name__", str(annotation))}


def is_model(annotation: Any) -> TypeGuard[type[BaseModel]]:
    """Whether the annotation is a record's class."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
