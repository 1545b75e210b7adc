"""Which Python annotations a PostgreSQL type fits, in a record or as a parameter: the registry of types."""

from __future__ import annotations

import re
import types
from collections.abc import Callable
from functools import lru_cache, wraps
from typing import Annotated, Any, Literal, ParamSpec, TypeGuard, Union, cast, get_args, get_origin

from pydantic import AwareDatetime, BaseModel
from typing_extensions import is_typeddict

from thea_store.postgres.values import Range, Vector

__all__ = ["BUILT_IN", "REMEDIES", "fits", "is_model", "is_optional", "of_extensions", "remedy", "without_none"]

P = ParamSpec("P")

_JSON = {"dict", "list", "Any"}

# The oids of built-in types never change (PostgreSQL's pg_type.dat).
BUILT_IN: dict[int, str] = {
    16: "boolean",
    17: "bytea",
    20: "bigint",
    21: "smallint",
    23: "integer",
    25: "text",
    114: "json",
    700: "real",
    701: "double precision",
    1000: "boolean[]",
    1005: "smallint[]",
    1007: "integer[]",
    1009: "text[]",
    1016: "bigint[]",
    1021: "real[]",
    1022: "double precision[]",
    1043: "character varying",
    1082: "date",
    1114: "timestamp without time zone",
    1182: "date[]",
    1184: "timestamp with time zone",
    1185: "timestamp with time zone[]",
    1186: "interval",
    1700: "numeric",
    2950: "uuid",
    2951: "uuid[]",
    3802: "jsonb",
    3904: "int4range",
    3906: "numrange",
    3910: "tstzrange",
    3912: "daterange",
    3926: "int8range",
}
"""The names of the types that have a place in Python, by their oids."""

_TAKES: dict[str, set[str]] = {
    "boolean": {"bool"},
    "bytea": {"bytes"},
    "bigint": {"int"},
    "smallint": {"int"},
    "integer": {"int"},
    "text": {"str"},
    "json": _JSON,
    "real": {"float"},
    "double precision": {"float"},
    "boolean[]": {"list[bool]"},
    "smallint[]": {"list[int]"},
    "integer[]": {"list[int]"},
    "text[]": {"list[str]"},
    "bigint[]": {"list[int]"},
    "real[]": {"list[float]"},
    "double precision[]": {"list[float]"},
    "character varying": {"str"},
    "date": {"date"},
    "timestamp without time zone": set(),
    "date[]": {"list[date]"},
    "timestamp with time zone": {"datetime"},
    "timestamp with time zone[]": {"list[datetime]"},
    "interval": {"timedelta"},
    "numeric": {"Decimal"},
    "uuid": {"UUID"},
    "uuid[]": {"list[UUID]"},
    "jsonb": _JSON,
    "int4range": {"Range[int]"},
    "numrange": {"Range[Decimal]"},
    "tstzrange": {"Range[datetime]"},
    "daterange": {"Range[date]"},
    "int8range": {"Range[int]"},
    # Of extensions of the server.
    "vector": {"Vector"},
}

REMEDIES = {
    "vector": "this database lacks the extension pgvector: install its package on the server (Debian's is "
    "postgresql-VERSION-pgvector), and let a superuser run `create extension vector schema public` in the database",
}
"""What to do where a database lacks a type of one of the server's extensions, by the type's name."""


def remedy(sqlstate: str | None, message: str) -> str | None:
    """What to do where the server refuses a type or an extension that it lacks; `None` where it is something else."""
    if sqlstate not in {"42704", "0A000", "58P01", "42501"}:
        return None
    # The type or the extension stands in quotes, of whatever language, and the missing file behind a slash; a table's
    # name would stand bare.
    named = r"[^\w\s]\s?(?:public\.)?{0}\b"
    return next((text for name, text in REMEDIES.items() if re.search(named.format(name), message)), None)


def _remembered(judge: Callable[P, bool]) -> Callable[P, bool]:
    """The same function, which remembers what it said: variants of a query repeat the same columns and parameters."""
    remembering = cast("Callable[P, bool]", lru_cache(maxsize=1024)(judge))

    @wraps(judge)
    def judged(*about: P.args, **more: P.kwargs) -> bool:
        try:
            return remembering(*about, **more)
        except TypeError:  # something in the annotation has no hash
            return judge(*about, **more)

    return judged


@_remembered
def fits(type_: str, annotation: Any, dimensions: int | None = None) -> bool:
    """Whether every value of this type has a place in the annotation, null apart.

    `dimensions` are those of a vector's column.
    """
    if type_ not in _TAKES:
        return False
    takes = _TAKES[type_]
    if "Vector" in takes and dimensions is not None and dimensions != _dimensions(annotation):
        return False
    return all(_is_one_of(name, takes) for name in _names(annotation) - {"None"})


def of_extensions(annotation: Any) -> set[str]:
    """The types of the server's extensions that the annotation stands for."""
    named = _names(annotation)
    return {type_ for type_ in REMEDIES if _TAKES[type_] & named}


@_remembered
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
        return {"Vector"} if any(isinstance(part, Vector) for part in arguments) else _names(arguments[0])
    if origin in (Union, types.UnionType):
        return set().union(*(_names(argument) for argument in arguments))
    if origin is Literal:
        return {type(value).__name__ for value in arguments}
    if origin in (list, tuple):
        return {f"list[{name}]" for name in _names(arguments[0])}
    if origin is Range:
        return {f"Range[{name}]" for name in _names(arguments[0])}
    if annotation is None or annotation is types.NoneType:
        return {"None"}
    if annotation is Any:
        return {"Any"}
    if origin is dict or is_typeddict(annotation) or is_model(annotation):
        return {"dict"}
    if annotation is AwareDatetime:
        return {"datetime"}
    return {getattr(annotation, "__name__", str(annotation))}


def _dimensions(annotation: Any) -> int | None:
    """Of the vector that the annotation takes."""
    parts = get_args(annotation)
    if get_origin(annotation) is Annotated:
        return next((part.dimensions for part in parts if isinstance(part, Vector)), None)
    return next(filter(None, map(_dimensions, parts)), None)


def is_model(annotation: Any) -> TypeGuard[type[BaseModel]]:
    """Whether the annotation is a record's class."""
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
