"""Variants: one statement in the file, and for each case of a call one that is sent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pglast
import pytest
from pglast import prettify

from tests.support.fuzzing import gap
from thea_store.errors import InvalidArgumentError, QueryFileError
from thea_store.queries.arguments import Id, Key
from thea_store.queries.binding import bind
from thea_store.queries.file import Query, SqlFile
from thea_store.queries.lexer import SqlText, spelling, tokenize
from thea_store.queries.query import read_queries
from thea_store.store import SQL_FILES

SEED = 20260311
WRITTEN = [query for file in SQL_FILES for query in file.written if query.variants]

Write = Callable[..., SqlFile]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A function that loads a statement as the query `q` of sql/notes.sql, in its line 4."""
    directory = tmp_path / "sql"
    directory.mkdir()

    def load(statement: str, names: str) -> SqlFile:
        (directory / "notes.sql").write_text(f"-- name: q\n-- Rows.\n-- variants: {names}\n{statement}\n")
        return SqlFile("notes", directory)

    return load


def variants_of(statement: str, names: str) -> dict[str, str]:
    """The text of each variant without the comment, by the names that are on."""
    text = f"-- name: q\n-- Rows.\n-- variants: {names}\n{statement}\n"
    [entry] = read_queries(SqlText(Path("sql/notes.sql"), text), "notes").values()
    return {
        variant.name.removeprefix("notes.q").removeprefix("+"): variant.text.rpartition(" /*")[0]
        for variant in entry.query.each
    }


START = "select id from n where tenant_id = :tenant_id"
SENT = "select id from n where tenant_id = $1"


# --- what is folded -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "off", "on"),
    [
        # A condition that a value asks for.
        (" and (:a::bigint is null or x = :a)", "", " and (x = $2)"),
        (" and (:a::bigint is null or x = :a) order by id", " order by id", " and (x = $2) order by id"),
        (" and ((:a::bigint is null) or (x = :a))", "", " and ((x = $2))"),
        (" and (cast(:a as numeric(10, 2)) is null or x = :a)", "", " and (x = $2)"),
        (" and ((:a)::text[] is null or x = :a)", None, None),
        (" and (:a::text[] is null or x && :a)", "", " and (x && $2)"),
        (" and (:a::double precision is null or x = :a or y = :a)", "", " and (x = $2 or y = $2)"),
        (" and (:a is null or x = :a and y)", "", " and (x = $2 and y)"),
        (" and (:a is not null or x)", " and (x)", ""),
        (" and (not :a is null or x)", " and (x)", ""),
        (" AND (:a IS NULL OR x = :a)", "", " AND (x = $2)"),
        # A flag.
        (" and (:a or x is null)", " and (x is null)", ""),
        (" and (not :a or x is null)", "", " and (x is null)"),
        (" and (:a::boolean or x is null)", " and (x is null)", ""),
        (" and case when :a then x else y or z end", " and (y or z)", " and x"),
        (" and case when not :a then x else y end", " and x", " and y"),
        (" and x = case when :a::text is null then 'none' else :a end", " and x = 'none'", " and x = $2"),
        (" and x = case when :a then y end", " and x = null", " and x = y"),
        (" and case when :a then case when y then 1 else 2 end else 3 end = x", " and 3 = x",
         " and (case when y then 1 else 2 end) = x"),
        # Where nothing can be left out, a constant stands.
        (" or (:a::bigint is null or x = :a)", " or true", " or (x = $2)"),
        (" and not (:a::bigint is null or x = :a)", " and not true", " and not (x = $2)"),
        (" and y and (:a or x) is not false", " and y and (x) is not false", " and y and true is not false"),
        (" and y between false and (:a or x)", " and y between false and (x)", " and y between false and true"),
        # Keys of an ordering.
        (" order by case when :a then (x, id) end desc, x, id", " order by x, id", " order by x desc, id desc, x, id"),
        (" order by case when :a then x end desc nulls last, id", " order by id", " order by x desc nulls last, id"),
        (" order by case when :a then coalesce(x, 1) end, id", " order by id", " order by coalesce(x, 1), id"),
        (" order by y, case when not :a then f(x, y) + 1 end asc, id limit 5",
         " order by y, f(x, y) + 1 asc, id limit 5", " order by y, id limit 5"),
        # A number alone would be the place of a column.
        (" order by case when :a then 1 else 2 end, id", " order by (+2), id", " order by (+1), id"),
        (" order by case when :a then 1 end desc, id", " order by id", " order by +1 desc, id"),
        (" group by x, case when :a then 1 else 2 end", " group by x, (+2)", " group by x, (+1)"),
        (" order by case when :a then x else y end desc, id", " order by y desc, id", " order by x desc, id"),
        # A list that is no ordering has its values, whatever comes before them.
        (" and (y, case when :a then x end) = (1, 2)", " and (y, null) = (1, 2)", " and (y, x) = (1, 2)"),
        (" union select id, case when :a then x end", " union select id, null", " union select id, x"),
    ],
)  # fmt: skip
def test_a_shape_becomes_one_thing_or_the_other(written: str, off: str | None, on: str | None) -> None:
    if off is None:
        with pytest.raises(QueryFileError, match="nothing to fold"):
            variants_of(START + written, "a")
        return
    assert variants_of(START + written, "a") == {"": SENT + off, "a": f"{SENT}{on}"}


