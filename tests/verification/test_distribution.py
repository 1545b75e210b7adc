"""Every query can be sent to the one node of a cluster that has its tenant, by rules that need no cluster."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from pglast.parser import parse_plpgsql_json

from tests.support.distribution import REFUSED
from thea_store.migrator import Migration, listed
from thea_store.queries.file import Query
from thea_store.store import GROUP_FILES, SQL_FILES
from thea_store.verification.distribution import refused_on_clusters
from thea_store.verification.parse_tree import nodes, parsed

OF_GROUPS = [query for files in GROUP_FILES.values() for file in files for query in file.claimed]
QUERIES = [query for file in SQL_FILES for query in file.claimed] + OF_GROUPS


def test_a_cluster_takes_every_query() -> None:
    assert [sentence for query in QUERIES for sentence in refused_on_clusters(query)] == []


def test_no_query_has_its_rows_handed_to_every_node() -> None:
    found = {query.name for query in QUERIES if _writes_beside(query)}

    assert found == set(), "a cluster runs an insert in a `with` by asking every node: insert last, or use a function"


def test_a_query_that_has_is_noticed() -> None:
    added = "insert into thea.users (tenant_id, telegram_id) values ($1, 1) returning id"

    assert _writes_beside(_with(f"with a as ({added}) select id from a"))
    assert not _writes_beside(_with(added))


def _writes_beside(query: Query[Any]) -> bool:
    return any(
        node.kind == "CommonTableExpr" and node.get("ctequery").kind == "InsertStmt" for node in nodes(parsed(query))
    )


@pytest.mark.parametrize(("statement", "why"), REFUSED)
def test_what_a_cluster_refuses_is_found(statement: str, why: str) -> None:
    [found] = refused_on_clusters(_with(statement))

    assert why in found


@pytest.mark.parametrize(
    "statement",
    [
        "update thea.notes n set deleted_at = m.at from (select clock_timestamp() as at) m where n.tenant_id = $1",
        "update thea.notes set deleted_at = greatest(now(), created_at) where tenant_id = $1",
        "update thea.notes set priority = priority + 1 where tenant_id = $1",
        (
            "insert into thea.users (tenant_id, telegram_id) values ($1, 1)"
            " on conflict (tenant_id, telegram_id) do update set telegram_id = $2"
        ),
        (
            "insert into thea.users as u (tenant_id, telegram_id) select $1, 1"
            " on conflict (tenant_id, telegram_id) do update set username = excluded.username returning u.id"
        ),
        "update thea.notes set priority = extract(epoch from now() - created_at)::int where tenant_id = $1",
        (
            "update thea.notes set reminder_datetime = date_trunc('day', created_at at time zone 'UTC')"
            " at time zone 'UTC' where tenant_id = $1"
        ),
        "delete from thea.notes where tenant_id = $1 and created_at < now() - interval '1 day'",
        "update thea.notes set title = lower(title), reminder_datetime = now() + interval '1 day' where tenant_id = $1",
        (
            "update thea.notes n set title = m.title"
            " from (select id, to_char(created_at, 'YYYY') as title from thea.notes where tenant_id = $1) m"
            " where n.tenant_id = $1 and n.id = m.id"
        ),
    ],
)
def test_its_like_is_not(statement: str) -> None:
    assert refused_on_clusters(_with(statement)) == []


_SET = re.compile(r"\bupdate\s+\S+(?:\s+\w+)?\s+set\b(.*?)\bwhere\b", re.DOTALL)
_REFUSED_THERE = re.compile(r"\b(?:clock_timestamp|gen_random_uuid|random|to_char|to_jsonb)\(|\w\.\w+ \+ interval")
_OURS = re.compile(r"\bthea\.(\w+)\(")
_FUNCTION = re.compile(r"create (?:or replace )?function thea\.(\w+)\(.*?\n  language \w+ (\w+)", re.DOTALL)
_IMMUTABLE = {name for migration in listed() for name, kind in _FUNCTION.findall(migration.text) if kind == "immutable"}


def _refused_in_functions(text: str) -> list[str]:
    """What an update in a function sets, in whatever quotes, and a node of a cluster refuses."""
    without_comments = re.sub(r"--[^\n]*", "", text)
    return [
        found
        for found in _SET.findall(without_comments)
        if _REFUSED_THERE.search(found) or not {*_OURS.findall(found)} <= _IMMUTABLE
    ]


@pytest.mark.parametrize("migration", listed(), ids=lambda migration: migration.id)
def test_no_function_sets_what_a_cluster_refuses(migration: Migration) -> None:
    assert _refused_in_functions(migration.text) == []


def test_a_function_that_does_is_noticed() -> None:
    for value in (
        "greatest(clock_timestamp(), x)",
        "c.updated_at + interval ''1 microsecond''",
        "thea.tenant_keeps(c.a, c.b)",
    ):
        text = f"execute format('update %s c set deleted_at = $1, updated_at = {value} where c.id = $2', target);"

        assert len(_refused_in_functions(text)) == 1


# Those that a service's query runs as a whole where the tenant is.
_ON_NODES = sorted(
    {
        name
        for file in SQL_FILES
        for query in file.claimed
        if query.writes and query.text.startswith("select")
        for name in _OURS.findall(query.text)
    }
)


def _statements(function: str) -> list[str]:
    """The statements of a function in PL/pgSQL, without its expressions."""

    def found(part: Any) -> Iterator[str]:
        if isinstance(part, dict):
            if "query" in part and part.get("parseMode") == 0:
                yield part["query"]
            for each in part.values():
                yield from found(each)
        elif isinstance(part, list):
            for each in part:
                yield from found(each)

    return list(found(json.loads(parse_plpgsql_json(function))))


def _function(name: str) -> str:
    texts: list[str] = [
        found
        for migration in listed()
        for found in re.findall(rf"create function thea\.{name}\(.*?\n\$\$;", migration.text, re.DOTALL)
    ]
    [text] = texts
    return text


@pytest.mark.parametrize("name", _ON_NODES)
def test_a_node_takes_every_statement_of_a_function_that_a_query_runs_there(name: str) -> None:
    statements = _statements(_function(name))

    assert any(statement.startswith("insert into") for statement in statements)
    assert [sentence for statement in statements for sentence in refused_on_clusters(_with(statement))] == []


def test_a_statement_of_a_function_that_a_node_refuses_is_noticed() -> None:
    weaker = _function("upsert_event").replace(
        "set title = excluded.title", "set created_at = now(), title = excluded.title"
    )
    found = [sentence for statement in _statements(weaker) for sentence in refused_on_clusters(_with(statement))]

    assert len(found) == 1
    assert "no function of the clock in `on conflict`" in found[0]


def _with(statement: str) -> Query[Any]:
    return replace(QUERIES[0], text=statement)
