"""What one tenant's rows may be while its work is interleaved with others': a model in memory.

A `State` is what the server holds for the tenant: the rows that all see, and what the open transactions did
on top of them. It knows `read committed`, row locks, savepoints and the audit log's entries, and nothing of
connections: those are what the machine tries to break.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

Key = tuple[str, str]


class Row(NamedTuple):
    """A row as far as the model cares; `id` is None while nobody was told of it."""

    table: str
    name: str
    content: tuple[str | None, ...]
    owner: int | None = None
    hidden: str = ""
    id: int | None = None

    @property
    def key(self) -> Key:
        return self.table, self.name


Rows = frozenset[Row]


def face(seen: Any) -> Any:
    """What can be compared of an answer: a caller is not told by what a row is hidden."""
    if isinstance(seen, Row):
        return seen._replace(id=None, hidden="hidden" if seen.hidden else "")
    if isinstance(seen, (tuple, frozenset)):
        return type(seen)(map(face, seen))
    return seen


def named(rows: Rows, table: str, name: str) -> Row | None:
    return next((row for row in rows if row.key == (table, name)), None)


def by_id(rows: Rows, table: str, id: int) -> Row | None:  # noqa: A002
    return next((row for row in rows if (row.table, row.id) == (table, id)), None)


def put(rows: Rows, *new: Row) -> Rows:
    """The rows with these added, each in the place of the one with its key."""
    keys = {row.key for row in new}
    return frozenset(row for row in rows if row.key not in keys) | frozenset(new)


@dataclass(frozen=True, slots=True)
class Effect:
    """What a call must answer, and the rows after it."""

    answer: Any
    """A value, or the class of an error."""
    rows: Rows
    shares: frozenset[Key] = frozenset()
    """Parents that nobody may change until the end of the transaction."""
    refused: bool = False
    """By the server, so that a transaction is lost; other errors leave it as it was."""
    early: bool = False
    """Answered before anything was sent, whatever became of the transaction."""
    more_entries: int = 0
    """Of the audit log, beyond one for each changed row."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What was done in a transaction, or since its innermost savepoint; all of it is gone when it is `lost`."""

    changes: frozenset[tuple[Key, Row | None]] = frozenset()
    shares: frozenset[Key] = frozenset()
    entries: int = 0
    lost: bool = False
    left: bool = False
    """A savepoint was left last, and the message that says so goes before the next call."""

    def over(self, rows: Rows) -> Rows:
        changed = dict(self.changes)
        return frozenset(row for row in rows if row.key not in changed) | {row for row in changed.values() if row}

    def onto(self, below: Frame) -> Frame:
        changes = frozenset((dict(below.changes) | dict(self.changes)).items())
        return Frame(changes, below.shares | self.shares, below.entries + self.entries)


LOST = Frame(lost=True)


@dataclass(frozen=True, slots=True)
class State:
    """The committed rows, the audit log's entries by actor, and the frames of each open transaction."""

    rows: Rows = frozenset()
    entries: frozenset[tuple[str, int]] = frozenset()
    open: frozenset[tuple[int, tuple[Frame, ...]]] = frozenset()

    def frames(self, transaction: int | None) -> tuple[Frame, ...]:
        return dict(self.open).get(transaction, ()) if transaction is not None else ()

    def view(self, transaction: int | None) -> Rows:
        rows = self.rows
        for frame in self.frames(transaction):
            rows = frame.over(rows)
        return rows

    def holding(self, transaction: int, *frames: Frame) -> State:
        rest = frozenset(each for each in self.open if each[0] != transaction)
        return replace(self, open=rest | {(transaction, frames)} if frames else rest)

    def publish(self, frame: Frame, actor: str) -> State:
        counts = dict(self.entries)
        counts[actor] = counts.get(actor, 0) + frame.entries
        return replace(self, rows=frame.over(self.rows), entries=frozenset((who, n) for who, n in counts.items() if n))

    def locked(self, frame: Frame, transaction: int | None) -> bool:
        """Whether another transaction has a lock that this would have to wait for."""
        writes = {key for key, _ in frame.changes}
        others = [other for number, frames in self.open if number != transaction for other in frames]
        return any(
            writes & {key for key, _ in other.changes} or writes & other.shares
            or frame.shares & {key for key, _ in other.changes}
            for other in others
        )  # fmt: skip

    def matching(self, rows: Rows, entries: frozenset[tuple[str, int]]) -> Iterator[State]:
        """This state with the ids of `rows`, if these may be its rows."""
        if {row._replace(id=None) for row in self.rows} == {row._replace(id=None) for row in rows} and (
            self.entries == entries
        ):
            yield replace(self, rows=rows)


def difference(before: Rows, after: Rows) -> frozenset[tuple[Key, Row | None]]:
    """The changes that make one of the other; that somebody was told an id is none."""
    was = {row.key: row for row in before}
    now = {row.key: row for row in after}
    return frozenset(
        (key, now.get(key))
        for key in was.keys() | now.keys()
        if key not in was or key not in now or was[key]._replace(id=None) != now[key]._replace(id=None)
    )
