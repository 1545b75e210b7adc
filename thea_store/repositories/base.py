"""What all repositories share: their common queries, and pages of rows."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic, Protocol, get_type_hints

from typing_extensions import TypeVar

from thea_store.database import Executor, RowKeyNeededError
from thea_store.encryption import sealed_in
from thea_store.errors import InvalidArgumentError
from thea_store.queries.arguments import Id, Limit, Moment, check, check_tenant
from thea_store.queries.binding import check_values
from thea_store.queries.file import Query, SqlFile
from thea_store.repositories.paging import read_page
from thea_store.repositories.records import Batches, Page, Paging, Record, Stored

__all__ = [
    "Batches",
    "Common",
    "Home",
    "Page",
    "Paging",
    "Record",
    "Repository",
    "RowKey",
    "Stored",
    "common",
    "listed",
]

R = TypeVar("R", bound="Stored")
N = TypeVar("N", bound=Mapping[str, Any], default=Mapping[str, Any])


class Home(Protocol):
    """What a repository may be made over: a store, or a transaction of it."""

    def executor_of(self, repository: type[Any]) -> Executor:
        """What runs the queries; `StoreError` for a repository of an extension that the store was opened without."""
        ...


class RowKey(Record, frozen=True):
    """What the texts of a row are sealed for; `None` where none is sealed."""

    row_key: str | None


@dataclass(frozen=True, slots=True)
class Common(Generic[R]):
    """The queries that every repository has, under these names in its SQL file."""

    sql: SqlFile
    get_by_id: Query[R]
    exists: Query[bool]
    count: Query[int]
    get_all: Query[R]
    create_many: Query[R]
    update: Query[R]
    delete: Query[int]
    restore: Query[R]
    purge: Query[int]
    row_key: Query[RowKey] | None
    """What a row's texts are sealed for; `None` where the record has no text that is ever sealed."""
    sealed: frozenset[str]
    """Which of the record's fields are sealed where the tenant is encrypted."""
    changes: frozenset[str]
    filters: frozenset[str]


def common(
    sql: SqlFile,
    record: type[R],
    *,
    rows: Any,
    changes: Any,
    filters: type,
) -> Common[R]:
    """Claim the common queries; the three typed dictionaries say what is written, changed and asked for.

    Which filters lead to variants of `get_all` and `count` is said in the SQL file, by `-- variants:`.
    """
    asked = get_type_hints(filters, include_extras=True)
    _, sealed = sealed_in(record) or ("", frozenset[str]())
    return Common(
        sql=sql,
        get_by_id=sql.query("get_by_id", record, id=Id),
        exists=sql.query("exists", bool, id=Id),
        count=sql.query("count", int, **asked),
        get_all=sql.query(
            "get_all",
            record,
            **asked,
            newest_first=bool,
            include_deleted=bool,
            after_at=Moment | None,
            after_id=Id | None,
            limit=int,
        ),
        create_many=sql.query("create_many", record, rows=list[rows]),
        update=sql.query("update", record, id=Id, changes=changes),
        delete=sql.query("delete", int, id=Id),
        restore=sql.query("restore", record, id=Id),
        purge=sql.query("purge", int, id=Id),
        row_key=sql.query("row_key", RowKey, id=Id) if sealed else None,
        sealed=sealed,
        changes=frozenset(get_type_hints(changes)),
        filters=frozenset(asked),
    )


