"""A person's data: given out in full, and erased without a trace of what it said."""

from __future__ import annotations

import asyncio
import gc
import json
import re
import shutil
import subprocess
import tracemalloc
import zipfile
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import pytest_asyncio
from psycopg import sql

from tests.support.commands import Run
from thea_store import (
    ConflictError,
    Erasure,
    ErasureRefusedError,
    ExportFileError,
    InsufficientPrivilegeError,
    InvalidArgumentError,
    NotFoundError,
    Settings,
    Store,
    StoreError,
    StoreTransaction,
    User,
)
from thea_store.database import Isolation
from thea_store.postgres.url import DatabaseUrl
from thea_store.tenancy.person_file import check_file, write_person
from thea_store.testing import TestDatabase

MARK = "Zqx7marca"
"""A word that stands in every value of the person that can hold one."""

_COLUMNS = """
  tenant_id text not null,
  id bigint not null generated always as identity,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  deleted_at timestamptz,
  primary key (tenant_id, id)
"""

# A service's own tables: by user_id, by a row of those, by two other columns, and with a `user_id` of another meaning.
_PLANNER = f"""
create schema planner;
create table planner.tasks ({_COLUMNS}, user_id bigint not null, title text,
  foreign key (tenant_id, user_id) references thea.users (tenant_id, id) on delete cascade);
create table planner.steps ({_COLUMNS}, task_id bigint not null, note text,
  foreign key (tenant_id, task_id) references planner.tasks (tenant_id, id) on delete cascade);
create table planner.reviews ({_COLUMNS}, author_id bigint, checker_id bigint, verdict text,
  foreign key (tenant_id, author_id) references thea.users (tenant_id, id) on delete cascade,
  foreign key (tenant_id, checker_id) references thea.users (tenant_id, id) on delete cascade);
create table planner.comments ({_COLUMNS}, user_id bigint not null, task_id bigint not null, body text,
  foreign key (tenant_id, user_id) references thea.users (tenant_id, id) on delete cascade,
  foreign key (tenant_id, task_id) references planner.tasks (tenant_id, id) on delete cascade);
create table planner.doors ({_COLUMNS}, user_id bigint not null, label text);
create table planner.approvals ({_COLUMNS}, approver bigint not null,
  foreign key (tenant_id, approver) references thea.users (tenant_id, id));
"""
_PROTECTED = ("tasks", "steps", "reviews", "comments", "doors", "approvals")
_TABLES = ["users", "conversations", "events", "message_history", "notes"]
_OWN = [f"planner.{name}" for name in ("comments", "reviews", "steps", "tasks")]


@dataclass(frozen=True)
class Scene:
    """A database with a service's own tables, and the logins of a service and of who protects data."""

    database: TestDatabase
    superuser: psycopg.Connection[Any]
    service: Store
    privacy: Store
    privacy_url: str

    def add(self, table: str, tenant: str, **values: object) -> int:
        names = sql.SQL(", ").join(map(sql.Identifier, ["tenant_id", *values]))
        places = sql.SQL(", ").join([sql.Placeholder()] * (len(values) + 1))
        statement = sql.SQL("insert into {} ({}) values ({}) returning id").format(
            sql.Identifier(*table.split(".")), names, places
        )
        return int(self.superuser.execute(statement, [tenant, *values.values()]).fetchall()[0][0])

    def entries(self, tenant: str, condition: str = "true") -> list[tuple[Any, ...]]:
        statement = (
            "select table_name, row_id, action, before, after from thea.audit_log"
            f" where tenant_id = %s and {condition} order by at, id"
        )
        return self.superuser.execute(statement.encode(), [tenant]).fetchall()

    async def until_one_waits(self) -> None:
        waiting = (
            "select from pg_stat_activity where wait_event_type = 'Lock' and query like '%erasure.erase%'"
            " and datname = current_database()"
        )
        for _ in range(100_000):
            if self.superuser.execute(waiting).fetchall():
                return
            await asyncio.sleep(0)
        pytest.fail("no erasure waits")

    def places_of(self, word: str) -> list[str]:
        """The tables of any schema that have a row with this word."""
        tables = self.superuser.execute(
            "select oid::regclass::text from pg_class where relkind in ('r', 'm') and relname <> 'pg_statistic'"
        ).fetchall()
        return [
            name
            for (name,) in tables
            if self.superuser.execute(
                f"select from {name} t where t::text ilike %s limit 1".encode(), [f"%{word}%"]
            ).fetchall()
        ]


