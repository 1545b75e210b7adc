from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.profiles import scaled
from thea_store import (
    DuplicateError,
    InvalidArgumentError,
    InvalidReferenceError,
    Message,
    MessageStatistics,
    Store,
    User,
)

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


async def said(store: Store, tenant: str, session: str, limit: int = 50) -> list[str]:
    return [message.user_message for message in await store.messages.get_context_window(tenant, session, limit)]


async def test_the_first_message_opens_its_conversation(store: Store, tenant: str, user: User) -> None:
    message = await store.messages.add_message(
        tenant,
        user.id,
        "s",
        user_message="¿Qué tengo mañana?",
        bot_response="Nada.",
        message_id=77,
        intent_detected="agenda",
        entities_extracted={"fecha": "mañana"},
        confidence_score=0.93,
        processing_time_ms=120,
    )
    conversation = await store.conversations.get_by_session_id(tenant, "s")

    assert conversation is not None
    assert (message.user_id, message.conversation_id) == (user.id, conversation.id)
    assert (message.user_message, message.bot_response) == ("¿Qué tengo mañana?", "Nada.")
    assert (message.message_id, message.intent_detected) == (77, "agenda")
    assert message.entities_extracted == {"fecha": "mañana"}
    assert (message.confidence_score, message.processing_time_ms) == (0.93, 120)
    assert conversation.last_message_id == 77
    assert conversation.last_activity == message.created_at


async def test_each_message_moves_its_conversation(store: Store, tenant: str, user: User) -> None:
    await store.messages.add_message(tenant, user.id, "s", user_message="1", message_id=77)
    before = await store.conversations.get_by_session_id(tenant, "s")
    second = await store.messages.add_message(tenant, user.id, "s", user_message="2")
    after = await store.conversations.get_by_session_id(tenant, "s")

    assert before is not None
    assert after is not None
    assert after.id == before.id
    assert after.last_activity > before.last_activity
    assert after.last_message_id == second.id


async def test_a_message_opens_a_closed_conversation_and_begins_a_deleted_one_anew(
    store: Store, tenant: str, user: User
) -> None:
    first = await store.messages.add_message(tenant, user.id, "s", user_message="1")
    await store.conversations.update_state(tenant, first.conversation_id, "asking", {"a": 1})
    await store.conversations.close_conversation(tenant, first.conversation_id)
    await store.messages.add_message(tenant, user.id, "s", user_message="2")
    (opened,) = await store.conversations.get_active(tenant, user.id)
    assert (opened.current_state, opened.context_data) == ("asking", {"a": 1})

    await store.conversations.delete(tenant, first.conversation_id)
    third = await store.messages.add_message(tenant, user.id, "s", user_message="3", message_id=9)
    (begun,) = await store.conversations.get_active(tenant, user.id)
    assert (begun.current_state, begun.context_data, begun.last_message_id) == ("idle", {}, 9)
    assert begun.started_at > opened.last_activity
    assert await said(store, tenant, "s") == ["3"]
    assert (await store.messages.get_all(tenant)).items == [third]


async def test_messages_at_once_share_one_conversation(store: Store, tenant: str, user: User) -> None:
    await asyncio.gather(*(store.messages.add_message(tenant, user.id, "s", user_message=str(n)) for n in range(30)))

    assert await store.conversations.count(tenant) == 1
    assert sorted(await said(store, tenant, "s"), key=int) == [str(n) for n in range(30)]


