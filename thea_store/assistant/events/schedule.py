"""What an event makes of its rule: occurrences in a window of time, and reminders that are due."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from heapq import merge
from typing import Any
from zoneinfo import ZoneInfo

from thea_store.assistant.events.records import Candidate, Due, Event, EventOccurrence, Move
from thea_store.assistant.recurrence.budget import TooMuchWork, WorkBudget
from thea_store.assistant.recurrence.lines import Lines, read_lines
from thea_store.assistant.recurrence.recurrence_set import RecurrenceSet, midnight, reach_of
from thea_store.assistant.recurrence.rule import CLOCK
from thea_store.assistant.recurrence.series import MARGIN
from thea_store.errors import InvalidArgumentError
from thea_store.queries.arguments import FIRST_MOMENT, LAST_MOMENT

__all__ = [
    "A_SEARCH",
    "INSTANT",
    "Claims",
    "claim",
    "claims",
    "is_floating",
    "occurrences",
    "placed_in",
    "plus",
    "recurrence_set",
    "with_series_end",
]

_log = logging.getLogger("thea_store.events")

INSTANT = timedelta(microseconds=1)
"""The least difference of two moments, and what an instant lasts."""

A_SEARCH = 4_000_000
"""What the next occurrence of one event may take to find, in units of work: 130 years of days, or 2,000 of years."""

Claims = tuple[list[EventOccurrence], list[Move], int]
"""What is claimed, where that leaves the events, and the work that it took."""

# Units of work for a record, for an event to look at, and for a character of the dates in its rule.
_A_RECORD, _AN_EVENT, _A_CHARACTER = 200, 150, 15
_WITHOUT_DATES = 512


def _charge(rule: str | None, work: WorkBudget) -> None:
    work.charge(_AN_EVENT + _A_CHARACTER * max(0, len(rule or "") - _WITHOUT_DATES))


# --- writing ------------------------------------------------------------------------------------


def is_floating(row: Mapping[str, Any]) -> bool:
    """Whether what the row says of time can be understood in its user's timezone alone."""
    if row.get("all_day"):
        return True
    text = row.get("recurrence_rule")
    start = read_lines(text).start if text is not None else None
    return start is not None and (not isinstance(start, datetime) or start.tzinfo is None)


