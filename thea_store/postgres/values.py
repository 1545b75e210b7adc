"""Values that PostgreSQL has a type for and Python has none: ranges, and vectors of the extension pgvector."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Generic, Literal, TypeVar, cast, get_args

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, SchemaSerializer, core_schema

from thea_store.errors import InvalidArgumentError

__all__ = ["Range", "Vector"]

T = TypeVar("T")
Bounds = Literal["[)", "[]", "(]", "()"]

_MOST_DIMENSIONS = 16_000


class Range(Generic[T]):
    """A range, as the server has it: `Range(start, end)`, where `None` is no bound. It cannot be changed.

        Range(date(2026, 3, 2), date(2026, 3, 9))          # without the 9th
        Range(date(2026, 3, 2), date(2026, 3, 8), "[]")    # the same one

    `bounds` says which bound belongs to it: `[` and `]` do, `(` and `)` do not. Whole numbers and days are written
    as `[)`, so that equal ranges are equal. A range in which nothing can be is the empty one, `Range(empty=True)`.
    The server's `infinity` as the upper bound and `-infinity` as the lower one are read as no bound, and so are the
    last and the first day that Python has, which the driver takes for them. In JSON a range is its text, `[1,5)`.
    """

    __slots__ = ("bounds", "empty", "lower", "upper")

    lower: T | None
    upper: T | None
    bounds: Bounds
    empty: bool

    def __init__(
        self, lower: T | None = None, upper: T | None = None, bounds: Bounds = "[)", *, empty: bool = False
    ) -> None:
        """`InvalidArgumentError` where it ends before it begins, or its bounds cannot be compared."""
        if bounds not in get_args(Bounds):
            raise InvalidArgumentError("bounds", f"must be one of {', '.join(get_args(Bounds))}")
        if _is_naive(lower) or _is_naive(upper):
            raise InvalidArgumentError("bounds", "a datetime must know its offset")
        first, last = bounds[0], bounds[1]
        lower = None if lower == date.min and not isinstance(lower, datetime) else lower
        upper = None if upper == date.max and not isinstance(upper, datetime) else upper
        if first == "(" and _is_discrete(lower):
            lower, first = _next(lower), "["
        if last == "]" and _is_discrete(upper):
            upper, last = _next(upper), ")"
        first, last = "(" if lower is None else first, ")" if upper is None else last
        if empty or _is_nothing(lower, upper, first + last):
            lower, upper, first, last, empty = None, None, "(", ")", True
        for name, value in (("lower", lower), ("upper", upper), ("bounds", first + last), ("empty", empty)):
            object.__setattr__(self, name, value)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a range cannot be changed: make another one with another {name}")

    def __delattr__(self, name: str) -> None:
        self.__setattr__(name, None)

    def __reduce__(self) -> tuple[Any, ...]:
        return _made, self._all()

    def __eq__(self, other: object) -> bool:
        return self._all() == other._all() if isinstance(other, Range) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._all())

    def __repr__(self) -> str:
        return "Range(empty=True)" if self.empty else f"Range({self.lower!r}, {self.upper!r}, {self.bounds!r})"

    def _all(self) -> tuple[T | None, T | None, Bounds, bool]:
        return self.lower, self.upper, self.bounds, self.empty

    def __str__(self) -> str:
        """As the server reads it: `[2026-03-02,2026-03-09)`."""
        if self.empty:
            return "empty"
        return f"{self.bounds[0]}{_text(self.lower)},{_text(self.upper)}{self.bounds[1]}"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """An argument must be a `Range`, and its bounds of the declared type.

        A row's value is what the driver has, and one of JSON is a range's text.
        """
        bound = handler.generate_schema((get_args(source) or (Any,))[0])
        field = core_schema.typed_dict_field(core_schema.nullable_schema(bound))
        fields = core_schema.typed_dict_schema({"lower": field, "upper": field})

        def checked(value: Range[Any], check: Callable[[Any], dict[str, Any]]) -> Range[Any]:
            if value.empty:
                return value
            return Range(**check({"lower": value.lower, "upper": value.upper}), bounds=value.bounds)

        def read(value: Any, check: Callable[[Any], dict[str, Any]]) -> Any:
            if match := _TEXT.fullmatch(value) if isinstance(value, str) else None:
                first, lower, upper, last = match.groups()
                both = check({"lower": lower or None, "upper": upper or None})
                return Range(**both, bounds=cast("Bounds", f"{first}{last}"))
            if value == "empty":
                return Range[Any](empty=True)
            return _of_driver(value) if hasattr(value, "isempty") else value

        is_range = core_schema.is_instance_schema(Range)
        strict = core_schema.chain_schema([is_range, core_schema.no_info_wrap_validator_function(checked, fields)])
        return core_schema.lax_or_strict_schema(
            lax_schema=core_schema.chain_schema([core_schema.no_info_wrap_validator_function(read, fields), strict]),
            strict_schema=strict,
            serialization=core_schema.to_string_ser_schema(),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        """In JSON it is a text."""
        del schema, handler
        return {"type": "string", "examples": ["[1,5)"]}


# What a JSON of rows asks of a value that it does not know: the text, which the server reads.
Range.__pydantic_serializer__ = SchemaSerializer(  # type: ignore[attr-defined]
    core_schema.any_schema(serialization=core_schema.to_string_ser_schema())
)


# The text of a range whose bounds have neither quotes nor commas, which is every one that `Range` writes.
_TEXT = re.compile(r'([\[(])([^,"]*),([^,"]*)([\])])')


def _of_driver(value: Any) -> Range[Any]:
    """The range that the driver has; an infinite moment is a datetime without an offset there."""
    bounds = f"{'[' if value.lower_inc else '('}{']' if value.upper_inc else ')'}"
    lower = None if value.lower == datetime.min else value.lower  # noqa: DTZ901 - the driver's
    upper = None if value.upper == datetime.max else value.upper  # noqa: DTZ901 - the driver's
    return Range(lower, upper, cast("Bounds", bounds), empty=value.isempty)


def _made(lower: Any, upper: Any, bounds: Bounds, empty: bool) -> Range[Any]:  # noqa: FBT001 - for pickle
    return Range(lower, upper, bounds, empty=empty)


def _is_naive(bound: object) -> bool:
    return isinstance(bound, datetime) and bound.utcoffset() is None


def _is_discrete(bound: object) -> bool:
    return isinstance(bound, (int, date)) and not isinstance(bound, (bool, datetime))


def _next(bound: Any) -> Any:
    return bound + (timedelta(days=1) if isinstance(bound, date) else 1)


def _is_nothing(lower: Any, upper: Any, bounds: str) -> bool:
    try:
        if not (lower == lower and upper == upper):  # noqa: PLR0124 - what is no number is not equal to itself
            raise InvalidArgumentError("bounds", "must be numbers, where they are of a number's type")
        if lower is None or upper is None:
            return False
        is_backwards = lower > upper
    except (TypeError, ArithmeticError):
        raise InvalidArgumentError("bounds", "must be of one type, whose values can be compared") from None
    if is_backwards:
        raise InvalidArgumentError("bounds", "the lower one must not be above the upper one")
    return bool(lower == upper) and bounds != "[]"


def _text(bound: Any) -> str:
    if bound is None:
        return ""
    return bound.isoformat() if isinstance(bound, date) else str(bound)


@dataclass(frozen=True)
class Vector:
    """A vector of the server's extension pgvector, in an annotation: `Annotated[list[float], Vector(384)]`.

    The numbers are finite, and of single precision: they come back as the nearest that the server can keep.
    """

    dimensions: int

    def __post_init__(self) -> None:
        """`InvalidArgumentError` where there can be no such vector."""
        if type(self.dimensions) is not int or not 1 <= self.dimensions <= _MOST_DIMENSIONS:
            raise InvalidArgumentError("dimensions", f"must be a whole number from 1 to {_MOST_DIMENSIONS}")

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """An argument becomes the text that the server reads; a row's value is such a text."""
        number = core_schema.float_schema(allow_inf_nan=False, ge=-_LARGEST, le=_LARGEST)
        numbers = core_schema.list_schema(number, min_length=self.dimensions, max_length=self.dimensions)
        return core_schema.lax_or_strict_schema(
            lax_schema=core_schema.no_info_before_validator_function(_numbers, numbers),
            strict_schema=core_schema.no_info_after_validator_function(_written, numbers),
        )


# The largest number of single precision.
_LARGEST = 3.4028234663852886e38


def _numbers(value: object) -> object:
    """Of the server's `[1,2.5,3]`."""
    return value[1:-1].split(",") if isinstance(value, str) else value


def _written(numbers: list[float]) -> str:
    return f"[{','.join(map(repr, numbers))}]"