@pytest_asyncio.fixture(scope="module")
async def scene(thea_new_database: Callable[[], TestDatabase]) -> AsyncIterator[Scene]:
    database = thea_new_database()
    login = f"privacy_of_{database.name}"[:63]
    address = DatabaseUrl.parse(database.app_url)
    with psycopg.connect(database.migrator_url, autocommit=True) as operator:
        operator.execute(_PLANNER.encode())
        for name in _PROTECTED:
            operator.execute("select thea.protect(%s::regclass)", [f"planner.{name}"])
    with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
        superuser.execute(f"create role {login} login password '{address.password}' in role thea_privacy".encode())
        url = replace(address, user=login).render()
        async with Store.open(Settings(url=database.app_url)) as service, Store.open(Settings(url=url)) as privacy:
            yield Scene(database, superuser, service, privacy, url)
        superuser.execute(f"drop role {login}".encode())


@pytest.fixture
def other(scene: Scene, tenant: str) -> int:
    """Another person of the tenant."""
    return scene.add("thea.users", tenant, telegram_id=2002)


@pytest_asyncio.fixture
async def person(scene: Scene, tenant: str) -> User:
    """A person with rows in every table, live, deleted and purged, whose values all hold the mark."""
    store = scene.service
    user = await store.users.create(tenant, telegram_id=1001, first_name=MARK, preferences={MARK: MARK})
    await store.users.update(tenant, user.id, username=MARK)
    kept = await store.notes.create(tenant, user.id, f"{MARK} uno", title=MARK, tags=[MARK], extra_data={"a": MARK})
    await store.notes.update(tenant, kept.id, content=f"{MARK} dos")
    for end in (store.notes.delete, store.notes.purge):
        note = await store.notes.create(tenant, user.id, f"{MARK} tres")
        await end(tenant, note.id)
    await store.events.create(tenant, user.id, MARK, datetime(2026, 5, 1, tzinfo=UTC), location=MARK)
    message = await store.messages.add_message(tenant, user.id, f"s-{MARK}", user_message=MARK, bot_response=MARK)
    await store.conversations.update_state(tenant, message.conversation_id, MARK, {MARK: MARK})
    task = scene.add("planner.tasks", tenant, user_id=user.id, title=MARK)
    for _ in range(2):
        step = scene.add("planner.steps", tenant, task_id=task, note=MARK)
        scene.superuser.execute("update planner.steps set note = %s where id = %s", [f"{MARK} !", step])
    scene.superuser.execute("delete from planner.steps where id = %s", [step])
    scene.add("planner.reviews", tenant, author_id=user.id, verdict=MARK)
    scene.add("planner.reviews", tenant, checker_id=user.id, verdict=MARK)
    scene.add("planner.reviews", tenant, author_id=user.id, checker_id=user.id, verdict=MARK)
    scene.add("planner.comments", tenant, user_id=user.id, task_id=task, body=MARK)
    return user


async def _exported(store: Store, tenant: str, user_id: int) -> list[dict[str, Any]]:
    return [row async for row in store.people.export(tenant, user_id)]


# --- export -------------------------------------------------------------------------------------


