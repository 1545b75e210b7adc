"""The occurrences of a recurrence rule (RFC 5545, section 3.3.10), worked out with bounded work.

What repeats is the clock on the wall: occurrences are worked out in naive local time and then placed
in the timezone. A local time that a clock change skips comes an hour later; one that it repeats is the
first of the two. The parts that a rule leaves open are those of the series' start. The start itself
is an occurrence only where the rule says so.

python-dateutil does the calendar's arithmetic. It accepts too much and searches for a match up to
the year 9999, so it is given nothing but checked numbers, from a period near the window, and an
interval that counts its steps. Numbered weeks (BYWEEKNO) are worked out here, because dateutil counts
INTERVAL and BYSETPOS by calendar years, and a week may belong to two of them.
"""

from __future__ import annotations

from calendar import isleap, monthrange
from collections import deque
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from heapq import heappop, heappush
from itertools import islice, product
from typing import Any

from dateutil.rrule import DAILY, FR, MO, MONTHLY, SA, SU, TH, TU, WE, WEEKLY, YEARLY, rrule

from thea_store.assistant.recurrence.budget import TooMuchWork, WorkBudget
from thea_store.assistant.recurrence.rule import CLOCK, Rule, weeks

__all__ = ["FIRST", "LAST", "MARGIN", "Searched", "Series", "placed", "reach"]

# Units of work for a step to the next period, for an occurrence, and for the beginning of an expansion.
_STEP, _OCCURRENCE, _EXPANSION = 80, 40, 500
_FREQUENCIES: dict[str, Any] = {"DAILY": DAILY, "WEEKLY": WEEKLY, "MONTHLY": MONTHLY, "YEARLY": YEARLY}
_DAYS_IN = {"DAILY": 1, "WEEKLY": 7, "MONTHLY": 31, "YEARLY": 366}


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

FIRST, LAST = datetime(2, 1, 1, tzinfo=UTC), datetime(9998, 12, 1, tzinfo=UTC)
# No timezone is further from UTC, and no clock change skips more.
MARGIN = timedelta(days=2)


class Searched:
    """Finds single occurrences among those that `between` gives."""

    _end: datetime

    def between(self, after: datetime, before: datetime, work: WorkBudget) -> Iterator[datetime]:
        """The occurrences' starts in UTC from `after` on and before `before`, in order; TooMuchWork."""
        raise NotImplementedError

    def first(self, after: datetime, work: WorkBudget) -> datetime | None:
        """The first occurrence from `after` on, or `None`; TooMuchWork when there is none for long."""
        return next(iter(self.between(after, self._end, work)), None)

    def last(self, after: datetime, before: datetime, work: WorkBudget) -> datetime | None:
        """The last occurrence from `after` on and before `before`, or `None`; TooMuchWork."""
        span = timedelta(days=1)
        while True:
            # From its end backwards, since a window may be long and hold very many.
            since = before - span if before - after > span else after
            found = deque(self.between(since, before, work), maxlen=1)
            if found or since == after:
                return found[0] if found else None
            span *= 8


