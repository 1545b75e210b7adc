"""Folds the messages of exported chats into turns: what somebody wrote, and what the assistant answered.

- In a bot's chat the bot is the assistant; elsewhere the assistant is whom the caller names, or nobody.
- The assistant's message answers the one that it replies to, or the newest of its chat where it is no reply. Several
  answers to one message are joined, each on lines of its own, up to 20,000 characters in all.
- An answer stands alone, with an empty user's message, where it no longer fits beside the others, where nobody
  wrote before it, and where it replies to something else: the assistant's own message, one that the file does not
  have, one from which 1,000 others were sent since. It belongs to the person who was answered or who wrote last, or
  else to who writes first.
- Every other message makes a turn of its sender. Who is no person (a channel, a sender left out) is
  skipped.

Which turn an answer belongs to depends on nothing but the messages from that turn on, and an answer that
stands alone is exactly one message. So a file of a part of a chat makes the same turns as one of the whole chat,
but for the answers whose message it lacks, and these are told apart by `Turn.may_be_joined`.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple

from thea_store.telegram.message import ExportedMessage, kind_word
from thea_store.telegram.skipped import Place, Skipped

__all__ = ["Outcome", "Person", "Turn", "Turns"]

Outcome = Literal["new", "completed", "unchanged", "deleted"]
"""Added; there, and got an answer or more of one; there; not taken, since its user or conversation was deleted."""

# How many turns of a chat are held in memory, which is how far back an answer reaches; and how long the
# joined answers to one turn get. A bot that only ever notifies would else grow one answer without end.
_REACH = 1000
_ROOM = 20_000
# How much text waits for somebody to write, in characters; and among how many messages one is known to be repeated.
_LONGEST_WAITING_TEXT = 2_000_000
_REMEMBERED_MESSAGES = 10_000

_LARGEST_ID = 2**63 - 1


class Person(NamedTuple):
    """Somebody who wrote in a chat."""

    telegram_id: int
    name: str | None


@dataclass(slots=True, eq=False)
class Turn:
    """What one person wrote, and the answers to it so far; or an answer alone, which has no message to stand with."""

    chat: str
    message_id: int
    person: Person
    user_message: str
    created_at: datetime
    opened_at: datetime
    """When the person wrote, here or, for an answer alone, next to it: no later than that their conversation began."""
    last_activity: datetime
    """The time of the newest answer, or of the message."""
    answers: dict[int, str] = field(default_factory=dict)
    """The answers, by the numbers of their messages."""
    may_be_joined: bool = False
    """Whether it is an answer to a message before the first one of the file, so that another file may have both."""
    is_full: bool = False
    length: int = 0
    """Of the answers, in characters."""
    outcome: Outcome | None = None
    """What the store made of it, as far as that is known."""

    @property
    def key(self) -> tuple[str, int]:
        """What tells it from all other turns."""
        return self.chat, self.message_id

    @property
    def session_id(self) -> str:
        """One session for each person in each chat: two people may have exported chats with the same bot."""
        return f"{self.session_prefix}{self.person.telegram_id}"

    @property
    def session_prefix(self) -> str:
        """What the sessions of all people of the chat begin with."""
        return f"telegram:{self.chat}:"

    @property
    def is_alone(self) -> bool:
        """Whether it is an answer without a message of somebody."""
        return self.message_id in self.answers

    @property
    def bot_response(self) -> str | None:
        """The answers, each on lines of its own."""
        return "\n".join(self.answers.values()) if self.answers else None

    def answer(self, message: ExportedMessage) -> bool:
        """Join the message to the answers, if it still fits; after one that does not fit, none does."""
        length = sum(map(len, self.answers.values())) + len(self.answers)
        self.is_full = self.is_full or (bool(self.answers) and length + len(message.text) > _ROOM)
        if not self.is_full:
            self.answers[message.message_id] = message.text
            self.last_activity = max(self.last_activity, message.sent_at)
        return not self.is_full


_NOBODY = Person(0, None)


class Turns:
    """The turns of many chats, one chat after the other; holds the newest turns of one chat."""

    def __init__(self, assistant: int | None = None) -> None:
        self.messages = 0
        """Messages that became part of a turn."""
        self.answers = 0
        """Those of them that the assistant sent."""
        self.skipped = Skipped()
        """Messages left out: `no_person`, `unaddressed` (answers in a chat in which nobody else wrote), `repeated`."""
        self._assistant = assistant
        self._chat: str | None = None
        self._first = 0  # the chat's first message
        self._recent: OrderedDict[int, Turn] = OrderedDict()  # of what people wrote
        self._newest: Turn | None = None
        self._waiting: deque[tuple[Turn, Place]] = deque()  # answers before anybody wrote
        self._waiting_length = 0
        self._seen: OrderedDict[int, None] = OrderedDict()

    def fold(self, messages: Iterable[ExportedMessage]) -> Iterator[Turn]:
        """Each turn when it is new and whenever it got an answer."""
        for message in messages:
            if message.chat != self._chat:
                self._leave()
                self._chat, self._first = message.chat, message.message_id
            yield from self._take(message)
        self._leave()

    def _take(self, message: ExportedMessage) -> Iterable[Turn]:
        person = _person(message)
        if person is None:
            self.skipped.add("no_person", _place(message))
        elif message.message_id in self._seen:
            self.skipped.add("repeated", _place(message))
        else:
            self._remember(message.message_id)
            self.messages += 1
            if person.telegram_id == (message.chat_id if message.chat_type == "bot_chat" else self._assistant):
                self.answers += 1
                return self._answer(message)
            return self._ask(message, person)
        return ()

    def _ask(self, message: ExportedMessage, person: Person) -> list[Turn]:
        turn = Turn(
            message.chat, message.message_id, person, message.text, message.sent_at, message.sent_at, message.sent_at
        )
        self._newest = self._recent[message.message_id] = turn
        if len(self._recent) > _REACH:
            self._recent.popitem(last=False)
        waiting = [each for each, _ in self._waiting]
        for each in waiting:
            each.person, each.opened_at, each.last_activity = person, message.sent_at, message.sent_at
        self._waiting.clear()
        self._waiting_length = 0
        return [*waiting, turn]

    def _answer(self, message: ExportedMessage) -> list[Turn]:
        reply_to = message.reply_to_message_id
        target = self._newest if reply_to is None else self._recent.get(reply_to)
        if target is not None:
            return [target] if target.answer(message) else self._add_alone(message, target)
        is_before = self._newest is None or (reply_to is not None and reply_to < self._first)
        return self._add_alone(message, self._newest, may_be_joined=is_before)

    def _add_alone(self, message: ExportedMessage, beside: Turn | None, *, may_be_joined: bool = False) -> list[Turn]:
        person, opened = (beside.person, beside.opened_at) if beside else (_NOBODY, message.sent_at)
        turn = Turn(
            message.chat, message.message_id, person, "", message.sent_at, opened, opened, may_be_joined=may_be_joined
        )
        turn.answers[message.message_id] = message.text
        if not may_be_joined:
            turn.last_activity = message.sent_at
        if beside is not None:
            return [turn]
        self._waiting.append((turn, _place(message)))
        self._waiting_length += len(message.text)
        while self._waiting_length > _LONGEST_WAITING_TEXT:
            self._give_up()
        return []

    def _remember(self, message_id: int) -> None:
        self._seen[message_id] = None
        if len(self._seen) > _REMEMBERED_MESSAGES:
            self._seen.popitem(last=False)

    def _leave(self) -> None:
        while self._waiting:
            self._give_up()
        self._recent.clear()
        self._seen.clear()
        self._newest = None

    def _give_up(self) -> None:
        turn, place = self._waiting.popleft()
        self._waiting_length -= len(turn.bot_response or "")
        self.messages -= 1
        self.answers -= 1
        self.skipped.add("unaddressed", place)


def _place(message: ExportedMessage) -> Place:
    return Place(kind_word(message.chat_type), message.chat_id, message.message_id)


def _person(message: ExportedMessage) -> Person | None:
    kind, _, number = (message.sender_id or "").partition("user")
    if kind or not number or not 0 < int(number) <= _LARGEST_ID:
        return None
    return Person(int(number), message.sender_name)
