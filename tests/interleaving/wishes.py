"""What the machine may ask for, by numbers that are drawn before anybody knows which rows there are."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.interleaving.calls import (
    Call,
    CreateConversation,
    CreateNotes,
    CreateUser,
    Delete,
    EditNote,
    FindOrCreateConversation,
    FindOrCreateUser,
    Misnamed,
    Misspoken,
    MoveConversation,
    Overview,
    Purge,
    Read,
    ReadAll,
    ReadByName,
    RenameUser,
    Restore,
    Search,
)
from tests.interleaving.model import Rows

TABLES = ("users", "notes", "conversations")
PICKS = 24
# One pick in so many is a row of another tenant.
_FOREIGN = 8
# All tenants use the same few, so that a mix-up of tenants finds something.
_TELEGRAM_IDS = 4
_SESSIONS = 3
_NOBODY = 2**62


@dataclass(frozen=True)
class Known:
    """What a caller knows when it makes a call: its rows, and some of another tenant."""

    rows: Rows
    foreign: Rows
    other: str
    """Another tenant."""
    mark: str
    """A text that is nowhere else."""

    def one(self, table: str, pick: int) -> int:
        """The id of a row, hidden ones too."""
        rows = self.foreign if pick % _FOREIGN == _FOREIGN - 1 else self.rows
        ids = sorted(row.id for row in rows if row.table == table and row.id is not None)
        return ids[pick % len(ids)] if ids else _NOBODY

    def state_of(self, conversation: int) -> str | None:
        return next((row.content[0] for row in self.rows if row[0] == "conversations" and row.id == conversation), None)


def _telegram(pick: int) -> int:
    return pick % _TELEGRAM_IDS + 1


def _session(pick: int) -> str:
    return f"s{pick % _SESSIONS + 1}"


def _move(known: Known, pick: int, other: int) -> Call:
    conversation = known.one("conversations", pick)
    expected = (None, "idle", known.state_of(conversation))[other % 3]
    return MoveConversation(conversation, known.mark, expected)


def _notes(known: Known, pick: int, other: int) -> Call:
    users = (known.one("users", pick), known.one("users", other))
    return CreateNotes(users[: 1 + other % 2], known.mark)


Wish = Callable[[Known, int, int], Call]

CALLS: dict[str, Wish] = {
    "create user": lambda known, pick, _: CreateUser(_telegram(pick), known.mark),
    "find or create user": lambda known, pick, _: FindOrCreateUser(_telegram(pick), known.mark),
    "rename user": lambda known, pick, other: RenameUser(known.one("users", pick), known.mark, last=other % 2 == 0),
    "create notes": _notes,
    "edit note": lambda known, pick, _: EditNote(known.one("notes", pick), known.mark),
    "create conversation": lambda known, pick, other: CreateConversation(known.one("users", pick), _session(other)),
    "find or create conversation": lambda known, pick, other: FindOrCreateConversation(
        known.one("users", pick), _session(other)
    ),
    "move conversation": _move,
    "delete": lambda known, pick, other: Delete(TABLES[other % 3], known.one(TABLES[other % 3], pick)),
    "restore": lambda known, pick, other: Restore(TABLES[other % 3], known.one(TABLES[other % 3], pick)),
    "purge": lambda known, pick, other: Purge(TABLES[other % 3], known.one(TABLES[other % 3], pick)),
    "read": lambda known, pick, other: Read(TABLES[other % 3], known.one(TABLES[other % 3], pick)),
    "read by name": lambda _, pick, __: ReadByName(_telegram(pick)),
    "read all": lambda _, pick, other: ReadAll(TABLES[other % 3], hidden_too=pick % 2 == 0),
    "overview": lambda known, pick, _: Overview(known.one("users", pick)),
    "search": lambda known, pick, _: Search(known.one("users", pick)),
    "misnamed": lambda known, _, __: Misnamed(known.other),
    "misspoken": lambda known, pick, _: Misspoken(known.one("users", pick)),
}
