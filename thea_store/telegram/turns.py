"""Folds the messages of exported chats into turns: what somebody wrote, and what the assistant answered.

- In a bot's chat the bot is the assistant; elsewhere the assistant is whom the caller names, or nobody.
- The assistant's message answers the turn that it replies to, or else the newest of its chat. Several
  answers to one turn are joined by a newline.
- An answer before which nobody wrote, or that no longer fits beside the others, makes a turn of its
  own, in which the user's message is empty. It belongs to the person who was answered, or who writes first.
- Every other message makes a turn of its sender. Who is no person (a channel, a sender left out) is
  skipped.

What comes out depends on nothing but the messages and their order, however they are cut into batches, and
an answer only ever gets longer. So an import can stop anywhere and go on from the start.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, NamedTuple

from thea_store.telegram.export import ExportedMessage

__all__ = ["Outcome", "Person", "Turn", "Turns"]

Outcome = Literal["new", "completed", "unchanged", "deleted"]
"""Added; there, and got an answer or more of one; there; not taken, since its user or conversation was deleted."""

# How many turns of a chat are held in memory, which is how far back an answer reaches; and how long the
# joined answers to one turn get. A bot that only ever notifies would else grow one answer without end.
_REACH = 1000
_ROOM = 20_000

_LARGEST_ID = 2**63 - 1


class Person(NamedTuple):
    """Somebody who wrote in a chat."""

    telegram_id: int
    name: str | None


@dataclass(slots=True, eq=False)
class Turn:
    """What one person wrote, and the answers to it so far."""

    chat_id: int
    message_id: int
    person: Person
    user_message: str
    created_at: datetime
    last_activity: datetime
    """The time of the newest answer, or of the message."""
    bot_response: str | None = None
    answers: list[int] = field(default_factory=list)
    """The numbers of the messages that are joined in it."""
    outcome: Outcome | None = None
    """What the store made of it, as far as that is known."""

    @property
    def session_id(self) -> str:
        """One session for each person in each chat: two people may have exported chats with the same bot."""
        return f"telegram:{self.chat_id}:{self.person.telegram_id}"

    def has_room(self, text: str) -> bool:
        """Whether the text can be joined to the answers that are there."""
        return self.bot_response is None or len(self.bot_response) + len(text) < _ROOM

    def answer(self, message: ExportedMessage) -> None:
        """Join the message to the answers."""
        self.bot_response = message.text if self.bot_response is None else f"{self.bot_response}\n{message.text}"
        self.last_activity = max(self.last_activity, message.sent_at)
        self.answers.append(message.message_id)


_NOBODY = Person(0, None)


class Turns:
    """The turns of many chats, one chat after the other; holds the newest turns of one chat."""

    def __init__(self, assistant: int | None = None) -> None:
        self.messages = 0
        """Messages that became part of an turn."""
        self.answers = 0
        """Those of them that the assistant sent."""
        self.skipped: Counter[str] = Counter()
        """Messages left out: `no_person`, `unaddressed` (answers in a chat in which nobody else wrote), `repeated`."""
        self._assistant = assistant
        self._chat: tuple[int, str | None] | None = None
        self._recent: OrderedDict[int, Turn] = OrderedDict()
        self._joined: set[int] = set()  # the numbers of all answers of these
        self._unaddressed = True

    def fold(self, messages: Iterable[ExportedMessage]) -> Iterator[Turn]:
        """Each turn when it is new and whenever it got an answer."""
        for message in messages:
            if (message.chat_id, message.chat_type) != self._chat:
                self._leave()
                self._chat = message.chat_id, message.chat_type
            yield from self._take(message)
        self._leave()

    def _take(self, message: ExportedMessage) -> Iterable[Turn]:
        person = _person(message)
        if person is None:
            self.skipped["no_person"] += 1
        elif message.message_id in self._recent or message.message_id in self._joined:
            self.skipped["repeated"] += 1
        elif person.telegram_id == (message.chat_id if message.chat_type == "bot_chat" else self._assistant):
            self.messages += 1
            self.answers += 1
            return self._answer(message)
        else:
            self.messages += 1
            return self._ask(message, person)
        return ()

    def _ask(self, message: ExportedMessage, person: Person) -> list[Turn]:
        waiting = list(self._recent.values()) if self._unaddressed else []
        self._unaddressed = False
        for turn in waiting:
            turn.person = person
        return [*waiting, self._begin(message, person, message.text)]

    def _answer(self, message: ExportedMessage) -> list[Turn]:
        target = self._answered(message)
        if target is None or not target.has_room(message.text):
            target = self._begin(message, target.person if target else _NOBODY, "")
        target.answer(message)
        self._joined.add(message.message_id)
        return [] if self._unaddressed else [target]

    def _answered(self, message: ExportedMessage) -> Turn | None:
        if message.reply_to_message_id is not None and (turn := self._recent.get(message.reply_to_message_id)):
            return turn
        return next(reversed(self._recent.values()), None)

    def _begin(self, message: ExportedMessage, person: Person, text: str) -> Turn:
        if len(self._recent) == _REACH:
            self._forget()
        turn = Turn(message.chat_id, message.message_id, person, text, message.sent_at, message.sent_at)
        self._recent[message.message_id] = turn
        return turn

    def _leave(self) -> None:
        while self._recent:
            self._forget()
        self._unaddressed = True

    def _forget(self) -> None:
        _, turn = self._recent.popitem(last=False)
        self._joined.difference_update(turn.answers)
        if self._unaddressed:
            self.messages -= len(turn.answers)
            self.skipped["unaddressed"] += len(turn.answers)


def _person(message: ExportedMessage) -> Person | None:
    kind, _, number = (message.sender_id or "").partition("user")
    if kind or not number or not 0 < int(number) <= _LARGEST_ID:
        return None
    return Person(int(number), message.sender_name)