async def test_an_export_has_each_row_of_every_table_once_and_the_audit_entries(
    scene: Scene, tenant: str, person: User
) -> None:
    for store in (scene.service, scene.privacy):
        rows = await _exported(store, tenant, person.id)
        counts = Counter(row["table"] for row in rows)
        keys = Counter((row["table"], row["id"]) for row in rows)
        entries = len(scene.entries(tenant))

        assert counts == {
            **dict.fromkeys(_TABLES, 1),
            "notes": 2,
            "planner.tasks": 1,
            "planner.steps": 1,
            "planner.reviews": 3,
            "planner.comments": 1,
            "audit_log": entries,
        }
        assert max(keys.values()) == 1
        assert [row["deleted_at"] is not None for row in rows if row["table"] == "notes"] == [False, True]
        assert json.loads(json.dumps(rows)) == rows


async def test_an_export_has_the_rows_fields_and_nothing_that_is_computed(
    scene: Scene, tenant: str, person: User
) -> None:
    rows = await _exported(scene.service, tenant, person.id)
    note = next(row for row in rows if row["table"] == "notes")
    update = next(row for row in rows if row["table"] == "audit_log" and row["action"] == "update")

    assert (note["content"], note["tags"], note["user_id"], note["tenant_id"]) == (
        f"{MARK} dos",
        [MARK],
        person.id,
        tenant,
    )
    assert "search_vector" not in note
    assert (update["table_name"], update["row_id"]) == ("users", person.id)
    assert update["after"] == {"username": MARK}


async def test_an_export_has_nothing_of_another_person_or_tenant(
    scene: Scene, tenant: str, other_tenant: str, person: User, other: int
) -> None:
    task = scene.add("planner.tasks", tenant, user_id=other, title="theirs")
    scene.add("planner.steps", tenant, task_id=task, note="theirs")
    scene.add("planner.doors", tenant, user_id=person.id, label="of another meaning")
    rows = await _exported(scene.service, tenant, person.id)

    assert "theirs" not in str(rows)
    assert "of another meaning" not in str(rows)
    assert await _exported(scene.service, other_tenant, person.id) == []
    assert await _exported(scene.service, tenant, person.id + 1_000_000) == []


async def test_an_export_goes_on_over_its_pages(scene: Scene, tenant: str) -> None:
    user = await scene.service.users.create(tenant, telegram_id=7)
    await scene.service.notes.create_many(tenant, [{"user_id": user.id, "content": str(n)} for n in range(1203)])
    rows = await _exported(scene.service, tenant, user.id)

    assert len({row["id"] for row in rows if row["table"] == "notes"}) == 1203
    assert len({row["id"] for row in rows if row["table"] == "audit_log"}) == 1204


async def test_a_person_is_exported_within_a_transaction_too(scene: Scene, tenant: str, person: User) -> None:
    async with scene.service.transaction(tenant, read_only=True) as tx:
        rows = [row async for row in tx.people.export(tenant, person.id)]

    assert rows == await _exported(scene.service, tenant, person.id)


# --- erase --------------------------------------------------------------------------------------


async def test_an_erasure_removes_every_row_and_says_how_many(scene: Scene, tenant: str, person: User) -> None:
    before = len(scene.entries(tenant))
    async with scene.privacy.transaction(tenant, actor="office:1", request_id="r-1") as tx:
        erasure = await tx.people.erase(tenant, person.id, reason="asked for by letter")

    assert erasure.counts == {
        **dict.fromkeys(_TABLES, 1),
        "notes": 2,
        "planner.tasks": 1,
        "planner.steps": 1,
        "planner.reviews": 3,
        "planner.comments": 1,
    }
    assert (erasure.user_id, erasure.reason, erasure.actor, erasure.request_id) == (
        person.id,
        "asked for by letter",
        "office:1",
        "r-1",
    )
    assert erasure.redacted == before + sum(erasure.counts.values())
    assert erasure.counts_of_others == {}
    assert await _exported(scene.service, tenant, person.id) == []


async def test_after_an_erasure_no_marked_value_is_in_any_row(scene: Scene, tenant: str, person: User) -> None:
    assert {"thea.audit_log", "thea.notes", "planner.steps"} <= set(scene.places_of(MARK))
    await scene.privacy.people.erase(tenant, person.id, reason="asked for")
    for (other_tenant,) in scene.superuser.execute("select distinct tenant_id from thea.users").fetchall():
        for (user_id,) in scene.superuser.execute(
            "select id from thea.users where tenant_id = %s and first_name = %s", [other_tenant, MARK]
        ).fetchall():
            await scene.privacy.people.erase(other_tenant, user_id, reason="of another test", with_others=True)

    assert scene.places_of(MARK) == []


