"""A user's calendar: single and recurring events, conflicts between them, and reminders."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from heapq import merge
from itertools import islice
from typing import Annotated, Any, Literal, Required, get_type_hints
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, ConfigDict, Field, ValidationInfo, with_config
from typing_extensions import TypedDict, Unpack

from thea_store.arguments import Id, JsonObject, Key, Limit, LongText, Moment, check
from thea_store.errors import InvalidArgumentError
from thea_store.recurrence import Series, TooMuchWork, Work, parse, reach
from thea_store.repository import Page, Record, Repository, Stored, common
from thea_store.sql import SqlFile

__all__ = ["Event", "EventChanges", "EventDetails", "EventFilters", "EventOccurrence", "EventStatus", "Events"]

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


class _Candidate(Event):
    """An event, and the timezone that its occurrences are worked out in."""

    timezone: str


class _Due(_Candidate):
    reminded_until: datetime | None
    """The start of the last occurrence that was claimed."""


# --- arguments ----------------------------------------------------------------------------------

_Place = Annotated[str, Field(max_length=1000), AfterValidator(lambda text: check("location", text, LongText))]
_Reminder = Annotated[int, Field(ge=0, le=366 * 24 * 60)]
_Days = Annotated[int, Field(ge=1, le=3660)]


def _not_before_start(end: datetime | None, row: ValidationInfo) -> datetime | None:
    start = row.data.get("start_datetime")
    if end is not None and start is not None and end < start:
        raise ValueError("must not be before start_datetime")
    return end


def _fires(rule: str | None, row: ValidationInfo) -> str | None:
    if rule is not None:
        parse(rule)
        if start := row.data.get("start_datetime"):
            reach(rule, start)
    return rule


_End = Annotated[Moment | None, AfterValidator(_not_before_start)]
_Rule = Annotated[str | None, AfterValidator(_fires)]


@with_config(ConfigDict(extra="forbid"))
class EventDetails(TypedDict, total=False):
    """What `upsert_external` may set besides the title and the time."""

    description: LongText | None
    location: _Place | None
    event_type: Key
    category: Key | None
    status: EventStatus
    reminder_minutes: _Reminder | None
    extra_data: JsonObject | None


# In these three the start comes first, since the end and the rule are checked against it.
@with_config(ConfigDict(extra="forbid"))
class EventChanges(EventDetails, total=False):
    """What `update` may change."""

    title: Key
    start_datetime: Moment
    end_datetime: _End
    recurrence_rule: _Rule
    external_id: Key | None


@with_config(ConfigDict(extra="forbid"))
class _NewEvent(EventDetails, total=False):
    user_id: Required[Id]
    title: Required[Key]
    start_datetime: Required[Moment]
    end_datetime: _End
    recurrence_rule: _Rule
    external_id: Key | None


@with_config(ConfigDict(extra="forbid"))
class _StoredChanges(EventChanges, total=False):
    series_end: Moment | None


class EventFilters(TypedDict, total=False):
    """What `get_all`, `iterate` and `count` may ask for; `None` asks for nothing.

    `starts_from` includes its moment, `starts_before` does not; of a recurring event they see the
    first start.
    """

    user_id: Id | None
    event_type: Key | None
    category: Key | None
    status: EventStatus | None
    starts_from: Moment | None
    starts_before: Moment | None


@with_config(ConfigDict(extra="forbid"))
class _Move(TypedDict):
    id: int
    reminded_until: datetime | None
    next_reminder_at: datetime | None


def _with_series_end(schedule: Mapping[str, Any]) -> dict[str, Any]:
    """The row with a moment after its last occurrence; `None` where there may be no last one."""
    rule, start, end = schedule.get("recurrence_rule"), schedule["start_datetime"], schedule.get("end_datetime")
    last = reach(rule, start) if rule is not None else None
    return {**schedule, "series_end": _later(last, end - start if end else timedelta()) if last else None}


# --- queries ------------------------------------------------------------------------------------

_NewRow = Annotated[_NewEvent, AfterValidator(_with_series_end)]

SQL = SqlFile("events")
COMMON = replace(
    common(SQL, Event, rows=_NewRow, changes=_StoredChanges, filters=EventFilters, parents=["user"]),
    changes=frozenset(get_type_hints(EventChanges)),
)

GET_BY_LOCATION = SQL.query("get_by_location", Event, user_id=Id, location=Key)
GET_BY_CATEGORY = SQL.query("get_by_category", Event, user_id=Id, category=Key)
IN_RANGE = SQL.query(
    "in_range",
    _Candidate,
    user_id=Id,
    after=Moment,
    before=Moment,
    running=bool,
    scheduled_only=bool,
    exclude_id=Id | None,
    limit=int,
    series_limit=int,
)
UPSERT_EXTERNAL = SQL.query("upsert_external", Event, row=_NewRow, given=list[str])
GET_DELETED_ID = SQL.query("get_deleted_id", int, user_id=Id, external_id=Key)


class _Schedule(Record):
    start_datetime: datetime
    end_datetime: datetime | None
    recurrence_rule: str | None


LOCK_SCHEDULE = SQL.query("lock_schedule", _Schedule, id=Id)
LOCK_DUE = SQL.query("lock_due", _Due, now=Moment, limit=int)
MOVE_ON = SQL.query("move_on", None, rows=list[_Move])

_SCHEDULE = frozenset(_Schedule.model_fields)