class Repository(Generic[R, N]):
    """The functions that every repository has, over a store or within a transaction; each takes the tenant first.

    `R` is the record of a row, and `N` the typed dictionary of a new one. A subclass declares `common`, and gives
    `create`, `get_all`, `iterate`, `count` and `update` the types of its own fields and filters.
    """

    common: Common[R]

    def __init__(self, home: Home) -> None:
        """`StoreError` where the store was opened without the repository's extension."""
        self._db = home.executor_of(type(self))

    if not TYPE_CHECKING:
        # The type checkers see these with the subclass's own fields and filters.

        async def create(self, tenant_id: str, /, **fields: object) -> R:
            """The new row. `InvalidReferenceError` when a parent does not exist, `DuplicateError` when a key does."""
            return await self._create(tenant_id, fields)

        async def update(self, tenant_id: str, id: int, /, **changes: object) -> R:  # noqa: A002
            """The row with the given fields changed; `None` is a value. `NotFoundError` when there is none."""
            return await self._update(tenant_id, id, changes)

        async def get_all(self, tenant_id: str, /, **asked: object) -> Page[R]:
            """A page of rows by the time they were made, from after `cursor`; empty past the end."""
            return await self._get_all(tenant_id, asked)

        def iterate(self, tenant_id: str, /, **asked: object) -> AsyncIterator[R]:
            """All rows that the filters ask for, the oldest first; no connection is held between batches."""
            return self._iterate_all(tenant_id, asked)

        async def count(self, tenant_id: str, **filters: object) -> int:
            """How many rows the filters ask for."""
            return await self._count(tenant_id, filters)

    async def get_by_id(self, tenant_id: str, id: int) -> R | None:  # noqa: A002 - the contract's name
        """The row with this id, or `None`."""
        return await self._db.fetch_optional(self.common.get_by_id, tenant_id, id=id)

    async def exists(self, tenant_id: str, id: int) -> bool:  # noqa: A002
        """Whether there is a row with this id that is not deleted."""
        return await self._db.fetch_value(self.common.exists, tenant_id, id=id)

    async def create_many(self, tenant_id: str, rows: Iterable[N]) -> list[R]:
        """All rows or none, as one statement; the records come back in the order of `rows`.

        Each row is a mapping with the names of `create`'s arguments. `InvalidReferenceError` when a
        parent does not exist, `DuplicateError` when a key does; either way nothing is written.
        """
        given = [dict(row) if isinstance(row, Mapping) else row for row in listed(rows)]
        return await self._db.fetch_all(self.common.create_many, tenant_id, rows=given)

    async def delete(self, tenant_id: str, id: int) -> None:  # noqa: A002
        """Hide the row, and all that hangs on it, from every read; `NotFoundError` when there is none.

        In a transaction stricter than `read committed`, what others write under it meanwhile stays visible.
        """
        await self._db.fetch_value(self.common.delete, tenant_id, id=id)

    async def restore(self, tenant_id: str, id: int) -> R:  # noqa: A002
        """Bring back a deleted row with exactly what that delete hid; a row that is there is returned.

        `NotFoundError` when there is none, or when its parent is deleted.
        """
        check("id", id, Id)

        async def bring_back(db: Executor) -> R:
            for query in (self.common.restore, self.common.get_by_id):
                if (row := await db.fetch_optional(query, tenant_id, id=id)) is not None:
                    return row
            # If the row was deleted between the two lookups, both missed it, and this restore finds it.
            return await db.fetch_one(self.common.restore, tenant_id, id=id)

        return await self._db.atomic(tenant_id, bring_back)

    async def purge(self, tenant_id: str, id: int) -> None:  # noqa: A002
        """Remove the row, deleted or not, and all that hangs on it, for good."""
        await self._db.fetch_value(self.common.purge, tenant_id, id=id)

    async def _create(self, tenant_id: str, row: Mapping[str, object]) -> R:
        try:
            return await self._db.fetch_one(self.common.create_many, tenant_id, rows=[row])
        except InvalidArgumentError as error:
            raise InvalidArgumentError(error.argument.removeprefix("rows[0]."), error.reason) from error.__cause__

    async def _update(self, tenant_id: str, id: int, changes: Mapping[str, object]) -> R:  # noqa: A002
        for name in changes.keys() - self.common.changes:
            raise InvalidArgumentError(name, f"cannot be changed; these can: {', '.join(sorted(self.common.changes))}")
        try:
            changes_text = not self.common.sealed.isdisjoint(changes) and not self._db.keyring.is_empty
            row_key = self.common.row_key if changes_text else None
            if row_key is not None and await self._db.keys_of(check_tenant(tenant_id)) is not None:
                return await self._update_sealed(row_key, tenant_id, id, changes)
            try:
                return await self._db.fetch_one(self.common.update, tenant_id, id=id, changes=changes)
            except RowKeyNeededError:
                if row_key is None or await self._db.keys_of(tenant_id) is None:
                    raise
            return await self._update_sealed(row_key, tenant_id, id, changes)
        except InvalidArgumentError as error:
            raise InvalidArgumentError(error.argument.removeprefix("changes."), error.reason) from error.__cause__

    async def _update_sealed(
        self,
        row_key: Query[RowKey],
        tenant_id: str,
        id: int,  # noqa: A002
        changes: Mapping[str, object],
    ) -> R:
        check_values(self.common.update, {"id": id, "changes": changes})

        async def with_its_key(db: Executor) -> R:
            there = await db.fetch_one(row_key, tenant_id, id=id)
            return await db.fetch_one(self.common.update, tenant_id, row_key=there.row_key, id=id, changes=changes)

        return await self._db.atomic(tenant_id, with_its_key)

    async def _get_all(self, tenant_id: str, asked: Mapping[str, Any]) -> Page[R]:
        """A page of rows; `asked` are the filters and what `Paging` has."""
        filters = {name: value for name, value in asked.items() if name not in Paging.__annotations__}
        return await self._page(
            tenant_id,
            filters,
            newest_first=asked.get("newest_first", True),
            limit=asked.get("limit", 50),
            cursor=asked.get("cursor"),
            include_deleted=asked.get("include_deleted", False),
        )

    def _iterate_all(self, tenant_id: str, asked: Mapping[str, Any]) -> AsyncIterator[R]:
        """All rows, the oldest first; `asked` are the filters and what `Batches` has."""
        filters = {name: value for name, value in asked.items() if name not in Batches.__annotations__}
        return self._iterate(tenant_id, filters, asked.get("batch_size", 500))

    async def _page(
        self,
        tenant_id: str,
        filters: Mapping[str, object],
        *,
        newest_first: bool,
        limit: int,
        cursor: str | None,
        include_deleted: bool,
    ) -> Page[R]:
        question = self._asked(filters) | {"newest_first": newest_first, "include_deleted": include_deleted}
        return await read_page(
            self._db, self.common.get_all, tenant_id, question, limit=limit, cursor=cursor, place=_place
        )

    async def _iterate(self, tenant_id: str, filters: Mapping[str, object], batch_size: int) -> AsyncIterator[R]:
        check("batch_size", batch_size, Limit)
        cursor: str | None = None
        while True:
            page = await self._page(
                tenant_id, filters, newest_first=False, limit=batch_size, cursor=cursor, include_deleted=False
            )
            for row in page.items:
                yield row
            if (cursor := page.next_cursor) is None:
                return

    async def _count(self, tenant_id: str, filters: Mapping[str, object]) -> int:
        return await self._db.fetch_value(self.common.count, tenant_id, **self._asked(filters))

    def _asked(self, filters: Mapping[str, object]) -> dict[str, object]:
        known = self.common.filters
        for name in filters.keys() - known:
            raise InvalidArgumentError(name, f"is no filter of this call; there are {', '.join(sorted(known))}")
        return {name: filters.get(name) for name in known}


def _place(row: Stored) -> tuple[datetime, int]:
    return row.created_at, row.id


# So that no call copies, checks and sends rows for long.
_MOST_ROWS = 100_000


def listed(rows: object) -> list[Any]:
    """The rows as a list; `InvalidArgumentError` where they are no rows, or too many for one call."""
    if isinstance(rows, (str, bytes, Mapping)) or not isinstance(rows, Iterable):
        raise InvalidArgumentError("rows", "must be a list of mappings")
    found = list(islice(rows, _MOST_ROWS + 1))
    if len(found) > _MOST_ROWS:
        raise InvalidArgumentError("rows", f"must be up to {_MOST_ROWS} rows: write fewer at once")
    return found
