from __future__ import annotations

import asyncio
import itertools
import logging
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from zoneinfo import ZoneInfo

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.profiles import scaled
from thea_store import (
    DuplicateError,
    Event,
    EventOccurrence,
    InvalidArgumentError,
    InvalidReferenceError,
    InvalidTenantError,
    NotFoundError,
    Store,
    User,
)
from thea_store.assistant.events.records import Due
from thea_store.assistant.events.reminders import claim
from thea_store.assistant.recurrence.budget import WorkBudget
from thea_store.assistant.recurrence.recurrence_set import midnight
from thea_store.queries.arguments import FIRST_MOMENT, LAST_MOMENT

MONDAY = datetime(2027, 3, 1, 9, tzinfo=UTC)
NAIVE = datetime(2027, 3, 1)  # noqa: DTZ001 - what is refused
HOUR, DAY, WEEK = timedelta(hours=1), timedelta(days=1), timedelta(weeks=1)


@pytest.fixture
async def madrid(store: Store, tenant: str) -> User:
    return await store.users.create(tenant, telegram_id=2002, timezone="Europe/Madrid")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def starts(occurrences: Sequence[Event], form: str = "%m-%d %H:%M") -> list[str]:
    return [occurrence.start_datetime.strftime(form) for occurrence in occurrences]


def titles(events: Sequence[Event]) -> list[str]:
    return [event.title for event in events]


# --- creating -------------------------------------------------------------------------------------


async def test_a_new_event_has_the_defaults(store: Store, tenant: str, user: User) -> None:
    event = await store.events.create(tenant, user.id, "Dentista", MONDAY)

    assert (event.user_id, event.title, event.start_datetime) == (user.id, "Dentista", MONDAY)
    assert (event.event_type, event.status) == ("event", "scheduled")
    assert (event.end_datetime, event.description, event.location, event.category) == (None, None, None, None)
    assert (event.reminder_minutes, event.recurrence_rule, event.external_id, event.extra_data) == (None,) * 4


async def test_an_event_keeps_all_that_was_given_with_times_in_utc(store: Store, tenant: str, user: User) -> None:
    lima = timezone(timedelta(hours=-5))
    given = {
        "title": "Reunión 🦙",
        "start_datetime": datetime(2027, 3, 1, 10, 0, 0, 123456, tzinfo=lima),
        "end_datetime": datetime(2027, 3, 1, 11, tzinfo=lima),
        "description": "con Ana\nen la oficina",
        "location": "Café Ñandú",
        "event_type": "meeting",
        "category": "trabajo",
        "status": "completed",
        "reminder_minutes": 0,
        "recurrence_rule": "FREQ=WEEKLY;BYDAY=MO",
        "external_id": "google:1",
        "extra_data": {"asistentes": ["Ana", None, {"n": 0.5}]},
    }
    event = await store.events.create(tenant, user.id, **given)  # type: ignore[arg-type]

    assert event.model_dump(include=set(given)) == given
    assert event.start_datetime.utcoffset() == timedelta(0)
    assert await store.events.get_by_id(tenant, event.id) == event


BAD: list[tuple[str, Any]] = [
    ("user_id", "1"),
    ("title", ""),
    ("title", "x" * 256),
    ("title", "a\0b"),
    ("title", None),
    ("start_datetime", NAIVE),
    ("start_datetime", "2027-03-01T00:00:00Z"),
    ("start_datetime", None),
    ("end_datetime", NAIVE),
    ("end_datetime", MONDAY - timedelta(microseconds=1)),
    ("description", 5),
    ("location", "\ud800"),
    ("location", "x" * 1001),
    ("event_type", None),
    ("category", ""),
    ("status", "done"),
    ("status", None),
    ("reminder_minutes", -1),
    ("reminder_minutes", 1.5),
    ("reminder_minutes", True),
    ("reminder_minutes", 366 * 24 * 60 + 1),
    ("recurrence_rule", ""),
    ("recurrence_rule", "FREQ=SECONDLY"),
    ("recurrence_rule", "FREQ=DAILY;BYMONTH=" + ",".join(["1"] * 2500)),
    ("recurrence_rule", "FREQ=DAILY;COUNT=2;UNTIL=20280101"),
    ("recurrence_rule", "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30"),
    ("recurrence_rule", "FREQ=DAILY;UNTIL=20200101"),
    ("recurrence_rule", 5),
    ("external_id", ""),
    ("extra_data", [1]),
    ("extra_data", {"a": "\0"}),
]


@pytest.mark.parametrize(("argument", "value"), BAD)
async def test_an_argument_that_does_not_fit_is_named(
    store: Store, tenant: str, user: User, argument: str, value: Any
) -> None:
    row: dict[str, Any] = {"user_id": user.id, "title": "x", "start_datetime": MONDAY, "recurrence_rule": "FREQ=DAILY"}
    row[argument] = value
    with pytest.raises(InvalidArgumentError) as caught:
        await store.events.create(tenant, **row)
    assert caught.value.argument == argument

    with pytest.raises(InvalidArgumentError) as caught:
        await store.events.create_many(tenant, [{**row, argument: "x", "external_id": "x"} | {argument: value}])
    assert caught.value.argument == f"rows[0].{argument}"

    if argument not in {"user_id", "external_id"}:
        with pytest.raises(InvalidArgumentError) as caught:
            await store.events.upsert_external(tenant, external_id="x", **row)
        assert caught.value.argument == argument
    assert await store.events.count(tenant) == 0


@pytest.mark.parametrize(("argument", "value"), [(name, value) for name, value in BAD if name != "user_id"])
async def test_a_change_that_does_not_fit_is_named_before_any_io(argument: str, value: Any, store: Store) -> None:
    changes: dict[str, Any] = {"start_datetime": MONDAY, argument: value}
    with pytest.raises(InvalidArgumentError) as caught:
        await store.events.update("nobody", 1, **changes)  # a row that does not exist would be a NotFoundError

    assert caught.value.argument == argument


async def test_the_end_of_an_event_is_no_field_that_callers_may_write(store: Store, tenant: str, user: User) -> None:
    row = {"user_id": user.id, "title": "x", "start_datetime": MONDAY, "series_end": MONDAY}
    with pytest.raises(InvalidArgumentError, match=r"^rows\[0\].series_end"):
        await store.events.create_many(tenant, [row])
    with pytest.raises(InvalidArgumentError, match="^series_end: .*title"):
        await store.events.update(tenant, 1, series_end=MONDAY)  # type: ignore[call-arg]
    with pytest.raises(InvalidArgumentError, match="^series_end"):
        await store.events.upsert_external(tenant, user.id, "x", "x", MONDAY, series_end=MONDAY)  # type: ignore[call-arg]


async def test_an_external_id_is_unique_for_each_user(store: Store, tenant: str, user: User, madrid: User) -> None:
    await store.events.create(tenant, user.id, "a", MONDAY, external_id="x")
    await store.events.create(tenant, madrid.id, "a", MONDAY, external_id="x")
    await store.events.create(tenant, user.id, "a", MONDAY)
    await store.events.create(tenant, user.id, "a", MONDAY)

    with pytest.raises(DuplicateError) as caught:
        await store.events.create(tenant, user.id, "b", MONDAY, external_id="x")
    assert caught.value.fields == ("external_id",)


async def test_a_user_of_another_tenant_is_one_that_does_not_exist(
    store: Store, tenant: str, other_tenant: str, user: User
) -> None:
    for user_id, owner in [(user.id, other_tenant), (2**62, tenant)]:
        with pytest.raises(InvalidReferenceError, match="names no row of this tenant"):
            await store.events.create(owner, user_id, "x", MONDAY)
        with pytest.raises(InvalidReferenceError, match="names no row of this tenant"):
            await store.events.upsert_external(owner, user_id, "x", "x", MONDAY)
    await store.users.delete(tenant, user.id)
    with pytest.raises(InvalidReferenceError, match="names no row of this tenant"):
        await store.events.upsert_external(tenant, user.id, "x", "x", MONDAY)


# --- finding --------------------------------------------------------------------------------------


async def test_filters_narrow_pages_iteration_and_counts(store: Store, tenant: str, user: User, madrid: User) -> None:
    rows: list[dict[str, Any]] = [
        {"user_id": user.id, "title": "a", "start_datetime": MONDAY, "event_type": "meeting", "category": "work"},
        {"user_id": user.id, "title": "b", "start_datetime": MONDAY + DAY, "status": "cancelled", "category": "work"},
        {"user_id": madrid.id, "title": "c", "start_datetime": MONDAY + 2 * DAY, "event_type": "meeting"},
    ]
    await store.events.create_many(tenant, rows)
    expected: list[tuple[dict[str, Any], str]] = [
        ({}, "abc"),
        ({"user_id": user.id}, "ab"),
        ({"event_type": "meeting"}, "ac"),
        ({"event_type": "meeting", "user_id": madrid.id}, "c"),
        ({"category": "work"}, "ab"),
        ({"status": "cancelled"}, "b"),
        ({"starts_from": MONDAY + DAY}, "bc"),
        ({"starts_before": MONDAY + DAY}, "a"),
        ({"user_id": None, "status": None}, "abc"),
    ]
    for filters, found in expected:
        page = await store.events.get_all(tenant, newest_first=False, **filters)
        assert "".join(titles(page.items)) == found
        assert "".join([event.title async for event in store.events.iterate(tenant, **filters)]) == found
        assert await store.events.count(tenant, **filters) == len(found)


