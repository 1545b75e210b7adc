"""A login of the application or of a reader can make, alter, own and become nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg import Connection, errors

from tests.isolation.attacks import (  # noqa: F401 - fixtures
    Scene,
    attacker_fixture,
    refused,
    scene_fixture,
    untouched_fixture,
)
from thea_store.migrator import migrate
from thea_store.testing import TestDatabase

NewDatabase = Callable[..., TestDatabase]

CREATED = [
    "table {s}.mine (id int)",
    "table {s}.mine as select * from thea.users",
    "table {s}.mine (like thea.users including all)",
    "table {s}.mine () inherits (thea.users)",
    "view {s}.mine as select * from thea.users",
    "materialized view {s}.mine as select * from thea.users",
    "sequence {s}.mine",
    "type {s}.mine as (id int)",
    "type {s}.mine as enum ('a')",
    "domain {s}.mine as text",
    "function {s}.mine() returns int language sql return 1",
    "function {s}.mine() returns trigger language plpgsql as 'begin return null; end'",
    "function {s}.current_setting(text, boolean) returns text language sql return 'tenant-theirs'",
    "procedure {s}.mine() language plpgsql as 'begin commit; end'",
    "aggregate {s}.mine (text) (sfunc = textcat, stype = text)",
    "operator {s}.= (leftarg = text, rightarg = text, function = textne)",
    "operator class {s}.mine for type text using btree as operator 1 <",
    'collation {s}.mine from "C"',
    "text search configuration {s}.mine (copy = simple)",
    "statistics {s}.mine on tenant_id, telegram_id from thea.users",
    "conversion {s}.mine for 'LATIN1' to 'UTF8' from iso8859_1_to_utf8",
]

# Statements that need more than the application has. `{t}`: each table; `{n}`: its name alone; `{d}`: the database;
# `{m}`: who migrates; `{u}`: the superuser.
BEYOND = {
    "creating in the database": [
        "create schema mine",
        "create schema if not exists pg_mine",
        "create extension pg_trgm",
        "create extension postgres_fdw",
        "create foreign data wrapper mine",
        "create trusted language mine handler plpgsql_call_handler",
        "create publication mine for table thea.users",
        "create publication mine for all tables",
        "create event trigger mine on ddl_command_start execute function thea.touch()",
        "create cast (text as bigint) with inout",
        "create access method mine type table handler heap_tableam_handler",
        "create transform for text language plpgsql (from sql with function prsd_lextype(internal))",
    ],
    "creating on tables": [
        "create index mine on {t} (tenant_id)",
        "create unique index mine on {t} (id)",
        "create policy mine on {t} using (true)",
        "create policy mine on {t} as restrictive using (false)",
        "create trigger mine before insert on {t} for each row execute function thea.touch()",
        "create trigger mine after insert on {t} for each row execute function thea.audit('users')",
        "create rule mine as on select to {t} do instead nothing",
        "create rule mine as on delete to {t} do instead nothing",
    ],
    "altering tables": [
        "alter table {t} disable row level security",
        "alter table {t} no force row level security",
        "alter table {t} owner to current_user",
        "alter table {t} set schema public",
        "alter table {t} rename to mine",
        "alter table {t} rename column tenant_id to mine",
        "alter table {t} add column mine int",
        "alter table {t} drop column tenant_id",
        "alter table {t} alter column tenant_id set default 'x'",
        "alter table {t} alter column tenant_id type varchar",
        "alter table {t} drop constraint {n}_pkey",
        "alter table {t} add constraint mine check (true)",
        "alter table {t} disable trigger all",
        "alter table {t} disable trigger user",
        "alter table {t} enable replica trigger audit",
        "alter table {t} set (autovacuum_enabled = false)",
        "alter table {t} set unlogged",
        "alter table {t} replica identity full",
        "alter table {t} inherit thea.users",
        "alter table {t} cluster on {n}_pkey",
        "alter table {t} alter column tenant_id set statistics 0",
        "alter policy tenant on {t} using (true)",
        "alter policy tenant_guard on {t} to thea_owner",
        "alter policy tenant on {t} rename to mine",
        "drop policy tenant on {t}",
        "drop policy tenant_guard on {t}",
        "drop table {t} cascade",
        "drop index thea.{n}_pkey",
        "comment on table {t} is 'mine'",
        "comment on policy tenant on {t} is 'mine'",
        "reindex table {t}",
    ],
    "altering functions": [
        "create or replace function thea.tenant() returns text language sql stable return 'tenant-theirs'",
        "alter function thea.tenant() immutable",
        "alter function thea.tenant() owner to current_user",
        "alter function thea.audit() reset search_path",
        "alter function thea.audit() security invoker",
        "alter function thea.search_notes leakproof",
        "alter function thea.search_notes reset all",
        "alter function thea.touch() rename to audit",
        "drop function thea.tenant() cascade",
        "drop trigger append_only on thea.audit_log",
        "alter text search configuration thea.es rename to mine",
        "comment on function thea.tenant() is 'mine'",
    ],
    "altering the schema and the database": [
        "alter schema thea rename to mine",
        "alter schema thea owner to current_user",
        "drop schema thea cascade",
        "alter schema public rename to mine",
        "comment on schema thea is 'mine'",
        "alter database {d} set row_security = off",
        "alter database {d} owner to current_user",
        "alter extension unaccent set schema thea",
        "drop extension unaccent cascade",
        "alter default privileges for role thea_owner grant all on tables to public",
        "alter default privileges for role {m} in schema thea grant all on tables to public",
    ],
    "making and altering roles": [
        "create role mine",
        "create role mine superuser",
        "create user mine bypassrls in role thea_owner",
        "alter role current_user superuser",
        "alter role current_user bypassrls",
        "alter role current_user createrole",
        "alter role current_user createdb",
        "alter role current_user replication",
        "alter role current_user valid until 'infinity'",
        "alter role thea_app bypassrls",
        "alter role thea_app login",
        "alter role thea_readonly set app.tenant_id = 'tenant-theirs'",
        "alter role thea_owner login password 'x'",
        "alter role {u} password 'x'",
        "drop role thea_readonly",
        "grant thea_owner to current_user",
        "grant thea_maintenance to current_user",
        "grant thea_search to current_user",
        "grant pg_read_all_data to current_user",
        "grant pg_write_all_data to current_user",
        "grant pg_execute_server_program to current_user",
        "grant thea_app to thea_readonly",
        "revoke thea_app from {m}",
        "grant set on parameter session_replication_role to current_user",
        "reassign owned by thea_owner to current_user",
        "drop owned by thea_owner",
        "drop owned by {m}",
    ],
    "changing the catalog": [
        "update pg_class set relrowsecurity = false",
        "update pg_class set relforcerowsecurity = false where relname = 'users'",
        "delete from pg_policy",
        "update pg_policy set polpermissive = true",
        "insert into pg_auth_members select * from pg_auth_members",
        "update pg_proc set proleakproof = true",
        "update pg_proc set prosecdef = false",
        "update pg_authid set rolbypassrls = true",
        "delete from pg_trigger",
        "select from pg_authid",
        "select from pg_shadow",
        "select from pg_user_mapping",
        "select from pg_largeobject",
        "select subconninfo from pg_subscription",
        "select from pg_hba_file_rules",
        "select from pg_file_settings",
        "select from pg_config",
        "select from pg_backend_memory_contexts",
        "select from pg_shmem_allocations",
    ],
    "reaching the machine": [
        "copy thea.users to '/tmp/mine'",
        "copy (select 1) to program 'true'",
        "copy thea.users from '/etc/passwd'",
        "copy thea.users from program 'true'",
        "select pg_read_file('/etc/passwd')",
        "select pg_read_binary_file('base/1/1259')",
        "select pg_ls_dir('.')",
        "select pg_ls_waldir()",
        "select pg_stat_file('PG_VERSION')",
        "select pg_current_logfile()",
        "select lo_import('/etc/passwd')",
        "select lo_export(1, '/tmp/mine')",
        "load 'auto_explain'",
        "select pg_reload_conf()",
        "select pg_rotate_logfile()",
        "select pg_switch_wal()",
        "select pg_create_restore_point('mine')",
        "select pg_create_physical_replication_slot('mine')",
        "select pg_create_logical_replication_slot('mine', 'test_decoding')",
        "select pg_logical_slot_peek_changes('mine', null, null)",
        "select pg_replication_origin_create('mine')",
        "select pg_promote()",
        "select pg_stat_reset()",
        "select pg_log_backend_memory_contexts(pg_backend_pid())",
        "select pg_import_system_collations('thea')",
    ],
    "settings of superusers": [
        "set session_replication_role = replica",
        "select set_config('session_replication_role', 'replica', true)",
        "update pg_settings set setting = 'replica' where name = 'session_replication_role'",
        "set log_statement = 'all'",
        "set log_min_messages = debug5",
        "set allow_system_table_mods = on",
        "set zero_damaged_pages = on",
        "set lo_compat_privileges = on",
        "set dynamic_library_path = '/tmp'",
        "set session_preload_libraries = 'mine'",
        "set track_functions = 'all'",
        "set temp_tablespaces = pg_global",
    ],
}


@pytest.mark.parametrize("schema", ["thea", "public", "pg_temp", "pg_catalog"])
def test_nothing_is_created_in_any_schema(attacker: Connection[Any], schema: str) -> None:
    for what in CREATED:
        refused(attacker, f"create {what.format(s=schema)}")


@pytest.mark.parametrize("kind", ["temporary table", "temporary view", "temporary sequence"])
def test_nothing_is_kept_in_a_session_for_the_next_tenant(attacker: Connection[Any], kind: str) -> None:
    body = {"temporary table": "(id int)", "temporary view": "as select 1"}.get(kind, "")

    refused(attacker, f"create {kind} mine {body}", match="temporary")


def test_it_is_the_first_migration_that_takes_temporary_tables_away(thea_new_database: NewDatabase) -> None:
    database = thea_new_database(migrated=False)
    keep = "create temporary table mine (id int)"
    with psycopg.connect(database.app_url) as connection:
        connection.execute(keep)
    migrate(database.migrator_url)

    with psycopg.connect(database.app_url) as connection:
        with pytest.raises(errors.InsufficientPrivilege, match="temporary"):
            connection.execute(keep)
        connection.rollback()


@pytest.mark.parametrize("theme", BEYOND)
def test_what_needs_more_is_refused(scene: Scene, attacker: Connection[Any], theme: str) -> None:
    migrator = scene.ask("select tableowner from pg_tables where tablename = '_yoyo_migration'")[0][0]
    names = {"d": scene.database.name, "m": migrator, "u": scene.superuser.info.user}
    for statement in BEYOND[theme]:
        for table in scene.tables if "{t}" in statement else ["thea.users"]:
            refused(attacker, statement.format(t=table, n=table.removeprefix("thea."), **names))
