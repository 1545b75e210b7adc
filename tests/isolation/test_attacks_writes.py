"""No way of writing makes, changes, moves or removes a row of another tenant; and readers write nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest
from psycopg import Connection, errors

from tests.isolation.attacks import (  # noqa: F401 - fixtures
    MINE,
    OF_SECURITY,
    THEIRS,
    Scene,
    app_fixture,
    attacker_fixture,
    group_of,
    reader_fixture,
    refused,
    run,
    scene_fixture,
    undone,
    untouched_fixture,
)

# What the application may never change in a row: what it is known by, whose it is, and its past.
FIXED = {"tenant_id", "id", "user_id", "conversation_id", "created_at", "updated_at"}

UPSERT = (
    "insert into {t} overriding system value select * from {t}"
    " on conflict (tenant_id, id) do update set tenant_id = %(tenant)s"
)

# Each makes the rows `%(row)s` in the table `{t}`, whose columns are `{c}`.
INSERTS = {
    "plainly": "insert into {t} ({c}) overriding system value select {c} from {r}",
    "returning it": "insert into {t} ({c}) overriding system value select {c} from {r} returning tenant_id",
    "in a CTE": "with x as (insert into {t} ({c}) overriding system value select {c} from {r} returning *) table x",
    "unless it is there": "insert into {t} ({c}) overriding system value select {c} from {r} on conflict do nothing",
    "or changing it": "insert into {t} ({c}) overriding system value select {c} from {r}"
    " on conflict (tenant_id, id) do update set deleted_at = excluded.deleted_at",
    "by a merge": "merge into {t} x using {r} r on x.tenant_id = r.tenant_id and x.id = r.id"
    " when not matched then insert ({c}) overriding system value values ({rc})",
}

# Each changes or removes the rows %(ids)s of the table `{t}`.
CHANGES = {
    "update": "update {t} set deleted_at = now() where id = any(%(ids)s)",
    "update returning": "update {t} set deleted_at = now() where id = any(%(ids)s) returning tenant_id, id",
    "update from": "update {t} x set deleted_at = now() from unnest(%(ids)s::bigint[]) i (id) where x.id = i.id",
    "update of all": "update {t} set deleted_at = now() where id = any(%(ids)s) or tenant_id is null",
    "update in a CTE": "with x as (update {t} set deleted_at = now() where id = any(%(ids)s) returning id) table x",
    "update by a join": "update {t} x set deleted_at = now() from {t} y where y.id = x.id and y.id = any(%(ids)s)",
    "delete": "delete from {t} where id = any(%(ids)s)",
    "delete returning": "delete from {t} where id = any(%(ids)s) returning *",
    "delete using": "delete from {t} x using unnest(%(ids)s::bigint[]) i (id) where x.id = i.id",
    "delete in a CTE": "with x as (delete from {t} where id = any(%(ids)s) returning id) table x",
    "delete by place": "delete from {t} where ctid in (select ctid from {t} where id = any(%(ids)s))",
    "merge that updates": "merge into {t} x using unnest(%(ids)s::bigint[]) i (id) on x.id = i.id"
    " when matched then update set deleted_at = now()",
    "merge that deletes": "merge into {t} x using unnest(%(ids)s::bigint[]) i (id) on x.id = i.id"
    " when matched then delete",
}


def making(way: str, table: str, row: dict[str, Any]) -> tuple[str, str]:
    columns = ", ".join(row)
    statement = INSERTS[way].format(
        t=table,
        c=columns,
        rc=", ".join(f"r.{name}" for name in row),
        r=f"jsonb_populate_record(null::{table}, %(row)s)",
    )
    return statement, json.dumps(row)


def anew(column: str) -> str:
    """An assignment that the column's type takes; an identity takes its default alone."""
    return f"{column} = {'default' if column == 'id' else column}"


@pytest.mark.parametrize("way", INSERTS)
def test_no_row_is_made_for_another_tenant(scene: Scene, app: Connection[Any], way: str) -> None:
    for table in scene.written:
        own = scene.row(table, MINE)
        statement, value = making(way, table, own | {"tenant_id": THEIRS, "id": 900_000_001})
        refused(app, statement, match=OF_SECURITY, row=value)
        with undone(app):
            run(app, f"delete from {table} where id = %s", own["id"])
            statement, value = making(way, table, own)

            assert run(app, statement, row=value).rowcount == 1, table


def test_no_row_is_copied_to_another_tenant(scene: Scene, app: Connection[Any]) -> None:
    for table in scene.written:
        columns = ", ".join(name for name in scene.row(table, MINE) if name not in {"tenant_id", "id"})

        refused(
            app,
            f"insert into {table} (tenant_id, {columns}) select %s, {columns} from {table}",
            THEIRS,
            match=OF_SECURITY,
        )


@pytest.mark.parametrize("way", CHANGES)
def test_no_foreign_row_is_changed_or_removed(scene: Scene, app: Connection[Any], way: str) -> None:
    for table in scene.written:
        changed = {}
        for tenant in (MINE, THEIRS):
            with undone(app):
                changed[tenant] = run(app, CHANGES[way].format(t=table), ids=scene.ids(table, tenant)).rowcount

        assert changed == {MINE: scene.counts[table], THEIRS: 0}, table


