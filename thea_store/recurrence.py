"""Recurrence rules (RFC 5545, section 3.3.10): read strictly, and expanded with bounded work.

What repeats is the clock on the wall: occurrences are worked out in naive local time and then placed
in the zone. A local time that a clock change skips comes an hour later; one that it repeats is the
first of the two. The parts that a rule leaves open are those of the series' start. The start itself
is an occurrence only where the rule says so.

python-dateutil does the calendar's arithmetic. It accepts too much and searches for a match up to
the year 9999, so it is given nothing but checked numbers, from a period near the window, and an
interval that counts its steps.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from heapq import heappop, heappush
from math import prod
from types import MappingProxyType
from typing import Any

from dateutil.rrule import DAILY, FR, MO, MONTHLY, SA, SU, TH, TU, WE, WEEKLY, YEARLY, rrule

__all__ = ["SEARCH", "Rule", "Series", "TooMuchWork", "Work", "parse", "reach"]


# --- reading ------------------------------------------------------------------------------------

_LONGEST, _MOST, _TIMES_A_DAY = 512, 1000, 24
_FREQUENCIES: dict[str, Any] = {"DAILY": DAILY, "WEEKLY": WEEKLY, "MONTHLY": MONTHLY, "YEARLY": YEARLY}
_WEEKDAYS = ("MO", "TU", "WE", "TH", "FR", "SA", "SU")
_CLOCK = ("BYHOUR", "BYMINUTE", "BYSECOND")
# The lowest number of a part, and the highest; where the lowest is negative, there is no 0.
_NUMBERS = {
    "BYMONTH": (1, 12),
    "BYWEEKNO": (-53, 53),
    "BYYEARDAY": (-366, 366),
    "BYMONTHDAY": (-31, 31),
    "BYHOUR": (0, 23),
    "BYMINUTE": (0, 59),
    "BYSECOND": (0, 59),
    "BYSETPOS": (-366, 366),
}
_DAY = re.compile(r"([+-]?[0-9]{1,2})?(MO|TU|WE|TH|FR|SA|SU)")
_NUMBER = re.compile(r"[+-]?[0-9]{1,3}")
_UNTIL = re.compile(r"[0-9]{8}(?:T[0-9]{6}Z?)?")


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule in numbers; `numbers` holds the BY parts, weekdays count from Monday, 0."""

    frequency: str
    interval: int
    count: int | None
    until: datetime | None
    """In UTC, or local and naive; the last microsecond where the rule gives a date."""
    week_start: int
    days: tuple[tuple[int, int], ...]
    """Which one of the period (0: all of them), and the weekday."""
    numbers: Mapping[str, tuple[int, ...]]


@lru_cache(maxsize=1024)
def parse(text: str) -> Rule:
    """The rule in this text, which may begin with `RRULE:`; ValueError says what is wrong with it.

    Stricter than the RFC where a calendar of people has no need: no frequency below DAILY, COUNT and
    INTERVAL up to 1000, up to 24 times a day.
    """
    parts = _parts(text)
    if (frequency := parts.pop("FREQ", None)) not in _FREQUENCIES:
        raise ValueError("needs FREQ=DAILY, WEEKLY, MONTHLY or YEARLY")
    if "COUNT" in parts and "UNTIL" in parts:
        raise ValueError("has COUNT and UNTIL, of which a rule may have one")
    rule = Rule(
        frequency=frequency,
        interval=_amount(parts, "INTERVAL") or 1,
        count=_amount(parts, "COUNT"),
        until=_until(parts.pop("UNTIL", None)),
        week_start=_week_start(parts.pop("WKST", "MO")),
        days=_days(parts.pop("BYDAY", None)),
        numbers=MappingProxyType({name: _numbers(name, parts.pop(name)) for name in _NUMBERS if name in parts}),
    )
    if parts:
        raise ValueError("has a part that RFC 5545 does not know")
    _check_together(rule)
    return rule


def _parts(text: str) -> dict[str, str]:
    if len(text) > _LONGEST or not text.isascii():
        raise ValueError(f"must have up to {_LONGEST} characters, all of them ASCII")
    parts: dict[str, str] = {}
    for part in text.upper().removeprefix("RRULE:").split(";"):
        name, equals, value = part.partition("=")
        if not equals or not value:
            raise ValueError("must be parts NAME=VALUE with a semicolon in between")
        if name in parts:
            raise ValueError("has a part twice")
        parts[name] = value
    return parts


