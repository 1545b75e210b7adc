"""What an operator may do by mistake: `doctor` finds each, and its fix, applied for real, is the end of it."""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack

import psycopg
import pytest

from thea_store import Settings
from thea_store.admin import doctor
from thea_store.admin.doctor import Finding, examine
from thea_store.admin.doctor.findings import CheckContext
from thea_store.admin.doctor.manifest import leakproof, objects, shipped, shipped_leakproof
from thea_store.migrator import available
from thea_store.postgres.operator import connect, read_only
from thea_store.testing import TestDatabase, TestServer

pytestmark = pytest.mark.usefixtures("no_settings")

SQL = re.compile(r"`((?:alter|create|drop|grant|reindex|revoke) [^`…]*)`")
PLACE = re.compile(r"the statement at migrations/(\S+):(\d+)")

MISTAKES = [
    ("create view public.peek as select * from thea.notes", "the view public.peek reads with the rights of its owner"),
    (
        (
            "create view public.a as select * from thea.notes; create view public.b as select * from public.a;"
            "alter view public.a set (security_invoker = true)"
        ),
        "the view public.b reads with the rights of its owner",
    ),
    ("create materialized view public.peek as select * from thea.notes", "materialized view public.peek"),
    (
        (
            "create function public.peek() returns bigint language sql security definer as "
            "$$ select count(*) from thea.users $$"
        ),
        "the function public.peek() runs as",
    ),
    (
        (
            "create function public.peek() returns bigint language sql security definer "
            "begin atomic select count(*) from thea.users; end"
        ),
        "the function public.peek() runs as",
    ),
    (
        (
            "create function public.peek(t text) returns bigint language plpgsql security definer as "
            "$$ declare n bigint; begin execute 'select count(*) from ' || t into n; return n; end $$"
        ),
        "the function public.peek(text) runs as",
    ),
    (
        (
            "create or replace function thea.audit() returns trigger language plpgsql security definer "
            "set search_path = pg_catalog, pg_temp as $$ begin return null; end $$"
        ),
        "the function thea.audit() is not as the migrations made it",
    ),
    (
        (
            "create or replace function thea.touch() returns trigger language plpgsql "
            "set search_path = pg_catalog, pg_temp as $$ begin return new; end $$"
        ),
        "the function thea.touch() is not as the migrations made it",
    ),
    (
        (
            "create or replace function thea.audit_is_append_only() returns trigger language plpgsql "
            "set search_path = pg_catalog, pg_temp as $$ begin return null; end $$"
        ),
        "the function thea.audit_is_append_only() is not as",
    ),
    ("alter function thea.audit() security invoker", "the function thea.audit() is not as the migrations made it"),
    ("alter function thea.tenant() leakproof", "the function thea.tenant() is not as the migrations made it"),
    (
        "alter table thea.notes drop constraint notes_tenant_id_check",
        "the constraint notes_tenant_id_check of thea.notes is missing",
    ),
    (
        (
            "alter table thea.notes drop constraint notes_tenant_id_check; alter table thea.notes "
            "add constraint notes_tenant_id_check check (tenant_id <> '')"
        ),
        "the constraint notes_tenant_id_check of thea.notes is not as the migrations made it",
    ),
    ("drop index thea.users_created_at_idx", "the index users_created_at_idx of thea.users is missing"),
    (
        "drop index thea.users_created_at_idx; create index users_created_at_idx on thea.users (created_at)",
        "the index users_created_at_idx of thea.users is not as",
    ),
    ("drop trigger touch on thea.notes", "the trigger touch of thea.notes is missing"),
    (
        (
            "drop trigger audit on thea.notes; create trigger audit after insert on thea.notes "
            "for each row execute function thea.audit('notes')"
        ),
        "the trigger audit of thea.notes is not as the migrations made it",
    ),
    (
        (
            "create function public.keep() returns trigger language plpgsql as $$ begin return null; end $$;"
            "create trigger zz before insert on thea.users for each row execute function public.keep()"
        ),
        "the trigger zz of thea.users is not one that the migrations made",
    ),
    (
        "create rule quiet as on delete to thea.users do instead nothing",
        "the rule quiet of thea.users is not one that the migrations made",
    ),
    (
        "drop policy maintenance_reads on thea.users",
        "the policy maintenance_reads of thea.users is missing",
    ),
    (
        "create policy reporting on thea.users for select to pg_monitor using (true)",
        "the policy reporting of thea.users is not one that the migrations made",
    ),
    ("alter database {database} set session_replication_role = replica", "neither the audit log nor foreign keys"),
    ("alter role {role} set session_replication_role = replica", "neither the audit log nor foreign keys"),
    (
        "alter role {role} in database {database} set session_replication_role = replica",
        "neither the audit log nor foreign keys",
    ),
    ("alter role {role} set app.actor = 'eve'", "sessions would be some tenant's or actor's"),
    ("alter database {database} set app.tenant_id = 'acme'", "sessions would be some tenant's or actor's"),
    ("alter database {database} set row_security = off", "would not mean what they say"),
    ("alter database {database} set standard_conforming_strings = off", "would not mean what they say"),
    (
        "alter function pg_catalog.texticlike(text, text) leakproof",
        "texticlike(text,text) is marked as leakproof",
    ),
    ("alter function pg_catalog.ts_match_vq(tsvector, tsquery) leakproof", "is marked as leakproof"),
    (
        "create function public.tell(text) returns boolean language sql leakproof return true",
        "public.tell(text) is marked as leakproof",
    ),
    (
        "alter table thea.users add constraint once unique (telegram_id)",
        "the unique constraint once of thea.users does not begin with tenant_id",
    ),
    (
        "alter table thea.users add constraint apart exclude (telegram_id with =)",
        "the exclusion constraint apart of thea.users does not begin with tenant_id",
    ),
    (
        "create unique index by_name on thea.users (lower(username))",
        "the index thea.by_name of thea.users does not begin with tenant_id",
    ),
    (
        (
            "alter table thea.notes drop constraint notes_user_id_fkey; alter table thea.notes add constraint "
            "notes_user_id_fkey foreign key (tenant_id, user_id) references thea.users (tenant_id, id) "
            "on delete cascade not valid"
        ),
        "the constraint notes_user_id_fkey of thea.notes is not validated",
    ),
    (
        "alter table thea.users add constraint grown check (telegram_id > 0)",
        "the constraint grown of thea.users is not one that the migrations made",
    ),
    (
        (
            "create or replace function thea.tenant() returns text language sql stable parallel safe return coalesce("
            "nullif(current_setting('app.back_door', true), ''), nullif(current_setting('app.tenant_id', true), ''))"
        ),
        "the function thea.tenant() is not as the migrations made it",
    ),
    ("grant truncate on thea.notes to thea_search", "the right to truncate on thea.notes to thea_search is not one"),
    ("grant thea_search to {role}", "is a member of thea_search"),
    ("grant thea_loader to {role}", "is a member of thea_loader"),
    ("grant select on thea.users to thea_search", "the right to select on thea.users to thea_search is not one"),
    (
        "revoke delete on thea.notes from thea_maintenance",
        "the right to delete on thea.notes to thea_maintenance is missing",
    ),
    ("revoke select on thea.notes from thea_readonly", "the right to select on thea.notes to thea_readonly is missing"),
    (
        "alter default privileges in schema thea grant select on tables to thea_app",
        "thea_app gets select on the tables",
    ),
    (
        "create function thea.mine() returns int language sql return 1",
        "the function thea.mine() is not one that the migrations made",
    ),
    (
        (
            "insert into thea.users (tenant_id, telegram_id) values ('acme', 1); "
            "insert into thea.users (tenant_id, id, telegram_id) overriding system value values ('b', 900, 1)"
        ),
        "the sequence of thea.users is behind",
    ),
]


