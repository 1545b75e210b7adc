"""The links: what they do, and that another tenant gets nothing."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from thea_store import Store

from planner.links import Link, Links
from planner.tasks import Task, Tasks

pytestmark = pytest.mark.asyncio


async def _add_tasks(store: Store, tenant: str, telegram_id: int = 1) -> Task:
    """One task of a new user."""
    user_id = (await store.users.create(tenant, telegram_id=telegram_id)).id
    return await Tasks(store).create(
        tenant,
        user_id=user_id,
        title="Comprar pan",
        due_at=datetime(2026, 3, 2, 10, tzinfo=UTC),
        remind_at=datetime(2026, 3, 2, 10, tzinfo=UTC),
        done=True,
    )


async def _add(store: Store, tenant: str, telegram_id: int = 1) -> Link:
    """A task, and one that it needs."""
    task = await _add_tasks(store, tenant, -telegram_id - 1)
    needed = await _add_tasks(store, tenant, -telegram_id - 2)
    return await Links(store).create(tenant, task_id=task.id, needs_id=needed.id)


async def test_one_that_is_made_is_found_again(
    thea_store: Store, thea_tenant: str
) -> None:
    made = await _add(thea_store, thea_tenant)

    assert await Links(thea_store).get_by_id(thea_tenant, made.id) == made
    assert (await Links(thea_store).get_all(thea_tenant)).items == [made]
    assert await Links(thea_store).count(thea_tenant) == 1


async def test_another_tenant_gets_nothing(thea_store: Store, thea_tenant: str) -> None:
    made = await _add(thea_store, thea_tenant)
    other = f"{thea_tenant}-other"

    assert await Links(thea_store).get_by_id(other, made.id) is None
    assert (await Links(thea_store).get_all(other)).items == []
    assert not await Links(thea_store).exists(other, made.id)


async def test_a_change_is_kept_and_audited(
    thea_store: Store, thea_tenant: str
) -> None:
    made = await _add(thea_store, thea_tenant)
    async with thea_store.transaction(thea_tenant, actor="user:7") as tx:
        changed = await Links(tx).update(
            thea_tenant, made.id, reason="Sin pan no hay cena"
        )
    log = await thea_store.audit.get_for(thea_tenant, "planner.links", made.id)

    assert changed.reason == "Sin pan no hay cena"
    assert changed.updated_at > made.updated_at
    assert (log[-1].actor, log[-1].action) == ("user:7", "update")


async def test_one_that_is_deleted_is_gone_until_it_is_restored(
    thea_store: Store, thea_tenant: str
) -> None:
    made = await _add(thea_store, thea_tenant)
    await Links(thea_store).delete(thea_tenant, made.id)

    left = Links(thea_store).iterate(thea_tenant)
    assert [each async for each in left] == []
    restored = await Links(thea_store).restore(thea_tenant, made.id)
    assert restored.deleted_at is None
    await Links(thea_store).purge(thea_tenant, made.id)
    assert await Links(thea_store).count(thea_tenant) == 0
