"""No query of the operators' groups reads much more than it must, explained as the login of each, with many tenants.

That goes for the statements inside of their functions too. A worker's queries look up the first entry of each tenant
that has something, so they may read that many rows, and no more for those that the tenants have besides.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from tests.plans.explain import Mode, Plan, Planner, open_planner
from thea_store.database import NOBODY
from thea_store.queries.file import Query
from thea_store.queries.query import TENANT
from thea_store.store import GROUP_FILES
from thea_store.testing import TestDatabase

_TENANTS, _WITH_ROWS, _ROWS = 20_000, 100, 50
"""Tenants in the directory, each with a policy of its own; those that have rows; and notes of each of these."""
_FILL = f"""
set session_replication_role = replica;

insert into thea.tenants (id, status, created_at, suspended_at)
select 'tenant-' || n, case when n % 1000 = 0 then 'suspended' else 'active' end, now() - interval '1 minute' * n,
  case when n % 1000 = 0 then now() end
from generate_series(1, {_TENANTS}) n;

insert into thea.retention_policies (tenant, table_name, rule, keep)
select 'tenant-' || n, 'notes', 'old', interval '30 days' from generate_series(1, {_TENANTS}) n
union all
select null, t.name, t.rule, interval '1 year'
from (values ('notes', 'old'), ('events', 'deleted'), ('audit_log', 'old')) as t (name, rule);

insert into thea.users (tenant_id, id, telegram_id)
overriding system value
select 'tenant-' || n, n, n from generate_series(1, {_WITH_ROWS}) n;

-- Of each tenant one note has a reminder to come, and one is old. Tenant 7 has a reminder that is due.
insert into thea.notes (tenant_id, id, user_id, content, search_vector, created_at, next_reminder_at)
overriding system value
select
  'tenant-' || n, n * {_ROWS} + m, n, 'Bread and milk', '',
  now() - case when m = 1 then interval '1 year' else '1 day' end,
  case when m = 2 then now() + interval '1 day' * case when n = 7 then -1 else 1 end end
from generate_series(1, {_WITH_ROWS}) n, generate_series(1, {_ROWS}) m;

insert into thea.audit_log (tenant_id, at, table_name, row_id, action, after, subject_id)
select
  'tenant-' || n, now() - case when m = 1 then interval '2 years' else '1 day' end, 'notes', n * {_ROWS} + m,
  'insert', '{{"user_id": 1}}'::jsonb, n
from generate_series(1, {_WITH_ROWS}) n, generate_series(1, {_ROWS}) m
union all
-- Of another person.
select 'tenant-70', now(), 'notes', n, 'update', '{{"priority": 1}}', 71 from generate_series(1, 5000) n;

-- Of each tenant two chains, the one of which begins a year ago; and noted reads.
insert into thea.activity_log (tenant, kind, place, at, login, action, details, hash)
select 'tenant-' || n, kind, m, now() - case when m = 1 and kind = 'reads' then interval '1 year' else '1 day' end, 'x',
  'read', '{{}}', ''
from generate_series(1, {_WITH_ROWS}) n, generate_series(1, {_ROWS}) m, unnest(array['administration', 'reads']) kind;

insert into thea.retention_policies (tenant, table_name, rule, keep)
values (null, 'activity_log.reads', 'old', interval '30 days');

insert into thea.noted_reads (tenant, at, login, action, details)
select 'tenant-' || n, now(), 'x', 'read', '{{}}'
from generate_series(1, {_WITH_ROWS}) n, generate_series(1, {_ROWS}) m;

reset session_replication_role;
vacuum analyze thea.tenants, thea.retention_policies, thea.users, thea.notes, thea.audit_log, thea.activity_log,
  thea.noted_reads;
