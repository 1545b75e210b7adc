"""What repositories return: records, rows, and pages of them."""

from __future__ import annotations

from datetime import datetime
from typing import Generic, TypeVar

from pydantic import BaseModel, ConfigDict
from typing_extensions import TypedDict

__all__ = ["Batches", "Page", "Paging", "Record", "Stored"]

T = TypeVar("T")


class Record(BaseModel, frozen=True):
    """A frozen row or result.

    Each record says `frozen=True` at its class: type checkers do not look at a base's `model_config`.
    """

    model_config = ConfigDict(extra="forbid")


class Stored(Record, frozen=True):
    """The columns that every table has. Times are in UTC."""

    tenant_id: str
    id: int
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None


class Page(Record, Generic[T], frozen=True):
    """One page of rows; `next_cursor` is `None` on the last one."""

    items: list[T]
    next_cursor: str | None


class Paging(TypedDict, total=False):
    """How `get_all` goes through the rows, beside its filters."""

    newest_first: bool
    limit: int
    """From 1 to 1000; 50 where it is not given."""
    cursor: str | None
    """The `next_cursor` of the page before."""
    include_deleted: bool


class Batches(TypedDict, total=False):
    """How `iterate` goes through the rows, beside its filters."""

    batch_size: int
    """Rows of one statement, from 1 to 1000; 500 where it is not given."""
