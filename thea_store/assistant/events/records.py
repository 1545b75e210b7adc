"""What is read of events, and what is given to write them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, Required

from pydantic import AfterValidator, AwareDatetime, ConfigDict, Field, ValidationInfo, with_config
from typing_extensions import TypedDict

from thea_store.assistant.recurrence.lines import read_lines
from thea_store.queries.arguments import Id, JsonObject, Key, LongText, Moment
from thea_store.repositories.base import Record, Stored

__all__ = [
    "Candidate",
    "Due",
    "Event",
    "EventChanges",
    "EventDetails",
    "EventFilters",
    "EventOccurrence",
    "EventStatus",
    "Move",
    "NewEvent",
    "Schedule",
    "StoredChanges",
    "StoredEvent",
    "UserZone",
]

EventStatus = Literal["scheduled", "completed", "cancelled"]

# --- what is read -------------------------------------------------------------------------------


class Event(Stored, frozen=True):
    """An event; a recurring one is described by its first start and its rule (RFC 5545).

    Without an end it is an instant. An event that is `all_day` begins and ends at midnights of its user's
    timezone. A reminder is due `reminder_minutes` before the start. `recurrence_rule` has one spelling for each
    meaning. `skipped` are the starts of the occurrences that `skip` called off.
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
    all_day: bool
    skipped: list[datetime]
    external_id: str | None
    extra_data: dict[str, Any] | None


class EventOccurrence(Event, frozen=True):
    """An event as it happens once: `start_datetime` and `end_datetime` are those of this occurrence."""

    is_recurring: bool


class Candidate(Event, frozen=True):
    """An event, and the timezone that its occurrences are worked out in."""

    timezone: str


class Due(Candidate, frozen=True):
    """An event to look at for a reminder, and what was claimed before.

    All that starts up to `reminded_until` was claimed, or is past. Of what starts later, `reminded` are the starts
    that were claimed, at the times in `reminded_at`.
    """

    reminded_until: datetime | None
    reminded: list[datetime]
    reminded_at: list[datetime]


class Schedule(Record, frozen=True):
    """When an event happens, the timezone that this is meant in, and its user's present one."""

    start_datetime: datetime
    end_datetime: datetime | None
    recurrence_rule: str | None
    all_day: bool
    timezone: str
    user_timezone: str


class UserZone(Record, frozen=True):
    """The timezone of a user."""

    id: int
    timezone: str


# --- what is given ------------------------------------------------------------------------------

_Place = Annotated[LongText, Field(max_length=1000)]
_Reminder = Annotated[int, Field(ge=0, le=366 * 24 * 60)]


def _not_before_start(end: datetime | None, row: ValidationInfo) -> datetime | None:
    start = row.data.get("start_datetime")
    if end is not None and start is not None and end < start:
        raise ValueError("must not be before start_datetime")
    return end


def _readable(rule: str | None) -> str | None:
    if rule is not None:
        read_lines(rule)
    return rule


_End = Annotated[Moment | None, AfterValidator(_not_before_start)]
_Rule = Annotated[str | None, AfterValidator(_readable)]


class EventDetails(TypedDict, total=False):
    """What `upsert_external` may set besides the title and the time."""

    description: LongText | None
    location: _Place | None
    event_type: Key
    category: Key | None
    status: EventStatus
    reminder_minutes: _Reminder | None
    extra_data: JsonObject | None


# In these two the start comes first, since the end is checked against it. They are checked on their own as well, before
# a query refuses other keys.
@with_config(ConfigDict(extra="forbid"))
class EventChanges(EventDetails, total=False):
    """What `update` may change."""

    title: Key
    start_datetime: Moment
    end_datetime: _End
    recurrence_rule: _Rule
    all_day: bool
    external_id: Key | None


@with_config(ConfigDict(extra="forbid"))
class NewEvent(EventDetails, total=False):
    """A row of `create_many`: what `create` takes, by name."""

    user_id: Required[Id]
    title: Required[Key]
    start_datetime: Required[Moment]
    end_datetime: _End
    recurrence_rule: _Rule
    all_day: bool
    external_id: Key | None


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


# --- what is written ----------------------------------------------------------------------------


# These are built at the first call. AwareDatetime stands for datetime, because freezegun takes that name for a class of
# its own, which pydantic does not know.
class _Derived(TypedDict, total=False):
    series_end: AwareDatetime | None
    """A moment after the last occurrence; `None` where there may be no last one."""
    location_key: str | None
    """The location as `get_by_location` compares it."""


# What the caller gave is checked by now, so these check the types alone.
class StoredChanges(_Derived, total=False):
    """The columns that an update writes."""

    title: str
    description: str | None
    start_datetime: AwareDatetime
    end_datetime: AwareDatetime | None
    location: str | None
    event_type: str
    category: str | None
    status: str
    reminder_minutes: int | None
    recurrence_rule: str | None
    all_day: bool
    timezone: str
    external_id: str | None
    extra_data: dict[str, Any] | None


class StoredEvent(StoredChanges, total=False):
    """The columns of a new event."""

    user_id: Required[int]


class Move(TypedDict):
    """What a claim makes of an event: what was claimed, and when to look at it again."""

    id: int
    reminded_until: AwareDatetime | None
    reminded: list[AwareDatetime]
    reminded_at: list[AwareDatetime]
    next_reminder_at: AwareDatetime | None
