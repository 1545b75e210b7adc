"""The directory of tenants: who there is, who is suspended, and what each may use.

It is optional. A tenant that is not in it works as if there were no directory, unless `DATABASE_TENANTS=registered`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypedDict, Unpack

from thea_store.database import NOBODY, Executor
from thea_store.errors import ConflictError, InvalidArgumentError, NotFoundError
from thea_store.queries.arguments import JsonObject, Key, Moment, Name, check_tenant
from thea_store.queries.file import Query, SqlFile
from thea_store.repositories.paging import read_page
from thea_store.repositories.records import Page, Record

__all__ = ["Tenant", "TenantChanges", "TenantLimits", "TenantUsage", "Tenants"]

Status = Literal["active", "suspended", "ended"]

Reason = Annotated[str, Field(min_length=1, max_length=1000)]


Figure = Annotated[int, Field(ge=0, le=2**63 - 1)]


class TenantLimits(TypedDict, total=False):
    """What a tenant may have, or do, at most; of what is not named, as much as it likes.

    The database keeps the first two. The other two are kept by each process that the tenant's calls come from, at most
    ten seconds after they were set, or after the process's first call for the tenant.
    """

    rows: Figure | dict[Key, Figure]
    """Rows of each table, or of those that are named as the audit log names them: `notes`, `planner.tasks`. Rows that
    were deleted count until they are purged."""
    text_bytes: Figure
    """Bytes of text in the rows of all tables together: of texts, lists of texts and documents."""
    calls_in_flight: Annotated[int, Field(ge=1, le=2**31 - 1)]
    """Calls and transactions at once in one process; one more is refused."""
    statement_ms: Annotated[int, Field(ge=1, le=2**31 - 1)]
    """Milliseconds that a statement may run; not more than `DATABASE_COMMAND_TIMEOUT` anyway."""


class TenantUsage(Record, frozen=True):
    """What a tenant has, counted when it was asked for."""

    id: str
    rows: dict[str, int]
    """How many rows each table has, deleted ones included; all tables are there."""
    text_bytes: int
    """Bytes of text in all of them."""


class _OfTable(Record, frozen=True):
    table_name: str
    row_count: int
    text_bytes: int


class Tenant(Record, frozen=True):
    """A tenant as the directory has it. Times are in UTC."""

    id: str
    name: str | None
    status: Status
    reason: str | None
    """Why it is suspended; `None` where it is not."""
    limits: dict[str, Any]
    settings: dict[str, Any]
    """What an operator wants to remember of it; the library does not read it."""
    created_at: datetime
    updated_at: datetime
    suspended_at: datetime | None
    ended_at: datetime | None


class TenantChanges(TypedDict, total=False):
    """What `update` changes of a tenant."""

    name: Name | None
    limits: TenantLimits
    settings: JsonObject


SQL = SqlFile("tenants")

CREATE = SQL.query("create", Tenant, id=str, name=Name | None, limits=TenantLimits)
GET = SQL.query("get", Tenant, id=str)
GET_ALL = SQL.query("get_all", Tenant, status=Status | None, after_at=Moment | None, after_id=Key | None, limit=int)
UPDATE = SQL.query("update", Tenant, id=str, changes=TenantChanges)
SUSPEND = SQL.query("suspend", Tenant, id=str, reason=Reason)
RESUME = SQL.query("resume", Tenant, id=str)
END = SQL.query("end", Tenant, id=str)
USAGE = SQL.query("usage", _OfTable, id=str)


class Tenants:
    """The directory of tenants, for a login in the group `thea_admin`, which sees no row of a tenant.

    A login without that group gets `InsufficientPrivilegeError` from each call.
    """

    def __init__(self, db: Executor) -> None:
        self._db = db

    async def create(
        self,
        id: str,
        *,
        name: str | None = None,
        limits: TenantLimits | None = None,
    ) -> Tenant:
        """Put a tenant into the directory; `DuplicateError` when it is there, also one that has ended.

        With limits, what it has already is counted, and writers of the tables that they are about wait meanwhile.
        """
        return await self._db.fetch_one(
            CREATE, NOBODY, id=check_tenant(id), name=name, limits={} if limits is None else limits
        )

    async def get(self, id: str) -> Tenant | None:
        """The tenant with this id, or `None` when it is not in the directory."""
        return await self._db.fetch_optional(GET, NOBODY, id=check_tenant(id))

    async def get_all(
        self, *, status: Status | None = None, limit: int = 50, cursor: str | None = None
    ) -> Page[Tenant]:
        """A page of tenants, the newest first, from after `cursor`; empty past the end."""
        return await read_page(self._db, GET_ALL, NOBODY, {"status": status}, limit=limit, cursor=cursor, place=_place)

    async def update(self, id: str, **changes: Unpack[TenantChanges]) -> Tenant:
        """The tenant with the given fields changed; limits and settings are replaced as a whole.

        `NotFoundError` when it is not in the directory, `ConflictError` when it has ended.
        """
        for field in changes.keys() - TenantChanges.__annotations__.keys():
            known = ", ".join(sorted(TenantChanges.__annotations__))
            raise InvalidArgumentError(field, f"cannot be changed; these can: {known}")
        return await self._changed(UPDATE, id, changes=changes)

    async def rename(self, id: str, name: str | None) -> Tenant:
        """The tenant with another name; its id stays what it is. Errors as of `update`."""
        return await self._changed(UPDATE, id, changes={"name": name})

    async def suspend(self, id: str, reason: str) -> Tenant:
        """Let the server refuse each next statement of this tenant, in whatever session, until it is resumed.

        A statement that runs goes on to its end, and so does a transaction stricter than read committed. Of one that
        is suspended already the reason changes. Errors as of `update`.
        """
        return await self._changed(SUSPEND, id, reason=reason)

    async def resume(self, id: str) -> Tenant:
        """Let the tenant work again; one that works stays as it is. Errors as of `update`."""
        return await self._changed(RESUME, id)

    async def end(self, id: str) -> Tenant:
        """Mark the tenant as ended and refuse its calls for good; its rows are still there.

        One that has ended stays as it is. `NotFoundError` when it is not in the directory.
        """
        tenant = await self._db.fetch_optional(END, NOBODY, id=check_tenant(id))
        return tenant if tenant is not None else await self._found(id)

    async def usage(self, id: str) -> TenantUsage:
        """How many rows and bytes of text the tenant has. It is counted anew, so it takes as long as reading them does.

        `NotFoundError` when it is not in the directory.
        """
        await self._found(id)
        tables = await self._db.fetch_all(USAGE, NOBODY, id=id)
        return TenantUsage(
            id=id,
            rows={each.table_name: each.row_count for each in tables},
            text_bytes=sum(each.text_bytes for each in tables),
        )

    async def _changed(self, query: Query[Tenant], id: str, **values: object) -> Tenant:
        tenant = await self._db.fetch_optional(query, NOBODY, id=check_tenant(id), **values)
        if tenant is not None:
            return tenant
        await self._found(id)
        raise ConflictError("tenants: this tenant has ended, which is for good")

    async def _found(self, id: str) -> Tenant:
        tenant = await self.get(id)
        if tenant is None:
            raise NotFoundError("tenants: the directory has no such tenant: create it, or correct the id")
        return tenant


def _place(tenant: Tenant) -> tuple[datetime, str]:
    return tenant.created_at, tenant.id
