"""How long rows are kept: the policies, and what goes by them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from thea_store import InsufficientPrivilegeError, InvalidArgumentError, NotFoundError, Store, retention_worker
from thea_store.testing import TestDatabase

NOW = timedelta(0)


@pytest_asyncio.fixture
async def left(admin: Store, tenant: str) -> AsyncIterator[Store]:
    """The administrator's store; the policies of the tenant are gone afterwards."""
    yield admin
    for policy in await admin.retention.get_all():
        if policy.tenant == tenant:
            await admin.retention.remove(policy.table_name, policy.rule, tenant_id=tenant)


async def expire_all(finder: Store, tenant: str) -> int:
    batches = 0
    while await finder.work.expire(tenant):
        batches += 1
    return batches


def ids(superuser: psycopg.Connection[Any], table: str, tenant: str) -> set[int]:
    rows = superuser.execute(f"select id from thea.{table} where tenant_id = %s".encode(), [tenant])
    return {row[0] for row in rows}


async def test_deleted_rows_go_when_their_time_is_over_and_no_others(
    store: Store, finder: Store, left: Store, tenant: str, superuser: psycopg.Connection[Any]
) -> None:
    user = await store.users.create(tenant, telegram_id=1)
    notes = [await store.notes.create(tenant, user.id, content) for content in "abc"]
    await store.notes.delete(tenant, notes[0].id)
    await store.notes.delete(tenant, notes[1].id)
    superuser.execute(
        "update thea.notes set deleted_at = now() - interval '31 days' where tenant_id = %s and id = %s",
        [tenant, notes[0].id],
    )
    await left.retention.keep("notes", "deleted", timedelta(days=30), tenant_id=tenant)

    assert tenant in await finder.work.tenants_with_expired_rows(limit=1000)
    assert await expire_all(finder, tenant) == 1
    assert tenant not in await finder.work.tenants_with_expired_rows(limit=1000)
    assert ids(superuser, "notes", tenant) == {notes[1].id, notes[2].id}
    [entry] = (await store.audit.get_all(tenant, actor="retention")).items
    assert (entry.action, entry.table_name, entry.row_id) == ("purge", "notes", notes[0].id)


async def test_a_tenants_own_policy_counts_before_that_of_all(
    store: Store, finder: Store, left: Store, tenant: str, superuser: psycopg.Connection[Any]
) -> None:
    other_tenant = f"other-{tenant[-16:]}"
    for name in (tenant, other_tenant):
        user = await store.users.create(name, telegram_id=1)
        await store.messages.add_message(name, user.id, "s", user_message="Hola")
    await left.retention.keep("message_history", "old", NOW)
    try:
        await left.retention.keep("message_history", "old", None, tenant_id=tenant)
        found = await finder.work.tenants_with_expired_rows(limit=1000)
        batches = [await expire_all(finder, name) for name in (tenant, other_tenant)]
    finally:
        await left.retention.remove("message_history", "old")

    assert tenant not in found
    assert other_tenant in found
    assert batches == [0, 1]
    assert len(ids(superuser, "message_history", tenant)) == 1
    assert not ids(superuser, "message_history", other_tenant)


async def test_a_batch_is_bounded_and_rows_go_before_those_that_they_hang_on(
    store: Store, finder: Store, left: Store, tenant: str, superuser: psycopg.Connection[Any]
) -> None:
    user = await store.users.create(tenant, telegram_id=1)
    await store.notes.create_many(tenant, [{"user_id": user.id, "content": str(n)} for n in range(501)])
    await store.users.delete(tenant, user.id)
    for table in ("users", "notes"):
        await left.retention.keep(table, "deleted", NOW, tenant_id=tenant)

    sizes = []
    while await finder.work.expire(tenant):
        sizes.append((len(ids(superuser, "notes", tenant)), len(ids(superuser, "users", tenant))))

    assert sizes == [(1, 1), (0, 1), (0, 0)]


