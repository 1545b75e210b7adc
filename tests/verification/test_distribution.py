"""Every query can be sent to the one node of a cluster that has its tenant, by rules that need no cluster."""

from __future__ import annotations

import functools
import operator
import re
from dataclasses import replace
from typing import Any

import pytest

from tests.support.distribution import REFUSED
from thea_store.migrator import Migration, listed
from thea_store.queries.file import Query
from thea_store.store import GROUP_FILES, REFUSED_ON_CITUS, SQL_FILES
from thea_store.verification.distribution import refused_on_clusters

OF_GROUPS = [query for files in GROUP_FILES.values() for file in files for query in file.claimed]
QUERIES = [query for file in SQL_FILES for query in file.claimed] + OF_GROUPS


def test_a_cluster_takes_every_query_but_those_that_are_documented() -> None:
    refused = {query.name: found for query in QUERIES if (found := refused_on_clusters(query))}

    assert refused.keys() == REFUSED_ON_CITUS, "\n".join(functools.reduce(operator.iadd, refused.values(), []))


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
    ],
)
def test_its_like_is_not(statement: str) -> None:
    assert refused_on_clusters(_with(statement)) == []


_SET = re.compile(r"\bupdate\s+\S+(?:\s+\w+)?\s+set\b(.*?)\bwhere\b", re.DOTALL)
_REFUSED_THERE = re.compile(r"\b(?:clock_timestamp|gen_random_uuid|random)\(|\w\.\w+ \+ interval")


def _refused_in_functions(text: str) -> list[str]:
    """What an update in a function sets, in whatever quotes, and a node of a cluster refuses."""
    without_comments = re.sub(r"--[^\n]*", "", text)
    return [found for found in _SET.findall(without_comments) if _REFUSED_THERE.search(found)]


@pytest.mark.parametrize("migration", listed(), ids=lambda migration: migration.id)
def test_no_function_sets_what_a_cluster_refuses(migration: Migration) -> None:
    assert _refused_in_functions(migration.text) == []


def test_a_function_that_does_is_noticed() -> None:
    for value in ("greatest(clock_timestamp(), x)", "c.updated_at + interval ''1 microsecond''"):
        text = f"execute format('update %s c set deleted_at = $1, updated_at = {value} where c.id = $2', target);"

        assert len(_refused_in_functions(text)) == 1


def _with(statement: str) -> Query[Any]:
    return replace(QUERIES[0], text=statement)
