from __future__ import annotations

import asyncio
import contextlib
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.profiles import scaled
from thea_store import DuplicateError, InvalidArgumentError, NotFoundError, Store, User

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


async def test_a_new_user_has_the_defaults(store: Store, tenant: str) -> None:
    user = await store.users.create(tenant, telegram_id=7)

    assert (user.telegram_id, user.timezone, user.is_active, user.preferences) == (7, "UTC", True, {})
    assert (user.username, user.first_name, user.last_name, user.language_code) == (None, None, None, None)
    assert user.last_activity is None


async def test_a_user_keeps_all_that_was_given(store: Store, tenant: str) -> None:
    given = {
        "telegram_id": -(2**63),
        "username": "ana_m",
        "first_name": "Ana María 🦙",
        "last_name": "Núñez",
        "language_code": "es-PE",
        "timezone": "America/Lima",
        "preferences": {"tema": "oscuro", "lista": [1, None, {"a": 0.1}]},
    }
    user = await store.users.create(tenant, **given)  # type: ignore[arg-type]

    assert user.model_dump(include=set(given)) == given


async def test_a_user_is_found_by_telegram_id_within_the_tenant(store: Store, tenant: str, other_tenant: str) -> None:
    mine = await store.users.create(tenant, telegram_id=7, first_name="mine")
    theirs = await store.users.create(other_tenant, telegram_id=7, first_name="theirs")

    assert await store.users.get_by_telegram_id(tenant, 7) == mine
    assert await store.users.get_by_telegram_id(other_tenant, 7) == theirs
    assert await store.users.get_by_telegram_id(tenant, 8) is None


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("telegram_id", "7"),
        ("telegram_id", True),
        ("telegram_id", 2**63),
        ("telegram_id", None),
        ("username", 5),
        ("username", "a\0b"),
        ("first_name", "\ud800"),
        ("last_name", "x" * 256),
        ("timezone", "Mars/Olympus"),
        ("timezone", "../../etc/passwd"),
        ("timezone", ""),
        ("timezone", None),
        ("preferences", []),
        ("preferences", {"a": float("nan")}),
        ("preferences", {1: 2}),
        ("preferences", {"a": "\0"}),
        ("preferences", {"a": object()}),
        ("preferences", {"a": datetime(2026, 1, 1, tzinfo=UTC)}),
    ],
)
async def test_an_argument_that_does_not_fit_is_named(store: Store, tenant: str, argument: str, value: Any) -> None:
    arguments: dict[str, Any] = {"telegram_id": 1, argument: value}
    with pytest.raises(InvalidArgumentError) as caught:
        await store.users.create(tenant, **arguments)

    assert caught.value.argument == argument
    assert await store.users.count(tenant) == 0


async def test_a_backslash_before_u0000_is_text_and_not_a_nul(store: Store, tenant: str) -> None:
    preferences = {"a": "\\u0000", "b": "\\\\u0000"}
    user = await store.users.create(tenant, telegram_id=1, preferences=preferences)

    assert user.preferences == preferences


async def test_none_is_a_value_of_an_update_and_not_given_is_not(store: Store, tenant: str) -> None:
    user = await store.users.create(tenant, telegram_id=1, username="ana", first_name="Ana")
    changed = await store.users.update(tenant, user.id, username=None)

    assert (changed.username, changed.first_name) == (None, "Ana")


async def test_an_update_to_a_taken_telegram_id_is_a_duplicate(store: Store, tenant: str, user: User) -> None:
    other = await store.users.create(tenant, telegram_id=2)

    with pytest.raises(DuplicateError):
        await store.users.update(tenant, other.id, telegram_id=user.telegram_id)


async def test_an_update_of_nothing_changes_nothing(store: Store, tenant: str, user: User) -> None:
    assert (await store.users.update(tenant, user.id)).model_dump(exclude={"updated_at"}) == user.model_dump(
        exclude={"updated_at"}
    )


# --- from Telegram --------------------------------------------------------------------------------


async def test_many_first_contacts_at_once_make_one_user(store: Store, tenant: str) -> None:
    users = await asyncio.gather(
        *(store.users.get_or_create_from_telegram(tenant, 5, first_name="Ana") for _ in range(30))
    )

    assert len({user.id for user in users}) == 1
    assert await store.users.count(tenant) == 1


