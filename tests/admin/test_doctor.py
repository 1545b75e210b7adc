"""What the doctor finds: each thing provoked for real, and its fix, where that is SQL, tried for real."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import psycopg
import pytest

from tests.support.commands import Run
from tests.support.pooler import pgbouncer, until_it_answers
from thea_store import Settings
from thea_store.admin import doctor
from thea_store.admin.doctor import Finding, examine, history, others, server
from thea_store.admin.doctor.findings import Check, CheckContext, Verdict, ok, run_checks
from thea_store.embedded import EmbeddedPostgres
from thea_store.embedded.account import server_account
from thea_store.embedded.binaries import find_binaries
from thea_store.migrator import available, rollback
from thea_store.postgres.operator import UnreachableError, connect
from thea_store.postgres.url import DatabaseUrl
from thea_store.testing import TestDatabase, TestServer
from thea_store.verification.groups import GROUPS

pytestmark = pytest.mark.usefixtures("no_settings")

T = TypeVar("T")

SECRET = "hunter2"
SQL = re.compile(r"`((?:alter|create|drop|grant|reindex|revoke) [^`…]*)`")
IDS = [migration.id for migration in available()]


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    """A directory that the servers' account may read, where nothing waits for a disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def in_a_thread(work: Callable[[], T]) -> T:
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(work).result()


def examined(url: str, **settings: Any) -> list[Finding]:
    return in_a_thread(lambda: examine(Settings(url=url, **settings)))


def ailing_schema(database: TestDatabase, checks: Mapping[str, Check] | None = None) -> list[Finding]:
    """What these checks find, or all about the schema, alone: an examination takes several times as long."""
    settings = Settings(url=database.app_url)
    with connect(settings.address()) as connection:
        context = CheckContext(connection, settings)
        return ailing(doctor.of_schema(context) if checks is None else run_checks(checks, context))


def ailing(findings: Sequence[Finding]) -> list[Finding]:
    """What is not well; the tests' server has many databases, which test_mistakes.py looks at."""
    return [finding for finding in findings if finding.state != "ok" and finding.check != "neighbours"]


def the(check: str, findings: Sequence[Finding]) -> Finding:
    """The one finding of this check."""
    [finding] = [finding for finding in findings if finding.check == check]
    return finding


def do(database: TestDatabase, *statements: str) -> None:
    with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
        for statement in statements:
            superuser.execute(statement.encode())


def cure(database: TestDatabase, findings: Sequence[Finding]) -> None:
    """Apply every fix that is SQL."""
    for finding in findings:
        for fix in SQL.findall(finding.fix or ""):
            do(database, *fix.split("; "))


@contextmanager
def login(database: TestDatabase, attributes: str = "in role thea_app") -> Iterator[tuple[str, str]]:
    """A login of the test's own, and its URL."""
    name = f"doctor_{uuid.uuid4().hex[:12]}"
    do(database, f"create role {name} login password '{SECRET}' {attributes}")
    try:
        yield name, replace(DatabaseUrl.parse(database.app_url), user=name, password=SECRET).render()
    finally:
        do(database, f"drop owned by {name}", f"drop role {name}")


# --- a healthy database -------------------------------------------------------------------------


def test_a_healthy_database_has_nothing_but_good_findings(lone: TestDatabase) -> None:
    findings = examined(lone.app_url)

    assert {finding.state for finding in findings} == {"ok"}
    assert len(findings) > 20
    assert all(finding.fix is None for finding in findings)
    assert the("queries", findings).found.endswith("fit the schema")


def test_with_the_migrators_login_edited_migrations_are_looked_for(database: TestDatabase) -> None:
    without = examined(database.app_url)
    with_it = examined(database.app_url, migrator_url=database.migrator_url)

    assert ailing(with_it) == []
    assert the("migrations", without).found.endswith("to look for edited ones, give DATABASE_MIGRATOR_URL")
    assert the("migrations", with_it).found == f"{len(IDS)} are applied, the newest {IDS[-1]}; none was edited"
    assert "may change the schema" in the("migrator", with_it).found


# --- a weakened schema --------------------------------------------------------------------------