async def test_a_location_is_found_by_any_part_of_it_in_any_case(
    store: Store, tenant: str, other_tenant: str, user: User, madrid: User
) -> None:
    places = ["Café CENTRAL", "plaza central", None, "100%_\\ real", "ÑUÑOA"]
    for n, place in enumerate(places):
        await store.events.create(tenant, user.id, str(n), MONDAY - n * DAY, location=place)

    async def found(text: str) -> list[str]:
        return titles(await store.events.get_by_location(tenant, user.id, text))

    assert await found("Central") == ["1", "0"]
    assert await found("CAFÉ c") == ["0"]
    assert await found("ñuño") == ["4"]
    assert await found("%") == ["3"]
    assert await found("_\\") == ["3"]
    assert await found("nowhere") == []
    assert await store.events.get_by_location(tenant, madrid.id, "central") == []
    assert await store.events.get_by_location(other_tenant, user.id, "central") == []
    for bad in ("", None, 5, "a\0"):
        with pytest.raises(InvalidArgumentError, match="^location"):
            await store.events.get_by_location(tenant, user.id, bad)  # type: ignore[arg-type]


async def test_a_category_is_found_by_its_exact_name(
    store: Store, tenant: str, other_tenant: str, user: User, madrid: User
) -> None:
    for n, category in enumerate(["work", "WorkBudget", None, "work"]):
        await store.events.create(tenant, user.id, str(n), MONDAY - n * DAY, category=category)

    assert titles(await store.events.get_by_category(tenant, user.id, "work")) == ["3", "0"]
    assert await store.events.get_by_category(tenant, madrid.id, "work") == []
    assert await store.events.get_by_category(other_tenant, user.id, "work") == []


# --- what is coming -------------------------------------------------------------------------------


async def test_upcoming_is_what_is_scheduled_to_start_within_the_days(
    store: Store, tenant: str, other_tenant: str, user: User, madrid: User
) -> None:
    def row(title: str, start: datetime, **more: Any) -> dict[str, Any]:
        return {"user_id": user.id, "title": title, "start_datetime": start} | more

    await store.events.create_many(
        tenant,
        [
            row("at the end", MONDAY + WEEK),
            row("just within", MONDAY + WEEK - timedelta(microseconds=1)),
            row("now", MONDAY),
            row("under way", MONDAY - HOUR, end_datetime=MONDAY + HOUR),
            row("done", MONDAY + HOUR, status="completed"),
            row("off", MONDAY + HOUR, status="cancelled"),
            row("daily", MONDAY - 30 * DAY + HOUR, recurrence_rule="FREQ=DAILY;INTERVAL=5"),
            row("theirs", MONDAY + HOUR) | {"user_id": madrid.id},
        ],
    )
    deleted = await store.events.create(tenant, user.id, "deleted", MONDAY + HOUR)
    await store.events.delete(tenant, deleted.id)
    upcoming = await store.events.get_upcoming(tenant, user.id, now=MONDAY)

    assert titles(upcoming) == ["now", "daily", "daily", "just within"]
    assert [occurrence.is_recurring for occurrence in upcoming] == [False, True, True, False]
    assert titles(await store.events.get_upcoming(tenant, user.id, 8, now=MONDAY, limit=2)) == ["now", "daily"]
    assert await store.events.get_upcoming(other_tenant, user.id, now=MONDAY) == []
    assert await store.events.get_upcoming(tenant, 2**62, now=MONDAY) == []


async def test_upcoming_counts_from_the_present(store: Store, tenant: str, user: User) -> None:
    now = datetime.now(UTC)
    await store.events.create(tenant, user.id, "past", now - HOUR)
    await store.events.create(tenant, user.id, "soon", now + HOUR)

    assert titles(await store.events.get_upcoming(tenant, user.id)) == ["soon"]


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("days_ahead", 0),
        ("days_ahead", 3661),
        ("days_ahead", -1),
        ("days_ahead", 1.5),
        ("days_ahead", True),
        ("days_ahead", 10**30),
        ("now", NAIVE),
        ("now", 5),
        ("limit", 0),
        ("limit", 1001),
    ],
)
async def test_a_bad_argument_of_upcoming_is_named(store: Store, argument: str, value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=f"^{argument}: "):
        await store.events.get_upcoming("nobody", 1, **{argument: value})


# --- ranges ---------------------------------------------------------------------------------------


async def test_a_range_holds_what_happens_in_it_half_open_and_in_order(
    store: Store, tenant: str, other_tenant: str, user: User, madrid: User
) -> None:
    def row(title: str, start: datetime, end: datetime | None, **more: Any) -> dict[str, Any]:
        return {"user_id": user.id, "title": title, "start_datetime": start, "end_datetime": end} | more

    before, after = MONDAY, MONDAY + DAY
    await store.events.create_many(
        tenant,
        [
            row("c", before + HOUR, before + 2 * HOUR, status="completed"),
            row("b", before, None, status="cancelled"),
            row("a", before - 9 * DAY, after + 9 * DAY),
            row("d", after - HOUR, after + HOUR),
            row("over", before - HOUR, before),
            row("over at once", before - HOUR, before - HOUR),
            row("not yet", after, after + HOUR),
            row("not yet at once", after, None),
            row("theirs", before, None) | {"user_id": madrid.id},
        ],
    )

    assert titles(await store.events.get_by_date_range(tenant, user.id, before, after)) == ["a", "b", "c", "d"]
    assert titles(await store.events.get_by_date_range(tenant, user.id, before, after, limit=2)) == ["a", "b"]
    assert titles(await store.events.get_by_date_range(tenant, user.id, before, before)) == ["a", "b"]
    assert await store.events.get_by_date_range(other_tenant, user.id, before, after) == []


@pytest.mark.parametrize(
    ("zone", "start", "days"),
    [
        ("Europe/Madrid", "2027-03-26 09:00", ["03-26 09:00", "03-27 09:00", "03-28 08:00", "03-29 08:00"]),
        ("Europe/Madrid", "2027-10-29 08:00", ["10-29 08:00", "10-30 08:00", "10-31 09:00", "11-01 09:00"]),
        ("America/New_York", "2027-03-12 15:00", ["03-12 15:00", "03-13 15:00", "03-14 14:00", "03-15 14:00"]),
        ("America/New_York", "2027-11-05 14:00", ["11-05 14:00", "11-06 14:00", "11-07 15:00", "11-08 15:00"]),
        ("America/Santiago", "2027-09-03 14:00", ["09-03 14:00", "09-04 14:00", "09-05 13:00", "09-06 13:00"]),
        ("America/Santiago", "2027-04-02 13:00", ["04-02 13:00", "04-03 13:00", "04-04 14:00", "04-05 14:00"]),
    ],
)
async def test_ten_oclock_stays_ten_oclock_for_the_user(
    store: Store, tenant: str, zone: str, start: str, days: list[str]
) -> None:
    user = await store.users.create(tenant, telegram_id=1, timezone=zone)
    first = at(start)
    await store.events.create(
        tenant, user.id, "x", first, end_datetime=first + HOUR, reminder_minutes=30, recurrence_rule="FREQ=DAILY"
    )
    found = await store.events.get_by_date_range(tenant, user.id, first, first + 4 * DAY - HOUR)
    assert starts(found) == days
    assert {occurrence.end_datetime - occurrence.start_datetime for occurrence in found if occurrence.end_datetime} == {
        HOUR
    }

    conflicts = await store.events.find_conflicts(tenant, user.id, at(f"2027-{days[2]}"), at(f"2027-{days[2]}") + HOUR)
    assert starts(conflicts) == days[2:3]
    assert await store.events.find_conflicts(tenant, user.id, found[2].end_datetime, found[3].start_datetime) == []  # type: ignore[arg-type]
    upcoming = await store.events.get_upcoming(tenant, user.id, 1, now=at(f"2027-{days[1]}") + 2 * HOUR)
    assert starts(upcoming) == days[2:3]
    await store.events.claim_due_reminders(tenant, now=at(f"2027-{days[1]}"))
    due = at(f"2027-{days[2]}") - timedelta(minutes=30)
    assert await store.events.claim_due_reminders(tenant, now=due - timedelta(microseconds=1)) == []
    assert starts(await store.events.claim_due_reminders(tenant, now=due)) == days[2:3]


@pytest.mark.parametrize(
    ("rule", "days"),
    [
        ("FREQ=DAILY;COUNT=3", ["03-01", "03-02", "03-03"]),
        ("FREQ=DAILY;UNTIL=20270302", ["03-01", "03-02"]),
        ("FREQ=WEEKLY;BYDAY=MO,WE;COUNT=4", ["03-01", "03-03", "03-08", "03-10"]),
        ("FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1;COUNT=2", ["03-31", "04-30"]),
        ("FREQ=DAILY;BYHOUR=10,18;COUNT=3", ["03-01", "03-01", "03-02"]),
    ],
)
async def test_a_rule_says_when(store: Store, tenant: str, madrid: User, rule: str, days: list[str]) -> None:
    event = await store.events.create(tenant, madrid.id, "x", MONDAY, recurrence_rule=rule)
    found = await store.events.get_by_date_range(tenant, madrid.id, MONDAY, MONDAY + 365 * DAY)

    assert starts(found, "%m-%d") == days
    assert {occurrence.id for occurrence in found} == {event.id}
    assert all(type(occurrence) is EventOccurrence and occurrence.is_recurring for occurrence in found)
    later = found[-1].start_datetime + HOUR
    assert await store.events.get_by_date_range(tenant, madrid.id, later, at("2099-01-01")) == []


async def test_an_occurrence_that_began_before_the_range_belongs_to_it(store: Store, tenant: str, user: User) -> None:
    await store.events.create(
        tenant, user.id, "x", MONDAY, end_datetime=MONDAY + 6 * DAY, recurrence_rule="FREQ=WEEKLY;COUNT=2"
    )
    second = MONDAY + WEEK

    async def days(start: datetime, end: datetime) -> list[str]:
        return starts(await store.events.get_by_date_range(tenant, user.id, start, end), "%m-%d")

    assert await days(second + 5 * DAY, second + 9 * DAY) == ["03-08"]
    assert await days(second + 6 * DAY, second + 9 * DAY) == []
    assert await days(MONDAY + 6 * DAY, second) == []
    assert await days(MONDAY + 5 * DAY, second + HOUR) == ["03-01", "03-08"]
    assert await store.events.get_upcoming(tenant, user.id, now=second + HOUR) == []


