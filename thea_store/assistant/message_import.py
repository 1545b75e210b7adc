"""What an import brings of a chat into the message history, and which of it is new.

A turn is what a person wrote, with the answer to it. An import may bring the same turns again, or more of an answer
that is stored already. Of an encrypted tenant the server cannot compare the texts, so `those_to_write` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

from typing_extensions import TypedDict

from thea_store.encryption import SealedIn
from thea_store.queries.arguments import Id, Key, LongText, Moment
from thea_store.repositories.base import Record

__all__ = [
    "SECRET",
    "Exchange",
    "ImportedAnswer",
    "ImportedTurn",
    "NewTurn",
    "PlacedAnswer",
    "PlacedTurn",
    "StoredAnswer",
    "StoredExchange",
    "those_to_write",
]

SECRET = SealedIn("thea.message_history")
"""Marks a text of the message history that is sealed where the tenant is encrypted."""


class NewTurn(TypedDict):
    """One exchange of an imported chat, to a conversation that the caller has locked."""

    conversation_id: Id
    message_id: Id
    user_message: Annotated[LongText, SECRET]
    bot_response: Annotated[LongText | None, SECRET]
    answer_ids: list[Id] | None
    """The numbers of the messages that are joined in the answer; its own where it is an answer alone."""
    created_at: Moment


class PlacedTurn(NewTurn, total=False):
    """An exchange of an encrypted tenant that is to be written."""

    row_key: str | None
    """What the stored exchange is sealed for."""
    continues: bool
    """Its answer takes the place of the stored one."""


class Exchange(TypedDict):
    """Names an exchange."""

    conversation_id: Id
    message_id: Id


class StoredExchange(Record, frozen=True):
    """The answer that an exchange has already."""

    conversation_id: int
    message_id: int
    bot_response: Annotated[str | None, SECRET]
    answer_ids: list[int] | None
    row_key: str | None

    def is_continued_by(self, turn: NewTurn) -> bool:
        """Whether this turn has the answer that it lacks, more of it, or the numbers of its messages."""
        answer = turn["bot_response"]
        if self.bot_response is None or answer is None:
            return self.bot_response is None and answer is not None
        return (self.bot_response == answer and self.answer_ids is None) or answer.startswith(f"{self.bot_response}\n")


class ImportedTurn(Record, frozen=True):
    """An exchange that an import wrote: a new one, or one that got its answer or more of it."""

    conversation_id: int
    message_id: int
    is_new: bool


def those_to_write(turns: Sequence[NewTurn], stored: Sequence[StoredExchange]) -> list[PlacedTurn]:
    """The turns that are new, or continue stored ones."""
    answers = {(each.conversation_id, each.message_id): each for each in stored}
    placed: list[PlacedTurn] = []
    for turn in turns:
        there = answers.get((turn["conversation_id"], turn["message_id"]))
        if there is None:
            placed.append(PlacedTurn(**turn, row_key=None, continues=False))
        elif there.is_continued_by(turn):
            placed.append(PlacedTurn(**turn, row_key=there.row_key, continues=True))
    return placed


class ImportedAnswer(TypedDict):
    """A message of a chat, which answers another or may do so."""

    session: Key
    """What the sessions of all people of the chat begin with."""
    message_id: Id


class PlacedAnswer(ImportedAnswer):
    """An answer whose place is known: with its message, or alone in the conversation `kept_in`."""

    kept_in: Id | None


class StoredAnswer(Record, frozen=True):
    """A message that is stored as an answer, and the row that it is in."""

    session: str
    message_id: int
    id: int
