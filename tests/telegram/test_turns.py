from __future__ import annotations

import itertools
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

import pytest

from tests.support.exports import ANA, BEN, BOT, NOON
from thea_store.telegram import turns
from thea_store.telegram.message import ExportedMessage
from thea_store.telegram.turns import Turn, Turns

_numbers = itertools.count(1)


def message(sender: int | str | None, text: str = "…", *, number: int | None = None, **fields: Any) -> ExportedMessage:
    number = number or next(_numbers)
    usual: dict[str, Any] = {
        "chat_id": BOT,
        "chat_name": None,
        "chat_type": "bot_chat",
        "message_id": number,
        "sent_at": NOON + timedelta(minutes=number),
        "sender_id": f"user{sender}" if isinstance(sender, int) else sender,
        "sender_name": None,
        "text": text,
        "reply_to_message_id": None,
    }
    return ExportedMessage(**(usual | fields))


def folded(messages: Iterable[ExportedMessage], assistant: int | None = None) -> list[tuple[str, str | None]]:
    """What was asked and answered, in the order of the chats."""
    found = dict.fromkeys(Turns(assistant).fold(messages))
    return [(each.user_message, each.bot_response) for each in found]


def test_the_bot_answers_the_newest_message() -> None:
    assert folded([message(ANA, "hola"), message(ANA, "¿hay alguien?"), message(BOT, "sí")]) == [
        ("hola", None),
        ("¿hay alguien?", "sí"),
    ]


def test_a_reply_answers_the_message_that_it_replies_to() -> None:
    first = message(ANA, "uno")

    assert folded([first, message(ANA, "dos"), message(BOT, "a uno", reply_to_message_id=first.message_id)]) == [
        ("uno", "a uno"),
        ("dos", None),
    ]


def test_several_answers_are_joined() -> None:
    assert folded([message(ANA, "hola"), message(BOT, "buenas"), message(BOT, "¿qué tal?")]) == [
        ("hola", "buenas\n¿qué tal?")
    ]


def test_answers_before_anybody_wrote_are_a_turn_without_a_question() -> None:
    fold = list(Turns().fold([message(BOT, "hola"), message(BOT, "¿?"), message(ANA, "¡hola!"), message(BOT, "bien")]))

    assert [(each.person.telegram_id, each.user_message, each.bot_response) for each in dict.fromkeys(fold)] == [
        (ANA, "", "hola"),
        (ANA, "", "¿?"),
        (ANA, "¡hola!", "bien"),
    ]


def test_answers_in_a_chat_where_nobody_wrote_are_counted() -> None:
    chats = Turns()

    assert list(chats.fold([message(BOT), message(BOT), message(ANA, chat_id=1, chat_type="personal_chat")]))
    assert chats.skipped == {"unaddressed": 2}
    assert chats.messages == 1


def test_an_answer_grows_to_a_bound_and_goes_on_in_another_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_ROOM", 10)

    assert folded([message(ANA, "/start"), *(message(BOT, "12345") for _ in range(3)), message(ANA, "¡basta!")]) == [
        ("/start", "12345"),
        ("", "12345"),
        ("", "12345"),
        ("¡basta!", None),
    ]


def test_after_an_answer_that_did_not_fit_no_shorter_one_is_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_ROOM", 10)

    assert folded([message(ANA, "hola"), *(message(BOT, text) for text in ("12345", "123456", "1"))]) == [
        ("hola", "12345"),
        ("", "123456"),
        ("", "1"),
    ]


def test_an_answer_to_a_message_before_the_file_stands_alone() -> None:
    talk = [
        message(BOT, "a cinco", number=20, reply_to_message_id=5),
        message(ANA, "hola", number=21),
        message(BOT, "a siete", number=22, reply_to_message_id=7),
        message(BOT, "buenas", number=23),
        message(BOT, "a un aviso", number=24, reply_to_message_id=22),
    ]
    found = list(dict.fromkeys(Turns().fold(talk)))

    assert [(each.user_message, each.bot_response, each.may_be_joined) for each in found] == [
        ("", "a cinco", True),
        ("hola", "buenas", False),
        ("", "a siete", True),
        ("", "a un aviso", False),
    ]