async def test_a_message_of_nobody_or_of_another_tenants_user_is_refused_alike(
    store: Store, tenant: str, other_tenant: str
) -> None:
    foreign = await store.users.create(other_tenant, telegram_id=1)
    texts = set()
    for user_id in (foreign.id, 2**62):
        with pytest.raises(InvalidReferenceError) as caught:
            await store.messages.add_message(tenant, user_id, "s", user_message="hola")
        texts.add(str(caught.value))

    assert len(texts) == 1
    assert await store.conversations.count(tenant) == 0


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("user_message", None),
        ("user_message", "a\0"),
        ("user_message", b"a"),
        ("user_message", "x" * 1_000_001),
        ("bot_response", 5),
        ("message_id", "77"),
        ("intent_detected", ""),
        ("entities_extracted", "text"),
        ("entities_extracted", {"a": {1, 2}}),
        ("confidence_score", 1.01),
        ("confidence_score", -0.01),
        ("confidence_score", float("nan")),
        ("confidence_score", True),
        ("processing_time_ms", -1),
        ("processing_time_ms", 1.5),
        ("processing_time_ms", 2**31),
    ],
)
async def test_an_argument_that_does_not_fit_is_named(
    store: Store, tenant: str, user: User, argument: str, value: Any
) -> None:
    arguments: dict[str, Any] = {"user_message": "hola", argument: value}
    with pytest.raises(InvalidArgumentError) as caught:
        await store.messages.add_message(tenant, user.id, "s", **arguments)

    assert caught.value.argument == argument
    assert await store.conversations.count(tenant) == 0


@pytest.mark.parametrize("entities", [None, {}, [], [{"tipo": "fecha"}], {"a": [1, {"b": None}]}])
async def test_entities_may_be_any_object_or_list(store: Store, tenant: str, user: User, entities: Any) -> None:
    message = await store.messages.add_message(tenant, user.id, "s", user_message="hola", entities_extracted=entities)

    assert message.entities_extracted == entities


# --- the same message again -----------------------------------------------------------------------


async def test_a_repeated_delivery_changes_nothing(store: Store, tenant: str, user: User) -> None:
    first = await store.messages.add_message(
        tenant, user.id, "s", user_message="hola", bot_response="¡Hola!", message_id=7
    )
    await store.messages.add_message(tenant, user.id, "s", user_message="adiós", message_id=8)
    await store.conversations.close_conversation(tenant, first.conversation_id)
    before = await store.conversations.get_by_session_id(tenant, "s")

    again = await store.messages.add_message(
        tenant, user.id, "s", user_message="other", bot_response="other", message_id=7, intent_detected="other"
    )
    pruned = await store.messages.add_message_with_prune(
        tenant, user.id, "s", user_message="other", message_id=7, keep=1
    )
    assert again == pruned == first
    assert await said(store, tenant, "s") == ["hola", "adiós"]
    assert await store.conversations.get_by_session_id(tenant, "s") == before


async def test_a_repeated_delivery_fills_in_the_answer_that_was_missing(store: Store, tenant: str, user: User) -> None:
    first = await store.messages.add_message(tenant, user.id, "s", user_message="hola", message_id=7)
    before = await store.conversations.get_by_session_id(tenant, "s")
    answered = await store.messages.add_message(
        tenant, user.id, "s", user_message="hola", bot_response="¡Hola!", message_id=7
    )

    unchanged = {"updated_at", "bot_response"}
    assert answered.bot_response == "¡Hola!"
    assert answered.updated_at > first.updated_at
    assert answered.model_dump(exclude=unchanged) == first.model_dump(exclude=unchanged)
    assert await store.conversations.get_by_session_id(tenant, "s") == before
    assert await store.messages.add_message(tenant, user.id, "s", user_message="x", message_id=7) == answered
    assert await store.messages.get_by_message_id(tenant, "s", 7) == answered


async def test_many_deliveries_at_once_make_one_message(store: Store, tenant: str, user: User) -> None:
    for opened_before in (False, True):
        session = f"s{opened_before}"
        if opened_before:
            await store.conversations.create(tenant, user.id, session)
        added = await asyncio.gather(
            *(
                store.messages.add_message(
                    tenant, user.id, session, user_message=str(n), bot_response=str(n) if n % 2 else None, message_id=7
                )
                for n in range(20)
            )
        )

        assert len({message.id for message in added}) == 1
        (stored,) = await store.messages.get_context_window(tenant, session)
        assert stored.bot_response is not None


