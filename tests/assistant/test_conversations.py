from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from thea_store import (
    ConflictError,
    Conversation,
    DuplicateError,
    InvalidArgumentError,
    InvalidReferenceError,
    NotFoundError,
    Store,
    StoreTransaction,
    User,
)

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


async def silent_since(store: Store, tenant: str, conversation: Conversation, moment: datetime) -> None:
    await store.conversations.update(tenant, conversation.id, last_activity=moment)


async def test_a_new_conversation_is_open_and_idle(store: Store, tenant: str, user: User) -> None:
    conversation = await store.conversations.create(tenant, user.id, "s")

    assert (conversation.user_id, conversation.session_id) == (user.id, "s")
    assert (conversation.current_state, conversation.context_data, conversation.is_active) == ("idle", {}, True)
    assert conversation.last_message_id is None
    assert await store.conversations.get_by_session_id(tenant, "s") == conversation
    assert await store.conversations.get_by_session_id(tenant, "other") is None


async def test_many_openings_at_once_make_one_conversation(store: Store, tenant: str, user: User) -> None:
    found = await asyncio.gather(*(store.conversations.get_or_create(tenant, user.id, "s") for _ in range(30)))

    assert len({conversation.id for conversation in found}) == 1
    assert await store.conversations.count(tenant) == 1


async def test_a_closed_conversation_is_opened_again_with_its_state(store: Store, tenant: str, user: User) -> None:
    conversation = await store.conversations.create(tenant, user.id, "s", current_state="x", context_data={"a": 1})
    closed = await store.conversations.close_conversation(tenant, conversation.id)
    assert closed.is_active is False

    opened = await store.conversations.get_or_create(tenant, user.id, "s")
    assert (opened.id, opened.is_active, opened.current_state) == (conversation.id, True, "x")
    assert opened.context_data == {"a": 1}


async def test_a_closed_conversation_goes_on_in_its_state_whatever_closed_and_opens_it(
    store: Store, tenant: str, user: User
) -> None:
    async def close(conversation: Conversation) -> None:
        await store.conversations.close_conversation(tenant, conversation.id)

    async def close_inactive(conversation: Conversation) -> None:
        await silent_since(store, tenant, conversation, LONG_AGO)
        assert await store.conversations.close_inactive(tenant, LONG_AGO + timedelta(days=1)) == 1

    async def ask(session: str) -> None:
        await store.conversations.get_or_create(tenant, user.id, session)

    async def write(session: str) -> None:
        await store.messages.add_message(tenant, user.id, session, user_message="hola")

    for number, (closing, opening) in enumerate(itertools.product((close, close_inactive), (ask, write))):
        session = f"s{number}"
        made = await store.conversations.create(tenant, user.id, session, current_state="x", context_data={"a": 1})
        await closing(made)
        closed = await store.conversations.get_by_session_id(tenant, session)
        assert closed is not None
        assert (closed.is_active, closed.current_state, closed.context_data) == (False, "x", {"a": 1})

        await opening(session)
        opened = await store.conversations.get_by_session_id(tenant, session)
        assert opened is not None
        assert (opened.id, opened.is_active) == (made.id, True)
        assert (opened.current_state, opened.context_data) == ("x", {"a": 1})


async def test_a_deleted_conversation_begins_anew_and_its_messages_stay_deleted(
    store: Store, tenant: str, user: User
) -> None:
    old = await store.conversations.create(tenant, user.id, "s", current_state="paying", context_data={"card": 1})
    message = await store.messages.add_message(tenant, user.id, "s", user_message="hola", message_id=7)
    await store.conversations.close_conversation(tenant, old.id)
    await store.conversations.delete(tenant, old.id)
    assert await store.conversations.get_by_session_id(tenant, "s") is None

    begun = await asyncio.gather(*(store.conversations.get_or_create(tenant, user.id, "s") for _ in range(4)))
    found = await store.conversations.get_by_session_id(tenant, "s")
    assert found is not None
    assert {one.id for one in begun} == {found.id}
    assert (found.current_state, found.context_data, found.is_active) == ("idle", {}, True)
    assert found.last_message_id is None
    assert found.started_at > message.created_at
    assert await store.messages.get_by_id(tenant, message.id) is None
    assert await store.messages.count(tenant) == 0
    assert [one async for one in store.messages.iterate(tenant)] == []


