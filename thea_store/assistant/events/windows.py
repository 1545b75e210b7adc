"""What happens in a window of time: single events, and the occurrences of recurring ones, merged by their start."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from heapq import merge
from itertools import islice

from thea_store.assistant.events.records import Candidate, EventOccurrence
from thea_store.assistant.events.schedule import INSTANT, minus, occurrence_at, plus, recurrence_set
from thea_store.assistant.events.sql import SQL
from thea_store.assistant.recurrence.budget import TooMuchWork, WorkBudget, within
from thea_store.database import Executor
from thea_store.errors import InvalidArgumentError
from thea_store.queries.arguments import Id, Limit, Moment, check

__all__ = ["bounded", "in_window", "window"]

IN_RANGE = SQL.query(
    "in_range",
    Candidate,
    user_id=Id,
    after=Moment,
    before=Moment,
    running=bool,
    scheduled_only=bool,
    exclude_event_id=Id | None,
    limit=int,
    series_limit=int,
)

# Units of work (thea_store.assistant.recurrence.budget) that a call may do, some half a second of them, and that a
# record takes.
_READING, _A_RECORD = 10_000_000, 200
# How many recurring events one window may have to look at.
_SERIES = 5000


def window(start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """Where the window begins and ends, checked; an instant lasts a microsecond."""
    after: datetime = check("start", start, Moment)
    before: datetime = check("end", end, Moment)
    if before < after:
        raise InvalidArgumentError("end", "must not be before start")
    return after, max(before, plus(after, INSTANT))


@contextmanager
def bounded(argument: str) -> Iterator[None]:
    """A block in which too much work is an `InvalidArgumentError` that names this argument."""
    try:
        yield
    except TooMuchWork:
        reason = "the recurring events take too long to work out: ask for a shorter time"
        raise InvalidArgumentError(argument, reason) from None


async def in_window(
    db: Executor,
    tenant_id: str,
    user_id: int,
    after: datetime,
    before: datetime,
    *,
    limit: int,
    running: bool = True,
    scheduled_only: bool = True,
    exclude_event_id: int | None = None,
) -> list[EventOccurrence]:
    """What happens in the window, by the start; the first `limit`. TooMuchWork (see `bounded`)."""
    check("limit", limit, Limit)
    candidates = await db.fetch_all(
        IN_RANGE,
        tenant_id,
        user_id=user_id,
        after=after,
        before=before,
        running=running,
        scheduled_only=scheduled_only,
        exclude_event_id=exclude_event_id,
        limit=limit,
        series_limit=_SERIES + 1,
    )
    series = sum(event.recurrence_rule is not None for event in candidates)

    def expand(work: WorkBudget) -> list[EventOccurrence]:
        if series > _SERIES:
            raise TooMuchWork(work)
        return list(islice(_occurrences(candidates, after, before, work, running=running), limit))

    return await within(_READING, expand)


def _occurrences(
    candidates: Sequence[Candidate], after: datetime, before: datetime, work: WorkBudget, *, running: bool
) -> Iterator[EventOccurrence]:
    """What starts in the window, or is `running` in it, by the start; TooMuchWork.

    Of single events it takes those that the query chose. No more is worked out than what is asked for.
    """
    series = {event.id: recurrence_set(event, work) for event in candidates if event.recurrence_rule}

    def starts(event: Candidate) -> Iterator[tuple[datetime, int, Candidate]]:
        if not (happens := series.get(event.id)):
            yield event.start_datetime, event.id, event
            return
        since = minus(after, happens.longest) if running else after
        for start in happens.between(since, before, work):
            if start >= after or (running and (happens.end_of(start) or start) > after):
                yield start, event.id, event

    for start, _, event in merge(*map(starts, candidates)):
        work.charge(_A_RECORD)
        happens = series.get(event.id)
        yield occurrence_at(event, start, happens.end_of(start) if happens else event.end_datetime)
