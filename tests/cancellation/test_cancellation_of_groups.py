"""Every call of the operators' groups, cancelled at every suspension it has: it is done or not, and leaves nothing."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from tests.support.aftermath import carries_what_its_pool_thinks, no_backend_is_left, settled
from tests.support.stepping import Moment, Stepped, stepped_through, stopped
from thea_store import Settings, Store
from thea_store.store import GROUP_FILES
from thea_store.tenancy.directory import Tenants
from thea_store.tenancy.retention import Retention
from thea_store.tenancy.work import Work
from thea_store.testing import TestDatabase

Run = Callable[[Store, str], Coroutine[Any, Any, object]]

USER = 1
"""The one user of every tenant here, who has a note that was written long ago."""
CASES: dict[str, tuple[str, Run]] = {
    "tenants.create": ("thea_admin", lambda store, tenant: store.tenants.create(f"new-{tenant}", name="Acme")),
    "tenants.get": ("thea_admin", lambda store, tenant: store.tenants.get(tenant)),
    "tenants.get_all": ("thea_admin", lambda store, _: store.tenants.get_all(limit=2)),
    "tenants.update": ("thea_admin", lambda store, tenant: store.tenants.update(tenant, limits={"rows": {"notes": 5}})),
    "tenants.rename": ("thea_admin", lambda store, tenant: store.tenants.rename(tenant, "Acme")),
    "tenants.suspend": ("thea_admin", lambda store, tenant: store.tenants.suspend(tenant, "unpaid")),
    "tenants.resume": ("thea_admin", lambda store, tenant: store.tenants.resume(f"suspended-{tenant}")),
    "tenants.end": ("thea_admin", lambda store, tenant: store.tenants.end(tenant)),
    "tenants.usage": ("thea_admin", lambda store, tenant: store.tenants.usage(tenant)),
    "retention.get_all": ("thea_admin", lambda store, _: store.retention.get_all()),
    "retention.keep": (
        "thea_admin",
        lambda store, tenant: store.retention.keep("events", "old", timedelta(1), tenant_id=tenant),
    ),
    "retention.remove": ("thea_admin", lambda store, tenant: store.retention.remove("notes", "old", tenant_id=tenant)),
    "work.tenants_with": ("thea_worker", lambda store, _: store.work.tenants_with("due_reminders")),
    "work.tenants_with_expired_rows": ("thea_worker", lambda store, _: store.work.tenants_with_expired_rows()),
    "work.tenants_with_uncounted_messages": (
        "thea_worker",
        lambda store, _: store.work.tenants_with_uncounted_messages(),
    ),
    "work.fold_messages": ("thea_worker", lambda store, tenant: store.work.fold_messages(tenant)),
    "work.expire": ("thea_worker", lambda store, tenant: store.work.expire(tenant)),
    "people.erase": ("thea_privacy", lambda store, tenant: store.people.erase(tenant, USER, reason="asked for")),
}
READS = {"get", "get_all", "usage", "tenants_with", "tenants_with_expired_rows", "tenants_with_uncounted_messages"}

_MAKE = """
set session_replication_role = replica;
insert into thea.tenants (id) values ('{tenant}');
insert into thea.tenants (id, status, reason, suspended_at) values ('suspended-{tenant}', 'suspended', 'unpaid', now());
insert into thea.retention_policies (tenant, table_name, rule, keep) values ('{tenant}', 'notes', 'old', '1 day');
insert into thea.users (tenant_id, id, telegram_id) overriding system value values ('{tenant}', 1, 1);
insert into thea.notes (tenant_id, user_id, content, search_vector, created_at)
values ('{tenant}', 1, 'bread', '', '2020-01-01');
reset session_replication_role
"""
_STATE = """
select jsonb_build_array(
  (
    select jsonb_agg(to_jsonb(t) - '{created_at,updated_at,suspended_at,ended_at}'::text[] order by id)
    from thea.tenants t
    where id like '%%' || %(tenant)s
  ),
  (select jsonb_agg(to_jsonb(p) order by table_name) from thea.retention_policies p where tenant = %(tenant)s),
  (select jsonb_agg(to_jsonb(q)) from thea.quotas q where tenant = %(tenant)s),
  (select count(*) from thea.users where tenant_id = %(tenant)s),
  (select count(*) from thea.notes where tenant_id = %(tenant)s),
  (select jsonb_agg(jsonb_build_array(table_name, action, actor) order by at) from thea.audit_log
   where tenant_id = %(tenant)s),
  (select count(*) from thea.compliance_log where tenant_id = %(tenant)s),
  (select count(*) from thea.message_folds where tenant_id = %(tenant)s)
)::text
"""


class Bench:
    """A database with as many like tenants as are asked for, and a store of one connection for each group."""

    def __init__(self, superuser: psycopg.Connection[Any], stores: dict[str, Store]) -> None:
        self.superuser, self.stores = superuser, stores
        self._numbers = itertools.count(1)

    def tenant(self) -> str:
        name = f"tenant-{next(self._numbers):06}"
        for statement in _MAKE.format(tenant=name).split(";\n"):
            self.superuser.execute(statement.encode())
        return name

    def state(self, tenant: str) -> str:
        row = self.superuser.execute(_STATE.encode(), {"tenant": tenant}).fetchone()
        assert row is not None
        return str(row[0]).replace(tenant, "it")


@pytest_asyncio.fixture(scope="module")
async def bench(thea_new_database: Callable[..., TestDatabase]) -> AsyncIterator[Bench]:
    database = thea_new_database()
    async with AsyncExitStack() as opened:
        stores = {
            group: await opened.enter_async_context(
                Store.open(Settings(url=database.url_of(group), pool_size=1, max_overflow=0))
            )
            for group in GROUP_FILES
        }
        superuser = opened.enter_context(psycopg.connect(database.superuser_url, autocommit=True))
        yield Bench(superuser, stores)


def test_every_call_of_a_group_is_here() -> None:
    public = {
        f"{name}.{method}"
        for name, kind in {"tenants": Tenants, "retention": Retention, "work": Work}.items()
        for method in vars(kind)
        if not method.startswith("_")
    }

    assert {*CASES} == public | {"people.erase"}


@pytest.mark.parametrize("name", CASES)
async def test_a_call_of_a_group_that_is_cancelled_is_done_or_not_and_leaves_nothing(
    bench: Bench, name: str, request: pytest.FixtureRequest
) -> None:
    group, work = CASES[name]
    store = bench.stores[group]
    states = set[str]()

    async def run(stops: dict[int, Moment]) -> Stepped:
        tenant = bench.tenant()
        stepped = await stopped(work(store, tenant), stops)
        await settled(store)
        await carries_what_its_pool_thinks(store)
        await no_backend_is_left(bench.superuser, [*bench.stores.values()])
        states.add(bench.state(tenant))
        return stepped

    await run({})
    [after] = states
    before = bench.state(bench.tenant())
    points = await stepped_through(run)
    request.node.user_properties.append(("cancellation points", points))

    assert points >= 2
    assert (before == after) == (name.partition(".")[2] in READS)
    assert states <= {before, after}
