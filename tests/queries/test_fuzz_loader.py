"""The loader reads random SQL as PostgreSQL does: its scanner (libpg_query), its grammar, and a live server.

`tools/fuzz.py` runs the same over a million texts and more. What it found once stands here by name.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import psycopg
import pytest
from pglast import parse_sql
from pglast.parser import scan
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGconn

from tests.queries.lexing import DisagreementError, agreed, is_open
from tests.support.fuzzing import constant, gap, sql_text
from thea_store.queries import lexer as tokens
from thea_store.queries.lexer import SqlText
from thea_store.queries.query import Entry, Query, read_queries
from thea_store.store import SQL_FILES
from thea_store.testing import TestDatabase

SEED, TEXTS = 20260309, 10_000
CUT = 400
QUERIES: list[Query[Any]] = [query for file in SQL_FILES for query in file.claimed]


@pytest.fixture(scope="module")
def server(thea_database: TestDatabase) -> Iterator[PGconn]:
    with psycopg.connect(thea_database.app_url, autocommit=True) as connection:
        yield connection.pgconn


def test_random_texts_are_read_as_by_postgresql() -> None:
    random = Random(SEED)
    verdicts = Counter(agreed(sql_text(random)) for _ in range(TEXTS))

    assert verdicts["taken with parameters"] > TEXTS / 10
    assert verdicts["refused"] > TEXTS / 10


@pytest.mark.parametrize(
    "text",
    [
        "E'one'\n'two\\'",
        "e'one' -- and\n'two\\' :a",
        "/* first */ E''\n'\\'",
    ],
)
def test_a_continued_escape_string_without_end_is_refused(text: str) -> None:
    assert is_open(text)
    assert agreed(text) == "refused"


@pytest.mark.parametrize("text", ["1_1E-3.e", "1_000.5_0e1_0.x", ".5_0E+1.x", "0x1E-3.e", "1_a", "1_.5"])
def test_a_number_with_underscores_ends_where_the_server_ends_it(text: str) -> None:
    assert agreed(text) in {"taken", "refused as no SQL"}


# What a tokenizer gets wrong: a part of its pattern, and what stands there instead.
PLANTED = {
    "a backslash escapes nothing": (r"(?:''|\\.)", r"(?:'')"),
    "a backslash escapes everywhere": (r"'[^']*+(?:''[^']*+)*'(?!')", r"'[^'\\]*+(?:(?:''|\\.)[^'\\]*+)*'(?!')"),
    "no string goes on in the next line": (r"[\n\r](?:[ \t\n\r\f]|--", r"\0(?:[ \t\n\r\f]|--"),
    "a string goes on in the same line": (r"--[^\n\r]*+)*[\n\r](?:", r"--[^\n\r]*+)*(?:"),
    "any dollar ends a dollar quote": (r"\$(?P=tag)\$", r"\$"),
    "letters are those of ASCII": (r"{-\x7f]", r"{-\U0010ffff]"),
    "operators swallow comments": ("(?!--|/\\*) ", ""),
    "a comment ends at a line feed alone": (r"--[^\n\r]*+ )", r"--[^\n]*+ )"),
    "a cast is two colons": ("(?P<cast>      :: )", "(?P<cast>      ::: )"),
    "any blank is one": (r"[ \t\n\r\f]*+", r"\s*+"),
}


@pytest.mark.parametrize("part", PLANTED.values(), ids=PLANTED.keys())
def test_a_planted_fault_of_the_tokenizer_is_found(part: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    pattern = tokens._TOKEN.pattern
    assert part[0] in pattern
    monkeypatch.setattr(tokens, "_TOKEN", re.compile(pattern.replace(*part), tokens._TOKEN.flags))

    _assert_found()


def test_comments_that_do_not_nest_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "_COMMENT_EDGE", re.compile(r"^/\*|\*/"))

    _assert_found()


def _assert_found() -> None:
    random = Random(SEED)

    with pytest.raises(DisagreementError):
        for _ in range(TEXTS):
            agreed(sql_text(random))


# --- our own queries, laid out anew -------------------------------------------------------------


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)
def test_a_query_laid_out_anew_means_the_same(query: Query[Any], server: PGconn) -> None:
    """With other blanks, comments and letters: the same tree, and as many parameters on the server."""
    [entry] = _read(_laid_out(query, Random(f"{SEED} {query.name}"))).values()

    assert entry.query.parameters == query.parameters
    assert parse_sql(entry.query.text) == parse_sql(query.text)
    assert _described(server, entry.query.text) == _described(server, query.text)
    assert _described(server, query.text)[0] == len(query.parameters)


def _with_names(query: Query[Any]) -> Iterator[tuple[str, bool]]:
    """The pieces of the statement as its file has it, each with whether it touches the one before."""
    end = 0
    for token in scan(query.text):
        piece = query.text[token.start : token.end + 1]
        if token.name == "PARAM":
            piece = f":{query.parameters[int(piece[1:]) - 1]}"
        if not token.name.endswith("_COMMENT"):
            yield piece.upper() if token.kind != "NO_KEYWORD" else piece, token.start == end
        end = token.end + 1


def _laid_out(query: Query[Any], random: Random) -> str:
    (first, _), *others = _with_names(query)
    return first + "".join(
        piece if touches and random.random() < 0.5 else gap(random) + piece for piece, touches in others
    )


def _read(statement: str) -> dict[str, Entry]:
    exempt = "" if ":tenant_id" in statement else "-- tenant: none, it reads no table.\n"
    return read_queries(SqlText(Path("sql/fuzz.sql"), f"-- name: q\n-- It.\n{exempt}{statement}\n;"), "fuzz")


def _described(server: PGconn, text: str) -> tuple[int, list[bytes | None]]:
    prepared = server.prepare(b"", text.encode())
    assert prepared.status == ExecStatus.COMMAND_OK, prepared.error_message
    described = server.describe_prepared(b"")
    return described.nparams, [described.fname(column) for column in range(described.nfields)]


# --- texts that are cut off ---------------------------------------------------------------------


def test_what_a_live_server_finds_without_end_is_what_the_loader_finds(server: PGconn) -> None:
    random = Random(SEED)
    verdicts: Counter[bool] = Counter()
    for _ in range(CUT):
        whole = "select " + "".join(
            f"{gap(random)}{constant(random)}{gap(random)}," for _ in range(random.randint(1, 3))
        )
        text = whole[: random.randint(len(whole) - 12, len(whole) - 1)]
        complaint = server.prepare(b"", text.encode()).error_message.decode()
        if "escape" not in complaint:  # a fault inside of a string, which the server tells first
            verdicts[is_open(text)] += 1

            assert is_open(text) == ("unterminated" in complaint), (text, complaint)

    assert min(verdicts[True], verdicts[False]) > CUT / 10
