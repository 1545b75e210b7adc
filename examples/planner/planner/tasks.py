"""The tasks of a tenant."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path
from typing import Required

from thea_store import (
    Batches,
    ConflictError,
    Id,
    Limit,
    LongText,
    Moment,
    Page,
    Paging,
    Repository,
    SqlFile,
    Stored,
    common,
)
from typing_extensions import TypedDict, Unpack

SQL = SqlFile("tasks", Path(__file__).parent / "sql")


class Task(Stored, frozen=True):
    """One task."""

    user_id: int
    title: str
    due_at: datetime | None
    remind_at: datetime | None
    reminded_at: datetime | None
    done: bool


class NewTask(TypedDict, total=False):
    """What a new task consists of."""

    user_id: Required[Id]
    title: Required[LongText]
    due_at: Moment | None
    remind_at: Moment | None
    done: bool


class TaskChanges(TypedDict, total=False):
    """What `update` may change."""

    title: LongText
    due_at: Moment | None
    remind_at: Moment | None
    done: bool


class TaskFilters(TypedDict, total=False):
    """What `get_all`, `iterate` and `count` may ask for; `None` asks for nothing."""

    user_id: Id | None
    done: bool | None


class TaskPages(TaskFilters, Paging, total=False):
    """What `get_all` takes."""


class TaskBatches(TaskFilters, Batches, total=False):
    """What `iterate` takes."""


GET_READY = SQL.query("get_ready", Task, user_id=Id, limit=Limit)
COMPLETE = SQL.query("complete", Task, id=Id)
CLAIM_REMINDERS = SQL.query("claim_reminders", Task, now=Moment, limit=Limit)


class Tasks(Repository[Task, NewTask]):
    """The tasks, over a store or within a transaction."""

    common = common(SQL, Task, rows=NewTask, changes=TaskChanges, filters=TaskFilters)

    async def create(self, tenant_id: str, /, **fields: Unpack[NewTask]) -> Task:
        """Make a new one. `InvalidReferenceError` when what it hangs on does not exist."""
        return await self._create(tenant_id, fields)

    async def update(
        self, tenant_id: str, id: int, /, **changes: Unpack[TaskChanges]
    ) -> Task:
        """Change the given fields; `None` is a value. `NotFoundError` when there is none."""
        return await self._update(tenant_id, id, changes)

    async def get_all(
        self, tenant_id: str, /, **asked: Unpack[TaskPages]
    ) -> Page[Task]:
        """Give a page by the time they were made, from after `cursor`; empty past the end."""
        return await self._get_all(tenant_id, asked)

    def iterate(
        self, tenant_id: str, /, **asked: Unpack[TaskBatches]
    ) -> AsyncIterator[Task]:
        """Go through all, the oldest first; no connection is held between batches."""
        return self._iterate_all(tenant_id, asked)

    async def count(self, tenant_id: str, /, **filters: Unpack[TaskFilters]) -> int:
        """Say how many there are."""
        return await self._count(tenant_id, filters)

    async def get_ready(
        self, tenant_id: str, user_id: int, *, limit: int = 50
    ) -> list[Task]:
        """Give a user's tasks that wait for no other one, the most urgent first."""
        return await self._db.fetch_all(
            GET_READY, tenant_id, user_id=user_id, limit=limit
        )

    async def complete(self, tenant_id: str, id: int) -> Task:
        """Mark a task as done. `ConflictError` while it needs one that is not done."""
        done = await self._db.fetch_optional(COMPLETE, tenant_id, id=id)
        if done is None and await self.exists(tenant_id, id):
            raise ConflictError("the task needs another one that is not done yet")
        return done or await self._db.fetch_one(COMPLETE, tenant_id, id=id)

    async def claim_reminders(
        self, tenant_id: str, *, now: datetime, limit: int = 100
    ) -> list[Task]:
        """Give the tasks whose reminder is due, each to exactly one of many workers."""
        return await self._db.fetch_all(
            CLAIM_REMINDERS, tenant_id, now=now, limit=limit
        )
