"""What an event makes of its rule: occurrences in a window of time, and reminders that are due."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from heapq import merge
from typing import Any, Literal
from zoneinfo import ZoneInfo

from pydantic import ConfigDict, with_config
from typing_extensions import TypedDict

from thea_store.assistant.recurrence.rule import parse
from thea_store.assistant.recurrence.series import Series, TooMuchWork, Work
from thea_store.repositories.base import Stored

__all__ = [
    "INSTANT",
    "Candidate",
    "Due",
    "Event",
    "EventOccurrence",
    "EventStatus",
    "Move",
    "claim",
    "occurrences",
    "plus",
]

_log = logging.getLogger("thea_store.events")

EventStatus = Literal["scheduled", "completed", "cancelled"]


class Event(Stored):
    """An event; a recurring one is described by its first start and its rule (RFC 5545).

    Without an end it is an instant. A reminder is due `reminder_minutes` before the start.
    """

    user_id: int
    title: str
    description: str | None
    start_datetime: datetime
    end_datetime: datetime | None
    location: str | None
    event_type: str
    category: str | None
    status: EventStatus
    reminder_minutes: int | None
    recurrence_rule: str | None
    external_id: str | None
    extra_data: dict[str, Any] | None


class EventOccurrence(Event):
    """An event as it happens once: `start_datetime` and `end_datetime` are those of this occurrence."""

    is_recurring: bool


class Candidate(Event):
    """An event, and the timezone that its occurrences are worked out in."""

    timezone: str


class Due(Candidate):
    """An event to look at for a reminder, and the start of the last occurrence that was claimed."""

    reminded_until: datetime | None


@with_config(ConfigDict(extra="forbid"))
class Move(TypedDict):
    """Up to where an event was reminded of, and when to look at it again."""

    id: int
    reminded_until: datetime | None
    next_reminder_at: datetime | None


INSTANT = timedelta(microseconds=1)
"""The least difference of two moments, and what an instant lasts."""


# --- windows ------------------------------------------------------------------------------------


def occurrences(
    candidates: Sequence[Candidate], after: datetime, before: datetime, work: Work, *, running: bool
) -> Iterator[EventOccurrence]:
    """What starts in the window, or is `running` in it, by the start; TooMuchWork.

    Of single events it takes those that the query chose. No more is worked out than what is asked for.
    """

    def starts(event: Candidate) -> Iterator[tuple[datetime, int, Candidate]]:
        length = _length(event)
        since = _minus(after, length) if running else after
        series = _series(event).between(since, before, work) if event.recurrence_rule else [event.start_datetime]
        for start in series:
            if start >= after or (running and plus(start, length) > after):
                yield start, event.id, event

    for start, _, event in merge(*map(starts, candidates)):
        yield _occurrence(event, start)


def _occurrence(event: Event, start: datetime) -> EventOccurrence:
    fields = {name: getattr(event, name) for name in Event.model_fields}
    end = event.end_datetime and plus(start, _length(event))
    return EventOccurrence.model_validate(
        fields | {"start_datetime": start, "end_datetime": end, "is_recurring": event.recurrence_rule is not None}
    )


# --- reminders ----------------------------------------------------------------------------------

_ONCE = parse("FREQ=DAILY;COUNT=1")


def _series(event: Candidate) -> Series:
    """The event's occurrences; a single event is a series of one."""
    rule, zone = _ONCE, None
    if event.recurrence_rule:
        try:
            rule = parse(event.recurrence_rule)
            zone = ZoneInfo(event.timezone)
        except (ValueError, OSError, KeyError):
            # Written past this library, or by another version: one such row must not stop all reminders.
            _log.warning("event %d: its recurrence rule or its user's timezone cannot be read: set it again", event.id)
    return Series(rule, event.start_datetime, zone or UTC)


def claim(event: Due, now: datetime, work: Work) -> tuple[EventOccurrence | None, Move]:
    """The latest occurrence that is due and was not claimed, and where that leaves the event."""
    move: Move = {"id": event.id, "reminded_until": event.reminded_until, "next_reminder_at": None}
    if event.reminder_minutes is None:
        return None, move
    notice = timedelta(minutes=event.reminder_minutes)
    series = _series(event)
    unclaimed = plus(event.reminded_until, INSTANT) if event.reminded_until else event.start_datetime
    not_due = plus(plus(now, notice), INSTANT)
    latest = None
    try:
        latest = series.last(unclaimed, not_due, work)
        move["reminded_until"] = latest or event.reminded_until
        following = series.first(max(unclaimed, not_due), work)
    except TooMuchWork:  # there is none in a lifetime
        following = None
    move["next_reminder_at"] = following and _minus(following, notice)
    return _occurrence(event, latest) if latest else None, move


def _length(event: Event) -> timedelta:
    return event.end_datetime - event.start_datetime if event.end_datetime else timedelta()


def plus(moment: datetime, span: timedelta) -> datetime:
    """The moment after this span, or the last there is."""
    try:
        return moment + span
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)


def _minus(moment: datetime, span: timedelta) -> datetime:
    """The moment before this span, or the first there is."""
    try:
        return moment - span
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)
