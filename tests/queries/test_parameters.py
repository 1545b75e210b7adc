"""Named parameters: examples and errors; test_parameters_on_postgresql.py has the random statements."""

from __future__ import annotations

from pathlib import Path

import pytest

from thea_store.errors import QueryFileError
from thea_store.queries.lexer import SqlText, tokenize
from thea_store.queries.parameters import number_parameters


def numbered(text: str) -> tuple[str, list[str]]:
    file = SqlText(Path("sql/notes.sql"), text)
    tokens = [token for token in tokenize(file) if token.lastgroup not in {"comment", "blanks"}]
    result, uses = number_parameters(file, tokens)
    return result, list(uses)


@pytest.mark.parametrize(
    ("text", "expected", "names"),
    [
        ("select :b, :a, :b", "select $1, $2, $1", ["b", "a"]),
        ("select :a::text[], (:b)::int", "select $1::text[], ($2)::int", ["a", "b"]),
        ("select f(x => :a, y := :b)", "select f(x => $1, y := $2)", ["a", "b"]),
        ("select ':a', E'\\':a', $$:a$$, \":a\" -- :a\n, /* :a */ :b", None, ["b"]),
        ("select x ? :a, x ?| array[:b, :c], x @> :d", "select x ? $1, x ?| array[$2, $3], x @> $4", [*"abcd"]),
        ("select -:a+:b*:c", "select -$1+$2*$3", ["a", "b", "c"]),
        ("select (:a).b, :a[1]", "select ($1).b, $1[1]", ["a"]),
        ("select array[[:a, :b], [:c, 1]]", "select array[[$1, $2], [$3, 1]]", ["a", "b", "c"]),
        ("select ARRAY [:a]", "select ARRAY [$1]", ["a"]),
        ("select case when :a then 1 else :b end limit :c", None, ["a", "b", "c"]),
    ],
)
def test_names_become_numbers_by_their_first_use(text: str, expected: str | None, names: list[str]) -> None:
    result, found = numbered(text)

    assert found == names
    assert expected is None or result == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a[1:2]", "a[1:2]"),
        ("a[:2]", "a[:2]"),
        ("a[2:]", "a[2:]"),
        ("a[:]", "a[:]"),
        ("a[1:n]", "a[1:n]"),
        ("a[n:m]", "a[n:m]"),
        ("a[f(1):n]", "a[f(1):n]"),
        ("a[b[1]:n]", "a[b[1]:n]"),
        ("a['1':n]", "a['1':n]"),
        ('a["x":n]', 'a["x":n]'),
        ("a[1: n]", "a[1: n]"),
        ("a[: n]", "a[: n]"),
        ("a[:e'1']", "a[:e'1']"),
        ("a[:U&'1']", "a[:U&'1']"),
        ("a[1::int]", "a[1::int]"),
        ("a[1:N]", "a[1:N]"),
        ('t."array"[1:n]', 't."array"[1:n]'),
        ("t.array[1:n]", "t.array[1:n]"),
        ("(array[1, 2])[1:n]", "(array[1, 2])[1:n]"),
        ("array[1, a[1:n]]", "array[1, a[1:n]]"),
    ],
)
def test_the_colon_of_a_slice_stays(text: str, expected: str) -> None:
    assert numbered(text) == (expected, [])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a[: :x]", "a[: $1]"),
        ("a[1: :x]", "a[1: $1]"),
        ("a[(:x)]", "a[($1)]"),
        ("a[(:x):(:x)]", "a[($1):($1)]"),
        ("a[1:(:x)]", "a[1:($1)]"),
        ("a[(:x):n]", "a[($1):n]"),
        ("a[1 + :x]", "a[1 + $1]"),
        ("a[1:-:x]", "a[1:-$1]"),
        ("a[-:x:n]", "a[-$1:n]"),
        ("a[f(:x)]", "a[f($1)]"),
        ("a[(case when :x then 1 else 2 end)]", "a[(case when $1 then 1 else 2 end)]"),
        ("a[array[:x]]", "a[array[$1]]"),
    ],
)
def test_a_parameter_in_a_subscript(text: str, expected: str) -> None:
    assert numbered(text) == (expected, ["x"])