async def test_what_happened_stays_in_the_audit_log_and_what_it_said_goes(
    scene: Scene, tenant: str, person: User, other: int
) -> None:
    before = scene.entries(tenant)
    await scene.privacy.people.erase(tenant, person.id, reason="asked for")
    after = scene.entries(tenant)

    assert [entry[:3] for entry in after[: len(before)]] == [entry[:3] for entry in before]
    assert {entry[2] for entry in after[len(before) :]} == {"purge"}
    told = [entry for entry in after if entry[3] is not None or entry[4] is not None]
    assert {entry[:2] for entry in told} == {("users", other)}


async def test_an_erasure_leaves_every_other_person_as_they_were(
    scene: Scene, tenant: str, person: User, other: int
) -> None:
    task = scene.add("planner.tasks", tenant, user_id=other, title="theirs")
    scene.add("planner.steps", tenant, task_id=task, note="theirs")
    scene.add("planner.doors", tenant, user_id=person.id, label="of another meaning")
    theirs = await _exported(scene.service, tenant, other)
    await scene.privacy.people.erase(tenant, person.id, reason="asked for")

    assert await _exported(scene.service, tenant, other) == theirs
    assert [entry[4]["label"] for entry in scene.entries(tenant, "table_name = 'planner.doors'")] == [
        "of another meaning"
    ]


async def test_rows_of_others_that_would_go_too_are_told_and_nothing_is_removed(
    scene: Scene, tenant: str, person: User, other: int
) -> None:
    [(task,)] = scene.superuser.execute("select id from planner.tasks where tenant_id = %s", [tenant]).fetchall()
    scene.add("planner.comments", tenant, user_id=other, task_id=task, body="theirs")
    before = await _exported(scene.service, tenant, person.id)
    with pytest.raises(ErasureRefusedError, match="1 planner.comments: nothing was removed"):
        await scene.privacy.people.erase(tenant, person.id, reason="asked for")

    assert await _exported(scene.service, tenant, person.id) == before

    erasure = await scene.privacy.people.erase(tenant, person.id, reason="asked for", with_others=True)

    assert erasure.counts_of_others == {"planner.comments": 1}
    assert erasure.counts["planner.comments"] == 1


async def test_a_key_that_does_not_cascade_is_named(scene: Scene, tenant: str, person: User) -> None:
    scene.add("planner.approvals", tenant, approver=person.id)

    with pytest.raises(ErasureRefusedError, match="rows of approvals refer to this person"):
        await scene.privacy.people.erase(tenant, person.id, reason="asked for")


async def test_who_is_not_there_or_of_another_tenant_is_not_found(
    scene: Scene, tenant: str, other_tenant: str, person: User
) -> None:
    for at, user_id in ((other_tenant, person.id), (tenant, person.id + 1_000_000)):
        with pytest.raises(NotFoundError):
            await scene.privacy.people.erase(at, user_id, reason="asked for")
    await scene.privacy.people.erase(tenant, person.id, reason="asked for")
    with pytest.raises(NotFoundError):
        await scene.privacy.people.erase(tenant, person.id, reason="again")

    assert len((await scene.privacy.people.get_erasures(tenant)).items) == 1


async def test_who_was_purged_before_is_erased_from_the_audit_log(scene: Scene, tenant: str, person: User) -> None:
    await scene.service.users.purge(tenant, person.id)
    erasure = await scene.privacy.people.erase(tenant, person.id, reason="asked for")

    assert erasure.counts == {}
    assert erasure.redacted == len(scene.entries(tenant))
    assert await _exported(scene.service, tenant, person.id) == []