def placed_in(zone: ZoneInfo | None, row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with its rule in the one spelling, and the end of an event of whole days; InvalidArgumentError.

    `zone` is `None` where it is not known; then the row is not floating, or its user does not exist.
    """
    lines = read_lines(row["recurrence_rule"]) if row.get("recurrence_rule") is not None else None
    if lines and lines.start is not None:
        _check_start(lines, row["start_datetime"], zone)
    if not row.get("all_day"):
        return dict(row) | ({"recurrence_rule": str(lines)} if lines else {})
    if zone is None:
        return dict(row)
    whole = dict(row) | {"end_datetime": _end_of_days(row, zone)}
    if lines:
        if lines.rule and lines.rule.numbers.keys() & set(CLOCK):
            reason = "may not have BYHOUR, BYMINUTE or BYSECOND, as the event is all-day"
            raise InvalidArgumentError("recurrence_rule", reason)
        whole["recurrence_rule"] = str(lines.on_days(zone))
    return whole


def _check_start(lines: Lines, start: datetime, zone: ZoneInfo | None) -> None:
    said, at = lines.start, start.replace(microsecond=0)
    if isinstance(said, datetime) and said.tzinfo:
        same = said == at
    elif zone is None:
        return
    elif isinstance(said, datetime):
        same = said.replace(tzinfo=zone).astimezone(UTC) == at
    else:
        same = said is not None and midnight(said, zone) == at
    if not same:
        raise InvalidArgumentError("recurrence_rule", "has a DTSTART that is not start_datetime")


def _end_of_days(row: Mapping[str, Any], zone: ZoneInfo) -> datetime:
    start: datetime = row["start_datetime"]
    end: datetime | None = row.get("end_datetime")
    for name, moment in (("start_datetime", start), ("end_datetime", end)):
        if moment is not None and midnight(moment.astimezone(zone).date(), zone) != moment:
            raise InvalidArgumentError(name, "must be a midnight of the user's timezone, as the event is all-day")
    if end is None:
        return midnight(start.astimezone(zone).date() + timedelta(days=1), zone)
    if end == start:
        raise InvalidArgumentError("end_datetime", "must be a later midnight than start_datetime")
    return end


def with_series_end(row: Mapping[str, Any], work: WorkBudget) -> dict[str, Any]:
    """The row with a moment after its last occurrence; TooMuchWork, and InvalidArgumentError when it never happens."""
    text, start, end = row.get("recurrence_rule"), row["start_datetime"], row.get("end_datetime")
    _charge(text, work)
    if text is None:
        return {**row, "series_end": None}
    try:
        last = reach_of(read_lines(text), start, work)
    except ValueError as error:
        raise InvalidArgumentError("recurrence_rule", str(error)) from None
    return {**row, "series_end": plus(last, end - start + MARGIN if end else timedelta()) if last else None}


# --- windows ------------------------------------------------------------------------------------


def occurrences(
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
        since = _minus(after, happens.longest) if running else after
        for start in happens.between(since, before, work):
            if start >= after or (running and (happens.end_of(start) or start) > after):
                yield start, event.id, event

    for start, _, event in merge(*map(starts, candidates)):
        work.charge(_A_RECORD)
        happens = series.get(event.id)
        yield _occurrence(event, start, happens.end_of(start) if happens else event.end_datetime)


def _occurrence(event: Event, start: datetime, end: datetime | None) -> EventOccurrence:
    fields = {name: getattr(event, name) for name in Event.model_fields}
    return EventOccurrence.model_validate(
        fields | {"start_datetime": start, "end_datetime": end, "is_recurring": event.recurrence_rule is not None}
    )


def recurrence_set(event: Candidate, work: WorkBudget) -> RecurrenceSet:
    """The event's occurrences; a single event has one. TooMuchWork."""
    _charge(event.recurrence_rule, work)
    lines, zone = None, None
    try:
        lines = read_lines(event.recurrence_rule) if event.recurrence_rule else None
        zone = ZoneInfo(event.timezone)
    except (ValueError, OSError, KeyError):
        # Written past this library, or by another version: one such row must not stop all reminders.
        lines = None
        _log.warning("event %d: its recurrence rule or its timezone cannot be read: set it again", event.id)
    return RecurrenceSet(
        lines, event.start_datetime, event.end_datetime, zone or UTC, all_day=event.all_day, skipped=event.skipped
    )


# --- reminders ----------------------------------------------------------------------------------

# How many claimed occurrences that are still to come are remembered one by one.
_REMEMBERED = 1000

# How long after the start of an occurrence a second reminder of it, by a shorter notice, is still of use.
_SECOND_REMINDER = timedelta(hours=1)


def claim(event: Due, now: datetime, work: WorkBudget) -> tuple[EventOccurrence | None, Move]:
    """The latest occurrence that is due and was not claimed, and where that leaves the event."""
    claimed = dict(zip(event.reminded, event.reminded_at, strict=False))
    move: Move = {
        "id": event.id,
        "reminded_until": event.reminded_until,
        "reminded": event.reminded,
        "reminded_at": event.reminded_at,
        "next_reminder_at": None,
    }
    if event.reminder_minutes is None:
        return None, move
    notice = timedelta(minutes=event.reminder_minutes)
    happens = recurrence_set(event, work)
    unclaimed = plus(event.reminded_until, INSTANT) if event.reminded_until else event.start_datetime
    not_due = plus(plus(now, notice), INSTANT)

    def was_claimed(start: datetime) -> bool:
        # A claim before the reminder was due belongs to an earlier notice: it is due once more, unless it is long over.
        return start in claimed and (claimed[start] >= _minus(start, notice) or plus(start, _SECOND_REMINDER) < now)

    def latest_due() -> datetime | None:
        start = happens.last(unclaimed, not_due, work)
        while start and was_claimed(start):
            start = happens.last(unclaimed, start, work)
        return start

    latest, following = None, None
    try:
        latest = latest_due()
        following = happens.first(max(unclaimed, not_due), work)
    except TooMuchWork as stopped:  # there is none in a lifetime
        if stopped.work is not work:
            raise
    if latest:
        _remember(move, claimed, latest, now)
    move["next_reminder_at"] = following and _minus(following, notice)
    return _occurrence(event, latest, happens.end_of(latest)) if latest else None, move


def claims(due: Sequence[Due], moment: datetime, work: WorkBudget, allowed: int) -> Claims:
    """What is claimed of these events, until they took so much work in all; each may take `A_SEARCH` more."""
    found: list[EventOccurrence] = []
    moves: list[Move] = []
    for event in due:
        if work.done >= allowed:
            break
        occurrence, move = claim(event, moment, WorkBudget(A_SEARCH, within=work))
        found += [occurrence] if occurrence else []
        moves.append(move)
    return found, moves, work.done


def _remember(move: Move, claimed: dict[datetime, datetime], start: datetime, now: datetime) -> None:
    move["reminded_until"] = start
    # What is past is covered by `reminded_until`. The newest stands last, and tells when the event was looked at.
    kept = {at: when for at, when in claimed.items() if at > now and at != start} | {start: now}
    move["reminded"], move["reminded_at"] = list(kept)[-_REMEMBERED:], list(kept.values())[-_REMEMBERED:]


def plus(moment: datetime, span: timedelta) -> datetime:
    """The moment after this span, or the last that an argument may be."""
    return moment + span if span < LAST_MOMENT - moment else LAST_MOMENT


def _minus(moment: datetime, span: timedelta) -> datetime:
    """The moment before this span, or the first that an argument may be."""
    return moment - span if span < moment - FIRST_MOMENT else FIRST_MOMENT
