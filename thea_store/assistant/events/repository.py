"""A user's calendar: single and recurring events, conflicts between them, and reminders."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar, get_type_hints

from pydantic import Field
from typing_extensions import Unpack

from thea_store.assistant.events.preparing import is_floating, naming, with_location_key, worked_out
from thea_store.assistant.events.records import (
    Candidate,
    Event,
    EventChanges,
    EventDetails,
    EventFilters,
    EventOccurrence,
    EventStatus,
    NewEvent,
    Schedule,
    StoredChanges,
    StoredEvent,
    UserZone,
)
from thea_store.assistant.events.reminders import claim_due
from thea_store.assistant.events.schedule import A_SEARCH, INSTANT, plus, recurrence_set
from thea_store.assistant.events.sql import SQL
from thea_store.assistant.events.windows import bounded, in_window, window
from thea_store.assistant.recurrence.budget import within
from thea_store.database import Executor
from thea_store.errors import InvalidArgumentError, NotFoundError
from thea_store.queries.arguments import Id, Key, Limit, Moment, check, check_tenant, folded
from thea_store.queries.pacing import Pace
from thea_store.repositories.base import Page, Repository, common, listed

__all__ = ["Event", "EventChanges", "EventDetails", "EventFilters", "EventOccurrence", "EventStatus", "Events"]

T = TypeVar("T")

_Days = Annotated[int, Field(ge=1, le=3660)]

COMMON = replace(
    common(SQL, Event, rows=StoredEvent, changes=StoredChanges, filters=EventFilters),
    changes=frozenset(get_type_hints(EventChanges)),
)

GET_BY_LOCATION = SQL.query("get_by_location", Event, user_id=Id, location_key=Key)
GET_BY_CATEGORY = SQL.query("get_by_category", Event, user_id=Id, category=Key)
UPSERT_EXTERNAL = SQL.query("upsert_external", Event, user_id=Id, external_id=Key, row=StoredEvent, given=list[str])
GET_DELETED_ID = SQL.query("get_deleted_id", int, user_id=Id, external_id=Key)
LOCK_ZONES = SQL.query("lock_zones", UserZone, user_ids=list[Id])
LOCK_SCHEDULE = SQL.query("lock_schedule", Schedule, id=Id)
LOCK_CANDIDATE = SQL.query("lock_candidate", Candidate, id=Id)
SKIP = SQL.query("skip", Event, id=Id, occurrence_start=Moment)
# How many occurrences of one event may be skipped.
_SKIPPED = 1000

_TIME = {"start_datetime", "end_datetime", "recurrence_rule", "all_day"}


class Events(Repository[Event]):
    """The events of a tenant.

    Recurring events are worked out in their user's timezone, so that 10:00 stays 10:00 across a clock change; ends
    follow the wall clock too. A series keeps the timezone that its user had when its start was written. So when
    they move to another one, it goes on at the same instants, as single events do. Events of whole days keep
    their dates instead. A window in which all this takes too much work is refused with an `InvalidArgumentError`.
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
        all_day: bool = False,
        external_id: str | None = None,
        extra_data: dict[str, Any] | None = None,
    ) -> Event:
        """The new event; `InvalidReferenceError` without the user, `DuplicateError` when they have the external id.

        `recurrence_rule` is RFC 5545: a rule with FREQ=DAILY to YEARLY, COUNT and INTERVAL up to 1000, or lines
        RRULE, EXDATE and RDATE with up to 1000 dates; a rule that never fires is refused. A DTSTART line must say
        the same as `start_datetime`. The event has the rule in its one spelling.

        An event that is `all_day` begins and ends at midnights of its user's timezone; without an end it lasts one
        day.
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
            "all_day": all_day,
            "external_id": external_id,
            "extra_data": extra_data,
        }
        with naming("rows[0]"):
            (event,) = await self.create_many(tenant_id, [row])
        return event

    async def create_many(self, tenant_id: str, rows: Iterable[Mapping[str, Any]]) -> list[Event]:
        """All rows or none, as one statement; the events come back in the order of `rows`.

        Each row is a mapping with the names of `create`'s arguments. `InvalidReferenceError` when a user does not
        exist, `DuplicateError` when an external id does; either way nothing is written. Rules that take more
        than about a second to work out, all together, are refused with an `InvalidArgumentError`.
        """
        check_tenant(tenant_id)
        pace, checked = Pace(), list[Mapping[str, Any]]()
        for place, row in enumerate(listed(rows)):
            checked.append(check(f"rows[{place}]", dict(row) if isinstance(row, Mapping) else row, NewEvent))
            await pace.keep()

        async def write(db: Executor, ready: Sequence[Mapping[str, Any]]) -> list[Event]:
            return await db.fetch_all(COMMON.create_many, tenant_id, rows=ready)

        return await self._write(tenant_id, checked, write)

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
        all_day: bool = False,
        **details: Unpack[EventDetails],
    ) -> Event:
        """The user's event with this id of another calendar, made where there is none, however many ask at once.

        Title and time (start, end, rule and `all_day`) become what is given here. Of the other fields, those that
        are not given stay as they are. Occurrences that `skip` called off stay called off, unless the start is
        another. A deleted event is restored. `InvalidReferenceError` without the user.
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
            "all_day": all_day,
        }
        check_tenant(tenant_id)
        with naming("row"):
            checked = check("row", row, NewEvent)

        async def write(db: Executor, ready: Sequence[Mapping[str, Any]]) -> Event:
            key: dict[str, Any] = {"user_id": user_id, "external_id": external_id}
            values = {**key, "row": ready[0], "given": list(details)}
            if event := await db.fetch_optional(UPSERT_EXTERNAL, tenant_id, **values):
                return event

            async def bring_back(db: Executor) -> Event:
                for deleted in await db.fetch_all(GET_DELETED_ID, tenant_id, **key):
                    await db.fetch_optional(COMMON.restore, tenant_id, id=deleted)
                return await db.fetch_one(UPSERT_EXTERNAL, tenant_id, **values)

            return await db.atomic(tenant_id, bring_back)

        with naming("rows[0]"):
            return await self._write(tenant_id, [checked], write)

    async def update(self, tenant_id: str, id: int, /, **changes: Unpack[EventChanges]) -> Event:  # noqa: A002
        """The event with the given fields changed; `None` is a value. `NotFoundError` when there is none.

        A moved start moves no end. An event that moved is reminded of anew; of a recurring one, what
        happens from now on.
        """
        if changes.keys() - COMMON.changes:
            return await self._update(tenant_id, id, changes)
        check_tenant(tenant_id)
        check("id", id, Id)
        with naming("changes"):
            checked = with_location_key(check("changes", dict(changes), EventChanges))
        if not checked.keys() & _TIME:
            return await self._db.fetch_one(COMMON.update, tenant_id, id=id, changes=checked)
        if "start_datetime" in checked:
            with naming("rows[0]"):
                await worked_out([checked], {}, "recurrence_rule")

        async def reschedule(db: Executor) -> Event:
            # The end and the rule are checked against the start that stays, so it must not move meanwhile.
            current = await db.fetch_one(LOCK_SCHEDULE, tenant_id, id=id)
            with naming("changes"):
                time = check("changes", current.model_dump(include=_TIME) | _only(checked, _TIME), EventChanges)
            moves = "start_datetime" in checked or time["all_day"]
            zone = current.user_timezone if moves else current.timezone
            with naming("rows[0]"):
                (ready,) = await worked_out([time | {"user_id": id}], {id: zone}, "recurrence_rule")
            del ready["user_id"]
            return await db.fetch_one(COMMON.update, tenant_id, id=id, changes=checked | ready | {"timezone": zone})

        return await self._db.atomic(tenant_id, reschedule)

    async def skip(self, tenant_id: str, event_id: int, occurrence_start: datetime) -> Event:
        """The event, whose occurrence that starts then does not take place.

        `NotFoundError` when there is no such event, or when it has no occurrence that starts then. To move one
        occurrence, skip it and create a single event.
        """
        check_tenant(tenant_id)
        check("event_id", event_id, Id)
        start: datetime = check("occurrence_start", occurrence_start, Moment)

        async def call_off(db: Executor) -> Event:
            event = await db.fetch_one(LOCK_CANDIDATE, tenant_id, id=event_id)
            if len(event.skipped) >= _SKIPPED:
                reason = f"the event has {_SKIPPED} skipped occurrences: end its series, and begin a new one"
                raise InvalidArgumentError("occurrence_start", reason)
            with bounded("occurrence_start"):
                found = await within(
                    A_SEARCH, lambda work: recurrence_set(event, work).last(start, start + INSTANT, work)
                )
            if found is None:
                raise NotFoundError("events: this event has no occurrence that starts then")
            return await db.fetch_one(SKIP, tenant_id, id=event_id, occurrence_start=start)

        return await self._db.atomic(tenant_id, call_off)

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
        check("location", location, Key)
        return await self._db.fetch_all(GET_BY_LOCATION, tenant_id, user_id=user_id, location_key=folded(location))

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
        with bounded("days_ahead"):
            return await in_window(self._db, tenant_id, user_id, after, before, limit=limit, running=False)

    async def get_by_date_range(
        self, tenant_id: str, user_id: int, start: datetime, end: datetime, *, limit: int = 1000
    ) -> list[EventOccurrence]:
        """What happens, of whatever status, from `start` on and before `end`, by the start; the first `limit`.

        What began before and is still under way belongs to it; an event without an end, where it starts.
        """
        after, before = window(start, end)
        with bounded("end"):
            return await in_window(self._db, tenant_id, user_id, after, before, limit=limit, scheduled_only=False)

    async def find_conflicts(
        self, tenant_id: str, user_id: int, start: datetime, end: datetime, *, exclude_event_id: int | None = None
    ) -> list[EventOccurrence]:
        """What is scheduled at any moment from `start` on and before `end`, by the start; the first 1000.

        What ends at `start` or starts at `end` is no conflict. An instant (an event without an end, or
        `start` equal to `end`) conflicts with what is under way then or starts then.
        """
        after, before = window(start, end)
        with bounded("end"):
            return await in_window(
                self._db, tenant_id, user_id, after, before, limit=1000, exclude_event_id=exclude_event_id
            )

    async def claim_due_reminders(
        self, tenant_id: str, *, now: datetime | None = None, limit: int = 100
    ) -> list[EventOccurrence]:
        """The scheduled occurrences whose reminder is due, by their start, each to one of all workers, once.

        After an absence of the workers each event is handed out once, as its latest occurrence that is
        due, and not once for every occurrence that was missed; it may have started or ended by then. So may
        what is created, restored or scheduled again after its reminder's moment.
        An occurrence that was handed out is handed out again when its `reminder_minutes` were made fewer, until an
        hour after its start.

        The claim is committed before this returns, so a worker that dies then loses its reminders. Called in
        a transaction it is committed, or undone, with it.
        """
        check("limit", limit, Limit)
        moment = _now(now)
        claimed = await self._db.atomic(tenant_id, lambda db: claim_due(db, tenant_id, moment, limit))
        return sorted(claimed, key=lambda occurrence: (occurrence.start_datetime, occurrence.id))

    async def _write(
        self,
        tenant_id: str,
        rows: Sequence[Mapping[str, Any]],
        write: Callable[[Executor, Sequence[Mapping[str, Any]]], Awaitable[T]],
    ) -> T:
        """What `write` returns of the rows as they are stored."""
        ready = await worked_out(rows, {}, "rows")
        floating = [row["user_id"] for row in rows if is_floating(row)]
        if not floating:
            return await write(self._db, ready)

        async def write_in_zones(db: Executor) -> T:
            users = await db.fetch_all(LOCK_ZONES, tenant_id, user_ids=floating)
            return await write(db, await worked_out(rows, {user.id: user.timezone for user in users}, "rows"))

        return await self._db.atomic(tenant_id, write_in_zones)


def _only(row: Mapping[str, Any], names: set[str]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name in names}


def _now(now: datetime | None) -> datetime:
    moment: datetime | None = check("now", now, Moment | None)
    # Plain, also where a test froze the clock.
    present: datetime = check("now", datetime.now(UTC), Moment)
    return moment or present
