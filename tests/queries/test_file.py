"""SQL files: what a query carries, how code claims it, and every defect with its line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import assert_type

import pytest

from thea_store.errors import QueryFileError
from thea_store.queries.file import Query, Source, SqlFile

NOTES = """\
-- The queries of the notes.

-- name: search
-- Notes whose text matches the query, best first;
-- no row when none does.
-- not null: rank, snippet
-- nullable: title
select id, title, ts_rank(search, query) as rank, 'StartSel=:' as snippet
from notes as n
-- One row per user: the index notes_user_idx serves it.
where tenant_id = :tenant_id and user_id = :user_id and text = :query
limit :limit;

-- name: purge
-- Nothing.
delete from notes where tenant_id = :tenant_id
  and id = :note_id

-- name: probe
-- The number one.
-- tenant: none, it reads no table.
select 1;
-- The end.
"""

Write = Callable[[str], SqlFile]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """A function that loads the text as the file sql/notes.sql."""
    directory = tmp_path / "sql"
    directory.mkdir()

    def load(text: str) -> SqlFile:
        (directory / "notes.sql").write_bytes(text.encode())
        return SqlFile("notes", directory)

    return load


def query_of(write: Write, statement: str, header: str = "-- tenant: none, a test.") -> Query[None]:
    types = {name: str for name in ("a", "b") if f":{name}" in statement}
    return write(f"-- name: q\n-- Rows.\n{header}\n{statement}\n").query("q", None, **types)


def test_a_query_carries_what_its_file_says(write: Write) -> None:
    query = write(NOTES).query("search", dict[str, object], limit=int, query=str, user_id=int)

    assert query.name == "notes.search"
    assert query.text == (
        "select id, title, ts_rank(search, query) as rank, 'StartSel=:' as snippet\n"
        "from notes as n\n"
        "-- One row per user: the index notes_user_idx serves it.\n"
        "where tenant_id = $1 and user_id = $2 and text = $3\n"
        "limit $4 /* notes.search */"
    )
    assert query.parameters == ("tenant_id", "user_id", "query", "limit")
    assert list(query.types.items()) == [("tenant_id", str), ("user_id", int), ("query", str), ("limit", int)]
    assert query.summary == "Notes whose text matches the query, best first; no row when none does."
    assert query.not_null == {"rank", "snippet"}
    assert query.nullable == {"title"}
    assert query.record == dict[str, object]
    assert (query.writes, query.outer_join) == (False, False)


def test_a_query_knows_its_line_and_that_of_each_position_in_its_text(write: Write) -> None:
    query = write(NOTES).query("search", str, limit=int, query=str, user_id=int)

    assert str(query.source) == "sql/notes.sql:3"
    assert str(query.source_at(1)) == "sql/notes.sql:8"
    assert str(query.source_at(query.text.index("limit $4") + 1)) == "sql/notes.sql:12"
    assert repr(query) == f"Query(name='notes.search', source=Source(path={Path('sql/notes.sql')!r}, line=3))"


def test_a_query_without_tenant_says_why(write: Write) -> None:
    query = write(NOTES).query("probe", int)

    assert (query.parameters, dict(query.types), query.text) == ((), {}, "select 1 /* notes.probe */")


def test_claims_have_the_type_of_the_record(write: Write) -> None:
    file = write(NOTES)

    assert_type(file.query("purge", None, note_id=int), Query[None])
    assert_type(file.query("probe", int), Query[int])
    assert_type(file.query("search", list[str], limit=int, query=str, user_id=int), Query[list[str]])


def test_a_query_that_no_code_claims_is_told_with_its_line(write: Write) -> None:
    file = write(NOTES)
    purge = file.query("purge", None, note_id=int)

    assert file.aggregate == "notes"
    assert file.claimed == (purge,)
    assert file.unclaimed() == [
        "sql/notes.sql:3: no code claims `notes.search`: bind it to a constant, or delete it",
        "sql/notes.sql:19: no code claims `notes.probe`: bind it to a constant, or delete it",
    ]


def test_line_ends_of_windows_and_a_byte_order_mark_change_nothing(write: Write) -> None:
    plain = write(NOTES).query("purge", None, note_id=int)
    windows = write("\ufeff" + NOTES.replace("\n", "\r\n")).query("purge", None, note_id=int)

    assert (windows.text, windows.source) == (plain.text, plain.source)


UNUSED = "but the statement has no `:user_id`: use it, or drop it"


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        (lambda f: f.query("serach", str), "1: there is no query `serach`: did you mean `search` (sql/notes.sql:3)?"),
        (lambda f: f.query("x", str), "1: there is no query `x`: write it, or correct the name"),
        (
            lambda f: (f.query("probe", int), f.query("probe", int)),
            "19: `notes.probe` is claimed twice: share one constant",
        ),
        (
            lambda f: f.query("search", str, user_id=int, query=str),
            "12: the claim of `notes.search` does not declare the type of `:limit`: add it",
        ),
        (
            lambda f: f.query("purge", None, note_id=int, user_id=int),
            f"14: the claim of `notes.purge` declares `user_id`, {UNUSED}",
        ),
        (
            lambda f: f.query("purge", None, note_id=int, tenant_id=str),
            "14: the claim of `notes.purge` declares `tenant_id`, which every query has: drop it",
        ),
    ],
)
def test_a_claim_that_does_not_fit_is_an_error_with_the_line(
    write: Write, claim: Callable[[SqlFile], object], message: str
) -> None:
    with pytest.raises(QueryFileError) as caught:
        claim(write(NOTES))

    assert str(caught.value) == f"sql/notes.sql:{message}"


HEAD = "-- name: q\n-- Rows.\n"
NAME_FORM = "this is no name: write `-- name: <name>` on a line of its own, in lower-case letters, digits and _"
NO_SENTENCE = "the sentence on what the query returns is missing or lacks its full stop"
HEADER_FORM = "here stand lines `-- <sentence>`, then hints: move other comments into the statement"
TWICE = "is no column, or stands here twice: write columns as `a, b`"
NO_TENANT = (
    "the statement lacks `:tenant_id`, which each of a tenant's tables needs; only one that reads none of them "
    "says why: `-- tenant: none, <reason>`"
)
SECOND = "a second statement starts here: give it a `-- name:` of its own"
NO_END = "this contains a line `-- name:`: its end seems to be missing"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("\nselect 1;", "2: this stands before the first name: write `-- name: <name>` above it"),
        ("-- name: Search\n-- Rows.\nselect :tenant_id", f"1: {NAME_FORM}"),
        ("--name: q\n-- Rows.\nselect :tenant_id", f"1: {NAME_FORM}"),
        (f"{HEAD}select :tenant_id; -- name: r\n", f"3: {NAME_FORM}"),
        (
            f"{HEAD}select :tenant_id;\n{HEAD}select :tenant_id;",
            "4: the name `q` is taken by sql/notes.sql:1: choose another",
        ),
        ("-- name: q\nselect :tenant_id", f"1: {NO_SENTENCE}"),
        ("\n-- name: q\n-- Rows\nselect :tenant_id", f"2: {NO_SENTENCE}"),
        ("-- name: q\n-- Rows.\n-- notnull: a\nselect :tenant_id", f"1: {NO_SENTENCE}"),
        ("-- name: q\n-- not null: a\nselect :tenant_id", f"1: {NO_SENTENCE}"),
        (f"{HEAD}/* A reason. */ select :tenant_id", f"3: {HEADER_FORM}"),
        (f"{HEAD}--\nselect :tenant_id", f"3: {HEADER_FORM}"),
        (f"{HEAD}-- nullable: a\n-- More.\nselect :tenant_id", f"4: {HEADER_FORM}"),
        (f"{HEAD}-- nullable:\nselect 1", "3: the hint `nullable` is empty or a repetition: keep one with a value"),
        (
            f"{HEAD}-- nullable: a\n-- nullable: b\nselect 1",
            "4: the hint `nullable` is empty or a repetition: keep one with a value",
        ),
        (f"{HEAD}-- nullable: a b\nselect :tenant_id", f"3: `a b` {TWICE}"),
        (f"{HEAD}-- not null: a, a\nselect :tenant_id", f"3: `a` {TWICE}"),
        (
            f"{HEAD}-- not null: a\n-- nullable: a\nselect :tenant_id",
            "4: `a` is in `not null` too: drop it from one of them",
        ),
        (f"{HEAD}-- nullable: a", "1: the statement is missing: write it under the comments"),
        (f"{HEAD};\n", "1: the statement is missing: write it under the comments"),
        (f"{HEAD}select :tenant_id;\n\ndelete from t;", f"5: {SECOND}"),
        (f"{HEAD}select :tenant_id;\n;", f"4: {SECOND}"),
        (f"{HEAD}select 1", f"1: {NO_TENANT}"),
        (f"{HEAD}select ':tenant_id'", f"1: {NO_TENANT}"),
        (
            f"{HEAD}-- tenant: none\nselect 1",
            "3: the reason is missing: write `-- tenant: none, <reason>`, or drop the line",
        ),
        (f"{HEAD}-- tenant: none, a probe.\nselect :tenant_id", "3: the statement uses `:tenant_id`: drop this line"),
        (f"{HEAD}select\n$1 = :tenant_id", "4: `$1` is a positional parameter: give it a name, as in `:user_id`"),
        (f"{HEAD}select 'x, :tenant_id;\n\n-- name: r\n-- The user's.\nselect 1;", f"3: {NO_END}"),
        (f'{HEAD}select\n"x, :tenant_id;\n\n-- name: r\n-- A "b".\nselect 1;', f"4: {NO_END}"),
        (f"{HEAD}select /* :tenant_id;\n\n-- name: r\n-- A */ b.\nselect 1;", f"3: {NO_END}"),
        (f"{HEAD}select 'x, :tenant_id;\n", "3: the string that starts with `'` has no end: close it with `'`"),
        (f"{HEAD}select :tenant_id\n, '\0'", "4: there is a NUL character, which no server takes: remove it"),
    ],
)
def test_a_defect_of_a_file_is_an_error_with_its_line(write: Write, text: str, message: str) -> None:
    with pytest.raises(QueryFileError) as caught:
        write(text)

    assert str(caught.value) == f"sql/notes.sql:{message}"


def test_a_file_that_is_missing_or_no_utf_8_is_an_error_without_the_machines_path(tmp_path: Path) -> None:
    (tmp_path / "sql").mkdir()
    (tmp_path / "sql" / "notes.sql").write_bytes(b"-- name: q\n-- A\xf1o.\n")

    with pytest.raises(QueryFileError, match=r"^sql/notes\.sql:2: this is not UTF-8: save the file as UTF-8$"):
        SqlFile("notes", tmp_path / "sql")
    with pytest.raises(QueryFileError, match=r"^sql/users\.sql:1: the file cannot be read: No such file or directory$"):
        SqlFile("users", tmp_path / "sql")


@pytest.mark.parametrize(
    "statement",
    [
        "insert into t (a) values (:a) on conflict (a) do nothing",
        "UPDATE t set a = 1",
        "with d as (delete from t returning a) select a from d",
        "with d as (select 1)update t set a = 1",
        "merge into t using s on t.a = s.a when matched then delete",
    ],
)
def test_a_statement_that_changes_rows_writes(write: Write, statement: str) -> None:
    assert query_of(write, statement).writes


@pytest.mark.parametrize(
    "statement",
    [
        "select a from t for update",
        "select a from t for no key update of t skip locked",
        "select 'delete from t', \"update\", $$ insert $$ -- update\n from t /* delete */",
        "select update$x, deleted_at, t.update, a as delete from t",
    ],
)
def test_a_statement_that_only_mentions_changes_does_not_write(write: Write, statement: str) -> None:
    assert not query_of(write, statement).writes


def test_a_query_that_writes_through_a_function_says_so(write: Write) -> None:
    assert query_of(write, "select f()", "-- tenant: none, a test.\n-- writes: f() counts its calls.").writes


@pytest.mark.parametrize(
    "statement",
    [
        "select 1 from a left join b on true",
        "select 1 from a RIGHT /* c */ OUTER\njoin b on true",
        "select 1 from a natural full join b",
        "select a from t group by rollup (a)",
        "select a from t group by grouping sets ((a), ())",
    ],
)
def test_a_statement_that_may_null_declared_columns_is_marked(write: Write, statement: str) -> None:
    assert query_of(write, statement).outer_join


@pytest.mark.parametrize(
    "statement",
    ["select left('abc', 1) from a join b on true", "select 'left join' from a cross join b -- left join\n, c"],
)
def test_other_joins_are_not_marked(write: Write, statement: str) -> None:
    assert not query_of(write, statement).outer_join


def test_a_source_is_shown_as_file_and_line() -> None:
    assert str(Source(Path("sql", "notes.sql"), 12)) == "sql/notes.sql:12"