class Series(Searched):
    """The occurrences of a rule that began at `start` in this timezone.

    `wall_start` is the start on the wall clock, where it is another than the moment's: an event of whole days
    begins at midnight, also on a day whose midnight a clock change skips.
    """

    def __init__(self, rule: Rule, start: datetime, zone: tzinfo, wall_start: datetime | None = None) -> None:
        self._rule, self._start, self._zone = rule, start, zone
        self._local_start = wall_start or self._local(start)
        self._by_weeks = "BYWEEKNO" in rule.numbers
        self._origin = self._number(self._local_start)
        self._end = _end(rule)

    def between(self, after: datetime, before: datetime, work: WorkBudget) -> Iterator[datetime]:
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

    def _local_times(self, after: datetime, before: datetime, work: WorkBudget) -> Iterator[datetime]:
        rule, start = self._rule, self._local_start
        # A count begins at the start of the series; all else, in the period before the window.
        first = 0 if rule.count else max(0, self._period(after - MARGIN))
        total = 0
        for candidate in self._candidates(first, self._period(before + MARGIN), work):
            work.charge(_OCCURRENCE)
            local = candidate.replace(microsecond=start.microsecond)
            if local < start:
                continue
            if rule.until and self._is_past(local, rule.until):
                return
            yield local
            total += 1
            if total == rule.count:
                return

    def _is_past(self, local: datetime, until: datetime) -> bool:
        # UNTIL has no fractions of a second.
        at = self._moment(local) if until.tzinfo else local
        return at > until and at.replace(microsecond=0) != until

    def _candidates(self, first: int, last: int, work: WorkBudget) -> Iterator[datetime]:
        if self._by_weeks:
            return self._in_numbered_weeks(first, last, work)
        return self._by_dateutil(first, last, work)

    def _in_numbered_weeks(self, first: int, last: int, work: WorkBudget) -> Iterator[datetime]:
        rule, start = self._rule, self._local_start
        times = _times(rule, start)
        for period in range(first, last + 1):
            work.charge(_STEP + 7 * _A_DAY * len(rule.numbers["BYWEEKNO"]))
            year = self._origin + period * rule.interval
            if year > date.max.year - 1:
                return
            days = [day for day in _numbered_weeks(rule, year) if _is_allowed(rule, start, day)]
            work.charge(_A_DAY * len(days) * len(times))
            yield from _at_positions([datetime.combine(day, at) for day in days for at in times], rule)

    def _by_dateutil(self, first: int, last: int, work: WorkBudget) -> Iterator[datetime]:
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
        return self._start if local == self._local_start else placed(local, self._zone)

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
                return _week_year(day, self._rule.week_start) if self._by_weeks else day.year

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


def placed(local: datetime, zone: tzinfo) -> datetime:
    """The moment, in UTC, of a time on the wall clock; of a time that comes twice, the first."""
    return local.replace(tzinfo=zone).astimezone(UTC)


def _end(rule: Rule) -> datetime:
    """A moment after all that the rule's UNTIL allows, whatever the timezone."""
    return min(rule.until.replace(tzinfo=UTC), LAST) + MARGIN if rule.until else LAST


def _filters(rule: Rule, start: datetime) -> dict[str, Any]:
    """Dateutil's BY arguments; what the rule leaves open comes from the start, as the RFC has it."""
    numbers, days = dict(rule.numbers), rule.days
    for name, value in zip(CLOCK, (start.hour, start.minute, start.second), strict=True):
        numbers.setdefault(name, (value,))
    if not days and not numbers.keys() & {"BYMONTHDAY", "BYYEARDAY"}:
        if rule.frequency == "WEEKLY":
            days = ((0, start.weekday()),)
        elif rule.frequency != "DAILY":
            numbers["BYMONTHDAY"] = (start.day,)
    if rule.frequency == "YEARLY" and not days and not numbers.keys() & {"BYMONTH", "BYYEARDAY"}:
        # The month is left open, so it is the start's, as with the other implementations of the RFC; dateutil
        # would take every month.
        numbers["BYMONTH"] = (start.month,)
    if any(number for number, _ in days):
        # dateutil wants days that are both in the list without numbers and in the one with them.
        days = tuple((n, day) for number, day in days for n in ([number] if number else range(1, weeks(rule) + 1)))
    weekdays = (MO, TU, WE, TH, FR, SA, SU)
    filters: dict[str, Any] = {name.lower(): values for name, values in numbers.items()}
    filters["byweekday"] = [weekdays[day](number) if number else weekdays[day] for number, day in days] or None
    return filters


# --- numbered weeks -----------------------------------------------------------------------------

_A_DAY = 40


def _week_start(day: date, first_weekday: int) -> date:
    return day - timedelta(days=(day.weekday() - first_weekday) % 7)


def _week_year(day: date, first_weekday: int) -> int:
    """The year that the day's week belongs to: the one that has most of its days."""
    return (_week_start(day, first_weekday) + timedelta(days=3)).year


def _numbered_weeks(rule: Rule, year: int) -> Iterator[date]:
    """The days of the rule's weeks of this year of weeks, in order."""
    first, following = (_week_start(date(y, 1, 4), rule.week_start) for y in (year, year + 1))
    total = (following - first).days // 7
    numbers = {number if number > 0 else total + 1 + number for number in rule.numbers["BYWEEKNO"]}
    for number in sorted(numbers & set(range(1, total + 1))):
        yield from (first + timedelta(days=7 * (number - 1) + weekday) for weekday in range(7))


