"""Records that are put together from validated columns are those that Pydantic makes of each row."""

from __future__ import annotations

import pickle
from copy import copy, deepcopy
from datetime import UTC, datetime
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    RootModel,
    field_validator,
    model_validator,
)

from thea_store import AuditEntry, Conversation, Event, Message, Note, User
from thea_store.queries.by_column import maker

VALUES: dict[Any, list[object]] = {
    str: ["", "pan", "ñ"],
    int: [0, 2**40],
    float: [1.5, 2],  # a whole number becomes one with a point
    bool: [True, False],
    datetime: [datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 2, tzinfo=ZoneInfo("Europe/Madrid"))],
    type(None): [None],
    dict: [{}, {"a": [1, None]}],
    list: [[]],
    UUID: [UUID(int=7)],
    Any: [None, 1, {"a": 1}],
}


def values_of(annotation: Any) -> list[object]:
    """Some that the annotation takes."""
    kind, inner = get_origin(annotation), get_args(annotation)
    if kind in {Union, UnionType}:
        return [value for each in inner for value in values_of(each)]
    if kind is Literal:
        return list(inner)
    if kind is list:
        return [[], [value for value in values_of(inner[0]) if value is not None]]
    return VALUES[kind or annotation]


@pytest.mark.parametrize("record", [User, Event, Note, Conversation, Message, AuditEntry])
def test_they_are_the_same(record: type[BaseModel]) -> None:
    names = sorted(record.model_fields)  # not in their own order
    values = [values_of(record.model_fields[name].annotation) for name in names]
    rows = [tuple(each[(number + place) % len(each)] for place, each in enumerate(values)) for number in range(12)]
    expected = [record.model_validate(dict(zip(names, row, strict=True))) for row in rows]

    made = maker(record, tuple(names))([(*row, "a column behind them") for row in rows])

    assert made == expected
    assert [look(one) for one in made] == [look(one) for one in expected]


def look(one: BaseModel) -> list[Any]:
    """All that one can see of a record."""
    changed = one.model_copy(update=dict.fromkeys(list(type(one).model_fields)[:1], 7))
    forms = [one, copy(one), deepcopy(one), pickle.loads(pickle.dumps(one)), changed]
    return [
        [repr(form), list(form.__dict__.items()), form.model_fields_set, form.model_extra, form.__pydantic_private__]
        for form in forms
    ] + [one.model_dump(), one.model_dump(exclude_unset=True), type(one.model_fields_set)]


def test_each_has_what_was_given_for_itself() -> None:
    class Row(BaseModel):
        a: int

    first, second = maker(Row, ("a",))([(1,), (2,)]) or []
    first.a = 3
    first.model_fields_set.clear()

    assert (second.a, second.model_fields_set) == (2, {"a"})


def test_a_value_that_does_not_fit_is_left_to_pydantic() -> None:
    class Row(BaseModel):
        a: int
        b: str | None

    make = maker(Row, ("a", "b"))

    assert make([(1, "x"), (2, None)]) is not None
    assert make([(1, "x"), (None, "y")]) is None
    assert make([(1, "x"), (2, 3)]) is None


class _Validated(BaseModel):
    a: int

    @field_validator("a")
    @classmethod
    def _check(cls, value: int) -> int:
        return value + 1


class _ValidatedWhole(BaseModel):
    a: int

    @model_validator(mode="after")
    def _check(self) -> _ValidatedWhole:
        return self


class _ValidatedBefore(BaseModel):
    a: int

    @model_validator(mode="before")
    @classmethod
    def _check(cls, values: Any) -> Any:
        return values


class _WithAlias(BaseModel):
    a: int = Field(validation_alias="b")


class _WithMore(BaseModel):
    model_config = ConfigDict(extra="allow")

    a: int


class _WithPrivate(BaseModel):
    a: int
    _b: int = PrivateAttr(default=1)


class _WithInit(BaseModel):
    a: int

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)


class _WithPostInit(BaseModel):
    a: int

    def model_post_init(self, context: object) -> None:
        pass


class _Root(RootModel[int]):
    pass


SPECIAL = [_Validated, _ValidatedWhole, _ValidatedBefore, _WithAlias, _WithMore, _WithPrivate, _WithInit, _WithPostInit]


@pytest.mark.parametrize("record", [*SPECIAL, _Root], ids=lambda record: record.__name__)
def test_a_class_that_does_more_is_left_to_pydantic(record: type[BaseModel]) -> None:
    assert maker(record, tuple(record.model_fields))([(1,), (2,)]) is None


def test_rows_with_other_columns_than_the_record_are_left_to_pydantic() -> None:
    class Row(BaseModel):
        a: int
        b: int = 1

    assert maker(Row, ("a",))([(1,)]) is None
    assert maker(Row, ("a", "b", "c"))([(1, 2, 3)]) is None
