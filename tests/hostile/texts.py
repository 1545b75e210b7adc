"""Texts and documents that break careless code, and the places of a call's arguments where a text may stand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any

import psycopg

from tests.support.calls import REPOSITORIES, Call, Ground
from thea_store import InvalidArgumentError, Settings, Store, StoreError
from thea_store.database import Database

MARK = "zq7"
"""In each text that is long enough: what no error may tell."""

# fmt: off
PARTS: dict[str, str] = {
    "a quote": f"{MARK}' or ''='",
    "a statement": f"{MARK}'; drop table thea.users; --",
    "comments": f"{MARK} /* -- */ -- */ /*",
    "parameters": f"$1 $$ $a$ {MARK} :tenant_id :a %s %(a)s %% ?",
    "templates": f"{{}} {{0.__class__}} ${{{MARK}}} {{{{ 7*7 }}}} %n",
    "an escaped NUL, spelled out": f"\\u0000 \\\\u0000 \\x00 %00 {MARK} &#0;",
    "double quotes": f'"{MARK}" "" \'""\' `',
    "line breaks": f"{MARK}\r\n\n\r\t\v\fx\u2028\u2029\x85x",
    "controls": f"\x01\x02\x1b[31m\x7f\x80\x85{MARK}\x1f",
    "right to left": f"\u202e{MARK}\u202c \u200f\u05e9\u05dc\u2066",
    "combining characters": f"z\u0301\u0301{MARK}" + "\u0336" * 50 + " e\u0301 é",
    "emoji": f"👩‍👩‍👧‍👦🏳️‍🌈🇪🇸👍🏽{MARK}",
    "no characters": f"\uffff\ufffe\ufdd0{MARK}\U0001ffff\U0010ffff",
    "private use": f"\ue000{MARK}\ue001 \ue002\uf8ff\U000f0000",
    "letters without a way back": f"İıẞßſﬁǅΣς{MARK}",
    "text search": f"{MARK} & | ! <-> :* ( ) 'a':1A <2> a<->",
    "web search": f'"{MARK} -or- or or -" -- "" -"{MARK}',
    "markup": f"<b>{MARK}</b> <script> &lt; <",
    "an address": f"http://{MARK}.example/a-b_c?d=e@f.g#h mailto:a@b.c",
    "wildcards": f"%_{MARK}\\%",
    "backslashes": f"\\' \\\\ \\n \\x27 \\u0041 {MARK} \\",
}
WHOLE: dict[str, str] = {
    "blanks around it": f" \u00a0{MARK}\u3000 ",
    "nothing to be seen": "\u200b\u200d\u2060\ufeff\u180e",
    "letters of four bytes": "𐐀" * 240,
    "a long word": "x" * 240,
    "any text, to like": "%",
    "any character, to like": "_",
    "a backslash": "\\",
    "a document": f'{{"{MARK}": [1, null]}}',
    "an array": '{"a",NULL}',
    "no value": "null",
    "no value, in SQL": "NULL",
    "endless": "infinity",
    "a large number": "1e400",
    "a time": "2026-01-01T00:00:00Z",
}
PLAIN = PARTS | WHOLE
"""What every text argument takes, and gives back as it is; some must stand alone for what they are."""

REFUSED: dict[str, str] = {
    "a NUL": f"{MARK}\0{MARK}",
    "a NUL alone": "\0",
    "half a pair": f"{MARK}\ud83d",
    "the other half": f"\ude00{MARK}",
    "a pair the wrong way round": f"\ude00\ud83d{MARK}",
    "longer than any": f"{MARK} " * 250_001,
}
"""What no text argument takes; documents have no length."""

SOMEWHERE: dict[str, str] = {
    "nothing": "",
    "blanks": " \t\n\u00a0\u3000\u2028",
    "more than any word of an index": "𐐀" * 4000,
    "many words": " ".join(f"{MARK}{number:x}ñ" for number in range(6_000)),
    "nothing but signs": "-" * 30_000,
    "the longest": ("ab " * 333_334)[:1_000_000],
}
"""What some arguments take, and give back as it is."""
# fmt: on

Place = tuple[Any, ...]
"""The way to a text: names, keys and indices, and a `Key` at the end for a key itself."""


class Key(str):
    """A key, instead of what it leads to."""

    __slots__ = ()


def places(value: object, path: Place = ()) -> Iterator[Place]:
    """Where texts stand: as values, in lists, in documents at any depth, and as keys of these; the inner ones first."""
    if isinstance(value, str):
        yield path
    elif isinstance(value, dict):
        is_document = bool(path) and not isinstance(path[-1], int)  # and no row, whose keys are names of arguments
        for key, inner in value.items():
            yield from places(inner, (*path, key))
        yield from ((*path, Key(key)) for key in value if is_document)
    elif isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            yield from places(inner, (*path, index))


def put(value: Any, place: Place, text: object) -> Any:
    """The same arguments with this text in this place."""
    if not place:
        return text
    first, rest = place[0], place[1:]
    if isinstance(value, (list, tuple)):
        return [put(inner, rest, text) if index == first else inner for index, inner in enumerate(value)]
    if isinstance(first, Key):
        return {(text if key == first else key): inner for key, inner in value.items()}
    return {key: put(inner, rest, text) if key == first else inner for key, inner in value.items()}


def deepened(value: Any, text: str) -> Any:
    """The arguments with a document of some depth in place of each flat one."""
    if value == {text: text}:
        return {text: {text: [text, 0, {text: None}]}}
    if isinstance(value, dict):
        return {key: deepened(inner, text) for key, inner in value.items()}
    return [deepened(inner, text) for inner in value] if isinstance(value, list) else value


def packed() -> dict[str, str]:
    """The same in fewer texts: as many of the parts in each as an argument takes."""
    packs = [""]
    for part in PARTS.values():
        if len(packs[-1]) + len(part) > 240:
            packs.append("")
        packs[-1] += part
    return {f"pack {number}": pack for number, pack in enumerate(packs)} | WHOLE


# --- calls --------------------------------------------------------------------------------------

WORD = "pan"
NOWHERE = Ground("acme", WORD, 5, dict.fromkeys(REPOSITORIES, 1), dict.fromkeys(REPOSITORIES, 2))


async def closed_store() -> Store:
    """A store that has no connection to give."""
    settings = Settings(url="postgresql://nobody@127.0.0.1:1/none")
    database = Database(settings)
    await database.close(patience=10)
    return Store(database, settings, AsyncExitStack())


async def refusal(closed: Store, call: Call, arguments: dict[str, Any]) -> InvalidArgumentError | None:
    """Why the call stops before it asks for a connection; None where it does ask."""
    try:
        await call.run(closed, NOWHERE.tenant, arguments)
    except InvalidArgumentError as error:
        return error
    except StoreError as error:
        assert str(error) == "the store is closed"  # noqa: PT017 - what the caller asks
        return None
    raise AssertionError("it needed no connection")


def given(call: Call, ground: Ground) -> dict[str, Any]:
    """Arguments with documents of some depth."""
    arguments: dict[str, Any] = deepened(call.arguments(ground), ground.text)
    return arguments


def named(place: Place) -> str:
    """What an error calls the argument: `title`, or in rows `rows[0].title`."""
    return f"{place[0]}[{place[1]}].{place[2]}" if len(place) > 2 and isinstance(place[1], int) else str(place[0])


def rows_of(superuser: psycopg.Connection[Any], tenant: str) -> list[Any]:
    """All that a tenant has, in every table that has tenants."""
    tables = superuser.execute(
        "select a.attrelid::regclass::text from pg_attribute a join pg_class c on c.oid = a.attrelid"
        " where a.attname = 'tenant_id' and c.relkind in ('r', 'p') and c.relnamespace = 'thea'::regnamespace"
    ).fetchall()
    return [
        superuser.execute(f"select t::text from {table} t where tenant_id = %s order by 1", [tenant]).fetchall()
        for (table,) in sorted(tables)
    ]