async def test_the_audit_log_is_shortened_and_says_so(
    store: Store, finder: Store, left: Store, tenant: str, superuser: psycopg.Connection[Any]
) -> None:
    user = await store.users.create(tenant, telegram_id=1)
    await store.notes.create_many(tenant, [{"user_id": user.id, "content": str(n)} for n in range(520)])
    [last] = (await store.audit.get_all(tenant, limit=1)).items
    await left.retention.keep("audit_log", "old", timedelta(days=365), tenant_id=tenant)
    assert await expire_all(finder, tenant) == 0
    superuser.execute("set session_replication_role = replica")
    superuser.execute(
        "update thea.audit_log set at = at - interval '2 years' where tenant_id = %s and id <> %s", [tenant, last.id]
    )
    superuser.execute("reset session_replication_role")

    assert tenant in await finder.work.tenants_with_expired_rows(limit=1000)
    assert await expire_all(finder, tenant) == 2
    entries = (await store.audit.get_all(tenant)).items
    assert last in entries
    told = [entry for entry in entries if entry != last]
    assert [(entry.actor, entry.action, entry.table_name) for entry in told] == [
        ("retention", "purge", "audit_log")
    ] * 2
    assert sorted(entry.before["entries"] for entry in told if entry.before) == [20, 500]


async def test_what_tells_of_a_shortened_log_goes_in_its_own_time_without_an_end(
    store: Store, finder: Store, left: Store, tenant: str
) -> None:
    await store.users.create(tenant, telegram_id=1)
    await left.retention.keep("audit_log", "old", NOW, tenant_id=tenant)

    assert await expire_all(finder, tenant) == 2
    assert (await store.audit.get_all(tenant)).items == []


async def test_whose_session_it_is_does_not_matter_and_stays(
    store: Store, left: Store, tenant: str, thea_database: TestDatabase, superuser: psycopg.Connection[Any]
) -> None:
    user = await store.users.create(tenant, telegram_id=1)
    await store.users.delete(tenant, user.id)
    await left.retention.keep("users", "deleted", NOW, tenant_id=tenant)
    with psycopg.connect(thea_database.url_of("thea_worker")) as connection:
        connection.execute(
            "select set_config('app.tenant_id', 'somebody', false), set_config('app.actor', 'me', false)"
        )
        done = connection.execute("select thea.expire_rows(%s)", [tenant]).fetchone()
        kept = connection.execute("select current_setting('app.tenant_id'), current_setting('app.actor')").fetchone()

    assert done == (True,)
    assert kept == ("somebody", "me")
    assert not ids(superuser, "users", tenant)
    [entry] = (await store.audit.get_all(tenant, actor="retention")).items
    assert entry.action == "purge"


async def test_a_worker_does_it_for_all_tenants(
    store: Store, finder: Store, left: Store, superuser: psycopg.Connection[Any]
) -> None:
    names = [f"r-{uuid.uuid4().hex[:12]}" for _ in range(7)]
    for name in names:
        user = await store.users.create(name, telegram_id=1)
        await store.users.delete(name, user.id)
        await left.retention.keep("users", "deleted", NOW, tenant_id=name)

    report = await retention_worker(finder.work, concurrency=3).run_once()
    for name in names:
        await left.retention.remove("users", "deleted", tenant_id=name)

    assert not any(ids(superuser, "users", name) for name in names)
    assert (report.pieces >= len(names), report.failures) == (True, 0)


async def test_policies_are_listed_replaced_and_removed(left: Store, tenant: str) -> None:
    made = await left.retention.keep("notes", "deleted", timedelta(days=30), tenant_id=tenant)
    again = await left.retention.keep("notes", "deleted", timedelta(days=60), tenant_id=tenant)

    assert made.keep == timedelta(days=30)
    assert again == made.model_copy(update={"keep": timedelta(days=60)})
    listed = await left.retention.get_all()
    assert again in listed
    assert made not in listed
    assert await left.retention.remove("notes", "deleted", tenant_id=tenant) == again
    with pytest.raises(NotFoundError):
        await left.retention.remove("notes", "deleted", tenant_id=tenant)


