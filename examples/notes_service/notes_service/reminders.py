"""Reminders: made for an event, claimed when they are due, each by one worker."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter, status
from pydantic import BaseModel
from thea_store import Event, EventOccurrence

from notes_service.dependencies import CurrentStore, Tenant

__all__ = ["router"]

router = APIRouter(tags=["reminders"])


class NewReminder(BaseModel, extra="forbid"):
    """Something that happens, once or by a rule (RFC 5545), and how early to remind of it."""

    user_id: int
    title: str
    start_datetime: datetime
    reminder_minutes: int = 0
    recurrence_rule: str | None = None


@router.post("/reminders", status_code=status.HTTP_201_CREATED)
async def create_reminder(store: CurrentStore, tenant: Tenant, new: NewReminder) -> Event:
    """Have a user reminded."""
    return await store.events.create(
        tenant,
        new.user_id,
        new.title,
        new.start_datetime,
        event_type="reminder",
        reminder_minutes=new.reminder_minutes,
        recurrence_rule=new.recurrence_rule,
    )


@router.post("/reminders/claim")
async def claim_reminders(store: CurrentStore, tenant: Tenant, limit: int = 100) -> list[EventOccurrence]:
    """What is due and was handed to nobody yet: whoever gets it has to send it, for nobody gets it again."""
    return await store.events.claim_due_reminders(tenant, limit=limit)


@router.get("/upcoming")
async def list_upcoming(
    store: CurrentStore, tenant: Tenant, user_id: int, days_ahead: int = 7
) -> list[EventOccurrence]:
    """What a user has before them, each occurrence of a rule by itself, the next one first."""
    return await store.events.get_upcoming(tenant, user_id, days_ahead)