async def test_a_deleted_person_is_exported_and_erased(scene: Scene, tenant: str, person: User) -> None:
    await scene.service.users.delete(tenant, person.id)

    assert len(await _exported(scene.service, tenant, person.id)) > 10

    await scene.privacy.people.erase(tenant, person.id, reason="asked for")

    assert await _exported(scene.service, tenant, person.id) == []


async def test_an_erasure_that_is_undone_has_changed_nothing(scene: Scene, tenant: str, person: User) -> None:
    before = await _exported(scene.service, tenant, person.id)
    with pytest.raises(ZeroDivisionError):
        async with scene.privacy.transaction(tenant) as tx:
            async with tx.savepoint():
                await tx.people.erase(tenant, person.id, reason="asked for")
            raise ZeroDivisionError

    assert await _exported(scene.service, tenant, person.id) == before
    assert (await scene.privacy.people.get_erasures(tenant)).items == []


async def test_what_is_written_while_a_person_is_erased_goes_too_or_is_refused(
    scene: Scene, tenant: str, person: User
) -> None:
    async with scene.service.transaction(tenant) as tx:
        await tx.notes.create(tenant, person.id, f"{MARK} late")
        erasing = asyncio.ensure_future(scene.privacy.people.erase(tenant, person.id, reason="asked for"))
        await scene.until_one_waits()
    erasure = await erasing

    assert erasure.counts["notes"] == 3
    with pytest.raises(StoreError):
        await scene.service.notes.create(tenant, person.id, "after")
    assert await _exported(scene.service, tenant, person.id) == []


@pytest.mark.parametrize("isolation", ["repeatable read", "serializable"])
async def test_two_erasures_at_once_in_a_strict_transaction_are_one_and_one_to_be_repeated(
    scene: Scene, tenant: str, other: int, isolation: Isolation
) -> None:
    another = scene.add("thea.users", tenant, telegram_id=2003)

    async def erase(tx: StoreTransaction) -> Erasure:
        return await tx.people.erase(tenant, another, reason="asked for")

    with pytest.raises(ConflictError, match=re.escape("use store.run(…, retry=3)")):
        async with scene.privacy.transaction(tenant, isolation=isolation) as late:
            assert (await late.people.get_erasures(tenant)).items == []
            await scene.privacy.people.erase(tenant, other, reason="asked for")
            await erase(late)

    assert scene.superuser.execute("select from thea.users where id = %s", [another]).fetchall() == [()]
    assert (await scene.privacy.run(tenant, erase, isolation=isolation)).counts == {"users": 1}
    assert len((await scene.privacy.people.get_erasures(tenant)).items) == 2


async def test_a_certificate_names_who_did_it_when_and_why(
    scene: Scene, tenant: str, other_tenant: str, person: User
) -> None:
    erasure = await scene.privacy.people.erase(tenant, person.id, reason="asked for by letter")

    assert (await scene.service.people.get_erasures(tenant, user_id=person.id)).items == [erasure]
    assert (await scene.service.people.get_erasures(tenant, user_id=person.id + 1)).items == []
    assert (await scene.service.people.get_erasures(other_tenant)).items == []
    assert erasure.login == DatabaseUrl.parse(scene.privacy_url).user
    assert MARK not in str(erasure)


async def test_a_services_login_erases_nobody(scene: Scene, tenant: str, person: User) -> None:
    before = await _exported(scene.service, tenant, person.id)
    with pytest.raises(InsufficientPrivilegeError, match="only a login in the group thea_privacy"):
        await scene.service.people.erase(tenant, person.id, reason="asked for")

    assert await _exported(scene.service, tenant, person.id) == before


