"""What works on a cluster, and what is refused there with a reason."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest

from tests.citus.conftest import Cluster
from tests.citus.nodes import down, tenants_of_both
from tests.isolation.two_locks import ABOUT, QUERIES
from tests.support.calls import CALLS, Call, Ground, prepare
from tests.support.distribution import REFUSED
from tests.support.exports import ANA, BOT, chat, said, written
from tests.support.twins import certify, make_twin
from thea_store import (
    InvalidArgumentError,
    QuotaExceededError,
    Settings,
    Store,
    StoreError,
    StoreUnavailableError,
    TenantSuspendedError,
    User,
)
from thea_store.admin.compliance import read, verify
from thea_store.admin.doctor import of_schema
from thea_store.admin.doctor.findings import CheckContext
from thea_store.database.connection import set_local
from thea_store.database.connector import Connector
from thea_store.postgres.url import DatabaseUrl
from thea_store.queries.binding import bind
from thea_store.store import GROUP_FILES, SQL_FILES
from thea_store.telegram.importer import TelegramImport
from thea_store.testing.proving.arguments import argument_sets
from thea_store.testing.proving.databases import rows_of
from thea_store.testing.proving.rows import tables_of
from thea_store.verification.cluster import refused_by_nodes
from thea_store.verification.opening import inspect, mismatches

pytestmark = pytest.mark.timeout(300)  # a cluster takes its time, and the first test spreads the tables

# A constraint, or a row too many where one is expected: an answer, as a caller gets it.
ANSWERS = ("21", "23")


async def _connection(url: str) -> Any:
    return (await Connector(DatabaseUrl.parse(url), command_timeout=30, direct_only=False)()).raw


# --- statements ---------------------------------------------------------------------------------


async def test_every_query_runs(cluster: Cluster, store: Store, tenant: str) -> None:
    await make_twin(store, tenant)
    certify(cluster.superuser_url, tenant)
    with psycopg.connect(cluster.superuser_url, autocommit=True) as connection:
        with connection.transaction():
            connection.execute("set local session_replication_role = replica")
            # Else it could neither write a plain text nor search.
            connection.execute(
                "update thea.encryption_keys set retired_at = now(), opened_at = now() where tenant_id = %s", [tenant]
            )
        connection.execute("set search_path = ''")
        tables = tables_of(connection, ["thea"])
    superuser, service = await _connection(cluster.superuser_url), await _connection(cluster.url_of("thea_app"))
    rows = await rows_of(superuser, tables, tenant)
    refused, answered = dict[str, str](), set[str]()
    for query in QUERIES:
        of_file = [one for one in QUERIES if one.source.path == query.source.path]
        for values in argument_sets(query, of_file, rows, rows, ABOUT.get(str(query.source.path))):
            bound = bind(query, tenant, values)
            await service.execute("; ".join(["begin", *set_local(tenant_id=tenant)]))
            try:
                await service.fetch(bound.query.text, *bound.arguments)
                answered.add(query.name)
            except asyncpg.PostgresError as error:
                if not str(error.sqlstate).startswith(ANSWERS):
                    refused[query.name] = f"{error.sqlstate} {error}"
            finally:
                await service.execute("rollback")
    for connection in (superuser, service):
        await connection.close()

    assert refused == {}
    assert answered == {query.name for query in QUERIES}


@pytest.mark.parametrize(("statement", "why"), REFUSED)
async def test_what_the_reading_finds_is_refused_in_truth(cluster: Cluster, statement: str, why: str) -> None:
    service = await _connection(cluster.url_of("thea_app"))
    await service.execute("; ".join(["begin", *set_local(tenant_id="x")]))
    try:
        with pytest.raises(asyncpg.PostgresError) as refused:
            prepared = await service.prepare(statement)
            await prepared.fetch("x", *["y"] * (len(prepared.get_parameters()) - 1))
    finally:
        await service.close()

    # Of `merge`, 0A000 is what it means to say.
    assert refused.value.sqlstate in {"0A000", "42P18", "XX000" if "merge" in statement else "0A000"}, why


# --- what a store does ----------------------------------------------------------------------------


async def test_every_public_call_works(store: Store, tenant: str) -> None:
    assert await _failing(store, [(call, await prepare(store, tenant, f"pan {call}")) for call in CALLS]) == {}


async def test_with_a_worker_down_the_tenants_of_the_other_go_on(
    cluster: Cluster, store: Store, worker: str, tmp_path: Path
) -> None:
    of_it, of_the_other = tenants_of_both(cluster, worker)
    lost = await prepare(store, of_it)
    grounds = [(call, await prepare(store, of_the_other, f"pan {call}")) for call in CALLS]
    export = written(
        tmp_path / "result.json", chat(said(1, BOT, "buenas"), said(2, ANA, "hola"), said(3, BOT, "qué tal"))
    )

    with down(worker):
        failing = await _failing(store, grounds)
        imported = await TelegramImport(store, of_the_other, export).run()
        imported_again = await TelegramImport(store, of_the_other, export).run()
        with pytest.raises(StoreUnavailableError):
            await store.users.get_by_id(of_it, lost.live["users"])

    assert failing == {}
    assert (imported.turns["new"], imported_again.turns["unchanged"]) == (2, 2)
    assert await store.users.get_by_id(of_it, lost.live["users"]) is not None
    await store.messages.add_message(of_it, lost.live["users"], "after", user_message="Hola")


async def _failing(store: Store, grounds: Sequence[tuple[Call, Ground]]) -> dict[str, str]:
    """The calls that fail, each on rows of its own, with how."""
    failing = {}
    for call, ground in grounds:
        try:
            await call.run(store, ground.tenant, call.arguments(ground))
        except StoreError as error:
            failing[str(call)] = f"{error}, by {error.__cause__}"
    return failing


async def test_session_scope_is_refused(cluster: Cluster) -> None:
    with pytest.raises(StoreUnavailableError, match="Citus"):
        async with Store.open(Settings(url=cluster.url_of("thea_app"), tenant_scope="session")):
            pass


async def test_a_note_is_found_by_its_words_and_tags_and_by_nobody_else(store: Store, tenant: str, user: User) -> None:
    note = await store.notes.create(tenant, user.id, "comprar pan", tags=["casa"])

    assert [hit.id for hit in await store.notes.search(tenant, user.id, "pan")] == [note.id]
    assert [hit.id for hit in await store.notes.get_by_tags(tenant, user.id, ["casa"])] == [note.id]
    assert await store.notes.search(f"{tenant}-other", user.id, "pan") == []
    assert [entry.action for entry in await store.audit.get_for(tenant, "notes", note.id)] == ["insert"]


async def test_a_suspended_tenant_is_refused_on_every_node(store: Store, admin: Store) -> None:
    for place in range(8):  # on either node
        tenant = f"suspended-{place}-{uuid.uuid4().hex[:8]}"
        user = await store.users.create(tenant, telegram_id=1)
        await admin.tenants.create(tenant)
        await admin.tenants.suspend(tenant, "unpaid")

        with pytest.raises(TenantSuspendedError):
            await store.users.get_by_id(tenant, user.id)

        await admin.tenants.resume(tenant)
        assert await store.users.get_by_id(tenant, user.id) == user


async def test_a_limit_that_the_database_would_keep_is_refused(admin: Store, tenant: str) -> None:
    with pytest.raises(InvalidArgumentError, match="^limits: a Citus cluster keeps none of rows or of text"):
        await admin.tenants.create(tenant, limits={"rows": {"notes": 2}})


async def test_the_limits_of_a_tenants_calls_hold(cluster: Cluster, store: Store, admin: Store, tenant: str) -> None:
    await admin.tenants.create(tenant, limits={"calls_in_flight": 1, "statement_ms": 200})
    await store.users.create(tenant, telegram_id=1)
    await store.users.count(tenant)
    await store._database.limits.refresh()

    async with store.transaction(tenant) as tx:
        assert await tx.users.count(tenant) == 1
        with pytest.raises(QuotaExceededError, match="1 calls in flight"):
            await store.users.count(tenant)
    with psycopg.connect(cluster.superuser_url) as holder:
        holder.execute("lock table thea.users in access exclusive mode")
        with pytest.raises(QuotaExceededError, match="200 ms"):
            await store.users.count(tenant)
        with pytest.raises(QuotaExceededError, match="200 ms"):
            async with store.transaction(tenant) as tx:
                await tx.users.count(tenant)
    assert await store.users.count(tenant) == 1


async def test_a_worker_learns_of_work_and_rows_expire(
    cluster: Cluster, store: Store, admin: Store, tenant: str, user: User
) -> None:
    note = await store.notes.create(tenant, user.id, "vieja", reminder_datetime=user.created_at)
    await admin.retention.keep("notes", "deleted", timedelta(0), tenant_id=tenant)
    async with Store.open(cluster.settings("thea_worker")) as worker:
        assert tenant in await worker.work.tenants_with("due_note_reminders", limit=1000)
        await store.notes.delete(tenant, note.id)
        assert tenant in await worker.work.tenants_with_expired_rows(limit=1000)
        assert await worker.work.expire(tenant)

    assert [(entry.action, entry.actor) for entry in await store.audit.get_for(tenant, "notes", note.id)] == [
        ("insert", None),
        ("delete", None),
        ("purge", "retention"),
    ]


async def test_a_person_is_exported_and_erased(cluster: Cluster, store: Store, tenant: str, user: User) -> None:
    await store.messages.add_message(tenant, user.id, "session", user_message="Hola")
    async with Store.open(cluster.settings("thea_privacy")) as privacy:
        exported = [line async for line in privacy.people.export(tenant, user.id)]
        erasure = await privacy.people.erase(tenant, user.id, reason="asked")

    verified = [
        await asyncio.to_thread(verify, DatabaseUrl.parse(cluster.url_of(group)), tenant)
        for group in ("thea_app", "thea_privacy", "thea_auditor")
    ]

    assert {"users", "conversations", "message_history"} <= {line.get("table") for line in exported}
    assert [(each.faults, each.heads[0].log, each.heads[0].place) for each in verified] == [((), "erasures", 1)] * 3
    assert erasure.counts == {"users": 1, "conversations": 1, "message_history": 1}
    assert await store.users.get_by_id(tenant, user.id) is None


async def test_reads_are_noted_and_what_is_kept_is_told(
    cluster: Cluster, store: Store, admin: Store, tenant: str, user: User
) -> None:
    await admin.tenants.create(tenant)
    await admin.tenants.update(tenant, settings={"log_reads": True})
    await store._database.limits.refresh()
    await store.users.get_by_id(tenant, user.id)
    auditor, service = (DatabaseUrl.parse(cluster.url_of(group)) for group in ("thea_auditor", "thea_app"))
    told = await asyncio.to_thread(read, auditor, tenant)
    told_to_service = await asyncio.to_thread(read, service, tenant)

    assert told.reads is not None
    assert [each.query for each in told.reads] == ["users.get_by_id"]
    rows = {each.table: each.rows for each in told.stored}
    assert (rows["users"], rows["audit_log"], rows["notes"]) == (1, 1, 0)
    assert {each.table: each.rows for each in told_to_service.stored}["users"] == 1


async def test_a_connection_that_was_idle_notes_a_read_and_begins_with_a_savepoint(
    cluster: Cluster, store: Store, admin: Store, tenant: str, user: User
) -> None:
    await admin.tenants.create(tenant)
    await admin.tenants.update(tenant, settings={"log_reads": True})
    await store._database.limits.refresh()

    def lay_idle() -> None:
        for connection in store._database._pool._idle:
            connection.used -= 60

    lay_idle()
    assert await store.users.get_by_id(tenant, user.id) == user
    lay_idle()
    async with store.transaction(tenant) as tx, tx.savepoint():
        assert await tx.users.get_by_id(tenant, user.id) == user

    told = await asyncio.to_thread(read, DatabaseUrl.parse(cluster.url_of("thea_auditor")), tenant)
    assert told.reads is not None
    assert [(each.query, each.times) for each in told.reads] == [("users.get_by_id", 2)]


async def test_a_slow_call_is_logged_without_a_plan_and_without_a_failure(
    cluster: Cluster, tenant: str, caplog: pytest.LogCaptureFixture
) -> None:
    settings = cluster.settings().model_copy(update={"slow_query_ms": 0.001})
    async with Store.open(settings) as store:
        await store.users.count(tenant)
        await asyncio.sleep(0.2)  # a plan would be made in the background

    assert "slow query users.count" in caplog.text
    assert "plan of" not in caplog.text


async def test_looking_up_types_asks_of_no_table_whether_it_is_a_shard(cluster: Cluster) -> None:
    service = await _connection(cluster.url_of("thea_app"))
    try:
        plan = await service.fetch("explain select oid from pg_class")
    finally:
        await service.close()

    assert "shard" not in str(plan)


# --- check and doctor -----------------------------------------------------------------------------


def refused(cluster: Cluster) -> list[str]:
    address = DatabaseUrl.parse(cluster.url_of("thea_app"))
    findings = inspect(address, SQL_FILES, (), GROUP_FILES)
    assert mismatches(findings) == []
    return refused_by_nodes(address, findings.described, GROUP_FILES)


def test_every_node_takes_the_queries_and_one_that_does_not_is_named(cluster: Cluster, worker: str) -> None:
    function = "function thea.search_notes(text, bigint, jsonb, integer)"
    assert refused(cluster) == []

    with psycopg.connect(worker, autocommit=True) as node:
        node.execute("set citus.enable_ddl_propagation = off")
        node.execute(f"revoke execute on {function} from thea_app".encode())
        try:
            [sentence] = refused(cluster)
        finally:
            node.execute(f"grant execute on {function} to thea_app".encode())

    assert re.fullmatch(r"sql/notes\.sql:\d+: notes\.search: the node \S+:\d+ refuses it: its log says why.*", sentence)


def test_doctor_finds_the_schema_as_the_script_makes_it(cluster: Cluster) -> None:
    settings = cluster.settings()
    with psycopg.connect(cluster.url_of("thea_app"), autocommit=True) as connection:
        connection.execute("set search_path = pg_catalog")
        found = of_schema(CheckContext(connection, settings))

    assert [finding for finding in found if finding.state == "problem"] == []


# --- the operator's script ------------------------------------------------------------------------


def test_a_second_run_has_nothing_left_but_grants(run_script: Callable[..., str]) -> None:
    left = run_script("-v", "dry_run=1").splitlines()

    assert [line for line in left if line and "grant usage on sequence" not in line] == []


def test_workers_keep_no_plans_where_citus_keeps_too_many(cluster: Cluster, worker: str) -> None:
    with psycopg.connect(cluster.superuser_url) as coordinator, psycopg.connect(worker) as node:
        [(version,)] = coordinator.execute("select citus_version()").fetchall()
        [(mode,)] = node.execute("show plan_cache_mode").fetchall()
        [(directory,)] = node.execute("select prosrc from pg_proc where proname = 'admitted_tenant'").fetchall()

    assert mode == ("force_custom_plan" if re.match(r"Citus 13\.2\.[12]\b", version) else "auto")
    assert re.search(r"from thea\.tenants_\d+ t", directory)


def test_the_script_refuses_tables_that_have_rows(cluster: Cluster, run_script: Callable[..., str]) -> None:
    with psycopg.connect(cluster.superuser_url, autocommit=True) as connection:
        connection.execute("create table thea.filled as select 'x'::text as tenant_id")
        connection.execute("create policy tenant on thea.filled")
        try:
            assert "these tables have rows: thea.filled:" in run_script()
        finally:
            connection.execute("drop table thea.filled")


def test_the_script_refuses_who_cannot_do_it(cluster: Cluster, run_script: Callable[..., str]) -> None:
    assert "no superuser" in run_script(url=cluster.url_of("thea_app"))


def test_the_script_refuses_a_worker(worker: str, run_script: Callable[..., str]) -> None:
    assert "no coordinator" in run_script(url=worker)