async def test_given_profile_fields_are_refreshed_and_others_stay(store: Store, tenant: str) -> None:
    first = await store.users.get_or_create_from_telegram(tenant, 5, username="ana", first_name="Ana")
    again = await store.users.get_or_create_from_telegram(tenant, 5, first_name="Anita", language_code="es")

    assert again.id == first.id
    assert (again.username, again.first_name, again.language_code) == ("ana", "Anita", "es")


@pytest.mark.parametrize("field", ["username", "first_name", "last_name", "language_code"])
async def test_a_profile_field_given_as_none_is_emptied_and_the_others_stay(
    store: Store, tenant: str, field: str
) -> None:
    profile = {"username": "ana", "first_name": "Ana", "last_name": "Núñez", "language_code": "es"}
    await store.users.get_or_create_from_telegram(tenant, 5, **profile)
    changed = await store.users.get_or_create_from_telegram(tenant, 5, **{field: None})

    assert changed.model_dump(include=set(profile)) == profile | {field: None}
    same = await store.users.get_or_create_from_telegram(tenant, 5)
    assert same.model_dump(include=set(profile)) == profile | {field: None}


@pytest.mark.parametrize(
    ("argument", "value"), [("username", 5), ("first_name", "a\0"), ("last_name", "x" * 256), ("nickname", "Ana")]
)
async def test_a_profile_field_that_does_not_fit_is_named(store: Store, tenant: str, argument: str, value: Any) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await store.users.get_or_create_from_telegram(tenant, 5, **{argument: value})

    assert caught.value.argument == argument
    assert await store.users.count(tenant) == 0


async def test_a_user_who_returns_while_they_are_deleted_is_there_or_not_but_never_an_error(
    store: Store, tenant: str
) -> None:
    user = await store.users.get_or_create_from_telegram(tenant, 5, first_name="Ana")
    note = await store.notes.create(tenant, user.id, "note")

    async def delete() -> None:
        with contextlib.suppress(NotFoundError):
            await store.users.delete(tenant, user.id)

    for _ in range(15):
        returned = await asyncio.gather(
            *(store.users.get_or_create_from_telegram(tenant, 5) for _ in range(3)), *(delete() for _ in range(3))
        )
        assert {found.id for found in returned if found} == {user.id}
    await store.users.get_or_create_from_telegram(tenant, 5)
    assert await store.notes.get_by_id(tenant, note.id) is not None


async def test_a_deleted_user_who_returns_is_restored_with_what_was_hidden(store: Store, tenant: str) -> None:
    user = await store.users.get_or_create_from_telegram(tenant, 5)
    message = await store.messages.add_message(tenant, user.id, "s", user_message="hola")
    await store.users.delete(tenant, user.id)
    returned = await asyncio.gather(
        *(store.users.get_or_create_from_telegram(tenant, 5, first_name="Ana") for _ in range(5))
    )

    assert {found.id for found in returned} == {user.id}
    assert await store.users.get_by_telegram_id(tenant, 5) is not None
    assert [found.id for found in await store.messages.get_context_window(tenant, "s")] == [message.id]


# --- activity -------------------------------------------------------------------------------------


async def test_activity_never_moves_backwards(store: Store, tenant: str, user: User) -> None:
    later, earlier = NOW, NOW - timedelta(days=1)
    assert (await store.users.update_last_activity(tenant, user.id, later)).last_activity == later
    assert (await store.users.update_last_activity(tenant, user.id, earlier)).last_activity == later

    now = (await store.users.update_last_activity(tenant, user.id)).last_activity
    assert now is not None
    assert now > later


@pytest.mark.parametrize("at", [datetime(2026, 1, 1), "2026-01-01T00:00:00Z", 5, NOW.date()])  # noqa: DTZ001
async def test_a_naive_time_is_refused(store: Store, tenant: str, user: User, at: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="^at"):
        await store.users.update_last_activity(tenant, user.id, at)


async def test_activity_leaves_no_trace_in_the_audit_log(store: Store, tenant: str, user: User, superuser: Any) -> None:
    await store.users.update_last_activity(tenant, user.id)
    entries = superuser.execute("select action from thea.audit_log where tenant_id = %s", [tenant]).fetchall()

    assert entries == [("insert",)]


# --- filters --------------------------------------------------------------------------------------