@pytest.mark.parametrize("in_one_transaction", [False, True])
async def test_a_restore_brings_back_what_the_last_delete_hid_and_not_what_an_earlier_one_did(
    store: Store, tenant: str, user: User, *, in_one_transaction: bool
) -> None:
    async def delete_twice(db: Store | StoreTransaction) -> int:
        first = await db.messages.add_message(tenant, user.id, "s", user_message="first", message_id=7)
        await db.conversations.delete(tenant, first.conversation_id)
        second = await db.messages.add_message(tenant, user.id, "s", user_message="second", message_id=7)
        await db.conversations.delete(tenant, second.conversation_id)
        await db.conversations.restore(tenant, second.conversation_id)
        return second.conversation_id

    if in_one_transaction:
        async with store.transaction(tenant) as tx:
            conversation_id = await delete_twice(tx)
    else:
        conversation_id = await delete_twice(store)

    assert [m.user_message for m in await store.messages.get_context_window(tenant, "s")] == ["second"]
    assert await store.messages.count(tenant, conversation_id=conversation_id) == 1
    await store.users.delete(tenant, user.id)
    await store.users.restore(tenant, user.id)
    assert [m.user_message for m in await store.messages.get_context_window(tenant, "s")] == ["second"]


@pytest.mark.parametrize("in_one_transaction", [False, True])
@pytest.mark.parametrize("returning", [False, True])
async def test_a_user_who_comes_back_does_not_bring_what_an_earlier_delete_of_a_conversation_hid(
    store: Store, tenant: str, user: User, *, in_one_transaction: bool, returning: bool
) -> None:
    async def come_back(db: Store | StoreTransaction) -> None:
        first = await db.messages.add_message(tenant, user.id, "s", user_message="first", message_id=7)
        await db.conversations.delete(tenant, first.conversation_id)
        await db.messages.add_message(tenant, user.id, "s", user_message="second", message_id=7)
        await db.users.delete(tenant, user.id)
        if returning:
            await db.users.get_or_create_from_telegram(tenant, user.telegram_id)
        else:
            await db.users.restore(tenant, user.id)

    if in_one_transaction:
        async with store.transaction(tenant) as tx:
            await come_back(tx)
    else:
        await come_back(store)

    assert [m.user_message for m in await store.messages.get_context_window(tenant, "s")] == ["second"]
    assert await store.messages.count(tenant) == 1


async def test_a_delete_and_messages_at_once_leave_old_messages_deleted(store: Store, tenant: str, user: User) -> None:
    for round_ in range(10):
        session = f"s{round_}"
        old = await store.messages.add_message(tenant, user.id, session, user_message="old")
        await asyncio.gather(
            store.conversations.delete(tenant, old.conversation_id),
            *(store.messages.add_message(tenant, user.id, session, user_message=str(n)) for n in range(3)),
        )

        assert await store.messages.get_by_id(tenant, old.id) is None


async def test_a_session_belongs_to_one_user(store: Store, tenant: str, user: User) -> None:
    other = await store.users.create(tenant, telegram_id=2)
    conversation = await store.conversations.get_or_create(tenant, user.id, "s")

    for deleted in (False, True):
        if deleted:
            await store.conversations.delete(tenant, conversation.id)
        with pytest.raises(DuplicateError) as caught:
            await store.conversations.get_or_create(tenant, other.id, "s")
        assert caught.value.fields == ("session_id",)
        with pytest.raises(DuplicateError):
            await store.messages.add_message(tenant, other.id, "s", user_message="hola")


async def test_the_same_session_in_two_tenants_is_two_conversations(
    store: Store, tenant: str, other_tenant: str, user: User
) -> None:
    theirs = await store.users.create(other_tenant, telegram_id=1)
    mine = await store.conversations.get_or_create(tenant, user.id, "s")
    other = await store.conversations.get_or_create(other_tenant, theirs.id, "s")

    assert mine.id != other.id
    with pytest.raises(InvalidReferenceError):
        await store.conversations.get_or_create(tenant, theirs.id, "s2")
    with pytest.raises(NotFoundError):
        await store.conversations.update_state(other_tenant, mine.id, "busy")
    with pytest.raises(NotFoundError):
        await store.conversations.update_state(other_tenant, mine.id, "busy", expected_state="idle")


async def test_the_state_moves_and_the_context_is_merged(store: Store, tenant: str, user: User) -> None:
    conversation = await store.conversations.create(tenant, user.id, "s", context_data={"a": 1, "b": 2})
    moved = await store.conversations.update_state(tenant, conversation.id, "asking", {"a": None, "c": {"d": None}})

    assert moved.current_state == "asking"
    assert moved.context_data == {"b": 2, "c": {"d": None}}
    assert moved.last_activity > conversation.last_activity


async def test_of_many_writers_who_expect_the_same_state_one_wins(store: Store, tenant: str, user: User) -> None:
    conversation = await store.conversations.create(tenant, user.id, "s")
    results = await asyncio.gather(
        *(
            store.conversations.update_state(tenant, conversation.id, f"won-{n}", {"n": n}, expected_state="idle")
            for n in range(10)
        ),
        return_exceptions=True,
    )
    won = [result for result in results if isinstance(result, Conversation)]

    assert len(won) == 1
    assert all(isinstance(result, ConflictError) for result in results if not isinstance(result, Conversation))
    found = await store.conversations.get_by_id(tenant, conversation.id)
    assert found is not None
    assert found.current_state == won[0].current_state