async def test_single_and_recurring_events_are_merged_and_cut_at_the_limit(
    store: Store, tenant: str, user: User
) -> None:
    for n in range(3):
        rule = f"FREQ=DAILY;INTERVAL={n + 1}"
        await store.events.create(tenant, user.id, f"series {n}", MONDAY + n * HOUR, recurrence_rule=rule)
    for n in range(20):
        await store.events.create(tenant, user.id, f"single {n}", MONDAY + n * DAY)
    everything = await store.events.get_by_date_range(tenant, user.id, MONDAY, MONDAY + 20 * DAY)

    keys = [(occurrence.start_datetime, occurrence.id) for occurrence in everything]
    assert keys == sorted(keys)
    assert len(everything) == 20 + 20 + 10 + 7
    for limit in (1, 13, 57):
        found = await store.events.get_by_date_range(tenant, user.id, MONDAY, MONDAY + 20 * DAY, limit=limit)
        assert found == everything[:limit]


@pytest.mark.parametrize("call", ["get_by_date_range", "find_conflicts"])
async def test_a_bad_range_is_named(store: Store, call: str) -> None:
    for argument, start, end in [
        ("end", MONDAY, MONDAY - timedelta(microseconds=1)),
        ("end", MONDAY, NAIVE),
        ("start", None, MONDAY),
        ("start", "2027-01-01", MONDAY),
    ]:
        with pytest.raises(InvalidArgumentError, match=f"^{argument}: "):
            await getattr(store.events, call)("nobody", 1, start, end)


# --- conflicts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hours", "conflicts"),
    [
        ((0, 1), False),
        ((0, 2), False),  # ends where the event starts
        ((0, 3), True),
        ((2, 4), True),
        ((2, 3), True),
        ((3, 3), True),  # an instant
        ((2, 2), True),
        ((1, 1), False),
        ((4, 4), False),
        ((4, 5), False),  # starts where the event ends
        ((3, 5), True),
        ((0, 9), True),
    ],
)
@pytest.mark.parametrize("rule", [None, "FREQ=WEEKLY"])
async def test_a_conflict_is_half_open(
    store: Store, tenant: str, user: User, *, hours: tuple[int, int], conflicts: bool, rule: str | None
) -> None:
    event = await store.events.create(
        tenant, user.id, "x", MONDAY + 2 * HOUR, end_datetime=MONDAY + 4 * HOUR, recurrence_rule=rule
    )
    shift = 5 * WEEK if rule else timedelta()
    start, end = (MONDAY + shift + hour * HOUR for hour in hours)
    found = await store.events.find_conflicts(tenant, user.id, start, end)

    assert [occurrence.id for occurrence in found] == ([event.id] if conflicts else [])
    assert [occurrence.start_datetime for occurrence in found] == [MONDAY + shift + 2 * HOUR] * conflicts


@pytest.mark.parametrize("rule", [None, "FREQ=DAILY"])
async def test_an_event_without_an_end_conflicts_as_an_instant(
    store: Store, tenant: str, user: User, rule: str | None
) -> None:
    await store.events.create(tenant, user.id, "x", MONDAY, recurrence_rule=rule)

    async def count(start: datetime, end: datetime) -> int:
        return len(await store.events.find_conflicts(tenant, user.id, start, end))

    assert await count(MONDAY - HOUR, MONDAY) == 0
    assert await count(MONDAY - HOUR, MONDAY + HOUR) == 1
    assert await count(MONDAY, MONDAY + HOUR) == 1
    assert await count(MONDAY, MONDAY) == 1
    assert await count(MONDAY + timedelta(microseconds=1), MONDAY + HOUR) == 0


async def test_what_is_completed_cancelled_excluded_or_another_users_is_no_conflict(
    store: Store, tenant: str, other_tenant: str, user: User, madrid: User
) -> None:
    events = [
        await store.events.create(
            tenant, user.id, str(n), MONDAY, end_datetime=MONDAY + HOUR, recurrence_rule=("FREQ=DAILY", None)[n % 2]
        )
        for n in range(6)
    ]
    await store.events.complete(tenant, events[0].id)
    await store.events.cancel(tenant, events[1].id)
    await store.events.delete(tenant, events[2].id)
    await store.events.create(tenant, madrid.id, "theirs", MONDAY, end_datetime=MONDAY + HOUR)

    found = await store.events.find_conflicts(tenant, user.id, MONDAY, MONDAY + HOUR, exclude_event_id=events[3].id)
    assert titles(found) == ["4", "5"]
    assert titles(await store.events.get_upcoming(tenant, user.id, 1, now=MONDAY)) == ["3", "4", "5"]
    assert await store.events.find_conflicts(other_tenant, user.id, MONDAY, MONDAY + HOUR) == []
    with pytest.raises(InvalidArgumentError, match="^exclude_event_id"):
        await store.events.find_conflicts(tenant, user.id, MONDAY, MONDAY, exclude_event_id="x")  # type: ignore[arg-type]


_tenants = (f"conflicts-{n}" for n in itertools.count())
_spans = st.tuples(st.integers(0, 12), st.integers(0, 6) | st.none())