@pytest.mark.parametrize("weakening", ["the function's conditions", "the policies of its owner"])
async def test_each_lock_on_an_erasure_holds_alone(
    scene: Scene, tenant: str, other_tenant: str, weakening: str
) -> None:
    theirs = scene.add("thea.users", other_tenant, telegram_id=1001)
    with scene.superuser.transaction(force_rollback=True):
        if weakening == "the function's conditions":
            [(function,)] = scene.superuser.execute(
                "select pg_get_functiondef('thea.erase_person'::regproc)"
            ).fetchall()
            weakened, count = re.subn(r"\b\w+\.tenant_id = p_tenant\b", "true", function)
            scene.superuser.execute(weakened.encode())
            assert count == 5
        else:
            for table in ("users", "audit_log"):
                scene.superuser.execute(f"alter policy redaction on thea.{table} using (true)".encode())
        scene.superuser.execute("select set_config('app.tenant_id', %s, true)", [tenant])
        erased = scene.superuser.execute(
            "select counts from (select details -> 'counts' as counts from thea.erase_person(%s, %s, 'x', false)) e",
            [tenant, theirs],
        ).fetchall()

        assert erased == []
        assert scene.superuser.execute("select from thea.users where id = %s", [theirs]).fetchall() == [()]
        assert scene.entries(other_tenant)[0][4]["telegram_id"] == 1001


async def test_an_erasure_for_another_tenant_than_the_transactions_is_refused(
    scene: Scene, tenant: str, other_tenant: str, person: User
) -> None:
    with psycopg.connect(scene.privacy_url) as attacker:
        attacker.execute("select set_config('app.tenant_id', %s, false)", [other_tenant])
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="not the tenant of the transaction"):
            attacker.execute("select thea.erase_person(%s, %s, 'x', true)", [tenant, person.id])


@pytest.mark.parametrize(
    "statement",
    [
        "update thea.audit_log set before = null",
        "delete from thea.audit_log",
        "delete from thea.users",
        "update thea.users set first_name = 'x'",
        "insert into thea.compliance_log (tenant_id, action, reason, details) values ('{t}', 'x', 'x', '{{}}')",
        "delete from thea.compliance_log",
        "set role thea_redactor",
        "alter function thea.erase_person owner to current_user",
        "create function thea.peek() returns int language sql return 1",
        "create temporary table kept (x int)",
    ],
)
async def test_free_sql_of_who_protects_data_does_nothing_but_read_and_erase(
    scene: Scene, tenant: str, statement: str
) -> None:
    with psycopg.connect(scene.privacy_url) as attacker:
        attacker.execute("select set_config('app.tenant_id', %s, false)", [tenant])
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            attacker.execute(statement.format(t=tenant).encode())


@pytest.mark.usefixtures("person")
def test_free_sql_of_who_protects_data_sees_the_tenant_that_it_names_alone(
    scene: Scene, tenant: str, other_tenant: str
) -> None:
    scene.add("thea.users", other_tenant, telegram_id=9)
    tables = scene.superuser.execute("select polrelid::regclass::text from pg_policy where polname = 'tenant_guard'")
    names = [name for (name,) in tables]
    with psycopg.connect(scene.privacy_url) as attacker:
        for named, expected in ((tenant, {tenant}), (None, set())):
            attacker.execute("select set_config('app.tenant_id', %s, false)", [named])
            seen = {
                one
                for table in names
                for (one,) in attacker.execute(f"select distinct tenant_id from {table}".encode())
            }

            assert seen == expected


async def test_who_protects_data_changes_nothing_by_other_calls(scene: Scene, tenant: str, person: User) -> None:
    with pytest.raises(InsufficientPrivilegeError):
        await scene.privacy.users.update(tenant, person.id, first_name="x")
    with pytest.raises(InsufficientPrivilegeError):
        await scene.privacy.users.purge(tenant, person.id)


async def test_arguments_are_checked_before_anything_is_sent(scene: Scene, tenant: str) -> None:
    for wrong in ("12", None, 2**70):
        with pytest.raises(InvalidArgumentError):
            await scene.privacy.people.erase(tenant, wrong, reason="x")  # type: ignore[arg-type]
        with pytest.raises(InvalidArgumentError):
            await _exported(scene.service, tenant, wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError):
        await scene.privacy.people.erase(tenant, 1, reason="\0")


# --- the dump, and the command line -------------------------------------------------------------


