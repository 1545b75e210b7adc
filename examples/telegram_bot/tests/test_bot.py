from datetime import datetime

import pytest
from conftest import Clock, settings_of
from fake_telegram import FakeBot, FakeTelegram, Person
from telegram.error import InvalidToken
from thea_store import OutcomeUnknownError, QueryTimeoutError, Store, StoreError

from telegram_bot import assistant
from telegram_bot.assistant import session_of
from telegram_bot.bot import running

pytestmark = pytest.mark.usefixtures("bot")


async def test_first_contact_makes_the_user(ana: Person, thea_store: Store, thea_tenant: str) -> None:
    welcome = await ana.says("/start")
    user = await thea_store.users.get_by_telegram_id(thea_tenant, ana.telegram_id)

    assert "recuérdame mañana a las 10" in welcome
    assert user is not None
    assert (user.first_name, user.language_code) == ("Ana", "es")
    assert user.last_activity is not None


async def test_notes_are_made_in_two_turns_listed_and_found(ana: Person) -> None:
    assert await ana.says("nota Compra") == "«Compra»: ¿qué apunto?"
    assert await ana.says("Leche, pan y melón") == "Apuntado en «Compra»."
    assert await ana.says("apunta llamar a Luis") == "Apuntado."
    assert await ana.says("notas") == "Tus notas:\n• llamar a Luis\n• Compra: Leche, pan y melón"
    assert await ana.says("busca melones") == "Encontrado:\n• Compra: Leche, pan y «melón»"
    assert await ana.says("busca gato") == "No encuentro nada de «gato»."


async def test_every_exchange_is_in_the_history(ana: Person, thea_store: Store, thea_tenant: str) -> None:
    for text in ("nota Compra", "Leche", "qué tiempo hace"):
        await ana.says(text)
    history = await thea_store.messages.get_context_window(thea_tenant, session_of(1001, ana.telegram_id))

    assert [(m.user_message, m.bot_response, m.intent_detected, m.confidence_score) for m in history] == [
        ("nota Compra", "«Compra»: ¿qué apunto?", "create_note", 0.9),
        ("Leche", "Apuntado en «Compra».", "create_note", 0.8),
        ("qué tiempo hace", "No te he entendido. Con /ayuda te cuento lo que sé hacer.", None, 0.0),
    ]
    assert history[0].entities_extracted == {"title": "Compra"}
    assert all(m.processing_time_ms is not None and m.message_id for m in history)


async def test_what_was_done_is_in_the_audit_log_by_whom(ana: Person, thea_store: Store, thea_tenant: str) -> None:
    await ana.says("apunta leche")
    page = await thea_store.audit.get_all(thea_tenant, table="notes")

    assert [(entry.action, entry.actor) for entry in page.items] == [("insert", f"user:{ana.telegram_id}")]
    assert (page.items[0].request_id or "").startswith("update:")


async def test_a_reminder_comes_at_its_time_in_the_users_timezone(
    ana: Person, clock: Clock, thea_store: Store, thea_tenant: str
) -> None:
    assert await ana.says("zona Bogota") == "Tu zona horaria es America/Bogota: son las 12:00."
    reply = await ana.says("recuérdame mañana a las 10 llamar al dentista")
    [event] = (await thea_store.events.get_all(thea_tenant)).items

    assert reply == "Te lo recuerdo mañana a las 10:00 (America/Bogota)."
    assert event.start_datetime == datetime.fromisoformat("2026-11-24T15:00Z")
    assert await ana.says("agenda") == "Lo que viene en siete días:\n• mañana a las 10:00: llamar al dentista"

    clock.forward(hours=22)
    assert await ana.hears() == "⏰ llamar al dentista (hoy a las 10:00)"

    clock.forward(hours=1)
    assert await ana.says("agenda") == "No tienes nada en siete días."
    assert sum(text.startswith("⏰") for text in ana.received) == 1
    history = await thea_store.messages.get_by_intent(thea_tenant, "reminder")
    assert [(m.user_message, m.bot_response) for m in history] == [("", "⏰ llamar al dentista (hoy a las 10:00)")]


async def test_a_reminder_that_telegram_does_not_take_is_sent_later(
    ana: Person, clock: Clock, fake_bot: FakeBot
) -> None:
    await ana.says("recuérdame en 20 minutos el horno")
    fake_bot.fail_next("sendMessage", 500, "Internal Server Error")
    fake_bot.fail_next("sendMessage", 429, "Too Many Requests: retry after 1", retry_after=1)
    clock.forward(minutes=20)

    assert await ana.hears() == "⏰ el horno (hoy a las 17:20)"
    assert not fake_bot.failures


