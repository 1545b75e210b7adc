"""Uses the public API as a service would; never run, but judged by mypy --strict and pyright.

Each `assert_type` fails the type check when a signature changes.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from datetime import datetime, timedelta
from typing import Any, assert_type

from thea_store import (
    AuditEntry,
    Call,
    Conversation,
    DuplicateError,
    Erasure,
    Event,
    EventOccurrence,
    Health,
    JsonFormatter,
    Message,
    MessageStatistics,
    MigrationRequiredError,
    Note,
    NoteHit,
    Page,
    PerformanceReport,
    QuotaExceededError,
    Reminder,
    RetentionPolicy,
    Settings,
    Store,
    StoreError,
    StoreTransaction,
    Tenant,
    TenantSuspendedError,
    TenantUsage,
    User,
    UserOverview,
    Worker,
    WorkReport,
    inactivity_worker,
    reminder_worker,
    retention_worker,
    statistics_worker,
)
from thea_store.embedded import EmbeddedPostgres
from thea_store.telemetry import otel, prometheus


async def opening() -> None:
    async with Store.open() as store:
        assert_type(store, Store)
    async with Store.open(Settings(url="postgresql://…", pool_size=5, tenant_scope="transaction")) as store:
        assert_type(await store.ping(timeout=1.0), float)
        assert_type(await store.health(), Health)
    store = await Store.open("postgresql://…")
    await store.close(timeout=1.0)
    try:
        await Store.open("embedded:")
    except MigrationRequiredError as error:
        assert_type(error.pending, tuple[str, ...])
    except DuplicateError as error:
        assert_type(error.fields, tuple[str, ...])
    except StoreError as error:
        assert_type(error.repeatable, bool)


async def telemetry(store: Store) -> None:
    def callback(call: Call) -> None:
        assert_type(call.query, str)
        assert_type(call.seconds, float)
        assert_type(call.rows, int)
        assert_type(call.error, BaseException | None)

    assert_type(store.on_call(callback), Callable[[], None])
    assert_type(prometheus.instrument(store), Callable[[], None])
    assert_type(otel.instrument(store, tenants=True, histograms=True), Callable[[], None])
    logging.StreamHandler().setFormatter(JsonFormatter())


async def embedded() -> None:
    async with EmbeddedPostgres("path") as server:
        assert_type(server.superuser_url, str)
        assert_type(server.app_url, str)
        assert_type(server.migrator_url, str)
        assert_type(server.worker_url, str)


async def transactions(store: Store) -> None:
    async with store.transaction(
        "acme", actor="user:12", request_id="r", isolation="serializable", read_only=False
    ) as tx:
        assert_type(tx, StoreTransaction)
        assert_type(await tx.users.get_by_id("acme", 1), User | None)
        async with tx.savepoint():
            await tx.conversations.update_state("acme", 1, "idle")

    async def work(tx: StoreTransaction) -> int:
        return await tx.users.count("acme")

    assert_type(await store.run("acme", work, retry=3, actor="user:12", read_only=True), int)


async def users(store: Store, at: datetime) -> None:
    u = store.users
    assert_type(await u.get_by_id("acme", 1), User | None)
    page = await u.get_all(
        "acme",
        is_active=True,
        language_code="es",
        active_since=at,
        newest_first=False,
        limit=10,
        cursor=None,
        include_deleted=True,
    )
    assert_type(page, Page[User])
    assert_type(page.items, list[User])
    assert_type(page.next_cursor, str | None)
    assert_type(u.iterate("acme", is_active=True, batch_size=100), AsyncIterator[User])
    async for user in u.iterate("acme"):
        assert_type(user, User)
    assert_type(await u.count("acme", language_code="es"), int)
    assert_type(await u.exists("acme", 1), bool)
    assert_type(
        await u.create(
            "acme",
            telegram_id=1,
            username=None,
            first_name="Ana",
            last_name=None,
            language_code="es",
            timezone="Europe/Madrid",
            preferences={"a": 1},
        ),
        User,
    )
    assert_type(await u.create_many("acme", [{"telegram_id": 1}]), list[User])
    assert_type(await u.update("acme", 1, first_name=None, preferences={"a": [1]}), User)
    assert_type(await u.delete("acme", 1), None)
    assert_type(await u.restore("acme", 1), User)
    assert_type(await u.purge("acme", 1), None)
    assert_type(await u.get_by_telegram_id("acme", 1), User | None)
    assert_type(await u.get_or_create_from_telegram("acme", 1, username="ana"), User)
    assert_type(await u.update_last_activity("acme", 1, at), User)
    assert_type(await u.get_preferences("acme", 1), dict[str, Any])
    assert_type(await u.merge_preferences("acme", 1, {"a": None}), dict[str, Any])


async def conversations(store: Store, at: datetime) -> None:
    c = store.conversations
    assert_type(await c.get_by_id("acme", 1), Conversation | None)
    assert_type(await c.get_all("acme", user_id=1, current_state="idle", is_active=True), Page[Conversation])
    assert_type(c.iterate("acme", user_id=1), AsyncIterator[Conversation])
    assert_type(await c.count("acme", is_active=False), int)
    assert_type(await c.create("acme", 1, "s", current_state="x", context_data={}), Conversation)
    assert_type(await c.create_many("acme", [{"user_id": 1, "session_id": "s"}]), list[Conversation])
    assert_type(await c.update("acme", 1, context_data={"a": 1}, is_active=False), Conversation)
    assert_type(await c.get_by_session_id("acme", "s"), Conversation | None)
    assert_type(await c.get_or_create("acme", 1, "s"), Conversation)
    assert_type(await c.update_state("acme", 1, "asking", {"a": None}, expected_state="idle"), Conversation)
    assert_type(await c.get_active("acme", 1), list[Conversation])
    assert_type(await c.close_conversation("acme", 1), Conversation)
    assert_type(await c.get_inactive_since("acme", at, limit=10), list[Conversation])
    assert_type(await c.close_inactive("acme", at), int)
    assert_type(await c.close_inactive_by_policy("acme", limit=100), int)


async def messages(store: Store, at: datetime) -> None:
    m = store.messages
    assert_type(await m.get_by_id("acme", 1), Message | None)
    assert_type(
        await m.get_all("acme", user_id=1, conversation_id=1, intent="x", message_id=7, created_from=at, limit=5),
        Page[Message],
    )
    assert_type(await m.create("acme", 1, 2, "hola", bot_response="¡hola!", created_at=at), Message)
    assert_type(await m.update("acme", 1, confidence_score=0.5, entities_extracted=None), Message)
    assert_type(
        await m.add_message(
            "acme",
            1,
            "s",
            user_message="hola",
            bot_response=None,
            message_id=77,
            intent_detected="saludo",
            entities_extracted={"a": 1},
            confidence_score=0.9,
            processing_time_ms=12,
        ),
        Message,
    )
    assert_type(await m.add_message_with_prune("acme", 1, "s", user_message="hola", keep=20), Message)
    assert_type(await m.get_by_message_id("acme", "s", 77), Message | None)
    assert_type(await m.plan_for_sizes("acme"), None)
    assert_type(await m.get_context_window("acme", "s", limit=10), list[Message])
    assert_type(await m.get_by_intent("acme", "saludo", user_id=1, limit=10), list[Message])
    assert_type(await m.get_statistics("acme", 1), MessageStatistics)
    assert_type(await m.analyze_performance("acme", 24, slow_ms=500, low_confidence=0.4), PerformanceReport)
    assert_type(await m.delete_old_messages("acme", at), int)


async def overview(store: Store) -> None:
    found = await store.users.get_with("acme", 1, notes=5, events=5, conversations=1, messages=20)
    assert_type(found, UserOverview | None)
    if found is not None:
        assert_type(found.user, User)
        assert_type(found.notes, list[Note])
        assert_type(found.events, list[Event])
        assert_type(found.conversations, list[Conversation])
        assert_type(found.messages, list[Message])


async def events(store: Store, at: datetime) -> None:
    e = store.events
    assert_type(await e.get_by_id("acme", 1), Event | None)
    assert_type(
        await e.get_all(
            "acme",
            user_id=1,
            event_type="event",
            category="salud",
            status="scheduled",
            starts_from=at,
            starts_before=at,
        ),
        Page[Event],
    )
    assert_type(e.iterate("acme", user_id=1), AsyncIterator[Event])
    assert_type(await e.count("acme", status="cancelled"), int)
    assert_type(
        await e.create(
            "acme",
            1,
            "Dentista",
            at,
            end_datetime=at,
            description=None,
            location="Calle Mayor 1",
            event_type="event",
            category="salud",
            status="scheduled",
            reminder_minutes=60,
            recurrence_rule="FREQ=WEEKLY;BYDAY=MO",
            all_day=False,
            external_id="google-1",
            extra_data={"a": 1},
        ),
        Event,
    )
    rows: list[dict[str, Any]] = [{"user_id": 1, "title": "x", "start_datetime": at}]
    assert_type(await e.create_many("acme", rows), list[Event])
    assert_type(await e.update("acme", 1, location=None, reminder_minutes=5), Event)
    assert_type(await e.get_upcoming("acme", 1, 14, now=at, limit=10), list[EventOccurrence])
    for occurrence in await e.get_by_date_range("acme", 1, at, at, limit=10):
        assert_type(occurrence.is_recurring, bool)
        assert_type(occurrence.start_datetime, datetime)
    assert_type(await e.get_by_location("acme", 1, "mayor"), list[Event])
    assert_type(await e.get_by_category("acme", 1, "salud"), list[Event])
    assert_type(await e.find_conflicts("acme", 1, at, at, exclude_event_id=2), list[EventOccurrence])
    assert_type(await e.upsert_external("acme", 1, "google-1", "Dentista", at, location="x"), Event)
    assert_type(await e.claim_due_reminders("acme", now=at, limit=10), list[EventOccurrence])
    assert_type(await e.skip("acme", 1, at), Event)
    assert_type(await e.complete("acme", 1), Event)
    assert_type(await e.cancel("acme", 1), Event)


async def notes(store: Store, at: datetime) -> None:
    n = store.notes
    assert_type(await n.get_by_id("acme", 1), Note | None)
    assert_type(
        await n.get_all(
            "acme", user_id=1, category="casa", is_pinned=True, tags=["a"], created_from=at, created_before=at
        ),
        Page[Note],
    )
    assert_type(
        await n.create(
            "acme",
            1,
            "Comprar pan",
            title=None,
            category="casa",
            priority=1,
            tags=("compra",),
            is_pinned=False,
            reminder_datetime=at,
            extra_data=None,
        ),
        Note,
    )
    assert_type(await n.update("acme", 1, title="x", tags=["a"]), Note)
    for hit in await n.search("acme", 1, 'pan -leche "de molde"', limit=5):
        assert_type(hit, NoteHit)
        assert_type(hit.rank, float)
        assert_type(hit.snippet, str)
    assert_type(await n.get_by_tags("acme", 1, ["a", "b"], match_all=True), list[Note])
    assert_type(await n.get_by_category("acme", 1, "casa"), list[Note])
    assert_type(await n.add_tags("acme", 1, ["a"]), Note)
    assert_type(await n.remove_tags("acme", 1, ["a"]), Note)
    assert_type(await n.toggle_pin("acme", 1), Note)
    assert_type(await n.tag_counts("acme", 1), dict[str, int])
    assert_type(await n.claim_due_reminders("acme", now=at, limit=10), list[Note])


async def work(finder: Store, store: Store, told: list[str]) -> None:
    assert_type(await finder.work.tenants_with_due_reminders(limit=10, after="acme"), list[str])
    assert_type(await finder.work.tenants_with_due_note_reminders(), list[str])
    assert_type(await finder.work.tenants_with_inactive_conversations(), list[str])
    assert_type(await finder.work.tenants_with_expired_rows(), list[str])
    assert_type(await finder.work.tenants_with("due_reminders", "planner.due_tasks", limit=10), list[str])
    assert_type(await finder.work.expire("acme"), bool)
    assert_type(await finder.work.tenants_with_uncounted_messages(limit=10, after="acme"), list[str])
    assert_type(await finder.work.fold_messages("acme"), bool)

    async def handle(tx: StoreTransaction, reminder: Reminder) -> None:
        told.append(reminder.tenant_id)
        if isinstance(reminder, EventOccurrence):
            await tx.notes.create(reminder.tenant_id, reminder.user_id, reminder.title)

    def on_error(tenant_id: str | None, error: Exception) -> None:
        told.append(f"{tenant_id}: {error}")

    worker = reminder_worker(finder.work, store, handle, concurrency=8, pause=5.0, on_error=on_error)
    worker.stop()
    report = await worker.run()
    assert_type(report, WorkReport)
    assert_type(report.pieces, int)
    assert_type(inactivity_worker(finder.work, store, pause=60), Worker)
    assert_type(await retention_worker(finder.work).run_once(), WorkReport)
    assert_type(await statistics_worker(finder.work).run_once(), WorkReport)

    async def do(tenant_id: str) -> bool:
        return bool(await store.events.claim_due_reminders(tenant_id))

    assert_type(Worker(finder.work.tenants_with_due_reminders, do), Worker)


async def retention(admin: Store) -> None:
    month = timedelta(days=30)
    assert_type(await admin.retention.keep("notes", "deleted", month, tenant_id="acme"), RetentionPolicy)
    for policy in await admin.retention.get_all():
        assert_type(policy.keep, timedelta | None)
        assert_type(await admin.retention.remove(policy.table_name, policy.rule), RetentionPolicy)


async def people(store: Store) -> None:
    async for row in store.people.export("acme", 1):
        assert_type(row, dict[str, Any])
    erasure = await store.people.erase("acme", 1, reason="letter of May", with_others=False)
    assert_type(erasure, Erasure)
    assert_type(erasure.counts, dict[str, int])
    assert_type(await store.people.get_erasures("acme", user_id=1, limit=5, cursor=None), Page[Erasure])
    async with store.transaction("acme", actor="office:1") as tx:
        assert_type(await tx.people.erase("acme", 1, reason="letter of May"), Erasure)
    with store.acting(actor="user:12", request_id="r-1"):
        await store.notes.purge("acme", 1)


async def audit(store: Store) -> None:
    assert_type(await store.audit.get_for("acme", "notes", 1), list[AuditEntry])
    assert_type(
        await store.audit.get_all("acme", actor="user:1", table="users", limit=5, cursor=None), Page[AuditEntry]
    )


async def tenants(admin: Store) -> None:
    tenants = admin.tenants
    assert_type(await tenants.create("acme", name=None, limits={"text_bytes": 10_000_000}), Tenant)
    assert_type(await tenants.get("acme"), Tenant | None)
    assert_type(await tenants.get_all(status="suspended", limit=5, cursor=None), Page[Tenant])
    assert_type(await tenants.update("acme", name="Acme", limits={}, settings={"plan": "large"}), Tenant)
    assert_type(await tenants.rename("acme", "Acme"), Tenant)
    assert_type(await tenants.suspend("acme", "unpaid"), Tenant)
    assert_type(await tenants.resume("acme"), Tenant)
    assert_type(await tenants.end("acme"), Tenant)
    assert_type(await tenants.update("acme", limits={"rows": {"notes": 100}}), Tenant)
    assert_type(await tenants.usage("acme"), TenantUsage)
    try:
        await admin.users.count("acme")
    except TenantSuspendedError as error:
        assert_type(error.repeatable, bool)
    except QuotaExceededError as error:
        assert_type((error.limit, error.allowed, error.table), tuple[str, int, str | None])


def records_refuse_assignment(page: Page[Note], hit: NoteHit, occurrence: EventOccurrence, entry: AuditEntry) -> None:
    page.next_cursor = None  # type: ignore[misc]
    page.items[0].title = "x"  # type: ignore[misc]
    hit.rank = 1.0  # type: ignore[misc]
    hit.content = "x"  # type: ignore[misc]
    occurrence.is_recurring = True  # type: ignore[misc]
    entry.actor = None  # type: ignore[misc]