WEAKENED = [
    (
        "alter table thea.users disable row level security",
        "row security",
        "not enabled on thea.users",
        "enable row level",
    ),
    (
        "alter table thea.notes no force row level security",
        "row security",
        "not forced on thea.notes",
        "force row level",
    ),
    ("drop policy tenant on thea.notes", "policies", "thea.notes has no policy that shows", "create policy tenant on"),
    ("drop policy tenant on thea.audit_log", "policies", "thea.audit_log has no policy", "for select to thea_app"),
    ("drop policy tenant_guard on thea.users", "policies", "no restrictive policy", "as restrictive to thea_app"),
    (
        "create policy careless on thea.users using (true)",
        "policies",
        "more than its tenant's rows: true",
        "drop policy",
    ),
    (
        "create policy careless on thea.users for insert to thea_app with check (tenant_id <> '')",
        "policies",
        "the policy careless on thea.users gives the application more",
        "drop policy careless on thea.users",
    ),
    (
        "alter policy tenant on thea.events using (true)",
        "policies",
        "more than its tenant's rows: true",
        "drop policy tenant",
    ),
    (
        "alter policy tenant_guard on thea.events using (true) with check (true)",
        "policies",
        "thea.events has no restrictive policy",
        "drop policy if exists tenant_guard on thea.events; create policy",
    ),
    (
        "create view thea.peek as select id from thea.users; alter view thea.peek owner to thea_owner",
        "views",
        "the view thea.peek reads with the rights of its owner",
        "set (security_invoker = true)",
    ),
    (
        "create materialized view thea.peek as select id from thea.users",
        "views",
        "does not reach into the materialized view thea.peek",
        "drop materialized view thea.peek",
    ),
    (
        "alter table thea.audit_log drop constraint audit_log_pkey",
        "keys",
        "no primary key",
        "primary key (tenant_id, id)",
    ),
    ("create unique index on thea.users (telegram_id)", "keys", "users_telegram_id_idx of thea.users", "make it anew"),
    (
        (
            "alter table thea.audit_log add constraint loose foreign key (row_id, tenant_id)"
            " references thea.users (id, tenant_id); create index on thea.audit_log (row_id, tenant_id)"
        ),
        "keys",
        "the foreign key loose of thea.audit_log does not begin with tenant_id",
        "make it anew",
    ),
    (
        "drop index thea.conversations_user_id_idx",
        "foreign keys",
        "conversations_user_id_fkey of thea.conversations has no index",
        "create index concurrently on thea.conversations (tenant_id, user_id)",
    ),
    (
        "alter table thea.users disable trigger audit",
        "triggers",
        "trigger audit of thea.users is disabled",
        "enable trigger",
    ),
    (
        "alter table thea.users disable trigger all",
        "triggers",
        "foreign keys of thea.users are not enf",
        "enable trigger all",
    ),
    ("drop trigger audit on thea.notes", "triggers", "thea.notes do not come into the audit log", "calls thea.audit()"),
    (
        "drop trigger append_only on thea.audit_log",
        "triggers",
        "thea.audit_log is not append-only",
        "create trigger append_only",
    ),
    (
        "alter table thea.users owner to current_user",
        "owners",
        "thea.users belongs to",
        "alter table thea.users owner to thea_owner",
    ),
    (
        "revoke select on thea.notes from thea_app",
        "missing rights",
        "lacks select on thea.notes",
        "grant select on thea.notes",
    ),
    (
        "revoke insert on thea.notes from thea_app",
        "missing rights",
        "lacks insert on thea.notes",
        "grant insert on thea.notes",
    ),
    (
        "revoke update on thea.notes from thea_app",
        "missing rights",
        "lacks update (…) on thea.notes",
        "its migration lists",
    ),
    (
        "revoke usage on schema thea from thea_app",
        "missing rights",
        "lacks usage on schema thea",
        "grant usage on schema thea",
    ),
    (
        "revoke select on _yoyo_migration from thea_app",
        "missing rights",
        "lacks select on public._yoyo_",
        "grant select on",
    ),
    (
        "revoke execute on function thea.tenant() from thea_app",
        "missing rights",
        "on function thea.tenant()",
        "grant execute",
    ),
    (
        # No query draws from it itself, but a function that one calls.
        "revoke usage on sequence thea.message_history_id_seq from thea_app",
        "as shipped",
        "the right to usage on sequence thea.message_history_id_seq to thea_app is missing",
        "grant usage on sequence thea.message_history_id_seq to thea_app",
    ),
    (
        "grant truncate on thea.users to thea_app",
        "excess rights",
        "may truncate on",
        "revoke truncate on thea.users from thea_app",
    ),
    (
        "grant update on thea.users to thea_app",
        "excess rights",
        "thea_app may update on thea.users",
        "grant update (deleted_at, ",
    ),
    (
        "grant update (id) on thea.users to thea_app",
        "excess rights",
        "thea_app may update (id)",
        "revoke update (id) on",
    ),
    ("grant insert on thea.audit_log to thea_app", "excess rights", "may insert on thea.audit_log", "revoke insert on"),
    ("grant delete on thea.notes to thea_readonly", "excess rights", "thea_readonly may delete", "from thea_readonly"),
    ("grant select on thea.users to public", "excess rights", "public may select on thea.users", "from public"),
    (
        "grant update on sequence thea.users_id_seq to thea_app",
        "excess rights",
        "update on sequence thea.users_id_seq",
        "revoke",
    ),
    (
        "alter function thea.tenant() immutable",
        "tenant",
        "thea.tenant() is not stable",
        "create or replace function thea.tenant()",
    ),
    (
        "create or replace function thea.tenant() returns text language sql stable return 'acme'",
        "tenant",
        "is not the function that the policies were written for",
        "create or replace function thea.tenant()",
    ),
    (
        "alter function thea.audit() reset search_path",
        "functions",
        "caller's search_path",
        "set search_path = pg_catalog, pg_temp",
    ),
    (
        "alter function thea.audit() set search_path = thea, public",
        "functions",
        "thea.audit() runs as thea_owner, but with the caller's search_path",
        "alter function thea.audit() set search_path",
    ),
    (
        "alter function thea.audit() owner to current_user",
        "functions",
        "whom row security does not bind",
        "alter function thea.audit() owner to thea_owner",
    ),
    (
        "alter function thea.tagged_notes(text, bigint, text[], boolean) owner to thea_maintenance",
        "functions",
        "runs as thea_maintenance, with other rights",
        "owner to thea_search",
    ),
    (
        "revoke usage on sequence thea.keystone from thea_readonly",
        "keystone",
        "a login in thea_readonly could `drop owned by thea_readonly`",
        "grant usage on sequence thea.keystone to thea_readonly",
    ),
    (
        (
            "create function thea.all_users() returns bigint language sql security definer"
            " set search_path = pg_catalog, pg_temp return (select count(*) from thea.users);"
            "alter function thea.all_users() owner to thea_owner"
        ),
        "functions",
        "everyone may call thea.all_users()",
        "revoke execute on function thea.all_users() from public",
    ),
    (
        "alter table thea.users drop column language_code",
        "queries",
        "mismatch(es) with the schema, the first: sql/",
        "thea-store check",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize(("weakening", "check", "found", "fix"), WEAKENED, ids=[each[0][:60] for each in WEAKENED])
def test_a_weakness_is_found_and_its_fix_is_its_end(
    database: TestDatabase, weakening: str, check: str, found: str, fix: str
) -> None:
    do(database, weakening)
    findings = ailing_schema(database, history.CHECKS if check == "queries" else None)
    its_own = [finding for finding in findings if finding.check == check and found in finding.found]

    assert len(its_own) == 1, findings
    assert fix in (its_own[0].fix or "")
    assert its_own[0].state == ("warning" if check == "owners" else "problem")
    if SQL.search(its_own[0].fix or ""):
        cure(database, findings)
        assert ailing_schema(database) == []


def test_a_lost_keystone_is_made_anew(database: TestDatabase) -> None:
    do(database, "drop sequence thea.keystone")
    findings = ailing(examined(database.app_url))

    assert [finding.check for finding in findings] == ["keystone"] * (len(GROUPS) + 1)
    cure(database, findings)
    assert ailing_schema(database) == []


def test_a_table_that_the_library_does_not_know_is_not_overlooked(database: TestDatabase) -> None:
    do(database, 'create table thea."Odd one" (tenant_id text not null, id bigint, primary key (tenant_id, id))')
    findings = ailing(examined(database.app_url))

    checks = [*["row security"] * 2, *["policies"] * 2, "triggers", "owners", "people"]
    assert [finding.check for finding in findings] == checks
    assert all('thea."Odd one"' in finding.found for finding in findings)
    cure(database, findings)
    assert [finding.check for finding in ailing_schema(database)] == ["triggers", "people"]


def test_an_index_whose_building_failed_is_found(database: TestDatabase) -> None:
    add = "insert into thea.users (tenant_id, telegram_id, username) values ('acme', {}, 'ana')"
    do(database, add.format(1), add.format(2))
    with pytest.raises(psycopg.errors.UniqueViolation):
        do(database, "create unique index concurrently broken on thea.users (tenant_id, username)")
    [finding] = ailing(examined(database.app_url))

    assert (finding.check, finding.found) == ("indexes", "thea.broken is invalid: its building goes on, or failed")
    do(database, "delete from thea.users where telegram_id = 2")
    cure(database, [finding])
    assert ailing_schema(database) == []


def test_a_right_of_the_login_itself_is_an_excess(database: TestDatabase) -> None:
    with login(database) as (name, url):
        do(database, f"grant truncate on thea.users to {name}")
        [finding] = ailing(examined(url))

    assert finding.found == f"{name} may truncate on thea.users"


def test_a_missing_role_and_a_mighty_one_are_found(database: TestDatabase) -> None:
    hidden = f"hidden_{uuid.uuid4().hex[:12]}"
    try:
        do(database, f"alter role thea_maintenance rename to {hidden}", "alter role thea_readonly bypassrls")
        findings = ailing(examined(database.app_url))
    finally:
        do(database, f"alter role {hidden} rename to thea_maintenance", "alter role thea_readonly nobypassrls")

    assert [(each.check, each.found) for each in findings] == [
        ("roles", "there is no role thea_maintenance"),
        ("roles", "thea_readonly has bypassrls, so row security does not bind it"),
    ]
    assert "`alter role thea_readonly nobypassrls`" in str(findings[1].fix)


def test_searches_of_a_mighty_role_are_found(database: TestDatabase) -> None:
    try:
        do(database, "alter role thea_search bypassrls")
        findings = ailing(examined(database.app_url))
    finally:
        do(database, "alter role thea_search nobypassrls")

    assert {finding.check for finding in findings} == {"functions"}
    assert all("runs as thea_search, whom row security does not bind" in finding.found for finding in findings)
    assert {finding.fix for finding in findings} == {"`alter role thea_search nosuperuser nobypassrls`"}


# --- migrations ---------------------------------------------------------------------------------


def test_pending_migrations_are_named(database: TestDatabase) -> None:
    [undone] = rollback(database.migrator_url)
    finding = the("migrations", examined(database.app_url))

    assert (finding.state, finding.found) == ("problem", f"the schema lacks {undone}")
    assert "thea-store migrate" in str(finding.fix)


def test_an_empty_database_lacks_all_of_them_and_nothing_else(thea_server: TestServer) -> None:
    with ExitStack() as resources:
        empty = thea_server.new_database(resources, migrated=False)
        findings = ailing(examined(empty.app_url, migrator_url=empty.migrator_url))

    assert [finding.check for finding in findings] == ["migrations"]
    assert findings[0].found == f"the schema lacks {', '.join(IDS)}"


@pytest.mark.parametrize(
    ("change", "found", "fix"),
    [
        (
            f"update _yoyo_log set comment = 'sha256:0' where migration_id = '{IDS[2]}'",
            f"{IDS[2]} was edited",
            "restore ",
        ),
        (
            "insert into _yoyo_migration values ('x', '9999.later', now())",
            "newer than this version",
            "update thea_store",
        ),
        (
            "insert into _yoyo_migration values ('x', '0001.gone', now())",
            "0001.gone is applied, but its file is",
            "bring ",
        ),
        (
            f"delete from _yoyo_migration where migration_id = '{IDS[2]}'",
            f"{IDS[2]} is not applied, though",
            "give it a number",
        ),
    ],
)
def test_migrations_that_do_not_fit_are_told_apart(database: TestDatabase, change: str, found: str, fix: str) -> None:
    do(database, change)
    finding = the("migrations", examined(database.app_url, migrator_url=database.migrator_url))

    assert finding.state == "problem"
    assert finding.found.startswith(found) or found in finding.found
    assert str(finding.fix).startswith(fix)


def test_without_the_migrators_login_unknown_migrations_are_found_all_the_same(database: TestDatabase) -> None:
    do(database, "insert into _yoyo_migration values ('x', '9999.later', now())")

    assert the("migrations", examined(database.app_url)).state == "problem"


# --- the login ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    ("attributes", "check", "state", "told"),
    [
        ("superuser", "powers", "problem", ("is a superuser", "in role thea_app`")),
        ("bypassrls in role thea_app", "powers", "problem", ("has BYPASSRLS", "nobypassrls")),
        (
            "in role thea_app, thea_owner",
            "powers",
            "problem",
            ("may become thea_owner, which owns the tables", "revoke thea_owner"),
        ),
        (
            "in role thea_app, thea_maintenance",
            "powers",
            "problem",
            ("may read every tenant, as thea_maintenance may", "revoke thea_main"),
        ),
        (
            "in role thea_app, pg_read_all_data",
            "powers",
            "problem",
            ("all that pg_read_all_data may", "revoke pg_read"),
        ),
        ("createdb in role thea_app", "powers", "warning", ("has createdb", "nocreatedb")),
        ("replication in role thea_app", "powers", "warning", ("has replication", "noreplication")),
        ("", "membership", "problem", ("is no member of thea_app", "grant thea_app to")),
        ("noinherit in role thea_app", "membership", "problem", ("does not inherit its rights", "inherit")),
        (
            "connection limit 5 in role thea_app",
            "pool",
            "problem",
            ("there are 5 (the connection limit of", "lower DATABASE_"),
        ),
    ],
)
def test_what_is_wrong_with_a_login_is_found(
    database: TestDatabase, attributes: str, check: str, state: str, told: tuple[str, str]
) -> None:
    found, fix = told
    with login(database, attributes) as (name, url):
        its_own = [finding for finding in ailing(examined(url)) if finding.check == check and found in finding.found]

        assert [finding.state for finding in its_own] == [state]
        assert fix in str(its_own[0].fix)
        if SQL.search(str(its_own[0].fix)):
            cure(database, its_own)
            assert ailing(examined(url)) == []
        assert (name in its_own[0].found) == (check != "pool")


@pytest.mark.parametrize(
    ("setting", "check", "found"),
    [
        ("app.tenant_id = 'acme'", "session", "some tenant's already"),
        ("app.actor = 'eve'", "session", "whom the audit log would name"),
        ("row_security = off", "session", "row_security is off"),
        ("session_replication_role = replica", "session", "session_replication_role is not origin"),
        ("default_transaction_read_only = on", "writes", "every write fails"),
    ],
)
def test_settings_that_come_with_the_login_are_found(
    database: TestDatabase, setting: str, check: str, found: str
) -> None:
    with login(database) as (name, url):
        do(database, f"alter role {name} set {setting}")
        findings = ailing(examined(url))
        finding = the(check, findings)

        assert found in finding.found
        cure(database, [finding])
        assert ailing(examined(url)) == []


@pytest.mark.parametrize(
    ("grant", "what"),
    [
        ("temporary on database {} to public", "temporary tables"),
        ("create on database {} to thea_app", "schemas"),
        ("create on schema public to public", "objects in schema public"),
        ("create on schema thea to thea_app", "objects in schema thea"),
    ],
)
def test_a_login_that_may_create_is_found(database: TestDatabase, grant: str, what: str) -> None:
    do(database, f"grant {grant.format(database.name)}")
    [finding] = ailing(examined(database.app_url))

    assert (finding.check, finding.state) == ("creation", "problem")
    assert f"may create {what}, where" in finding.found
    cure(database, [finding])
    assert ailing(examined(database.app_url)) == []


def test_an_unsafe_login_that_is_allowed_is_a_warning(database: TestDatabase) -> None:
    findings = ailing(examined(database.migrator_url, allow_unsafe_role=True))

    owner = next(finding for finding in findings if "thea_owner" in finding.found)
    assert (owner.check, owner.state) == ("powers", "warning")


def test_the_owner_of_the_database_alone_may_create_too_much(database: TestDatabase) -> None:
    with login(database) as (name, url):
        do(database, f"alter database {database.name} owner to {name}")
        finding = the("creation", examined(url))
        do(database, f"alter database {database.name} owner to current_user")

    assert finding.state == "problem"
    assert "owns the database" in finding.found


# --- the server ---------------------------------------------------------------------------------


def test_a_pool_larger_than_the_server_is_a_problem(database: TestDatabase) -> None:
    [finding] = ailing(examined(database.app_url, pool_size=9000))

    assert finding.found.startswith("one process may want 9010 connections, and there are ")
    assert "lower DATABASE_POOL_SIZE" in str(finding.fix)


def test_an_encoding_other_than_utf8_is_a_problem(database: TestDatabase) -> None:
    name = f"{database.name}_ascii"
    do(database, f"create database {name} encoding 'SQL_ASCII' locale 'C' template template0")
    try:
        finding = the("encoding", examined(replace(DatabaseUrl.parse(database.app_url), database=name).render()))
    finally:
        do(database, f"drop database {name}")

    assert finding.found == "the database's encoding is SQL_ASCII, so it cannot hold every text"
    assert f"`create database {name} encoding 'UTF8' template template0`" in str(finding.fix)


@pytest.mark.parametrize(("oldest", "newest", "state"), [(15, 99, "ok"), (99, 99, "problem"), (1, 2, "warning")])
def test_versions_out_of_range_are_told(
    thea_database: TestDatabase, monkeypatch: pytest.MonkeyPatch, oldest: int, newest: int, state: str
) -> None:
    monkeypatch.setattr(server, "_OLDEST", oldest)
    monkeypatch.setattr(server, "_NEWEST", newest)

    assert the("version", examined(thea_database.app_url)).state == state


@pytest.mark.parametrize(("seconds", "found"), [(3600, "3,600 s behind"), (-60, "60 s ahead of")])
def test_a_clock_that_is_wrong_is_a_warning(
    thea_database: TestDatabase, monkeypatch: pytest.MonkeyPatch, seconds: float, found: str
) -> None:
    clock = time.time
    monkeypatch.setattr(server, "now", lambda: clock() + seconds)
    [finding] = ailing(examined(thea_database.app_url))

    assert (finding.check, finding.state) == ("clock", "warning")
    assert found in finding.found
    assert "NTP" in str(finding.fix)


# --- what stands beside it ----------------------------------------------------------------------


def test_a_migrator_without_rights_is_a_problem(database: TestDatabase) -> None:
    with login(database, "") as (name, url):
        findings = ailing(examined(database.app_url, migrator_url=url))

    assert the("migrator", findings).found == f"{name} may not change the schema"
    assert f"`grant thea_owner to {name}`" in str(the("migrator", findings).fix)


def test_what_the_service_cannot_reach_the_migrator_may(database: TestDatabase) -> None:
    do(database, "alter table thea.users no force row level security")
    unknown = replace(DatabaseUrl.parse(database.app_url), user="nobody_knows").render()
    findings = ailing(examined(unknown, migrator_url=database.migrator_url))

    assert [finding.check for finding in findings] == ["connection", "row security"]


def test_a_replica_and_a_migrator_that_are_down_do_not_end_the_examination(database: TestDatabase) -> None:
    dead = f"postgresql://service:{SECRET}@127.0.0.1:1/thea"
    findings = examined(database.app_url, replica_url=dead, migrator_url=dead)

    assert [finding.check for finding in ailing(findings)] == ["migrator", "replica"]
    assert the("queries", findings).state == "ok"


def test_a_replica_that_is_none_is_a_warning(thea_database: TestDatabase) -> None:
    [finding] = ailing(examined(thea_database.app_url, replica_url=thea_database.app_url))

    assert (finding.check, finding.state) == ("replica", "warning")
    assert finding.found == "DATABASE_REPLICA_URL leads to a primary"


def test_an_embedded_server_is_not_started_by_the_way(thea_database: TestDatabase) -> None:
    [finding] = ailing(examined(thea_database.app_url, replica_url="embedded:"))

    assert "names no server" in finding.found


# --- a pooler -----------------------------------------------------------------------------------


@pytest.fixture
def pooled_url(thea_database: TestDatabase) -> Iterator[str]:
    """The service's URL through a PgBouncer in transaction mode."""
    with pgbouncer(thea_database.app_url) as url:
        yield url


def test_a_pooler_wants_the_transactions_scope(pooled_url: str) -> None:
    [finding] = ailing(examined(pooled_url))

    assert (finding.check, finding.state) == ("pooler", "problem")
    assert "set DATABASE_TENANT_SCOPE=transaction" in str(finding.fix)
    assert ailing(examined(pooled_url, tenant_scope="transaction", pool_size=9000)) == []


def test_a_password_that_is_refused_is_told_and_not_shown(pooled_url: str) -> None:
    [finding] = examined(replace(DatabaseUrl.parse(pooled_url), password=SECRET).render())

    assert "the server refuses the password" in finding.found
    assert SECRET not in repr(finding)


# --- a standby ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def standby(memory: Path) -> Iterator[tuple[EmbeddedPostgres, DatabaseUrl]]:
    """A primary, and the address of a standby that follows it."""
    account = server_account(None)
    programs = find_binaries(None, account).directory
    with ExitStack() as resources:
        runner = resources.enter_context(asyncio.Runner())
        primary = EmbeddedPostgres(memory / "primary")
        runner.run(primary.start())
        resources.callback(lambda: runner.run(primary.stop()))
        address = DatabaseUrl.parse(primary.superuser_url)
        sockets = address.hosts[0][0]
        copy = resources.enter_context(tempfile.TemporaryDirectory(dir=sockets))
        os.chown(copy, account.uid or -1, account.gid or -1)
        data = f"{copy}/data"
        backup = [str(programs / "pg_basebackup"), "-h", sockets, "-U", "postgres", "-c", "fast", "--no-sync"]
        made = account.run(*backup, "-R", "-D", data)
        assert made.returncode == 0, made.stdout
        command = [str(programs / "postgres"), "-D", data, "-c", f"unix_socket_directories={copy}", "-c", "port=5433"]
        command += ["-c", "listen_addresses=", "-c", "fsync=off"]
        process = resources.enter_context(
            subprocess.Popen(command, user=account.uid, group=account.gid, extra_groups=[], stderr=subprocess.DEVNULL)
        )
        resources.callback(process.send_signal, signal.SIGQUIT)
        place = replace(address, hosts=((copy, 5433),))
        until_it_answers(place)
        yield primary, place


def test_a_standby_takes_no_writes(standby: tuple[EmbeddedPostgres, DatabaseUrl]) -> None:
    finding = the("writes", examined(standby[1].render()))

    assert finding.found == "the server is a standby, which takes no writes"
    assert finding.fix == "give the primary's URL in DATABASE_URL"


def test_a_standby_that_follows_is_well_and_one_that_does_not_is_not(
    standby: tuple[EmbeddedPostgres, DatabaseUrl], monkeypatch: pytest.MonkeyPatch
) -> None:
    primary, address = standby
    follows = the("replica", examined(primary.superuser_url, replica_url=address.render()))
    with psycopg.connect(address.render(), autocommit=True) as connection:
        connection.execute("select pg_wal_replay_pause()")
    with psycopg.connect(primary.superuser_url, autocommit=True) as connection:
        connection.execute("create table written (id int)")
    monkeypatch.setattr(others, "_LAG", 0.0)
    lags = the("replica", examined(primary.superuser_url, replica_url=address.render()))

    assert (follows.state, follows.found) == ("ok", "a standby, which follows")
    assert lags.state == "warning"
    assert lags.found.startswith("the standby ")
    assert "pg_stat_replication" in str(lags.fix)


def test_among_several_hosts_the_primary_is_meant(standby: tuple[EmbeddedPostgres, DatabaseUrl]) -> None:
    primary, address = standby
    both = replace(address, hosts=(*address.hosts, *DatabaseUrl.parse(primary.superuser_url).hosts))
    findings = examined(both.render(), replica_url=both.render())

    assert the("writes", findings).state == "ok"
    assert the("replica", findings).found != "DATABASE_REPLICA_URL leads to a primary"


# --- what goes wrong during the examination -----------------------------------------------------


def test_a_check_that_fails_ends_none_but_itself(thea_database: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: CheckContext) -> Sequence[Verdict]:
        raise LookupError(SECRET)

    checks = {
        "one": fails,
        "two": lambda context: [ok(str(context.ask("select 1 / 0")))],
        "three": lambda context: [ok(str(context.ask("select 1 from pg_authid")))],
        "four": lambda context: [ok(str(context.ask("set local statement_timeout = 1; select pg_sleep(1)")))],
        "five": lambda _: [ok("all is well")],
    }
    monkeypatch.setattr(server, "CHECKS", checks)
    findings = [finding for finding in examined(thea_database.app_url) if finding.check in checks]

    assert [(finding.state, finding.found) for finding in findings] == [
        ("problem", "an unexpected LookupError in this check"),
        ("problem", "the server refuses to tell (SQLSTATE 22012)"),
        ("warning", "the login may not look"),
        ("warning", "the server took longer than 10 s"),
        ("ok", "all is well"),
    ]


def test_a_connection_that_breaks_is_the_last_finding(
    run: Run, thea_database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(context: CheckContext) -> Sequence[Verdict]:
        return [ok(str(context.ask("select pg_terminate_backend(pg_backend_pid())")))]

    monkeypatch.setattr(server, "CHECKS", {"breaks": breaks})
    result = run("doctor", "--json", DATABASE_URL=thea_database.app_url)
    last = json.loads(result.stdout)["findings"][-1]

    assert result.exit_code == 1
    assert (last["check"], last["state"], last["found"]) == ("connection", "problem", "it was lost meanwhile")


def test_the_examination_changes_nothing(thea_database: TestDatabase) -> None:
    settings = Settings(url=thea_database.superuser_url)
    write: Check = lambda context: [ok(str(context.ask("create table public.made (id int)")))]  # noqa: E731
    with connect(settings.address()) as connection:
        [finding] = run_checks({"write": write}, CheckContext(connection, settings))

    assert finding.found == "the server refuses to tell (SQLSTATE 25006)"


# --- the command --------------------------------------------------------------------------------


def test_the_command_says_that_all_is_well(run: Run, lone: TestDatabase) -> None:
    shown = run("doctor", DATABASE_URL=lone.app_url, DATABASE_MIGRATOR_URL=lone.migrator_url)
    found = json.loads(run("doctor", "--json").stdout)

    assert (shown.exit_code, shown.stderr) == (0, "")
    assert all(line.startswith("ok  ") for line in shown.stdout.splitlines())
    assert found["well"]
    assert {finding["state"] for finding in found["findings"]} == {"ok"}
    assert set(found["findings"][0]) == {"check", "state", "found", "fix"}


def test_the_command_says_what_is_wrong_with_its_fix(run: Run, lone: TestDatabase) -> None:
    do(lone, "alter table thea.users no force row level security", "alter table thea.users owner to current_user")
    shown = run("doctor", DATABASE_URL=lone.app_url)
    found = json.loads(run("doctor", "--json").stdout)

    assert shown.exit_code == 1
    assert shown.stderr == "thea-store: 1 problem(s) and 1 warning(s) with this database\n"
    assert "problem  row security    it is not forced on thea.users" in shown.stdout
    assert "fix:  `alter table thea.users force row level security`" in shown.stdout
    assert not found["well"]


def test_a_warning_alone_is_not_well(run: Run, lone: TestDatabase) -> None:
    do(lone, "alter table thea.users owner to current_user")

    assert run("doctor", DATABASE_URL=lone.app_url).exit_code == 1


@pytest.mark.parametrize("options", [[], ["--json"]])
@pytest.mark.parametrize(
    ("url", "found"),
    [
        (f"postgresql://service:{SECRET}@127.0.0.1:1/thea", "127.0.0.1:1/thea: no PostgreSQL answers"),
        (f"postgresql://service:{SECRET}@nowhere.invalid/thea", "the host's name is not known"),
        (f"postgresql://service:{SECRET}@{'a' * 70}.example/thea", "nswer"),
        (f"postgresql://service:{SECRET}@localhost:1/thea?sslmode=verify-full&sslrootcert=/none", "localhost:1/thea: "),
    ],
)
def test_a_server_that_cannot_be_reached_is_one_problem_without_the_password(
    run: Run, url: str, found: str, options: list[str]
) -> None:
    result = run("doctor", *options, DATABASE_URL=url)

    assert result.exit_code == 1
    assert found in result.stdout
    assert result.stderr == "thea-store: 1 problem(s) and 0 warning(s) with this database\n"
    assert SECRET not in result.output
    assert "Traceback" not in result.output
    if options:
        assert [finding["check"] for finding in json.loads(result.stdout)["findings"]] == ["connection"]


def test_a_login_or_database_that_is_not_there_is_told_apart(
    run: Run, standby: tuple[EmbeddedPostgres, DatabaseUrl]
) -> None:
    address = replace(DatabaseUrl.parse(standby[0].superuser_url), password=SECRET)
    nobody = run("doctor", DATABASE_URL=replace(address, user="nobody_knows").render())
    nothing = run("doctor", DATABASE_URL=replace(address, database="nothing_there").render())

    assert "the server knows no such login" in nobody.stdout
    assert "there is no such database" in nothing.stdout
    assert SECRET not in nobody.output + nothing.output


def test_misuse_is_told_without_the_password(run: Run) -> None:
    result = run("doctor", DATABASE_URL=f"mysql://service:{SECRET}@localhost/thea")

    assert (result.exit_code, result.stdout) == (2, "")
    assert SECRET not in result.stderr


def test_without_a_url_an_embedded_server_is_examined(run: Run) -> None:
    result = run("doctor")

    assert result.exit_code == 0
    assert "DATABASE_URL is not set" in result.stderr


def test_a_kept_embedded_server_is_left_as_it_is(run: Run, memory: Path) -> None:
    result = run("doctor", "--json", DATABASE_URL=f"embedded:{memory / 'kept'}")

    assert result.exit_code == 1
    assert [each["check"] for each in json.loads(result.stdout)["findings"] if each["fix"]] == ["migrations"]


# --- the reasons that no test server gives ------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('FATAL:  password authentication failed for user "x"', "the server refuses the password"),
        ("fe_sendauth: no password supplied", "the server refuses the password"),
        ('FATAL:  role "x" is not permitted to log in', "the login may not log in"),
        ('FATAL:  permission denied for database "x"', "the login may not connect"),
        ('FATAL:  no pg_hba.conf entry for host "1.2.3.4", user "x", no encryption', "refuses this login from here"),
        ("FATAL:  sorry, too many clients already", "has no connection left"),
        ("FATAL:  remaining connection slots are reserved for roles with", "has no connection left"),
        ("FATAL:  the database system is starting up", "is starting or stopping"),
        ("failed: session is read-only", "none of the hosts is a primary"),
        ("failed: server does not support SSL, but SSL was required", "the server speaks no TLS"),
        ("failed: SSL error: certificate verify failed", "no TLS connection comes about"),
        ("connection timeout expired", "keeps silent for 5 s"),
        ('connection to server at "password.example", port 1 failed: Connection refused', "no PostgreSQL answers"),
    ],
)
def test_a_refused_connection_is_told_in_our_own_words(monkeypatch: pytest.MonkeyPatch, text: str, found: str) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise psycopg.OperationalError(text)

    monkeypatch.setattr(psycopg, "connect", refuse)
    with pytest.raises(UnreachableError, match=found):
        connect(DatabaseUrl.parse("postgresql://localhost/thea"))
