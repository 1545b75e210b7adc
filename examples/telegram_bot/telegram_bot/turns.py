"""What goes into the state machine and what comes out of it: plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

__all__ = [
    "AddNote",
    "AddReminder",
    "Answer",
    "Effect",
    "ListEvents",
    "ListNotes",
    "Said",
    "SearchNotes",
    "SetTimezone",
]


@dataclass(frozen=True, slots=True)
class Said:
    """What was said (empty for a picture and the like), where the conversation was, and the time at the user's."""

    text: str
    state: str
    context: Mapping[str, Any]
    now: datetime


@dataclass(frozen=True, slots=True)
class AddNote:
    """Keep a note."""

    content: str
    title: str | None = None


@dataclass(frozen=True, slots=True)
class ListNotes:
    """Show the newest notes."""


@dataclass(frozen=True, slots=True)
class SearchNotes:
    """Show the notes that answer a query."""

    query: str


@dataclass(frozen=True, slots=True)
class AddReminder:
    """Remind at a moment."""

    title: str
    at: datetime


@dataclass(frozen=True, slots=True)
class ListEvents:
    """Show what comes in the next days."""


@dataclass(frozen=True, slots=True)
class SetTimezone:
    """Move the user's clock."""

    name: str


Effect = AddNote | ListNotes | SearchNotes | AddReminder | ListEvents | SetTimezone


@dataclass(frozen=True, slots=True)
class Answer:
    """What to say (an effect that looks something up says it instead), and what becomes of the conversation."""

    reply: str
    effect: Effect | None = None
    state: str = "idle"
    context: Mapping[str, Any] = field(default_factory=lambda: {"title": None})
    """A patch; `None` removes its key. What is known belongs to one question, so whatever is no question forgets it."""
    entities: Mapping[str, Any] = field(default_factory=dict)
    intent: str | None = None
    confidence: float = 0.0
    """1 for a command, 0.9 for a phrase, 0.8 for the answer to a question, 0 for what was not understood."""
