"""The calls that the machine interleaves: how each is made, and what it must answer given the tenant's rows."""

# ruff: noqa: ARG002 - each call takes what any of them needs

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

from tests.interleaving.model import Effect, Row, Rows, by_id, face, named, put
from thea_store import (
    ConflictError,
    Conversation,
    DuplicateError,
    InvalidArgumentError,
    InvalidReferenceError,
    InvalidTenantError,
    Note,
    NotFoundError,
    Store,
    StoreTransaction,
    TenantMismatchError,
    User,
)

Repositories = Store | StoreTransaction

END = "no more rows"


def row_of(record: Any, tenant: str) -> Row | None:
    """A record as the model has it, after a look at whose it is."""
    if record is None:
        return None
    assert record.tenant_id == tenant, f"{tenant} was given a row of {record.tenant_id}: {record}"
    hidden = "hidden" if record.deleted_at else ""
    match record:
        case User():
            names = (record.first_name, record.last_name)
            return Row("users", str(record.telegram_id), names, None, hidden, record.id)
        case Note():
            return Row("notes", str(record.title), (record.content,), record.user_id, hidden, record.id)
        case Conversation():
            state = (record.current_state,)
            return Row("conversations", record.session_id, state, record.user_id, hidden, record.id)
    raise AssertionError(record)


def rows_of(records: Iterable[Any], tenant: str) -> Rows:
    return frozenset(row for record in records if (row := row_of(record, tenant)))


class Call(ABC):
    """One call of the public API."""

    @abstractmethod
    async def make(self, at: Repositories, tenant: str) -> Any:
        """Make it, and give the answer as the model has it."""

    @abstractmethod
    def expect(self, rows: Rows, seen: Any) -> Effect:
        """What it must answer; new ids are taken from what was `seen`."""


def _shown(rows: Rows, table: str, id: int) -> Row | None:  # noqa: A002
    row = by_id(rows, table, id)
    return row if row and not row.hidden else None


def _told(seen: Any) -> Iterator[int | None]:
    given = seen if isinstance(seen, tuple) else (seen,)
    return chain((row.id for row in given if isinstance(row, Row)), repeat(None))


@dataclass(frozen=True)
class CreateUser(Call):
    telegram_id: int
    mark: str

    async def make(self, at: Repositories, tenant: str) -> Any:
        return row_of(await at.users.create(tenant, telegram_id=self.telegram_id, first_name=self.mark), tenant)

    def expect(self, rows: Rows, seen: Any) -> Effect:
        if named(rows, "users", str(self.telegram_id)):
            return Effect(DuplicateError, rows, refused=True)
        row = Row("users", str(self.telegram_id), (self.mark, None), id=next(_told(seen)))
        return Effect(row, put(rows, row))


@dataclass(frozen=True)
class FindOrCreateUser(Call):
    telegram_id: int
    mark: str

    async def make(self, at: Repositories, tenant: str) -> Any:
        found = await at.users.get_or_create_from_telegram(tenant, self.telegram_id, first_name=self.mark)
        return row_of(found, tenant)

    def expect(self, rows: Rows, seen: Any) -> Effect:
        was = named(rows, "users", str(self.telegram_id))
        if was is None:
            return CreateUser(self.telegram_id, self.mark).expect(rows, seen)
        row = was._replace(content=(self.mark, was.content[1]), hidden="", id=was.id or next(_told(seen)))
        back = _brought_back(rows, was) if was.hidden else []
        return Effect(row, put(rows, row, *back))


@dataclass(frozen=True)
class RenameUser(Call):
    user: int
    mark: str
    last: bool

    async def make(self, at: Repositories, tenant: str) -> Any:
        if self.last:
            return row_of(await at.users.update(tenant, self.user, last_name=self.mark), tenant)
        return row_of(await at.users.update(tenant, self.user, first_name=self.mark), tenant)

    def expect(self, rows: Rows, seen: Any) -> Effect:
        if (was := _shown(rows, "users", self.user)) is None:
            return Effect(NotFoundError, rows)
        first, last = was.content
        row = was._replace(content=(first, self.mark) if self.last else (self.mark, last))
        return Effect(row, put(rows, row))


@dataclass(frozen=True)
class CreateNotes(Call):
    """One or two notes in one statement, each of a user of its own: both or none."""

    users: tuple[int, ...]
    mark: str

    async def make(self, at: Repositories, tenant: str) -> Any:
        rows = [
            {"user_id": user, "title": f"{self.mark}.{n}", "content": f"Comprar pan para {self.mark}.{n}"}
            for n, user in enumerate(self.users)
        ]
        return tuple(row_of(note, tenant) for note in await at.notes.create_many(tenant, rows))

    def expect(self, rows: Rows, seen: Any) -> Effect:
        parents = [_shown(rows, "users", user) for user in self.users]
        if not all(parents):
            return Effect(InvalidReferenceError, rows, refused=True)
        ids = _told(seen)
        notes = tuple(
            Row("notes", f"{self.mark}.{n}", (f"Comprar pan para {self.mark}.{n}",), user, id=next(ids))
            for n, user in enumerate(self.users)
        )
        return Effect(notes, put(rows, *notes), frozenset(parent.key for parent in parents if parent))


