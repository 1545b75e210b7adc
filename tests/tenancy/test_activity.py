"""What administrators did, and who read what of a tenant that wants it written down."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias

import psycopg
import pytest
import pytest_asyncio
from typer.testing import Result

from tests.support.commands import Run
from thea_store import InvalidArgumentError, Settings, Store, StoreError, TenantSuspendedError
from thea_store.postgres.url import DatabaseUrl
from thea_store.tenancy.archive import end_tenant, export_tenant, import_tenant
from thea_store.testing import TestDatabase

pytestmark = pytest.mark.usefixtures("no_settings")

WEAK = ("thea_app", "thea_readonly", "thea_privacy", "thea_mover", "thea_worker", "thea_admin")

Log: TypeAlias = Callable[..., list[tuple[Any, ...]]]
Verify: TypeAlias = Callable[..., Result]


@pytest_asyncio.fixture(scope="module")
async def admin(thea_database: TestDatabase) -> AsyncIterator[Store]:
    async with Store.open(Settings(url=thea_database.url_of("thea_admin"), pool_size=1)) as admin:
        yield admin


@pytest.fixture
def log(superuser: psycopg.Connection[Any], tenant: str) -> Log:
    """The entries of a chain of the tenant, the oldest first: their columns of these names."""

    def entries(kind: str, *columns: str, of: str = tenant) -> list[tuple[Any, ...]]:
        superuser.execute("select thea.chain_reads(%s)", [of])
        statement = f"select {', '.join(columns)} from thea.activity_log where tenant = %s and kind = %s order by place"
        return superuser.execute(statement.encode(), [of, kind]).fetchall()

    return entries


@pytest.fixture
def verify(run: Run, tenant: str, thea_database: TestDatabase) -> Verify:
    url = thea_database.url_of("thea_auditor")
    return lambda *arguments: run("audit", "verify", "--tenant", tenant, *arguments, DATABASE_URL=url)


# --- administration -----------------------------------------------------------------------------


async def test_what_is_done_to_the_directory_is_noted_with_what_changed(admin: Store, tenant: str, log: Log) -> None:
    with admin.acting(actor="office:1", request_id="r-1"):
        await admin.tenants.create(tenant, name="Acme")
    await admin.tenants.rename(tenant, "Acme Ltd")
    await admin.tenants.rename(tenant, "Acme Ltd")
    await admin.tenants.suspend(tenant, "unpaid")
    await admin.tenants.resume(tenant)
    await admin.tenants.update(tenant, limits={"calls_in_flight": 5}, settings={"plan": "small"})
    await admin.tenants.end(tenant)
    found = log(
        "administration", "action", "reason", "details -> 'before'", "details -> 'after'", "actor", "request_id"
    )

    assert [each[0] for each in found] == [
        "create tenant",
        "change tenant",
        "suspend tenant",
        "resume tenant",
        "change tenant",
        "end tenant",
    ]
    assert found[0][2:] == (
        {},
        {"name": "Acme", "limits": {}, "status": "active", "settings": {}},
        "office:1",
        "r-1",
    )
    assert found[1][1:] == (None, {"name": "Acme"}, {"name": "Acme Ltd"}, None, None)
    assert found[2][1:4] == ("unpaid", {"status": "active"}, {"status": "suspended", "reason": "unpaid"})
    assert found[4][2:4] == (
        {"limits": {}, "settings": {}},
        {"limits": {"calls_in_flight": 5}, "settings": {"plan": "small"}},
    )


async def test_an_entry_says_which_login_did_it(
    admin: Store, tenant: str, log: Log, thea_database: TestDatabase
) -> None:
    await admin.tenants.create(tenant)
    login = DatabaseUrl.parse(thea_database.url_of("thea_admin")).user

    assert log("administration", "login") == [(login,)]


async def test_what_is_done_to_the_policies_is_noted_for_one_tenant_and_for_all(
    admin: Store, tenant: str, log: Log
) -> None:
    before = len(log("administration", "place", of=""))
    await admin.retention.keep("notes", "deleted", timedelta(days=30), tenant_id=tenant)
    await admin.retention.keep("notes", "deleted", None, tenant_id=tenant)
    await admin.retention.remove("notes", "deleted", tenant_id=tenant)
    await admin.retention.keep("events", "old", timedelta(days=9_000))
    await admin.retention.remove("events", "old")

    assert log("administration", "action", "details -> 'before'", "details -> 'after'") == [
        ("set policy", None, "30 days"),
        ("set policy", "30 days", None),
        ("remove policy", None, None),
    ]
    assert [each[0] for each in log("administration", "action", of="")][before:] == ["set policy", "remove policy"]


async def test_free_sql_of_an_administrator_is_noted_as_well(
    admin: Store, tenant: str, log: Log, thea_database: TestDatabase
) -> None:
    await admin.tenants.create(tenant)
    with psycopg.connect(thea_database.url_of("thea_admin"), autocommit=True) as attacker:
        attacker.execute("update thea.tenants set settings = '{}', name = 'x' where id = %s", [tenant])
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            attacker.execute("delete from thea.tenants where id = %s", [tenant])

    assert log("administration", "action", "details -> 'after'")[1:] == [("change tenant", {"name": "x"})]


@pytest.mark.usefixtures("user")
def test_a_tenant_as_a_whole_is_exported_imported_and_ended_with_an_entry_each(
    tenant: str, other_tenant: str, log: Log, thea_database: TestDatabase, tmp_path: Path
) -> None:
    mover = DatabaseUrl.parse(thea_database.url_of("thea_mover"))
    file = tmp_path / "archive.zip"
    exported = export_tenant(mover, tenant, file)
    import_tenant(mover, file, name=other_tenant)
    end_tenant(mover, other_tenant, None)

    assert log("reads", "action", "details -> 'archive'") == [("export tenant", exported.manifest.id)]
    assert [each[0] for each in log("administration", "action", of=other_tenant)] == ["import tenant", "remove tenant"]
    assert log("administration", "details ->> 'archive'", of=other_tenant)[0] == (exported.manifest.id,)


# --- reads --------------------------------------------------------------------------------------


@pytest.fixture
async def person(admin: Store, store: Store, tenant: str) -> int:
    """A user of a tenant whose reads are noted."""
    user = await store.users.create(tenant, telegram_id=1, first_name="Ana")
    await admin.tenants.create(tenant)
    await admin.tenants.update(tenant, settings={"log_reads": True})
    return user.id


@pytest_asyncio.fixture(params=["session", "transaction"])
async def reader(request: pytest.FixtureRequest, person: int, thea_database: TestDatabase) -> AsyncIterator[Store]:
    """A service that was opened after the tenant wanted it, in each of the two scopes."""
    del person
    settings = Settings(url=thea_database.app_url, pool_size=2, max_overflow=8, tenant_scope=request.param)
    async with Store.open(settings) as reader:
        yield reader


async def test_each_read_is_noted_by_its_query_with_the_person_and_who_reads(
    reader: Store, tenant: str, person: int, log: Log
) -> None:
    with reader.acting(actor="user:7", request_id="r-9"):
        assert (await reader.users.get_by_id(tenant, person)) is not None
        await reader.notes.get_all(tenant, user_id=person)
    await reader.messages.get_statistics(tenant)
    await reader.notes.create(tenant, person, "Comprar pan")
    found = log("reads", "details ->> 'query'", "subject_id", "actor", "request_id", "action")

    assert found == [
        ("users.get_by_id", person, "user:7", "r-9", "read"),
        ("notes.get_all+user_id+newest_first", person, "user:7", "r-9", "read"),
        ("messages.get_statistics", None, None, None, "read"),
    ]


async def test_reads_of_a_transaction_are_noted_each_and_undone_with_it(
    reader: Store, tenant: str, person: int, log: Log
) -> None:
    async with reader.transaction(tenant, actor="user:8") as tx:
        await tx.users.get_by_id(tenant, person)
        await tx.notes.create(tenant, person, "Comprar pan")
        await tx.users.count(tenant)

    assert log("reads", "details ->> 'query'", "actor") == [("users.get_by_id", "user:8"), ("users.count", "user:8")]

    with pytest.raises(ZeroDivisionError):
        async with reader.transaction(tenant) as tx:
            await tx.users.get_by_id(tenant, person)
            raise ZeroDivisionError
    assert len(log("reads", "place")) == 2


async def test_a_transaction_that_only_reads_is_noted_as_one_and_still_writes_nothing(
    reader: Store, tenant: str, person: int, log: Log
) -> None:
    async with reader.transaction(tenant, read_only=True, actor="user:8", isolation="repeatable read") as tx:
        await tx.users.get_by_id(tenant, person)
        await tx.notes.get_all(tenant)
    with pytest.raises(StoreError, match="read_only"):
        async with reader.transaction(tenant, read_only=True) as tx:
            await tx.notes.create(tenant, person, "Comprar pan")

    assert log("reads", "details ->> 'query'", "actor") == [("transaction", "user:8")]


async def test_a_persons_export_is_noted(reader: Store, tenant: str, person: int, log: Log) -> None:
    exported = [row async for row in reader.people.export(tenant, person)]
    found = log("reads", "details ->> 'query'", "subject_id")

    assert len(exported) == 2
    assert ("people.rows", person) in found
    assert ("people.entries", person) in found


async def test_many_readers_at_once_are_one_chain(
    reader: Store, tenant: str, person: int, log: Log, verify: Verify
) -> None:
    await asyncio.gather(*(reader.users.get_by_id(tenant, person) for _ in range(40)))
    verified = verify("--json")

    assert [place for (place,) in log("reads", "place")] == list(range(1, 41))
    found = json.loads(verified.stdout)
    assert [head.rsplit(":", 1)[0] for head in found["heads"]] == ["administration:2", "reads:40"]
    assert found["faults"] == []


async def test_readers_hold_up_no_administrator(reader: Store, admin: Store, tenant: str, person: int) -> None:
    with pytest.raises(TenantSuspendedError):
        async with reader.transaction(tenant) as tx:
            await tx.users.get_by_id(tenant, person)
            await asyncio.wait_for(admin.tenants.suspend(tenant, "unpaid"), 20)
            await tx.users.get_by_id(tenant, person)


async def test_other_tenants_and_tenants_that_do_not_want_it_are_not_noted(
    reader: Store, admin: Store, person: int, other_tenant: str, log: Log
) -> None:
    del person
    await admin.tenants.create(other_tenant)
    await admin.tenants.update(other_tenant, settings={"log_reads": False})
    await reader.users.count(other_tenant)

    assert log("reads", "place", of=other_tenant) == []


async def test_a_running_service_notes_it_from_its_next_question_on(
    store: Store, admin: Store, tenant: str, log: Log
) -> None:
    await admin.tenants.create(tenant)
    await store.users.count(tenant)
    await admin.tenants.update(tenant, settings={"log_reads": True})
    limits = store._database.limits
    try:
        await limits.refresh()
        await store.users.count(tenant)
        await admin.tenants.update(tenant, settings={})
        await limits.refresh()
        await store.users.count(tenant)
    finally:
        limits._asked, limits._limits = None, {}

    assert log("reads", "details ->> 'query'") == [("users.count",)]


async def test_readers_wait_for_no_reader_whatever_their_isolation(
    reader: Store, tenant: str, person: int, log: Log, verify: Verify
) -> None:
    async with reader.transaction(tenant, isolation="serializable") as late:
        await late.users.update(tenant, person, first_name="Eva")  # from here on it sees this moment
        await asyncio.wait_for(reader.notes.count(tenant), 20)
        await late.users.count(tenant)
        # What is in the chain already does not wait for what is still open, and what comes later stands behind it.
        assert log("reads", "details ->> 'query'") == [("notes.count",)]

    assert log("reads", "details ->> 'query'") == [("notes.count",), ("users.count",)]
    assert json.loads(verify("--json").stdout)["faults"] == []


async def test_two_that_bring_reads_into_the_chain_at_once_bring_each_once(
    reader: Store, tenant: str, person: int, thea_database: TestDatabase, verify: Verify
) -> None:
    await asyncio.gather(*(reader.users.get_by_id(tenant, person) for _ in range(30)))
    with psycopg.connect(thea_database.url_of("thea_auditor")) as one:
        assert one.execute("select thea.chain_reads(%s)", [tenant]).fetchone() == (True,)
        waiting = asyncio.create_task(asyncio.to_thread(_chained, thea_database.url_of("thea_worker"), tenant))
        await asyncio.sleep(0.1)
        one.commit()
        assert await waiting is False

    assert json.loads(verify("--json").stdout)["heads"][1].startswith("reads:30:")


def _chained(url: str, tenant: str) -> bool:
    with psycopg.connect(url) as worker:
        [(done,)] = worker.execute("select thea.chain_reads(%s)", [tenant]).fetchall()
    return bool(done)


# --- retention ----------------------------------------------------------------------------------


@pytest.fixture
def aged(superuser: psycopg.Connection[Any], tenant: str) -> Iterator[Callable[[int], None]]:
    """Makes the first entries of each chain of the tenant, up to this place, a year old, and the chain anew.

    At the end the tenant has no entry, so that whoever verifies the logs of all tenants finds no fault of theirs.
    """

    def age(place: int) -> None:
        superuser.execute("select thea.chain_reads(%s)", [tenant])
        superuser.execute("alter table thea.activity_log disable trigger append_only")
        rows = superuser.execute(
            "select kind, place from thea.activity_log where tenant = %s order by kind, place", [tenant]
        ).fetchall()
        for kind, number in rows:
            superuser.execute(
                "update thea.activity_log l set at = at - case when place <= %s then interval '1 year' else '0' end"
                " where tenant = %s and kind = %s and place = %s",
                [place, tenant, kind, number],
            )
            superuser.execute(
                "update thea.activity_log l set hash = thea.activity_hash((select p.hash from thea.activity_log p"
                " where p.tenant = l.tenant and p.kind = l.kind and p.place = l.place - 1), l)"
                " where tenant = %s and kind = %s and place = %s",
                [tenant, kind, number],
            )
        superuser.execute("alter table thea.activity_log enable trigger append_only")

    yield age
    superuser.execute("alter table thea.activity_log disable trigger append_only")
    superuser.execute("delete from thea.activity_log where tenant = %s", [tenant])
    superuser.execute("alter table thea.activity_log enable trigger append_only")


@pytest_asyncio.fixture(scope="module")
async def worker(thea_database: TestDatabase) -> AsyncIterator[Store]:
    async with Store.open(Settings(url=thea_database.url_of("thea_worker"), pool_size=1)) as worker:
        yield worker


async def expire_all(worker: Store, tenant: str) -> int:
    times = 0
    while await worker.work.expire(tenant):
        times += 1
    return times


async def test_old_entries_go_by_a_policy_and_the_rest_is_a_chain_that_verifies(
    *,
    reader: Store,
    admin: Store,
    worker: Store,
    tenant: str,
    person: int,
    log: Log,
    verify: Verify,
    aged: Callable[[int], None],
) -> None:
    for _ in range(5):
        await reader.users.get_by_id(tenant, person)
    aged(3)
    noted = json.loads(verify("--json").stdout)["heads"]
    await admin.retention.keep("activity_log.reads", "old", timedelta(days=30), tenant_id=tenant)
    named = await worker.work.tenants_with_expired_rows(limit=1000)
    assert await expire_all(worker, tenant) == 1
    after = await worker.work.tenants_with_expired_rows(limit=1000)
    found = verify(*(f"--expect={head}" for head in noted))

    assert (tenant in named, tenant in after) == (True, False)
    assert log("reads", "place", "action") == [(4, "read"), (5, "read"), (6, "expire")]
    assert log("reads", "details ->> 'place'", "details ->> 'entries'")[-1] == ("3", "3")
    # The chain of administration has no policy.
    assert log("administration", "place")[0] == (1,)
    assert (found.exit_code, "reads: the entries up to 3 were removed by a policy of retention" in found.stderr) == (
        0,
        True,
    )


async def test_what_is_removed_or_altered_besides_is_found_also_after_old_entries_are_gone(
    *,
    reader: Store,
    admin: Store,
    worker: Store,
    tenant: str,
    person: int,
    superuser: psycopg.Connection[Any],
    verify: Verify,
    aged: Callable[[int], None],
) -> None:
    for _ in range(6):
        await reader.users.get_by_id(tenant, person)
    aged(2)
    await admin.retention.keep("activity_log.reads", "old", timedelta(days=30), tenant_id=tenant)
    first = json.loads(verify("--json").stdout)
    assert await expire_all(worker, tenant) == 1

    def faults(*statements: str) -> str:
        superuser.execute("begin")
        superuser.execute("alter table thea.activity_log disable trigger append_only")
        for statement in statements:
            superuser.execute(statement.encode(), [tenant])
        superuser.execute("alter table thea.activity_log enable trigger append_only")
        superuser.execute("commit")
        return verify("--expect", *(head for head in first["heads"] if head.startswith("reads"))).stderr

    chain = "thea.activity_log where tenant = %s and kind = 'reads'"
    kept = superuser.execute(f"select * from {chain} order by place".encode(), [tenant]).fetchall()
    assert "faults" not in faults()
    assert "before the entry 5 of" in faults(f"delete from {chain} and place in (3, 4)")
    assert "the entry 5 of" in faults("update thea.activity_log set actor = 'x' where tenant = %s and place = 5")
    told = faults(
        "update thea.activity_log set details = details || '{\"place\": 4}' where tenant = %s and action = 'expire'"
    )
    assert "was altered" in told
    assert "before the entry 5 of" in faults(f"delete from {chain} and action = 'expire'")
    assert len(kept) == 5


async def test_a_policy_of_no_time_at_all_comes_to_an_end(
    *, reader: Store, admin: Store, worker: Store, tenant: str, person: int, log: Log, verify: Verify
) -> None:
    for _ in range(4):
        await reader.users.get_by_id(tenant, person)
    await admin.retention.keep("activity_log.reads", "old", timedelta(0), tenant_id=tenant)
    await admin.retention.keep("activity_log.administration", "old", timedelta(0), tenant_id=tenant)
    assert await expire_all(worker, tenant) < 10

    assert {action for (action,) in log("reads", "action")} == {"expire"}
    assert {action for (action,) in log("administration", "action")} == {"expire"}
    assert tenant not in await worker.work.tenants_with_expired_rows(limit=1000)
    assert json.loads(verify("--json").stdout)["faults"] == []


async def test_a_log_has_the_rule_old_alone(admin: Store, tenant: str) -> None:
    with pytest.raises(InvalidArgumentError, match="must be `old`"):
        await admin.retention.keep("activity_log.reads", "deleted", timedelta(1), tenant_id=tenant)
    with pytest.raises(InvalidArgumentError, match="is not known"):
        await admin.retention.keep("activity_log", "old", timedelta(1), tenant_id=tenant)


async def test_who_removes_old_entries_can_do_nothing_else_with_the_log(
    superuser: psycopg.Connection[Any], admin: Store, tenant: str
) -> None:
    await admin.tenants.create(tenant)
    for statement in (
        "insert into thea.activity_log select * from thea.activity_log limit 1",
        "update thea.activity_log set actor = 'x'",
        "truncate thea.activity_log",
        "delete from thea.noted_reads",
        "delete from thea.compliance_log",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege), superuser.transaction():
            superuser.execute("set local role thea_audit_expirer")
            superuser.execute(statement.encode())
    with pytest.raises(psycopg.errors.InsufficientPrivilege), superuser.transaction():
        superuser.execute("set local role thea_owner")
        superuser.execute("delete from thea.activity_log")


@pytest.mark.parametrize("value", ["yes", 1, None, {}])
async def test_what_says_neither_yes_nor_no_is_refused(admin: Store, tenant: str, value: object) -> None:
    await admin.tenants.create(tenant)
    with pytest.raises(InvalidArgumentError):
        await admin.tenants.update(tenant, settings={"log_reads": value})


# --- free SQL -----------------------------------------------------------------------------------


def test_no_weak_login_sees_changes_or_forges_an_entry(thea_database: TestDatabase, tenant: str) -> None:
    forged = (
        "insert into thea.activity_log values ('t', 'reads', 1, now(), 'x', null, null, 'x', null, null, '{}', '')",
        f"select thea.record_activity('{tenant}', 'administration', 'end tenant', null, null, '{{}}')",
        f"select thea.record_compliance('{tenant}', 'erase user', 1, 'x', '{{}}')",
        "insert into thea.noted_reads values ('t', default, now(), 'x', null, null, 'x', null, '{}')",
        f"select thea.note_read('{tenant}', 'read', 1, '{{}}')",
        f"select thea.record_expiry('{tenant}', 'reads', 1, '', 1, now())",
        "select from thea.noted_reads",
        "delete from thea.noted_reads",
        "update thea.noted_reads set actor = 'x'",
        "truncate thea.noted_reads",
        "select from thea.activity_log",
        "select from thea.activity_log for update",
        "delete from thea.activity_log",
        "truncate thea.activity_log",
        "update thea.activity_log set reason = 'x'",
        "lock table thea.activity_log in share mode",
        "alter table thea.activity_log disable trigger all",
        "set role thea_recorder",
    )
    for group in WEAK:
        with psycopg.connect(thea_database.url_of(group), autocommit=True) as attacker:
            attacker.execute("select set_config('app.tenant_id', %s, false)", [tenant])
            for statement in forged:
                with pytest.raises(psycopg.errors.InsufficientPrivilege), attacker.transaction():
                    attacker.execute(statement.encode())


async def test_who_may_say_that_they_read_says_nothing_else(
    thea_database: TestDatabase, tenant: str, person: int, log: Log
) -> None:
    del person
    before = log("administration", "action")
    with psycopg.connect(thea_database.app_url, autocommit=True) as attacker:
        attacker.execute("select set_config('app.tenant_id', %s, false)", [tenant])
        attacker.execute("call thea.log_read('end tenant', 12)")
        attacker.execute("call thea.log_export('erase user')")
        attacker.execute("select set_config('app.tenant_id', '', false)")
        attacker.execute("call thea.log_read('x', null)")
        attacker.execute("call thea.log_export('x')")

    assert log("administration", "action") == before
    assert log("reads", "action", "login") == [
        (action, DatabaseUrl.parse(thea_database.app_url).user) for action in ("read", "export tenant")
    ]


def test_what_a_weak_login_says_is_bounded(thea_database: TestDatabase, tenant: str, log: Log) -> None:
    with psycopg.connect(thea_database.app_url, autocommit=True) as attacker:
        for whose in ("x" * 51, " acme", "a\tb"):
            attacker.execute("select set_config('app.tenant_id', %s, false)", [whose])
            with pytest.raises(psycopg.errors.CheckViolation):
                attacker.execute("call thea.log_export('x')")
        attacker.execute("select set_config('app.tenant_id', %s, false)", [tenant])
        attacker.execute("call thea.log_export(repeat('x', 1000000))")

    [(length,)] = log("reads", "length(details ->> 'archive')")
    assert length == 200


@pytest.mark.parametrize(
    "change",
    [
        "update thea.activity_log set action = 'change tenant' where tenant = %s and place = 1",
        "update thea.activity_log set kind = 'reads' where tenant = %s and place = 2",
        "delete from thea.activity_log where tenant = %s and place = 2",
    ],
)
async def test_an_entry_that_was_changed_past_the_trigger_is_found(
    verify: Verify, admin: Store, tenant: str, superuser: psycopg.Connection[Any], change: str
) -> None:
    await admin.tenants.create(tenant)
    await admin.tenants.rename(tenant, "a")
    await admin.tenants.rename(tenant, "b")
    before = verify()
    superuser.execute("alter table thea.activity_log disable trigger append_only")
    superuser.execute(change.encode(), [tenant])
    found = verify()
    superuser.execute("delete from thea.activity_log where tenant = %s", [tenant])
    gone = verify("--expect", before.stdout.strip())
    superuser.execute("alter table thea.activity_log enable trigger append_only")

    assert (before.exit_code, before.stdout[:17]) == (0, "administration:3:")
    assert (found.exit_code, "administration: " in found.stderr) == (1, True)
    assert (gone.exit_code, "its end was cut off" in gone.stderr) == (1, True)
