"""A user's calendar: single and recurring events, conflicts between them, and reminders."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Annotated, Any, Required, get_type_hints

from pydantic import AfterValidator, ConfigDict, Field, ValidationInfo, with_config
from typing_extensions import TypedDict, Unpack

from thea_store.assistant.events.schedule import (
    INSTANT,
    Candidate,
    Due,
    Event,
    EventOccurrence,
    EventStatus,
    Move,
    claim,
    occurrences,
    plus,
)
from thea_store.assistant.recurrence.rule import parse
from thea_store.assistant.recurrence.series import TooMuchWork, Work, reach
from thea_store.database import Executor
from thea_store.errors import InvalidArgumentError
from thea_store.queries.arguments import Id, JsonObject, Key, Limit, LongText, Moment, check
from thea_store.queries.file import SqlFile
from thea_store.repositories.base import Page, Record, Repository, common

__all__ = ["Event", "EventChanges", "EventDetails", "EventFilters", "EventOccurrence", "EventStatus", "Events"]

# --- arguments ----------------------------------------------------------------------------------

_Place = Annotated[LongText, Field(max_length=1000)]
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


def _with_series_end(schedule: Mapping[str, Any]) -> dict[str, Any]:
    """The row with a moment after its last occurrence; `None` where there may be no last one."""
    rule, start, end = schedule.get("recurrence_rule"), schedule["start_datetime"], schedule.get("end_datetime")
    last = reach(rule, start) if rule is not None else None
    return {**schedule, "series_end": plus(last, end - start if end else timedelta()) if last else None}


class _Schedule(Record):
    start_datetime: datetime
    end_datetime: datetime | None
    recurrence_rule: str | None


# --- queries ------------------------------------------------------------------------------------

_NewRow = Annotated[_NewEvent, AfterValidator(_with_series_end)]

SQL = SqlFile("events")
COMMON = replace(
    common(SQL, Event, rows=_NewRow, changes=_StoredChanges, filters=EventFilters, narrowed_by=["user_id"]),
    changes=frozenset(get_type_hints(EventChanges)),
)

GET_BY_LOCATION = SQL.query("get_by_location", Event, user_id=Id, location=Key)
GET_BY_CATEGORY = SQL.query("get_by_category", Event, user_id=Id, category=Key)
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
UPSERT_EXTERNAL = SQL.query("upsert_external", Event, row=_NewRow, given=list[str])
GET_DELETED_ID = SQL.query("get_deleted_id", int, user_id=Id, external_id=Key)
LOCK_SCHEDULE = SQL.query("lock_schedule", _Schedule, id=Id)
LOCK_DUE = SQL.query("lock_due", Due, now=Moment, limit=int)
MOVE_ON = SQL.query("move_on", None, rows=list[Move])

# Units of work (see thea_store.assistant.recurrence.series) that a call may do, below half a second of them.
_READING = _CLAIMING = 10_000_000
# How many recurring events one window may have to look at.
_SERIES = 5000


class Events(Repository[Event]):
    """The events of a tenant.

    Recurring events are worked out in their user's present timezone, so that 10:00 stays 10:00 across a
    clock change. A window in which that takes too much work is refused with an `InvalidArgumentError`.
    """

    common = COMMON

    async def get_all(
        self,
        tenant_id: str,
        *,
        newest_first: bool = True,
        limit: int = 50,
        cursor: str | None = None,
        include_deleted: bool = False,
        **filters: Unpack[EventFilters],
    ) -> Page[Event]:
        """A page of events by the time they were made, from after `cursor`; empty past the end."""
        return await self._page(
            tenant_id,
            filters,
            newest_first=newest_first,
            limit=limit,
            cursor=cursor,
            include_deleted=include_deleted,
        )

    def iterate(
        self, tenant_id: str, *, batch_size: int = 500, **filters: Unpack[EventFilters]
    ) -> AsyncIterator[Event]:
        """All events, the oldest first, read in batches; no connection is held in between."""
        return self._iterate(tenant_id, filters, batch_size)

    async def count(self, tenant_id: str, **filters: Unpack[EventFilters]) -> int:
        """How many events there are that are not deleted; a recurring one is one."""
        return await self._count(tenant_id, filters)

    async def create(
        self,
        tenant_id: str,
        user_id: int,
        title: str,
        start_datetime: datetime,
        *,
        end_datetime: datetime | None = None,
        description: str | None = None,
        location: str | None = None,
        event_type: str = "event",
        category: str | None = None,
        status: EventStatus = "scheduled",
        reminder_minutes: int | None = None,
        recurrence_rule: str | None = None,
        external_id: str | None = None,
        extra_data: dict[str, Any] | None = None,
    ) -> Event:
        """The new event; `InvalidReferenceError` without the user, `DuplicateError` when they have the external id.

        `recurrence_rule` is RFC 5545 with FREQ=DAILY to YEARLY, COUNT and INTERVAL up to 1000, up to 512
        characters; one that never fires is refused.
        """
        row = {
            "user_id": user_id,
            "title": title,
            "start_datetime": start_datetime,
            "end_datetime": end_datetime,
            "description": description,
            "location": location,
            "event_type": event_type,
            "category": category,
            "status": status,
            "reminder_minutes": reminder_minutes,
            "recurrence_rule": recurrence_rule,
            "external_id": external_id,
            "extra_data": extra_data,
        }
        return await self._create(tenant_id, row)

    async def upsert_external(
        self,
        tenant_id: str,
        user_id: int,
        external_id: str,
        title: str,
        start_datetime: datetime,
        *,
        end_datetime: datetime | None = None,
        recurrence_rule: str | None = None,
        **details: Unpack[EventDetails],
    ) -> Event:
        """The user's event with this id of another calendar, made where there is none, however many ask at once.

        Title and time (start, end and rule) become what is given here. Of the other fields, those that are
        not given stay as they are. A deleted event is restored. `InvalidReferenceError` without the user.
        """
        check("external_id", external_id, Key)
        row = {
            **details,
            "user_id": user_id,
            "external_id": external_id,
            "title": title,
            "start_datetime": start_datetime,
            "end_datetime": end_datetime,
            "recurrence_rule": recurrence_rule,
        }
        with _naming("row"):
            if event := await self._db.fetch_optional(UPSERT_EXTERNAL, tenant_id, row=row, given=list(details)):
                return event

        async def bring_back(db: Executor) -> Event:
            for deleted in await db.fetch_all(GET_DELETED_ID, tenant_id, user_id=user_id, external_id=external_id):
                await db.fetch_optional(COMMON.restore, tenant_id, id=deleted)
            return await db.fetch_one(UPSERT_EXTERNAL, tenant_id, row=row, given=list(details))

        return await self._db.atomic(tenant_id, bring_back)

    async def update(self, tenant_id: str, id: int, /, **changes: Unpack[EventChanges]) -> Event:  # noqa: A002
        """The event with the given fields changed; `None` is a value. `NotFoundError` when there is none.

        A moved start moves no end. An event that moved is reminded of anew; of a recurring one, what
        happens from now on.
        """
        if changes.keys() - COMMON.changes or not changes.keys() & _Schedule.model_fields.keys():
            return await self._update(tenant_id, id, changes)
        check("id", id, Id)
        checked = _checked(changes)

        async def reschedule(db: Executor) -> Event:
            # The end and the rule are checked against the start that stays, so it must not move meanwhile.
            current = await db.fetch_one(LOCK_SCHEDULE, tenant_id, id=id)
            whole = _with_series_end(_checked(current.model_dump() | checked))
            return await db.fetch_one(COMMON.update, tenant_id, id=id, changes=whole)

        return await self._db.atomic(tenant_id, reschedule)

    async def complete(self, tenant_id: str, event_id: int) -> Event:
        """The event, completed, with all its occurrences; `NotFoundError` when there is none."""
        check("event_id", event_id, Id)
        return await self._update(tenant_id, event_id, {"status": "completed"})

    async def cancel(self, tenant_id: str, event_id: int) -> Event:
        """The event, cancelled, with all its occurrences; `NotFoundError` when there is none."""
        check("event_id", event_id, Id)
        return await self._update(tenant_id, event_id, {"status": "cancelled"})

    async def get_by_location(self, tenant_id: str, user_id: int, location: str) -> list[Event]:
        """The user's events whose location contains this text, whatever its case, by their start."""
        return await self._db.fetch_all(GET_BY_LOCATION, tenant_id, user_id=user_id, location=location)

    async def get_by_category(self, tenant_id: str, user_id: int, category: str) -> list[Event]:
        """The user's events of exactly this category, by their start; empty when there are none."""
        return await self._db.fetch_all(GET_BY_CATEGORY, tenant_id, user_id=user_id, category=category)

    async def get_upcoming(
        self, tenant_id: str, user_id: int, days_ahead: int = 7, *, now: datetime | None = None, limit: int = 100
    ) -> list[EventOccurrence]:
        """What is scheduled to start from `now` on within so many days (1 to 3660), by the start; the first `limit`."""
        check("days_ahead", days_ahead, _Days)
        after = _now(now)
        before = plus(after, timedelta(days=days_ahead))
        with _bounded("days_ahead"):
            return await self._in_window(tenant_id, user_id, after, before, limit=limit, running=False)

    async def get_by_date_range(
        self, tenant_id: str, user_id: int, start: datetime, end: datetime, *, limit: int = 1000
    ) -> list[EventOccurrence]:
        """What happens, of whatever status, from `start` on and before `end`, by the start; the first `limit`.

        What began before and is still under way belongs to it; an event without an end, where it starts.
        """
        after, before = _window(start, end)
        with _bounded("end"):
            return await self._in_window(tenant_id, user_id, after, before, limit=limit, scheduled_only=False)

    async def find_conflicts(
        self, tenant_id: str, user_id: int, start: datetime, end: datetime, *, exclude_event_id: int | None = None
    ) -> list[EventOccurrence]:
        """What is scheduled at any moment from `start` on and before `end`, by the start; the first 1000.

        What ends at `start` or starts at `end` is no conflict. An instant (an event without an end, or
        `start` equal to `end`) conflicts with what is under way then or starts then.
        """
        after, before = _window(start, end)
        with _bounded("end"):
            return await self._in_window(
                tenant_id, user_id, after, before, limit=1000, exclude_event_id=exclude_event_id
            )

    async def claim_due_reminders(
        self, tenant_id: str, *, now: datetime | None = None, limit: int = 100
    ) -> list[EventOccurrence]:
        """The scheduled occurrences whose reminder is due, by their start, each to one of all workers, once.

        After an absence of the workers each event is handed out once, as its latest occurrence that is
        due, and not once for every occurrence that was missed; it may have started or ended by then. So may
        what is created, restored or scheduled again after its reminder's moment.

        The claim is committed before this returns, so a worker that dies then loses its reminders. Called in
        a transaction it is committed, or undone, with it.
        """
        check("limit", limit, Limit)
        moment = _now(now)
        claimed = await self._db.atomic(tenant_id, lambda db: _claim_due(db, tenant_id, moment, limit))
        return sorted(claimed, key=lambda occurrence: (occurrence.start_datetime, occurrence.id))

    async def _in_window(
        self,
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
        check("limit", limit, Limit)
        candidates = await self._db.fetch_all(
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
        if sum(event.recurrence_rule is not None for event in candidates) > _SERIES:
            raise TooMuchWork
        return list(islice(occurrences(candidates, after, before, Work(_READING), running=running), limit))


@contextmanager
def _bounded(argument: str) -> Iterator[None]:
    try:
        yield
    except TooMuchWork:
        reason = "the recurring events take too long to work out: ask for a shorter time"
        raise InvalidArgumentError(argument, reason) from None


def _now(now: datetime | None) -> datetime:
    moment: datetime | None = check("now", now, Moment | None)
    return moment or datetime.now(UTC)


def _window(start: datetime, end: datetime) -> tuple[datetime, datetime]:
    after: datetime = check("start", start, Moment)
    before: datetime = check("end", end, Moment)
    if before < after:
        raise InvalidArgumentError("end", "must not be before start")
    return after, max(before, plus(after, INSTANT))


def _checked(changes: Mapping[str, object]) -> dict[str, Any]:
    with _naming("changes"):
        checked: dict[str, Any] = check("changes", dict(changes), EventChanges)
        return checked


@contextmanager
def _naming(prefix: str) -> Iterator[None]:
    """Name the caller's argument, not the parameter that it is sent in."""
    try:
        yield
    except InvalidArgumentError as error:
        raise InvalidArgumentError(error.argument.removeprefix(f"{prefix}."), error.reason) from error.__cause__


async def _claim_due(db: Executor, tenant_id: str, moment: datetime, limit: int) -> list[EventOccurrence]:
    claimed: list[EventOccurrence] = []
    spent = 0
    # An event that was looked at too early makes room for another one.
    while len(claimed) < limit and spent < _CLAIMING:
        due = await db.fetch_all(LOCK_DUE, tenant_id, now=moment, limit=limit - len(claimed))
        moves: list[Move] = []
        for event in due:
            if spent >= _CLAIMING:
                break
            work = Work()
            occurrence, move = claim(event, moment, work)
            claimed += [occurrence] if occurrence else []
            moves.append(move)
            spent += work.done
        if not due:
            break
        await db.execute(MOVE_ON, tenant_id, rows=moves)
    return claimed
