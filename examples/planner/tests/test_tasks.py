"""The tasks: what they do, and that another tenant gets nothing."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from thea_store import Store

from planner.tasks import Task, Tasks

pytestmark = pytest.mark.asyncio


async def _add(store: Store, tenant: str, telegram_id: int = 1) -> Task:
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


async def test_one_that_is_made_is_found_again(
    thea_store: Store, thea_tenant: str
) -> None:
    made = await _add(thea_store, thea_tenant)

    assert made.title == "Comprar pan"
    assert await Tasks(thea_store).get_by_id(thea_tenant, made.id) == made
    assert (await Tasks(thea_store).get_all(thea_tenant)).items == [made]
    assert await Tasks(thea_store).count(thea_tenant) == 1


async def test_another_tenant_gets_nothing(thea_store: Store, thea_tenant: str) -> None:
    made = await _add(thea_store, thea_tenant)
    other = f"{thea_tenant}-other"

    assert await Tasks(thea_store).get_by_id(other, made.id) is None
    assert (await Tasks(thea_store).get_all(other)).items == []
    assert not await Tasks(thea_store).exists(other, made.id)


async def test_a_change_is_kept_and_audited(
    thea_store: Store, thea_tenant: str
) -> None:
    made = await _add(thea_store, thea_tenant)
    async with thea_store.transaction(thea_tenant, actor="user:7") as tx:
        changed = await Tasks(tx).update(thea_tenant, made.id, title="Llamar a Ana")
    log = await thea_store.audit.get_for(thea_tenant, "planner.tasks", made.id)

    assert changed.title == "Llamar a Ana"
    assert changed.updated_at > made.updated_at
    assert (log[-1].actor, log[-1].action) == ("user:7", "update")


async def test_one_that_is_deleted_is_gone_until_it_is_restored(
    thea_store: Store, thea_tenant: str
) -> None:
    made = await _add(thea_store, thea_tenant)
    await Tasks(thea_store).delete(thea_tenant, made.id)

    left = Tasks(thea_store).iterate(thea_tenant)
    assert [each async for each in left] == []
    restored = await Tasks(thea_store).restore(thea_tenant, made.id)
    assert restored.deleted_at is None
    await Tasks(thea_store).purge(thea_tenant, made.id)
    assert await Tasks(thea_store).count(thea_tenant) == 0


async def test_it_is_hidden_and_restored_with_its_user(
    thea_store: Store, thea_tenant: str
) -> None:
    made = await _add(thea_store, thea_tenant)
    await thea_store.users.delete(thea_tenant, made.user_id)

    assert await Tasks(thea_store).get_by_id(thea_tenant, made.id) is None
    await thea_store.users.restore(thea_tenant, made.user_id)
    assert await Tasks(thea_store).exists(thea_tenant, made.id)