def test_answers_alone_move_neither_start_nor_end_of_a_conversation() -> None:
    talk = [message(BOT, number=20), message(ANA, number=21), message(BOT, number=25, reply_to_message_id=7)]
    found = list(Turns().fold(talk))

    assert {each.opened_at for each in found} == {each.last_activity for each in found} == {talk[1].sent_at}


def test_answers_wait_for_somebody_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_LONGEST_WAITING_TEXT", 50)
    chats = Turns()
    found = list(chats.fold([*(message(BOT, "12345") for _ in range(30)), message(ANA, "¡basta!")]))

    assert len(found) == 10 + 1
    assert (chats.skipped, chats.messages, chats.answers) == ({"unaddressed": 20}, 11, 10)
    assert len(chats.skipped.first["unaddressed"]) == 5


def test_a_message_longer_than_the_bound_is_kept_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_ROOM", 10)

    assert folded([message(ANA, "hola"), message(BOT, "x" * 50)]) == [("hola", "x" * 50)]


def test_an_answer_reaches_back_over_a_bounded_number_of_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_REACH", 2)
    asked = [message(ANA, text) for text in ("uno", "dos", "tres")]

    assert folded([*asked, message(BOT, "a uno", reply_to_message_id=asked[0].message_id)]) == [
        ("uno", None),
        ("dos", None),
        ("tres", None),
        ("", "a uno"),
    ]


def test_a_chat_of_any_length_holds_a_bounded_number_of_turns() -> None:
    chats = Turns()
    for _ in chats.fold(message(ANA if n % 2 else BOT) for n in range(25_000)):
        assert len(chats._recent) <= turns._REACH
        assert len(chats._seen) <= turns._REMEMBERED_MESSAGES


def test_nobody_is_the_assistant_of_two_people_unless_named() -> None:
    talk = [
        message(ANA, "hola", chat_id=BEN, chat_type="personal_chat"),
        message(BEN, "buenas", chat_id=BEN, chat_type="personal_chat"),
    ]

    assert folded(talk) == [("hola", None), ("buenas", None)]
    assert folded(talk, assistant=BEN) == [("hola", "buenas")]


def test_in_a_group_each_person_has_a_session_and_the_assistant_answers_them_all() -> None:
    group: dict[str, Any] = {"chat_id": 99, "chat_type": "private_supergroup"}
    talk = [message(ANA, "uno", **group), message(BEN, "dos", **group), message(BOT, "bien", **group)]

    assert [(each.session_id, each.bot_response) for each in dict.fromkeys(Turns(BOT).fold(talk))] == [
        (f"telegram:-1000000000099:{ANA}", None),
        (f"telegram:-1000000000099:{BEN}", "bien"),
    ]


def test_answers_do_not_cross_from_one_chat_to_the_next() -> None:
    assert folded([message(ANA, "hola"), message(8000, "buenas", chat_id=8000), message(ANA, "¿?", chat_id=8000)]) == [
        ("hola", None),
        ("", "buenas"),
        ("¿?", None),
    ]


@pytest.mark.parametrize("sender", [None, "channel7", "chat7", "user0", f"user{2**63}"])
def test_who_is_no_person_is_skipped_and_counted(sender: str | None) -> None:
    chats = Turns()

    assert list(chats.fold([message(sender)])) == []
    assert chats.skipped == {"no_person": 1}


def test_a_number_that_comes_twice_counts_once() -> None:
    chats = Turns()
    again: list[Turn] = list(chats.fold([message(ANA, "hola", number=5), message(ANA, "otra", number=5)]))

    assert [each.user_message for each in again] == ["hola"]
    assert chats.skipped == {"repeated": 1}