async def test_a_reminder_of_somebody_who_blocked_the_bot_holds_up_nobody(
    ana: Person, clock: Clock, fake_bot: FakeBot
) -> None:
    luis = fake_bot.person(42, "Luis")
    await ana.says("recuérdame en 20 minutos el horno")
    await luis.says("recuérdame en 21 minutos el gato")
    fake_bot.fail_next("sendMessage", 403, "Forbidden: bot was blocked by the user")
    clock.forward(minutes=30)

    assert await luis.hears() == "⏰ el gato (hoy a las 17:21)"
    assert not [text for text in ana.received if text.startswith("⏰")]


async def test_two_people_have_conversations_and_notes_of_their_own(ana: Person, fake_bot: FakeBot) -> None:
    luis = fake_bot.person(42, "Luis")
    await ana.says("nota Compra")
    await luis.says("nota Viaje")

    assert await ana.says("leche") == "Apuntado en «Compra»."
    assert await luis.says("Lisboa") == "Apuntado en «Viaje»."
    assert await ana.says("notas") == "Tus notas:\n• Compra: leche"
    assert await luis.says("busca leche") == "No encuentro nada de «leche»."


async def test_the_bot_of_another_tenant_on_the_same_database_sees_nothing(
    ana: Person, telegram: FakeTelegram, thea_store: Store, clock: Clock
) -> None:
    await ana.says("apunta leche")
    await ana.says("recuérdame en 20 minutos el horno")
    await ana.says("nota Compra")
    async with running(settings_of(telegram, "neighbour", "2002:BBB"), thea_store, clock):
        ana_there = telegram.bot("2002:BBB").person(ana.telegram_id, "Ana")

        assert await ana_there.says("notas") == "No tienes notas."
        assert await ana_there.says("busca leche") == "No encuentro nada de «leche»."
        assert await ana_there.says("agenda") == "No tienes nada en siete días."
        clock.forward(minutes=30)
        assert await ana.hears() == "⏰ el horno (hoy a las 17:20)"
        assert len(ana_there.received) == 3


async def test_what_is_no_new_message_in_a_private_chat_is_left_alone(ana: Person, fake_bot: FakeBot) -> None:
    group = {"id": -100, "type": "group", "title": "Family"}
    await fake_bot.deliver(ana.chat, ana.account, "edited_message", text="apunta leche")
    await fake_bot.deliver(group, ana.account, text="apunta leche")
    await fake_bot.deliver(ana.chat, ana.account, write_access_allowed={})

    assert await ana.says("notas") == "No tienes notas."
    assert len(ana.received) == 1


async def test_a_sticker_is_answered_and_kept_as_an_exchange(
    ana: Person, fake_bot: FakeBot, thea_store: Store, thea_tenant: str
) -> None:
    await fake_bot.deliver(ana.chat, ana.account, dice={"emoji": "🎲", "value": 6})

    assert await ana.hears() == "Solo entiendo texto."
    assert await thea_store.messages.count(thea_tenant) == 1


async def test_ten_of_the_longest_notes_fit_into_one_message(ana: Person) -> None:
    for _ in range(10):
        await ana.write("apunta " + "🥛" * 4000)
    for _ in range(10):
        await ana.hears()
    listed = await ana.says("notas")

    assert listed.count("•") == 10
    assert len(listed.encode("utf-16-le")) // 2 <= 4096


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (QueryTimeoutError, "Ahora no puedo, y no he apuntado nada. Inténtalo dentro de un momento."),
        (OutcomeUnknownError, "No sé si lo he apuntado. Míralo antes de repetirlo: /notas, /agenda"),
    ],
)
async def test_a_failure_is_told_as_what_it_is_and_the_conversation_goes_on(
    ana: Person, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: type[StoreError], told: str
) -> None:
    async def fail(*_: object) -> str:
        raise error("notes.create: it failed")

    await ana.says("nota Compra")
    with monkeypatch.context() as patched:
        patched.setattr(assistant, "perform", fail)
        assert await ana.says("leche en secreto") == told

    assert await ana.says("leche") == "Apuntado en «Compra»."
    assert await ana.says("notas") == "Tus notas:\n• Compra: leche"
    assert error.__name__ in caplog.text
    assert "secreto" not in caplog.text


async def test_a_wrong_token_is_an_error_at_once(telegram: FakeTelegram, thea_store: Store, thea_tenant: str) -> None:
    settings = settings_of(telegram, thea_tenant).model_copy(update={"api_url": telegram.api_url + "x"})

    with pytest.raises(InvalidToken):
        async with running(settings, thea_store):
            pass