@settings(max_examples=scaled(40), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(events=st.lists(_spans, max_size=6), window=st.tuples(st.integers(0, 12), st.integers(0, 6)))
async def test_conflicts_are_those_that_share_a_moment(
    store: Store, events: list[tuple[int, int | None]], window: tuple[int, int]
) -> None:
    tenant = next(_tenants)
    user = await store.users.create(tenant, telegram_id=1)
    rows = [
        {
            "user_id": user.id,
            "title": str(n),
            "start_datetime": MONDAY + start * HOUR,
            "end_datetime": None if length is None else MONDAY + (start + length) * HOUR,
        }
        for n, (start, length) in enumerate(events)
    ]
    await store.events.create_many(tenant, rows)

    def moments(start: int, length: int | None) -> set[int]:  # in half hours; an instant has its own
        return set(range(2 * start, 2 * (start + (length or 0)))) or {2 * start}

    expected = {str(n) for n, span in enumerate(events) if moments(*span) & moments(*window)}
    first, length = window
    found = await store.events.find_conflicts(tenant, user.id, MONDAY + first * HOUR, MONDAY + (first + length) * HOUR)
    assert set(titles(found)) == expected


# --- changing -------------------------------------------------------------------------------------


async def test_an_end_before_the_start_is_refused_also_when_one_of_them_stays(
    store: Store, tenant: str, user: User
) -> None:
    event = await store.events.create(tenant, user.id, "x", MONDAY, end_datetime=MONDAY + HOUR)
    for changes in ({"end_datetime": MONDAY - HOUR}, {"start_datetime": MONDAY + 2 * HOUR}):
        with pytest.raises(InvalidArgumentError, match="^end_datetime: must not be before"):
            await store.events.update(tenant, event.id, **changes)  # type: ignore[arg-type]
    assert await store.events.get_by_id(tenant, event.id) == event

    moved = await store.events.update(tenant, event.id, start_datetime=MONDAY + HOUR)
    assert (moved.start_datetime, moved.end_datetime) == (MONDAY + HOUR, MONDAY + HOUR)
    assert (await store.events.update(tenant, event.id, end_datetime=None)).end_datetime is None


async def test_a_refused_change_leaves_a_transaction_open(store: Store, tenant: str, user: User) -> None:
    async with store.transaction(tenant) as tx:
        event = await tx.events.create(tenant, user.id, "x", MONDAY)
        with pytest.raises(InvalidArgumentError, match="^end_datetime"):
            await tx.events.update(tenant, event.id, end_datetime=MONDAY - HOUR)
        await tx.events.update(tenant, event.id, end_datetime=MONDAY + HOUR)

    assert (await store.events.get_all(tenant)).items[0].end_datetime == MONDAY + HOUR


async def test_a_rule_is_checked_against_the_start_that_stays(store: Store, tenant: str, user: User) -> None:
    event = await store.events.create(tenant, user.id, "x", MONDAY)
    with pytest.raises(InvalidArgumentError, match="^recurrence_rule: gives no occurrence"):
        await store.events.update(tenant, event.id, recurrence_rule="FREQ=DAILY;UNTIL=20260101")
    await store.events.update(tenant, event.id, recurrence_rule="FREQ=DAILY;UNTIL=20270601")
    with pytest.raises(InvalidArgumentError, match="^recurrence_rule: gives no occurrence"):
        await store.events.update(tenant, event.id, start_datetime=at("2028-01-01"))


async def test_a_changed_time_counts_in_every_range(store: Store, tenant: str, user: User) -> None:
    event = await store.events.create(tenant, user.id, "x", MONDAY, recurrence_rule="FREQ=DAILY;COUNT=2")

    async def days() -> list[str]:
        found = await store.events.get_by_date_range(tenant, user.id, at("2027-01-01"), at("2028-01-01"))
        return starts(found, "%m-%d")

    assert await days() == ["03-01", "03-02"]
    await store.events.update(tenant, event.id, start_datetime=MONDAY + 40 * DAY)
    assert await days() == ["04-10", "04-11"]
    await store.events.update(tenant, event.id, recurrence_rule="FREQ=WEEKLY;COUNT=3")
    assert await days() == ["04-10", "04-17", "04-24"]
    await store.events.update(tenant, event.id, recurrence_rule=None)
    assert await days() == ["04-10"]
    await store.events.update(tenant, event.id, recurrence_rule="FREQ=YEARLY", start_datetime=MONDAY)
    assert await days() == ["03-01"]


async def test_changes_of_the_same_event_at_once_keep_its_end_after_its_start(
    store: Store, tenant: str, user: User
) -> None:
    event = await store.events.create(tenant, user.id, "x", MONDAY, end_datetime=MONDAY + 10 * HOUR)
    await asyncio.gather(
        *(store.events.update(tenant, event.id, start_datetime=MONDAY + n * HOUR) for n in range(3, 8)),
        *(store.events.update(tenant, event.id, end_datetime=MONDAY + n * HOUR) for n in range(3, 8)),
        return_exceptions=True,
    )
    found = await store.events.get_by_id(tenant, event.id)

    assert found is not None
    assert found.end_datetime is not None
    assert found.end_datetime >= found.start_datetime


async def test_completing_and_cancelling(store: Store, tenant: str, other_tenant: str, user: User) -> None:
    event = await store.events.create(tenant, user.id, "x", MONDAY)

    assert (await store.events.complete(tenant, event.id)).status == "completed"
    assert (await store.events.cancel(tenant, event.id)).status == "cancelled"
    assert (await store.events.update(tenant, event.id, status="scheduled")).status == "scheduled"
    for call in (store.events.complete, store.events.cancel):
        for missing in ((tenant, 2**62), (other_tenant, event.id)):
            with pytest.raises(NotFoundError):
                await call(*missing)


# --- calendar sync --------------------------------------------------------------------------------


async def test_a_synchronised_event_is_made_once_and_then_refreshed(
    store: Store, tenant: str, user: User, madrid: User
) -> None:
    made = await store.events.upsert_external(
        tenant, user.id, "g1", "a", MONDAY, end_datetime=MONDAY + HOUR, location="Lima", reminder_minutes=10
    )
    assert made.model_dump(include={"external_id", "title", "location", "reminder_minutes"}) == {
        "external_id": "g1",
        "title": "a",
        "location": "Lima",
        "reminder_minutes": 10,
    }

    await store.events.update(tenant, made.id, category="mine", status="completed")
    again = await store.events.upsert_external(
        tenant, user.id, "g1", "b", MONDAY + 2 * HOUR, location=None, recurrence_rule="FREQ=DAILY;COUNT=2"
    )
    assert again.id == made.id
    assert (again.title, again.start_datetime, again.end_datetime) == ("b", MONDAY + 2 * HOUR, None)
    assert (again.location, again.reminder_minutes, again.category) == (None, 10, "mine")
    assert (again.status, again.recurrence_rule) == ("completed", "FREQ=DAILY;COUNT=2")
    assert again.updated_at > made.updated_at
    assert len(await store.events.get_by_date_range(tenant, user.id, MONDAY, MONDAY + WEEK)) == 2

    theirs = await store.events.upsert_external(tenant, madrid.id, "g1", "c", MONDAY)
    assert theirs.id != made.id


async def test_synchronising_at_once_makes_one_event(store: Store, tenant: str, user: User) -> None:
    events = await asyncio.gather(
        *(store.events.upsert_external(tenant, user.id, "g1", str(n), MONDAY) for n in range(24))
    )

    assert len({event.id for event in events}) == 1
    assert await store.events.count(tenant) == 1


async def test_a_deleted_event_that_is_synchronised_is_restored(store: Store, tenant: str, user: User) -> None:
    made = await store.events.upsert_external(tenant, user.id, "g1", "a", MONDAY, category="kept")
    await store.events.delete(tenant, made.id)
    again = await asyncio.gather(*(store.events.upsert_external(tenant, user.id, "g1", "b", MONDAY) for _ in range(8)))

    assert {(event.id, event.title, event.category, event.deleted_at) for event in again} == {
        (made.id, "b", "kept", None)
    }


@pytest.mark.parametrize("bad", [None, "", 5, "x" * 256])
async def test_synchronising_needs_an_external_id(store: Store, bad: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="^external_id: "):
        await store.events.upsert_external("nobody", 1, bad, "x", MONDAY)


# --- reminders ------------------------------------------------------------------------------------


async def remind(store: Store, tenant: str, user: User, title: str = "x", **more: Any) -> Event:
    fields: dict[str, Any] = {"start_datetime": MONDAY, "reminder_minutes": 30} | more
    return await store.events.create(tenant, user.id, title, **fields)


async def test_a_reminder_is_handed_out_once_from_its_moment_on(
    store: Store, tenant: str, other_tenant: str, user: User
) -> None:
    event = await remind(store, tenant, user, end_datetime=MONDAY + HOUR)
    due = MONDAY - timedelta(minutes=30)

    assert await store.events.claim_due_reminders(tenant, now=due - timedelta(microseconds=1)) == []
    assert await store.events.claim_due_reminders(other_tenant, now=due) == []
    claimed = await store.events.claim_due_reminders(tenant, now=due)
    assert claimed == [EventOccurrence(**event.model_dump(), is_recurring=False)]
    assert await store.events.claim_due_reminders(tenant, now=due) == []
    assert await store.events.claim_due_reminders(tenant, now=due + 400 * DAY) == []


async def test_a_claim_is_no_change_of_the_event(
    store: Store, tenant: str, user: User, superuser: psycopg.Connection[Any]
) -> None:
    event = await remind(store, tenant, user, recurrence_rule="FREQ=DAILY")
    await store.events.claim_due_reminders(tenant, now=MONDAY)
    entries = superuser.execute(
        "select action from thea.audit_log where tenant_id = %s and table_name = 'events'", [tenant]
    ).fetchall()

    assert await store.events.get_by_id(tenant, event.id) == event
    assert entries == [("insert",)]


async def test_without_a_reminder_or_its_moment_nothing_is_handed_out(store: Store, tenant: str, user: User) -> None:
    await remind(store, tenant, user, reminder_minutes=None)
    done = await remind(store, tenant, user)
    off = await remind(store, tenant, user)
    await remind(store, tenant, user, status="cancelled")
    deleted = await remind(store, tenant, user)
    await store.events.complete(tenant, done.id)
    await store.events.cancel(tenant, off.id)
    await store.events.delete(tenant, deleted.id)

    assert await store.events.claim_due_reminders(tenant, now=MONDAY) == []


async def test_the_clock_is_the_present_one(store: Store, tenant: str, user: User) -> None:
    now = datetime.now(UTC)
    await remind(store, tenant, user, "due", start_datetime=now + timedelta(minutes=20))
    await remind(store, tenant, user, "later", start_datetime=now + timedelta(minutes=40))

    assert titles(await store.events.claim_due_reminders(tenant)) == ["due"]


async def test_each_occurrence_of_a_series_is_handed_out_once(store: Store, tenant: str, madrid: User) -> None:
    await remind(store, tenant, madrid, start_datetime=at("2027-03-26 09:00"), recurrence_rule="FREQ=DAILY;COUNT=4")
    claimed = []
    now = at("2027-03-25 00:00")
    while now < at("2027-04-02 00:00"):
        claimed += [
            (occurrence.start_datetime, now) for occurrence in await store.events.claim_due_reminders(tenant, now=now)
        ]
        now += timedelta(minutes=30)

    assert [f"{start:%m-%d %H:%M}" for start, _ in claimed] == [
        "03-26 09:00",
        "03-27 09:00",
        "03-28 08:00",
        "03-29 08:00",
    ]
    assert all(start - at_ == timedelta(minutes=30) for start, at_ in claimed)


async def test_after_an_absence_each_event_is_handed_out_once_as_its_latest_occurrence(
    store: Store, tenant: str, user: User
) -> None:
    await remind(store, tenant, user, "single")
    await remind(store, tenant, user, "hourly", recurrence_rule="FREQ=DAILY;BYHOUR=8,9,10,11,12,13,14,15")
    await remind(store, tenant, user, "ended", recurrence_rule="FREQ=DAILY;COUNT=3")
    back = MONDAY + 10 * DAY + timedelta(minutes=35)
    claimed = await store.events.claim_due_reminders(tenant, now=back)

    found = {occurrence.title: occurrence.start_datetime for occurrence in claimed}
    assert found == {"single": MONDAY, "ended": MONDAY + 2 * DAY, "hourly": MONDAY + 10 * DAY + HOUR}
    assert titles(claimed) == ["single", "ended", "hourly"]
    assert await store.events.claim_due_reminders(tenant, now=back) == []
    later = await store.events.claim_due_reminders(tenant, now=back + HOUR)
    assert [occurrence.start_datetime for occurrence in later] == [MONDAY + 10 * DAY + 2 * HOUR]


@pytest.mark.parametrize("limit", [1, 7, 1000])
async def test_many_workers_get_each_reminder_exactly_once(store: Store, tenant: str, user: User, limit: int) -> None:
    count = 60
    rows = [
        {
            "user_id": user.id,
            "title": str(n),
            "start_datetime": MONDAY + n * timedelta(minutes=1),
            "reminder_minutes": n,
            "recurrence_rule": (None, "FREQ=DAILY", "FREQ=WEEKLY;BYDAY=MO")[n % 3],
        }
        for n in range(count)
    ]
    await store.events.create_many(tenant, rows)

    async def worker(now: datetime) -> list[EventOccurrence]:
        mine: list[EventOccurrence] = []
        while claimed := await store.events.claim_due_reminders(tenant, now=now, limit=limit):
            assert len(claimed) <= limit
            mine += claimed
        return mine

    for now, titles_due in [
        (MONDAY, range(count)),
        (MONDAY + DAY, [n for n in range(count) if n % 3 == 1]),
        (MONDAY + WEEK, [n for n in range(count) if n % 3]),
    ]:
        shares = await asyncio.gather(*(worker(now) for _ in range(8)))
        assert Counter(o.title for share in shares for o in share) == Counter(str(n) for n in titles_due)
        if limit == 7 and now == MONDAY:
            assert sum(bool(share) for share in shares) > 1


async def test_a_claim_within_a_transaction_is_undone_with_it(store: Store, tenant: str, user: User) -> None:
    await remind(store, tenant, user)
    with pytest.raises(ZeroDivisionError):
        async with store.transaction(tenant) as tx:
            assert len(await tx.events.claim_due_reminders(tenant, now=MONDAY)) == 1
            assert await store.events.claim_due_reminders(tenant, now=MONDAY) == []  # another worker, meanwhile
            raise ZeroDivisionError

    assert len(await store.events.claim_due_reminders(tenant, now=MONDAY)) == 1


@pytest.mark.parametrize("change", ["update", "reschedule", "upsert"])
async def test_a_change_that_waits_for_a_claim_does_not_undo_it(
    store: Store, tenant: str, user: User, superuser: psycopg.Connection[Any], change: str
) -> None:
    event = await remind(store, tenant, user, external_id="g")
    changes = {
        "update": lambda: store.events.update(tenant, event.id, title="y"),
        "reschedule": lambda: store.events.update(tenant, event.id, end_datetime=MONDAY + HOUR),
        "upsert": lambda: store.events.upsert_external(tenant, user.id, "g", "y", MONDAY),
    }
    async with store.transaction(tenant) as tx:
        assert len(await tx.events.claim_due_reminders(tenant, now=MONDAY)) == 1
        waiting = asyncio.create_task(changes[change]())
        for _ in range(1000):
            if superuser.execute("select 1 from pg_stat_activity where wait_event_type = 'Lock'").fetchone():
                break
            await asyncio.sleep(0.01)
        assert not waiting.done()
    await waiting

    assert await store.events.claim_due_reminders(tenant, now=MONDAY) == []


async def test_an_event_that_is_looked_at_too_early_makes_room_for_one_that_is_due(
    store: Store, tenant: str, user: User
) -> None:
    for n in range(5):
        await remind(store, tenant, user, f"later {n}", recurrence_rule="FREQ=WEEKLY;BYDAY=FR")
    await remind(store, tenant, user, "due")

    assert titles(await store.events.claim_due_reminders(tenant, now=MONDAY, limit=1)) == ["due"]
    friday = MONDAY + 4 * DAY
    assert len(await store.events.claim_due_reminders(tenant, now=friday)) == 5


async def test_an_event_that_moved_is_reminded_of_anew(store: Store, tenant: str, user: User) -> None:
    event = await remind(store, tenant, user)
    assert len(await store.events.claim_due_reminders(tenant, now=MONDAY)) == 1

    await store.events.update(tenant, event.id, title="y", category="z", end_datetime=None)
    await store.events.update(tenant, event.id, start_datetime=MONDAY, reminder_minutes=60)
    assert await store.events.claim_due_reminders(tenant, now=MONDAY) == []

    for start in (MONDAY + DAY, MONDAY - DAY):
        await store.events.update(tenant, event.id, start_datetime=start)
        assert await store.events.claim_due_reminders(tenant, now=start - HOUR - timedelta(microseconds=1)) == []
        assert [o.start_datetime for o in await store.events.claim_due_reminders(tenant, now=start - HOUR)] == [start]


async def test_a_series_whose_rule_changes_is_not_reminded_of_the_past_again(
    store: Store, tenant: str, user: User
) -> None:
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    event = await remind(store, tenant, user, start_datetime=today - 10 * DAY, recurrence_rule="FREQ=DAILY")
    now = datetime.now(UTC)
    assert len(await store.events.claim_due_reminders(tenant, now=now)) == 1

    await store.events.update(tenant, event.id, recurrence_rule="FREQ=DAILY;INTERVAL=2")
    assert await store.events.claim_due_reminders(tenant, now=now) == []
    assert len(await store.events.claim_due_reminders(tenant, now=now + 2 * DAY)) == 1


async def test_synchronising_the_same_again_reminds_of_nothing_again(store: Store, tenant: str, user: User) -> None:
    for _ in range(2):
        await store.events.upsert_external(tenant, user.id, "g", "x", MONDAY, reminder_minutes=30)
    assert len(await store.events.claim_due_reminders(tenant, now=MONDAY)) == 1
    for more in ({}, {"reminder_minutes": 30}, {"reminder_minutes": 90}, {"location": "Lima"}):
        await store.events.upsert_external(tenant, user.id, "g", "x", MONDAY, **more)
    assert await store.events.claim_due_reminders(tenant, now=MONDAY) == []

    await store.events.upsert_external(tenant, user.id, "g", "x", MONDAY + DAY)
    assert await store.events.claim_due_reminders(tenant, now=MONDAY) == []
    assert len(await store.events.claim_due_reminders(tenant, now=MONDAY + DAY)) == 1


async def test_what_came_due_while_it_was_hidden_or_done_is_handed_out_afterwards(
    store: Store, tenant: str, user: User
) -> None:
    reminded = await remind(store, tenant, user, "reminded")
    await store.events.claim_due_reminders(tenant, now=MONDAY)
    deleted = await remind(store, tenant, user, "deleted")
    done = await remind(store, tenant, user, "done", status="completed")
    for event in (reminded, deleted):
        await store.events.delete(tenant, event.id)
    assert await store.events.claim_due_reminders(tenant, now=MONDAY) == []

    for event in (reminded, deleted):
        await store.events.restore(tenant, event.id)
    await store.events.update(tenant, done.id, status="scheduled")
    assert sorted(titles(await store.events.claim_due_reminders(tenant, now=MONDAY + HOUR))) == ["deleted", "done"]


async def test_the_events_of_a_deleted_user_remind_nobody(store: Store, tenant: str, user: User) -> None:
    await remind(store, tenant, user)
    await store.users.delete(tenant, user.id)
    assert await store.events.claim_due_reminders(tenant, now=MONDAY) == []

    await store.users.restore(tenant, user.id)
    assert len(await store.events.claim_due_reminders(tenant, now=MONDAY)) == 1


async def test_one_unreadable_row_stops_neither_reminders_nor_ranges(
    store: Store, tenant: str, user: User, superuser: psycopg.Connection[Any], caplog: pytest.LogCaptureFixture
) -> None:
    await remind(store, tenant, user, "odd rule", recurrence_rule="FREQ=DAILY")
    await remind(store, tenant, user, "good", recurrence_rule="FREQ=DAILY")
    superuser.execute(
        "update thea.events set recurrence_rule = 'FREQ=SECONDLY' where tenant_id = %s and title = 'odd rule'", [tenant]
    )
    superuser.execute("update thea.users set timezone = 'Mars/Olympus' where tenant_id = %s", [tenant])
    with caplog.at_level(logging.ERROR, "thea_store.events"):
        claimed = await store.events.claim_due_reminders(tenant, now=MONDAY)
        found = await store.events.get_by_date_range(tenant, user.id, MONDAY, MONDAY + 2 * DAY)

    assert sorted(titles(claimed)) == ["good", "odd rule"]
    assert sorted(titles(found)) == ["good", "good", "odd rule"]


@pytest.mark.parametrize(("argument", "value"), [("now", NAIVE), ("limit", 0), ("limit", 1001)])
async def test_a_bad_argument_of_a_claim_is_named(store: Store, argument: str, value: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=f"^{argument}: "):
        await store.events.claim_due_reminders("nobody", **{argument: value})


# --- bounded work, and the tenant -------------------------------------------------------------------

EVER = FIRST_MOMENT, LAST_MOMENT


async def test_a_window_over_all_of_time_is_cut_at_the_limit(store: Store, tenant: str, user: User) -> None:
    first, last = at("1990-01-01 10:00"), at("1990-01-01 11:00")
    await store.events.create(tenant, user.id, "x", first, end_datetime=last, recurrence_rule="FREQ=DAILY")

    assert len(await store.events.get_by_date_range(tenant, user.id, *EVER)) == 1000
    assert len(await store.events.find_conflicts(tenant, user.id, *EVER)) == 1000
    far = at("9000-01-01"), at("9000-01-03")
    assert starts(await store.events.get_by_date_range(tenant, user.id, *far), "%Y-%m-%d") == [
        "9000-01-01",
        "9000-01-02",
    ]


async def test_a_window_that_takes_too_much_work_is_refused(store: Store, tenant: str, user: User) -> None:
    rule = "FREQ=DAILY;BYMONTH=2;BYMONTHDAY=29;BYDAY=MO"
    row = {"user_id": user.id, "title": "x", "start_datetime": MONDAY, "recurrence_rule": rule}
    for _ in range(10):
        await store.events.create_many(tenant, [row] * 5)

    with pytest.raises(InvalidArgumentError, match="^end: .*ask for a shorter time"):
        await store.events.get_by_date_range(tenant, user.id, *EVER)
    with pytest.raises(InvalidArgumentError, match="^end: "):
        await store.events.find_conflicts(tenant, user.id, MONDAY, EVER[1])
    assert await store.events.get_upcoming(tenant, user.id, now=MONDAY) == []


async def test_a_window_with_too_many_recurring_events_is_refused(
    store: Store, tenant: str, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thea_store.assistant.events.windows._SERIES", 2)
    for n in range(3):
        assert len(await store.events.get_by_date_range(tenant, user.id, MONDAY, MONDAY + DAY)) == n
        await store.events.create(tenant, user.id, "x", MONDAY, recurrence_rule="FREQ=DAILY")

    with pytest.raises(InvalidArgumentError, match="^end: "):
        await store.events.get_by_date_range(tenant, user.id, MONDAY, MONDAY + DAY)
    with pytest.raises(InvalidArgumentError, match="^days_ahead: "):
        await store.events.get_upcoming(tenant, user.id, now=MONDAY)


async def test_a_claim_that_does_enough_leaves_the_rest_to_the_next(
    store: Store, tenant: str, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thea_store.assistant.events.reminders._CLAIMING", 1)
    for n in range(3):
        await remind(store, tenant, user, str(n), recurrence_rule="FREQ=DAILY")

    claims = [titles(await store.events.claim_due_reminders(tenant, now=MONDAY)) for _ in range(4)]
    assert claims == [["0"], ["1"], ["2"], []]


async def test_a_series_whose_next_occurrence_takes_too_long_to_find_ends_there(
    store: Store, tenant: str, user: User
) -> None:
    event = await remind(store, tenant, user, recurrence_rule="FREQ=DAILY;BYMONTH=3;BYMONTHDAY=1;BYDAY=MO")
    due = Due(**event.model_dump(), timezone="UTC", reminded_until=None, reminded=[], reminded_at=[])

    occurrence, move = claim(due, MONDAY, WorkBudget(20_000))
    assert occurrence is not None
    assert move == {
        "id": event.id,
        "reminded_until": MONDAY,
        "reminded": [MONDAY],
        "reminded_at": [MONDAY],
        "next_reminder_at": None,
    }


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "America/Los_Angeles"])
async def test_an_event_at_the_end_of_time_overflows_nowhere(store: Store, tenant: str, zone: str) -> None:
    user = await store.users.create(tenant, telegram_id=1, timezone=zone)
    await store.events.create(tenant, user.id, "last", EVER[1] - HOUR, end_datetime=EVER[1], reminder_minutes=5)
    await store.events.create(tenant, user.id, "first", EVER[0], reminder_minutes=527040)
    await store.events.create(
        tenant, user.id, "long", MONDAY, end_datetime=EVER[1], recurrence_rule="FREQ=DAILY;COUNT=2", reminder_minutes=5
    )
    await store.events.create(tenant, user.id, "series", EVER[1] - 3 * DAY, recurrence_rule="FREQ=DAILY;COUNT=9")

    for now in EVER:
        assert isinstance(await store.events.claim_due_reminders(tenant, now=now), list)
        assert isinstance(await store.events.get_upcoming(tenant, user.id, 3660, now=now), list)
        assert isinstance(await store.events.get_by_date_range(tenant, user.id, now, now), list)
    found = await store.events.get_by_date_range(tenant, user.id, *EVER)
    assert titles(found) == ["first", "long", "long", *["series"] * 3, "last"]
    assert found[2].end_datetime is not None
    assert found[2].end_datetime > EVER[1]


@pytest.mark.parametrize("tenant_id", ["", " a", None])
async def test_a_tenant_is_checked_first(store: Store, tenant_id: Any) -> None:
    events = store.events
    for call in (
        events.create(tenant_id, 1, "x", MONDAY),
        events.upsert_external(tenant_id, 1, "x", "x", MONDAY),
        events.update(tenant_id, 1, start_datetime=MONDAY),
        events.complete(tenant_id, 1),
        events.cancel(tenant_id, 1),
        events.get_upcoming(tenant_id, 1),
        events.get_by_date_range(tenant_id, 1, MONDAY, MONDAY),
        events.find_conflicts(tenant_id, 1, MONDAY, MONDAY),
        events.get_by_location(tenant_id, 1, "x"),
        events.get_by_category(tenant_id, 1, "x"),
        events.claim_due_reminders(tenant_id),
    ):
        with pytest.raises(InvalidTenantError):
            await call


# --- whole days, ends and dates of a series --------------------------------------------------------------


def local(text: str, zone: str = "Europe/Madrid") -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone))