async def test_a_delivery_that_waits_for_the_first_one_changes_nothing_either(
    store: Store, tenant: str, user: User
) -> None:
    await store.conversations.create(tenant, user.id, "s")
    async with store.transaction(tenant) as tx:
        first = await tx.messages.add_message(tenant, user.id, "s", user_message="1", message_id=7)
        waiting = asyncio.create_task(
            store.messages.add_message(tenant, user.id, "s", user_message="again", message_id=7)
        )
        await asyncio.sleep(0.2)
        await tx.messages.add_message(tenant, user.id, "s", user_message="2", message_id=8)
        await tx.conversations.close_conversation(tenant, first.conversation_id)
    before = await store.conversations.get_by_session_id(tenant, "s")

    assert await waiting == first
    assert await said(store, tenant, "s") == ["1", "2"]
    after = await store.conversations.get_by_session_id(tenant, "s")
    assert before is not None
    assert after == before
    assert (after.last_message_id, after.is_active) == (8, False)


async def test_a_number_is_taken_within_its_conversation_alone(store: Store, tenant: str, user: User) -> None:
    first = await store.messages.add_message(tenant, user.id, "s", user_message="1", message_id=7)
    other = await store.messages.add_message(tenant, user.id, "other", user_message="2", message_id=7)
    for _ in range(2):
        await store.messages.add_message(tenant, user.id, "s", user_message="without a number")

    assert first.id != other.id
    assert await store.messages.count(tenant) == 4
    with pytest.raises(DuplicateError) as caught:
        await store.messages.create(tenant, user.id, first.conversation_id, "3", message_id=7)
    assert caught.value.fields == ("message_id",)
    with pytest.raises(DuplicateError):
        await store.messages.update(tenant, (await store.messages.get_all(tenant)).items[0].id, message_id=7)
    rows = [{"user_id": user.id, "conversation_id": first.conversation_id, "user_message": "x", "message_id": 9}] * 2
    with pytest.raises(DuplicateError):
        await store.messages.create_many(tenant, rows)
    assert await store.messages.count(tenant) == 4


async def test_the_number_of_a_deleted_message_may_come_again(store: Store, tenant: str, user: User) -> None:
    gone = await store.messages.add_message(tenant, user.id, "s", user_message="1", message_id=7)
    await store.messages.delete(tenant, gone.id)
    assert await store.messages.get_by_message_id(tenant, "s", 7) is None

    again = await store.messages.add_message(tenant, user.id, "s", user_message="2", message_id=7)
    assert await store.messages.get_by_message_id(tenant, "s", 7) == again
    with pytest.raises(DuplicateError):
        await store.messages.restore(tenant, gone.id)
    assert await said(store, tenant, "s") == ["2"]


async def test_a_message_is_found_by_its_number_within_its_session_and_tenant(
    store: Store, tenant: str, other_tenant: str, user: User
) -> None:
    theirs = await store.users.create(other_tenant, telegram_id=1)
    foreign = await store.messages.add_message(other_tenant, theirs.id, "s", user_message="theirs", message_id=7)
    assert await store.messages.get_by_message_id(tenant, "s", 7) is None

    mine = await store.messages.add_message(tenant, user.id, "s", user_message="mine", message_id=7)
    await store.conversations.close_conversation(tenant, mine.conversation_id)
    assert await store.messages.get_by_message_id(tenant, "s", 7) == mine
    assert await store.messages.get_by_message_id(other_tenant, "s", 7) == foreign
    assert await store.messages.get_by_message_id(tenant, "s", 8) is None
    assert await store.messages.get_by_message_id(tenant, "t", 7) is None
    await store.conversations.delete(tenant, mine.conversation_id)
    assert await store.messages.get_by_message_id(tenant, "s", 7) is None
    for bad in ("7", True, 2**63, None):
        with pytest.raises(InvalidArgumentError, match="^message_id"):
            await store.messages.get_by_message_id(tenant, "s", bad)  # type: ignore[arg-type]


# --- order of arrival -----------------------------------------------------------------------------


