"""One person's data: given out in full, and erased.

What belongs to a person is asked of the database: their row in `thea.users`, the rows that hang on it by cascading
foreign keys, in the tables of extensions too, and the audit entries about all of these.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from thea_store.database import Executor
from thea_store.queries.arguments import Id, Key, Moment, check
from thea_store.queries.file import Query, SqlFile
from thea_store.repositories.paging import read_page
from thea_store.repositories.records import Page, Record
from thea_store.tenancy.erasure import ERASE, Erasure

__all__ = ["SQL", "People"]


class _Table(Record, frozen=True):
    name: str
    by_user_id: bool


class _Row(Record, frozen=True):
    created_at: datetime
    id: int
    document: dict[str, Any]

    @property
    def place(self) -> tuple[datetime, int]:
        return self.created_at, self.id


class _Entry(Record, frozen=True):
    at: datetime
    id: UUID
    document: dict[str, Any]

    @property
    def place(self) -> tuple[datetime, UUID]:
        return self.at, self.id


_Placed = TypeVar("_Placed", _Row, _Entry)


SQL = SqlFile("people")

TABLES = SQL.query("tables", _Table)
OTHER_USER_IDS = SQL.query("other_user_ids", list[str])
ROWS = SQL.query("rows", _Row, subject_id=Id, table=Key, after_at=Moment | None, after_id=Id | None, limit=int)
ROW_IDS = SQL.query("row_ids", int, subject_id=Id, table=Key)
ENTRIES = SQL.query(
    "entries",
    _Entry,
    subject_id=Id,
    other_user_ids=list[str],
    after_at=Moment | None,
    after_id=UUID | None,
    limit=int,
)
ENTRIES_OF_ROWS = SQL.query("entries_of_rows", _Entry, table=Key, row_ids=list[Id])
GET_ERASURES = SQL.query(
    "get_erasures", Erasure, subject_id=Id | None, after_at=Moment | None, after_id=UUID | None, limit=int
)

_PAGE = 500
_ENTRIES_TABLE = "audit_log"


class People:
    """The data of single people in a tenant."""

    def __init__(self, db: Executor) -> None:
        self._db = db

    async def export(self, tenant_id: str, user_id: int) -> AsyncIterator[dict[str, Any]]:
        """All that is kept of a person: each row once, as JSON values, with the name of its table as `table`.

        First the user's own row, then what hangs on it, table by table and in the order of time, deleted rows too, and
        last the audit entries about all of these (`table` is `audit_log`). Texts of an encrypted tenant are opened in
        the rows; the entries have them as they are stored. Empty when there is no such person, and
        after an erasure. No connection is held while the caller works; a row that is written meanwhile may be missed.
        """
        check("user_id", user_id, Id)
        tables = await self._db.fetch_all(TABLES, tenant_id)
        looked_up: dict[str, set[int]] = {table.name: set() for table in tables if not table.by_user_id}
        for table in tables:
            async for row in self._walk(ROWS, tenant_id, subject_id=user_id, table=table.name):
                await self._db.open_documents(tenant_id, _full_name(table.name), [row.document])
                if table.name in looked_up:
                    looked_up[table.name].add(row.id)
                yield {"table": table.name} | row.document
        async for entry in self._entries(tenant_id, user_id):
            yield {"table": _ENTRIES_TABLE} | entry.document
        for name, ids in looked_up.items():
            ids.update(await self._db.fetch_all(ROW_IDS, tenant_id, subject_id=user_id, table=name))
            async for entry in self._entries_of_rows(tenant_id, name, sorted(ids)):
                yield {"table": _ENTRIES_TABLE} | entry.document

    async def erase(self, tenant_id: str, user_id: int, *, reason: str, with_others: bool = False) -> Erasure:
        """Remove a person and all that hangs on them, for good, and take back what the audit log says of it.

        That something happened, when, and by whom, stays in the log. It is one transaction: done, or not at all. The
        login must be a member of `thea_privacy`: `InsufficientPrivilegeError` otherwise. `NotFoundError` when nothing
        is left of such a person. `ErasureRefusedError` when rows of other people hang on the person's, such as
        messages of theirs in a conversation of this person: with `with_others` these are removed, too, and counted.
        """
        check("user_id", user_id, Id)
        return await self._db.fetch_one(ERASE, tenant_id, subject_id=user_id, reason=reason, with_others=with_others)

    async def get_erasures(
        self, tenant_id: str, *, user_id: int | None = None, limit: int = 50, cursor: str | None = None
    ) -> Page[Erasure]:
        """A page of the certificates, the newest first, of one former person or of all; empty past the end."""
        question = {"subject_id": check("user_id", user_id, Id | None)}
        return await read_page(self._db, GET_ERASURES, tenant_id, question, limit=limit, cursor=cursor, place=_place)

    async def _entries(self, tenant_id: str, user_id: int) -> AsyncIterator[_Entry]:
        others = await self._db.fetch_value(OTHER_USER_IDS, tenant_id)
        async for entry in self._walk(ENTRIES, tenant_id, subject_id=user_id, other_user_ids=others):
            yield entry

    async def _walk(self, query: Query[_Placed], tenant_id: str, **asked: object) -> AsyncIterator[_Placed]:
        """All that the query finds, read in pages, each from after the last row of the one before."""
        place: tuple[datetime, int | UUID] | tuple[None, None] = (None, None)
        while True:
            page = await self._db.fetch_all(
                query, tenant_id, **asked, after_at=place[0], after_id=place[1], limit=_PAGE
            )
            for row in page:
                yield row
            if len(page) < _PAGE:
                return
            place = page[-1].place

    async def _entries_of_rows(self, tenant_id: str, table: str, ids: list[int]) -> AsyncIterator[_Entry]:
        for place in range(0, len(ids), _PAGE):
            page = ids[place : place + _PAGE]
            for entry in await self._db.fetch_all(ENTRIES_OF_ROWS, tenant_id, table=table, row_ids=page):
                yield entry


def _full_name(table: str) -> str:
    return table if "." in table else f"thea.{table}"


def _place(erasure: Erasure) -> tuple[datetime, UUID]:
    return erasure.at, erasure.id
