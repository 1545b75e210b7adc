from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from telegram_bot.dialogue import respond
from telegram_bot.turns import (
    AddNote,
    AddReminder,
    Answer,
    Effect,
    ListEvents,
    ListNotes,
    Said,
    SearchNotes,
    SetTimezone,
)

NOW = datetime(2026, 11, 23, 18, 0, tzinfo=ZoneInfo("Europe/Madrid"))
TEN = datetime.fromisoformat("2026-11-24T09:00Z")


def say(text: str, state: str = "idle", **context: object) -> Answer:
    return respond(Said(text, state, context, NOW))


class Conversation:
    """A conversation as the store would keep it."""

    def __init__(self) -> None:
        self.state = "idle"
        self.context: dict[str, Any] = {}

    def say(self, text: str) -> Answer:
        answer = respond(Said(text, self.state, self.context, NOW))
        self.state = answer.state
        merged = {**self.context, **answer.context}
        self.context = {key: value for key, value in merged.items() if value is not None}
        return answer


@pytest.mark.parametrize(
    ("text", "intent", "effect"),
    [
        ("apunta leche y pan", "create_note", AddNote("leche y pan")),
        ("/apunta leche\ny pan", "create_note", AddNote("leche\ny pan")),
        ("notas", "list_notes", ListNotes()),
        ("¿Mis notas?", "list_notes", ListNotes()),
        ("Busca: Leche", "search_notes", SearchNotes("Leche")),
        ("/busca@thea_bot leche -pan", "search_notes", SearchNotes("leche -pan")),
        ("recuérdame mañana a las 10 llamar", "create_reminder", AddReminder("llamar", TEN)),
        ("Recuerdame que llame mañana a las 10", "create_reminder", AddReminder("llame", TEN)),
        ("agenda", "list_events", ListEvents()),
        ("zona madrid", "set_timezone", SetTimezone("Europe/Madrid")),
        ("zona Buenos Aires", "set_timezone", SetTimezone("America/Argentina/Buenos_Aires")),
        ("/zona america/bogota", "set_timezone", SetTimezone("America/Bogota")),
        ("zona Bogotá", "set_timezone", SetTimezone("America/Bogota")),
        ("zona UTC", "set_timezone", SetTimezone("UTC")),
        ("zona", "set_timezone", None),
        ("zona ../../etc/passwd", "set_timezone", None),
        ("¡Hola!", "help", None),
        ("/start", "help", None),
    ],
)
def test_what_is_said_has_an_intent_and_an_effect(text: str, intent: str, effect: Effect | None) -> None:
    answer = say(text)

    assert (answer.intent, answer.effect, answer.state) == (intent, effect, "idle")
    assert answer.confidence == (1.0 if text.startswith("/") else 0.9)


@pytest.mark.parametrize("text", ["qué tiempo hace", "notas de ayer", "notable", "/notable", "buscar"])
def test_what_is_not_understood_has_no_intent_and_does_nothing(text: str) -> None:
    answer = say(text)

    assert (answer.intent, answer.effect, answer.confidence) == (None, None, 0.0)
    assert "/ayuda" in answer.reply


def test_a_note_takes_two_turns() -> None:
    conversation = Conversation()

    asked = conversation.say("nota Compra")
    assert (asked.reply, asked.effect) == ("«Compra»: ¿qué apunto?", None)
    assert (conversation.state, conversation.context) == ("note_text", {"title": "Compra"})

    kept = conversation.say("Busca leche en la tienda")
    assert (kept.reply, kept.effect) == ("Apuntado en «Compra».", AddNote("Busca leche en la tienda", "Compra"))
    assert (conversation.state, conversation.context) == ("idle", {})


def test_a_title_goes_no_further_than_its_note() -> None:
    conversation = Conversation()
    for text in ("nota Compra", "cancela", "nota"):
        conversation.say(text)

    assert conversation.say("leche").effect == AddNote("leche", None)


@pytest.mark.parametrize("text", ["cancela", "Olvídalo.", "/cancela"])
@pytest.mark.parametrize("state", ["note_text", "reminder_time"])
def test_a_question_can_be_left(state: str, text: str) -> None:
    answer = say(text, state, title="Compra")

    assert (answer.reply, answer.state, answer.effect) == ("Lo dejamos.", "idle", None)


def test_a_command_interrupts_a_question() -> None:
    answer = say("/notas", "note_text", title="Compra")

    assert (answer.effect, answer.state, answer.context) == (ListNotes(), "idle", {"title": None})


def test_a_reminder_without_a_time_asks_until_it_has_one() -> None:
    conversation = Conversation()

    assert conversation.say("recuérdame llamar a Luis").reply == "«llamar a Luis»: ¿cuándo?"
    assert conversation.say("pronto").reply.startswith("No entiendo cuándo.")
    assert conversation.say("hoy a las 8").reply == "Eso ya ha pasado. ¿Cuándo, entonces?"
    assert conversation.say("mañana a las 10").effect == AddReminder("llamar a Luis", TEN)
    assert (conversation.state, conversation.context) == ("idle", {})


def test_a_picture_leaves_everything_where_it_was() -> None:
    conversation = Conversation()
    conversation.say("nota Compra")
    answer = conversation.say("")

    assert (answer.reply, answer.intent) == ("Solo entiendo texto.", None)
    assert (conversation.state, conversation.context) == ("note_text", {"title": "Compra"})


@pytest.mark.parametrize("text", [f"nota {'a' * 201}", f"recuérdame {'a' * 201}", f"recuérdame en 2 horas {'a' * 201}"])
def test_a_title_that_is_too_long_is_refused_and_not_cut(text: str) -> None:
    answer = say(text)

    assert (answer.effect, answer.state) == (None, "idle")
    assert "muy largo" in answer.reply


def test_a_state_of_another_version_is_idle() -> None:
    assert say("notas", "asking_for_a_colour").effect == ListNotes()