async def test_a_night_shift_ends_at_six_on_the_clock_and_a_whole_day_touches_the_next(
    store: Store, tenant: str, madrid: User
) -> None:
    shift = {"end_datetime": local("2027-03-27 06:00"), "recurrence_rule": "FREQ=DAILY;COUNT=3"}
    await store.events.create(tenant, madrid.id, "noche", local("2027-03-26 22:00"), **shift)  # type: ignore[arg-type]
    day = {"end_datetime": local("2027-03-22"), "recurrence_rule": "FREQ=WEEKLY;COUNT=3", "all_day": True}
    sunday = await store.events.create(tenant, madrid.id, "domingo", local("2027-03-21"), **day)  # type: ignore[arg-type]
    found = await store.events.get_by_date_range(tenant, madrid.id, local("2027-03-26"), local("2027-03-30"))
    ends = {occurrence.end_datetime for occurrence in found if occurrence.end_datetime}

    assert [(o.title, o.start_datetime) for o in found] == [
        ("noche", local("2027-03-26 22:00")),
        ("noche", local("2027-03-27 22:00")),
        ("domingo", local("2027-03-28")),
        ("noche", local("2027-03-28 22:00")),
    ]
    assert ends == {local(f"2027-03-{day} 06:00") for day in (27, 28, 29)} | {local("2027-03-29")}
    assert sunday.all_day
    monday = local("2027-03-29"), local("2027-03-30")
    conflicts = await store.events.find_conflicts(tenant, madrid.id, *monday)
    assert titles(conflicts) == ["noche"]  # which is under way until six
    assert await store.events.find_conflicts(tenant, madrid.id, local("2027-03-29 06:00"), monday[1]) == []