async def test_filters_narrow_pages_iteration_and_counts(store: Store, tenant: str) -> None:
    rows = [{"telegram_id": n, "language_code": "es" if n % 2 else "en"} for n in range(6)]
    users = await store.users.create_many(tenant, rows)
    await store.users.update(tenant, users[1].id, is_active=False)
    for n in (3, 4):
        await store.users.update_last_activity(tenant, users[n].id, NOW)

    async def asked(**filters: Any) -> list[int]:
        page = await store.users.get_all(tenant, newest_first=False, **filters)
        numbers = [user.telegram_id for user in page.items]
        assert [user.telegram_id async for user in store.users.iterate(tenant, **filters)] == numbers
        assert await store.users.count(tenant, **filters) == len(numbers)
        return numbers

    assert await asked() == [0, 1, 2, 3, 4, 5]
    assert await asked(language_code="es") == [1, 3, 5]
    assert await asked(is_active=False) == [1]
    assert await asked(is_active=True, language_code="es") == [3, 5]
    assert await asked(active_since=NOW) == [3, 4]
    assert await asked(active_since=NOW + timedelta(microseconds=1)) == []


# --- preferences ----------------------------------------------------------------------------------


async def test_preferences_are_merged_and_none_removes_a_key(store: Store, tenant: str) -> None:
    user = await store.users.create(tenant, telegram_id=1, preferences={"a": 1, "b": {"x": None}, "c": 3})
    merged = await store.users.merge_preferences(tenant, user.id, {"a": None, "c": {"d": None}, "e": [None]})

    assert merged == {"b": {"x": None}, "c": {"d": None}, "e": [None]}
    assert await store.users.get_preferences(tenant, user.id) == merged


async def test_merges_at_once_lose_nothing(store: Store, tenant: str, user: User) -> None:
    await asyncio.gather(*(store.users.merge_preferences(tenant, user.id, {f"k{n}": n}) for n in range(25)))

    assert await store.users.get_preferences(tenant, user.id) == {f"k{n}": n for n in range(25)}


async def test_preferences_of_nobody_are_not_found(store: Store, tenant: str) -> None:
    with pytest.raises(NotFoundError):
        await store.users.get_preferences(tenant, 1)
    with pytest.raises(NotFoundError):
        await store.users.merge_preferences(tenant, 1, {})


@pytest.mark.parametrize("patch", [None, [], "a", {1: 2}, {"a": float("inf")}, {"a\0": 1}])
async def test_a_patch_is_a_json_object(store: Store, tenant: str, user: User, patch: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="^patch"):
        await store.users.merge_preferences(tenant, user.id, patch)


_text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=20)
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(-1e9, 1e9).map(lambda x: round(x, 6)) | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=8,
)