@pytest.fixture
def role(database: TestDatabase) -> Iterator[str]:
    """A login that has nothing to do with the library."""
    name = f"mistaken_{uuid.uuid4().hex[:12]}"
    do(database, f"create role {name} login")
    yield name
    do(database, f"drop owned by {name}", f"drop role {name}")


def do(database: TestDatabase, *statements: str) -> None:
    options = "-c session_replication_role=origin -c row_security=on -c standard_conforming_strings=on"
    with psycopg.connect(database.superuser_url, autocommit=True, options=options) as superuser:
        for statement in statements:
            superuser.execute(statement.encode())


def ailing(database: TestDatabase) -> list[Finding]:
    """What is found of the schema by the service's login, with the migrator's beside it."""
    settings = Settings(url=database.app_url, migrator_url=database.migrator_url)
    with connect(settings.address()) as connection:
        found = doctor.of_schema(CheckContext(connection, settings, has_migrator=True))
    return [finding for finding in found if finding.state != "ok"]


def cure(database: TestDatabase, findings: Sequence[Finding]) -> int:
    """Apply every fix that is SQL, or a statement of a migration; how many there were."""
    count = 0
    for finding in findings:
        for fix in SQL.findall(finding.fix or ""):
            do(database, *fix.split("; "))
            count += 1
        for name, line in PLACE.findall(finding.fix or ""):
            [migration] = [each for each in available() if each.path.name == name]
            [statement] = [each for each in migration.statements if each.line == int(line)]
            do(database, re.sub("^create function", "create or replace function", statement.sql))
            count += 1
    return count


