"""Which task needs which: a task can be done when all that it needs is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Required

from thea_store import (
    Batches,
    Id,
    LongText,
    Page,
    Paging,
    Repository,
    SqlFile,
    Stored,
    common,
)
from typing_extensions import TypedDict, Unpack

SQL = SqlFile("links", Path(__file__).parent / "sql")


class Link(Stored, frozen=True):
    """The task `task_id` needs the task `needs_id` to be done first."""

    task_id: int
    needs_id: int
    reason: str | None


class NewLink(TypedDict, total=False):
    """What a new link consists of."""

    task_id: Required[Id]
    needs_id: Required[Id]
    reason: LongText | None


class LinkChanges(TypedDict, total=False):
    """What `update` may change."""

    reason: LongText | None


class LinkFilters(TypedDict, total=False):
    """What `get_all`, `iterate` and `count` may ask for; `None` asks for nothing."""

    task_id: Id | None


class LinkPages(LinkFilters, Paging, total=False):
    """What `get_all` takes."""


class LinkBatches(LinkFilters, Batches, total=False):
    """What `iterate` takes."""


class Links(Repository[Link, NewLink]):
    """The links, over a store or within a transaction."""

    common = common(SQL, Link, rows=NewLink, changes=LinkChanges, filters=LinkFilters)

    async def create(self, tenant_id: str, /, **fields: Unpack[NewLink]) -> Link:
        """Make a new one. `InvalidReferenceError` when what it hangs on does not exist."""
        return await self._create(tenant_id, fields)

    async def update(
        self, tenant_id: str, id: int, /, **changes: Unpack[LinkChanges]
    ) -> Link:
        """Change the given fields; `None` is a value. `NotFoundError` when there is none."""
        return await self._update(tenant_id, id, changes)

    async def get_all(
        self, tenant_id: str, /, **asked: Unpack[LinkPages]
    ) -> Page[Link]:
        """Give a page by the time they were made, from after `cursor`; empty past the end."""
        return await self._get_all(tenant_id, asked)

    def iterate(
        self, tenant_id: str, /, **asked: Unpack[LinkBatches]
    ) -> AsyncIterator[Link]:
        """Go through all, the oldest first; no connection is held between batches."""
        return self._iterate_all(tenant_id, asked)

    async def count(self, tenant_id: str, /, **filters: Unpack[LinkFilters]) -> int:
        """Say how many there are."""
        return await self._count(tenant_id, filters)