async def test_a_whole_day_without_an_end_ends_at_the_next_midnight(store: Store, tenant: str, madrid: User) -> None:
    event = await store.events.create(tenant, madrid.id, "x", local("2027-03-28"), all_day=True)

    assert event.end_datetime == local("2027-03-29")
    assert event.end_datetime - event.start_datetime == 23 * HOUR
    longer = await store.events.update(tenant, event.id, end_datetime=local("2027-03-30"))
    assert (longer.all_day, longer.end_datetime) == (True, local("2027-03-30"))
    timed = await store.events.update(tenant, event.id, all_day=False, start_datetime=local("2027-03-28 10:30"))
    assert (timed.all_day, timed.start_datetime) == (False, local("2027-03-28 10:30"))


@pytest.mark.parametrize(
    ("argument", "changes"),
    [
        ("start_datetime", {"start_datetime": MONDAY}),
        ("start_datetime", {"start_datetime": local("2027-03-28", "UTC")}),
        ("end_datetime", {"end_datetime": local("2027-03-29 10:00")}),
        ("end_datetime", {"end_datetime": local("2027-03-28")}),
        ("recurrence_rule", {"recurrence_rule": "FREQ=DAILY;BYHOUR=10"}),
        ("recurrence_rule", {"recurrence_rule": "DTSTART;VALUE=DATE:20270329\nRRULE:FREQ=DAILY"}),
        ("all_day", {"all_day": None}),
        ("all_day", {"all_day": 1}),
    ],
)
async def test_what_is_no_whole_day_is_refused(
    store: Store, tenant: str, madrid: User, argument: str, changes: dict[str, Any]
) -> None:
    row: dict[str, Any] = {"title": "x", "start_datetime": local("2027-03-28"), "all_day": True} | changes
    with pytest.raises(InvalidArgumentError, match=f"^{argument}: "):
        await store.events.create(tenant, madrid.id, **row)
    with pytest.raises(InvalidArgumentError, match=rf"^rows\[1\].{argument}: "):
        good = {"user_id": madrid.id, "title": "x", "start_datetime": MONDAY}
        await store.events.create_many(tenant, [good, {"user_id": madrid.id, **row}])
    with pytest.raises(InvalidArgumentError, match=f"^{argument}: "):
        await store.events.upsert_external(tenant, madrid.id, "x", **row)
    assert await store.events.count(tenant) == 0

    event = await store.events.create(tenant, madrid.id, "x", local("2027-03-28"), all_day=True)
    with pytest.raises(InvalidArgumentError, match=f"^{argument}: "):
        await store.events.update(tenant, event.id, **changes)
    assert await store.events.get_by_id(tenant, event.id) == event


async def test_a_whole_day_of_nobody_is_a_user_who_does_not_exist(store: Store, tenant: str) -> None:
    with pytest.raises(InvalidReferenceError):
        await store.events.create(tenant, 2**62, "x", MONDAY, all_day=True)


@pytest.mark.parametrize("zone", ["America/Santiago", "America/Havana", "Africa/Cairo", "Pacific/Apia", "UTC"])
async def test_who_moves_keeps_the_dates_of_whole_days(store: Store, tenant: str, zone: str) -> None:
    """On days whose midnight the new timezone skips or repeats, too."""
    user = await store.users.create(tenant, telegram_id=1, timezone="Europe/Madrid")
    days = [date(2027, 4, 30), date(2027, 9, 5), date(2027, 11, 7), date(2027, 12, 24)]
    for day in days:
        await store.events.create(
            tenant, user.id, str(day), local(str(day)), all_day=True, reminder_minutes=60, recurrence_rule="FREQ=YEARLY"
        )
    timed = await store.events.create(tenant, user.id, "timed", local("2027-12-24 10:00"))
    now = local("2027-12-23 23:00")
    assert len(await store.events.claim_due_reminders(tenant, now=now)) == len(days)
    await store.users.update(tenant, user.id, timezone=zone)

    for day in days:
        start, end = midnight(day, ZoneInfo(zone)), midnight(day + DAY, ZoneInfo(zone))
        found = await store.events.get_by_date_range(tenant, user.id, start, end)
        found = [occurrence for occurrence in found if occurrence.id != timed.id]
        assert [(o.title, o.start_datetime, o.end_datetime) for o in found] == [(str(day), start, end)]
        next_year = midnight(day.replace(year=2028), ZoneInfo(zone))
        assert next_year in {
            o.start_datetime for o in await store.events.get_by_date_range(tenant, user.id, next_year, next_year + HOUR)
        }
    assert await store.events.get_by_id(tenant, timed.id) == timed
    # What was reminded of is the day, wherever it begins now.
    assert await store.events.claim_due_reminders(tenant, now=local("2027-12-24 00:00") + 11 * HOUR) == []
    back = await store.users.update(tenant, user.id, timezone="Europe/Madrid")
    assert back.timezone == "Europe/Madrid"
    dates = [e.start_datetime for e in (await store.events.get_all(tenant, newest_first=False)).items if e.all_day]
    assert dates == [local(str(day)) for day in days]


