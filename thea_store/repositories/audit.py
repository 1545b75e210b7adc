"""Who changed what, when, and on whose behalf: read here, written by the database's triggers."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from thea_store.database import Executor
from thea_store.errors import InvalidArgumentError
from thea_store.queries.arguments import Id, Key, Moment
from thea_store.queries.file import SqlFile
from thea_store.repositories.paging import read_page
from thea_store.repositories.records import Page, Record

__all__ = ["Audit", "AuditEntry"]


class AuditEntry(Record, frozen=True):
    """One change of one row; `before` and `after` are the fields that changed, `None` where there was no row.

    Of a row that came or went they are all fields that had a value.
    """

    id: UUID
    at: datetime
    actor: str | None
    request_id: str | None
    table_name: str
    row_id: int
    action: Literal["insert", "update", "delete", "restore", "purge"]
    before: dict[str, Any] | None
    after: dict[str, Any] | None


SQL = SqlFile("audit")

GET_FOR = SQL.query("get_for", AuditEntry, table=Key, row_id=Id)
GET_ALL = SQL.query(
    "get_all",
    AuditEntry,
    actor=Key | None,
    table=Key | None,
    after_at=Moment | None,
    after_id=UUID | None,
    limit=int,
)


class Audit:
    """The audit log of a tenant. Nobody can change an entry, the library included."""

    def __init__(self, db: Executor, tables: Iterable[str]) -> None:
        """`tables` are the full names of those that are audited; the library's own go by their short ones."""
        self._db = db
        self._tables = frozenset(table.removeprefix("thea.") for table in tables)

    async def get_for(self, tenant_id: str, table: str, row_id: int) -> list[AuditEntry]:
        """The history of one row, the oldest entry first; empty when nothing is known of it.

        A purged row keeps its history. Activity alone (`last_activity` and the like) is no entry.
        """
        self._check_table(table)
        return await self._db.fetch_all(GET_FOR, tenant_id, table=table, row_id=row_id)

    async def get_all(
        self,
        tenant_id: str,
        *,
        actor: str | None = None,
        table: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> Page[AuditEntry]:
        """A page of entries, the newest first, of one actor and one table or of all; empty past the end."""
        if table is not None:
            self._check_table(table)
        question = {"actor": actor, "table": table}
        return await read_page(self._db, GET_ALL, tenant_id, question, limit=limit, cursor=cursor, place=_place)

    def _check_table(self, table: object) -> None:
        if not isinstance(table, str) or table not in self._tables:
            raise InvalidArgumentError("table", f"is not audited; these are: {', '.join(sorted(self._tables))}")


def _place(entry: AuditEntry) -> tuple[datetime, UUID]:
    return entry.at, entry.id
