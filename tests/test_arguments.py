"""The types of arguments: what they take, and what they say of what they do not take."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from thea_store.arguments import (
    Confidence,
    Count,
    Id,
    JsonContainer,
    JsonObject,
    Key,
    Limit,
    LongText,
    Moment,
    Name,
    Timezone,
    check,
    check_tenant,
    split_patch,
)
from thea_store.errors import InvalidArgumentError, InvalidTenantError


class Impostor(str):
    """Claims to be any tenant."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    def __hash__(self) -> int:
        return 0


def nested(depth: int) -> dict[str, Any]:
    value: dict[str, Any] = {}
    for _ in range(depth):
        value = {"a": value}
    return value


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Id, 2**63 - 1),
        (Id, -(2**63)),
        (Limit, 1),
        (Limit, 1000),
        (Count, 0),
        (Confidence, 0),
        (Confidence, 1.0),
        (Name, ""),
        (Name, "ñ" * 255),
        (Key, "x"),
        (LongText, "x" * 1_000_000),
        (Timezone, "Europe/Madrid"),
        (JsonObject, {"a": [1, None, {"b": "\\u0000"}], "": True}),
        (JsonContainer, []),
        (list[Id], [1, 2]),
        (Key | None, None),
    ],
)
def test_what_fits_comes_back_as_it_is(kind: Any, value: Any) -> None:
    assert check("x", value, kind) == value


@pytest.mark.parametrize(
    ("kind", "value", "place"),
    [
        (Id, 2**63, "x"),
        (Id, "1", "x"),
        (Id, 1.0, "x"),
        (Id, True, "x"),
        (Limit, 0, "x"),
        (Limit, 1001, "x"),
        (Count, -1, "x"),
        (Confidence, float("nan"), "x"),
        (Confidence, float("inf"), "x"),
        (Confidence, "0.5", "x"),
        (Name, b"a", "x"),
        (Name, "x" * 256, "x"),
        (Name, "a\0", "x"),
        (Name, "\udfff", "x"),
        (Key, "", "x"),
        (LongText, "x" * 1_000_001, "x"),
        (Timezone, "Europe", "x"),
        (Timezone, "/etc/localtime", "x"),
        (Timezone, "Europe/Madrid\0", "x"),
        (Timezone, "CEST+2", "x"),
        (JsonObject, [], "x"),
        (JsonObject, {"a": float("inf")}, "x"),
        (JsonObject, {"a": {1, 2}}, "x"),
        (JsonObject, {"a": (1,)}, "x"),
        (JsonObject, {"a\0": 1}, "x"),
        (JsonObject, {"a": "\ud800"}, "x"),
        (JsonObject, {None: 1}, "x"),
        (JsonObject, nested(100_000), "x"),
        (JsonContainer, "text", "x"),
        (Moment, datetime(2026, 1, 1), "x"),  # noqa: DTZ001
        (Moment, "2026-01-01T00:00:00Z", "x"),
        (Moment, 1_700_000_000, "x"),
        (Moment, datetime.max.replace(tzinfo=timezone(-timedelta(hours=1))), "x"),
        (Moment, datetime.min.replace(tzinfo=timezone(timedelta(hours=1))), "x"),
        (list[Id], [1, "2"], "x[1]"),
        (list[Id], (1,), "x"),
    ],
)
def test_what_does_not_fit_is_named_by_its_place_and_never_told(kind: Any, value: Any, place: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        check("x", value, kind)

    assert caught.value.argument == place
    assert caught.value.reason
    if isinstance(value, str) and len(value) > 5 and "Europe" not in value:
        assert value[:6] not in str(caught.value)


def test_a_cyclic_document_is_refused() -> None:
    cyclic: dict[str, Any] = {}
    cyclic["a"] = cyclic

    with pytest.raises(InvalidArgumentError):
        check("x", cyclic, JsonObject)


def test_the_keys_of_a_document_are_not_told() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        check("x", {"secret key": {"another": float("nan")}}, JsonObject)

    assert "secret" not in str(caught.value)


def test_a_moment_goes_on_as_utc() -> None:
    lima = timezone(timedelta(hours=-5))
    found = check("x", datetime(2026, 1, 1, 7, tzinfo=lima), Moment)

    assert found == datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert found.tzinfo is UTC


def test_a_text_that_only_claims_to_be_a_tenant_is_none() -> None:
    with pytest.raises(InvalidTenantError):
        check_tenant(Impostor("acme"))


@given(st.text(max_size=60))
def test_a_tenant_is_what_the_database_takes_too(text: str) -> None:
    control = any(ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000 for c in text)
    fits = 1 <= len(text) <= 50 and text == text.strip() and not control

    if fits:
        assert check_tenant(text) == text
    else:
        with pytest.raises(InvalidTenantError):
            check_tenant(text)


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=5), _json, max_size=4))
def test_any_json_without_nul_and_surrogates_fits(document: dict[str, Any]) -> None:
    text = json.dumps(document, ensure_ascii=False)
    storable = "\\u0000" not in text.replace("\\\\", "") and not any(0xD800 <= ord(c) < 0xE000 for c in text)

    if storable:
        assert check("x", document, JsonObject) == document
    else:
        with pytest.raises(InvalidArgumentError):
            check("x", document, JsonObject)


@given(st.dictionaries(st.text(max_size=5), st.none() | st.integers(0, 9)))
def test_a_patch_is_split_into_what_it_sets_and_what_it_removes(patch: dict[str, Any]) -> None:
    storable = {key: value for key, value in patch.items() if "\0" not in key}
    kept, removed = split_patch("patch", storable)

    assert {**kept, **dict.fromkeys(removed)} == storable
    assert None not in kept.values()