async def test_an_inactive_conversation_is_closed_when_its_tenants_policy_says_so(
    store: Store, finder: Store, left: Store, tenant: str
) -> None:
    user = await store.users.create(tenant, telegram_id=1)
    await store.conversations.get_or_create(tenant, user.id, "s")
    assert tenant not in await finder.work.tenants_with_inactive_conversations(limit=1000)

    await left.retention.keep("conversations", "inactive", NOW, tenant_id=tenant)
    assert tenant in await finder.work.tenants_with_inactive_conversations(limit=1000)
    await left.retention.keep("conversations", "inactive", None, tenant_id=tenant)
    assert tenant not in await finder.work.tenants_with_inactive_conversations(limit=1000)
    assert await store.conversations.close_inactive_by_policy(tenant) == 0


async def test_what_cannot_be_a_policy_is_refused_by_name(admin: Store, tenant: str) -> None:
    with pytest.raises(
        InvalidArgumentError,
        match=r"^table: is not known; these are: activity_log\.administration, .*, audit_log, .*conv",
    ):
        await admin.retention.keep("thea.notes", "deleted", NOW, tenant_id=tenant)
    with pytest.raises(InvalidArgumentError, match="^rule"):
        await admin.retention.keep("notes", "gone", NOW, tenant_id=tenant)  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="^rule: must be `old`"):
        await admin.retention.keep("audit_log", "deleted", NOW, tenant_id=tenant)
    with pytest.raises(InvalidArgumentError, match="^rule: .*only conversations"):
        await admin.retention.keep("notes", "inactive", NOW, tenant_id=tenant)
    with pytest.raises(InvalidArgumentError, match="^keep"):
        await admin.retention.keep("notes", "deleted", timedelta(days=-1), tenant_id=tenant)


async def test_only_an_administrator_sets_policies(store: Store, finder: Store, tenant: str) -> None:
    for other in (store, finder):
        with pytest.raises(InsufficientPrivilegeError, match="only a login in the group thea_admin"):
            await other.retention.keep("notes", "deleted", NOW, tenant_id=tenant)
    with pytest.raises(InsufficientPrivilegeError):
        await finder.retention.get_all()


# What a session may have printed to it of whatever it runs, at any depth.
_TALKATIVE = (
    "set client_min_messages = debug1; set debug_print_plan = on; set debug_print_parse = on;"
    " set debug_print_rewritten = on; set debug_pretty_print = off"
)
MARK = "quetzal"


async def test_a_worker_is_printed_no_row_that_it_has_removed_and_no_read_that_it_has_chained(
    store: Store, left: Store, tenant: str, superuser: psycopg.Connection[Any], thea_database: TestDatabase
) -> None:
    user = await store.users.create(tenant, telegram_id=1, first_name=MARK)
    await store.messages.add_message(tenant, user.id, "s", user_message=MARK, intent_detected=MARK)
    for table in ("message_history", "audit_log", "activity_log.reads"):
        await left.retention.keep(table, "old", NOW, tenant_id=tenant)
    noted = (
        f"insert into thea.noted_reads (tenant, at, login, actor, action, details) values (%s, now(), 'x', '{MARK}',"
    )
    for _ in range(2):
        superuser.execute(f"{noted} 'read', '{{}}')".encode(), [tenant])
    printed: list[str] = []
    with psycopg.connect(thea_database.url_of("thea_worker"), autocommit=True) as worker:
        worker.add_notice_handler(lambda told: printed.append(f"{told.message_primary} {told.message_detail}"))
        worker.execute(_TALKATIVE.encode())
        for function in ("expire_rows", "expire_audit", "chain_reads", "expire_activity"):
            assert worker.execute(f"select thea.{function}(%s)".encode(), [tenant]).fetchone() == (True,), function

    # A constant is printed by its bytes.
    told = " ".join(" ".join(printed).split())
    assert "PLANNEDSTMT" in told
    assert MARK not in told
    assert " ".join(str(byte) for byte in MARK.encode()) not in told
