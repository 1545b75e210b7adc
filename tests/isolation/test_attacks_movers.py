"""Free SQL with a login in `thea_mover`: it reads the tenant that it names, and writes by its functions alone."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import Connection, errors

from tests.isolation.attacks import (  # noqa: F401 - fixtures
    MINE,
    THEIRS,
    Scene,
    refused,
    run,
    scene_fixture,
    switch,
    undone,
    untouched_fixture,
)

ARCHIVE = "7e0f2f0e-0d4b-4f7f-9d53-3a6a5a1b2c3d"
OTHERS = "not the tenant of the transaction"
WRITES = (
    "select thea.import_begin('{t}', '{a}', '{{}}')",
    "select thea.import_rows('{t}', '{a}', 'thea.users', '[]', null)",
    "select thea.sync_rows('{t}', '{a}', 'thea.users', '[]')",
    "select thea.remove_rows('{t}', '{a}', 'thea.users', '{{1,2,3}}')",
    "select thea.pause_tenant('{t}')",
    "select thea.unpause_tenant('{t}', false)",
    "select thea.add_key('{t}', 9, 'x')",
    "select thea.retire_keys('{t}')",
    "select thea.end_encryption('{t}')",
    "select thea.seal_rows('{t}', 'thea.notes', '[]')",
    "select thea.open_rows('{t}', 'thea.notes', '[]')",
    "select thea.redact_texts('{t}', 'thea.notes', 0, 10)",
    "select thea.end_begin('{t}', '{{}}')",
    "select thea.end_rows('{t}', 'thea.users', 10)",
)


@pytest.fixture(name="mover")
def mover_fixture(scene: Scene) -> Iterator[Connection[Any]]:
    with psycopg.connect(scene.database.url_of("thea_mover")) as connection:
        connection.prepare_threshold = None
        switch(connection, MINE)
        yield connection
        connection.rollback()


def test_it_sees_the_tenant_that_it_names_and_no_other(scene: Scene, mover: Connection[Any]) -> None:
    for table in set(scene.tables) - {"thea.compliance_log", "thea.message_counts", "thea.message_folds"}:
        assert {tenant for (tenant,) in run(mover, f"select tenant_id from {table}")} == {MINE}, table
        assert run(mover, f"select from {table} where tenant_id = '{THEIRS}'").fetchall() == []
    switch(mover, "")
    for table in set(scene.tables) - {"thea.compliance_log", "thea.message_counts", "thea.message_folds"}:
        assert run(mover, f"select from {table}").fetchall() == []


def test_it_writes_no_table_itself(scene: Scene, mover: Connection[Any]) -> None:
    for table in (*scene.tables, "thea.tenants"):
        for statement in (
            "insert into {t} default values",
            "delete from {t}",
            "truncate {t}",
            "select from {t} for update",
            "lock table {t} in share mode",
        ):
            refused(mover, statement.format(t=table))
    refused(mover, "select from thea.tenants")
    refused(mover, "set role thea_loader")
    refused(mover, "select setval('thea.users_id_seq', 1)")


@pytest.mark.parametrize("statement", WRITES)
def test_no_function_works_on_a_tenant_that_the_session_does_not_name(mover: Connection[Any], statement: str) -> None:
    refused(mover, statement.format(t=THEIRS, a=ARCHIVE), match=OTHERS)
    switch(mover, "")
    refused(mover, statement.format(t=THEIRS, a=ARCHIVE), match=OTHERS)


def test_nothing_is_brought_in_or_removed_without_an_entry_that_says_so(mover: Connection[Any]) -> None:
    for statement in WRITES[1:4]:
        refused(mover, statement.format(t=MINE, a=ARCHIVE), match="is not being brought in")
    refused(mover, WRITES[-1].format(t=MINE), match="does not end")
    with undone(mover):
        run(mover, WRITES[0].format(t=MINE, a=ARCHIVE))
        [(login,)] = run(mover, "select after ->> 'login' from thea.audit_log where table_name = 'tenant'").fetchall()
        assert login == mover.info.user


def test_what_became_of_the_tenant_as_a_whole_is_neither_forged_nor_removed(mover: Connection[Any]) -> None:
    forged = {"id": ARCHIVE, "at": "2030-01-01", "table_name": "tenant", "row_id": 0, "action": "purge"}
    with undone(mover):
        run(mover, WRITES[0].format(t=MINE, a=ARCHIVE))
        run(mover, "select thea.import_rows(%s, %s, 'thea.audit_log', %s, null)", MINE, ARCHIVE, json.dumps([forged]))
        run(mover, "select thea.sync_rows(%s, %s, 'thea.audit_log', %s)", MINE, ARCHIVE, json.dumps([forged]))
        entries = "select id::text, action from thea.audit_log where table_name = 'tenant'"
        [(entry, action)] = run(mover, entries).fetchall()
        assert action == "insert"
        run(mover, "select thea.remove_rows(%s, %s, 'thea.audit_log', %s)", MINE, ARCHIVE, [entry])
        run(mover, WRITES[-2].format(t=MINE))
        run(mover, "select thea.end_rows(%s, 'thea.audit_log', 1000000)", MINE)

        assert sorted(action for _, action in run(mover, entries)) == ["insert", "purge"]


def test_rows_go_to_the_tenant_that_the_session_names_whatever_they_say(scene: Scene, mover: Connection[Any]) -> None:
    row = {"tenant_id": THEIRS, "id": 900001, "telegram_id": 900001, "timezone": "UTC", "is_active": True}
    row |= {"preferences": {}, "created_at": "2030-01-01", "updated_at": "2030-01-01"}
    with undone(mover):
        run(mover, WRITES[0].format(t=MINE, a=ARCHIVE))
        for call in ("import_rows(%s, %s, 'thea.users', %s, null)", "sync_rows(%s, %s, 'thea.users', %s)"):
            run(mover, f"select thea.{call}", MINE, ARCHIVE, json.dumps([row]))

        assert run(mover, "select tenant_id from thea.users where id = 900001").fetchall() == [(MINE,)]
    # The same ids are another row there.
    theirs = scene.theirs.ids["users"][0]
    with undone(mover):
        run(mover, WRITES[0].format(t=MINE, a=ARCHIVE))
        assert run(
            mover, "select thea.remove_rows(%s, %s, 'thea.users', %s)", MINE, ARCHIVE, [str(theirs)]
        ).fetchone() == (0,)


@pytest.mark.parametrize("table", ["thea.tenants", "pg_catalog.pg_class", "public._yoyo_migration"])
def test_no_other_table_is_written(mover: Connection[Any], table: str) -> None:
    with undone(mover):
        run(mover, WRITES[0].format(t=MINE, a=ARCHIVE))
        run(mover, WRITES[-2].format(t=MINE))
        for statement in ("select thea.end_rows(%s, %s, 1)", "select thea.import_rows(%s, '7e0f2f0e', %s, '[]', null)"):
            refused(
                mover, statement.replace("7e0f2f0e", ARCHIVE), MINE, table, by=errors.WrongObjectType, match="no table"
            )