def test_what_is_not_in_the_header_stays_as_it_is_written() -> None:
    written = " and (:b::int is null or y = :b) and case when :c then x else y end and f(:a or x) and (x or :a is null)"
    sent = " and ($2::int is null or y = $2) and case when $3 then x else y end and f($4 or x) and (x or $4 is null)"

    assert variants_of(f"{START} and (:a is null or z){written}", "a") == {
        "": f"{SENT}{sent}",
        "a": f"{SENT} and (z){sent}",
    }


def test_shapes_stand_in_each_other() -> None:
    statement = f"{START} and (:a is null or case when :b then x < :a else x > :a end)"

    assert variants_of(statement, "b, a") == {
        "": SENT,
        "a": f"{SENT} and (x > $2)",
        "b": SENT,
        "b+a": f"{SENT} and (x < $2)",
    }


def test_the_line_of_each_variant_is_that_of_the_file(write: Write) -> None:
    file = write(
        "select id -- :a is a comment here\nfrom n\nwhere tenant_id = :tenant_id\n  and (\n    :a is null\n"
        "    or case when :b\n      then one\n      else two\n    end\n  )\n"
        "  and (:a is null\n    or three)\n  -- About it.\n  and four\n"
        "order by\n  case when :b\n    then (five,\n      six)\n  end desc,\n  seven; -- The end",
        "a, b",
    )
    query = file.query("q", int, a=Id | None, b=bool)
    lines = {"from": 5, "one": 10, "two": 11, "three": 15, "About": 16, "four": 17, "five": 20, "six": 21, "seven": 23}

    for variant in query.each:
        for word, line in lines.items():
            if word in variant.text:
                assert variant.source_at(variant.text.index(word) + 1).line == line, (variant.name, word)
    assert all(word in "".join(variant.text for variant in query.each) for word in lines)


# --- a call -------------------------------------------------------------------------------------


def test_a_call_gets_the_variant_of_what_it_gives(write: Write) -> None:
    file = write(f"{START} and (:a::bigint is null or x = :a) and (:b or y = :c)", "a, b")
    query = file.query("q", int, a=Id | None, b=bool, c=Key)

    def bound(a: object, b: object) -> tuple[str, list[object]]:
        call = bind(query, "acme", {"a": a, "b": b, "c": "z"})
        return call.query.name, call.arguments

    assert bound(None, False) == ("notes.q", ["acme", "z"])
    assert bound(0, False) == ("notes.q+a", ["acme", 0, "z"])
    assert bound(None, True) == ("notes.q+b", ["acme"])
    assert bound(7, True) == ("notes.q+a+b", ["acme", 7])
    for wrong in ({"a": "7", "b": True}, {"a": None, "b": 1}, {"a": None, "b": None}):
        with pytest.raises(InvalidArgumentError):
            bind(query, "acme", {**wrong, "c": "z"})


