"""What answers do to the store, within the transaction of their message."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import assert_never

from thea_store import MARK_END, MARK_START, Note, NoteHit, StoreTransaction, User

from telegram_bot.spelling import cut
from telegram_bot.turns import (
    AddNote,
    AddReminder,
    Effect,
    ListEvents,
    ListNotes,
    SearchNotes,
    SetTimezone,
)
from telegram_bot.when import tell

__all__ = ["perform"]

# With a heading they fit into a message's 4096 UTF-16 units, were they emoji all through.
_LINES, _LENGTH = 10, 200

_MARKS = str.maketrans({MARK_START: "«", MARK_END: "»"})


async def perform(tx: StoreTransaction, user: User, effect: Effect, now: datetime) -> str:
    """What the effect found, for the user to read; empty when it was there to write."""
    tenant = user.tenant_id
    match effect:
        case AddNote(content, title):
            await tx.notes.create(tenant, user.id, content, title=title)
        case AddReminder(title, at):
            await tx.events.create(tenant, user.id, title, at, event_type="reminder", reminder_minutes=0)
        case SetTimezone(name):
            await tx.users.update(tenant, user.id, timezone=name)
        case ListNotes():
            notes = await tx.notes.get_all(tenant, user_id=user.id, limit=_LINES)
            return _list("Tus notas:", [_line(note, note.content) for note in notes.items], "No tienes notas.")
        case SearchNotes(query):
            hits = await tx.notes.search(tenant, user.id, query, limit=_LINES)
            return _list("Encontrado:", [_hit(hit) for hit in hits], f"No encuentro nada de «{cut(query, _LENGTH)}».")
        case ListEvents():
            events = await tx.events.get_upcoming(tenant, user.id, now=now, limit=_LINES)
            lines = [cut(f"{tell(event.start_datetime, now)}: {event.title}", _LENGTH) for event in events]
            return _list("Lo que viene en siete días:", lines, "No tienes nada en siete días.")
        case _:
            assert_never(effect)
    return ""


def _list(heading: str, lines: Sequence[str], nothing: str) -> str:
    return "\n".join([heading, *(f"• {line}" for line in lines)]) if lines else nothing


def _line(note: Note, text: str) -> str:
    return cut(f"{note.title}: {text}" if note.title else text, _LENGTH)


def _hit(hit: NoteHit) -> str:
    return _line(hit, hit.snippet.translate(_MARKS))
