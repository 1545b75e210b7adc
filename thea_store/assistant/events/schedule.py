"""An event's occurrences: its rule, read in its timezone, and one of them as a record."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from thea_store.assistant.events.records import Candidate, Event, EventOccurrence
from thea_store.assistant.recurrence.budget import WorkBudget
from thea_store.assistant.recurrence.lines import read_lines
from thea_store.assistant.recurrence.recurrence_set import RecurrenceSet
from thea_store.queries.arguments import FIRST_MOMENT, LAST_MOMENT

__all__ = ["A_SEARCH", "INSTANT", "charge", "minus", "occurrence_at", "plus", "recurrence_set"]

_log = logging.getLogger("thea_store.events")

INSTANT = timedelta(microseconds=1)
"""The least difference of two moments, and what an instant lasts."""

A_SEARCH = 4_000_000
"""What the next occurrence of one event may take to find, in units of work: 130 years of days, or 2,000 of years."""

# Units of work for an event to look at, and for a character of the dates in its rule.
_AN_EVENT, _A_CHARACTER = 150, 15
_WITHOUT_DATES = 512


def charge(rule: str | None, work: WorkBudget) -> None:
    """Take from the budget what it costs to look at an event with this rule; TooMuchWork."""
    work.charge(_AN_EVENT + _A_CHARACTER * max(0, len(rule or "") - _WITHOUT_DATES))


def occurrence_at(event: Event, start: datetime, end: datetime | None) -> EventOccurrence:
    """The event's occurrence at this time."""
    fields = {name: getattr(event, name) for name in Event.model_fields}
    return EventOccurrence.model_validate(
        fields | {"start_datetime": start, "end_datetime": end, "is_recurring": event.recurrence_rule is not None}
    )


def recurrence_set(event: Candidate, work: WorkBudget) -> RecurrenceSet:
    """The event's occurrences; a single event has one. TooMuchWork."""
    charge(event.recurrence_rule, work)
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


def plus(moment: datetime, span: timedelta) -> datetime:
    """The moment after this span, or the last that an argument may be."""
    return moment + span if span < LAST_MOMENT - moment else LAST_MOMENT


def minus(moment: datetime, span: timedelta) -> datetime:
    """The moment before this span, or the first that an argument may be."""
    return moment - span if span < moment - FIRST_MOMENT else FIRST_MOMENT