def test_a_call_has_the_one_plan_while_it_gives_no_other_optional_value(write: Write) -> None:
    statement = f"{START} and (:a::int is null or x = :a) and (:b::int is null or y = :b) and (:c or z = :d) and q = :e"
    file = write(statement, "a, b, c\n-- one plan: a, d")
    query = file.query("q", int, a=Id | None, b=Id | None, c=bool, d=Id | None, e=Id | None)

    def has_one_plan(**given: object) -> bool:
        return bind(query, "acme", {"a": None, "b": None, "c": False, "d": None, "e": None, **given}).has_one_plan

    assert has_one_plan()
    assert has_one_plan(a=1)
    assert has_one_plan(a=1, c=True)
    assert has_one_plan(d=1)
    assert not has_one_plan(b=1)
    assert not has_one_plan(e=1)
    assert not has_one_plan(a=1, b=1, c=True)


def test_a_query_that_does_not_say_so_is_planned_by_the_server(write: Write) -> None:
    query = write(f"{START} and (:a::int is null or x = :a)", "a").query("q", int, a=Id | None)

    assert not bind(query, "acme", {"a": None}).has_one_plan


@pytest.mark.parametrize("names", ["z", "a, a", "a,b", "A"])
def test_a_plan_for_what_is_no_parameter_is_an_error_with_its_line(write: Write, names: str) -> None:
    with pytest.raises(QueryFileError, match=r"^sql/notes\.sql:4: `.*` is no parameter, or stands here twice"):
        write(f"{START} and (:a or x) and (:b or x)", f"a, b\n-- one plan: {names}")


def test_each_variant_is_a_query_of_its_own(write: Write) -> None:
    file = write(f"{START} and (:a::bigint is null or x = :a)", "a")
    query = file.query("q", int, a=Id | None)

    assert [one.name for one in file.claimed] == ["notes.q", "notes.q+a"]
    assert file.written == (query,)
    assert file.unclaimed() == []
    assert [dict(one.types) for one in file.claimed] == [{"tenant_id": str}, {"tenant_id": str, "a": Id}]
    assert all(one.text.endswith(f" /* {one.name} */") for one in file.claimed)
    assert query.text not in {one.text for one in file.claimed}


# --- defects ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "statement", "error"),
    [
        ("b", " and (:a or x)", "3: the statement has no parameter `:b`"),
        ("a, a", " and (:a or x)", "3: `a` is no name, or stands here twice"),
        ("a,b", " and (:a or x)", "3: `a,b` is no name"),
        ("A", " and (:a or x)", "3: `A` is no name"),
        ("tenant_id", " and (:a or x)", "3: `tenant_id` is part of every variant"),
        ("a", " and x = :a", "3: the statement has nothing to fold for `a`: write `(:a::type is null or …)`"),
        ("a", " and (x or :a)", "3: the statement has nothing to fold for `a`"),
        ("a", " and f(:a or x)", "3: the statement has nothing to fold for `a`"),
        ("a", " and x in (:a or x, y)", "3: the statement has nothing to fold for `a`"),
        ("a", " and case when :a then 1 when x then 2 end = 1", "3: the statement has nothing to fold for `a`"),
        ("a", "\n and (:a or x)\n and (:a is null or x)", "6: `:a` is a flag here and compared with null elsewhere"),
        ("a", "\n and (:a is null\n or tenant_id = :tenant_id)", "6: a variant by `a` would touch this condition"),
        ("a", "\n and (:a or n.\"tenant_id\" = '1')", "5: a variant by `a` would touch this condition"),
        ("a", "\n and (:a or U&\"tenant\\005fid\" = '1')", "5: a variant by `a` would touch this condition"),
        ("a", "\n and case when :a then x else\n x <> :tenant_id end", "6: a variant by `a` would touch"),
        ("a", " order by case when :a then x end", "4: another key must follow this one"),
        ("a, b, c, d, e, f, g", "".join(f" and (:{n} or x)" for n in "abcdefg"), "3: 7 names make 128 variants"),
    ],
)  # fmt: skip
def test_a_header_that_does_not_fit_is_an_error_with_its_line(
    write: Write, names: str, statement: str, error: str
) -> None:
    with pytest.raises(QueryFileError) as raised:
        write(START + statement, names)

    assert str(raised.value).startswith(f"sql/notes.sql:{error}")


