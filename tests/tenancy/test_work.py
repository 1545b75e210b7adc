"""Which tenants have something to do: what a worker's login is told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from thea_store import InsufficientPrivilegeError, InvalidArgumentError, Store, User

PAST = datetime(2024, 5, 1, tzinfo=UTC)
FUTURE = datetime.now(UTC) + timedelta(days=3)


async def everybody(find: Callable[..., Awaitable[list[str]]]) -> list[str]:
    """All names, three at a time."""
    found: list[str] = []
    while page := await find(limit=3, after=found[-1] if found else None):
        found += page
    return found


async def make_user(store: Store, tenant: str) -> User:
    return await store.users.create(tenant, telegram_id=1)


async def test_a_tenant_with_a_due_reminder_is_named_until_it_is_claimed(
    store: Store, finder: Store, tenant: str, user: User
) -> None:
    await store.events.create(tenant, user.id, "Cita", PAST, reminder_minutes=5)

    before = await everybody(finder.work.tenants_with_due_reminders)
    await store.events.claim_due_reminders(tenant)
    after = await everybody(finder.work.tenants_with_due_reminders)

    assert tenant in before
    assert tenant not in after


async def test_what_is_to_come_or_is_over_names_nobody(store: Store, finder: Store, tenant: str, user: User) -> None:
    await store.events.create(tenant, user.id, "Cita", FUTURE, reminder_minutes=5)
    await store.notes.create(tenant, user.id, "Llamar", reminder_datetime=FUTURE)
    for change in ("delete", "complete"):
        event = await store.events.create(tenant, user.id, "Cita", PAST, reminder_minutes=5)
        await getattr(store.events, change)(tenant, event.id)
    note = await store.notes.create(tenant, user.id, "Llamar", reminder_datetime=PAST)
    await store.notes.delete(tenant, note.id)

    assert tenant not in await everybody(finder.work.tenants_with_due_reminders)
    assert tenant not in await everybody(finder.work.tenants_with_due_note_reminders)


async def test_a_note_reminds_of_itself_apart_from_events(store: Store, finder: Store, tenant: str, user: User) -> None:
    await store.notes.create(tenant, user.id, "Llamar", reminder_datetime=PAST)

    before = await everybody(finder.work.tenants_with_due_note_reminders)
    events = await everybody(finder.work.tenants_with_due_reminders)
    await store.notes.claim_due_reminders(tenant)
    after = await everybody(finder.work.tenants_with_due_note_reminders)

    assert tenant in before
    assert tenant not in events
    assert tenant not in after


async def test_a_tenant_with_a_conversation_that_nobody_goes_on_with_is_named_until_it_is_closed(
    store: Store, finder: Store, tenant: str, user: User, superuser: psycopg.Connection[Any]
) -> None:
    await store.conversations.get_or_create(tenant, user.id, "fresh")
    old = await store.conversations.get_or_create(tenant, user.id, "old")
    superuser.execute(
        "update thea.conversations set last_activity = now() - interval '25 hours' where tenant_id = %s and id = %s",
        [tenant, old.id],
    )

    before = await everybody(finder.work.tenants_with_inactive_conversations)
    closed = await store.conversations.close_inactive_by_policy(tenant)
    after = await everybody(finder.work.tenants_with_inactive_conversations)

    assert tenant in before
    assert closed == 1
    assert [one.session_id for one in await store.conversations.get_active(tenant, user.id)] == ["fresh"]
    assert tenant not in after


async def test_pages_go_through_all_names_in_one_order_each_once(
    store: Store, finder: Store, tenant: str, other_tenant: str
) -> None:
    names = [f"{tenant[:20]}{end}" for end in ("", "-á", "-Z", "_1", "-a")]
    for name in names:
        await store.notes.create(name, (await make_user(store, name)).id, "Llamar", reminder_datetime=PAST)

    found = await everybody(finder.work.tenants_with_due_note_reminders)

    assert len(found) == len(set(found))
    assert set(names) <= set(found)
    assert other_tenant not in found
    assert await finder.work.tenants_with_due_note_reminders(limit=1000) == found
    assert await finder.work.tenants_with("due_note_reminders", "due_note_reminders", after=found[-1]) == []


async def test_a_suspended_or_ended_tenant_is_skipped(store: Store, finder: Store, admin: Store, tenant: str) -> None:
    await store.notes.create(tenant, (await make_user(store, tenant)).id, "Llamar", reminder_datetime=PAST)
    await admin.tenants.create(tenant)

    active = await everybody(finder.work.tenants_with_due_note_reminders)
    await admin.tenants.suspend(tenant, "unpaid")
    suspended = await everybody(finder.work.tenants_with_due_note_reminders)
    await admin.tenants.end(tenant)
    ended = await everybody(finder.work.tenants_with_due_note_reminders)

    assert tenant in active
    assert tenant not in suspended
    assert tenant not in ended


async def test_a_kind_that_nobody_offers_is_refused_and_so_are_wrong_pages(finder: Store) -> None:
    with pytest.raises(InvalidArgumentError):
        await finder.work.tenants_with("due_reminders", "gardening")
    for limit in (0, 1001):
        with pytest.raises(InvalidArgumentError, match="^limit"):
            await finder.work.tenants_with_due_reminders(limit=limit)
    with pytest.raises(InvalidArgumentError, match="^after"):
        await finder.work.tenants_with_due_reminders(after="")


async def test_other_logins_may_not_ask(store: Store, admin: Store, tenant: str) -> None:
    for other in (store, admin):
        for call in (
            other.work.tenants_with_due_reminders(),
            other.work.tenants_with_expired_rows(),
            other.work.expire(tenant),
        ):
            with pytest.raises(InsufficientPrivilegeError, match="only a login in the group thea_worker"):
                await call