async def test_a_series_of_whole_days_keeps_its_excluded_and_skipped_days_when_its_user_moves(
    store: Store, tenant: str, madrid: User
) -> None:
    rule = "FREQ=DAILY;COUNT=4\nEXDATE:20270301T230000Z"  # which is 2 March in Madrid
    event = await store.events.create(tenant, madrid.id, "x", local("2027-03-01"), all_day=True, recurrence_rule=rule)
    assert event.recurrence_rule == "RRULE:FREQ=DAILY;COUNT=4\nEXDATE;VALUE=DATE:20270302"
    await store.events.skip(tenant, event.id, local("2027-03-03"))
    for zone in ("Asia/Tokyo", "America/Lima"):
        await store.users.update(tenant, madrid.id, timezone=zone)
        found = await store.events.get_by_date_range(tenant, madrid.id, local("2027-02-20"), local("2027-03-20"))

        assert [o.start_datetime for o in found] == [local("2027-03-01", zone), local("2027-03-04", zone)]


@pytest.mark.parametrize("rule", ["FREQ=WEEKLY;BYDAY=SU", "FREQ=WEEKLY", "FREQ=MONTHLY;BYDAY=-1SU"])
@pytest.mark.parametrize("zone", ["Asia/Tokyo", "America/Los_Angeles", "UTC"])
async def test_who_moves_keeps_the_instants_of_a_series(store: Store, tenant: str, rule: str, zone: str) -> None:
    user = await store.users.create(tenant, telegram_id=1, timezone="Europe/Madrid")
    start = local("2027-01-31 23:00")  # a Sunday
    event = await store.events.create(
        tenant, user.id, "x", start, end_datetime=start + HOUR, recurrence_rule=rule, reminder_minutes=30
    )
    year = start, start + 400 * DAY
    before = await store.events.get_by_date_range(tenant, user.id, *year)
    skipped = before[3].start_datetime
    await store.events.skip(tenant, event.id, skipped)
    assert len(await store.events.claim_due_reminders(tenant, now=start)) == 1
    await store.users.update(tenant, user.id, timezone=zone)
    after = await store.events.get_by_date_range(tenant, user.id, *year)

    assert [(o.start_datetime, o.end_datetime) for o in after] == [
        (o.start_datetime, o.end_datetime) for o in before if o.start_datetime != skipped
    ]
    assert await store.events.claim_due_reminders(tenant, now=start) == []
    following = before[1].start_datetime
    assert await store.events.claim_due_reminders(tenant, now=following - timedelta(minutes=31)) == []
    assert len(await store.events.claim_due_reminders(tenant, now=following - timedelta(minutes=30))) == 1

    # A change of the rule, or the same start from another calendar, is meant in the same timezone; a new start is not.
    await store.events.update(tenant, event.id, recurrence_rule=f"{rule};UNTIL=20290101")
    again = await store.events.get_by_date_range(tenant, user.id, *year)
    assert starts(again) == starts(after)
    moved = await store.events.update(tenant, event.id, start_datetime=local("2027-01-31 10:00", zone))
    third = (await store.events.get_by_date_range(tenant, user.id, *year))[2].start_datetime.astimezone(ZoneInfo(zone))
    assert f"{third:%a %H:%M}" == "Sun 10:00"
    assert moved.skipped == []


async def test_a_synchronised_series_keeps_its_instants_too(store: Store, tenant: str, madrid: User) -> None:
    start = local("2027-01-31 23:00")

    async def sync(rule: str, at_: datetime = start) -> list[str]:
        await store.events.upsert_external(tenant, madrid.id, "g", "x", at_, recurrence_rule=rule)
        return starts(await store.events.get_by_date_range(tenant, madrid.id, start, start + 300 * DAY))

    before = await sync("FREQ=WEEKLY;BYDAY=SU")
    await store.users.update(tenant, madrid.id, timezone="Asia/Tokyo")
    assert await sync("RRULE:FREQ=WEEKLY;WKST=SU;BYDAY=SU") == before

    moved = await sync("FREQ=WEEKLY;BYDAY=SU", local("2027-02-07 10:00", "Asia/Tokyo"))
    assert {text[6:] for text in moved} == {"01:00"}


@pytest.mark.parametrize(
    "rule",
    [
        "RRULE:FREQ=DAILY;COUNT=5\r\nEXDATE;TZID=Europe/Madrid:20270328T100000\r\n",
        "freq=daily;count=5;\nexdate:20270328t080000z",
        "DTSTART;TZID=Europe/Madrid:20270326T100000\nRRULE:FREQ=DAILY;COUNT=5\nEXDATE;VALUE=DATE:20270328",
        "DTSTART:20270326T100000\nRRULE:FREQ=DAILY;COUNT=3\nEXDATE:20270328T100000\nRDATE:20270329T100000,20270330T100000",
        "DTSTART:20270326T090000Z\nRDATE:20270327T090000Z,20270329T080000Z\r\nRDATE:20270330T080000Z",
    ],
)
async def test_lines_of_other_programs_are_taken_by_every_call(
    store: Store, tenant: str, madrid: User, rule: str
) -> None:
    start = local("2027-03-26 10:00")
    made = await store.events.create(tenant, madrid.id, "create", start, recurrence_rule=rule)
    row = {"user_id": madrid.id, "title": "many", "start_datetime": start, "recurrence_rule": rule}
    await store.events.create_many(tenant, [row])
    await store.events.upsert_external(tenant, madrid.id, "g", "upsert", start, recurrence_rule=rule)
    other = await store.events.create(tenant, madrid.id, "update", start)
    updated = await store.events.update(tenant, other.id, recurrence_rule=rule)
    days = [start + n * DAY for n in (0, 1)] + [local(f"2027-03-{day} 10:00") for day in (29, 30)]
    found = await store.events.get_by_date_range(tenant, madrid.id, start, start + 20 * DAY)

    for title in ("create", "many", "upsert", "update"):
        assert [o.start_datetime for o in found if o.title == title] == days
    assert made.recurrence_rule == updated.recurrence_rule
    assert made.recurrence_rule is not None
    assert "DTSTART" not in made.recurrence_rule
    assert await store.events.find_conflicts(tenant, madrid.id, local("2027-03-28"), local("2027-03-29")) == []


@pytest.mark.parametrize(
    "start_line",
    [
        "DTSTART:20270326T100000Z",
        "DTSTART;TZID=Europe/London:20270326T100000",
        "DTSTART:20270326T110000",
        "DTSTART:20270326",
    ],
)
async def test_a_start_in_the_lines_must_be_the_start(store: Store, tenant: str, madrid: User, start_line: str) -> None:
    rule, start = f"{start_line}\nRRULE:FREQ=DAILY", local("2027-03-26 10:00")
    with pytest.raises(InvalidArgumentError, match="^recurrence_rule: has a DTSTART that is not start_datetime"):
        await store.events.create(tenant, madrid.id, "x", start, recurrence_rule=rule)
    event = await store.events.create(tenant, madrid.id, "x", start)
    with pytest.raises(InvalidArgumentError, match="^recurrence_rule: has a DTSTART that is not start_datetime"):
        await store.events.update(tenant, event.id, recurrence_rule=rule)


async def test_dates_before_the_start_are_refused(store: Store, tenant: str, user: User) -> None:
    with pytest.raises(InvalidArgumentError, match="^recurrence_rule: has an RDATE before start_datetime"):
        await store.events.create(tenant, user.id, "x", MONDAY, recurrence_rule="RDATE:20270228T090000Z")


# --- skipping one occurrence -----------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [None, "FREQ=DAILY", "FREQ=DAILY;COUNT=1", "RDATE:20270303T090000Z"])
async def test_a_skipped_occurrence_takes_place_nowhere(
    store: Store, tenant: str, other_tenant: str, user: User, rule: str | None
) -> None:
    event = await remind(store, tenant, user, end_datetime=MONDAY + HOUR, recurrence_rule=rule)
    others = await store.events.get_by_date_range(tenant, user.id, MONDAY + DAY, MONDAY + WEEK)
    for missing in [(other_tenant, event.id, MONDAY), (tenant, 2**62, MONDAY), (tenant, event.id, MONDAY + HOUR)]:
        with pytest.raises(NotFoundError):
            await store.events.skip(*missing)
    skipped = await store.events.skip(tenant, event.id, MONDAY)

    assert skipped.skipped == [MONDAY]
    assert skipped.updated_at > event.updated_at
    assert await store.events.get_by_date_range(tenant, user.id, MONDAY, MONDAY + WEEK) == [
        o.model_copy(update={"skipped": [MONDAY], "updated_at": skipped.updated_at}) for o in others
    ]
    assert await store.events.get_upcoming(tenant, user.id, 1, now=MONDAY) == []
    assert await store.events.find_conflicts(tenant, user.id, MONDAY, MONDAY + HOUR) == []
    assert await store.events.claim_due_reminders(tenant, now=MONDAY) == []
    with pytest.raises(NotFoundError):
        await store.events.skip(tenant, event.id, MONDAY)


async def test_one_occurrence_is_moved_by_skipping_it_and_a_single_event(store: Store, tenant: str, user: User) -> None:
    series = await remind(store, tenant, user, "clase", recurrence_rule="FREQ=WEEKLY")
    second = MONDAY + WEEK
    async with store.transaction(tenant) as tx:
        await tx.events.skip(tenant, series.id, second)
        await tx.events.create(tenant, user.id, "clase", second + 2 * DAY, reminder_minutes=30)
    found = await store.events.get_by_date_range(tenant, user.id, MONDAY, MONDAY + 15 * DAY)

    assert [o.start_datetime for o in found] == [MONDAY, second + 2 * DAY, MONDAY + 2 * WEEK]