def test_each_column_changes_in_ones_own_rows_alone(scene: Scene, app: Connection[Any]) -> None:
    for table in scene.written:
        for column in scene.row(table, MINE):
            statement = f"update {table} set {anew(column)} where id = any(%s)"
            if column in FIXED or column == "search_vector":
                refused(app, statement, scene.ids(table, MINE))
            else:
                assert run(app, statement, scene.ids(table, THEIRS)).rowcount == 0, (table, column)
                assert run(app, statement, scene.ids(table, MINE)).rowcount == scene.counts[table], (table, column)


def test_a_change_of_everything_is_a_change_of_ones_own(scene: Scene, app: Connection[Any]) -> None:
    for table in scene.written:
        for statement in (f"update {table} set deleted_at = now()", f"delete from {table}"):
            with undone(app):
                assert run(app, statement).rowcount == scene.counts[table], statement


@pytest.mark.parametrize(
    "statement",
    [
        "update {t} set tenant_id = %(tenant)s",
        "update {t} set tenant_id = %(tenant)s where false",
        "update {t} set (deleted_at, tenant_id) = (now(), %(tenant)s)",
        UPSERT,
        "merge into {t} x using {t} y on x.id = y.id when matched then update set tenant_id = %(tenant)s",
        "with x as (update {t} set tenant_id = %(tenant)s returning 1) table x",
    ],
)
def test_no_row_moves_to_another_tenant(scene: Scene, app: Connection[Any], statement: str) -> None:
    for table in scene.written:
        refused(app, statement.format(t=table), tenant=THEIRS)


def test_a_merge_removes_by_source_what_is_ones_own(scene: Scene, app: Connection[Any]) -> None:
    if app.info.server_version < 170000:
        pytest.skip("not before PostgreSQL 17")
    for table in scene.written:
        with undone(app):
            merged = run(
                app,
                f"merge into {table} x using (select 0::bigint id) y on x.id = y.id"
                " when not matched by source then delete returning merge_action(), x.tenant_id",
            ).fetchall()

        assert merged == [("DELETE", MINE)] * len(merged), table
        assert len(merged) == scene.counts[table], table


def test_a_cursor_of_one_tenant_changes_nothing_under_another(scene: Scene, app: Connection[Any]) -> None:
    for table in scene.written:
        for tenant, changed in ((MINE, 1), (THEIRS, 0)):
            with undone(app):
                run(app, f"declare here cursor for select from {table} for update")
                run(app, "fetch 1 from here")
                run(app, "select set_config('app.tenant_id', %s, true)", tenant)

                assert run(app, f"update {table} set deleted_at = now() where current of here").rowcount == changed


def test_removing_all_users_takes_along_ones_own_rows(scene: Scene, app: Connection[Any]) -> None:
    run(app, "delete from thea.users")

    for table in scene.written:
        assert run(app, f"select from {table}").fetchall() == []


@pytest.mark.parametrize("options", ["", "cascade", "restart identity cascade"])
def test_nothing_is_truncated(scene: Scene, attacker: Connection[Any], options: str) -> None:
    for table in scene.tables:
        refused(attacker, f"truncate {table} {options}")
        refused(attacker, f"truncate only {table} {options}")


def test_nothing_is_copied_in(scene: Scene, attacker: Connection[Any]) -> None:
    allowed = errors.FeatureNotSupported if group_of(attacker) == "thea_app" else errors.InsufficientPrivilege
    for table in scene.written:
        refused(attacker, f"copy {table} from stdin", by=allowed, match="")
        refused(attacker, f"copy {table} (tenant_id) from stdin with (freeze)", by=allowed, match="")
    refused(attacker, "copy thea.audit_log from stdin")


@pytest.mark.parametrize("mode", ["", "set transaction read write", "set default_transaction_read_only = off"])
def test_a_reader_writes_nothing(scene: Scene, reader: Connection[Any], mode: str) -> None:
    run(reader, mode or "select")
    for table in scene.written:
        for way in INSERTS:
            statement, value = making(way, table, scene.row(table, MINE))
            refused(reader, statement, row=value)
        for statement in CHANGES.values():
            refused(reader, statement.format(t=table), ids=scene.ids(table, MINE))
    for table in scene.tables:
        for strength in ("update", "no key update", "share", "key share"):
            refused(reader, f"select from {table} for {strength}")
        for column in scene.row(table, MINE):
            refused(reader, f"update {table} set {anew(column)}")


def test_forged_words_lead_no_search_to_a_note(scene: Scene, app: Connection[Any]) -> None:
    def scope_of(tenant: str, user: int) -> str:
        return str(scene.ask("select thea.note_scope(%s, %s)", tenant, user)[0][0])

    theirs, own = scene.theirs.ids["users"][0], scene.mine.ids["users"][0]
    run(
        app,
        "insert into thea.notes (tenant_id, user_id, content, search_vector) values (%s, %s, 'x', %s)",
        MINE,
        own,
        f"'{scope_of(THEIRS, theirs)}pan':1",
    )
    found = "select from thea.notes where search_vector @@ %s::tsquery"

    assert run(app, found, f"'{scope_of(THEIRS, theirs)}pan'").fetchall() == []
    assert run(app, found, f"'{scope_of(MINE, own)}x'").rowcount == 1
