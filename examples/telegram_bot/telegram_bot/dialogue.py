"""The state machine: from what was said, and where the conversation was, to an answer. It touches nothing.

A conversation is `idle`, or waits for one thing, with what it knows so far in its context. A waiting one takes
any text for its answer, except a command (`/…`) and `cancela`. A state that this version does not know is idle.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace

from telegram_bot.spelling import plain
from telegram_bot.topics import (
    begin_note,
    begin_reminder,
    cancel,
    finish_note,
    finish_reminder,
    list_events,
    list_notes,
    note_at_once,
    search_notes,
    set_timezone,
    tell_help,
)
from telegram_bot.turns import Answer, Said

__all__ = ["respond"]


def respond(said: Said) -> Answer:
    """The answer to what was said."""
    text = said.text.strip()
    if not text:
        return Answer("Solo entiendo texto.", state=said.state, context={})
    folded, is_waiting = plain(text), said.state in _WAITING
    for command in _COMMANDS:
        if found := command.match(folded, is_waiting=is_waiting):
            rest = text[slice(*found.span("rest"))].strip() if found["rest"] else ""
            confidence = 1.0 if text.startswith("/") else 0.9
            return replace(command.run(said, rest), intent=command.intent, confidence=confidence)
    if is_waiting:
        intent, finish = _WAITING[said.state]
        return replace(finish(said, text), intent=intent, confidence=0.8)
    return Answer("No te he entendido. Con /ayuda te cuento lo que sé hacer.")


# --- what is understood -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Command:
    intent: str
    slash: re.Pattern[str]
    phrase: re.Pattern[str]
    run: Callable[[Said, str], Answer]
    interrupts: bool = False
    """Whether the phrase, too, is heard while the conversation waits for something."""

    def match(self, folded: str, *, is_waiting: bool) -> re.Match[str] | None:
        found = self.slash.fullmatch(folded)
        return found if found or (is_waiting and not self.interrupts) else self.phrase.fullmatch(folded)


def _command(
    intent: str,
    name: str,
    phrase: str,
    run: Callable[[Said, str], Answer],
    *,
    bare: bool = False,
    interrupts: bool = False,
) -> _Command:
    """A command by its name and by a phrase; a `bare` phrase has nothing after it."""
    rest = "(?P<rest>)" if bare else r"(?:[\s:,]+(?P<rest>.+))?"
    return _Command(
        intent,
        re.compile(rf"/(?:{name})(?:@\w+)?(?:\s+(?P<rest>.+))?", re.DOTALL),
        re.compile(rf"[¡¿]?(?:{phrase})[!?.]*{rest}", re.DOTALL),
        run,
        interrupts,
    )


_COMMANDS = (
    _command("help", "start|help|ayuda", "hola|ayuda", tell_help, bare=True),
    _command("cancel", "cancela", "cancela|olvidalo", cancel, bare=True, interrupts=True),
    _command("create_note", "nota", "nota", begin_note),
    _command("create_note", "apunta", "apunta", note_at_once),
    _command("list_notes", "notas", "(?:mis )?notas", list_notes, bare=True),
    _command("search_notes", "busca", "busca", search_notes),
    _command("create_reminder", "recuerda", "recuerdame", begin_reminder),
    _command("list_events", "agenda", "agenda", list_events, bare=True),
    _command("set_timezone", "zona", "zona", set_timezone),
)

_WAITING: dict[str, tuple[str, Callable[[Said, str], Answer]]] = {
    "note_text": ("create_note", finish_note),
    "reminder_time": ("create_reminder", finish_reminder),
}
