"""The schema as the migrations make it: the way down and up, and what every table must have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg import errors

from thea_store.migrator import available, migrate, rollback
from thea_store.store import GROUP_FILES, SQL_FILES
from thea_store.testing import TestDatabase

TABLES = {"users", "events", "notes", "conversations", "message_history", "audit_log"}

SNAPSHOT = {
    "schemas": "select nspname, nspowner::regrole::text, nspacl::text from pg_namespace where nspname = 'thea'",
    "columns": """
        select c.oid::regclass::text, a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, a.attidentity,
          a.attgenerated, a.attacl::text, pg_get_expr(d.adbin, d.adrelid)
        from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
        left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
        where c.relnamespace = to_regnamespace('thea')::oid and c.relkind = 'r'""",
    "relations": """
        select relname, relkind, relowner::regrole::text, relacl::text, relrowsecurity, relforcerowsecurity
        from pg_class where relnamespace = to_regnamespace('thea')::oid and relkind in ('r', 'S', 'v', 'm')""",
    "constraints": """
        select conrelid::regclass::text, conname, pg_get_constraintdef(oid), obj_description(oid)
        from pg_constraint where connamespace = to_regnamespace('thea')::oid""",
    "indexes": """
        select indexrelid::regclass::text, pg_get_indexdef(indexrelid), obj_description(indexrelid)
        from pg_index join pg_class c on c.oid = indexrelid where c.relnamespace = to_regnamespace('thea')::oid""",
    "policies": "select * from pg_policies where schemaname = 'thea'",
    "triggers": "select pg_get_triggerdef(t.oid) from pg_trigger t join pg_class c on c.oid = tgrelid"
    " where c.relnamespace = to_regnamespace('thea')::oid and not tgisinternal",
    "functions": """
        select pg_get_functiondef(oid), proowner::regrole::text, proacl::text
        from pg_proc where pronamespace = to_regnamespace('thea')::oid""",
    "configurations": "select cfgname, cfgowner::regrole::text from pg_ts_config"
    " where cfgnamespace = to_regnamespace('thea')::oid",
}


def snapshot(url: str) -> dict[str, list[Any]]:
    with psycopg.connect(url) as connection:
        return {name: sorted(connection.execute(query).fetchall(), key=repr) for name, query in SNAPSHOT.items()}


def test_down_and_up_again_is_the_same_schema(thea_new_database: Callable[..., TestDatabase]) -> None:
    database = thea_new_database(migrated=False)
    every = [migration.id for migration in available()]
    assert migrate(database.migrator_url) == every
    before = snapshot(database.superuser_url)

    for migration in reversed(every):
        assert rollback(database.migrator_url) == [migration]
    assert {name: rows for name, rows in snapshot(database.superuser_url).items() if rows} == {}

    migrate(database.migrator_url)
    assert snapshot(database.superuser_url) == before


@pytest.mark.slow
def test_every_step_down_and_up_again_is_the_same_schema(thea_new_database: Callable[..., TestDatabase]) -> None:
    database = thea_new_database()
    before = snapshot(database.superuser_url)
    for migration in reversed(available()[1:]):
        rollback(database.migrator_url, to=available()[[m.id for m in available()].index(migration.id) - 1].id)
        migrate(database.migrator_url)
        assert snapshot(database.superuser_url) == before, migration.id


def test_the_migrator_is_no_superuser(thea_database: TestDatabase) -> None:
    with psycopg.connect(thea_database.migrator_url) as connection:
        row = connection.execute("select rolsuper, rolbypassrls from pg_roles where rolname = current_user").fetchone()

    assert row == (False, False)


def test_there_are_the_six_tables_and_no_others(superuser: psycopg.Connection[Any]) -> None:
    tables = superuser.execute("select tablename, tableowner from pg_tables where schemaname = 'thea'").fetchall()

    assert {name for name, _ in tables} >= TABLES
    assert {owner for _, owner in tables} == {"thea_owner"}


def test_every_table_has_row_security_enabled_and_forced(superuser: psycopg.Connection[Any]) -> None:
    unprotected = superuser.execute(
        "select relname from pg_class where relnamespace = 'thea'::regnamespace and relkind in ('r', 'p')"
        " and not (relrowsecurity and relforcerowsecurity)"
    ).fetchall()

    assert unprotected == []


def test_every_table_has_a_permissive_and_a_restrictive_policy_of_the_tenant(
    superuser: psycopg.Connection[Any],
) -> None:
    rows = superuser.execute(
        "select tablename, policyname, permissive, roles::text[], qual, with_check from pg_policies"
        " where schemaname = 'thea' and policyname in ('tenant', 'tenant_guard')"
    ).fetchall()
    of_tenant = "(tenant_id = thea.tenant())"
    readers = {"thea_app", "thea_privacy", "thea_readonly"}

    for table in TABLES:
        policies = {name: (kind, set(roles), qual, check) for t, name, kind, roles, qual, check in rows if t == table}
        assert policies["tenant"][:3] == ("PERMISSIVE", readers, of_tenant)
        assert policies["tenant_guard"] == ("RESTRICTIVE", readers, of_tenant, of_tenant)


def test_no_unconditional_policy_reaches_the_application(superuser: psycopg.Connection[Any]) -> None:
    rows = superuser.execute(
        "select tablename, policyname from pg_policies where schemaname = 'thea' and permissive = 'PERMISSIVE'"
        " and roles && array['public', 'thea_app', 'thea_readonly']::name[]"
        " and coalesce(qual, with_check) is distinct from '(tenant_id = thea.tenant())'"
    ).fetchall()

    assert rows == []


def test_every_key_and_unique_index_starts_with_the_tenant(superuser: psycopg.Connection[Any]) -> None:
    others = superuser.execute(
        "select i.indexrelid::regclass::text from pg_index i join pg_class c on c.oid = i.indrelid"
        " join pg_attribute a on a.attrelid = i.indrelid and a.attnum = i.indkey[0]"
        " where c.relnamespace = 'thea'::regnamespace and i.indisunique and a.attname <> 'tenant_id'"
    ).fetchall()
    foreign = superuser.execute(
        "select conname, pg_get_constraintdef(oid) from pg_constraint"
        " where contype = 'f' and connamespace = 'thea'::regnamespace"
    ).fetchall()

    belong_to_none = {("thea.tenants_id_key",), ("thea.quotas_tenant_key",), ("thea.retention_policies_tenant_key",)}
    belong_to_none |= {("thea.activity_log_tenant_key",), ("thea.noted_reads_tenant_key",)}
    assert set(others) == belong_to_none, "the directory and the policies belong to no tenant"
    assert {"notes_user_id_fkey", "message_history_conversation_id_fkey"} <= {name for name, _ in foreign}
    for _, definition in foreign:
        assert definition.startswith("FOREIGN KEY (tenant_id, ")
        assert definition.endswith("(tenant_id, id) ON DELETE CASCADE")


def test_every_foreign_key_has_an_index(superuser: psycopg.Connection[Any]) -> None:
    missing = superuser.execute(
        "select conname from pg_constraint k where contype = 'f' and connamespace = 'thea'::regnamespace"
        " and not exists (select from pg_index i where i.indrelid = k.conrelid and i.indpred is null"
        " and (i.indkey::int2[])[0:1] = k.conkey)"
    ).fetchall()

    assert missing == []


def test_every_constraint_is_named_after_its_table(superuser: psycopg.Connection[Any]) -> None:
    rows = superuser.execute(
        "select conname from pg_constraint join pg_class c on c.oid = conrelid"
        " where connamespace = 'thea'::regnamespace and conname not like c.relname || '\\_%'"
    ).fetchall()

    assert rows == []


def test_there_are_twenty_indexes_and_more_each_named_for_its_queries(superuser: psycopg.Connection[Any]) -> None:
    rows = superuser.execute(
        "select indexrelid::regclass::text, obj_description(indexrelid) from pg_index i join pg_class c"
        " on c.oid = i.indrelid where c.relnamespace = 'thea'::regnamespace and not indisprimary"
        " and not exists (select from pg_constraint k where k.conindid = i.indexrelid)"
    ).fetchall()

    files = [*SQL_FILES, *(file for more in GROUP_FILES.values() for file in more)]
    queries = {query.name for file in files for query in file.claimed}
    assert len(rows) >= 20
    for name, comment in rows:
        assert comment, f"{name} needs a comment that names the queries it serves"
        assert set(comment.split(", ")) <= queries, f"the comment of {name} names a query that is none"


def test_a_change_of_what_a_caller_may_change_moves_updated_at(superuser: psycopg.Connection[Any]) -> None:
    # These follow from others, or from the clock.
    by_itself = ["deleted_with", "location_key", "next_reminder_at", "reminded", "reminded_at", "reminded_until"]
    by_itself += ["series_end", "timezone"]
    rows = superuser.execute(
        "select c.relname, a.attname from pg_trigger t join pg_class c on c.oid = t.tgrelid"
        " join pg_attribute a on a.attrelid = c.oid and a.attnum > 0"
        " where c.relnamespace = 'thea'::regnamespace and t.tgname = 'touch' and cardinality(t.tgattr::int2[]) > 0"
        " and a.attnum <> all(t.tgattr) and a.attname <> all(%s)"
        " and has_column_privilege('thea_app', c.oid, a.attnum, 'update')",
        [by_itself],
    ).fetchall()

    assert rows == [], "the trigger `touch` of the table does not name the column"


def test_the_application_may_not_update_keys_or_the_past(superuser: psycopg.Connection[Any]) -> None:
    rows = superuser.execute(
        "select c.relname, a.attname from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0"
        " where c.relnamespace = 'thea'::regnamespace and c.relkind = 'r'"
        " and a.attname in ('tenant_id', 'id', 'created_at', 'updated_at', 'user_id', 'conversation_id')"
        " and has_column_privilege('thea_app', c.oid, a.attnum, 'update')"
    ).fetchall()

    assert rows == []


@pytest.mark.parametrize(
    "statement",
    [
        "truncate thea.users",
        "create table thea.mine (id int)",
        "create temporary table mine (id int)",
        "create function thea.mine() returns int language sql return 1",
        "create schema mine",
        "set role thea_owner",
        "set session_replication_role = replica",
        "alter table thea.users disable row level security",
        "insert into thea.audit_log (tenant_id, table_name, row_id, action) values ('t', 'users', 1, 'insert')",
        "delete from thea.audit_log",
        "update thea.audit_log set actor = 'me'",
        "select setval('thea.message_history_id_seq', 1)",
        "copy thea.users to program 'true'",
    ],
)
def test_the_application_may_not(thea_database: TestDatabase, statement: str) -> None:
    with (
        psycopg.connect(thea_database.app_url, autocommit=True) as connection,
        pytest.raises((errors.InsufficientPrivilege, errors.InvalidSchemaName)),
    ):
        connection.execute(statement)


@pytest.mark.parametrize("table", sorted(TABLES))
def test_without_a_tenant_there_is_nothing_to_see(thea_database: TestDatabase, table: str) -> None:
    with psycopg.connect(thea_database.app_url) as connection:
        assert connection.execute(f"select count(*) from thea.{table}").fetchone() == (0,)


def test_an_ended_set_local_is_no_tenant(thea_database: TestDatabase) -> None:
    with psycopg.connect(thea_database.app_url, autocommit=True) as connection:
        with connection.transaction():
            connection.execute("set local app.tenant_id = 'a'")
            assert connection.execute("select thea.tenant()").fetchone() == ("a",)
        assert connection.execute("select current_setting('app.tenant_id'), thea.tenant()").fetchone() == ("", None)


def test_a_row_of_another_tenant_can_be_neither_written_nor_referred_to(
    thea_database: TestDatabase, tenant: str, other_tenant: str
) -> None:
    insert = "insert into thea.users (tenant_id, telegram_id) values (%s, 1) returning id"
    refer = "insert into thea.notes (tenant_id, user_id, content) values (%s, %s, 'x')"
    with psycopg.connect(thea_database.app_url, autocommit=True) as connection:
        connection.execute("select set_config('app.tenant_id', %s, false)", [other_tenant])
        foreign = connection.execute(insert, [other_tenant]).fetchone()
        assert foreign is not None
        connection.execute("select set_config('app.tenant_id', %s, false)", [tenant])
        with pytest.raises(errors.InsufficientPrivilege):
            connection.execute(insert, [other_tenant])
        with pytest.raises(errors.ForeignKeyViolation):
            connection.execute(refer, [tenant, foreign[0]])


def test_the_audit_log_cannot_be_changed_even_by_its_owner(tenant: str, superuser: psycopg.Connection[Any]) -> None:
    superuser.execute("insert into thea.users (tenant_id, telegram_id) values (%s, 1)", [tenant])
    for statement in ("delete from thea.audit_log", "update thea.audit_log set actor = 'x'", "truncate thea.audit_log"):
        with pytest.raises(errors.InsufficientPrivilege, match="append-only"):
            superuser.execute(statement)

    entry = superuser.execute("select action from thea.audit_log where tenant_id = %s", [tenant]).fetchall()
    assert entry == [("insert",)]


def test_the_migrator_backfills_no_rows_silently(thea_database: TestDatabase) -> None:
    with (
        psycopg.connect(thea_database.migrator_url, options="-c row_security=off") as connection,
        pytest.raises(errors.InsufficientPrivilege, match="row-level security"),
    ):
        connection.execute("update thea.users set timezone = 'UTC'")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("tenant_id", "''"),
        ("tenant_id", "' a'"),
        ("tenant_id", "'a '"),
        ("tenant_id", "repeat('a', 51)"),
        ("tenant_id", "E'a\\nb'"),
        ("preferences", "'[]'"),
    ],
)
def test_the_database_itself_checks(superuser: psycopg.Connection[Any], tenant: str, column: str, value: str) -> None:
    values = {"tenant_id": f"'{tenant}'", "telegram_id": "1", "preferences": "'{}'"} | {column: value}
    with pytest.raises(errors.CheckViolation):
        superuser.execute(f"insert into thea.users ({', '.join(values)}) values ({', '.join(values.values())})")