_numbers = (
    st.integers(-(10**400), 10**400)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.floats(1e15, 1e30)
    | st.sampled_from([1e16, 1e22, 1e23, -1e23, 2.0**53, 2.0**63, 1e100, 1.7976931348623157e308, 5e-324, 10**4299])
)
_nested = st.recursive(
    _numbers,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=scaled(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=_nested)
@example(value=[1e23, {"a": [1e23, 10**25]}])
async def test_json_numbers_come_back_equal(store: Store, value: Any) -> None:
    user = await store.users.get_or_create_from_telegram("numbers", 1)
    await store.users.update("numbers", user.id, preferences={})

    assert (await store.users.update("numbers", user.id, preferences={"n": value})).preferences == {"n": value}
    assert await store.users.merge_preferences("numbers", user.id, {"m": value}) == {"n": value, "m": value}
    found = await store.users.get_with("numbers", user.id)
    assert found is not None
    assert found.user.preferences == {"n": value, "m": value}


@pytest.mark.parametrize("number", [10**4300, -(10**4300), 10**140_000, float("inf"), float("nan")], ids=range(5))
async def test_a_number_that_would_not_come_back_is_refused(
    store: Store, tenant: str, user: User, number: float
) -> None:
    for preferences in ({"a": number}, {"a": [{"b": number}]}):
        with pytest.raises(InvalidArgumentError, match="^preferences"):
            await store.users.update(tenant, user.id, preferences=preferences)


@settings(max_examples=scaled(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(patches=st.lists(st.dictionaries(_text, _json, max_size=4), min_size=1, max_size=4))
async def test_merging_is_what_it_is_for_a_dictionary(store: Store, patches: list[dict[str, Any]]) -> None:
    user = await store.users.get_or_create_from_telegram("merging", 1)
    await store.users.update("merging", user.id, preferences={})
    expected: dict[str, Any] = {}
    for patch in patches:
        expected |= patch
        expected = {key: value for key, value in expected.items() if value is not None}
        assert await store.users.merge_preferences("merging", user.id, patch) == expected


# --- with all that hangs on them ------------------------------------------------------------------


async def test_a_user_comes_with_the_newest_of_what_was_asked_for(
    store: Store, tenant: str, other_tenant: str, user: User
) -> None:
    start = NOW
    for n in range(4):
        await store.notes.create(tenant, user.id, f"note {n}", tags=["a"])
        await store.events.create(tenant, user.id, f"event {n}", start)
        await store.messages.add_message(tenant, user.id, f"s{n}", user_message=str(n), entities_extracted={"n": n})
    gone = await store.notes.create(tenant, user.id, "deleted")
    await store.notes.delete(tenant, gone.id)
    found = await store.users.get_with(tenant, user.id, notes=2, events=3, conversations=10, messages=1)

    assert found is not None
    assert found.user == user
    assert [note.content for note in found.notes] == ["note 3", "note 2"]
    assert [event.title for event in found.events] == ["event 3", "event 2", "event 1"]
    assert [conversation.session_id for conversation in found.conversations] == ["s3", "s2", "s1", "s0"]
    assert found.notes == (await store.notes.get_all(tenant, limit=2)).items
    assert found.events == (await store.events.get_all(tenant, limit=3)).items
    assert found.messages == (await store.messages.get_all(tenant, limit=1)).items
    assert found.conversations == (await store.conversations.get_all(tenant)).items
    assert await store.users.get_with(other_tenant, user.id, notes=5) is None


@pytest.mark.parametrize("kind", ["notes", "events", "conversations", "messages"])
async def test_what_is_deleted_does_not_come_with_its_user(store: Store, tenant: str, user: User, kind: str) -> None:
    async def get(asked: int = 5) -> list[int]:
        found = await store.users.get_with(tenant, user.id, **{kind: asked})
        assert found is not None
        assert all(
            getattr(found, other) == [] for other in ("notes", "events", "conversations", "messages") if other != kind
        )
        return [row.id for row in getattr(found, kind)]

    for n in range(3):
        await store.notes.create(tenant, user.id, f"note {n}")
        await store.events.create(tenant, user.id, f"event {n}", NOW)
        await store.messages.add_message(tenant, user.id, f"s{n}", user_message=str(n))
    third, second, first = await get()
    await getattr(store, kind).delete(tenant, second)

    assert await get() == [third, first]
    assert await get(1) == [third]
    await store.users.delete(tenant, user.id)
    assert await store.users.get_with(tenant, user.id, **{kind: 5}) is None


@pytest.mark.slow
async def test_a_user_comes_with_more_than_one_document_can_hold(
    store: Store, tenant: str, user: User, superuser: psycopg.Connection[Any]
) -> None:
    conversation = await store.conversations.create(tenant, user.id, "s")
    with superuser.transaction():
        superuser.execute("set local session_replication_role = replica")  # without an audit log of the same size
        superuser.execute(
            "insert into thea.message_history (tenant_id, user_id, conversation_id, user_message)"
            " select %s, %s, %s, repeat('🦙', 1000000) from generate_series(1, 70)",
            [tenant, user.id, conversation.id],
        )
    found = await store.users.get_with(tenant, user.id, messages=300)

    assert found is not None
    # 280 MB, where one document holds 256.
    assert [len(message.user_message) for message in found.messages] == [1_000_000] * 70


async def test_a_user_comes_alone_when_nothing_is_asked_for(store: Store, tenant: str, user: User) -> None:
    await store.notes.create(tenant, user.id, "note")
    found = await store.users.get_with(tenant, user.id)

    assert found is not None
    assert (found.user, found.notes, found.events, found.conversations, found.messages) == (user, [], [], [], [])
    assert await store.users.get_with(tenant, 2**62) is None


@pytest.mark.parametrize("asked", ["notes", "events", "conversations", "messages"])
async def test_no_more_than_a_thousand_of_each_are_asked_for(store: Store, tenant: str, user: User, asked: str) -> None:
    for bad in (-1, 1001, True, "5"):
        with pytest.raises(InvalidArgumentError, match=f"^{asked}"):
            await store.users.get_with(tenant, user.id, **{asked: bad})  # type: ignore[arg-type]