"""
_VALUES = {
    "after_at": datetime(2100, 1, 1, tzinfo=UTC),
    "after_id": "tenant-7",
    "after": None,
    "changes": {"name": "Acme"},
    "id": "tenant-70",
    "keep": None,
    "kinds": ["due_note_reminders"],
    "limit": 20,
    "limits": {},
    "name": "Acme",
    "reason": "unpaid",
    "rule": "old",
    "status": "suspended",
    "subject_id": 70,
    "table_name": "notes",
    "tenant": "tenant-70",
    "with_others": False,
}
_OWN = 12 * _ROWS
"""Rows that a call may look at for one tenant that has rows."""
_READ = {
    # Each tenant with an entry in an index, by each policy.
    "work.tenants_with_work": 8 * _WITH_ROWS,
    # Besides, each tenant with noted reads, and of each chain, of which a tenant has two, its first entry and the next.
    "work.tenants_with_expired_rows": 13 * _WITH_ROWS,
    "work.expire_rows": _OWN,
    "work.expire_audit": _OWN,
    # Each noted read is looked up twice, and the end of the chain for each.
    "work.chain_reads": 6 * _ROWS,
    "erasure.erase": _OWN,
}
"""Where it is more than a page and a few more."""
_PAGE = 30
# Those that are to read all there is: a tenant's rows, which are counted; and all policies.
_OF_ALL = {"tenants.usage", "retention.get_policies"}

QUERIES = {
    query.name: (group, query)
    for group, files in GROUP_FILES.items()
    for file in files
    for query in file.claimed
    if query.name not in _OF_ALL
}
MODES: tuple[Mode, ...] = ("custom", "generic")


@pytest.fixture(scope="module")
def database(thea_new_database: Callable[..., TestDatabase]) -> TestDatabase:
    made = thea_new_database()
    with psycopg.connect(made.superuser_url, autocommit=True) as superuser:
        for statement in _FILL.split(";\n"):
            superuser.execute(statement.encode())
    return made


@pytest_asyncio.fixture(scope="module")
async def planners(database: TestDatabase) -> AsyncIterator[dict[str, Planner]]:
    async with (
        open_planner(database, "thea_admin") as admin,
        open_planner(database, "thea_worker") as worker,
        open_planner(database, "thea_privacy") as privacy,
    ):
        found = {"thea_admin": admin, "thea_worker": worker, "thea_privacy": privacy}
        for planner in found.values():
            planner.tables = frozenset(
                {*planner.tables, "tenants", "retention_policies", "quotas", "noted_reads", "activity_log"}
            )
        yield found


async def explained(
    planners: dict[str, Planner], name: str, mode: Mode, *, spoilt: str | None = None, **other: Any
) -> list[Plan]:
    """The plans of one call, which is undone, and of the statements inside."""
    group, query = QUERIES[name]
    values = {key: value for key, value in (_VALUES | _new(query) | other).items() if key in query.parameters}
    tenant = "tenant-70" if TENANT in query.parameters else NOBODY
    return await planners[group].explain(query, tenant, values, mode, spoilt=spoilt)


def _new(query: Query[Any]) -> dict[str, Any]:
    return {"id": "new"} if query.name == "tenants.create" else {}


def read(plans: list[Plan]) -> float:
    return sum(plan.read for plan in plans)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", QUERIES)
async def test_a_query_of_a_group_reads_no_more_than_it_needs(
    planners: dict[str, Planner], name: str, mode: Mode
) -> None:
    plans = await explained(planners, name, mode)

    assert plans
    assert read(plans) <= _READ.get(name, _PAGE)
    # The others hold little here, and are read as fast from end to end.
    large = {"tenants", "retention_policies", "notes", "audit_log", "activity_log", "noted_reads"}
    scanned = [node["Relation Name"] for plan in plans for node in plan.nodes if node["Node Type"] == "Seq Scan"]
    assert large.isdisjoint(scanned)


@pytest.mark.parametrize("mode", MODES)
async def test_a_policy_of_all_tenants_is_found_by_its_key(planners: dict[str, Planner], mode: Mode) -> None:
    for name in ("retention.set_policy", "retention.remove_policy"):
        plans = await explained(planners, name, mode, tenant=None)

        assert read(plans) <= _PAGE
        assert sum(plan.written for plan in plans if plan.touches({"retention_policies"})) == 1
        # Its entry.
        assert sum(plan.written for plan in plans if plan.touches({"activity_log"})) == 1


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("tenants.get_all+status", "tenants_status_idx"),
        ("work.expire_rows", "retention_policies_table_name_idx"),
        ("erasure.erase", "audit_log_subject_idx"),
    ],
)
async def test_a_missing_index_is_noticed(planners: dict[str, Planner], name: str, index: str) -> None:
    plans = await explained(planners, name, "custom", spoilt=f"drop index thea.{index}")

    assert read(plans) > _READ.get(name, _PAGE)


def blocks_for_limits(url: str) -> int:
    """How many blocks the server reads for a service that asks for the limits of a tenant's calls."""
    with psycopg.connect(url) as service:
        service.execute("select set_config('app.tenant_id', 'tenant-7', false)")
        for _ in range(2):  # the first time, for the catalog as well
            row = service.execute("explain (analyze, buffers, format json) select thea.limits_of_calls()").fetchone()
        assert row is not None
        return sum(int(row[0][0]["Plan"][f"Shared {kind} Blocks"]) for kind in ("Hit", "Read"))


def test_a_service_that_asks_for_limits_of_calls_reads_no_more_than_it_needs(database: TestDatabase) -> None:
    assert blocks_for_limits(database.app_url) <= _PAGE
    with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
        for index in ("tenants_limits_of_calls_idx", "tenants_log_reads_idx"):
            [(definition,)] = superuser.execute("select pg_get_indexdef(%s::regclass)", [f"thea.{index}"]).fetchall()
            superuser.execute(f"drop index thea.{index}".encode())

            assert blocks_for_limits(database.app_url) > _PAGE, index
            superuser.execute(definition)
