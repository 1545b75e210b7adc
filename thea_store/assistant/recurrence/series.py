"""Recurrence rules (RFC 5545, section 3.3.10), expanded with bounded work.

What repeats is the clock on the wall: occurrences are worked out in naive local time and then placed
in the zone. A local time that a clock change skips comes an hour later; one that it repeats is the
first of the two. The parts that a rule leaves open are those of the series' start. The start itself
is an occurrence only where the rule says so.

python-dateutil does the calendar's arithmetic. It accepts too much and searches for a match up to
the year 9999, so it is given nothing but checked numbers, from a period near the window, and an
interval that counts its steps.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from heapq import heappop, heappush
from itertools import islice
from typing import Any

from dateutil.rrule import DAILY, FR, MO, MONTHLY, SA, SU, TH, TU, WE, WEEKLY, YEARLY, rrule

from thea_store.assistant.recurrence.rule import CLOCK, Rule, parse, weeks

__all__ = ["Series", "TooMuchWork", "Work", "parse", "reach"]


# --- bounded work -------------------------------------------------------------------------------

# Units of about 50 ns. One search may take some 0.2 s, which is 130 years of days or 2,000 of years.
_SEARCH = 4_000_000
_STEP, _OCCURRENCE, _EXPANSION = 80, 40, 500
_FREQUENCIES: dict[str, Any] = {"DAILY": DAILY, "WEEKLY": WEEKLY, "MONTHLY": MONTHLY, "YEARLY": YEARLY}
_DAYS_IN = {"DAILY": 1, "WEEKLY": 7, "MONTHLY": 31, "YEARLY": 366}


class TooMuchWork(Exception):  # noqa: N818 - it is no error of the caller's
    """An expansion took more steps than it may."""


class Work:
    """Counts what expansions do, and ends them with TooMuchWork beyond `limit` units."""

    def __init__(self, limit: int = _SEARCH) -> None:
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
            if self._local(moment) != local:
                continue
            while waiting and waiting[0] <= moment:
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
    for name, value in zip(CLOCK, (start.hour, start.minute, start.second), strict=True):
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
        days = tuple((n, day) for number, day in days for n in ([number] if number else range(1, weeks(rule) + 1)))
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
    ends: list[datetime] = []
    # With hours of its own, a rule may or may not fire on the first day.
    has_hours = bool(rule.numbers.keys() & set(CLOCK))
    is_known = rule.count is not None and not has_hours
    # The timezone is not known here, so neither is the local date: one of three.
    for day in (start, start + timedelta(days=1), start - timedelta(days=1)):
        if has_hours:  # nor the local time, so the whole day counts
            day = day.replace(hour=0, minute=0, second=0)  # noqa: PLW2901
        try:
            ends += _farthest(rule, day)
        except TooMuchWork:
            is_known = False
        if ends and not rule.count:
            break
    if not ends:
        raise ValueError("gives no occurrence from the start of the event on, or takes too long to work out")
    if rule.until:
        return _end(rule)
    return max(ends) + _MARGIN if is_known else None


def _farthest(rule: Rule, start: datetime) -> deque[datetime]:
    """The last occurrence of a rule with a COUNT, the first one of another; none where there is none."""
    occurrences = Series(rule, start, UTC).between(start, _LAST, Work(_SEARCH // 2))
    return deque(occurrences if rule.count else islice(occurrences, 1), maxlen=1)