async def test_messages_stand_in_the_order_of_their_arrival_whenever_their_transactions_began(
    store: Store, tenant: str, user: User
) -> None:
    await store.conversations.create(tenant, user.id, "s")
    async with store.transaction(tenant) as early, store.transaction(tenant) as earlier_still:
        await early.users.get_by_id(tenant, user.id)
        await earlier_still.users.get_by_id(tenant, user.id)
        await store.messages.add_message(tenant, user.id, "s", user_message="1")
        await early.messages.add_message(tenant, user.id, "s", user_message="2")
        waiting = asyncio.create_task(store.messages.add_message(tenant, user.id, "s", user_message="4"))
        await early.messages.add_message(tenant, user.id, "s", user_message="3")

    await waiting
    async with store.transaction(tenant) as tx:
        conversation = await tx.conversations.get_by_session_id(tenant, "s")
        await store.messages.add_message(tenant, user.id, "s", user_message="5")
        assert conversation is not None
        await tx.messages.create(tenant, user.id, conversation.id, "6")
    assert await said(store, tenant, "s") == ["1", "2", "3", "4", "5", "6"]


async def test_many_writers_in_transactions_leave_their_messages_in_the_order_of_arrival(
    store: Store, tenant: str, user: User
) -> None:
    await store.conversations.create(tenant, user.id, "s")
    arrived: list[str] = []

    async def write(number: int) -> None:
        async with store.transaction(tenant) as tx:
            await tx.users.get_by_id(tenant, user.id)
            await asyncio.sleep(number * 37 % 11 / 500)
            for part in "ab":
                text = f"{number}{part}"
                await tx.messages.add_message(tenant, user.id, "s", user_message=text)
                arrived.append(text)  # before the commit, so before the next one can arrive
                await asyncio.sleep(number * 17 % 5 / 500)

    await asyncio.gather(*(write(number) for number in range(24)))

    assert await said(store, tenant, "s") == arrived
    messages = await store.messages.get_context_window(tenant, "s")
    assert len({message.created_at for message in messages}) == len(messages)


async def test_a_message_stands_after_those_that_were_given_a_time_to_come(
    store: Store, tenant: str, user: User
) -> None:
    conversation = await store.conversations.create(tenant, user.id, "s")
    future = datetime.now(UTC) + timedelta(days=30)
    await store.messages.create(tenant, user.id, conversation.id, "later", created_at=future)
    await asyncio.gather(*(store.messages.add_message(tenant, user.id, "s", user_message="next") for _ in range(5)))

    assert await said(store, tenant, "s") == ["later", *["next"] * 5]
    kept = await store.messages.add_message_with_prune(tenant, user.id, "s", user_message="kept", keep=1)
    assert await store.messages.get_context_window(tenant, "s") == [kept]


# --- windows and pruning --------------------------------------------------------------------------


async def test_the_context_window_is_the_newest_messages_the_oldest_first(
    store: Store, tenant: str, user: User
) -> None:
    for n in range(6):
        await store.messages.add_message(tenant, user.id, "s", user_message=str(n))
        await store.messages.add_message(tenant, user.id, "other", user_message="x")

    assert await said(store, tenant, "s") == ["0", "1", "2", "3", "4", "5"]
    assert await said(store, tenant, "s", 2) == ["4", "5"]
    assert await said(store, tenant, "nowhere") == []


