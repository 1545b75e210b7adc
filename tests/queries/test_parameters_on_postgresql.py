"""Random statements mean the same on PostgreSQL with parameters as with their values written out.

Each statement is a list of random fragments and is made twice: as a file would have it, numbered and sent
with values, and with the values in it. A fragment is a list of SQL texts and of names of VALUES.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.profiles import scaled
from thea_store.queries.lexer import SqlText, tokenize
from thea_store.queries.parameters import number_parameters
from thea_store.testing import TestDatabase

Fragment = list[str]

VALUES: dict[str, str | int] = {"text_a": "it's", "text_b": "a :b $1 \\ -- é漢", "one": 1, "two": 2, "three": 3}
NASTY = "':\"\\$-/*;?[]{}()@#%_ab1 \n\té漢\u00a0🙂"

contents = st.text(NASTY, max_size=12)
names = st.sampled_from(["text_a", "text_b"])
numbers = st.sampled_from(["one", "two", "three"])


def quote(text: str, mark: str = "'") -> str:
    return mark + text.replace(mark, mark * 2) + mark


def dollar_quote(tag: str, text: str) -> str:
    end = f"${tag}$"
    return f"{end}{text}{end}" if (text + end).index(end) == len(text) else quote(text)


line_comments = st.text(NASTY.replace("\n", ""), max_size=8).map(lambda text: f"--{text}\n")
block_comments = st.recursive(
    st.text(NASTY.replace("/", ""), max_size=8),
    lambda inner: st.lists(inner, max_size=3).map(lambda parts: "/*" + " ".join(parts) + " */ "),
    max_leaves=4,
).map(lambda text: f"/*{text} */")
blanks = st.sampled_from([" ", "\n", "\t", "\f"])
gaps = st.lists(blanks | line_comments | block_comments, min_size=1, max_size=3).map("".join)
breaks = st.lists(blanks | line_comments, max_size=3).map(lambda parts: "".join(parts) + "\n")

escapes = st.sampled_from(["\\'", "''", "\\\\", "\\n", "\\x41", "\\u00e9", ":a", "\\:", "$$", "--", "é", '"', "\n"])
unicode_escapes = st.sampled_from(["\\0041", "\\+01F600", "\\\\", "''", ":a", "--", "é", '"', "\n"])
constants: st.SearchStrategy[Fragment] = st.one_of(
    contents.map(quote),
    contents.map(lambda text: f"N{quote(text)}::text"),
    st.lists(escapes, max_size=6).map(lambda parts: f"E'{''.join(parts)}'"),
    st.lists(unicode_escapes, max_size=6).map(lambda parts: f"U&'{''.join(parts)}'"),
    st.builds(dollar_quote, st.sampled_from(["", "a", "_b1", "é"]), contents),
    st.builds(lambda first, gap, second: f"{quote(first)}{gap}{quote(second)}", contents, breaks, contents),
    st.builds(lambda first, gap, second: f"E'{first}'{gap}'{second}'", escapes, breaks, escapes),
    st.sampled_from(["B'01'::text", "x'1F'::text", "U&'d!0061' uescape '!'", "1.5e-1::text", ".5::text"]),
).map(lambda text: [text])

identifiers = st.one_of(
    st.text(NASTY, min_size=1, max_size=12).map(lambda text: quote(text, '"')),
    st.sampled_from(["a$b$c", "año", "e", "u", "n", "x", "_1", 'U&"d\\0061"', "no\u00a0break", "text_a", "one"]),
)
named: st.SearchStrategy[Fragment] = st.builds(
    lambda identifier, name: [f"(select {identifier} from (select ", name, f"::text as {identifier}) as t)"],
    identifiers,
    names,
)

SLICES = ["1:2", ":2", "2:", ":", "1:up", "lo:up", "lo: up", ": up", "b[1]:up", "(lo):up", "1::int", "lo:-1+up"]
SUBSCRIPTS: list[Fragment] = [
    *([text] for text in SLICES),
    *(["1: ", "two"], [": ", "three"], ["(", "one", ")"], ["(", "one", "):up"], ["lo + ", "one"]),
    *(["lo:(", "two", ")"], ["-", "one", ":up"], ["lo:-", "one", "+up"], ["b[lo]: ", "three"]),
    *([": array_length(array[", "one", ", ", "two", "], 1)"], ["(case when ", "one", " = 1 then 2 end):up"]),
]
sliced: st.SearchStrategy[Fragment] = st.sampled_from(SUBSCRIPTS).map(
    lambda parts: [
        "(select a[",
        *parts,
        "] from (select array['a', 'b', 'c', 'd'] as a, array[2] as b, 1 as lo, 3 as up) as t)::text",
    ]
)

JSON = """'{"it''s": 1, "a": {"b": [1, 2]}}'::jsonb"""
JSON_TESTS = ["@? '$.a.b[*] ? (@ > 1)'", "@> '{\"a\": {}}'", "->> 'a'", "#>'{a,b}'", "@@ '$.a.b[0] == 1'"]
expressions: st.SearchStrategy[Fragment] = st.one_of(
    names.map(lambda name: [name, "::text"]),
    names.map(lambda name: ["cast(", name, " as text)"]),
    names.map(lambda name: [f"({JSON} ? ", name, ")::text"]),
    names.map(lambda name: [f"({JSON} ?| array[", name, ", ':a'])::text"]),
    names.map(lambda name: [f"({JSON} ?& array['a',", name, "])::text"]),
    names.map(lambda name: [f"({JSON} #>> array['a', ", name, "])::text"]),
    st.sampled_from(JSON_TESTS).map(lambda test: [f"({JSON}{test})::text"]),
    st.sampled_from([" => ", ":= ", "=>"]).map(lambda arrow: ["make_interval(days", arrow, "two", ")::text"]),
    st.builds(lambda operator, number: [f"(1{operator}", number, ")::text"], st.sampled_from("+-*<"), numbers),
    st.builds(lambda one, other: ["array[[", one, ",", other, "],[1,2]]::text"], numbers, numbers),
    numbers.map(lambda number: ["(case when ", number, " > 1 then 'x' else ':y' end)"]),
)
statements = st.lists(st.tuples(gaps, constants | named | sliced | expressions, gaps), min_size=1, max_size=8)


def as_parameter(part: str) -> str:
    return f":{part}" if part in VALUES else part


def as_value(part: str) -> str:
    value = VALUES.get(part, part)
    return quote(str(value)) if part in VALUES and isinstance(value, str) else str(value)


@pytest.fixture(scope="module")
def connection(thea_database: TestDatabase) -> Iterator[psycopg.Connection]:
    with psycopg.connect(thea_database.superuser_url, autocommit=True) as connection:
        yield connection


@pytest.mark.slow
@given(statement=statements)
@settings(max_examples=scaled(300))
def test_what_is_sent_means_what_the_file_says(
    connection: psycopg.Connection, statement: list[tuple[str, Fragment, str]]
) -> None:
    def text(spell: Callable[[str], str]) -> str:
        return "select" + ",".join(before + "".join(map(spell, parts)) + after for before, parts, after in statement)

    file = SqlText(Path("sql/notes.sql"), text(as_parameter))
    tokens = [token for token in tokenize(file) if token.lastgroup not in {"comment", "blanks"}]
    sent, parameters = number_parameters(file, tokens)
    cursor = psycopg.RawCursor(connection)
    expected = cursor.execute(text(as_value).encode()).fetchall()
    found = cursor.execute(sent.encode(), [VALUES[name] for name in parameters]).fetchall()

    assert found == expected


# Only PostgreSQL 16 and newer has these.
_keys: st.SearchStrategy[Fragment] = st.one_of(
    st.sampled_from(["'k'", "k", "t.k", "value", "lower(k)", "(k || '::')"]).map(lambda key: [key]),
    st.just(["('k' || ", "text_a", ")"]),
    st.just(["case when ", "one", " = 1 then 'k' end"]),
)
_members: st.SearchStrategy[Fragment] = st.builds(
    lambda key, colon, value: [*key, *colon, *value],
    _keys,
    st.sampled_from([[":"], [" : "], [": "], [" value "]]),
    st.one_of(
        st.sampled_from([["t.v"], ["'x'"], ["-1"], ["(", "one", ")"], ["a[1:2]"], ["json_object(k :v)"]]),
        names.map(lambda name: ["cast(", name, " as text)"]),
    ),
)


@given(members=st.lists(_members, min_size=1, max_size=4))
def test_the_keys_of_json_object_are_told_from_parameters(
    connection: psycopg.Connection, members: list[Fragment]
) -> None:
    if connection.info.server_version < 160_000:
        pytest.skip("json_object has no colons there")

    def text(spell: Callable[[str], str]) -> str:
        inner = ", ".join("".join(map(spell, parts)) for parts in members)
        return f"select json_object({inner})::text from (select 'k' as k, 'v' as v, 'x' as value, array[1] as a) as t"

    file = SqlText(Path("sql/notes.sql"), text(as_parameter))
    tokens = [token for token in tokenize(file) if token.lastgroup not in {"comment", "blanks"}]
    sent, parameters = number_parameters(file, tokens)
    cursor = psycopg.RawCursor(connection)

    expected = cursor.execute(text(as_value).encode()).fetchall()
    assert cursor.execute(sent.encode(), [VALUES[name] for name in parameters]).fetchall() == expected