@dataclass(frozen=True)
class EditNote(Call):
    note: int
    mark: str

    async def make(self, at: Repositories, tenant: str) -> Any:
        return row_of(await at.notes.update(tenant, self.note, content=f"Sin pan: {self.mark}"), tenant)

    def expect(self, rows: Rows, seen: Any) -> Effect:
        if (was := _shown(rows, "notes", self.note)) is None:
            return Effect(NotFoundError, rows)
        row = was._replace(content=(f"Sin pan: {self.mark}",))
        return Effect(row, put(rows, row))


@dataclass(frozen=True)
class CreateConversation(Call):
    user: int
    session: str

    async def make(self, at: Repositories, tenant: str) -> Any:
        return row_of(await at.conversations.create(tenant, self.user, self.session), tenant)

    def expect(self, rows: Rows, seen: Any) -> Effect:
        if (parent := _shown(rows, "users", self.user)) is None:
            return Effect(InvalidReferenceError, rows, refused=True)
        if named(rows, "conversations", self.session):
            return Effect(DuplicateError, rows, refused=True)
        row = Row("conversations", self.session, ("idle",), self.user, id=next(_told(seen)))
        return Effect(row, put(rows, row), frozenset({parent.key}))


@dataclass(frozen=True)
class FindOrCreateConversation(Call):
    user: int
    session: str

    async def make(self, at: Repositories, tenant: str) -> Any:
        return row_of(await at.conversations.get_or_create(tenant, self.user, self.session), tenant)

    def expect(self, rows: Rows, seen: Any) -> Effect:
        was = named(rows, "conversations", self.session)
        parent = _shown(rows, "users", self.user)
        if was is None or parent is None:
            return CreateConversation(self.user, self.session).expect(rows, seen)
        if was.owner != self.user:
            return Effect(DuplicateError, rows)
        row = was._replace(hidden="", id=was.id or next(_told(seen)))
        if was.hidden:
            row = row._replace(content=("idle",))
        # Where it begins anew, that and its restore are two entries.
        return Effect(row, put(rows, row), frozenset({parent.key}), more_entries=bool(was.hidden))


@dataclass(frozen=True)
class MoveConversation(Call):
    conversation: int
    mark: str
    expected: str | None

    async def make(self, at: Repositories, tenant: str) -> Any:
        moved = await at.conversations.update_state(
            tenant, self.conversation, self.mark, {"by": self.mark}, expected_state=self.expected
        )
        assert moved.context_data == {"by": self.mark}
        return row_of(moved, tenant)

    def expect(self, rows: Rows, seen: Any) -> Effect:
        if (was := _shown(rows, "conversations", self.conversation)) is None:
            # Where it is hidden and then comes back, the call cannot tell; to read it again is right all the same.
            returns = seen is ConflictError and self.expected and by_id(rows, "conversations", self.conversation)
            return Effect(ConflictError if returns else NotFoundError, rows)
        if self.expected not in (None, was.content[0]):
            return Effect(ConflictError, rows)
        row = was._replace(content=(self.mark,))
        return Effect(row, put(rows, row))


@dataclass(frozen=True)
class Delete(Call):
    table: str
    id: int

    async def make(self, at: Repositories, tenant: str) -> Any:
        return await getattr(at, self.table).delete(tenant, self.id)

    def expect(self, rows: Rows, seen: Any) -> Effect:
        if (was := _shown(rows, self.table, self.id)) is None:
            return Effect(NotFoundError, rows)
        with_it = [row for row in rows if self.table == "users" and row.owner == self.id and not row.hidden]
        return Effect(None, put(rows, was._replace(hidden="self"), *(row._replace(hidden="users") for row in with_it)))


def _brought_back(rows: Rows, parent: Row) -> list[Row]:
    return [row._replace(hidden="") for row in rows if row.owner == parent.id and row.hidden == "users"]


@dataclass(frozen=True)
class Restore(Call):
    table: str
    id: int

    async def make(self, at: Repositories, tenant: str) -> Any:
        return row_of(await getattr(at, self.table).restore(tenant, self.id), tenant)

    def expect(self, rows: Rows, seen: Any) -> Effect:
        was = by_id(rows, self.table, self.id)
        parent = by_id(rows, "users", was.owner) if was and was.owner else None
        if was is None or (was.hidden and parent and parent.hidden):
            return Effect(NotFoundError, rows)
        if not was.hidden:
            return Effect(was, rows)
        back = _brought_back(rows, was) if self.table == "users" else []
        row = was._replace(hidden="")
        return Effect(row, put(rows, row, *back), frozenset({parent.key} if parent else ()))