@pytest.mark.parametrize(
    ("text", "expected", "names"),
    [
        ("json_object('a': 1)", "json_object('a': 1)", []),
        ("json_object('a':1, 'b' : x)", "json_object('a':1, 'b' : x)", []),
        ("json_object(k :v)", "json_object(k :v)", []),
        ("json_object(k:v, lower(k) :v, t.k :v)", "json_object(k:v, lower(k) :v, t.k :v)", []),
        ("json_object('a':'b', 'c':E'd', 'e':x'f')", "json_object('a':'b', 'c':E'd', 'e':x'f')", []),
        ("JSON_OBJECT ('a': :v)", "JSON_OBJECT ('a': $1)", ["v"]),
        ("json_object(:k : :v, 'b' : :w)", "json_object($1 : $2, 'b' : $3)", ["k", "v", "w"]),
        ("json_object('a' || :k : :v)", "json_object('a' || $1 : $2)", ["k", "v"]),
        ("json_object(:k :v)", "json_object($1 :v)", ["k"]),
        ("json_object('a' value :v, k value :w)", "json_object('a' value $1, k value $2)", ["v", "w"]),
        ("json_object(value :v)", "json_object(value :v)", []),
        ("json_object(value: :v, t.value : :w)", "json_object(value: $1, t.value : $2)", ["v", "w"]),
        ("json_object(case when :k then 'a' end: 1)", "json_object(case when $1 then 'a' end: 1)", ["k"]),
        ("json_object('a': case when b then :v end)", "json_object('a': case when b then $1 end)", ["v"]),
        ("json_object('a': json_object('b': :v), 'c': f(:w))", None, ["v", "w"]),
        ("json_object('a': (:v)::text null on null returning jsonb)", None, ["v"]),
        ("json_object('a': b[1:n], 'c' :d[2:])", "json_object('a': b[1:n], 'c' :d[2:])", []),
        ("json_object(:keys, :values)", "json_object($1, $2)", ["keys", "values"]),
        ("json_objectagg(k : :v) filter (where :f)", "json_objectagg(k : $1) filter (where $2)", ["v", "f"]),
    ],
)
def test_the_colon_of_a_key_in_json_object_stays(text: str, expected: str | None, names: list[str]) -> None:
    result, found = numbered(text)

    assert found == names
    assert expected is None or result == expected


AMBIGUOUS = "could be a parameter or the end of a slice: write `[(:x)]`"
NO_COLON = "this colon is no parameter's (`:user_id`), cast's (`::`), argument's (`:=`) or slice's (`[1:2]`)"
LOOKALIKE = "`x` in this subscript is no parameter, but the statement has one of that name: write `[1: :x]`"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a[:x]", f"1: `:x` here {AMBIGUOUS}"),
        ("a[\n:x]", f"2: `:x` here {AMBIGUOUS}"),
        ("a[ /* c */ :x]", f"1: `:x` here {AMBIGUOUS}"),
        ("a[1 :x]", f"1: `:x` here {AMBIGUOUS}"),
        ("a[n\n  :x]", f"2: `:x` here {AMBIGUOUS}"),
        ("a[1/**/:x]", f"1: `:x` here {AMBIGUOUS}"),
        ("a[(1) :x]", f"1: `:x` here {AMBIGUOUS}"),
        ("a[1: :x :x]", f"1: `:x` here {AMBIGUOUS}"),
        ("a[case when :x then 1 else 2 end]", f"1: `:x` here {AMBIGUOUS}"),
        ("t.array[:x]", f"1: `:x` here {AMBIGUOUS}"),
        (":x,\na[1:x]", f"2: {LOOKALIKE}"),
        ("a[1:x],\n:x", f"1: {LOOKALIKE}"),
        (":x, a[1::x]", f"1: {LOOKALIKE}"),
        ("json_object(k :x), :x", f"1: {LOOKALIKE.replace('subscript', 'json_object').replace('[1: :x]', 'k: :x')}"),
        ("json_object('a': 1 : 2)", f"1: {NO_COLON}"),
        ("json_object('a': (1 : 2))", f"1: {NO_COLON}"),
        ("x.json_object('a' : 2)", f"1: {NO_COLON}"),
        ("json_build_object('a' : 2)", f"1: {NO_COLON}"),
        ("json_object('a': b:x)", "1: `:x` needs a blank or an operator before it"),
        ("limit:x", "1: `:x` needs a blank or an operator before it"),
        ("1:x", "1: `:x` needs a blank or an operator before it"),
        ("'a':x", "1: `:x` needs a blank or an operator before it"),
        ("(1):x", "1: `:x` needs a blank or an operator before it"),
        ("\n:x:y", "2: `:y` needs a blank or an operator before it"),
        ("array[1:n]", "1: `:n` needs a blank or an operator before it"),
        ("a = :User", "1: `:User` is no parameter: its name takes a to z, digits and _"),
        ("a = :año", "1: `:año` is no parameter: its name takes a to z, digits and _"),
        ("a = :a$b", "1: `:a$b` is no parameter: its name takes a to z, digits and _"),
        ("a :\nb", f"1: {NO_COLON}"),
        ("a = :'x'", f"1: {NO_COLON}"),
        ("a = :x'x'", f"1: {NO_COLON}"),
        ("a = :1", f"1: {NO_COLON}"),
        ("a ::: b", f"1: {NO_COLON}"),
        ("a[1:2:3]", f"1: {NO_COLON}"),
        ("a[1:n:m]", f"1: {NO_COLON}"),
        ("array[1: 2]", f"1: {NO_COLON}"),
        ("a[(1: 2)]", f"1: {NO_COLON}"),
        ("f(a\n]", "2: this `]` closes no bracket of its kind"),
        ("a)", "1: this `)` closes no bracket of its kind"),
        ("f(\na", "1: this `(` is never closed"),
    ],
)
def test_a_colon_of_two_meanings_or_none_is_an_error_with_its_line(text: str, message: str) -> None:
    with pytest.raises(QueryFileError) as caught:
        numbered(text)

    assert str(caught.value).startswith(f"sql/notes.sql:{message}")