def _dumper(url: str, version: int) -> Callable[[], bytes]:
    found = [shutil.which("pg_dump"), *map(str, Path("/usr/lib/postgresql").glob("*/bin/pg_dump"))]
    for program in filter(None, found):
        if int(subprocess.check_output([program, "--version"]).split()[2].split(b".")[0]) >= version:
            return lambda: subprocess.check_output([program, "--dbname", url])
    pytest.skip("there is no pg_dump of the server's version")


def _mode(path: str) -> int:
    return Path(path).stat().st_mode & 0o777


def _lines(path: str) -> list[Any]:
    return [json.loads(line) for line in Path(path).read_text("utf-8").splitlines()]


async def test_after_an_erasure_no_marked_value_is_in_a_dump(scene: Scene, tenant: str) -> None:
    mark = f"Volcado{uuid4().hex}"
    user = await scene.service.users.create(tenant, telegram_id=5, first_name=mark)
    await scene.service.notes.create(tenant, user.id, mark)
    [(version,)] = scene.superuser.execute("select current_setting('server_version_num')::int / 10000").fetchall()
    dump = _dumper(scene.database.superuser_url, version)

    assert mark.encode() in dump()

    await scene.privacy.people.erase(tenant, user.id, reason="asked for")

    assert mark.encode() not in dump()


@pytest.fixture
def command(run: Run, scene: Scene) -> Callable[..., Any]:
    def invoke(*arguments: str, url: str | None = None) -> Any:
        return run(*arguments, DATABASE_URL=url or scene.privacy_url)

    return invoke


async def test_a_person_is_exported_into_a_file_that_proves_itself(
    scene: Scene, tenant: str, person: User, command: Callable[..., Any]
) -> None:
    arguments = ("export", "user", str(person.id), "--tenant", tenant)
    result = command(*arguments, "--file", "person.jsonl", "--json")
    rows = _lines("person.jsonl")

    assert result.exit_code == 0, result.output
    assert rows[:-1] == await _exported(scene.service, tenant, person.id)
    assert rows[-1] == {"manifest": json.loads(result.stdout)}
    assert check_file(Path("person.jsonl")) == rows[-1]["manifest"]
    assert rows[-1]["manifest"]["counts"]["notes"] == 2
    assert _mode("person.jsonl") == 0o600
    assert f"of user {person.id} of {tenant} at" in command("export", "check", "person.jsonl").stdout

    again = command(*arguments, "--file", "person.jsonl")

    assert again.exit_code == 2
    assert "is there already" in again.stderr

    shown = command(*arguments)

    assert [json.loads(line) for line in shown.stdout.splitlines()][:-1] == rows[:-1]


def _members(path: str) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name) for name in archive.namelist()}


def test_a_person_is_exported_as_a_zip_of_the_same_lines(
    tenant: str, person: User, command: Callable[..., Any]
) -> None:
    arguments = ("export", "user", str(person.id), "--tenant", tenant, "--json", "--file")
    lines, zipped = command(*arguments, "person.jsonl"), command(*arguments, "person.ZIP")
    members = _members("person.ZIP")
    tables = [name.split(".", 1)[1].removesuffix(".jsonl") for name in members]
    manifest = json.loads(zipped.stdout)

    assert (lines.exit_code, zipped.exit_code) == (0, 0), zipped.output
    assert tables == [*json.loads(lines.stdout)["counts"], "json"]
    assert next(iter(members)) == "001.users.jsonl"
    assert b"".join([*members.values()][:-1]).splitlines() == Path("person.jsonl").read_bytes().splitlines()[:-1]
    assert json.loads(members["manifest.json"]) == manifest == check_file(Path("person.ZIP"))
    assert {**manifest, "exported_at": ""} == {**json.loads(lines.stdout), "exported_at": ""}
    assert _mode("person.ZIP") == 0o600


