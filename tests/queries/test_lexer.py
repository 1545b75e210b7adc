"""The tokenizer against examples of the manual's chapter 4.1, arbitrary text, and PostgreSQL's own scanner."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.support.profiles import scaled
from thea_store.errors import QueryFileError
from thea_store.queries.lexer import SqlText, Token, spelling, tokenize

PATH = Path("sql/notes.sql")

# Pieces that begin, end or continue something, so that random texts are often nearly SQL.
PIECES = [
    *"'\"\\$:/*-+=<@#?|[](),;. \t\n\r\f",
    *("''", "\\'", "E'", "e'", "B'", "x'", "N'", "U&'", 'u&"', '""', "u&", "$$", "$a$", "$b$", "$a", "$1", "a$b$c"),
    *("--", "/*", "*/", "::", ":=", ":a", ":e", "a", "e", "x", "é", "漢", "\u00a0", "\v", "1", "12", "1.5", "1e5"),
]
texts = st.lists(st.sampled_from(PIECES), max_size=20).map("".join)


def tokens_of(text: str) -> list[Token]:
    return list(tokenize(SqlText(PATH, text)))


def kinds_of(text: str) -> list[tuple[str | None, str]]:
    return [(token.lastgroup, spelling(token)) for token in tokens_of(text) if token.lastgroup != "blanks"]


@pytest.mark.parametrize(
    "text",
    [
        "''",
        "'it''s :not a parameter'",
        "'a backslash is nothing special \\'",
        "'ends in a quote'''",
        "'many\nlines'",
        "'one' \n 'string'",
        "'one' -- with a comment :x '\n  -- and another\n\n'string'",
        "'one'\r'string'",
        "E'it\\'s :not'",
        "e'a backslash \\\\'",
        "E'\\'' \n '\\''",
        "E'doubled '' too'",
        "E'continued \\\n:x'",
        "U&'d\\0061t\\+000061 :x'",
        "u&'\\'",
        "B'0101'",
        "x'1F'",
        "N'national'",
        "$$it's $1 :x $a$ $$",
        "$a$ $$ $b$ $ $a$",
        "$añ_1$ 'x $añ_1$",
        "$a$ $b$a$",
        "$$ $a$$",
    ],
)
def test_a_string_is_one_token(text: str) -> None:
    assert kinds_of(text) == [("string", text)]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("'two' 'strings'", ["'two'", "'strings'"]),
        ("'two' /* no\ncontinuation */ 'strings'", ["'two'", "/* no\ncontinuation */", "'strings'"]),
        ("'a\\'d'c'", ["'a\\'", "d", "'c'"]),
        ("foo_e'x'", ["foo_e", "'x'"]),
        ("'a'b'1'", ["'a'", "b'1'"]),
        ("a$b$c$b$", ["a$b$c$b$"]),
    ],
)
def test_strings_end_where_the_server_ends_them(text: str, parts: list[str]) -> None:
    assert [spelled for _, spelled in kinds_of(text)] == parts


@pytest.mark.parametrize("text", ['"a :b"', '"a "" ; b"', 'U&"d\\0061"', 'u&"x"', '"it\'s"'])
def test_a_quoted_identifier_is_one_token(text: str) -> None:
    assert kinds_of(text) == [("quoted", text)]


@pytest.mark.parametrize("text", ["a", "_a1", "a$b$c", "año", "漢字", "e", "u", "select", "no\u00a0break"])
def test_an_identifier_is_one_word(text: str) -> None:
    assert kinds_of(text) == [("word", text)]


@pytest.mark.parametrize("text", ["-- :a '", "/* :a */", "/* a /* ' */ b */", "/***/", "/*/*/**/*/*/", "/*\n--\n*/"])
def test_a_comment_is_one_token(text: str) -> None:
    assert kinds_of(text + "\nx") == [("comment", text), ("word", "x")]


@pytest.mark.parametrize("text", ["1", "1.5", ".5", "1.", "1e5", "1.5e-3", "1_000", "0x1F"])
def test_a_number_is_one_token(text: str) -> None:
    assert kinds_of(text) == [("number", text)]


@pytest.mark.parametrize("text", ["@>", "?", "?|", "?&", "@?", "#>>", "->>", "||", "=>", "<>", "~*", "@@", "&&"])
def test_an_operator_is_one_token(text: str) -> None:
    assert kinds_of(f"a{text}b") == [("word", "a"), ("operator", text), ("word", "b")]


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        (":user_id", ["parameter"]),
        ("x::text", ["word", "cast", "word"]),
        ("x:=1", ["word", "symbol", "number"]),
        ("[1:2]", ["bracket", "number", "colon", "number", "bracket"]),
        (":e'x'", ["colon", "string"]),
        (":u&'x'", ["colon", "string"]),
        (":n'x'", ["colon", "string"]),
        ("1..2", ["number", "symbol", "number"]),
        ("a.b;", ["word", "symbol", "word", "semicolon"]),
        ("+/*c*/-", ["operator", "comment", "operator"]),
        ("+--c", ["operator", "comment"]),
        ("1$$x$$", ["number", "string"]),
    ],
)
def test_neighbours_are_told_apart(text: str, kinds: list[str]) -> None:
    assert [token.lastgroup for token in tokens_of(text)] == kinds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\n'b", "sql/notes.sql:2: the string that starts with `'` has no end: close it with `'`"),
        ("'a''", "sql/notes.sql:1: the string that starts with `'` has no end: close it with `'`"),
        ("\n\nE'a\\'", "sql/notes.sql:3: the string that starts with `E'` has no end: close it with `'`"),
        ('"a', 'sql/notes.sql:1: the quoted identifier that starts with `"` has no end: close it with `"`'),
        ("\n$a$ b $A$", "sql/notes.sql:2: the string that starts with `$a$` has no end: close it with `$a$`"),
        ("\n/* /* */\n", "sql/notes.sql:2: this comment has no end: every `/*` needs its `*/`"),
        ("a =\n$1", "sql/notes.sql:2: `$1` is a positional parameter: give it a name, as in `:user_id`"),
        ("a $ b", "sql/notes.sql:1: '$' is no part of SQL here: remove it"),
        ("\\d notes", "sql/notes.sql:1: '\\\\' is no part of SQL here: remove it"),
        ("a\v", "sql/notes.sql:1: '\\x0b' is no part of SQL here: remove it"),
    ],
)
def test_what_the_server_could_not_read_is_an_error_with_its_line(text: str, message: str) -> None:
    with pytest.raises(QueryFileError) as caught:
        tokens_of(text)

    assert str(caught.value) == message


@given(texts | st.text())
@example("/**/ /*/**/*/")
def test_the_tokens_of_any_text_add_up_to_it(text: str) -> None:
    try:
        tokens = tokens_of(text)
    except QueryFileError:
        return

    assert "".join(token[0] for token in tokens) == text


@given(texts)
@settings(max_examples=scaled(1000))
def test_strings_comments_and_names_are_where_postgresql_finds_them(text: str) -> None:
    """Against libpg_query, the server's own scanner; where both can read the text."""
    parser = pytest.importorskip("pglast.parser")
    try:
        ours = _spans_of_ours(text)
        theirs = _spans_of_theirs(text, parser)
    except (QueryFileError, parser.ParseError):
        return

    assert ours == theirs


