"""Free SQL with a worker's login: it learns which tenants have something to do, and nothing else of them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from psycopg import Connection, errors

from tests.isolation.attacks import THEIRS, Scene, refused, run, scene_fixture, untouched_fixture  # noqa: F401 - fixtures

KINDS = ("due_reminders", "due_note_reminders", "inactive_conversations")


@pytest.fixture(scope="module")
def connected(scene: Scene) -> Iterator[Connection[Any]]:
    with psycopg.connect(scene.database.url_of("thea_worker"), autocommit=True) as connection:
        connection.prepare_threshold = None
        yield connection


@pytest.fixture
def worker(connected: Connection[Any]) -> Iterator[Connection[Any]]:
    connected.autocommit = False
    yield connected
    connected.rollback()
    connected.autocommit = True
    run(connected, "discard all")


def test_no_table_is_read_written_or_locked(scene: Scene, worker: Connection[Any]) -> None:
    tables = [
        name
        for (name,) in scene.ask(
            "select c.oid::regclass::text from pg_class c where relkind in ('r', 'v', 'm')"
            " and relnamespace = 'thea'::regnamespace"
        )
    ]

    assert set(scene.tables) < set(tables)
    for table in tables:
        for statement in (
            f"select * from {table}",
            f"select count(*) from {table}",
            f"select 1 from {table}",
            f"explain select * from {table}",
            f"table {table}",
            f"copy {table} to stdout",
            f"delete from {table}",
            f"truncate {table}",
            f"insert into {table} default values",
            f"lock table {table} in access share mode",
            f"analyze {table}" if table == "" else f"create index on {table} ((1))",
            f"select pg_get_viewdef('{table}'::regclass), * from {table}",
        ):
            refused(worker, statement)


def test_whatever_tenant_it_names_it_sees_no_row(scene: Scene, worker: Connection[Any]) -> None:
    for tenant in (THEIRS, ""):
        run(worker, "select set_config('app.tenant_id', %s, true)", tenant)
        for table in scene.tables:
            refused(worker, f"select * from {table}")


def test_no_function_of_the_schema_is_called_but_those_of_workers(scene: Scene, worker: Connection[Any]) -> None:
    functions = scene.ask(
        "select p.proname, pg_get_function_result(p.oid), p.oid::regprocedure::text, p.pronargs"
        " from pg_proc p where pronamespace = 'thea'::regnamespace"
        " and has_function_privilege('thea_worker', p.oid, 'execute')"
    )

    # Names of tenants, or whether there was a batch: what else could they tell?
    assert {name: result for name, result, *_ in functions} == {
        "tenants_with_work": "SETOF text",
        "tenants_with_expired_rows": "SETOF text",
        "tenants_with_expired_audit": "SETOF text",
        "expire_rows": "boolean",
        "expire_audit": "boolean",
        "tenants_with_uncounted_messages": "SETOF text",
        "fold_messages": "boolean",
        "tenants_with_noted_reads": "SETOF text",
        "tenants_with_expired_activity": "SETOF text",
        "chain_reads": "boolean",
        "expire_activity": "boolean",
    }
    assert [name for name, _, signature, _ in functions if re.search("timestamp|interval|date", signature)] == []
    for call in ("thea.tenant()", "thea.kept('a', 'notes', 'old')", "thea.tenants_due('thea.notes_pkey', null)"):
        refused(worker, f"select {call}")


def test_no_role_can_be_taken_on_and_nothing_created(scene: Scene, worker: Connection[Any]) -> None:
    roles = [
        name
        for (name,) in scene.ask("select rolname from pg_roles where rolname ~ '^thea_' and rolname <> 'thea_worker'")
    ]

    assert {"thea_owner", "thea_maintenance", "thea_audit_expirer", "thea_app"} <= set(roles)
    for role in roles:
        if role != worker.info.user:
            refused(worker, f"set role {role}", match="permission denied")
            refused(worker, f"grant {role} to thea_worker", match="permission denied|must have admin option")
    for statement in (
        "create table thea.mine (id int)",
        "create temporary table mine (id int)",
        "create function thea.mine() returns int language sql return 1",
        "create or replace function thea.expire_rows(text) returns boolean language sql return true",
        "select thea.offer_work('due_notes', 'thea.notes_created_at_idx')",
        "comment on policy maintenance_reads on thea.notes is '{}'",
        "alter function thea.expire_rows(text) reset all",
    ):
        refused(worker, statement, by=(errors.InsufficientPrivilege, errors.InvalidFunctionDefinition), match="")


def test_the_clock_is_the_servers_whatever_the_session_says(scene: Scene, worker: Connection[Any]) -> None:
    """A reminder that is to come stays unknown, whatever a session sets and however long its transaction is open."""
    run(
        scene.superuser,
        "insert into thea.users (tenant_id, telegram_id) values ('to-come', 1);"
        " insert into thea.notes (tenant_id, user_id, content, next_reminder_at)"
        " select tenant_id, id, 'x', clock_timestamp() + interval '1 hour' from thea.users where tenant_id = 'to-come'",
    )
    try:
        for setting in ("timezone = 'Pacific/Kiritimati'", "timezone = '-16'", "datestyle = 'German'"):
            run(worker, f"set {setting}")
            assert ("to-come",) not in _named(worker, "due_note_reminders")
        refused(
            worker,
            "select pg_catalog.set_config('thea.now', '2100-01-01', true), thea.now()",
            by=(errors.UndefinedFunction, errors.InsufficientPrivilege),
            match="",
        )
    finally:
        run(scene.superuser, "delete from thea.users where tenant_id = 'to-come'")


def _named(worker: Connection[Any], kind: str) -> list[tuple[str]]:
    return run(worker, "select * from thea.tenants_with_work(%s, null, 1000)", kind).fetchall()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "settings",
    [
        "select 1",
        "set local enable_indexscan = off; set local enable_indexonlyscan = off",
        "set local enable_seqscan = off; set local enable_bitmapscan = on; set local random_page_cost = 100000",
        "set local cpu_tuple_cost = 1000; set local enable_sort = on; set local work_mem = '64kB'",
        "set local plan_cache_mode = force_generic_plan; set local search_path = pg_temp, public",
    ],
)
def test_what_is_fetched_depends_on_nothing_that_the_caller_chooses(
    worker: Connection[Any], kind: str, settings: str
) -> None:
    """PostgreSQL tells a session how many rows it fetched of each table: with a page or a place of the caller's choice
    that number would spell out the names of tenants with reminders that are still to come."""
    run(worker, settings)
    fetched = set()
    for after, limit in (
        (None, 1000),
        (None, 1),
        ("", 1),
        ("tenant-m", 1),
        ("tenant-theirs", 1000),
        ("z", 1),
    ):
        before = _fetched(worker)
        run(worker, "select * from thea.tenants_with_work(%s, %s, %s)", kind, after, limit).fetchall()
        fetched.add(tuple(now - then for now, then in zip(_fetched(worker), before, strict=True)))

    # The first call may mark entries as dead, of which the later ones know.
    assert len(fetched) == 1, fetched


def _fetched(worker: Connection[Any]) -> list[int]:
    """What the session has fetched so far of each table of tenants, by whatever way."""
    rows = run(
        worker,
        "select coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) + coalesce(seq_scan, 0) + coalesce(idx_scan, 0)"
        " from pg_stat_xact_user_tables where schemaname = 'thea' and relname <> 'tenants' order by relname",
    ).fetchall()
    return [row[0] for row in rows]


@pytest.mark.parametrize(
    "settings",
    [
        "select 1",
        "set local enable_indexscan = off; set local enable_bitmapscan = on",
        "set local enable_sort = on; set local cpu_index_tuple_cost = 1000; set local random_page_cost = 1000",
    ],
)
def test_no_row_is_fetched_whose_time_is_not_over(scene: Scene, worker: Connection[Any], settings: str) -> None:
    """The rows of a tenant, how many there are and of what time, do not show in what its worker has fetched."""
    run(
        scene.superuser,
        "insert into thea.retention_policies (table_name, rule, keep) values ('notes', 'old', interval '90 years'),"
        " ('notes', 'deleted', interval '90 years'), ('message_history', 'old', interval '90 years'),"
        " ('audit_log', 'old', interval '90 years')",
    )
    try:
        run(worker, settings)
        before = _fetched_of(worker)
        assert run(worker, "select thea.expire_rows(%s), thea.expire_audit(%s)", THEIRS, THEIRS).fetchone() == (
            False,
            False,
        )
        assert _fetched_of(worker) == before
    finally:
        worker.rollback()
        run(scene.superuser, "delete from thea.retention_policies")


def _fetched_of(worker: Connection[Any]) -> list[Any]:
    return run(
        worker,
        "select relname, coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) from pg_stat_xact_user_tables"
        " where schemaname = 'thea' and relname <> 'retention_policies' order by relname",
    ).fetchall()


def test_what_is_removed_is_what_the_policies_say(scene: Scene, worker: Connection[Any]) -> None:
    """Without a policy nothing goes, whatever a worker calls."""
    counts = scene.ask("select count(*) from thea.notes")

    for tenant in (THEIRS, "nobody", "", "' or true --"):
        done = run(worker, "select thea.expire_rows(%s), thea.expire_audit(%s)", tenant, tenant).fetchone()
        assert done == (False, False)
    assert scene.ask("select count(*) from thea.notes") == counts


def test_statistics_of_columns_are_not_shown(worker: Connection[Any]) -> None:
    assert run(worker, "select count(*) from pg_stats where schemaname = 'thea'").fetchone() == (0,)
    refused(worker, "select stavalues1 from pg_statistic")


def test_the_sizes_and_counters_of_tables_are_for_all_to_see(worker: Connection[Any]) -> None:
    """A residual, told in SECURITY.md: what all tenants together have and write."""
    size = run(
        worker,
        "select pg_relation_size('thea.notes') > 0, (select n_live_tup >= 0 from pg_stat_user_tables"
        " where relid = 'thea.notes'::regclass)",
    ).fetchone()

    assert size == (True, True)
