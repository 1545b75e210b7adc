from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.profiles import scaled
from thea_store import InvalidArgumentError, InvalidReferenceError, MessageStatistics, Store, User

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


async def test_a_message_opens_a_closed_conversation_and_restores_a_deleted_one(
    store: Store, tenant: str, user: User
) -> None:
    first = await store.messages.add_message(tenant, user.id, "s", user_message="1")
    await store.conversations.close_conversation(tenant, first.conversation_id)
    await store.messages.add_message(tenant, user.id, "s", user_message="2")
    assert len(await store.conversations.get_active(tenant, user.id)) == 1

    await store.conversations.delete(tenant, first.conversation_id)
    await store.messages.add_message(tenant, user.id, "s", user_message="3")
    assert await said(store, tenant, "s") == ["1", "2", "3"]


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
    assert await asked(created_from=LONG_AGO + timedelta(days=1), created_before=LONG_AGO + timedelta(days=3)) == [
        "1",
        "2",
    ]