Spans = list[tuple[str, int, int]]


def _spans_of_ours(text: str) -> Spans:
    spans: Spans = []
    for token in tokens_of(text):
        start, end = token.start(), token.start() + len(spelling(token))
        if token.lastgroup == "parameter":
            spans += [("other", start, start + 1), ("name", start + 1, end)]
        elif token.lastgroup in {"string", "comment"}:
            spans.append((token.lastgroup, start, end))
        elif token.lastgroup != "blanks":
            spans.append(("name" if token.lastgroup in {"word", "quoted"} else "other", start, end))
    return _joined(spans)


def _spans_of_theirs(text: str, parser: ModuleType) -> Spans:
    spans: Spans = []
    for token in parser.scan(text):
        is_national = token.name == "NCHAR" and text[token.start + 1 : token.end + 2] == "'"
        if is_national or token.name in {"SCONST", "USCONST", "BCONST", "XCONST"}:
            kind = "string"
        elif token.name in {"SQL_COMMENT", "C_COMMENT"}:
            kind = "comment"
        else:
            kind = "name" if token.name in {"IDENT", "UIDENT"} or token.kind != "NO_KEYWORD" else "other"
        spans.append((kind, token.start, token.end + 1))
    return _joined(spans)


def _joined(spans: Spans) -> Spans:
    # Where operators end, and whether B'1''0' is one string or two, is without consequence.
    joined: Spans = []
    for kind, start, end in spans:
        follows = bool(joined) and kind in {"other", "string"} and (joined[-1][0], joined[-1][2]) == (kind, start)
        joined.append((kind, joined.pop()[1] if follows else start, end))
    return joined
