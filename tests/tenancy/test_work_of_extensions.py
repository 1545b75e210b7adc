"""A service's own kinds of work, and the retention of its own tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from psycopg import Connection, errors

from thea_store import InvalidArgumentError, Settings, Store
from thea_store.testing import TestDatabase

TASKS = """
create schema planner;
create table planner.tasks (
  tenant_id text not null,
  id bigint generated always as identity,
  user_id bigint not null,
  due_at timestamptz,
  done boolean not null default false,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  deleted_at timestamptz,
  constraint tasks_pkey primary key (tenant_id, id),
  constraint tasks_user_id_fkey foreign key (tenant_id, user_id) references thea.users (tenant_id, id) on delete cascade
);
select thea.protect('planner.tasks');
create index tasks_due_at_idx on planner.tasks (tenant_id, due_at, id) where due_at is not null and not done;
create index tasks_user_id_idx on planner.tasks (tenant_id, user_id, id);
create index "Odd one" on planner.tasks (tenant_id, created_at, id);
select thea.offer_work('planner.due_tasks', 'planner.tasks_due_at_idx')
"""


@pytest.fixture(scope="module")
def database(thea_new_database: Callable[..., TestDatabase]) -> TestDatabase:
    return thea_new_database()


@pytest.fixture(scope="module")
def migrator(database: TestDatabase) -> Iterator[Connection[Any]]:
    with psycopg.connect(database.migrator_url, autocommit=True) as connection:
        # As migrations run.
        connection.execute("set row_security = off")
        connection.execute(TASKS.encode())
        yield connection


@pytest.fixture(scope="module")
def superuser(database: TestDatabase) -> Iterator[Connection[Any]]:
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        yield connection


def add_task(superuser: Connection[Any], tenant: str, **columns: str) -> int:
    superuser.execute("insert into thea.users (tenant_id, telegram_id) values (%s, 1) on conflict do nothing", [tenant])
    names, values = "".join(f", {name}" for name in columns), "".join(f", {value}" for value in columns.values())
    [(made,)] = superuser.execute(
        f"insert into planner.tasks (tenant_id, user_id{names}) select tenant_id, id{values} from thea.users"
        f" where tenant_id = '{tenant}' returning id".encode()
    )
    return int(made)


async def test_a_kind_that_a_migration_offers_names_tenants(
    database: TestDatabase, migrator: Connection[Any], superuser: Connection[Any]
) -> None:
    del migrator
    add_task(superuser, "due", due_at="now() - interval '1 minute'")
    add_task(superuser, "to-come", due_at="now() + interval '1 day'")
    add_task(superuser, "done", due_at="now() - interval '1 minute'", done="true")
    async with Store.open(Settings(url=database.url_of("thea_worker"), pool_size=1)) as finder:
        assert await finder.work.tenants_with("planner.due_tasks") == ["due"]
        assert await finder.work.tenants_with("planner.due_tasks", "due_reminders") == ["due"]
        with pytest.raises(InvalidArgumentError):
            await finder.work.tenants_with("planner.overdue")


def test_an_offer_is_changed_withdrawn_and_survives_protect(migrator: Connection[Any]) -> None:
    kinds = "select kind, index_name::text from thea.work_kinds() where kind ~ '^planner' order by kind"
    migrator.execute("select thea.offer_work('planner.new_tasks', 'planner.\"Odd one\"')")
    migrator.execute("select thea.protect('planner.tasks')")
    both = migrator.execute(kinds).fetchall()
    migrator.execute("select thea.offer_work('planner.new_tasks', 'planner.tasks_due_at_idx')")
    changed = migrator.execute(kinds).fetchall()
    migrator.execute("select thea.withdraw_work('planner.new_tasks')")

    assert both == [("planner.due_tasks", "planner.tasks_due_at_idx"), ("planner.new_tasks", 'planner."Odd one"')]
    assert changed[1] == ("planner.new_tasks", "planner.tasks_due_at_idx")
    assert migrator.execute(kinds).fetchall() == both[:1]


@pytest.mark.parametrize(
    ("offer", "reason"),
    [
        ("'planner.x', 'planner.tasks_user_id_idx'", "no index of a protected table on"),
        ("'planner.x', 'planner.tasks_pkey'", "no index of a protected table on"),
        ("'planner.x', 'thea.tenants_created_at_idx'", "no index of a protected table on"),
        ("'x', 'planner.tasks_due_at_idx'", "does not belong to the schema of planner.tasks"),
        ("'other.x', 'planner.tasks_due_at_idx'", "does not belong to the schema of planner.tasks"),
        ("'planner.x', 'thea.notes_created_at_idx'", "does not belong to the schema of thea.notes"),
    ],
)
def test_what_cannot_be_a_kind_of_work_is_refused(migrator: Connection[Any], offer: str, reason: str) -> None:
    with pytest.raises(errors.InvalidParameterValue, match=reason):
        migrator.execute(f"select thea.offer_work({offer})".encode())


async def test_a_protected_table_has_an_index_for_retention_and_goes_by_policies(
    database: TestDatabase, migrator: Connection[Any], superuser: Connection[Any]
) -> None:
    del migrator
    old = add_task(superuser, "kept", deleted_at="now() - interval '40 days'")
    fresh = add_task(superuser, "kept", deleted_at="now()")
    superuser.execute("insert into thea.retention_policies values (null, 'planner.tasks', 'deleted', '30 days')")
    index = "select pg_get_indexdef('planner.tasks_deleted_at_idx'::regclass)"
    async with Store.open(Settings(url=database.url_of("thea_worker"), pool_size=1)) as finder:
        assert "kept" in await finder.work.tenants_with_expired_rows()
        while await finder.work.expire("kept"):
            pass
        assert "kept" not in await finder.work.tenants_with_expired_rows()

    assert superuser.execute("select id from planner.tasks where tenant_id = 'kept'").fetchall() == [(fresh,)]
    assert "(tenant_id, deleted_at, id) WHERE (deleted_at IS NOT NULL)" in superuser.execute(index).fetchall()[0][0]
    assert old != fresh


async def test_a_policy_of_a_table_that_is_gone_stops_nobody(
    database: TestDatabase, superuser: Connection[Any]
) -> None:
    superuser.execute("insert into thea.retention_policies values (null, 'gone.things', 'deleted', '30 days')")
    async with Store.open(Settings(url=database.url_of("thea_worker"), pool_size=1)) as finder:
        assert isinstance(await finder.work.tenants_with_expired_rows(), list)
        assert not await finder.work.expire("nobody")