@pytest.mark.parametrize(
    ("argument", "call"),
    [
        ("new_state", {"new_state": ""}),
        ("new_state", {"new_state": "x" * 256}),
        ("context_update", {"new_state": "a", "context_update": [1]}),
        ("expected_state", {"new_state": "a", "expected_state": 5}),
    ],
)
async def test_a_state_that_does_not_fit_is_refused(
    store: Store, tenant: str, user: User, argument: str, call: dict[str, Any]
) -> None:
    conversation = await store.conversations.create(tenant, user.id, "s")
    with pytest.raises(InvalidArgumentError, match=f"^{argument}"):
        await store.conversations.update_state(tenant, conversation.id, **call)

    assert await store.conversations.get_by_id(tenant, conversation.id) == conversation


@pytest.mark.parametrize("session_id", ["", "x" * 256, "\0", 5, None])
async def test_a_session_id_is_a_short_text(store: Store, tenant: str, user: User, session_id: Any) -> None:
    for call in (store.conversations.get_or_create, store.conversations.create):
        with pytest.raises(InvalidArgumentError, match="^session_id"):
            await call(tenant, user.id, session_id)
    with pytest.raises(InvalidArgumentError, match="^session_id"):
        await store.conversations.get_by_session_id(tenant, session_id)


async def test_active_conversations_are_those_of_the_user_the_latest_first(
    store: Store, tenant: str, user: User
) -> None:
    other = await store.users.create(tenant, telegram_id=2)
    await store.conversations.create(tenant, other.id, "elsewhere")
    made = [await store.conversations.create(tenant, user.id, f"s{n}") for n in range(4)]
    await store.conversations.close_conversation(tenant, made[0].id)
    await store.conversations.delete(tenant, made[1].id)
    await store.conversations.update_state(tenant, made[2].id, "later")

    assert [found.id for found in await store.conversations.get_active(tenant, user.id)] == [made[2].id, made[3].id]


async def test_the_longest_silent_conversations_are_found_and_closed(
    store: Store, tenant: str, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = [await store.conversations.create(tenant, user.id, f"s{n}") for n in range(5)]
    for n, conversation in enumerate(made[:4]):
        await silent_since(store, tenant, conversation, LONG_AGO + timedelta(days=n))
    await store.conversations.close_conversation(tenant, made[0].id)
    limit = LONG_AGO + timedelta(days=3)

    found = await store.conversations.get_inactive_since(tenant, limit)
    assert [conversation.id for conversation in found] == [made[1].id, made[2].id]
    assert len(await store.conversations.get_inactive_since(tenant, limit, limit=1)) == 1
    monkeypatch.setattr("thea_store.assistant.conversations._BATCH", 1)  # so that there are several batches
    assert await store.conversations.close_inactive(tenant, limit) == 2
    assert await store.conversations.close_inactive(tenant, limit) == 0
    still_open = {conversation.id for conversation in await store.conversations.get_active(tenant, user.id)}
    assert still_open == {made[3].id, made[4].id}


async def test_filters_narrow(store: Store, tenant: str, user: User) -> None:
    other = await store.users.create(tenant, telegram_id=2)
    for n, owner in enumerate([user, user, other]):
        await store.conversations.create(tenant, owner.id, f"s{n}", current_state="busy" if n else "idle")

    async def asked(**filters: Any) -> list[str]:
        page = await store.conversations.get_all(tenant, newest_first=False, **filters)
        assert await store.conversations.count(tenant, **filters) == len(page.items)
        return [conversation.session_id for conversation in page.items]

    assert await asked() == ["s0", "s1", "s2"]
    assert await asked(user_id=user.id) == ["s0", "s1"]
    assert await asked(user_id=user.id, current_state="busy") == ["s1"]
    assert await asked(current_state="busy") == ["s1", "s2"]
    assert await asked(is_active=False) == []


async def test_no_statement_closes_more_than_a_batch(
    store: Store, tenant: str, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thea_store.assistant.conversations._BATCH", 2)
    for n in range(5):
        made = await store.conversations.create(tenant, user.id, f"s{n}")
        await silent_since(store, tenant, made, LONG_AGO)
    batches: list[int] = []
    fetch_all = store._db.fetch_all

    async def watched(*arguments: Any, **values: Any) -> list[Any]:
        closed = await fetch_all(*arguments, **values)
        batches.append(len(closed))
        return closed

    monkeypatch.setattr(store._db, "fetch_all", watched)

    assert await store.conversations.close_inactive(tenant, LONG_AGO + timedelta(days=1)) == 5
    assert batches == [2, 2, 1]