def _amount(parts: dict[str, str], name: str) -> int | None:
    if (value := parts.pop(name, None)) is None:
        return None
    if not re.fullmatch(r"[0-9]{1,4}", value) or not 1 <= int(value) <= _MOST:
        raise ValueError(f"needs a number from 1 to {_MOST} in {name}")
    return int(value)


def _until(value: str | None) -> datetime | None:
    if value is None:
        return None
    try:
        if not _UNTIL.fullmatch(value):
            raise ValueError
        if "T" not in value:
            return datetime.combine(datetime.strptime(value, "%Y%m%d"), time.max)  # noqa: DTZ007 - local time
        until = datetime.strptime(value.rstrip("Z"), "%Y%m%dT%H%M%S")  # noqa: DTZ007
    except ValueError:
        raise ValueError("needs a date or a time such as 20301231T225959Z in UNTIL") from None
    return until.replace(tzinfo=UTC) if value.endswith("Z") else until


def _week_start(value: str) -> int:
    if value not in _WEEKDAYS:
        raise ValueError("needs a weekday such as MO in WKST")
    return _WEEKDAYS.index(value)


def _days(value: str | None) -> tuple[tuple[int, int], ...]:
    if value is None:
        return ()
    matches = [_DAY.fullmatch(item) for item in value.split(",")]
    days = {(int(match[1] or 0), _WEEKDAYS.index(match[2])) for match in matches if match and match[1] not in _ZEROS}
    if not all(match and match[1] not in _ZEROS for match in matches):
        raise ValueError("needs weekdays such as MO or -1FR in BYDAY")
    return tuple(sorted(days))


_ZEROS = {sign + zeros for sign in ("", "+", "-") for zeros in ("0", "00")}


def _numbers(name: str, value: str) -> tuple[int, ...]:
    low, high = _NUMBERS[name]
    items = value.split(",")
    if all(_NUMBER.fullmatch(item) for item in items):
        numbers = {int(item) for item in items}
        if all(low <= number <= high and (number or low == 0) for number in numbers):
            return tuple(sorted(numbers))
    raise ValueError(f"needs numbers from {low} to {high}{'' if low >= 0 else ' without 0'} in {name}")


def _check_together(rule: Rule) -> None:
    frequency, numbers = rule.frequency, rule.numbers
    for name in ("BYWEEKNO", "BYYEARDAY"):
        if name in numbers and frequency != "YEARLY":
            raise ValueError(f"may have {name} only with FREQ=YEARLY")
    if "BYMONTHDAY" in numbers and frequency == "WEEKLY":
        raise ValueError("may not have BYMONTHDAY with FREQ=WEEKLY")
    if "BYSETPOS" in numbers and not rule.days and len(numbers) == 1:
        raise ValueError("may have BYSETPOS only with another BY part")
    if prod(len(numbers.get(name, "1")) for name in _CLOCK) > _TIMES_A_DAY:
        raise ValueError(f"may fire up to {_TIMES_A_DAY} times a day")
    if highest := max((abs(number) for number, _ in rule.days), default=0):
        if frequency not in {"MONTHLY", "YEARLY"} or "BYWEEKNO" in numbers:
            raise ValueError("may number the weekdays of BYDAY only with FREQ=MONTHLY, or with YEARLY without BYWEEKNO")
        if highest > _weeks(rule):
            raise ValueError(f"may number the weekdays of BYDAY up to {_weeks(rule)}")


def _weeks(rule: Rule) -> int:
    return 53 if rule.frequency == "YEARLY" and "BYMONTH" not in rule.numbers else 5


# --- bounded work -------------------------------------------------------------------------------

# Units of about 50 ns. One search may take some 0.2 s, which is 130 years of days or 2,000 of years.
SEARCH = 4_000_000
_STEP, _OCCURRENCE, _EXPANSION = 80, 40, 500
_DAYS_IN = {"DAILY": 1, "WEEKLY": 7, "MONTHLY": 31, "YEARLY": 366}


class TooMuchWork(Exception):  # noqa: N818 - it is no error of the caller's
    """An expansion took more steps than it may."""


