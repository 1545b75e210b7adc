"""No query of the directory reads much more than it returns: explained as its keeper, with many tenants in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from tests.plans.explain import Plan
from thea_store.postgres.session import literal
from thea_store.queries.file import Query
from thea_store.tenancy import directory
from thea_store.testing import TestDatabase

_TENANTS = 20_000
_FILL = f"""
set session_replication_role = replica;
insert into thea.tenants (id, status, created_at, suspended_at)
select 'tenant-' || n, case when n % 1000 = 0 then 'suspended' else 'active' end, now() - interval '1 minute' * n,
  case when n % 1000 = 0 then now() end
from generate_series(1, {_TENANTS}) n;
reset session_replication_role;
analyze thea.tenants;
"""
_LIMIT = 20
_READ = 30
"""Rows that one call may look at: a page, and a few more."""

# It counts the rows of a tenant, which are not the directory's: tests/plans/test_plans.py looks at those.
QUERIES = {query.name: query for query in directory.SQL.claimed if query.name != "tenants.usage"}
_VALUES = {
    "after_at": "2100-01-01",
    "after_id": "tenant-7",
    "changes": '{"name": "Acme"}',
    "limit": str(_LIMIT),
    "limits": "{}",
    "name": "Acme",
    "reason": "unpaid",
    "status": "suspended",
}


@pytest.fixture(scope="module")
def database(thea_new_database: Callable[..., TestDatabase]) -> TestDatabase:
    made = thea_new_database()
    with psycopg.connect(made.superuser_url, autocommit=True) as superuser:
        superuser.execute(_FILL.encode())
    return made


@pytest.fixture(scope="module")
def keeper(database: TestDatabase) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database.url_of("thea_admin")) as connection:
        yield connection


def explained(keeper: psycopg.Connection[Any], query: Query[Any], mode: str) -> Plan:
    """The plan of one call, which is undone."""
    values = _VALUES | {"id": "new" if query.name == "tenants.create" else "tenant-700"}
    arguments = ", ".join(literal(values[name]) for name in query.parameters)
    keeper.execute(f"set local plan_cache_mode = force_{mode}_plan".encode())
    keeper.execute(f"prepare asked as {query.text}".encode())
    row = keeper.execute(f"explain (analyze, buffers, format json) execute asked ({arguments})".encode()).fetchone()
    keeper.execute(b"deallocate asked")
    keeper.rollback()
    assert row is not None
    return Plan(query.text, row[0][0]["Plan"])


@pytest.mark.parametrize("mode", ["custom", "generic"])
@pytest.mark.parametrize("name", QUERIES)
def test_a_query_of_the_directory_reads_no_more_than_it_needs(
    keeper: psycopg.Connection[Any], name: str, mode: str
) -> None:
    plan = explained(keeper, QUERIES[name], mode)

    assert plan.returned >= 1
    assert plan.read + plan.thrown <= _READ
    assert "Seq Scan" not in {node["Node Type"] for node in plan.nodes}


def blocks_for_limits(url: str) -> int:
    """How many blocks the server reads for a service that asks for the limits of a tenant's calls."""
    with psycopg.connect(url) as service:
        service.execute("select set_config('app.tenant_id', 'tenant-7', false)")
        for _ in range(2):  # the first time, for the catalog as well
            row = service.execute("explain (analyze, buffers, format json) select thea.limits_of_calls()").fetchone()
        assert row is not None
        return sum(int(row[0][0]["Plan"][f"Shared {kind} Blocks"]) for kind in ("Hit", "Read"))


def test_a_service_that_asks_for_limits_of_calls_reads_no_more_than_it_needs(database: TestDatabase) -> None:
    assert blocks_for_limits(database.app_url) <= _READ
    with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
        superuser.execute("drop index thea.tenants_limits_of_calls_idx")

    assert blocks_for_limits(database.app_url) > _READ


def test_a_plan_without_an_index_is_noticed(keeper: psycopg.Connection[Any]) -> None:
    keeper.execute(b"set local enable_indexscan = off")
    keeper.execute(b"set local enable_bitmapscan = off")

    plan = explained(keeper, QUERIES["tenants.get_all+status"], "custom")

    assert plan.read + plan.thrown > _READ