async def test_what_was_skipped_stays_skipped_when_the_series_is_synchronised_again(
    store: Store, tenant: str, user: User
) -> None:
    async def sync(start: datetime = MONDAY, **more: Any) -> Event:
        fields: dict[str, Any] = {"recurrence_rule": "FREQ=DAILY", "reminder_minutes": 30} | more
        return await store.events.upsert_external(tenant, user.id, "g", "x", start, **fields)

    event = await sync()
    await store.events.skip(tenant, event.id, MONDAY + DAY)
    for rule in ("FREQ=DAILY", "RRULE:FREQ=DAILY;UNTIL=20280101T000000Z", "FREQ=DAILY\nEXDATE:20270304T090000Z"):
        assert (await sync(recurrence_rule=rule)).skipped == [MONDAY + DAY]
        assert MONDAY + DAY not in {
            o.start_datetime for o in await store.events.get_by_date_range(tenant, user.id, MONDAY, MONDAY + WEEK)
        }
    assert (await sync(MONDAY + HOUR)).skipped == []


async def test_skipping_at_once_skips_each_occurrence_once(store: Store, tenant: str, user: User) -> None:
    event = await store.events.create(tenant, user.id, "x", MONDAY, recurrence_rule="FREQ=DAILY")
    results = await asyncio.gather(
        *(store.events.skip(tenant, event.id, MONDAY + n // 2 * DAY) for n in range(10)), return_exceptions=True
    )

    assert sum(isinstance(result, NotFoundError) for result in results) == 5
    found = await store.events.get_by_id(tenant, event.id)
    assert found is not None
    assert sorted(found.skipped) == [MONDAY + n * DAY for n in range(5)]


@pytest.mark.parametrize(
    ("argument", "value"), [("event_id", "1"), ("occurrence_start", NAIVE), ("occurrence_start", None)]
)
async def test_a_bad_argument_of_skipping_is_named(store: Store, argument: str, value: Any) -> None:
    arguments: dict[str, Any] = {"event_id": 1, "occurrence_start": MONDAY} | {argument: value}
    with pytest.raises(InvalidArgumentError, match=f"^{argument}: "):
        await store.events.skip("nobody", **arguments)


async def test_an_event_has_a_limited_number_of_skipped_occurrences(
    store: Store, tenant: str, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thea_store.assistant.events.repository._SKIPPED", 1)
    event = await store.events.create(tenant, user.id, "x", MONDAY, recurrence_rule="FREQ=DAILY")
    await store.events.skip(tenant, event.id, MONDAY)

    with pytest.raises(InvalidArgumentError, match="^occurrence_start: the event has 1 skipped"):
        await store.events.skip(tenant, event.id, MONDAY + DAY)


# --- what was reminded of is remembered by occurrence --------------------------------------------------------

MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize("rule", [None, "FREQ=DAILY"])
@pytest.mark.parametrize("change", ["update", "upsert"])
async def test_a_shorter_notice_reminds_again_and_a_longer_one_does_not(
    store: Store, tenant: str, user: User, rule: str | None, change: str
) -> None:
    event = await remind(store, tenant, user, reminder_minutes=60, recurrence_rule=rule, external_id="g")

    async def notice(minutes: int | None) -> None:
        if change == "update":
            await store.events.update(tenant, event.id, reminder_minutes=minutes)
        else:
            fields: dict[str, Any] = {"recurrence_rule": rule, "reminder_minutes": minutes}
            await store.events.upsert_external(tenant, user.id, "g", "x", MONDAY, **fields)

    async def claimed(minutes_before: float) -> list[datetime]:
        now = MONDAY - minutes_before * MINUTE
        return [o.start_datetime for o in await store.events.claim_due_reminders(tenant, now=now)]

    assert await claimed(60) == [MONDAY]
    await notice(10)
    assert await claimed(10.01) == []
    assert await claimed(10) == [MONDAY]
    assert await claimed(5) == []
    await notice(60)
    assert await claimed(4) == []
    await notice(None)
    await notice(30)
    assert await claimed(3) == []
    await notice(2)
    assert await claimed(2) == [MONDAY]
    assert await claimed(0) == []


@pytest.mark.parametrize("rule", [None, "FREQ=DAILY"])
async def test_what_was_reminded_of_and_is_over_is_not_reminded_of_by_a_shorter_notice(
    store: Store, tenant: str, user: User, rule: str | None
) -> None:
    event = await remind(store, tenant, user, reminder_minutes=60, recurrence_rule=rule)

    async def claimed(now: datetime) -> list[datetime]:
        return [o.start_datetime for o in await store.events.claim_due_reminders(tenant, now=now)]

    assert await claimed(MONDAY - 60 * MINUTE) == [MONDAY]
    await store.events.update(tenant, event.id, reminder_minutes=10)
    tuesday = MONDAY + timedelta(days=1)
    assert await claimed(tuesday - 11 * MINUTE) == []
    assert await claimed(tuesday - 10 * MINUTE) == ([tuesday] if rule else [])


async def test_a_second_reminder_may_be_a_little_late(store: Store, tenant: str, user: User) -> None:
    event = await remind(store, tenant, user, reminder_minutes=60)
    await store.events.claim_due_reminders(tenant, now=MONDAY - 60 * MINUTE)
    await store.events.update(tenant, event.id, reminder_minutes=0)

    assert len(await store.events.claim_due_reminders(tenant, now=MONDAY + MINUTE)) == 1


@pytest.mark.parametrize(
    "respelled",
    [
        "RRULE:FREQ=DAILY;WKST=MO",
        "INTERVAL=1;FREQ=DAILY",
        "FREQ=DAILY;UNTIL=20280101T000000Z",
        "FREQ=WEEKLY;BYDAY=MO,TU,WE,TH,FR,SA,SU",
        "FREQ=DAILY\nEXDATE:20270401T090000Z",
    ],
)
@pytest.mark.parametrize("lead", [30, 3 * 24 * 60])
async def test_a_rule_spelled_otherwise_reminds_of_no_occurrence_twice(
    store: Store, tenant: str, user: User, respelled: str, lead: int
) -> None:
    event = await remind(store, tenant, user, reminder_minutes=lead, recurrence_rule="FREQ=DAILY", external_id="g")
    now, handed_out = MONDAY - lead * MINUTE, list[datetime]()

    async def claim_now() -> None:
        handed_out.extend(o.start_datetime for o in await store.events.claim_due_reminders(tenant, now=now))

    for turn in range(6):
        await claim_now()
        rule = respelled if turn % 2 else "FREQ=DAILY"
        if turn < 3:
            fields: dict[str, Any] = {"recurrence_rule": rule}
            await store.events.upsert_external(tenant, user.id, "g", "x", MONDAY, **fields)
        else:
            await store.events.update(tenant, event.id, recurrence_rule=rule)
        await claim_now()
        now += DAY

    assert handed_out == [MONDAY + n * DAY for n in range(6)]


async def test_a_new_occurrence_before_one_that_was_reminded_of_is_reminded_of(
    store: Store, tenant: str, user: User
) -> None:
    week = 7 * 24 * 60
    event = await remind(store, tenant, user, reminder_minutes=week, recurrence_rule="FREQ=WEEKLY")
    now = MONDAY - WEEK
    assert starts(await store.events.claim_due_reminders(tenant, now=now)) == ["03-01 09:00"]
    await store.events.update(tenant, event.id, recurrence_rule="FREQ=WEEKLY;BYDAY=MO,WE")

    assert await store.events.claim_due_reminders(tenant, now=now) == []
    assert starts(await store.events.claim_due_reminders(tenant, now=now + 2 * DAY)) == ["03-03 09:00"]
    assert await store.events.claim_due_reminders(tenant, now=now + 2 * DAY) == []


async def test_a_series_that_becomes_a_single_event_does_not_remind_of_its_start_again(
    store: Store, tenant: str, user: User
) -> None:
    event = await remind(store, tenant, user, recurrence_rule="FREQ=DAILY")
    for n in range(3):
        assert len(await store.events.claim_due_reminders(tenant, now=MONDAY + n * DAY)) == 1
    await store.events.update(tenant, event.id, recurrence_rule=None)

    assert await store.events.claim_due_reminders(tenant, now=MONDAY + 4 * DAY) == []


# --- places, in any letters --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "asked"),
    [
        ("ÁVILA", "ávila"),
        ("Ávila", "ÁVI"),
        ("łódź", "ŁÓDŹ"),
        ("Straße 5", "STRASSE"),
        ("Ñuñoa", "ñUÑO"),
        ("Ávila", "a\u0301vila"),
    ],
)
async def test_a_place_is_found_in_any_case_whatever_the_locale(
    store: Store, tenant: str, user: User, place: str, asked: str
) -> None:
    """The embedded server's databases have the locale C, in which the server lowers ASCII letters alone."""
    made = await store.events.create(tenant, user.id, "create", MONDAY, location=place)
    await store.events.create_many(
        tenant, [{"user_id": user.id, "title": "many", "start_datetime": MONDAY, "location": place}]
    )
    await store.events.upsert_external(tenant, user.id, "g", "upsert", MONDAY, location="x")
    await store.events.upsert_external(tenant, user.id, "g", "upsert", MONDAY, location=place)
    other = await store.events.create(tenant, user.id, "update", MONDAY, location="x")
    await store.events.update(tenant, other.id, location=place)
    found = await store.events.get_by_location(tenant, user.id, asked)

    assert titles(found) == ["create", "many", "upsert", "update"]
    assert {event.location for event in found} == {place}
    await store.events.update(tenant, made.id, location=None)
    assert titles(await store.events.get_by_location(tenant, user.id, asked)) == ["many", "upsert", "update"]