class Work:
    """Counts what expansions do, and ends them with TooMuchWork beyond `limit` units."""

    def __init__(self, limit: int = SEARCH) -> None:
        self.done, self.limit = 0, limit

    def charge(self, units: int) -> None:
        """Count this work before it is done."""
        self.done += units
        if self.done > self.limit:
            raise TooMuchWork


class _Stride(int):
    """An interval that calls `step` whenever dateutil adds it to go to the next period."""

    step: Callable[[], None]

    def __radd__(self, other: int, /) -> int:
        self.step()
        return int(self) + other

    def __mul__(self, other: int, /) -> int:  # of weeks it adds the days
        self.step()
        return int(self) * other


class _PastTheWindow(Exception):  # noqa: N818
    pass


# --- expanding ----------------------------------------------------------------------------------

_FIRST, _LAST = datetime(2, 1, 1, tzinfo=UTC), datetime(9998, 12, 1, tzinfo=UTC)
# No zone is further from UTC, and no clock change skips more.
_MARGIN = timedelta(days=2)


class Series:
    """The occurrences of a rule that began at `start` in this timezone."""

    def __init__(self, rule: Rule, start: datetime, zone: tzinfo) -> None:
        self._rule, self._start, self._zone = rule, start, zone
        self._local_start = self._local(start)
        self._origin = self._number(self._local_start)
        self._end = _end(rule)

    def between(self, after: datetime, before: datetime, work: Work) -> Iterator[datetime]:
        """The occurrences' starts in UTC from `after` on and before `before`, in order; TooMuchWork."""
        after, before = max(after, self._start), min(before, self._end)
        if after >= before:
            return
        previous = None
        for moment in self._in_order(self._local_times(after, before, work)):
            if moment >= before:
                return
            if moment >= after and moment != previous:
                yield moment
            previous = moment

    def first(self, after: datetime, work: Work) -> datetime | None:
        """The first occurrence from `after` on, or `None`; TooMuchWork when there is none for long."""
        return next(self.between(after, self._end, work), None)

    def last(self, after: datetime, before: datetime, work: Work) -> datetime | None:
        """The last occurrence from `after` on and before `before`, or `None`; TooMuchWork."""
        span = timedelta(days=1)
        while True:
            # From its end backwards, since a window may be long and hold very many.
            since = before - span if before - after > span else after
            found = deque(self.between(since, before, work), maxlen=1)
            if found or since == after:
                return found[0] if found else None
            span *= 8

    def _local_times(self, after: datetime, before: datetime, work: Work) -> Iterator[datetime]:
        rule, start = self._rule, self._local_start
        # A count begins at the start of the series; all else, in the period before the window.
        first = 0 if rule.count else max(0, self._period(after - _MARGIN))
        total = 0
        for candidate in self._candidates(first, self._period(before + _MARGIN), work):
            work.charge(_OCCURRENCE)
            local = candidate.replace(microsecond=start.microsecond)
            if local < start:
                continue
            if rule.until and (self._moment(local) if rule.until.tzinfo else local) > rule.until:
                return
            yield local
            total += 1
            if total == rule.count:
                return

    def _candidates(self, first: int, last: int, work: Work) -> Iterator[datetime]:
        rule = self._rule
        size = 4 + len(rule.days) + sum(map(len, rule.numbers.values()))
        remaining = last - first

        def step() -> None:
            nonlocal remaining
            work.charge(_STEP + _DAYS_IN[rule.frequency] * size)
            if not remaining:
                raise _PastTheWindow
            remaining -= 1

        stride = _Stride(rule.interval)
        stride.step = step
        work.charge(_EXPANSION + _STEP + _DAYS_IN[rule.frequency] * size)
        try:
            yield from rrule(
                _FREQUENCIES[rule.frequency],
                dtstart=datetime.combine(self._first_day(first), time.min),
                interval=stride,
                wkst=rule.week_start,
                **_filters(rule, self._local_start),
            )
        except _PastTheWindow:
            return

    def _in_order(self, local_times: Iterator[datetime]) -> Iterator[datetime]:
        # A time that a clock change skips may come out later than the times after it.
        waiting: list[datetime] = []
        for local in local_times:
            moment = self._moment(local)
            heappush(waiting, moment)
            is_skipped = self._local(moment) != local
            while waiting and waiting[0] <= moment and not is_skipped:
                yield heappop(waiting)
        while waiting:
            yield heappop(waiting)

    def _moment(self, local: datetime) -> datetime:
        # The start may be the second of a local time that comes twice.
        return self._start if local == self._local_start else local.replace(tzinfo=self._zone).astimezone(UTC)

    def _local(self, moment: datetime) -> datetime:
        return moment.astimezone(self._zone).replace(tzinfo=None, fold=0)

    def _period(self, moment: datetime) -> int:
        """The number of the rule's period that this moment is in or after; the start's is 0."""
        return (self._number(self._local(moment)) - self._origin) // self._rule.interval

    def _number(self, day: date) -> int:
        match self._rule.frequency:
            case "DAILY":
                return day.toordinal()
            case "WEEKLY":
                return (day.toordinal() - 1 - self._rule.week_start) // 7
            case "MONTHLY":
                return day.year * 12 + day.month - 1
            case _:
                return day.year

    def _first_day(self, period: int) -> date:
        number = self._origin + period * self._rule.interval
        match self._rule.frequency:
            case "DAILY":
                return date.fromordinal(number)
            case "WEEKLY":
                return date.fromordinal(number * 7 + 1 + self._rule.week_start)
            case "MONTHLY":
                return date(number // 12, number % 12 + 1, 1)
            case _:
                return date(number, 1, 1)


def _end(rule: Rule) -> datetime:
    """A moment after all that the rule's UNTIL allows, whatever the timezone."""
    return min(rule.until.replace(tzinfo=UTC), _LAST) + _MARGIN if rule.until else _LAST


def _filters(rule: Rule, start: datetime) -> dict[str, Any]:
    """Dateutil's BY arguments; what the rule leaves open comes from the start, as the RFC has it."""
    numbers, days = dict(rule.numbers), rule.days
    for name, value in zip(_CLOCK, (start.hour, start.minute, start.second), strict=True):
        numbers.setdefault(name, (value,))
    if not days and not numbers.keys() & {"BYMONTHDAY", "BYYEARDAY"}:
        if rule.frequency == "WEEKLY" or "BYWEEKNO" in numbers:
            days = ((0, start.weekday()),)
        elif rule.frequency != "DAILY":
            numbers["BYMONTHDAY"] = (start.day,)
            if rule.frequency == "YEARLY":
                numbers.setdefault("BYMONTH", (start.month,))
    if any(number for number, _ in days):
        # dateutil wants days that are both in the list without numbers and in the one with them.
        days = tuple((n, day) for number, day in days for n in ([number] if number else range(1, _weeks(rule) + 1)))
    weekdays = (MO, TU, WE, TH, FR, SA, SU)
    filters: dict[str, Any] = {name.lower(): values for name, values in numbers.items()}
    filters["byweekday"] = [weekdays[day](number) if number else weekdays[day] for number, day in days] or None
    return filters


# --- checking at write --------------------------------------------------------------------------


@lru_cache(maxsize=256)
def reach(text: str, start: datetime) -> datetime | None:
    """A moment after the start of the last occurrence, whatever the timezone; `None`: there may be no last one.

    ValueError when the rule is malformed, or gives no occurrence from this start on within what a
    search may take.
    """
    rule = parse(text)
    if not _FIRST <= start < _LAST:
        raise ValueError("needs a start between the years 2 and 9998")
    work = Work()
    ends: list[datetime] = []
    try:
        # The timezone is not known here, so neither is the local date: one of three.
        for day in (start, start + timedelta(days=1), start - timedelta(days=1)):
            series = Series(rule, day, UTC)
            if rule.count:
                ends += deque(series.between(day, _LAST, work), maxlen=1)
            elif first := series.first(day, work):
                ends.append(first)
                break
    except TooMuchWork:
        raise ValueError("gives no occurrence, or so few that they take too long to work out") from None
    if not ends:
        raise ValueError("gives no occurrence from the start of the event on")
    if rule.until:
        return _end(rule)
    # With hours of its own, a rule may or may not fire on the first day.
    return max(ends) + _MARGIN if rule.count and not rule.numbers.keys() & set(_CLOCK) else None
