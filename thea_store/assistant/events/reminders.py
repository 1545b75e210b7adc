"""Reminders: which occurrence of an event is due, and what is remembered so that each is claimed once."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from thea_store.assistant.events.records import Due, EventOccurrence, Move
from thea_store.assistant.events.schedule import A_SEARCH, INSTANT, minus, occurrence_at, plus, recurrence_set
from thea_store.assistant.events.sql import SQL
from thea_store.assistant.recurrence.budget import TooMuchWork, WorkBudget, within
from thea_store.database import Executor
from thea_store.queries.arguments import Moment

__all__ = ["claim", "claim_due"]

LOCK_DUE = SQL.query("lock_due", Due, now=Moment, limit=int)
MOVE_ON = SQL.query("move_on", None, rows=list[Move])

# Units of work (thea_store.assistant.recurrence.budget) that a call may do: some half a second of them.
_CLAIMING = 10_000_000

# How many claimed occurrences that are still to come are remembered one by one.
_REMEMBERED = 1000

# How long after the start of an occurrence a second reminder of it, by a shorter notice, is still of use.
_SECOND_REMINDER = timedelta(hours=1)

# What is claimed, where that leaves the events, and the work that it took.
_Claims = tuple[list[EventOccurrence], list[Move], int]


async def claim_due(db: Executor, tenant_id: str, moment: datetime, limit: int) -> list[EventOccurrence]:
    """Up to `limit` occurrences that are due then and that nobody claimed before; they are claimed from now on."""
    claimed: list[EventOccurrence] = []
    spent = 0
    # An event that was looked at too early makes room for another one.
    while len(claimed) < limit and spent < _CLAIMING:
        due = await db.fetch_all(LOCK_DUE, tenant_id, now=moment, limit=limit - len(claimed))
        if not due:
            break

        def claim_these(work: WorkBudget, due: Sequence[Due] = due, allowed: int = _CLAIMING - spent) -> _Claims:
            return _claims(due, moment, work, allowed)

        found, moves, done = await within(_CLAIMING + A_SEARCH, claim_these)
        claimed += found
        spent += done
        await db.execute(MOVE_ON, tenant_id, rows=moves)
    return claimed


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
        return start in claimed and (claimed[start] >= minus(start, notice) or plus(start, _SECOND_REMINDER) < now)

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
    move["next_reminder_at"] = following and minus(following, notice)
    return occurrence_at(event, latest, happens.end_of(latest)) if latest else None, move


def _claims(due: Sequence[Due], moment: datetime, work: WorkBudget, allowed: int) -> _Claims:
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
