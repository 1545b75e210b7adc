"""The types of arguments, checked strictly before any I/O: nothing is guessed, nothing coerced.

A query declares the type of each of its parameters with these; `Query.bind` checks a call's values
against them and names the argument that does not fit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from math import isfinite
from typing import Annotated, Any
from unicodedata import normalize
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    AwareDatetime,
    Field,
    TypeAdapter,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic_core import ErrorDetails, to_json

from thea_store.errors import InvalidArgumentError, InvalidTenantError
from thea_store.queries.json_text import parse

__all__ = [
    "FIRST_MOMENT",
    "LAST_MOMENT",
    "BigInteger",
    "Confidence",
    "Count",
    "Id",
    "Integer",
    "JsonContainer",
    "JsonObject",
    "Key",
    "Limit",
    "LongText",
    "Milliseconds",
    "Moment",
    "Name",
    "Number",
    "Seconds",
    "Timezone",
    "check",
    "check_tenant",
    "checker",
    "folded",
    "refusal",
    "split_patch",
]

_INT4, _INT8 = 2**31 - 1, 2**63 - 1
_TENANT_LENGTH = 50


# --- text ---------------------------------------------------------------------------------------


def _storable(text: str) -> str:
    # PostgreSQL's text cannot hold NUL; a lone surrogate is no Unicode character.
    if "\0" in text:
        raise ValueError("must not contain a NUL character")
    return text


Name = Annotated[str, Field(max_length=255), AfterValidator(_storable)]
"""A short text, up to 255 characters."""

Key = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_storable)]
"""A text that stands in an index: 1 to 255 characters."""

LongText = Annotated[str, Field(max_length=1_000_000), AfterValidator(_storable)]
"""Free text, up to a million characters."""


def folded(text: str) -> str:
    """The text as it is compared where case is ignored, whatever the database's locale."""
    return normalize("NFC", normalize("NFC", text).casefold())


# Files of the same directory that are another zone on each machine, none at all, or count leap seconds.
_NO_TIMEZONE = re.compile(r"localtime|posixrules|Factory|(?:posix|right)/.*")


def _known_timezone(name: str) -> str:
    try:
        if _NO_TIMEZONE.fullmatch(name):
            raise ValueError
        ZoneInfo(_storable(name))
    except (OSError, ValueError, KeyError):  # a directory's name, a path, no such zone
        raise ValueError("must be a timezone of the IANA database, such as Europe/Madrid") from None
    return name


Timezone = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_known_timezone)]
"""A timezone of the IANA database."""


# --- numbers and time ---------------------------------------------------------------------------

Id = Annotated[int, Field(ge=-_INT8 - 1, le=_INT8)]
"""A row's id, or a foreign system's: any 64-bit integer."""

Limit = Annotated[int, Field(ge=1, le=1000)]
"""How many rows a call returns at most."""

Count = Annotated[int, Field(ge=0, le=_INT4)]
"""A 32-bit number that is not negative."""

Milliseconds = Count

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""A span of time, longer than none."""

Integer = Annotated[int, Field(ge=-_INT4 - 1, le=_INT4)]
"""A 32-bit number, for a column `integer`."""

BigInteger = Id
"""A 64-bit number, for a column `bigint`."""

Number = Annotated[float, Field(allow_inf_nan=False)]
"""A number with a fraction, neither infinite nor NaN, for a column `double precision`."""

Confidence = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
"""A probability, 0 to 1."""


FIRST_MOMENT = datetime(2, 1, 1, tzinfo=UTC)
"""The first moment that an argument may be. Timezones and reminders need some room before it."""

LAST_MOMENT = datetime(9997, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)
"""The last moment that an argument may be. `datetime.max` would be stored as infinity."""


def _in_utc(moment: datetime) -> datetime:
    """The moment as a plain datetime in UTC, also of a subclass (of pendulum, freezegun), whose arithmetic differs."""
    try:
        offset = moment.utcoffset() or timedelta()
        # `replace` of a plain one, since freezegun takes the name `datetime` for its own.
        local = FIRST_MOMENT.replace(
            year=moment.year,
            month=moment.month,
            day=moment.day,
            hour=moment.hour,
            minute=moment.minute,
            second=moment.second,
            microsecond=moment.microsecond,
        )
        plain = local - timedelta(days=offset.days, seconds=offset.seconds, microseconds=offset.microseconds)
    except OverflowError:
        plain = None
    if plain is None or not FIRST_MOMENT <= plain <= LAST_MOMENT:
        raise ValueError("must be between the years 2 and 9997 in UTC")
    return plain


Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]
"""A datetime that knows its offset, of the years 2 to 9997; goes on as UTC."""


# --- JSON ---------------------------------------------------------------------------------------

# What a document may hold, so that no call works on one for long: some 10 ms.
_JSON_VALUES, _JSON_CHARACTERS = 50_000, 1_000_000
_NOT_JSON = "must be JSON: text keys, Unicode text, finite numbers, not nested deeply"

# From here on a float is written with an exponent, which the server's exact numbers turn into a whole number.
_EXACT = 1e16


def _check_document(document: object) -> bool:
    """ValueError where the document is too large, no JSON, or has a NUL in a text; it stops looking there.

    Returns whether it has a number that `_with_exact_numbers` is for.
    """
    values, characters, is_large, waiting = 0, 0, False, [document]
    while waiting:
        value = waiting.pop()
        values += 1
        if isinstance(value, int) or value is None:
            continue
        if isinstance(value, float):
            if not isfinite(value):
                raise ValueError(_NOT_JSON)
            is_large = is_large or abs(value) >= _EXACT
            continue
        texts, inner = _parts(value)
        waiting.extend(inner)
        characters += sum(map(len, texts))
        if values + len(waiting) > _JSON_VALUES or characters > _JSON_CHARACTERS:
            raise ValueError(f"must be JSON of up to {_JSON_VALUES} values and {_JSON_CHARACTERS} characters")
        if any("\0" in text for text in texts):
            raise ValueError("must not contain a NUL character")
    return is_large


def _parts(value: object) -> tuple[Collection[str], Collection[object]]:
    """The texts of this value, and the values in it; ValueError where it is none of JSON's."""
    if isinstance(value, str):
        return (value,), ()
    if isinstance(value, list):
        return (), value
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return value, value.values()
    raise ValueError(_NOT_JSON)


