"""What every repository offers, shown for each of them by the same tests."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.profiles import scaled
from thea_store import (
    DuplicateError,
    InvalidArgumentError,
    InvalidReferenceError,
    InvalidTenantError,
    NotFoundError,
    Store,
    User,
)
from thea_store.repositories.base import listed

Maker = Callable[[Store, str, int], Awaitable[dict[str, Any]]]


async def _user_row(_store: Store, _tenant: str, n: int) -> dict[str, Any]:
    return {"telegram_id": 5000 + n}


async def _conversation_row(store: Store, tenant: str, n: int) -> dict[str, Any]:
    user = await store.users.get_or_create_from_telegram(tenant, 1)
    return {"user_id": user.id, "session_id": f"session-{n}"}


async def _message_row(store: Store, tenant: str, n: int) -> dict[str, Any]:
    user = await store.users.get_or_create_from_telegram(tenant, 1)
    conversation = await store.conversations.get_or_create(tenant, user.id, "s")
    return {"user_id": user.id, "conversation_id": conversation.id, "user_message": f"hola {n}"}


async def _event_row(store: Store, tenant: str, n: int) -> dict[str, Any]:
    user = await store.users.get_or_create_from_telegram(tenant, 1)
    start = datetime(2026, 3, 1, 12, tzinfo=UTC) + timedelta(hours=n)
    return {"user_id": user.id, "title": f"event {n}", "start_datetime": start}


async def _note_row(store: Store, tenant: str, n: int) -> dict[str, Any]:
    user = await store.users.get_or_create_from_telegram(tenant, 1)
    return {"user_id": user.id, "content": f"note {n}", "tags": ["casa"]}


MAKERS: dict[str, Maker] = {
    "users": _user_row,
    "conversations": _conversation_row,
    "messages": _message_row,
    "events": _event_row,
    "notes": _note_row,
}
CHANGES: dict[str, dict[str, Any]] = {
    "users": {"first_name": "Ana"},
    "conversations": {"current_state": "busy"},
    "messages": {"bot_response": "¡hola!"},
    "events": {"location": "Sala 2"},
    "notes": {"title": "Compra"},
}
KEYS = {
    "users": "telegram_id",
    "conversations": "session_id",
    "messages": "user_message",
    "events": "title",
    "notes": "content",
}
PROTECTED = ["id", "tenant_id", "created_at", "updated_at", "deleted_at", "nonsense"]

every = pytest.mark.parametrize("name", sorted(MAKERS))


class Kind:
    """One repository, and how its rows are made."""

    def __init__(self, store: Store, tenant: str, name: str) -> None:
        self.store, self.tenant, self.name = store, tenant, name
        self.repository: Any = getattr(store, name)

    async def rows(self, *numbers: int) -> list[dict[str, Any]]:
        return [await MAKERS[self.name](self.store, self.tenant, n) for n in numbers]

    async def create(self, n: int = 0) -> Any:
        return await self.repository.create(self.tenant, **(await self.rows(n))[0])

    async def create_many(self, count: int) -> list[Any]:
        created: list[Any] = await self.repository.create_many(self.tenant, await self.rows(*range(count)))
        return created


@pytest.fixture
def kind(store: Store, tenant: str, name: str) -> Kind:
    return Kind(store, tenant, name)


@every
async def test_a_created_row_is_found(kind: Kind) -> None:
    row = await kind.create()

    assert await kind.repository.get_by_id(kind.tenant, row.id) == row
    assert await kind.repository.exists(kind.tenant, row.id) is True
    assert row.tenant_id == kind.tenant
    assert row.created_at.utcoffset() == timedelta(0)


@every
async def test_what_is_not_there_is_none_or_not_found(kind: Kind) -> None:
    missing = 2**62

    assert await kind.repository.get_by_id(kind.tenant, missing) is None
    assert await kind.repository.exists(kind.tenant, missing) is False
    for call in ("delete", "restore", "purge"):
        with pytest.raises(NotFoundError):
            await getattr(kind.repository, call)(kind.tenant, missing)
    with pytest.raises(NotFoundError):
        await kind.repository.update(kind.tenant, missing, **CHANGES[kind.name])


@every
async def test_another_tenants_row_is_exactly_a_row_that_is_not_there(kind: Kind, other_tenant: str) -> None:
    row = await kind.create()
    repository = kind.repository

    assert await repository.get_by_id(other_tenant, row.id) is None
    assert await repository.exists(other_tenant, row.id) is False
    assert await repository.count(other_tenant) == 0
    assert (await repository.get_all(other_tenant, include_deleted=True)).items == []
    assert [found async for found in repository.iterate(other_tenant)] == []
    for call in ("delete", "restore", "purge"):
        with pytest.raises(NotFoundError) as foreign:
            await getattr(repository, call)(other_tenant, row.id)
        with pytest.raises(NotFoundError) as absent:
            await getattr(repository, call)(other_tenant, 2**62)
        assert str(foreign.value) == str(absent.value)
    with pytest.raises(NotFoundError):
        await repository.update(other_tenant, row.id, **CHANGES[kind.name])
    assert await repository.get_by_id(kind.tenant, row.id) == row


@every
async def test_update_writes_the_given_fields_and_moves_updated_at(kind: Kind) -> None:
    row = await kind.create()
    changed = await kind.repository.update(kind.tenant, row.id, **CHANGES[kind.name])

    assert changed == row.model_copy(update=CHANGES[kind.name] | {"updated_at": changed.updated_at})
    assert changed.updated_at > row.updated_at
    assert await kind.repository.get_by_id(kind.tenant, row.id) == changed


@every
async def test_every_update_in_one_transaction_moves_updated_at(kind: Kind) -> None:
    row = await kind.create()
    async with kind.store.transaction(kind.tenant) as tx:
        repository = getattr(tx, kind.name)
        first = await repository.update(kind.tenant, row.id, **CHANGES[kind.name])
        second = await repository.update(kind.tenant, row.id, **CHANGES[kind.name])

    assert row.updated_at < first.updated_at < second.updated_at


@every
@pytest.mark.parametrize("field", PROTECTED)
async def test_update_refuses_other_fields_and_lists_the_ones_there_are(kind: Kind, field: str) -> None:
    row = await kind.create()

    with pytest.raises(InvalidArgumentError, match=f"^{field}: .*{next(iter(CHANGES[kind.name]))}"):
        await kind.repository.update(kind.tenant, row.id, **{field: 1})


@every
async def test_create_many_keeps_the_order_and_is_all_or_nothing(kind: Kind) -> None:
    rows = await kind.rows(*range(50))
    created = await kind.repository.create_many(kind.tenant, rows)
    key = KEYS[kind.name]
    assert [getattr(record, key) for record in created] == [row[key] for row in rows]
    assert [record.id for record in created] == sorted(record.id for record in created)

    before = await kind.repository.count(kind.tenant)
    broken = [*(await kind.rows(100, 101)), {**(await kind.rows(102))[0], "nonsense": 1}]
    with pytest.raises(InvalidArgumentError, match=r"^rows\[2\]\.nonsense"):
        await kind.repository.create_many(kind.tenant, broken)
    assert await kind.repository.count(kind.tenant) == before


@every
async def test_create_many_of_nothing_is_nothing(kind: Kind) -> None:
    assert await kind.repository.create_many(kind.tenant, []) == []


@every
@pytest.mark.parametrize("rows", [None, 5, "abc", {"a": 1}, [1]])
async def test_create_many_takes_a_list_of_mappings_alone(kind: Kind, rows: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="^rows"):
        await kind.repository.create_many(kind.tenant, rows)


@pytest.mark.parametrize("name", ["conversations", "messages", "events", "notes"])
async def test_a_parent_of_another_tenant_or_a_deleted_one_is_an_absent_one(kind: Kind, other_tenant: str) -> None:
    store = kind.store
    rows = {
        "absent": await kind.rows(0),
        "foreign": [await MAKERS[kind.name](store, other_tenant, 0)],
        "deleted": await kind.rows(0),
    }
    rows["absent"][0]["user_id"] = 2**62
    await store.users.delete(kind.tenant, rows["deleted"][0]["user_id"])
    before = await kind.repository.count(kind.tenant)
    messages = set()
    for given_rows in rows.values():
        with pytest.raises(InvalidReferenceError) as refused:
            await kind.repository.create(kind.tenant, **given_rows[0])
        messages.add(str(refused.value))
    fresh = await store.users.create(kind.tenant, telegram_id=99)
    good = {**rows["absent"][0], "user_id": fresh.id}
    if kind.name == "conversations":
        with pytest.raises(InvalidReferenceError):
            await kind.repository.create_many(kind.tenant, [good, rows["foreign"][0] | {"session_id": "z"}])

    assert len(messages) == 1
    assert await kind.repository.count(kind.tenant) == before


@every
async def test_delete_hides_and_restore_brings_back(kind: Kind) -> None:
    row = await kind.create()
    await kind.repository.delete(kind.tenant, row.id)

    assert await kind.repository.get_by_id(kind.tenant, row.id) is None
    assert await kind.repository.exists(kind.tenant, row.id) is False
    assert await kind.repository.count(kind.tenant) == 0
    assert (await kind.repository.get_all(kind.tenant)).items == []
    hidden = (await kind.repository.get_all(kind.tenant, include_deleted=True)).items
    assert [found.id for found in hidden] == [row.id]
    assert hidden[0].deleted_at is not None
    with pytest.raises(NotFoundError):
        await kind.repository.delete(kind.tenant, row.id)
    with pytest.raises(NotFoundError):
        await kind.repository.update(kind.tenant, row.id, **CHANGES[kind.name])

    restored = await kind.repository.restore(kind.tenant, row.id)
    assert restored == row.model_copy(update={"updated_at": restored.updated_at})
    assert await kind.repository.restore(kind.tenant, row.id) == restored


@every
async def test_purge_removes_for_good_also_what_was_deleted(kind: Kind) -> None:
    first, second = await kind.create(1), await kind.create(2)
    await kind.repository.delete(kind.tenant, first.id)
    for row in (first, second):
        await kind.repository.purge(kind.tenant, row.id)

    assert (await kind.repository.get_all(kind.tenant, include_deleted=True)).items == []
    with pytest.raises(NotFoundError):
        await kind.repository.restore(kind.tenant, first.id)


@every
async def test_the_audit_log_tells_the_life_of_a_row(kind: Kind, superuser: psycopg.Connection[Any]) -> None:
    row = await kind.create()
    await kind.repository.update(kind.tenant, row.id, **CHANGES[kind.name])
    await kind.repository.update(kind.tenant, row.id, **CHANGES[kind.name])  # changes nothing
    await kind.repository.delete(kind.tenant, row.id)
    await kind.repository.restore(kind.tenant, row.id)
    await kind.repository.purge(kind.tenant, row.id)
    table = "message_history" if kind.name == "messages" else kind.name
    entries = superuser.execute(
        "select action, after from thea.audit_log where tenant_id = %s and table_name = %s and row_id = %s order by at",
        [kind.tenant, table, row.id],
    ).fetchall()

    assert [action for action, _ in entries] == ["insert", "update", "delete", "restore", "purge"]
    assert entries[1][1] == CHANGES[kind.name]
    assert "tenant_id" not in entries[0][1]


# --- pages --------------------------------------------------------------------------------------


@every
@pytest.mark.parametrize("newest_first", [True, False])
async def test_pages_put_together_are_the_whole(kind: Kind, newest_first: bool) -> None:
    created = [row.id for row in await kind.create_many(7)]
    for limit in (1, 2, 3, 7, 8):
        seen: list[int] = []
        cursor, pages = None, 0
        while True:
            page = await kind.repository.get_all(kind.tenant, newest_first=newest_first, limit=limit, cursor=cursor)
            seen += [row.id for row in page.items]
            pages += 1
            assert len(page.items) <= limit
            if (cursor := page.next_cursor) is None:
                break

        assert seen == (created[::-1] if newest_first else created)
        assert pages == math.ceil(7 / limit)  # a last page that is full has no cursor, which would lead to an empty one


@every
async def test_a_page_is_stable_under_inserts_and_deletes(kind: Kind) -> None:
    old = [row.id for row in await kind.create_many(6)]
    first = await kind.repository.get_all(kind.tenant, limit=3)
    await kind.create(77)
    await kind.repository.purge(kind.tenant, old[3])  # the very row that the cursor stands on
    second = await kind.repository.get_all(kind.tenant, limit=10, cursor=first.next_cursor)

    assert [row.id for row in second.items] == old[:3][::-1]


@every
async def test_iterate_reads_all_and_holds_no_connection_in_between(kind: Kind) -> None:
    created = [row.id for row in await kind.create_many(7)]
    seen = []
    async for row in kind.repository.iterate(kind.tenant, batch_size=2):
        figures = kind.store._database.figures()
        assert figures.idle == figures.size
        seen.append(row.id)

    assert seen == created


@every
@pytest.mark.parametrize("limit", [0, -1, 1001, True, "5", 2.0, None])
async def test_a_limit_is_1_to_1000(kind: Kind, limit: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="^limit"):
        await kind.repository.get_all(kind.tenant, limit=limit)
    with pytest.raises(InvalidArgumentError, match="^batch_size"):
        await anext(kind.repository.iterate(kind.tenant, batch_size=limit))


@every
async def test_a_cursor_of_elsewhere_or_an_altered_one_is_refused(kind: Kind, other_tenant: str) -> None:
    await kind.create_many(3)
    cursor = (await kind.repository.get_all(kind.tenant, limit=1)).next_cursor
    assert isinstance(cursor, str)
    altered = [cursor[:n] + ("A" if cursor[n] != "A" else "B") + cursor[n + 1 :] for n in range(len(cursor))]

    for bad in ["", "x", "ñ" * 32, cursor + "A", cursor[:-1], 5, b"", *altered]:
        with pytest.raises(InvalidArgumentError, match="^cursor"):
            await kind.repository.get_all(kind.tenant, cursor=bad)
    with pytest.raises(InvalidArgumentError, match="^cursor"):
        await kind.repository.get_all(kind.tenant, cursor=cursor, newest_first=False)
    with pytest.raises(InvalidArgumentError, match="^cursor"):
        await kind.repository.get_all(other_tenant, cursor=cursor)
    assert await kind.repository.get_all(kind.tenant, cursor=cursor)


@every
async def test_an_unknown_filter_is_refused(kind: Kind) -> None:
    for call in (kind.repository.get_all, kind.repository.count):
        with pytest.raises(InvalidArgumentError, match="^colour: "):
            await call(kind.tenant, colour="red")


# --- what is refused before any I/O ---------------------------------------------------------------


@every
@pytest.mark.parametrize(
    "bad", ["", " a", "a ", "a\n", "\0", "a" * 51, "\u2003a", "\x7f", "\x85", "\ud800", None, 5, b"a", ["a"], True]
)
async def test_a_tenant_is_checked_first(kind: Kind, bad: Any) -> None:
    calls = [
        kind.repository.get_by_id(bad, 1),
        kind.repository.get_all(bad),
        kind.repository.count(bad),
        kind.repository.create_many(bad, []),
        kind.repository.update(bad, 1, **CHANGES[kind.name]),
        kind.repository.delete(bad, 1),
        kind.repository.restore(bad, 1),
        kind.repository.purge(bad, 1),
        anext(kind.repository.iterate(bad)),
    ]
    for call in calls:
        with pytest.raises(InvalidTenantError):
            await call


@pytest.mark.parametrize("good", ["a", "a" * 50, "ñandú 🦙", "it's; drop \\ \" -- table", "a b"])
async def test_a_tenant_may_be_any_other_text(store: Store, good: str) -> None:
    telegram_id = int.from_bytes(good.encode()[:4])
    user = await store.users.get_or_create_from_telegram(good, telegram_id)
    assert await store.users.get_by_id(good, user.id) == user

    async with store.transaction(good, actor=good, request_id=good) as tx:
        assert await tx.users.get_by_id(good, user.id) == user


@every
@pytest.mark.parametrize("bad", ["1", 1.0, None, True, 2**63, -(2**63) - 1, b"1"])
async def test_an_id_is_a_64_bit_integer(kind: Kind, bad: Any) -> None:
    for call in ("get_by_id", "exists", "delete", "restore", "purge"):
        with pytest.raises(InvalidArgumentError, match="^id"):
            await getattr(kind.repository, call)(kind.tenant, bad)
    with pytest.raises(InvalidArgumentError, match="^id"):
        await kind.repository.update(kind.tenant, bad, **CHANGES[kind.name])


# --- soft deletes hang together -------------------------------------------------------------------


async def _grown(store: Store, tenant: str) -> tuple[User, dict[str, list[int]]]:
    user = await store.users.create(tenant, telegram_id=1)
    await store.users.create(tenant, telegram_id=2)
    ids: dict[str, list[int]] = {"conversations": [], "messages": []}
    for session in ("a", "b"):
        for n in range(2):
            message = await store.messages.add_message(tenant, user.id, session, user_message=str(n))
            ids["messages"].append(message.id)
        ids["conversations"].append(message.conversation_id)
    return user, ids


async def _visible(store: Store, tenant: str) -> dict[str, set[int]]:
    names = ("users", "conversations", "messages")
    return {name: {row.id async for row in getattr(store, name).iterate(tenant)} for name in names}


async def test_deleting_a_user_hides_all_and_restoring_brings_back_exactly_that(store: Store, tenant: str) -> None:
    user, ids = await _grown(store, tenant)
    await store.messages.delete(tenant, ids["messages"][0])
    await store.conversations.delete(tenant, ids["conversations"][1])
    before = await _visible(store, tenant)
    await store.users.delete(tenant, user.id)

    assert (await _visible(store, tenant))["messages"] == set()
    assert (await _visible(store, tenant))["conversations"] == set()
    for name, hidden in ids.items():
        with pytest.raises(NotFoundError):
            await getattr(store, name).restore(tenant, hidden[0])

    await store.users.restore(tenant, user.id)
    assert await _visible(store, tenant) == before
    await store.conversations.restore(tenant, ids["conversations"][1])
    await store.messages.restore(tenant, ids["messages"][0])
    after = await _visible(store, tenant)
    assert after["messages"] == set(ids["messages"])
    assert after["conversations"] == set(ids["conversations"])


async def test_deletes_within_one_transaction_are_told_apart(store: Store, tenant: str) -> None:
    user, ids = await _grown(store, tenant)
    async with store.transaction(tenant) as tx:
        await tx.messages.delete(tenant, ids["messages"][0])
        await tx.conversations.delete(tenant, ids["conversations"][0])
        await tx.users.delete(tenant, user.id)
        await tx.users.restore(tenant, user.id)
        await tx.conversations.restore(tenant, ids["conversations"][0])

    assert (await _visible(store, tenant))["messages"] == set(ids["messages"][1:])


async def test_purging_a_user_removes_all_that_hung_on_it(
    store: Store, tenant: str, superuser: psycopg.Connection[Any]
) -> None:
    user, _ = await _grown(store, tenant)
    await store.users.purge(tenant, user.id)

    for table in ("conversations", "message_history"):
        count = superuser.execute(f"select count(*) from thea.{table} where tenant_id = %s", [tenant]).fetchone()
        assert count == (0,)


async def test_what_is_written_while_its_user_is_deleted_is_hidden_or_refused(store: Store, tenant: str) -> None:
    for n in range(10):
        user = await store.users.create(tenant, telegram_id=n)
        await store.conversations.get_or_create(tenant, user.id, f"s{n}")
        results = await asyncio.gather(
            store.users.delete(tenant, user.id),
            *(store.messages.add_message(tenant, user.id, f"s{n}", user_message=str(k)) for k in range(3)),
            store.conversations.create(tenant, user.id, f"new{n}"),
            return_exceptions=True,
        )
        assert {type(r) for r in results if isinstance(r, Exception)} <= {InvalidReferenceError}
        assert await store.messages.count(tenant, user_id=user.id) == 0
        assert await store.conversations.count(tenant, user_id=user.id) == 0


# --- properties -----------------------------------------------------------------------------------

_tenants = (f"paging-{n}" for n in itertools.count())


@settings(max_examples=scaled(15), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(deleted=st.lists(st.booleans(), max_size=12), limit=st.integers(1, 5), newest_first=st.booleans())
async def test_pages_of_any_size_over_any_deletions_are_the_live_rows(
    store: Store, deleted: list[bool], limit: int, newest_first: bool
) -> None:
    tenant = next(_tenants)
    rows = await store.users.create_many(tenant, [{"telegram_id": n} for n in range(len(deleted))])
    for row, gone in zip(rows, deleted, strict=True):
        if gone:
            await store.users.delete(tenant, row.id)
    live = [row.id for row, gone in zip(rows, deleted, strict=True) if not gone]
    seen: list[int] = []
    cursor: str | None = None
    while True:
        page = await store.users.get_all(tenant, limit=limit, cursor=cursor, newest_first=newest_first)
        seen += [row.id for row in page.items]
        if (cursor := page.next_cursor) is None:
            break

    assert seen == (live[::-1] if newest_first else live)
    assert await store.users.count(tenant) == len(live)


async def test_a_duplicate_is_named_by_its_fields_without_its_values(store: Store, tenant: str, user: User) -> None:
    with pytest.raises(DuplicateError) as caught:
        await store.users.create(tenant, telegram_id=1001)
    assert caught.value.fields == ("telegram_id",)
    assert "1001" not in str(caught.value)

    await store.conversations.create(tenant, user.id, "private-session")
    with pytest.raises(DuplicateError) as caught:
        await store.conversations.create(tenant, user.id, "private-session")
    assert caught.value.fields == ("session_id",)
    assert "private-session" not in str(caught.value)


async def test_times_are_kept_to_the_microsecond_and_come_back_in_utc(store: Store, tenant: str, user: User) -> None:
    madrid = datetime(2026, 3, 29, 10, 0, 0, 123456, tzinfo=UTC).astimezone()
    found = await store.users.update_last_activity(tenant, user.id, madrid)

    assert found.last_activity == madrid
    assert found.last_activity.tzinfo is UTC or found.last_activity.utcoffset() == timedelta(0)


def test_no_row_of_too_many_for_one_call_is_dropped() -> None:
    assert len(listed({} for _ in range(100_000))) == 100_000

    with pytest.raises(InvalidArgumentError, match="^rows: must be up to 100000 rows"):
        listed({} for _ in range(100_001))
