"""All occurrences of an event and their ends, on the wall clocks of zones whose clocks change in many ways."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.assistant.test_recurrence import oracle, rules, starts, text_of
from tests.support.profiles import scaled
from thea_store.assistant.recurrence.budget import TooMuchWork, WorkBudget
from thea_store.assistant.recurrence.lines import read_lines
from thea_store.assistant.recurrence.recurrence_set import RecurrenceSet, midnight, reach_of

MADRID, SANTIAGO, APIA = ZoneInfo("Europe/Madrid"), ZoneInfo("America/Santiago"), ZoneInfo("Pacific/Apia")
# Clocks that change at midnight, by half an hour, by a whole day, or twice within weeks.
ZONES = [
    *("Europe/Madrid", "America/New_York", "America/Santiago", "America/Asuncion", "America/Havana", "Africa/Cairo"),
    *("Asia/Beirut", "Africa/Casablanca", "Australia/Lord_Howe", "Pacific/Apia", "America/Sao_Paulo", "UTC"),
]


def moment(text: str, zone: ZoneInfo) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=zone).astimezone(UTC)


def spans(
    text: str | None, start: str, end: str | None, zone: ZoneInfo, *, days: int = 4, **more: Any
) -> list[tuple[str, str]]:
    """The first occurrences on the wall clock of the zone: their starts and ends."""
    first = moment(start, zone)
    happens = RecurrenceSet(read_lines(text) if text else None, first, moment(end, zone) if end else None, zone, **more)

    def shown(at: datetime | None) -> str:
        return at.astimezone(zone).strftime("%m-%d %H:%M") if at else "-"

    found = happens.between(first, first + timedelta(days=days), WorkBudget(10**7))
    return [(shown(at), shown(happens.end_of(at))) for at in found]


def test_a_night_shift_ends_at_six_on_every_morning() -> None:
    for start, end in [("2027-03-26 22:00", "2027-03-27 06:00"), ("2027-10-29 22:00", "2027-10-30 06:00")]:
        found = spans("FREQ=DAILY", start, end, MADRID)

        assert {ends[6:] for _, ends in found} == {"06:00"}
        assert len(found) >= 4


def test_the_days_of_a_series_of_whole_days_touch_and_do_not_overlap() -> None:
    found = spans("FREQ=DAILY", "2027-03-26 00:00", "2027-03-27 00:00", MADRID, all_day=True)

    assert found == [(f"03-{day} 00:00", f"03-{day + 1} 00:00") for day in (26, 27, 28, 29, 30)]


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("2027-03-27 02:30", "2027-03-27 03:00", ("03-28 03:30", "03-28 04:00")),  # the start is skipped
        ("2027-03-27 01:30", "2027-03-27 02:30", ("03-28 01:30", "03-28 03:30")),  # the end is skipped
        ("2027-03-27 02:15", "2027-03-27 02:45", ("03-28 03:15", "03-28 03:45")),  # both are
        ("2027-10-30 01:30", "2027-10-30 02:30", ("10-31 01:30", "10-31 02:30")),  # the end comes twice
        ("2027-10-30 02:15", "2027-10-30 02:45", ("10-31 02:15", "10-31 02:45")),  # both do
    ],
)
def test_an_end_is_after_its_start_also_where_the_clock_skips_or_repeats(
    start: str, end: str, expected: tuple[str, str]
) -> None:
    first, second, *_ = spans("FREQ=DAILY", start, end, MADRID)

    assert first == (start[5:], end[5:])
    assert second == expected


@pytest.mark.parametrize(
    ("zone", "day", "begins"),
    [
        ("America/Santiago", "2027-09-05", "01:00"),
        ("America/Asuncion", "2023-10-01", "01:00"),
        ("Africa/Cairo", "2027-04-30", "01:00"),
        ("Asia/Beirut", "2027-03-28", "01:00"),
        ("America/Havana", "2027-11-07", "00:00"),
    ],
)
def test_a_day_whose_midnight_is_skipped_or_repeated_is_a_whole_day(zone: str, day: str, begins: str) -> None:
    tz = ZoneInfo(zone)
    before = date.fromisoformat(day) - timedelta(days=1)
    first, last = midnight(before, tz), midnight(before + timedelta(days=1), tz)
    happens = RecurrenceSet(read_lines("FREQ=DAILY"), first, last, tz, all_day=True)
    found = list(happens.between(first, first + timedelta(days=3, hours=5), WorkBudget(10**7)))

    assert [at.astimezone(tz).date() - before for at in found[:3]] == [timedelta(days=n) for n in range(3)]
    assert f"{found[1].astimezone(tz):%H:%M}" == begins
    assert [happens.end_of(at) for at in found[:2]] == found[1:3]


def test_a_series_of_whole_days_that_starts_where_midnight_is_skipped_is_at_midnight_on_all_others() -> None:
    first = midnight(date(2027, 9, 5), SANTIAGO)
    happens = RecurrenceSet(
        read_lines("FREQ=DAILY"), first, midnight(date(2027, 9, 6), SANTIAGO), SANTIAGO, all_day=True
    )
    found = list(happens.between(first, first + timedelta(days=2), WorkBudget(10**7)))

    assert [f"{at.astimezone(SANTIAGO):%d %H:%M}" for at in found] == ["05 01:00", "06 00:00", "07 00:00"]


def test_a_day_that_a_zone_skipped_does_not_happen() -> None:
    start, end = midnight(date(2011, 12, 28), APIA), midnight(date(2011, 12, 29), APIA)
    happens = RecurrenceSet(read_lines("FREQ=DAILY"), start, end, APIA, all_day=True)
    found = list(happens.between(start, start + timedelta(days=4), WorkBudget(10**7)))

    assert [at.astimezone(APIA).day for at in found] == [28, 29, 31, 1]
    assert [happens.end_of(at) for at in found[:-1]] == found[1:]


def test_excluded_and_added_dates_and_skipped_occurrences() -> None:
    text = (
        "FREQ=DAILY;COUNT=9\n"
        "EXDATE;TZID=Europe/Madrid:20270327T100000\n"
        "EXDATE:20270328T100000\n"
        "EXDATE:20270329T080000Z,20270330T080001Z\n"
        "EXDATE;VALUE=DATE:20270331\n"
        "RDATE:20270326T180000,20270327T100000,20270402T080000Z"
    )
    skipped = [moment("2027-04-01 10:00", MADRID)]
    found = spans(text, "2027-03-26 10:00", "2027-03-26 11:00", MADRID, days=20, skipped=skipped)

    assert found == [
        ("03-26 10:00", "03-26 11:00"),
        ("03-26 18:00", "03-26 19:00"),
        ("03-30 10:00", "03-30 11:00"),
        ("04-02 10:00", "04-02 11:00"),
        ("04-03 10:00", "04-03 11:00"),
    ]


def test_dates_without_a_rule_are_added_to_the_start() -> None:
    found = spans("RDATE:20270328T100000\nRDATE;VALUE=DATE:20270330", "2027-03-26 10:00", None, MADRID, days=9)

    assert found == [("03-26 10:00", "-"), ("03-28 10:00", "-"), ("03-30 10:00", "-")]


def test_an_event_without_a_rule_happens_once() -> None:
    assert spans(None, "2027-03-28 01:00", "2027-03-28 03:30", MADRID) == [("03-28 01:00", "03-28 03:30")]


def test_fractions_of_a_second_keep_no_date_from_being_excluded() -> None:
    start = datetime(2027, 3, 1, 9, 0, 0, 123456, tzinfo=UTC)
    lines = read_lines("FREQ=DAILY;UNTIL=20270303T090000Z\nEXDATE:20270302T090000Z")
    happens = RecurrenceSet(lines, start, None, ZoneInfo("UTC"))

    assert [at.day for at in happens.between(start, start + timedelta(days=9), WorkBudget(10**7))] == [1, 3]


# --- against a slow and plain oracle --------------------------------------------------------------

_a_date = st.tuples(st.integers(0, 60), st.integers(0, 23))


@settings(max_examples=scaled(300))
@given(
    rules(),
    starts,
    st.sampled_from(ZONES),
    st.fixed_dictionaries({"hours": st.integers(0, 60), "days": st.integers(0, 40), "length": st.integers(0, 40)}),
    st.fixed_dictionaries(
        {"EXDATE": st.lists(_a_date, max_size=4), "RDATE": st.lists(_a_date, max_size=4), "local": st.booleans()}
    ),
)
def test_any_set_is_what_the_oracle_adds_and_takes_away(
    rule: dict[str, Any], start: datetime, zone: str, window: dict[str, int], lists: dict[str, Any]
) -> None:
    excluded, added, local, hours = lists["EXDATE"], lists["RDATE"], lists["local"], window["hours"]
    tz = ZoneInfo(zone)
    first = start.replace(tzinfo=tz).astimezone(UTC)
    wall = first.astimezone(tz).replace(tzinfo=None)

    def dates(given: list[tuple[int, int]]) -> list[datetime]:
        return [wall + timedelta(days=days, hours=0 if hour < 12 else hour) for days, hour in given]

    def line(name: str, given: list[tuple[int, int]]) -> list[str]:
        form = f"{name}:%Y%m%dT%H%M%S"
        return [at.strftime(form) if local else placed(at).strftime(f"{form}Z") for at in dates(given)]

    def placed(at: datetime) -> datetime:
        return first if at == wall else at.replace(tzinfo=tz).astimezone(UTC)

    lines = read_lines("\n".join([text_of(rule), *line("EXDATE", excluded), *line("RDATE", added)]))
    end = first + timedelta(hours=hours)
    happens = RecurrenceSet(lines, first, end, tz)
    after, length = first + timedelta(days=window["days"]), timedelta(days=window["length"])
    times = [placed(at) for at in oracle(rule, wall, wall + timedelta(days=90))]
    # A local time of a line is the first of two, also where it is the start.
    of_lines = (lambda at: at.replace(tzinfo=tz).astimezone(UTC)) if local else placed
    expected = {*times, *(at for at in map(of_lines, dates(added)) if at >= first)}
    expected -= set(map(of_lines, dates(excluded)))

    try:
        found = list(happens.between(after, after + length, WorkBudget(10**7)))
    except TooMuchWork:
        return
    assert found == sorted(at for at in expected if after <= at < after + length)
    wall_end = end.astimezone(tz).replace(tzinfo=None)
    for at in found:
        ends = happens.end_of(at)
        assert ends is not None
        assert ends - at <= happens.longest
        assert (ends > at) if hours else (ends == at)
        local_start = at.astimezone(tz).replace(tzinfo=None)
        by_clock = (local_start + (wall_end - wall)).replace(tzinfo=tz).astimezone(UTC)
        if at != first and by_clock > at:
            assert ends == by_clock


@settings(max_examples=scaled(200))
@given(st.sampled_from(ZONES), st.dates(date(1990, 1, 1), date(2029, 1, 1)), st.integers(1, 5))
def test_whole_days_follow_each_other_in_every_zone(zone: str, day: date, length: int) -> None:
    tz = ZoneInfo(zone)
    start, end = midnight(day, tz), midnight(day + timedelta(days=length), tz)
    if start == end:  # a day that the zone skipped
        return
    happens = RecurrenceSet(read_lines(f"FREQ=DAILY;INTERVAL={length}"), start, end, tz, all_day=True)
    found = list(happens.between(start, start + timedelta(days=400), WorkBudget(10**7)))

    for at, following in pairwise(found):
        assert happens.end_of(at) in {following, midnight(at.astimezone(tz).date() + timedelta(days=length), tz)}
        assert (happens.end_of(at) or at) <= following
        local = at.astimezone(tz)
        assert local.time() == time.min or (at - timedelta(microseconds=1)).astimezone(tz).date() != local.date()


@settings(max_examples=scaled(100))
@given(rules(), starts, st.sampled_from(ZONES), st.lists(_a_date, max_size=3))
def test_nothing_comes_after_the_reach_of_the_lines(
    rule: dict[str, Any], start: datetime, zone: str, added: list[tuple[int, int]]
) -> None:
    first = start.replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    dates = [f"RDATE:{first + timedelta(days=days, hours=hour):%Y%m%dT%H%M%S}" for days, hour in added]
    lines = read_lines("\n".join([text_of(rule | {"COUNT": 3}), *dates]))
    try:
        end = reach_of(lines, first)
    except ValueError:
        return
    if end is None:
        return
    happens = RecurrenceSet(lines, first, None, ZoneInfo(zone))

    assert next(iter(happens.between(end, end + timedelta(days=4_000), WorkBudget(10**8))), None) is None
