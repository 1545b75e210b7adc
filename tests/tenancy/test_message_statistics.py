"""Statistics from sums: the worker that keeps them, and what whole tenants, people and retention do to them."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.tenancy.places import Place
from thea_store import InsufficientPrivilegeError, MessageChanges, Settings, Store, statistics_worker
from thea_store.postgres.url import DatabaseUrl
from thea_store.tenancy.archive.ending import end_tenant
from thea_store.tenancy.archive.exporting import export_tenant
from thea_store.tenancy.archive.importing import import_tenant
from thea_store.testing import TestDatabase

LONG_AGO = datetime.now(UTC).replace(hour=12) - timedelta(days=10)
DAYS = 4


async def write(store: Store, tenant: str, *, people: int = 2, days: int = DAYS) -> list[int]:
    """People who each said something on each day, and something just now."""
    users = [(await store.users.create(tenant, telegram_id=n)).id for n in range(people)]
    for user in users:
        conversation = await store.conversations.create(tenant, user, f"s-{user}")
        rows = [
            {
                "user_id": user,
                "conversation_id": conversation.id,
                "user_message": "Hola",
                "intent_detected": "greet" if day % 2 else None,
                "confidence_score": 0.1 * day,
                "processing_time_ms": 100 * day,
                "created_at": LONG_AGO + timedelta(days=day),
            }
            for day in range(days)
        ]
        await store.messages.create_many(tenant, rows)
        await store.messages.add_message(tenant, user, f"s-{user}", user_message="Hola", intent_detected="greet")
    return users


async def count_all(finder: Store, tenant: str, superuser: psycopg.Connection[Any]) -> None:
    """Have all old messages counted; other transactions of the server may hold it back for a while."""
    for _ in range(1000):
        if not await finder.work.fold_messages(tenant) and sums(superuser, tenant):
            return
        await asyncio.sleep(0.01)
    raise AssertionError("a transaction of this server does not end")


def sums(superuser: psycopg.Connection[Any], tenant: str) -> list[tuple[Any, ...]]:
    return superuser.execute(
        "select at::date, intent, sum(messages)::int from thea.message_counts where tenant_id = %s group by 1, 2"
        " having sum(messages) <> 0 order by 1, 2",
        [tenant],
    ).fetchall()


async def agrees(store: Store, tenant: str) -> int:
    """How many messages there are, after every answer was compared with what all pages say."""
    rows = [row async for row in store.messages.iterate(tenant)]
    statistics = await store.messages.get_statistics(tenant)
    intents = [row.intent_detected for row in rows if row.intent_detected is not None]
    confidences = [row.confidence_score for row in rows if row.confidence_score is not None]
    times = [row.processing_time_ms for row in rows if row.processing_time_ms is not None]

    assert await store.messages.count(tenant) == statistics.total_messages == len(rows)
    assert statistics.intent_distribution == {intent: intents.count(intent) for intent in intents}
    assert statistics.avg_confidence == (
        pytest.approx(sum(confidences) / len(confidences), rel=1e-9) if confidences else None
    )
    assert statistics.avg_processing_time_ms == (pytest.approx(sum(times) / len(times)) if times else None)
    middle = LONG_AGO + timedelta(days=1, hours=6)
    for first, until in ((middle, None), (None, middle), (middle, middle + timedelta(days=2)), (middle, middle)):
        chosen = [
            row for row in rows if (not first or row.created_at >= first) and (not until or row.created_at < until)
        ]
        assert await store.messages.count(tenant, created_from=first, created_before=until) == len(chosen)
        greeted = [row for row in chosen if row.intent_detected == "greet"]
        assert await store.messages.count(tenant, intent="greet", created_from=first, created_before=until) == len(
            greeted
        )
    return len(rows)


async def test_whatever_is_done_to_messages_that_are_counted_the_answers_are_right(
    store: Store, finder: Store, tenant: str, superuser: psycopg.Connection[Any]
) -> None:
    first, second = await write(store, tenant)
    everything = await agrees(store, tenant)
    await count_all(finder, tenant, superuser)
    assert len(sums(superuser, tenant)) == DAYS
    assert await agrees(store, tenant) == everything == 2 * (DAYS + 1)

    oldest = (await store.messages.get_all(tenant, user_id=first, newest_first=False, limit=2)).items
    await store.messages.delete(tenant, oldest[0].id)
    assert await agrees(store, tenant) == everything - 1
    await store.messages.restore(tenant, oldest[0].id)
    # Each by itself: a change of any of them counts.
    changes: list[MessageChanges] = [
        {"intent_detected": "other"},
        {"confidence_score": None},
        {"processing_time_ms": 7},
    ]
    for change in changes:
        await store.messages.update(tenant, oldest[1].id, **change)
        assert await agrees(store, tenant) == everything
    await store.messages.purge(tenant, oldest[1].id)
    await store.users.delete(tenant, second)
    assert await agrees(store, tenant) == everything - 1 - (DAYS + 1)
    await store.users.restore(tenant, second)
    await store.messages.delete_old_messages(tenant, LONG_AGO + timedelta(hours=1))
    await store.messages.add_message_with_prune(tenant, second, f"s-{second}", user_message="Hola", keep=2)
    before = await agrees(store, tenant)
    superuser.execute(
        "update thea.message_folds set until = until - interval '2 minutes' where tenant_id = %s", [tenant]
    )
    await count_all(finder, tenant, superuser)

    assert await agrees(store, tenant) == before
    [(differences,)] = superuser.execute(
        "select count(*) from thea.message_counts where tenant_id = %s and not folded", [tenant]
    ).fetchall()
    assert differences == 0


async def test_who_is_erased_is_gone_from_the_sums_and_no_sum_names_a_person(
    store: Store,
    finder: Store,
    tenant: str,
    thea_database: TestDatabase,
    superuser: psycopg.Connection[Any],
) -> None:
    first, _ = await write(store, tenant)
    await count_all(finder, tenant, superuser)

    async with Store.open(Settings(url=thea_database.url_of("thea_privacy"), pool_size=1)) as privacy:
        await privacy.people.erase(tenant, first, reason="carta")

    assert await agrees(store, tenant) == DAYS + 1
    assert [count for *_, count in sums(superuser, tenant)] == [1] * DAYS
    columns = superuser.execute(
        "select attname from pg_attribute where attrelid = 'thea.message_counts'::regclass and attname ~ 'user|person'"
    ).fetchall()
    assert columns == []


async def test_retention_removes_from_the_sums(
    store: Store, finder: Store, admin: Store, tenant: str, superuser: psycopg.Connection[Any]
) -> None:
    await write(store, tenant)
    await count_all(finder, tenant, superuser)
    keep = datetime.now(UTC) - LONG_AGO - timedelta(hours=1)
    await admin.retention.keep("message_history", "old", keep, tenant_id=tenant)
    try:
        while await finder.work.expire(tenant):
            pass
    finally:
        await admin.retention.remove("message_history", "old", tenant_id=tenant)

    assert await agrees(store, tenant) == 2 * DAYS


async def test_of_a_tenant_that_ends_no_sum_is_left(
    store: Store, finder: Store, tenant: str, thea_database: TestDatabase, superuser: psycopg.Connection[Any]
) -> None:
    await write(store, tenant)
    await count_all(finder, tenant, superuser)

    await asyncio.to_thread(end_tenant, DatabaseUrl.parse(thea_database.url_of("thea_mover")), tenant, None)

    for table in ("message_counts", "message_folds", "message_history"):
        rows = superuser.execute(f"select from thea.{table} where tenant_id = %s".encode(), [tenant]).fetchall()
        assert rows == [], table


async def test_an_archive_comes_into_the_sums_and_holds_none(
    store: Store, finder: Store, tenant: str, here: Place, tmp_path: Path
) -> None:
    other_tenant = f"other-{tenant[-16:]}"
    for name in (tenant, other_tenant):
        await store.users.create(name, telegram_id=100)
        await write(store, name)
        await count_all(finder, name, here.superuser)
    file = tmp_path / "archive.zip"

    manifest = await asyncio.to_thread(export_tenant, here.mover, tenant, file)
    # A user whose Telegram id is here already is that user, whose messages come along.
    await asyncio.to_thread(import_tenant, here.mover, file, name=other_tenant)

    assert not {table for table in manifest.manifest.rows if "message_" in table} - {"thea.message_history"}
    assert await agrees(store, other_tenant) == 4 * (DAYS + 1)
    assert await agrees(store, tenant) == 2 * (DAYS + 1)


async def test_a_worker_counts_the_messages_of_those_who_have_thousands(
    store: Store, finder: Store, tenant: str, other_tenant: str, superuser: psycopg.Connection[Any]
) -> None:
    for name in (tenant, other_tenant):
        await write(store, name, people=1)
    superuser.execute("set session_replication_role = replica")
    superuser.execute(
        "insert into thea.message_history (tenant_id, user_id, conversation_id, user_message, created_at)"
        " select tenant_id, user_id, id, 'Hola', now() - interval '1 day' from thea.conversations,"
        " generate_series(1, 5000) where tenant_id = %s",
        [tenant],
    )
    superuser.execute("reset session_replication_role")

    found = await finder.work.tenants_with_uncounted_messages(limit=1000)
    assert tenant in found
    assert other_tenant not in found
    async with asyncio.timeout(30):
        while tenant in await finder.work.tenants_with_uncounted_messages(limit=1000):
            await statistics_worker(finder.work).run_once()
    assert await agrees(store, tenant) == 5000 + DAYS + 1
    assert sums(superuser, other_tenant) == []


async def test_a_service_neither_counts_nor_writes_sums(store: Store, tenant: str, thea_database: TestDatabase) -> None:
    with pytest.raises(InsufficientPrivilegeError):
        await store.work.fold_messages(tenant)
    with psycopg.connect(thea_database.app_url, autocommit=True) as service:
        service.execute("select set_config('app.tenant_id', %s, false)", [tenant])
        for statement in (
            "delete from thea.message_counts",
            "update thea.message_folds set until = 'infinity'",
            f"select thea.forget_message_counts('{tenant}')",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                service.execute(statement.encode())
