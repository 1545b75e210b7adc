"""Arguments at the edges of what PostgreSQL and JSON can hold: taken as they are, or refused before any I/O."""

from __future__ import annotations

from typing import Any

import pytest

from thea_store import InvalidArgumentError, Store, User
from thea_store.queries.arguments import Count, Integer, JsonObject, Key, Limit, check


def nested(depth: int) -> dict[str, Any]:
    document: dict[str, Any] = {}
    for _ in range(depth - 1):
        document = {"a": document}
    return document


async def test_the_deepest_document_that_is_taken_is_taken_by_every_call(store: Store, tenant: str, user: User) -> None:
    taken = 0
    for depth in range(200, 300):
        document = nested(depth)
        try:
            await store.users.merge_preferences(tenant, user.id, document)
        except InvalidArgumentError as error:
            assert error.argument == "patch"  # noqa: PT017
            with pytest.raises(InvalidArgumentError, match=r"^preferences: .* not nested deeply"):
                await store.users.update(tenant, user.id, preferences=document)
            break
        await store.users.update(tenant, user.id, preferences=document)
        await store.users.create(tenant, telegram_id=depth, preferences=document)
        taken = depth

    assert taken > 200


@pytest.mark.parametrize("name", ["localtime", "posixrules", "Factory", "posix/UTC", "right/Europe/Madrid", "Europe"])
async def test_a_file_that_is_no_timezone_is_refused(store: Store, tenant: str, name: str) -> None:
    with pytest.raises(InvalidArgumentError, match="timezone: must be a timezone of the IANA database"):
        await store.users.create(tenant, telegram_id=1, timezone=name)


@pytest.mark.parametrize("made_up", ["colour\nERROR: all is lost", "colour\x07", "x" * 10_000])
async def test_a_name_that_a_caller_made_up_is_short_and_on_one_line(
    store: Store, tenant: str, user: User, made_up: str
) -> None:
    given: dict[str, Any] = {made_up: "rojo"}
    calls = [
        store.users.update(tenant, user.id, **given),
        store.notes.get_all(tenant, **given),
        store.notes.create_many(tenant, [{"user_id": user.id, "content": "Comprar pan"} | given]),
    ]
    for call in calls:
        with pytest.raises(InvalidArgumentError) as refused:
            await call

        assert made_up in refused.value.argument
        assert str(refused.value).isprintable()
        assert len(str(refused.value)) < 400


@pytest.mark.parametrize(
    ("most", "too_much"),
    [
        ({"n": [0] * 49_998}, {"n": [0] * 49_999}),  # the document and its list are values, too
        ({"t": ["x" * 999] * 1_001}, {"t": ["x" * 999] * 1_001 + ["."]}),
    ],
    ids=["values", "characters"],
)
def test_a_document_may_be_as_large_as_the_bound_says_and_no_larger(most: object, too_much: object) -> None:
    check("document", most, JsonObject)

    with pytest.raises(InvalidArgumentError, match="up to 50000 values and 1000000 characters"):
        check("document", too_much, JsonObject)


@pytest.mark.parametrize(
    ("type_", "least", "most"), [(Integer, -(2**31), 2**31 - 1), (Count, 0, 2**31 - 1), (Limit, 1, 1000)]
)
def test_a_number_may_be_what_its_column_holds_and_no_more(type_: Any, least: int, most: int) -> None:
    check("number", least, type_)
    check("number", most, type_)

    for number in (least - 1, most + 1):
        with pytest.raises(InvalidArgumentError):
            check("number", number, type_)


@pytest.mark.parametrize(
    ("value", "type_", "reason"),
    [
        ("7", Limit, "limit: must be a valid integer"),
        (7, Key, "limit: must be a valid string"),
        (0, Limit, "limit: must be greater than or equal to 1"),
        ({"x": float("nan")}, JsonObject, "limit: must"),
    ],
)
def test_a_refusal_says_what_the_value_must_be(value: object, type_: Any, reason: str) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        check("limit", value, type_)

    assert str(refused.value).startswith(reason)