@pytest.mark.slow
@pytest.mark.parametrize(("mistake", "found"), MISTAKES, ids=[f"{n}-{each[0][:50]}" for n, each in enumerate(MISTAKES)])
def test_a_mistake_is_found_and_its_fix_is_its_end(database: TestDatabase, role: str, mistake: str, found: str) -> None:
    do(database, mistake.format(database=database.name, role=role))
    findings = ailing(database)

    assert any(found in finding.found for finding in findings), findings
    assert all(finding.fix for finding in findings)
    assert cure(database, findings) >= len(findings)
    assert ailing(database) == []


def test_a_table_that_is_gone_is_told_without_all_that_went_with_it(lone: TestDatabase) -> None:
    do(lone, "drop table thea.message_history cascade")

    assert [each.found for each in ailing(lone)] == [
        "the right to usage on sequence thea.message_history_id_seq to thea_app is missing",
        "the sequence thea.message_history_id_seq is missing",
        "the table thea.message_history is missing",
    ]


def test_what_an_operator_may_add_is_no_mistake(lone: TestDatabase) -> None:
    do(
        lone,
        "create index slow_report_idx on thea.notes (tenant_id, priority)",
        "create view public.fair with (security_invoker = true) as select * from thea.notes",
        "create function public.helper() returns int language plpgsql security definer as $$ begin return 1; end $$",
        "alter database " + lone.name + " set session_replication_role = origin",
        "alter table thea.users add column shoe_size int",
    )

    assert ailing(lone) == []


def test_the_manifest_is_what_the_migrations_make(thea_database: TestDatabase) -> None:
    with connect(Settings(url=thea_database.app_url).address()) as connection, read_only(connection):
        made = objects(lambda query: connection.execute(query).fetchall())
        marked = leakproof(lambda query: connection.execute(query).fetchall())

    assert made == shipped(), "stale: run `make release-manifest`"
    assert marked <= shipped_leakproof(), "run `python tools/schema_manifest.py <programs of this server>`"


def test_a_newer_schema_is_not_compared(database: TestDatabase) -> None:
    do(
        database,
        "insert into public._yoyo_migration values ('x', '9999.later', now())",
        "drop index thea.users_created_at_idx",
    )
    settings = Settings(url=database.app_url)
    with connect(settings.address()) as connection:
        findings = doctor.of_schema(CheckContext(connection, settings))

    [finding] = [finding for finding in findings if finding.check == "as shipped"]
    assert (finding.state, finding.found[:13]) == ("ok", "not compared,")


def test_without_a_login_that_may_look_sequences_are_not_looked_at(database: TestDatabase) -> None:
    [finding] = [each for each in examine(Settings(url=database.app_url)) if each.check == "sequences"]

    assert finding.found.startswith("not looked at: give a login that may become thea_maintenance")


def test_logins_of_another_database_that_may_connect_are_listed(
    thea_server: TestServer, database: TestDatabase
) -> None:
    foreign = f"foreign_{uuid.uuid4().hex[:12]}"
    do(database, f"create role {foreign} login in role thea_app")
    try:
        with ExitStack() as resources:
            other = thea_server.new_database(resources)
            findings = [finding for finding in ailing(database) if finding.check == "neighbours"]
            cure(database, findings)
            cured = [finding for finding in ailing(database) if finding.check == "neighbours"]
    finally:
        do(database, f"drop role {foreign}")

    assert foreign in findings[0].found
    assert other.name in findings[0].found or "thea" in findings[0].found
    assert cured == []
