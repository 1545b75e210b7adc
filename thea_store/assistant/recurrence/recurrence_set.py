"""All occurrences of one event (RFC 5545 calls them its recurrence set), and when each of them ends."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from heapq import merge

from thea_store.assistant.recurrence.budget import WorkBudget
from thea_store.assistant.recurrence.lines import Dates, Lines
from thea_store.assistant.recurrence.rule import parse
from thea_store.assistant.recurrence.series import LAST, MARGIN, Searched, Series, placed, reach

__all__ = ["RecurrenceSet", "midnight", "reach_of"]

_ONCE = parse("FREQ=DAILY;COUNT=1")
# Units of work for one date of an EXDATE or RDATE line.
_DATE = 20


def midnight(day: date, zone: tzinfo) -> datetime:
    """The first moment of this day in the timezone, in UTC.

    Where a clock change skips the midnight, the day begins with the change; a day that a timezone skipped begins
    where the next one does.
    """
    return placed(datetime.combine(day, time.min), zone)


class RecurrenceSet(Searched):
    """The occurrences of an event that begins at `start`: those of its rule and its dates, without the excluded.

    `end` is when the first one ends. The others end when the wall clock of the timezone says the same: a night
    shift from 22:00 to 06:00 ends at 06:00 also where the clocks change. `skipped` are starts of occurrences
    that do not take place. Without lines there is one occurrence.
    """

    def __init__(
        self,
        lines: Lines | None,
        start: datetime,
        end: datetime | None,
        zone: tzinfo,
        *,
        all_day: bool = False,
        skipped: Collection[datetime] = (),
    ) -> None:
        self._start, self._first_end, self._zone, self._all_day = start, end, zone, all_day
        self._wall_start = self._on_the_wall(start)
        self._wall_length = self._on_the_wall(end) - self._wall_start if end else timedelta()
        self._series = Series((lines and lines.rule) or _ONCE, start, zone, self._wall_start)
        self._added = sorted(self._moments(lines.added)) if lines else []
        self._excluded = frozenset(self._moments(lines.excluded)) if lines else frozenset()
        self._excluded_days = lines.excluded.days if lines else frozenset()
        self._skipped = frozenset(skipped)
        self._end = LAST + MARGIN

    def between(self, after: datetime, before: datetime, work: WorkBudget) -> Iterator[datetime]:
        """The occurrences' starts in UTC from `after` on and before `before`, in order; TooMuchWork."""
        work.charge(_DATE * (len(self._added) + len(self._excluded)))
        added = [moment for moment in self._added if after <= moment < before and moment >= self._start]
        previous = None
        for moment in merge(self._series.between(after, before, work), added):
            if moment != previous and not self._is_excluded(moment):
                yield moment
            previous = moment

    def end_of(self, start: datetime) -> datetime | None:
        """When the occurrence that starts then ends; `None` where the event has no end."""
        end = self._first_end
        if end is None or start == self._start:
            return end
        try:
            wall_end = placed(self._on_the_wall(start) + self._wall_length, self._zone)
            # A clock change may put the end before the start; then the length in hours counts.
            return wall_end if wall_end > start else start + (end - self._start)
        except OverflowError:
            return LAST + MARGIN

    @property
    def longest(self) -> timedelta:
        """No occurrence lasts longer."""
        length = self._first_end - self._start if self._first_end else timedelta()
        return length + MARGIN if length else length

    def _is_excluded(self, moment: datetime) -> bool:
        return (
            moment in self._skipped
            or moment.replace(microsecond=0) in self._excluded
            or (bool(self._excluded_days) and self._local(moment).date() in self._excluded_days)
        )

    def _moments(self, dates: Dates) -> Iterator[datetime]:
        """The moments of EXDATE or RDATE lines; a day of RDATE has the time of the start."""
        yield from dates.moments
        days = (datetime.combine(day, self._wall_start.time()) for day in dates.days)
        yield from (placed(local, self._zone) for local in (*dates.local, *days))

    def _on_the_wall(self, moment: datetime) -> datetime:
        local = self._local(moment)
        return datetime.combine(local.date(), time.min) if self._all_day else local

    def _local(self, moment: datetime) -> datetime:
        return moment.astimezone(self._zone).replace(tzinfo=None, fold=0)


def reach_of(lines: Lines, start: datetime, work: WorkBudget | None = None) -> datetime | None:
    """A moment after the start of the last occurrence, whatever the timezone; `None`: there may be no last one.

    ValueError where the rule gives no occurrence, or a date of RDATE lies before the start. TooMuchWork.
    """
    days = (datetime.combine(day, time.max) for day in lines.added.days)
    local = [at.replace(tzinfo=UTC) for at in (*lines.added.local, *days)]
    added = [*lines.added.moments, *(at + MARGIN for at in local)]
    if any(at < start.replace(microsecond=0) for at in added):
        raise ValueError("has an RDATE before start_datetime")
    ends = [start, *(at + MARGIN for at in added)]
    if lines.rule:
        end = reach(lines.rule, start, work)
        if end is None:
            return None
        ends.append(end)
    return max(ends)
