"""A service's own tables come along: with references to themselves, to other tables, and without a foreign key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.tenancy.places import Place
from thea_store import TenantEndedError
from thea_store.errors import UnsafeSchemaError
from thea_store.tenancy.archive import end_tenant, export_tenant, import_tenant, move_tenant, restore_tenant
from thea_store.testing import TestDatabase

TENANT, OTHER = "acme", "other"
TABLES = """
create schema planner;
create table planner.tasks (
  tenant_id text not null,
  "odd ""name" text,
  id bigint not null generated always as identity,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  deleted_at timestamptz,
  user_id bigint not null,
  parent_id bigint,
  last_note_id bigint,
  code text,
  twice integer generated always as (char_length(code) * 2) stored,
  primary key (tenant_id, id),
  unique (tenant_id, code),
  foreign key (tenant_id, user_id) references thea.users (tenant_id, id) on delete cascade,
  foreign key (tenant_id, parent_id) references planner.tasks (tenant_id, id)
);
comment on column planner.tasks.last_note_id is 'refers to thea.notes, without a foreign key';
select thea.protect('planner.tasks');
"""
ROWS = """
select set_config('app.tenant_id', 'acme', true);
insert into thea.users (tenant_id, telegram_id) values ('acme', 1);
insert into thea.notes (tenant_id, user_id, content) select 'acme', id, 'pan' from thea.users;
insert into planner.tasks (tenant_id, user_id, last_note_id, code, "odd ""name")
  select 'acme', u.id, n.id, 'code ' || i, '%\\' || i
  from thea.users u, thea.notes n, generate_series(1, 3) i where u.tenant_id = 'acme' and n.tenant_id = 'acme';
-- The first hangs on the last, so that a row comes before the one that it needs.
update planner.tasks set parent_id = (select max(id) from planner.tasks where tenant_id = 'acme')
  where tenant_id = 'acme' and id = (select min(id) from planner.tasks where tenant_id = 'acme');
"""
ALL = "select * from planner.tasks where tenant_id = %s order by id"


@pytest.fixture(scope="module")
def places(thea_new_database: Callable[..., TestDatabase]) -> Iterator[tuple[Place, Place]]:
    first, second = thea_new_database(), thea_new_database()
    for database in (first, second):
        with psycopg.connect(database.migrator_url) as migrator:
            migrator.execute(TABLES)
    with psycopg.connect(first.app_url) as service:
        service.execute(ROWS)
    with (
        psycopg.connect(first.superuser_url, autocommit=True) as one,
        psycopg.connect(second.superuser_url, autocommit=True) as other,
    ):
        yield Place(first, one), Place(second, other)


def tasks(place: Place, tenant: str = TENANT) -> list[tuple[Any, ...]]:
    return place.superuser.execute(ALL, [tenant]).fetchall()


@pytest.mark.usefixtures("small_batches")
def test_own_tables_are_exported_brought_in_restored_moved_and_ended(
    places: tuple[Place, Place], tmp_path: Path
) -> None:
    here, there = places
    before = tasks(here)
    file = tmp_path / "acme.zip"
    export_tenant(here.mover, TENANT, file)
    imported = import_tenant(there.mover, file)

    assert tasks(there) == before
    assert imported.tables["planner.tasks"].loaded == 3
    assert imported.tables["planner.tasks"].left_out == []

    there.superuser.execute("delete from planner.tasks where tenant_id = 'acme'")
    restored = restore_tenant(there.service, here.service, TENANT)
    assert restored.tables["planner.tasks"].loaded == 3
    assert [row[:3] for row in tasks(there)] == [row[:3] for row in before]

    end_tenant(there.mover, TENANT, None)
    assert tasks(there) == []
    move_tenant(here.mover, there.mover, TENANT)
    assert tasks(there) == before


@pytest.mark.usefixtures("small_batches")
def test_references_of_own_tables_are_mapped(places: tuple[Place, Place], tmp_path: Path) -> None:
    here, _ = places
    file = tmp_path / "acme.zip"
    export_tenant(here.mover, TENANT, file)
    with psycopg.connect(here.database.app_url) as service:
        service.execute("select set_config('app.tenant_id', 'other', true)")
        service.execute("insert into thea.users (tenant_id, telegram_id) values ('other', 7)")
    imported = import_tenant(here.mover, file, name=OTHER)

    assert imported.ids == "mapped"
    assert imported.tables["planner.tasks"].loaded == 3
    dangling = here.superuser.execute(
        "select count(*) from planner.tasks t where tenant_id = 'other' and not exists (select from thea.notes n"
        " where n.tenant_id = t.tenant_id and n.id = t.last_note_id)"
    ).fetchone()
    assert dangling == (0,)
    [(child, parent)] = here.superuser.execute(
        "select c.code, p.code from planner.tasks c join planner.tasks p on p.tenant_id = c.tenant_id"
        " and p.id = c.parent_id where c.tenant_id = 'other'"
    ).fetchall()
    assert (child, parent) == ("code 1", "code 3")


@pytest.fixture
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("thea_store.tenancy.archive.file._ROWS", 2)


def test_an_ended_tenant_takes_no_rows_under_its_name(places: tuple[Place, Place], tmp_path: Path) -> None:
    here, there = places
    file = tmp_path / "acme.zip"
    export_tenant(here.mover, TENANT, file)
    there.superuser.execute("delete from thea.tenants")
    there.superuser.execute(
        "insert into thea.tenants (id, status, ended_at) values (%s, 'ended', now()), ('named', 'ended', now())",
        [TENANT],
    )
    try:
        for name in (None, "named"):
            with pytest.raises(TenantEndedError, match="has ended"):
                import_tenant(there.mover, file, name=name)
        assert import_tenant(there.mover, file, name="new").ids == "kept"
    finally:
        there.superuser.execute("delete from thea.tenants")


def test_tables_that_refer_to_each_other_in_a_circle_are_named(places: tuple[Place, Place], tmp_path: Path) -> None:
    here, _ = places
    here.superuser.execute(
        "alter table thea.users add column task_id bigint, add constraint users_task_id_fkey"
        " foreign key (tenant_id, task_id) references planner.tasks (tenant_id, id)"
    )
    try:
        with pytest.raises(UnsafeSchemaError, match=r"planner\.tasks.*in a circle"):
            export_tenant(here.mover, TENANT, tmp_path / "circle.zip")
    finally:
        here.superuser.execute("alter table thea.users drop column task_id")