def test_a_zip_that_was_altered_or_cut_off_is_refused(
    tenant: str, person: User, command: Callable[..., Any], tmp_path: Path
) -> None:
    command("export", "user", str(person.id), "--tenant", tenant, "--file", "person.zip")
    members, whole = _members("person.zip"), Path("person.zip").read_bytes()
    first = next(iter(members))
    spoilt = tmp_path / "spoilt.zip"
    middle = len(whole) // 2
    for content in (whole[:middle], whole[middle:], whole[:60] + bytes(8) + whole[68:]):
        spoilt.write_bytes(content)
        with pytest.raises(ExportFileError):
            check_file(spoilt)
    for altered in (
        {name: content for name, content in members.items() if name != first},
        {name: content for name, content in members.items() if name != "manifest.json"},
        {**members, first: members[first].replace(b"1001", b"1002")},
        {"000.users.jsonl": members[first], **members},
        {"../users.jsonl": b"", **members},
        {**members, "readme.txt": b""},
        {**members, "manifest.json": b"[]"},
        {**members, "manifest.json": b"\xff"},
    ):
        with zipfile.ZipFile(spoilt, "w") as archive:
            for name, content in altered.items():
                archive.writestr(name, content)
        with pytest.raises(ExportFileError):
            check_file(spoilt)


async def test_a_large_export_is_written_as_its_rows_come(tmp_path: Path) -> None:
    row = {"table": "odd/../name", "id": 1, "text": "x" * 10_000}
    sizes: list[int] = []

    async def rows() -> AsyncIterator[dict[str, Any]]:
        for _ in range(3_000):
            sizes.append(tracemalloc.get_traced_memory()[0])
            yield row

    tracemalloc.start()
    try:
        with (tmp_path / "large.zip").open("wb") as out:
            manifest = await write_person(rows(), out, tenant_id="t", user_id=1, as_zip=True)
    finally:
        tracemalloc.stop()

    assert manifest["counts"] == {"odd/../name": 3_000}
    assert list(_members(str(tmp_path / "large.zip"))) == ["001.odd_.._name.jsonl", "manifest.json"]
    assert max(sizes) - sizes[10] < 2_000_000
    assert check_file(tmp_path / "large.zip") == manifest


async def test_an_export_that_fails_leaves_no_zip_that_passes(tmp_path: Path) -> None:
    async def rows() -> AsyncIterator[dict[str, Any]]:
        yield {"table": "users", "id": 1}
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), (tmp_path / "half.zip").open("wb") as out:
        await write_person(rows(), out, tenant_id="t", user_id=1, as_zip=True)
    gc.collect()  # what was left open would complain here

    with pytest.raises(ExportFileError):
        check_file(tmp_path / "half.zip")


def test_a_file_that_was_altered_or_cut_off_is_refused(
    tenant: str, person: User, command: Callable[..., Any], tmp_path: Path
) -> None:
    command("export", "user", "--user", str(person.id), "--tenant", tenant, "--file", "person.jsonl")
    lines = Path("person.jsonl").read_bytes().splitlines(keepends=True)
    spoilt = tmp_path / "spoilt.jsonl"
    for content in (lines[:-1], lines[1:], [lines[0].replace(b"1001", b"1002"), *lines[1:]], [*lines, lines[0]]):
        spoilt.write_bytes(b"".join(content))

        with pytest.raises(ExportFileError):
            check_file(spoilt)


async def test_a_person_is_erased_from_the_command_line(
    scene: Scene, tenant: str, person: User, command: Callable[..., Any]
) -> None:
    arguments = ("erase", "user", str(person.id), "--tenant", tenant, "--reason", "letter of May")
    weak = command(*arguments, url=scene.database.app_url)

    assert weak.exit_code == 1
    assert "only a login in the group thea_privacy" in weak.stderr

    done = command(*arguments, "--actor", "office:2", "--json")
    told = json.loads(done.stdout)

    assert done.exit_code == 0, done.output
    assert (told["user_id"], told["actor"], told["reason"]) == (person.id, "office:2", "letter of May")
    assert told["counts"]["users"] == 1
    assert command(*arguments).exit_code == 1
    assert command("export", "user", str(person.id), "--tenant", tenant).exit_code == 1
    assert command("erase", "user", "--tenant", tenant, "--reason", "x").exit_code == 2
