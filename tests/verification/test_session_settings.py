"""Whatever a role or a database sets, a session of the library means the same; what it cannot fix it refuses."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from tests.support.hostile_settings import EXCEPTIONS, HOSTILE, UNMEANT, hostile_login
from tests.support.pooler import STARTUP, pgbouncer
from thea_store import Settings, Store, StoreError
from thea_store.admin.doctor import examine
from thea_store.admin.schema import read, to_markdown
from thea_store.migrator import available, migrate, rollback, status
from thea_store.postgres.session import FIXED
from thea_store.postgres.url import DatabaseUrl
from thea_store.testing import TestDatabase

NewDatabase = Callable[..., TestDatabase]

START = datetime(2030, 5, 6, 10, tzinfo=UTC)


async def life(store: Store, tenant: str) -> list[Any]:
    """A life of a tenant: what was read back, without what differs from run to run."""
    user = await store.users.create(tenant, telegram_id=1, first_name="back\\slash", preferences={"a": [None, 0.1]})
    await store.users.merge_preferences(tenant, user.id, {"b": 0.1 + 0.2})
    note = await store.notes.create(tenant, user.id, "comió manzanas", title="O'Brien \\ 2", tags=["NULL", "a"])
    await store.notes.create_many(tenant, [{"user_id": user.id, "content": f"manzana {n}"} for n in range(30)])
    event = await store.events.create(
        tenant, user.id, "daily", START, recurrence_rule="FREQ=DAILY;COUNT=3", reminder_minutes=5
    )
    message = await store.messages.add_message(tenant, user.id, "s", user_message="hola", confidence_score=0.1 + 0.2)
    async with store.transaction(tenant) as tx:
        await tx.notes.add_tags(tenant, note.id, ["b"])
    found = await store.notes.search(tenant, user.id, "comer")
    many = await store.notes.search(tenant, user.id, "manzana", limit=100)
    soon = await store.events.get_upcoming(tenant, user.id, 7, now=START - timedelta(days=1))
    await store.users.delete(tenant, user.id)
    hidden = [await store.notes.count(tenant), await store.messages.count(tenant)]
    entries = await store.audit.get_all(tenant, limit=1000)
    return [
        [hit.content for hit in found],
        len(many),
        [(each.title, each.start_datetime) for each in soon],
        (message.confidence_score, event.start_datetime, hidden),
        sorted(
            (each.table_name, each.action, str(each.actor), str(each.request_id), _stable(each.after))
            for each in entries.items
        ),
    ]


def _stable(values: Any) -> list[tuple[str, str]]:
    differ = {"id", "user_id", "conversation_id", "created_at", "deleted_at", "last_activity", "started_at"}
    return sorted((key, str(value)) for key, value in (values or {}).items() if key not in differ)


async def in_force(store: Store, tenant: str) -> dict[str, str]:
    """The settings as a transaction of the store sees them."""
    async with store.transaction(tenant) as tx:
        await tx.users.count(tenant)  # the transaction begins with its first statement
        raw = tx._transaction._connection.raw
        return {name: await raw.fetchval("select current_setting($1)", name) for name in FIXED}


def plain(url: str) -> dict[str, str]:
    """The settings as a session sees them that fixes nothing."""
    with psycopg.connect(url) as connection:
        return {name: connection.execute("select current_setting(%s)", [name]).fetchall()[0][0] for name in FIXED}


@pytest.mark.parametrize("level", ["role", "database"])
@pytest.mark.parametrize("way", ["session", "transaction", "pooler", "silent pooler", "pooler, read committed"])
async def test_no_setting_of_a_role_or_database_changes_what_a_call_means(
    thea_new_database: NewDatabase, tenant: str, level: str, way: str
) -> None:
    database = thea_new_database()
    async with Store.open(database.app_url) as store:
        expected = await life(store, "undisturbed")
    # Behind a pooler, a call takes its settings along in one message only where that is read committed by itself.
    friendly = {"default_transaction_isolation": "read committed"} if "committed" in way else {}
    with hostile_login(database, level, {**HOSTILE, **friendly}) as url:
        hostile = {**plain(url), **dict.fromkeys(friendly, "")}
        options = {"ignore_startup_parameters": STARTUP} if way == "silent pooler" else {}
        scope = "session" if way == "session" else "transaction"
        if "pooler" not in way:
            found, lived = await _live(url, scope, tenant)
        else:
            with pgbouncer(url, **options) as pooled:
                found, lived = await _live(pooled, scope, tenant)

    assert lived == expected
    assert {**found, "app.tenant_id": ""} == {**FIXED, "app.tenant_id": ""}
    assert found["app.tenant_id"] == tenant
    assert all(hostile[name] != value for name, value in FIXED.items()), "a setting of this test was not in force"


async def _live(url: str, scope: Any, tenant: str) -> tuple[dict[str, str], list[Any]]:
    async with Store.open(Settings(url=url, tenant_scope=scope)) as store:
        return await in_force(store, tenant), await life(store, tenant)


def test_every_setting_that_a_login_may_have_is_fixed_or_known_not_to_matter(thea_database: TestDatabase) -> None:
    with psycopg.connect(thea_database.superuser_url) as connection:
        rows = connection.execute("select name, category from pg_settings where context in ('user', 'superuser')")
        unknown = {
            name for name, category in rows if category not in UNMEANT and name.lower() not in {*FIXED, *EXCEPTIONS}
        }

    assert unknown == set()
    assert not EXCEPTIONS.keys() & FIXED.keys()


@pytest.mark.parametrize("level", ["role", "database"])
@pytest.mark.parametrize("scope", ["session", "transaction"])
@pytest.mark.parametrize("role", ["replica", "local"])
async def test_a_session_without_triggers_is_refused(
    thea_new_database: NewDatabase, level: str, scope: Any, role: str
) -> None:
    with (
        hostile_login(thea_new_database(), level, {"session_replication_role": role}) as url,
        pytest.raises(StoreError, match=r"reset session_replication_role"),
    ):
        await Store.open(Settings(url=url, tenant_scope=scope))


async def test_a_session_without_triggers_is_refused_behind_a_pooler(thea_new_database: NewDatabase) -> None:
    with (
        hostile_login(thea_new_database(), "role", {"session_replication_role": "replica"}) as url,
        pgbouncer(url) as pooled,
        pytest.raises(StoreError, match=r"reset session_replication_role"),
    ):
        await Store.open(Settings(url=pooled, tenant_scope="transaction"))


async def test_a_store_that_is_open_refuses_such_a_session_too(thea_new_database: NewDatabase, tenant: str) -> None:
    database = thea_new_database()
    with hostile_login(database, "role", {}) as url:
        async with Store.open(Settings(url=url, pool_size=1)) as store:
            await store.users.count(tenant)
            with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
                change = f"alter role {DatabaseUrl.parse(url).user} set session_replication_role = replica"
                superuser.execute(change.encode())
            store._database._pool.expire()

            with pytest.raises(StoreError, match=r"reset session_replication_role"):
                await store.users.count(tenant)


@pytest.mark.parametrize("level", ["role", "database"])
def test_the_migrations_make_the_same_schema_whatever_is_set(thea_new_database: NewDatabase, level: str) -> None:
    database, undisturbed = thea_new_database(migrated=False), thea_new_database()
    settings = {name: value for name, value in HOSTILE.items() if name != "exit_on_error"} | {
        "statement_timeout": "1",
        "check_function_bodies": "off",
        "client_min_messages": "error",
    }
    with hostile_login(database, level, settings, group="thea_owner") as url:
        with psycopg.connect(database.superuser_url, autocommit=True, options="-c statement_timeout=0") as superuser:
            name = DatabaseUrl.parse(url).user
            superuser.execute(f"alter role {name} createrole".encode())
            superuser.execute(f"alter database {database.name} owner to {name}".encode())
        try:
            assert migrate(url) == [migration.id for migration in available()]
            assert status(url).pending == ()
            made = to_markdown(read(DatabaseUrl.parse(url)))
            assert rollback(url, to="0000") == [migration.id for migration in reversed(available())]
        finally:
            with psycopg.connect(
                database.superuser_url, autocommit=True, options="-c statement_timeout=0"
            ) as superuser:
                superuser.execute(f"alter database {database.name} owner to current_user".encode())

    assert made == to_markdown(read(DatabaseUrl.parse(undisturbed.app_url)))


@pytest.mark.parametrize("level", ["role", "database"])
def test_the_checks_find_the_same_whatever_is_set(thea_new_database: NewDatabase, level: str) -> None:
    database = thea_new_database()
    settings = {name: HOSTILE[name] for name in HOSTILE if not name.startswith("app.") and name != "row_security"}
    told = {name: settings[name] for name in ("default_transaction_isolation", "standard_conforming_strings")}
    with hostile_login(database, level, {**settings, "statement_timeout": "1"}) as url:
        findings = examine(Settings(url=url))

    problems = [finding for finding in findings if finding.state == "problem"]
    assert {finding.check for finding in problems} == {"settings"}
    assert [finding.found.split("`")[1] for finding in problems] == [f"{name}={told[name]}" for name in sorted(told)]


def test_a_migrator_without_triggers_is_refused(thea_new_database: NewDatabase) -> None:
    with (
        hostile_login(thea_new_database(), "role", {"session_replication_role": "replica"}, group="thea_owner") as url,
        pytest.raises(StoreError, match=r"reset session_replication_role"),
    ):
        migrate(url)
