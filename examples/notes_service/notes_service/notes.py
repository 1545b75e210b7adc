"""Notes: kept, found again by their words and tags, changed, deleted."""

from __future__ import annotations

from typing import Annotated

import thea_store
from fastapi import APIRouter, Body, Query, status
from pydantic import BaseModel, ConfigDict, with_config
from thea_store import Note, NoteHit, NotFoundError, Page

from notes_service.dependencies import CurrentStore, Tenant

__all__ = ["router"]

router = APIRouter(prefix="/notes", tags=["notes"])


class NewNote(BaseModel, extra="forbid"):
    """A note to keep."""

    user_id: int
    content: str
    title: str | None = None
    category: str | None = None
    tags: list[str] = []
    is_pinned: bool = False


@with_config(ConfigDict(extra="forbid"))
class NoteChanges(thea_store.NoteChanges, total=False):
    """Fields of a note to change. Another field is refused here: left to itself, pydantic drops it without a word."""


@router.post("", status_code=status.HTTP_201_CREATED)
async def create_note(store: CurrentStore, tenant: Tenant, new: NewNote) -> Note:
    """Keep a note."""
    return await store.notes.create(
        tenant,
        new.user_id,
        new.content,
        title=new.title,
        category=new.category,
        tags=new.tags,
        is_pinned=new.is_pinned,
    )


@router.get("")
async def list_notes(
    *,
    store: CurrentStore,
    tenant: Tenant,
    user_id: int,
    category: str | None = None,
    tags: Annotated[list[str] | None, Query(description="Notes with any of these.")] = None,
    limit: int = 50,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.")] = None,
) -> Page[Note]:
    """A page of a user's notes, the newest first."""
    return await store.notes.get_all(tenant, user_id=user_id, category=category, tags=tags, limit=limit, cursor=cursor)


@router.get("/search")
async def search_notes(store: CurrentStore, tenant: Tenant, user_id: int, q: str, limit: int = 20) -> list[NoteHit]:
    """A user's notes that answer a query as one types it into a web search, best first."""
    return await store.notes.search(tenant, user_id, q, limit=limit)


@router.get("/{note_id}")
async def get_note(store: CurrentStore, tenant: Tenant, note_id: int) -> Note:
    """One note."""
    note = await store.notes.get_by_id(tenant, note_id)
    if note is None:
        raise NotFoundError("there is no such note")
    return note


@router.patch("/{note_id}")
async def change_note(
    store: CurrentStore, tenant: Tenant, note_id: int, changes: Annotated[NoteChanges, Body()]
) -> Note:
    """Change the fields that are given; null is a value, a field that is not given stays."""
    return await store.notes.update(tenant, note_id, **changes)


@router.delete("/{note_id}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_note(store: CurrentStore, tenant: Tenant, note_id: int) -> None:
    """Delete a note."""
    await store.notes.delete(tenant, note_id)


@router.post("/{note_id}/tags")
async def add_tags(
    store: CurrentStore, tenant: Tenant, note_id: int, tags: Annotated[list[str], Body(embed=True)]
) -> Note:
    """Put tags after those that the note has, each once, whoever else does so at the same time."""
    return await store.notes.add_tags(tenant, note_id, tags)
