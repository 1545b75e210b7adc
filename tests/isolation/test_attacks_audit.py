"""The audit log tells what happened: no role adds to it, changes it, empties it, or keeps a change out of it."""

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
    refused,
    run,
    scene_fixture,
    switch,
    undone,
    untouched_fixture,
)

LOG = "thea.audit_log"
FORGED = (
    "insert into thea.audit_log (tenant_id, table_name, row_id, action, actor)"
    " values (%(tenant)s, 'users', 1, 'insert', 'admin')"
)

FORGERIES = [
    FORGED,
    f"{FORGED} returning id",
    f"{FORGED} on conflict do nothing",
    f"{FORGED} on conflict (tenant_id, id) do update set actor = excluded.actor",
    f"with x as ({FORGED} returning *) table x",
    "insert into thea.audit_log select * from thea.audit_log",
    "merge into thea.audit_log x using thea.audit_log y on false when not matched then insert values (y.*)",
    "update thea.audit_log set actor = 'nobody'",
    "update thea.audit_log set tenant_id = %(tenant)s",
    "update thea.audit_log set before = null where false",
    "merge into thea.audit_log x using thea.users y on x.row_id = y.id when matched then update set actor = null",
    "merge into thea.audit_log x using thea.users y on x.row_id = y.id when matched then delete",
    "delete from thea.audit_log",
    "delete from thea.audit_log where false",
    "with x as (delete from thea.audit_log returning *) table x",
    "truncate thea.audit_log",
    "truncate thea.users, thea.audit_log cascade",
    "copy thea.audit_log from stdin",
    "select from thea.audit_log for update",
    "select from thea.audit_log for key share",
]

# What silences triggers, or lets somebody make some of their own.
SILENCING = [
    "alter table thea.audit_log disable trigger append_only",
    "alter table {t} disable trigger audit",
    "alter table {t} disable trigger all",
    "drop trigger audit on {t}",
    "drop trigger append_only on thea.audit_log",
    "set session_replication_role = replica",
    "create trigger forged after insert on {t} for each row execute function thea.audit('users')",
    "create or replace trigger audit after insert on {t} for each row execute function thea.touch()",
    "create table thea.forged (tenant_id text, id bigint)",
    "create temporary table forged (tenant_id text, id bigint)",
    "select thea.audit()",
    "select thea.audit_is_append_only()",
    "alter function thea.audit() set app.actor = 'admin'",
    "create rule forged as on insert to {t} do also delete from thea.audit_log",
    "create policy forged on thea.audit_log for insert with check (true)",
]

ENTRIES = (
    "select action, actor, before, after from thea.audit_log where table_name = %s and row_id = %s order by at, id"
)


# Each changes a row and the tenant.
SWITCHING = [
    """
    update thea.users set language_code = 'pt' where id = {id} returning set_config('app.tenant_id', '{context}', true)
    """,
    """
    with x as (update thea.users set language_code = 'pt' where id = {id} returning id)
    select set_config('app.tenant_id', '{context}', true) from x
    """,
    """
    update thea.users
    set language_code = 'pt', last_name = nullif(set_config('app.tenant_id', '{context}', true), '{context}')
    where id = {id}
    """,
    """
    do $$ begin
      update thea.users set language_code = 'pt' where id = {id};
      perform set_config('app.tenant_id', '{context}', true);
    end $$
    """,
]


@pytest.mark.parametrize("tenant", [MINE, THEIRS])
def test_no_entry_is_forged_changed_or_removed(attacker: Connection[Any], tenant: str) -> None:
    for statement in FORGERIES:
        refused(attacker, statement, tenant=tenant, match="permission denied")


def test_no_trigger_is_silenced_or_made(scene: Scene, attacker: Connection[Any]) -> None:
    for statement in SILENCING:
        for table in scene.written if "{t}" in statement else ["thea.users"]:
            refused(attacker, statement.format(t=table))


@pytest.mark.parametrize("role", ["thea_owner", "none"])
@pytest.mark.parametrize(
    "statement",
    ["update thea.audit_log set actor = 'x'", "delete from thea.audit_log where false", "truncate thea.audit_log"],
)
def test_even_those_who_own_it_only_append(scene: Scene, role: str, statement: str) -> None:
    with scene.superuser.transaction(force_rollback=True):
        run(scene.superuser, f"set local role {role}")

        refused(scene.superuser, statement, match="append-only")


def test_its_owner_appends_for_the_tenant_of_the_transaction_alone(scene: Scene) -> None:
    with scene.superuser.transaction(force_rollback=True):
        run(scene.superuser, "set local role thea_owner")
        switch(scene.superuser, MINE)

        refused(scene.superuser, FORGED, tenant=THEIRS, match=OF_SECURITY)
        assert run(scene.superuser, FORGED, tenant=MINE).rowcount == 1
        assert run(scene.superuser, "select from thea.audit_log").fetchall() == []


def test_maintenance_has_no_part_in_it(scene: Scene) -> None:
    with scene.superuser.transaction(force_rollback=True):
        run(scene.superuser, "set local role thea_maintenance")
        assert {tenant for (tenant,) in run(scene.superuser, "select tenant_id from thea.users")} == {MINE, THEIRS}

        for statement in ("select from thea.audit_log", *FORGERIES):
            refused(scene.superuser, statement, tenant=MINE, match="permission denied")


def test_every_change_of_every_table_is_told(scene: Scene, app: Connection[Any]) -> None:
    for table in scene.written:
        row = scene.row(table, MINE)
        name, columns = table.removeprefix("thea."), ", ".join(row)
        back = "deleted_at = null" + (", deleted_with = null" if "deleted_with" in row else "")
        with undone(app):
            run(app, f"update {table} set deleted_at = 'epoch' where id = %s", row["id"])
            run(app, f"update {table} set {back} where id = %s", row["id"])
            run(app, f"delete from {table} where id = %s", row["id"])
            run(
                app,
                f"insert into {table} ({columns}) overriding system value"
                f" select {columns} from jsonb_populate_record(null::{table}, %s)",
                json.dumps(row),
            )
            actions = [action for action, *_ in run(app, ENTRIES, name, row["id"])]

        assert actions[-3:] == ["restore", "purge", "insert"], table
        assert actions[-4] in {"delete", "update"}, table


@pytest.mark.parametrize("context", [THEIRS, ""])
@pytest.mark.parametrize("statement", SWITCHING)
def test_a_switch_within_the_statement_hides_no_change(
    scene: Scene, app: Connection[Any], statement: str, context: str
) -> None:
    """The entry is written as the statement ends: for the row's own tenant, or else the statement fails."""
    user = scene.mine.ids["users"][0]
    refusal, entries = None, []
    with undone(app):
        try:
            run(app, statement.format(id=user, context=context))
        except errors.InsufficientPrivilege as error:
            refusal = error
        else:
            switch(app, MINE)
            entries = run(app, ENTRIES, "users", user).fetchall()

    if refusal is None:
        assert entries[-1] == ("update", None, {"language_code": "es"}, {"language_code": "pt"})
    else:
        assert OF_SECURITY in str(refusal)


def test_a_purge_leaves_the_entries(scene: Scene, app: Connection[Any]) -> None:
    before = run(app, "select count(*) from thea.audit_log").fetchall()[0][0]
    rows = sum(scene.counts[table] for table in scene.written)
    run(app, "delete from thea.users")
    after = run(app, "select count(*), count(*) filter (where action = 'purge') from thea.audit_log").fetchall()

    assert after == [(before + rows, rows)]
