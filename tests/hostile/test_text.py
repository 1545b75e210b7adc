"""Hostile texts in every text of every public call: taken as they are, or refused by name before anything is sent.

Which texts those are comes from the calls' signatures. A store that is closed shows what is refused before it would
need a connection. What is taken there must behave like a harmless word on a live one: the same results, with the text
in the word's place.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterable
from datetime import datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest
import pytest_asyncio
from pydantic import BaseModel

from tests.hostile.texts import (
    MARK,
    NOWHERE,
    PLAIN,
    REFUSED,
    SOMEWHERE,
    WORD,
    Place,
    closed_store,
    given,
    named,
    packed,
    places,
    put,
    refusal,
    rows_of,
)
from tests.support.calls import CALLS, Call, Ground, prepare
from tests.support.twins import certify
from thea_store import Store, StoreError
from thea_store.testing import TestDatabase

OTHER_WORD = "uva"
# Rows with all that they may have come first, and what takes rows away last.
ORDER = {"create": 0, "delete": 3, "restore": 4, "purge": 5}
NUMBER = re.compile(r" \d{10}$")
TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\S+$")


@pytest_asyncio.fixture(scope="module")
async def closed() -> Store:
    return await closed_store()


@pytest_asyncio.fixture(scope="module", autouse=True)
async def bystander(thea_store: Store, thea_database: TestDatabase) -> AsyncIterator[None]:
    """Another tenant, whose rows stay as they are through all of this; and the pool stays whole."""
    await prepare(thea_store, "bystander", WORD)
    certify(thea_database.superuser_url, "bystander")
    with psycopg.connect(thea_database.superuser_url, autocommit=True) as superuser:
        before = rows_of(superuser, "bystander")
        yield
        figures = thea_store._database.figures()

        assert all(before[:3])
        assert rows_of(superuser, "bystander") == before
        assert (figures.idle, figures.waiting) == (figures.size, 0)


def text_places(arguments: dict[str, Any], text: str) -> list[Place]:
    """Where the text is tried; the longest are for arguments that have a length, which documents have not."""
    return [place for place in places(arguments) if len(text) < 100_000 or WORD not in place]


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS, ids=str)
async def test_a_strange_type_is_refused_by_name_before_there_is_a_connection(closed: Store, call: Call) -> None:
    arguments = given(call, NOWHERE)
    for name in arguments:
        refused = await refusal(closed, call, {**arguments, name: object()})

        assert refused is not None, name
        assert re.split(r"\W", refused.argument)[0] == name


@pytest.mark.parametrize("call", CALLS, ids=str)
async def test_a_hostile_text_is_taken_or_refused_by_name_before_there_is_a_connection(
    closed: Store, call: Call
) -> None:
    arguments = given(call, NOWHERE)
    assert await refusal(closed, call, arguments) is None
    for name, text in (PLAIN | REFUSED | SOMEWHERE).items():
        for place in text_places(arguments, text):
            refused = await refusal(closed, call, put(arguments, place, text))

            if refused is None:
                assert name not in REFUSED, (place, name)
            else:
                assert name not in PLAIN or await refusal(closed, call, put(arguments, place, OTHER_WORD)), (
                    place,
                    name,
                )
                assert refused.argument.startswith(named(place))
                assert MARK not in str(refused)


# --- what is taken ------------------------------------------------------------------------------

Shape = Any


def shape(value: Any, text: str) -> Shape:
    """The result without what differs between any two tenants, and with an ellipsis for the text."""
    match value:
        case BaseModel():
            return shape(dict(value), text)
        case dict():
            return {shape(key, text): _field(key, inner, text) for key, inner in value.items()}
        case list() | tuple():
            return [shape(inner, text) for inner in value]
        case datetime() | UUID():
            return type(value)
        case str():
            bare = NUMBER.sub("", value)
            return "…" if bare == text else TIME.sub("time", bare)
    return value


def _field(name: str, value: Any, text: str) -> Shape:
    if name in {"tenant_id", "rank", "snippet", "next_cursor"}:
        return None
    is_key = name.endswith("id") and isinstance(value, int)
    return int if is_key else shape(value, text)


async def outcome(call: Call, store: Store, ground: Ground, arguments: dict[str, Any], text: str) -> Shape:
    """What the call gives; of its errors those that have a meaning, which tell nothing."""
    try:
        result = await call.run(store, ground.tenant, arguments)
    except StoreError as error:
        assert type(error) is not StoreError, call  # noqa: PT017 - the error is an outcome
        assert MARK not in str(error), call  # noqa: PT017
        return [type(error), getattr(error, "argument", None)]
    if call.method == "search":  # what words find depends on the words
        return type(result)
    if call.method == "export":  # an entry says of a row what has changed, and a note has its words
        return [(row["table"], row.get("id") is None) for row in result]
    return shape(list(result) if call.method == "lock_sessions" else result, text)


async def outcomes(store: Store, ground: Ground, text: str) -> dict[str, Shape]:
    """What each call gives."""
    calls = sorted(CALLS, key=lambda call: ORDER.get(call.method, 1 + call.writes))
    return {str(call): await outcome(call, store, ground, given(call, ground), text) for call in calls}


@pytest_asyncio.fixture(scope="module")
async def of_a_word(thea_store: Store) -> dict[str, Shape]:
    return await outcomes(thea_store, await prepare(thea_store, "of-a-word", WORD), WORD)


@pytest.mark.parametrize("text", packed().values(), ids=packed())
async def test_a_tenant_whose_rows_are_made_of_a_hostile_text_has_them_like_any_other(
    store: Store, tenant: str, of_a_word: dict[str, Shape], text: str
) -> None:
    found = await outcomes(store, await prepare(store, tenant, text), text)

    for call, expected in of_a_word.items():
        assert found[call] == expected, call


async def taking(closed: Store, call: Call, text: str) -> list[Place]:
    """The places in which the call takes the text."""
    arguments = given(call, NOWHERE)
    return [
        place
        for place in text_places(arguments, text)
        if await refusal(closed, call, put(arguments, place, text)) is None
    ]


async def replaced(call: Call, store: Store, ground: Ground, where: Iterable[Place], text: str) -> Shape:
    """What the call gives with the text in all these places."""
    arguments = given(call, ground)
    for place in where:
        arguments = put(arguments, place, text)
    return await outcome(call, store, ground, arguments, text)


@pytest_asyncio.fixture(scope="module")
async def ground(thea_store: Store) -> Ground:
    ground = await prepare(thea_store, "other-rows", WORD)
    for call in CALLS:
        if call.method == "create":
            await call.run(thea_store, ground.tenant, given(call, ground))
    return ground


@pytest_asyncio.fixture(scope="module")
async def reads(closed: Store, thea_store: Store, ground: Ground) -> list[tuple[Call, list[Place], Shape]]:
    """The reads that are asked for a text, and what they find for a word that no row has."""
    asked = [(call, await taking(closed, call, OTHER_WORD)) for call in CALLS if not call.writes]
    return [
        (call, where, await replaced(call, thea_store, ground, where, OTHER_WORD)) for call, where in asked if where
    ]


@pytest.mark.parametrize("text", PLAIN.values(), ids=PLAIN)
async def test_no_read_takes_a_hostile_text_for_more_than_a_text(
    store: Store, ground: Ground, reads: list[tuple[Call, list[Place], Shape]], text: str
) -> None:
    for call, where, expected in reads:
        assert await replaced(call, store, ground, where, text) == expected, call


@pytest.mark.parametrize("text", SOMEWHERE.values(), ids=SOMEWHERE)
async def test_an_extreme_text_is_what_a_word_is_wherever_it_is_taken(
    store: Store, closed: Store, tenant: str, other_tenant: str, text: str
) -> None:
    extreme, usual = await prepare(store, tenant, WORD), await prepare(store, other_tenant, WORD)
    for call in CALLS:
        if where := await taking(closed, call, text):
            found = await replaced(call, store, extreme, where, text)

            assert found == await replaced(call, store, usual, where, OTHER_WORD), call
