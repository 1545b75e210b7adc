"""What one session leaves is not there for the next, and what others do in theirs is not told."""

from __future__ import annotations

from typing import Any

import pytest
from psycopg import Connection, errors

from tests.isolation.attacks import (  # noqa: F401 - fixtures
    MINE,
    THEIRS,
    Scene,
    alone,
    app_fixture,
    attacker_fixture,
    group_of,
    refused,
    run,
    scene_fixture,
    switch,
    untouched_fixture,
)


@pytest.mark.parametrize("ending", ["commit", "rollback"])
def test_a_cursor_ends_with_its_transaction(attacker: Connection[Any], ending: str) -> None:
    run(attacker, "declare opened cursor for select * from thea.users")
    run(attacker, ending)

    refused(attacker, "fetch all from opened", by=errors.InvalidCursorName, match="opened")


def test_a_held_cursor_ends_with_the_session_being_cleared(attacker: Connection[Any]) -> None:
    run(attacker, "declare held cursor with hold for select tenant_id from thea.users")
    run(attacker, "commit")
    alone(attacker)
    assert run(attacker, "fetch 1 from held").fetchall() == [(MINE,)]
    run(attacker, "discard all")

    assert run(attacker, "select from pg_cursors").fetchall() == []
    assert run(attacker, "select from pg_prepared_statements").fetchall() == []


def test_what_is_prepared_in_one_session_is_not_in_another(scene: Scene, attacker: Connection[Any]) -> None:
    with scene.connected("app", THEIRS) as other:
        run(other, "prepare theirs as select * from thea.users")
        run(other, "declare theirs cursor for select * from thea.users")

        refused(attacker, "execute theirs", by=errors.InvalidSqlStatementName, match="theirs")
        refused(attacker, "fetch all from theirs", by=errors.InvalidCursorName, match="theirs")
        for view in ("pg_prepared_statements", "pg_cursors"):
            assert run(attacker, f"select from {view} where name = 'theirs'").fetchall() == []
            assert len(run(other, f"select from {view} where name = 'theirs'").fetchall()) == 1


def test_no_transaction_is_left_for_another_session(app: Connection[Any]) -> None:
    if run(app, "show max_prepared_transactions").fetchall() != [("0",)]:
        pytest.skip("this server was told to keep prepared transactions, which is not its default")
    run(app, "update thea.users set first_name = 'Eva'")

    with pytest.raises(errors.ObjectNotInPrerequisiteState, match="prepared transactions are disabled"):
        run(app, "prepare transaction 'mine'")


def test_the_sessions_of_other_roles_are_neither_shown_nor_ended(scene: Scene, attacker: Connection[Any]) -> None:
    other = "reader" if group_of(attacker) == "thea_app" else "app"
    with scene.connected(other, THEIRS) as session:
        run(session, "select 'what another role asked'")
        for pid in (session.info.backend_pid, scene.superuser.info.backend_pid):
            shown = run(attacker, "select query, query_start, wait_event from pg_stat_activity where pid = %s", pid)

            assert shown.fetchall() == [("<insufficient privilege>", None, None)]
            for function in ("pg_cancel_backend", "pg_terminate_backend"):
                refused(attacker, f"select {function}(%s)", pid, match="permission denied|must be a")


def test_the_lock_of_a_row_shows_no_row(scene: Scene, attacker: Connection[Any]) -> None:
    with scene.connected("app", THEIRS) as other:
        run(other, "select from thea.users for update")
        switch(attacker, MINE)
        held = run(attacker, "select page, tuple from pg_locks where pid = %s", other.info.backend_pid).fetchall()

    assert set(held) == {(None, None)}
