"""What the locks do not stop: free SQL with a service's login can do all of this, and no page must deny it.

Each test holds that it is so. When one fails, something became safer, and what is written about it can say so.
"""

from __future__ import annotations

from typing import Any

import pytest
from psycopg import Connection, errors

from tests.isolation.attacks import (  # noqa: F401 - fixtures
    MINE,
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

BY_INDEX = ["enable_seqscan = off", "enable_bitmapscan = off"]
BY_SCAN = ["enable_indexscan = off", "enable_indexonlyscan = off", "enable_bitmapscan = off"]

BOTH = [
    """
    select tenant_id from thea.users
    union all select set_config('app.tenant_id', 'tenant-theirs', true)
    union all select tenant_id from thea.users
    """,
    """
    select u.tenant_id
    from (values ('tenant-mine'), ('tenant-theirs')) v (name)
    cross join lateral (select set_config('app.tenant_id', v.name, true) as name offset 0) s
    cross join lateral (select tenant_id, count(*) from thea.users where s.name is not null group by 1) u
    """,
]


def test_whoever_knows_a_name_can_take_it(attacker: Connection[Any]) -> None:
    switch(attacker, THEIRS)

    assert {tenant for (tenant,) in run(attacker, "select tenant_id from thea.users")} == {THEIRS}


@pytest.mark.parametrize("statement", BOTH)
def test_a_statement_that_changes_the_tenant_itself_sees_both(attacker: Connection[Any], statement: str) -> None:
    assert {tenant for (tenant,) in run(attacker, statement)} == {MINE, THEIRS}


@pytest.mark.parametrize(("settings", "later"), [(BY_INDEX, MINE), (BY_SCAN, THEIRS)])
def test_a_cursor_that_outlives_its_tenant_follows_the_plan(
    attacker: Connection[Any], settings: list[str], later: str
) -> None:
    """A reason for the rule of one tenant in a transaction."""
    for setting in settings:
        run(attacker, f"set {setting}")
    run(attacker, "declare opened cursor for select tenant_id from thea.users")
    first = run(attacker, "fetch 1 from opened").fetchall()
    switch(attacker, THEIRS)
    rest = {tenant for (tenant,) in run(attacker, "fetch all from opened")}

    assert (first, rest) == ([(MINE,)], {later})


def test_a_held_cursor_keeps_its_rows_for_whoever_comes_next(attacker: Connection[Any]) -> None:
    run(attacker, "declare held cursor with hold for select tenant_id from thea.users")
    run(attacker, "commit")
    switch(attacker, THEIRS)

    assert {tenant for (tenant,) in run(attacker, "fetch all from held")} == {MINE}
    run(attacker, "close held")


def test_a_large_object_belongs_to_the_login_and_to_no_tenant(attacker: Connection[Any]) -> None:
    number = run(attacker, "select lo_from_bytea(0, 'kept')").fetchall()[0][0]
    switch(attacker, THEIRS)

    assert run(attacker, "select lo_get(%s)", number).fetchall() == [(b"kept",)]


def test_notifications_and_advisory_locks_reach_other_tenants(scene: Scene, attacker: Connection[Any]) -> None:
    with scene.connected("app", THEIRS) as other:
        run(attacker, "listen told")
        run(attacker, "commit")
        run(other, "select pg_notify('told', 'by another tenant')")
        run(other, "select pg_advisory_xact_lock(7)")

        assert run(attacker, "select pg_try_advisory_xact_lock(7)").fetchall() == [(False,)]
        run(other, "commit")
        # Nothing is delivered within a transaction.
        run(attacker, "commit")
        assert [notice.payload for notice in attacker.notifies(timeout=30, stop_after=1)] == ["by another tenant"]


def test_whoever_writes_says_who_they_are(scene: Scene, app: Connection[Any]) -> None:
    run(app, "select set_config('app.actor', 'admin', true), set_config('app.request_id', 'x', true)")
    run(app, "update thea.users set first_name = 'Eva' where id = %s", scene.mine.ids["users"][0])
    told = run(app, "select actor, request_id from thea.audit_log order by at desc limit 1").fetchall()

    assert told == [("admin", "x")]


def test_the_volume_of_all_tenants_is_known(scene: Scene, app: Connection[Any]) -> None:
    run(scene.superuser, "analyze")
    for table in scene.tables:
        everything = run(app, "select reltuples from pg_class where oid = %s::regclass", table).fetchall()[0][0]
        assert everything > scene.counts[table]
    drawn = run(app, "select nextval('thea.message_history_id_seq')").fetchall()[0][0]

    assert drawn > max(scene.theirs.ids["message_history"])


def estimated(connection: Connection[Any], condition: str) -> int:
    """How many rows the planner expects."""
    plan = run(connection, f"explain (format json) select from thea.message_history where {condition}").fetchall()[0][0]
    rows: int = plan[0]["Plan"]["Plan Rows"]
    return rows


def test_estimates_answer_guesses_of_names_and_values(scene: Scene, attacker: Connection[Any]) -> None:
    """Equality and ranges are leakproof, so the planner asks the statistics of all tenants' values."""
    run(scene.superuser, "analyze")

    assert estimated(attacker, "tenant_id = 'tenant-theirs'") > estimated(attacker, "tenant_id = 'tenant-absent'")
    assert estimated(attacker, "tenant_id > 'tenant-n'") > estimated(attacker, "tenant_id > 'tenant-u'")


def test_sessions_of_the_same_login_are_seen_and_ended(scene: Scene, app: Connection[Any]) -> None:
    with scene.connected("app", THEIRS) as other:
        pid = other.info.backend_pid
        run(other, "select 'what the service asked'")
        shown = run(app, "select query from pg_stat_activity where pid = %s", pid).fetchall()
        run(app, "select pg_terminate_backend(%s, 30000)", pid)

        assert shown == [("select 'what the service asked'",)]
        with pytest.raises(errors.OperationalError):
            run(other, "select")


@pytest.mark.parametrize(
    "statement",
    [
        "alter role current_user password 'another'",
        "alter role current_user set statement_timeout = 1",
        "alter role current_user set default_transaction_read_only = on",
    ],
)
def test_a_login_can_be_made_useless_by_who_has_it(attacker: Connection[Any], statement: str) -> None:
    with undone(attacker):
        assert run(attacker, statement).statusmessage == "ALTER ROLE"


def test_a_service_can_lock_out_the_others(scene: Scene, app: Connection[Any]) -> None:
    for table in scene.written:
        run(app, f"lock table {table} in access exclusive mode")
        with scene.connected("app", THEIRS) as other:
            refused(
                other, f"lock table {table} in access share mode nowait", by=errors.LockNotAvailable, match="could not"
            )
