"""What the bot can talk about: an answer for each thing that is said to it."""

from __future__ import annotations

import re
from datetime import tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from telegram_bot.spelling import plain
from telegram_bot.turns import AddNote, AddReminder, Answer, ListEvents, ListNotes, Said, SearchNotes, SetTimezone
from telegram_bot.when import Found, NoSuchMomentError, find, tell

__all__ = [
    "begin_note",
    "begin_reminder",
    "cancel",
    "finish_note",
    "finish_reminder",
    "list_events",
    "list_notes",
    "note_at_once",
    "search_notes",
    "set_timezone",
    "tell_help",
]


# --- notes --------------------------------------------------------------------------------------

_TITLE = 200


def begin_note(_said: Said, title: str) -> Answer:
    """Ask for the text of a note with this title, or with none."""
    title = " ".join(title.split())
    if len(title) > _TITLE:
        return Answer(f"Ese título es muy largo: bastan {_TITLE} letras. El texto me lo dices después.")
    if not title:
        return Answer("¿Qué apunto?", state="note_text")
    reply = f"«{title}»: ¿qué apunto?"
    return Answer(reply, state="note_text", context={"title": title}, entities={"title": title})


def finish_note(said: Said, content: str) -> Answer:
    """Keep the note that was begun."""
    title = said.context.get("title")
    return Answer(
        f"Apuntado en «{title}»." if title else "Apuntado.",
        AddNote(content, title),
        entities={"title": title} if title else {},
    )


def note_at_once(said: Said, content: str) -> Answer:
    """Keep a note without a title; without a text, ask for one."""
    return Answer("Apuntado.", AddNote(content)) if content else begin_note(said, "")


def list_notes(_said: Said, _rest: str) -> Answer:
    """Look up the newest notes."""
    return Answer("", ListNotes())


def search_notes(_said: Said, query: str) -> Answer:
    """Look up the notes that answer the query."""
    if not query:
        return Answer("¿Qué busco? Por ejemplo: busca leche")
    return Answer("", SearchNotes(query), entities={"query": query})


# --- reminders ----------------------------------------------------------------------------------


def begin_reminder(said: Said, text: str) -> Answer:
    """Remind at the moment that the text begins or ends with; without one, ask when."""
    try:
        found = find(text, said.now)
    except NoSuchMomentError as error:
        return Answer(f"{error} Dímelo otra vez.")
    title = _bare(found.rest if found else text)
    if not title:
        return Answer("¿Qué te recuerdo? Por ejemplo: recuérdame mañana a las 10 llamar al dentista")
    if len(title) > _TITLE:
        return Answer(f"Eso es muy largo para un aviso: dilo en {_TITLE} letras.")
    if found:
        return _remind(said, title, found)
    entities = {"title": title}
    return Answer(f"«{title}»: ¿cuándo?", state="reminder_time", context={"title": title}, entities=entities)


def finish_reminder(said: Said, text: str) -> Answer:
    """Remind at the moment that was asked for; where it is none, ask again."""
    title = str(said.context.get("title") or "Aviso")
    try:
        found = find(text, said.now)
    except NoSuchMomentError as error:
        return Answer(f"{error} ¿Cuándo, entonces?", state=said.state, context={})
    if found is None or found.rest:
        reply = "No entiendo cuándo. Por ejemplo: «mañana a las 10», «en 20 minutos». O «cancela»."
        return Answer(reply, state=said.state, context={})
    return _remind(said, title, found)


def _remind(said: Said, title: str, found: Found) -> Answer:
    return Answer(
        f"Te lo recuerdo {tell(found.moment, said.now)} ({said.now.tzinfo}).",
        AddReminder(title, found.moment),
        entities={"title": title, "at": found.moment.isoformat()},
    )


def _bare(title: str) -> str:
    return re.sub(r"^que\s+", "", title.strip(), flags=re.IGNORECASE)


def list_events(_said: Said, _rest: str) -> Answer:
    """Look up what comes."""
    return Answer("", ListEvents())


# --- the rest -----------------------------------------------------------------------------------

_HELP = """\
nota Compra: abro una nota con ese título, y me dices el texto
apunta leche y pan: una nota de una vez
notas: las últimas
busca leche: las que hablan de eso
recuérdame mañana a las 10 llamar al dentista
agenda: lo que viene
zona Madrid: tu zona horaria
cancela: lo dejamos"""


def tell_help(said: Said, _rest: str) -> Answer:
    """Say what is understood."""
    return Answer(f"Hola. Esto es lo que entiendo:\n{_HELP}\nAhora tu zona horaria es {said.now.tzinfo}.")


def cancel(said: Said, _rest: str) -> Answer:
    """Forget what was begun."""
    return Answer("No hay nada a medias." if said.state == "idle" else "Lo dejamos.")


def set_timezone(said: Said, place: str) -> Answer:
    """Move to the timezone of this name, or of this city; without one, say which it is."""
    name = _zones().get(plain(place).replace(" ", "_")) if place else None
    if name is None:
        known = "" if place == "" else "No conozco esa zona. "
        return Answer(f"{known}Tu zona horaria es {said.now.tzinfo}. Para cambiarla: zona Europe/Madrid")
    zone: tzinfo = ZoneInfo(name)
    reply = f"Tu zona horaria es {name}: son las {said.now.astimezone(zone):%H:%M}."
    return Answer(reply, SetTimezone(name), entities={"timezone": name})


_CONTINENTS = ("Africa", "America", "Antarctica", "Asia", "Atlantic", "Australia", "Europe", "Indian", "Pacific")


@lru_cache(maxsize=1)
def _zones() -> dict[str, str]:
    """The zones by their names in small letters, and by the city alone; a city in two zones is one under two names."""
    names = sorted(available_timezones(), reverse=True)
    cities = {name.rsplit("/", 1)[-1].lower(): name for name in names if name.startswith(_CONTINENTS)}
    return cities | {name.lower(): name for name in names}
