"""What a planner is for: tasks that wait for others, and reminders that go out once."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from thea_store import ConflictError, DuplicateError, NotFoundError, Store

from planner.links import Links
from planner.tasks import Task, Tasks

pytestmark = pytest.mark.asyncio

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


async def _user(store: Store, tenant: str) -> int:
    return (await store.users.create(tenant, telegram_id=1)).id


async def _tasks(store: Store, tenant: str, *titles: str) -> list[Task]:
    user_id = await _user(store, tenant)
    rows = [{"user_id": user_id, "title": title} for title in titles]
    return await Tasks(store).create_many(tenant, rows)


async def test_a_task_is_ready_when_what_it_needs_is_done(
    thea_store: Store, thea_tenant: str
) -> None:
    shop, cook = await _tasks(thea_store, thea_tenant, "Comprar", "Cocinar")
    tasks = Tasks(thea_store)
    await Links(thea_store).create(thea_tenant, task_id=cook.id, needs_id=shop.id)

    assert await tasks.get_ready(thea_tenant, shop.user_id) == [shop]
    with pytest.raises(ConflictError, match="needs another one"):
        await tasks.complete(thea_tenant, cook.id)
    await tasks.complete(thea_tenant, shop.id)
    assert (await tasks.complete(thea_tenant, cook.id)).done


async def test_a_deleted_task_holds_up_nothing_until_it_is_restored(
    thea_store: Store, thea_tenant: str
) -> None:
    shop, cook = await _tasks(thea_store, thea_tenant, "Comprar", "Cocinar")
    tasks = Tasks(thea_store)
    await Links(thea_store).create(thea_tenant, task_id=cook.id, needs_id=shop.id)
    await tasks.delete(thea_tenant, shop.id)

    assert await tasks.get_ready(thea_tenant, shop.user_id) == [cook]
    await tasks.restore(thea_tenant, shop.id)
    ready = await tasks.get_ready(thea_tenant, shop.user_id)
    assert [task.id for task in ready] == [shop.id]


async def test_a_link_is_there_once_and_of_ones_own_tasks(
    thea_store: Store, thea_tenant: str
) -> None:
    shop, cook = await _tasks(thea_store, thea_tenant, "Comprar", "Cocinar")
    links = Links(thea_store)
    await links.create(thea_tenant, task_id=cook.id, needs_id=shop.id)

    with pytest.raises(DuplicateError):
        await links.create(thea_tenant, task_id=cook.id, needs_id=shop.id)
    with pytest.raises(NotFoundError):
        await Tasks(thea_store).complete(f"{thea_tenant}-other", shop.id)


async def test_each_reminder_goes_to_one_of_many_workers(
    thea_store: Store, thea_tenant: str
) -> None:
    user_id = await _user(thea_store, thea_tenant)
    tasks = Tasks(thea_store)
    rows = [
        {
            "user_id": user_id,
            "title": f"Tarea {n}",
            "remind_at": NOON + timedelta(hours=n),
        }
        for n in range(-9, 3)
    ]
    due = (await tasks.create_many(thea_tenant, rows))[:10]
    claims = [tasks.claim_reminders(thea_tenant, now=NOON, limit=3) for _ in range(6)]
    claimed = [task for part in await asyncio.gather(*claims) for task in part]
    claimed += await tasks.claim_reminders(thea_tenant, now=NOON)

    assert sorted(task.id for task in claimed) == [task.id for task in due]
    assert await tasks.claim_reminders(thea_tenant, now=NOON) == []


async def test_notes_and_tasks_are_written_together_or_not_at_all(
    thea_store: Store, thea_tenant: str
) -> None:
    user_id = await _user(thea_store, thea_tenant)
    with pytest.raises(ZeroDivisionError):
        async with thea_store.transaction(thea_tenant, actor="user:7") as tx:
            await tx.notes.create(thea_tenant, user_id, "Comprar pan")
            await Tasks(tx).create(thea_tenant, user_id=user_id, title="Comprar pan")
            raise ZeroDivisionError

    assert await thea_store.notes.count(thea_tenant) == 0
    assert await Tasks(thea_store).count(thea_tenant) == 0
