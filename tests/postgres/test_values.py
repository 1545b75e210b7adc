"""Ranges are equal where the server's are, and say what is wrong with them before anything is sent."""

from __future__ import annotations

import pickle
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Annotated, Any

import pytest
from pydantic import TypeAdapter

from thea_store import InvalidArgumentError, Range, Vector
from thea_store.postgres.types import fits, remedy

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
DAY = date(2026, 3, 2)


@pytest.mark.parametrize(
    ("one", "same"),
    [
        (Range(1, 4, "[]"), Range(1, 5)),
        (Range(0, 5, "()"), Range(1, 5)),
        (Range(DAY, DAY, "[]"), Range(DAY, DAY + timedelta(days=1))),
        (Range(3, 3), Range[int](empty=True)),
        (Range(None, 5), Range(None, 5, "()")),
        (Range[int](None, None, "[]"), Range[int]()),
        # What the driver takes for no end and no beginning.
        (Range(DAY, date.max, "[]"), Range(DAY, None)),
        (Range(date.min, DAY, "()"), Range(None, DAY)),
    ],
)
def test_equal_ranges_are_equal_however_they_are_written(one: Range[Any], same: Range[Any]) -> None:
    assert one == same
    assert hash(one) == hash(same)
    assert pickle.loads(pickle.dumps(one)) == same


def test_the_bounds_of_moments_and_decimals_stay_as_they_are() -> None:
    later = NOON + timedelta(hours=1)

    assert Range(NOON, later, "(]") != Range(NOON, later)
    assert str(Range(NOON, later, "(]")) == "(2026-03-02T12:00:00+00:00,2026-03-02T13:00:00+00:00]"
    assert str(Range(Decimal("1.5"), None)) == "[1.5,)"
    assert str(Range[int](empty=True)) == "empty"


@pytest.mark.parametrize(
    ("lower", "upper", "bounds", "complaint"),
    [
        (5, 1, "[)", "the lower one must not be above"),
        (NOON, NOON.replace(tzinfo=None), "[)", "must know its offset"),
        (NOON.replace(tzinfo=None), None, "[)", "must know its offset"),
        (Decimal("NaN"), None, "[)", "must be numbers"),
        (Decimal("sNaN"), Decimal(1), "[)", "can be compared"),
        (1, DAY, "[)", "of one type"),
        (1, 2, "][", "must be one of"),
    ],
)
def test_what_can_be_no_range_is_told(lower: Any, upper: Any, bounds: Any, complaint: str) -> None:
    with pytest.raises(InvalidArgumentError, match=complaint):
        Range(lower, upper, bounds)


def test_a_range_cannot_be_changed() -> None:
    with pytest.raises(AttributeError, match="make another one"):
        Range(1, 2).lower = 0
    with pytest.raises(AttributeError, match="make another one"):
        del Range(1, 2).lower


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Range[int], Range(1, 5)),
        (Range[int], Range[int]()),
        (Range[int], Range[int](empty=True)),
        (Range[Decimal], Range(Decimal("-1.50"), Decimal("1E+3"), "(]")),
        (Range[date], Range(None, DAY)),
        (Range[datetime], Range(NOON, None, "()")),
    ],
)
def test_a_record_with_a_range_goes_through_json_and_has_a_schema(kind: Any, value: Range[Any]) -> None:
    adapter = TypeAdapter(kind)

    assert adapter.validate_json(adapter.dump_json(value)) == value
    assert adapter.json_schema()["type"] == "string"


@pytest.mark.parametrize("text", ["[1,5", "[a,5)", "[1,5,6)", "1,5", ""])
def test_what_is_no_range_in_json_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        TypeAdapter(Range[int]).validate_python(text)
    with pytest.raises(ValueError, match="instance of Range"):  # an argument is never a text
        TypeAdapter(Range[int]).validate_python("[1,5)", strict=True)


def test_a_vector_has_its_number_of_finite_numbers() -> None:
    vector = TypeAdapter(Annotated[list[float], Vector(2)])

    assert vector.validate_python("[1,2.5]") == [1.0, 2.5]
    for given in ("[1,2]", [1.0], [1.0, float("nan")], [1.0, 1e39]):
        with pytest.raises(ValueError, match=r"."):
            vector.validate_python(given, strict=True)
    for dimensions in (0, 16_001, "3", True):
        with pytest.raises(InvalidArgumentError, match="1 to 16000"):
            Vector(dimensions)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("type_", "annotation", "dimensions", "it_fits"),
    [
        ("int4range", Range[int] | None, None, True),
        ("tstzrange", Range[datetime], None, True),
        ("tstzrange", Range[date], None, False),
        ("tstzrange", datetime, None, False),
        ("vector", Annotated[list[float], Vector(3)] | None, 3, True),
        ("vector", Annotated[list[float], Vector(3)], 4, False),
        ("vector", Annotated[list[float], Vector(3)], None, True),
        ("vector", list[float], 3, False),
        ("double precision[]", Annotated[list[float], Vector(3)], None, False),
    ],
)
def test_a_type_fits_its_own_annotation_alone(
    type_: str, annotation: Any, dimensions: int | None, it_fits: bool
) -> None:
    assert fits(type_, annotation, dimensions) is it_fits


@pytest.mark.parametrize(
    ("sqlstate", "message", "is_told"),
    [
        ("42704", 'type "public.vector" does not exist', True),
        ("42704", "Typ »vector« existiert nicht", True),
        ("42704", "le type « vector » n'existe pas", True),
        ("42501", 'permission denied to create extension "vector"', True),
        ("58P01", 'could not open extension control file "/usr/share/extension/vector.control"', True),
        ("42501", "permission denied for table vector", False),
        ("42704", 'index "vectors_idx" does not exist', False),
        ("42P01", 'relation "vector" does not exist', False),
    ],
)
def test_a_lacking_extension_is_told_from_a_table_of_its_name(sqlstate: str, message: str, *, is_told: bool) -> None:
    assert (remedy(sqlstate, message) is not None) is is_told
