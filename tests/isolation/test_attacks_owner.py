"""Each lock holds with the others taken off: either policy alone, the owner of the tables, and whoever migrates."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import Connection

from tests.isolation.attacks import (  # noqa: F401 - fixtures
    MINE,
    OF_SECURITY,
    THEIRS,
    Scene,
    refused,
    run,
    scene_fixture,
    switch,
    undone,
    untouched_fixture,
)

# Each takes off what stands beside one policy, so that this one is alone; the audit log is only read.
TAKEN_OFF = {
    "the permissive policy": ["drop policy tenant_guard on {t}"],
    "the restrictive policy": [
        "drop policy tenant on {t}",
        "create policy opened on {t} using (true) with check (true)",
    ],
    "the restrictive policy, beside others": ["create policy opened on {t} to public using (true) with check (true)"],
}


@pytest.fixture
def rebuilding(scene: Scene) -> Iterator[Connection[Any]]:
    """A superuser who may change the schema, for the length of a test."""
    with scene.superuser.transaction(force_rollback=True):
        yield scene.superuser


def insertion(table: str) -> str:
    """An insert of a row that the tables' constraints would refuse, had row security not done so before."""
    return f"insert into {table} (tenant_id) values (%s)"


@pytest.mark.parametrize("role", ["thea_app", "thea_readonly"])
@pytest.mark.parametrize("alone", TAKEN_OFF)
def test_one_policy_alone_is_enough(scene: Scene, rebuilding: Connection[Any], alone: str, role: str) -> None:
    for table in scene.tables:
        for statement in TAKEN_OFF[alone]:
            run(rebuilding, statement.format(t=table))
    run(rebuilding, "grant insert, update, delete on all tables in schema thea to thea_app, thea_readonly")
    run(rebuilding, "grant execute on all functions in schema thea to thea_app, thea_readonly")
    run(rebuilding, f"set local role {role}")
    for table in scene.tables:
        for tenant in (MINE, THEIRS):
            switch(rebuilding, tenant)
            assert {seen for (seen,) in run(rebuilding, f"select tenant_id from {table}")} == {tenant}, table
        switch(rebuilding, MINE)
        refused(rebuilding, insertion(table), THEIRS, match=OF_SECURITY)
        switch(rebuilding, "")
        assert run(rebuilding, f"select from {table}").fetchall() == []
    for table in scene.written:
        switch(rebuilding, MINE)
        refused(rebuilding, f"update {table} set tenant_id = %s", THEIRS, match=OF_SECURITY)
        with undone(rebuilding):
            assert run(rebuilding, f"delete from {table}").rowcount == scene.counts[table]


@pytest.mark.parametrize("tenant", ["", MINE, THEIRS])
def test_the_owner_of_the_tables_is_bound(scene: Scene, rebuilding: Connection[Any], tenant: str) -> None:
    run(rebuilding, "set local role thea_owner")
    switch(rebuilding, tenant)
    for table in scene.tables:
        assert run(rebuilding, f"select from {table}").fetchall() == [], table
    for table in scene.written:
        assert run(rebuilding, f"update {table} set deleted_at = null").rowcount == 0, table
        assert run(rebuilding, f"delete from {table}").rowcount == 0, table
        refused(rebuilding, insertion(table), MINE, match=OF_SECURITY)


def test_who_migrates_is_bound_or_told(scene: Scene) -> None:
    with psycopg.connect(scene.database.migrator_url) as migrator:
        for table in scene.tables:
            assert run(migrator, f"select from {table}").fetchall() == [], table
        run(migrator, "set row_security = off")
        for table in scene.tables:
            refused(migrator, f"select from {table}", match="would be affected by row-level security")
        migrator.rollback()


def test_maintenance_reads_and_removes_and_writes_nothing(scene: Scene, rebuilding: Connection[Any]) -> None:
    """It works for all tenants, so it must not be able to give one the rows of another."""
    rows = {table: scene.row(table, MINE) for table in scene.written}
    run(rebuilding, "set local role thea_maintenance")
    for table in scene.written:
        assert {tenant for (tenant,) in run(rebuilding, f"select tenant_id from {table}")} == {MINE, THEIRS}
        refused(rebuilding, insertion(table), MINE)
        refused(rebuilding, f"truncate {table}")
        for column in rows[table]:
            refused(rebuilding, f"update {table} set {column} = default")


def test_the_role_of_the_searches_reads_notes_and_nothing_else(scene: Scene, rebuilding: Connection[Any]) -> None:
    run(rebuilding, "set local role thea_search")
    assert {tenant for (tenant,) in run(rebuilding, "select tenant_id from thea.notes")} == {MINE, THEIRS}
    refused(rebuilding, insertion("thea.notes"), MINE)
    refused(rebuilding, "update thea.notes set title = null")
    refused(rebuilding, "delete from thea.notes")
    refused(rebuilding, "create table thea.mine (id int)")

    for table in set(scene.tables) - {"thea.notes"}:
        refused(rebuilding, f"select from {table}")