def _is_allowed(rule: Rule, start: datetime, day: date) -> bool:
    """Whether the other BY parts allow this day; without any of a day, it is the start's weekday."""
    numbers = rule.numbers
    in_month, in_year = monthrange(day.year, day.month)[1], 366 if isleap(day.year) else 365
    of_year = day.timetuple().tm_yday
    counted = {
        "BYMONTH": {day.month},
        "BYMONTHDAY": {day.day, day.day - in_month - 1},
        "BYYEARDAY": {of_year, of_year - in_year - 1},
    }
    weekdays = {weekday for _, weekday in rule.days}
    if not weekdays and not numbers.keys() & {"BYMONTHDAY", "BYYEARDAY"}:
        weekdays = {start.weekday()}
    fits = all(counted[name] & set(numbers[name]) for name in counted if name in numbers)
    return fits and (not weekdays or day.weekday() in weekdays)


def _times(rule: Rule, start: datetime) -> list[time]:
    parts = zip(CLOCK, (start.hour, start.minute, start.second), strict=True)
    hours, minutes, seconds = (rule.numbers.get(name, (value,)) for name, value in parts)
    return [time(hour, minute, second) for hour, minute, second in product(hours, minutes, seconds)]


def _at_positions(moments: list[datetime], rule: Rule) -> list[datetime]:
    if not (places := rule.numbers.get("BYSETPOS")):
        return moments
    chosen = {place - 1 if place > 0 else len(moments) + place for place in places}
    return [moment for place, moment in enumerate(moments) if place in chosen]


# --- checking at write --------------------------------------------------------------------------

# What an answer to "does it ever fire" may take for one of the three local dates of a start: some 0.1 s.
_SEARCH = 2_000_000


def reach(rule: Rule, start: datetime, work: WorkBudget | None = None) -> datetime | None:
    """A moment after the start of the last occurrence, whatever the timezone; `None`: there may be no last one.

    ValueError when the rule gives no occurrence from this start on within what a search may take.
    TooMuchWork when the call's `work` is used up.
    """
    if not FIRST <= start < LAST:
        raise ValueError("needs a start between the years 2 and 9998")
    # With hours of its own, a rule may or may not fire on the first day.
    has_hours = bool(rule.numbers.keys() & set(CLOCK))
    # With at least one occurrence in each period but for the first, COUNT needs no counting.
    is_even = not rule.numbers.keys() - set(CLOCK) and (
        rule.frequency == "WEEKLY" or (rule.frequency == "DAILY" and not rule.days)
    )
    is_counted = rule.count is not None and not is_even
    is_known = is_counted and not has_hours
    ends: list[datetime] = []
    # The timezone is not known here, so neither is the local date: one of three.
    for day in (start, start + timedelta(days=1), start - timedelta(days=1)):
        if has_hours:  # nor the local time, so the whole day counts
            day = day.replace(hour=0, minute=0, second=0)  # noqa: PLW2901
        search = WorkBudget(_SEARCH, within=work)
        try:
            ends += _farthest(rule, day, search, is_counted=is_counted)
        except TooMuchWork as stopped:
            if stopped.work is not search:
                raise
            is_known = False
        if ends and not is_counted:
            break
    if not ends:
        raise ValueError("gives no occurrence from the start of the event on, or takes too long to work out")
    if rule.until:
        return _end(rule)
    if rule.count and is_even:
        return _plus(start, timedelta(days=rule.count * rule.interval * _DAYS_IN[rule.frequency]) + MARGIN)
    return max(ends) + MARGIN if is_known else None


def _farthest(rule: Rule, start: datetime, work: WorkBudget, *, is_counted: bool) -> deque[datetime]:
    """The last occurrence of a rule whose COUNT has to be counted, the first one of another; empty without any."""
    occurrences = Series(rule, start, UTC).between(start, LAST, work)
    return deque(occurrences if is_counted else islice(occurrences, 1), maxlen=1)


def _plus(moment: datetime, span: timedelta) -> datetime:
    return moment + span if span < LAST - moment else LAST + MARGIN