@settings(max_examples=scaled(10), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(total=st.integers(1, 8), keep=st.integers(1, 6))
async def test_pruning_keeps_the_newest(store: Store, total: int, keep: int) -> None:
    user = await store.users.get_or_create_from_telegram("pruning", 1)
    session = f"s-{total}-{keep}"
    if conversation := await store.conversations.get_by_session_id("pruning", session):
        await store.conversations.purge("pruning", conversation.id)
    for n in range(total):
        await store.messages.add_message_with_prune("pruning", user.id, session, user_message=str(n), keep=keep)

    assert await said(store, "pruning", session) == [str(n) for n in range(total)][-keep:]


async def test_pruning_never_removes_the_message_that_it_returns(store: Store, tenant: str, user: User) -> None:
    await store.conversations.create(tenant, user.id, "s")
    async with store.transaction(tenant) as early:
        await early.users.get_by_id(tenant, user.id)
        await store.messages.add_message(tenant, user.id, "s", user_message="before")
        kept = await early.messages.add_message_with_prune(tenant, user.id, "s", user_message="kept", keep=1)
        assert await early.messages.get_context_window(tenant, "s") == [kept]

    async def add(number: int) -> Message:
        return await store.messages.add_message_with_prune(
            tenant, user.id, "s", user_message=str(number), message_id=number % 3, keep=1
        )

    returned = await asyncio.gather(*(add(number) for number in range(20)))
    (last,) = await store.messages.get_context_window(tenant, "s", 1)
    assert last in returned


async def test_pruning_touches_no_other_conversation(store: Store, tenant: str, user: User) -> None:
    for n in range(4):
        await store.messages.add_message(tenant, user.id, "other", user_message=str(n))
    await store.messages.add_message_with_prune(tenant, user.id, "s", user_message="x", keep=1)

    assert len(await said(store, tenant, "other")) == 4


async def test_pruning_writers_at_once_leave_exactly_what_they_keep(store: Store, tenant: str, user: User) -> None:
    await asyncio.gather(
        *(store.messages.add_message_with_prune(tenant, user.id, "s", user_message=str(n), keep=5) for n in range(20))
    )

    assert await store.messages.count(tenant) == 5


@pytest.mark.parametrize("keep", [0, -1, True, "5", None])
async def test_at_least_one_message_is_kept(store: Store, tenant: str, user: User, keep: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="^keep"):
        await store.messages.add_message_with_prune(tenant, user.id, "s", user_message="x", keep=keep)


async def test_old_messages_are_deleted_in_batches(
    store: Store, tenant: str, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thea_store.assistant.messages._BATCH", 3)
    conversation = await store.conversations.create(tenant, user.id, "s")
    rows = [
        {
            "user_id": user.id,
            "conversation_id": conversation.id,
            "user_message": str(n),
            "created_at": LONG_AGO + timedelta(days=n),
        }
        for n in range(10)
    ]
    await store.messages.create_many(tenant, rows)

    assert await store.messages.delete_old_messages(tenant, LONG_AGO + timedelta(days=8)) == 8
    assert await said(store, tenant, "s") == ["8", "9"]
    assert await store.messages.delete_old_messages(tenant, LONG_AGO) == 0


# --- asked of many --------------------------------------------------------------------------------


async def test_messages_of_an_intent_the_newest_first(store: Store, tenant: str, user: User) -> None:
    other = await store.users.create(tenant, telegram_id=2)
    for n, owner in enumerate([user, other, user]):
        await store.messages.add_message(
            tenant, owner.id, f"s{owner.id}", user_message=str(n), intent_detected="saludo"
        )
    await store.messages.add_message(tenant, user.id, f"s{user.id}", user_message="x", intent_detected="agenda")

    async def asked(**narrowed: Any) -> list[str]:
        return [m.user_message for m in await store.messages.get_by_intent(tenant, "saludo", **narrowed)]

    assert await asked() == ["2", "1", "0"]
    assert await asked(user_id=user.id) == ["2", "0"]
    assert await asked(limit=1) == ["2"]


async def test_statistics_over_nothing_are_zero_and_none(store: Store, tenant: str) -> None:
    assert await store.messages.get_statistics(tenant) == MessageStatistics(
        total_messages=0,
        unique_intents=0,
        intent_distribution={},
        avg_confidence=None,
        avg_processing_time_ms=None,
    )


async def test_statistics_count_average_and_distribute(
    store: Store, tenant: str, other_tenant: str, user: User
) -> None:
    other = await store.users.create(tenant, telegram_id=2)
    foreign = await store.users.create(other_tenant, telegram_id=1)
    await store.messages.add_message(other_tenant, foreign.id, "s", user_message="x", intent_detected="z")
    for intent, confidence, took in [("a", 0.5, 100), ("a", 1.0, 201), ("b", None, None), (None, None, None)]:
        await store.messages.add_message(
            tenant,
            user.id,
            "s",
            user_message="x",
            intent_detected=intent,
            confidence_score=confidence,
            processing_time_ms=took,
        )
    await store.messages.add_message(tenant, other.id, "t", user_message="x", intent_detected="c")

    of_user = await store.messages.get_statistics(tenant, user.id)
    assert of_user == MessageStatistics(
        total_messages=4,
        unique_intents=2,
        intent_distribution={"a": 2, "b": 1},
        avg_confidence=0.75,
        avg_processing_time_ms=150.5,
    )
    assert (await store.messages.get_statistics(tenant)).intent_distribution == {"a": 2, "b": 1, "c": 1}


async def test_the_performance_report_counts_what_went_wrong(store: Store, tenant: str, user: User) -> None:
    empty = await store.messages.analyze_performance(tenant)
    assert (empty.total_messages, empty.messages_per_hour, empty.p50_ms) == (0, 0.0, None)

    for took in (100, 200, 300, 400, 2000):
        await store.messages.add_message(
            tenant,
            user.id,
            "s",
            user_message="x",
            processing_time_ms=took,
            confidence_score=0.4 if took == 100 else 0.9,
            intent_detected=None if took < 300 else "a",
        )
    conversation = await store.conversations.get_by_session_id(tenant, "s")
    assert conversation is not None
    await store.messages.create(tenant, user.id, conversation.id, "old", created_at=LONG_AGO)

    report = await store.messages.analyze_performance(tenant, 2)
    assert (report.total_messages, report.messages_per_hour) == (5, 2.5)
    assert (report.slow_queries, report.low_confidence, report.failed_detections) == (1, 1, 2)
    assert (report.p50_ms, report.p95_ms, report.p99_ms) == pytest.approx((300, 1680, 1936))
    stricter = await store.messages.analyze_performance(tenant, slow_ms=150, low_confidence=0.95)
    assert (stricter.slow_queries, stricter.low_confidence) == (4, 5)


@pytest.mark.parametrize(
    ("argument", "value"),
    [("hours", 0), ("hours", -1), ("hours", float("inf")), ("slow_ms", -1), ("low_confidence", 2)],
)
async def test_a_senseless_report_is_refused(store: Store, tenant: str, argument: str, value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=f"^{argument}"):
        await store.messages.analyze_performance(tenant, **{argument: value})


async def test_filters_narrow(store: Store, tenant: str, user: User) -> None:
    other = await store.users.create(tenant, telegram_id=2)
    mine = await store.conversations.create(tenant, user.id, "s")
    theirs = await store.conversations.create(tenant, other.id, "t")
    rows = [
        {
            "user_id": owner.user_id,
            "conversation_id": owner.id,
            "user_message": str(n),
            "created_at": LONG_AGO + timedelta(days=n),
            "intent_detected": "a" if n % 2 else None,
            "message_id": n // 2 * 3 + n % 2 or None,
        }
        for n, owner in enumerate([mine, mine, theirs, mine])
    ]
    await store.messages.create_many(tenant, rows)

    async def asked(**filters: Any) -> list[str]:
        page = await store.messages.get_all(tenant, newest_first=False, **filters)
        assert await store.messages.count(tenant, **filters) == len(page.items)
        assert len([m async for m in store.messages.iterate(tenant, **filters)]) == len(page.items)
        return [message.user_message for message in page.items]

    assert await asked() == ["0", "1", "2", "3"]
    assert await asked(user_id=user.id) == ["0", "1", "3"]
    assert await asked(conversation_id=theirs.id) == ["2"]
    assert await asked(conversation_id=theirs.id, user_id=user.id) == []
    assert await asked(intent="a") == ["1", "3"]
    assert await asked(message_id=3) == ["2"]
    assert await asked(message_id=4, conversation_id=mine.id) == ["3"]
    assert await asked(message_id=4, conversation_id=theirs.id) == []
    assert await asked(message_id=9) == []
    assert await asked(created_from=LONG_AGO + timedelta(days=1), created_before=LONG_AGO + timedelta(days=3)) == [
        "1",
        "2",
    ]