def _is_storable_json(value: object, is_container: ValidatorFunctionWrapHandler) -> Any:
    # The place of a fault is not told, since a document's keys are data.
    is_large = _check_document(value)
    try:
        # A copy that the caller cannot change any more, no deeper than a column of a row may be.
        copy = parse(to_json([{"": is_container(value)}]))[0][""]
    except (ValueError, RecursionError):
        raise ValueError(_NOT_JSON) from None
    return _with_exact_numbers(copy) if is_large else copy


def _with_exact_numbers(value: Any) -> Any:
    """The document with each large float as the whole number that it is, so that it comes back equal.

    1e23 is 99999999999999991611392, but its text means 100000000000000000000000, which is no float.
    """
    if isinstance(value, dict):
        return {key: _with_exact_numbers(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_exact_numbers(inner) for inner in value]
    return int(value) if isinstance(value, float) and abs(value) >= _EXACT else value


JsonObject = Annotated[dict[str, Any], WrapValidator(_is_storable_json)]
"""A JSON object of up to 50,000 values and a million characters; its numbers come back equal."""

JsonContainer = Annotated[dict[str, Any] | list[Any], WrapValidator(_is_storable_json)]
"""A JSON object or array of up to 50,000 values and a million characters; its numbers come back equal."""


def split_patch(argument: str, patch: object) -> tuple[dict[str, Any], list[str]]:
    """The keys that a patch sets, and those that it removes by a `None`."""
    if not isinstance(patch, Mapping) or not all(isinstance(key, str) for key in patch):
        raise InvalidArgumentError(argument, "must be a mapping with text keys")
    check(argument, dict(patch), JsonObject)
    kept = {key: value for key, value in patch.items() if value is not None}
    return kept, [key for key, value in patch.items() if value is None]


# --- checking -----------------------------------------------------------------------------------

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def check_tenant(tenant_id: object) -> str:
    """Return the tenant id; `InvalidTenantError` unless it is one."""
    # A subclass of str may compare as it likes, so only str itself will do.
    if type(tenant_id) is not str or not _is_tenant(tenant_id):
        raise InvalidTenantError(
            "tenant_id must be a str of 1 to 50 characters without control characters and without blanks around it"
        )
    return tenant_id


@lru_cache(maxsize=4096)
def _is_tenant(text: str) -> bool:
    return 1 <= len(text) <= _TENANT_LENGTH and text == text.strip() and not _CONTROL.search(text)


def checker(kind: Any) -> Callable[[str, object], Any]:
    """A function `(argument, value)` that returns the value where it is of this type.

    It raises `InvalidArgumentError` otherwise, naming the argument and the place inside it.
    """
    adapter = TypeAdapter(kind)

    def check_value(argument: str, value: object) -> Any:
        try:
            return adapter.validate_python(value, strict=True)
        except ValidationError as error:
            refused = refusal(error, argument)
        raise refused

    return check_value


@lru_cache(maxsize=256)
def _checker(kind: Any) -> Callable[[str, object], Any]:
    return checker(kind)


def check(argument: str, value: object, kind: Any) -> Any:
    """Return `value` where it is of this (hashable) type, else raise `InvalidArgumentError`."""
    return _checker(kind)(argument, value)


def refusal(error: ValidationError, argument: str | None = None) -> InvalidArgumentError:
    """What a failed validation means to the caller; never tells the value.

    It is to be raised outside the `except` block: the validation's own error quotes the value, and would
    come along as the `__context__`.
    """
    first = error.errors(include_url=False, include_context=True, include_input=False)[0]
    path = [part for part in first["loc"] if not (isinstance(part, str) and _is_branch(part))]
    if first["type"] == "invalid_key":  # no name, but a value where a name belongs
        path.pop()
    names = [argument, *path] if argument is not None else path
    place = "".join(f"[{n}]" if isinstance(n, int) else f".{n}" for n in names[1:])
    return InvalidArgumentError(f"{names[0] if names else 'arguments'}{place}", _reason(first))


def _is_branch(part: str) -> bool:
    # A union's branch appears in the location by its type's name.
    return "[" in part or part in {"constrained-int", "dict", "list", "str", "int", "float", "bool", "none"}


def _reason(detail: ErrorDetails) -> str:
    if detail["type"] == "value_error":
        return str(detail.get("ctx", {}).get("error"))
    if detail["type"] == "datetime_object_invalid":  # its message tells what the timezone's code raised
        return "must be a datetime whose timezone works"
    if detail["type"] == "extra_forbidden":
        return "is no argument of this call"
    message = detail["msg"]
    for start in ("Input should ", "Value should ", "String should ", "List should "):
        message = message.removeprefix(start) if message.startswith(start) else message
    if message == detail["msg"]:
        return message[0].lower() + message[1:]
    return f"must {message}"
