"""Hostile JSON in every document of every public call: it comes back as it was given, or is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
import pytest_asyncio
from pydantic import BaseModel

from tests.hostile.texts import NOWHERE, WORD, Place, closed_store, given, named, places, put, refusal
from tests.support.calls import CALLS, Call, Ground, prepare
from thea_store import Store


def nested(depth: int, *, in_lists: bool = False) -> dict[str, Any]:
    inner: Any = "x"
    for _ in range(depth - 1):
        inner = [inner] if in_lists else {"a": inner}
    return {"a": inner}


def round_it_goes() -> dict[str, Any]:
    document: dict[str, Any] = {}
    document["itself"] = [document]
    return document


TAKEN: dict[str, dict[str, Any]] = {
    "nothing": {},
    "keys that are nearly the same": {"a": 1, "A": 2, "á": 3, "a\u0301": 4, " a": 5, "": 6, "\uff41": 7, "a\u200b": 8},
    "keys with a meaning elsewhere": {"$ref": 1, "__proto__": 2, "a.b": 3, "{a,b}": 4, "0": 5, "-1": 6, "tenant_id": 7},
    "numbers and what looks like them": {"a": [1, 1.0, True, "1", "true", "null", 0, False, "", []]},
    "integers beyond 64 bits": {"a": [2**63, -(2**63) - 1, 2**64 + 1, 10**300, -(10**4000)]},
    "floats at their ends": {"a": [1.7976931348623157e308, 5e-324, 2.2250738585072014e-308, 0.1, -0.0, 1e22, 1e23]},
    "nulls below the first level": {"a": {"b": None}, "c": [None, [None]]},
    "escapes, spelled out": {"\\u0000": "\\u0000 \\\\u0000", '"': "\\", "\b\f": "\u2028😀"},
    "no characters": {"\uffff\ufdd0": "\U0010ffff", "\ue000": "\ue002"},
    "depth": nested(200),
    "depth in lists": nested(200, in_lists=True),
    "many keys": {f"key {number}": number for number in range(10_000)},
    "a long key": {"k" * 100_000: 1},
}
REFUSED: dict[str, Any] = {
    "no number": {"a": float("nan")},
    "endless": {"a": [float("inf")]},
    "endless, the other way": {"a": {"b": float("-inf")}},
    "an integer of too many digits": {"a": 10**5000},
    "a NUL in a key": {"a\0": 1},
    "a NUL": {"a": ["\0"]},
    "half a pair in a key": {"\ud83d": 1},
    "half a pair": {"a": ["\ude00"]},
    "a key that is none": {1: 2},
    "a key that is no text, deep": {"a": [{None: 2}]},
    "bytes": {"a": b"x"},
    "a set": {"a": {1}},
    "an object": {"a": object()},
    "too deep": nested(5_000),
    "too deep in lists": nested(5_000, in_lists=True),
    "a document that holds itself": round_it_goes(),
    "a text": '{"a": 1}',
    "a number": 5,
}


@pytest_asyncio.fixture(scope="module")
async def closed() -> Store:
    return await closed_store()


@pytest_asyncio.fixture(scope="module")
async def ground(thea_store: Store) -> Ground:
    return await prepare(thea_store, "documents", WORD)


def documents(call: Call) -> list[Place]:
    """Where the call takes a document."""
    ends = (place[: place.index(WORD)] for place in places(given(call, NOWHERE)) if WORD in place)
    return list(dict.fromkeys(ends))


TAKING = [call for call in CALLS if documents(call)]


@pytest.mark.parametrize("call", TAKING, ids=str)
async def test_what_is_no_json_is_refused_by_name_before_there_is_a_connection(closed: Store, call: Call) -> None:
    arguments = given(call, NOWHERE)
    for place in documents(call):
        for name, document in REFUSED.items():
            refused = await refusal(closed, call, put(arguments, place, document))

            assert refused is not None, name
            assert refused.argument == named(place)


@pytest.mark.parametrize("call", TAKING, ids=str)
async def test_a_document_comes_back_as_it_was_given(store: Store, ground: Ground, call: Call) -> None:
    for place in documents(call):
        for name, document in TAKEN.items():
            result = await call.run(store, ground.tenant, put(given(call, ground), place, document))

            assert any(holds(found, document) for found in results(result)), name


def results(result: Any) -> list[Any]:
    """The result, or the fields of its record."""
    record = result[0] if isinstance(result, list) else result
    return list(dict(record).values()) if isinstance(record, BaseModel) else [record]


def holds(found: Any, given: dict[str, Any]) -> bool:
    """Whether all that was given is in what was found, which may be merged with what was there."""
    return isinstance(found, dict) and all(key in found and is_same(found[key], value) for key, value in given.items())


def is_same(found: Any, given: Any) -> bool:
    if isinstance(given, dict):
        return isinstance(found, dict) and found.keys() == given.keys() and holds(found, given)
    if isinstance(given, list):
        return isinstance(found, list) and len(found) == len(given) and all(map(is_same, found, given))
    if isinstance(given, float):  # JSON has one kind of number: 1e22 may come back as an integer
        return type(found) in {int, float} and float(found) == given
    return type(found) is type(given) and bool(found == given)