def test_six_names_are_the_most(write: Write) -> None:
    statement = START + "".join(f" and (:{name} or x)" for name in "abcdef")

    assert len(write(statement, "a, b, c, d, e, f").query("q", int, **dict.fromkeys("abcdef", bool)).each) == 64


@pytest.mark.parametrize(
    ("types", "error"),
    [
        ({"a": Id, "b": bool}, "5: the claim of `notes.q` declares a type for `:a` that is never None"),
        ({"a": Id | None, "b": bool | None}, "6: the claim of `notes.q` declares `:b`, a flag of `variants`"),
    ],
)
def test_a_claim_whose_types_do_not_fit_the_switches_is_an_error(
    write: Write, types: dict[str, Any], error: str
) -> None:
    file = write(f"{START}\n and (:a is null or x = :a)\n and (:b or y)", "a, b")

    with pytest.raises(QueryFileError) as raised:
        file.query("q", int, **types)

    assert str(raised.value).startswith(f"sql/notes.sql:{error}")


# --- layouts ------------------------------------------------------------------------------------


def _laid_out(statement: str, random: Random) -> str:
    """The same tokens with other blanks, comments and letters."""
    tokens = [
        token for token in tokenize(SqlText(Path("x"), statement)) if token.lastgroup not in {"comment", "blanks"}
    ]
    parts = []
    for token in tokens:
        is_word = token.lastgroup == "word" and not spelling(token).isupper()
        parts += [spelling(token).upper() if is_word and random.random() < 0.3 else spelling(token), gap(random) or " "]
    return "".join(parts)


def _trees(statement: str, names: str) -> dict[str, Any]:
    return {name: pglast.parse_sql(text) for name, text in variants_of(statement, names).items()}


@pytest.mark.slow
@pytest.mark.parametrize("query", WRITTEN, ids=lambda query: query.name)
def test_another_layout_is_folded_to_the_same_statements(query: Query[Any]) -> None:
    statement, names = _named(query), ", ".join(query.switches)
    expected, random = _trees(statement, names), Random(f"{SEED} {query.name}")

    assert len(expected) == 2 ** len(query.switches) == len(query.each)
    for _ in range(30):
        assert _trees(_laid_out(statement, random), names) == expected


@pytest.mark.parametrize("query", WRITTEN, ids=lambda query: query.name)
def test_a_formatter_does_no_harm(query: Query[Any]) -> None:
    """PostgreSQL's own grammar prints the statement anew, with brackets and line breaks of its own choice."""
    names = ", ".join(query.switches)
    formatted = prettify(query.text, compact_lists_margin=80, safety_belt=False)
    for number, name in reversed(list(enumerate(query.parameters, 1))):
        formatted = formatted.replace(f"${number}", f":{name}")

    assert _trees(formatted, names) == _trees(_named(query), names)


def _named(query: Query[Any]) -> str:
    text = query.text.rpartition(" /*")[0]
    for number, name in reversed(list(enumerate(query.parameters, 1))):
        text = text.replace(f"${number}", f":{name}")
    return text