@dataclass(frozen=True)
class Purge(Call):
    table: str
    id: int

    async def make(self, at: Repositories, tenant: str) -> Any:
        return await getattr(at, self.table).purge(tenant, self.id)

    def expect(self, rows: Rows, seen: Any) -> Effect:
        if (was := by_id(rows, self.table, self.id)) is None:
            return Effect(NotFoundError, rows)
        gone = {row for row in rows if self.table == "users" and row.owner == self.id} | {was}
        return Effect(None, rows - gone)


@dataclass(frozen=True)
class Read(Call):
    table: str
    id: int

    async def make(self, at: Repositories, tenant: str) -> Any:
        return row_of(await getattr(at, self.table).get_by_id(tenant, self.id), tenant)

    def expect(self, rows: Rows, seen: Any) -> Effect:
        return Effect(_shown(rows, self.table, self.id), rows)


@dataclass(frozen=True)
class ReadByName(Call):
    """By the key that tenants share."""

    telegram_id: int

    async def make(self, at: Repositories, tenant: str) -> Any:
        return row_of(await at.users.get_by_telegram_id(tenant, self.telegram_id), tenant)

    def expect(self, rows: Rows, seen: Any) -> Effect:
        found = named(rows, "users", str(self.telegram_id))
        return Effect(found if found and not found.hidden else None, rows)


@dataclass(frozen=True)
class ReadAll(Call):
    table: str
    hidden_too: bool = True

    async def make(self, at: Repositories, tenant: str) -> Any:
        page = await getattr(at, self.table).get_all(tenant, limit=500, include_deleted=self.hidden_too)
        assert page.next_cursor is None
        return rows_of(page.items, tenant)

    def expect(self, rows: Rows, seen: Any) -> Effect:
        return Effect(
            frozenset(row for row in rows if row.table == self.table and (self.hidden_too or not row.hidden)), rows
        )


@dataclass(frozen=True)
class Overview(Call):
    """A user with what hangs on them, in one statement."""

    user: int

    async def make(self, at: Repositories, tenant: str) -> Any:
        found = await at.users.get_with(tenant, self.user, notes=1000, conversations=1000)
        return rows_of([found.user, *found.notes, *found.conversations], tenant) if found else None

    def expect(self, rows: Rows, seen: Any) -> Effect:
        user = _shown(rows, "users", self.user)
        hanging = {row for row in rows if row.owner == self.user and not row.hidden}
        return Effect(frozenset(hanging | {user}) if user else None, rows)


@dataclass(frozen=True)
class Search(Call):
    """Through the function that reads with another role's rights."""

    user: int

    async def make(self, at: Repositories, tenant: str) -> Any:
        return rows_of(await at.notes.search(tenant, self.user, "pan", limit=100), tenant)

    def expect(self, rows: Rows, seen: Any) -> Effect:
        notes = {row for row in rows if row.table == "notes" and row.owner == self.user and not row.hidden}
        return Effect(frozenset(notes), rows)


@dataclass(frozen=True)
class Misnamed(Call):
    """Another tenant inside a transaction, or none outside."""

    other: str

    async def make(self, at: Repositories, tenant: str) -> Any:
        inside = isinstance(at, StoreTransaction)
        try:
            return await at.users.count(self.other if inside else f" {tenant}")
        except (TenantMismatchError, InvalidTenantError) as error:
            return "refused" if isinstance(error, TenantMismatchError) == inside else error

    def expect(self, rows: Rows, seen: Any) -> Effect:
        return Effect("refused", rows, early=True)


@dataclass(frozen=True)
class Misspoken(Call):
    """An argument that is none."""

    user: int

    async def make(self, at: Repositories, tenant: str) -> Any:
        return await at.users.update(tenant, self.user, timezone="Nowhere/At all")

    def expect(self, rows: Rows, seen: Any) -> Effect:
        return Effect(InvalidArgumentError, rows, early=True)


@dataclass(frozen=True, eq=False)
class Next(Call):
    """The next row of an iterator that goes on from call to call."""

    notes: AsyncIterator[Note]

    async def make(self, _: Repositories, tenant: str) -> Any:
        return row_of(note, tenant) if (note := await anext(self.notes, None)) else END

    def expect(self, rows: Rows, seen: Any) -> Effect:
        # Which one comes next is another test's matter; whose it is, and that it is as it should be, is this one's.
        if seen == END:  # that the last row was the last may be known from the page that it came with
            return Effect(END, rows, early=True)
        shown = {face(row) for row in rows if row.table == "notes" and not row.hidden}
        return Effect(seen if face(seen) in shown else END, rows)
