"""What users want to remember, found again by words, tags and categories."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Required

from pydantic import AfterValidator, BeforeValidator, Field
from typing_extensions import TypedDict, Unpack

from thea_store.assistant.note_search import Term, parse
from thea_store.encryption import SealedIn
from thea_store.queries.arguments import Id, JsonObject, Key, Limit, LongText, Moment, Name, check
from thea_store.queries.file import SqlFile
from thea_store.repositories.base import Page, Record, Repository, Stored, common

__all__ = ["MARK_END", "MARK_START", "Note", "NoteChanges", "NoteFilters", "NoteHit", "Notes"]

MARK_START = "\ue000"
"""What stands before each word that matches in a snippet: a character of Unicode's private use.

Such characters are taken out of the text itself, so that a mark is always a mark. Escape the snippet for where it is
shown, then replace the marks: `html.escape(hit.snippet).replace(MARK_START, "<b>").replace(MARK_END, "</b>")`.
"""

MARK_END = "\ue001"
"""What stands behind each word that matches in a snippet."""


_Secret = SealedIn("thea.notes")


class Note(Stored, frozen=True):
    """What a user wants to remember. The tags are in the order in which they were given."""

    user_id: int
    title: Annotated[str | None, _Secret]
    content: Annotated[str, _Secret]
    category: str | None
    priority: int
    tags: list[str]
    is_pinned: bool
    reminder_datetime: datetime | None
    extra_data: Annotated[dict[str, Any] | None, _Secret]


class NoteHit(Note, frozen=True):
    """A note that answers a search.

    `rank` orders the hits of one search, and is 1 or more where the title alone answers it. `snippet` is the part of
    the content that answers, or the title where only that does, with each word between `MARK_START` and `MARK_END`;
    without marks it is the beginning of the content.
    """

    rank: float
    snippet: str


def _not_blank(tag: str) -> str:
    if not tag.strip():
        raise ValueError("must not be empty or blank")
    return tag


def _as_list(tags: object) -> object:
    return list(tags) if isinstance(tags, tuple) else tags


def _each_once(tags: list[str]) -> list[str]:
    return list(dict.fromkeys(tags))


_Tag = Annotated[Key, AfterValidator(_not_blank)]
_Tags = Annotated[list[_Tag], Field(max_length=100), BeforeValidator(_as_list), AfterValidator(_each_once)]
_Priority = Annotated[int, Field(ge=-(2**31), le=2**31 - 1)]


class NoteChanges(TypedDict, total=False):
    """What `update` may change."""

    title: Annotated[Name | None, _Secret]
    content: Annotated[LongText, _Secret]
    category: Key | None
    priority: _Priority
    tags: _Tags
    is_pinned: bool
    reminder_datetime: Moment | None
    extra_data: Annotated[JsonObject | None, _Secret]


class NoteFilters(TypedDict, total=False):
    """What `get_all`, `iterate` and `count` may ask for; `None` asks for nothing.

    A note with any of the `tags` is one that is asked for. `created_from` includes its moment, `created_before` does
    not.
    """

    user_id: Id | None
    category: Key | None
    is_pinned: bool | None
    tags: _Tags | None
    created_from: Moment | None
    created_before: Moment | None


class _NewNote(TypedDict, total=False):
    user_id: Required[Id]
    content: Required[Annotated[LongText, _Secret]]
    title: Annotated[Name | None, _Secret]
    category: Key | None
    priority: _Priority
    tags: _Tags
    is_pinned: bool
    reminder_datetime: Moment | None
    extra_data: Annotated[JsonObject | None, _Secret]


class TagCount(Record, frozen=True):
    """How many notes have a tag."""

    tag: str
    total: int


SQL = SqlFile("notes")
COMMON = common(SQL, Note, rows=_NewNote, changes=NoteChanges, filters=NoteFilters)

SEARCH = SQL.query("search", NoteHit, user_id=Id, groups=list[list[Term]], limit=Limit)
GET_BY_TAGS = SQL.query("get_by_tags", Note, user_id=Id, tags=_Tags, match_all=bool)
GET_BY_CATEGORY = SQL.query("get_by_category", Note, user_id=Id, category=Key)
TAG_COUNTS = SQL.query("tag_counts", TagCount, user_id=Id)
ADD_TAGS = SQL.query("add_tags", Note, note_id=Id, tags=_Tags)
REMOVE_TAGS = SQL.query("remove_tags", Note, note_id=Id, tags=_Tags)
TOGGLE_PIN = SQL.query("toggle_pin", Note, note_id=Id)
CLAIM_DUE_REMINDERS = SQL.query("claim_due_reminders", Note, now=Moment, limit=Limit)


class Notes(Repository[Note]):
    """The notes of a tenant."""

    common = COMMON

    async def get_all(
        self,
        tenant_id: str,
        *,
        newest_first: bool = True,
        limit: int = 50,
        cursor: str | None = None,
        include_deleted: bool = False,
        **filters: Unpack[NoteFilters],
    ) -> Page[Note]:
        """A page of notes by the time they were made, from after `cursor`; empty past the end."""
        return await self._page(
            tenant_id,
            filters,
            newest_first=newest_first,
            limit=limit,
            cursor=cursor,
            include_deleted=include_deleted,
        )

    def iterate(self, tenant_id: str, *, batch_size: int = 500, **filters: Unpack[NoteFilters]) -> AsyncIterator[Note]:
        """All notes, the oldest first, read in batches; no connection is held in between."""
        return self._iterate(tenant_id, filters, batch_size)

    async def count(self, tenant_id: str, **filters: Unpack[NoteFilters]) -> int:
        """How many notes there are that are not deleted."""
        return await self._count(tenant_id, filters)

    async def create(
        self,
        tenant_id: str,
        user_id: int,
        content: str,
        *,
        title: str | None = None,
        category: str | None = None,
        priority: int = 0,
        tags: Sequence[str] = (),
        is_pinned: bool = False,
        reminder_datetime: datetime | None = None,
        extra_data: dict[str, Any] | None = None,
    ) -> Note:
        """The new note; a tag given twice counts once. `InvalidReferenceError` when there is no such user."""
        row = {
            "user_id": user_id,
            "content": content,
            "title": title,
            "category": category,
            "priority": priority,
            "tags": tags,
            "is_pinned": is_pinned,
            "reminder_datetime": reminder_datetime,
            "extra_data": extra_data,
        }
        return await self._create(tenant_id, row)

    async def update(self, tenant_id: str, id: int, /, **changes: Unpack[NoteChanges]) -> Note:  # noqa: A002
        """The note with the given fields changed; `NotFoundError` when there is none."""
        return await self._update(tenant_id, id, changes)

    async def search(self, tenant_id: str, user_id: int, query: str, *, limit: int = 20) -> list[NoteHit]:
        """The user's notes that answer `query`, best first; empty when none does, or when it has no word.

        The query is what users type into a web search: words that must all be there in any Spanish or English form,
        whatever their accents and case, the last one perhaps not yet complete; `"an exact phrase"`; `-not`; `or`. Any
        text is a query; its first 256 characters and 16 words count. A note whose title answers comes before all
        others; among equals the newest is first. A note is searched up to 20,000 characters.
        """
        groups = parse(check("query", query, LongText))
        return await self._db.fetch_all(SEARCH, tenant_id, user_id=user_id, groups=groups, limit=limit)

    async def get_by_tags(
        self, tenant_id: str, user_id: int, tags: Sequence[str], *, match_all: bool = False
    ) -> list[Note]:
        """The user's notes with any of the tags, or with all of them, the newest first; empty for no tags.

        Tags are compared as they are, case and accents included.
        """
        return await self._db.fetch_all(GET_BY_TAGS, tenant_id, user_id=user_id, tags=tags, match_all=match_all)

    async def get_by_category(self, tenant_id: str, user_id: int, category: str) -> list[Note]:
        """The user's notes of this category, the newest first; empty when there are none."""
        return await self._db.fetch_all(GET_BY_CATEGORY, tenant_id, user_id=user_id, category=category)

    async def add_tags(self, tenant_id: str, note_id: int, tags: Sequence[str]) -> Note:
        """The note with these tags put after its own, each once, whoever else changes them at the same time.

        `InvalidArgumentError` beyond 100 tags, `NotFoundError` when there is no such note.
        """
        return await self._db.fetch_one(ADD_TAGS, tenant_id, note_id=note_id, tags=tags)

    async def remove_tags(self, tenant_id: str, note_id: int, tags: Sequence[str]) -> Note:
        """The note without these tags; one that it does not have is no error. `NotFoundError` without the note."""
        return await self._db.fetch_one(REMOVE_TAGS, tenant_id, note_id=note_id, tags=tags)

    async def toggle_pin(self, tenant_id: str, note_id: int) -> Note:
        """The note, pinned where it was not, and the other way round; `NotFoundError` when there is none."""
        return await self._db.fetch_one(TOGGLE_PIN, tenant_id, note_id=note_id)

    async def tag_counts(self, tenant_id: str, user_id: int) -> dict[str, int]:
        """How many of the user's notes have each tag, the most used first; empty when there are no tags."""
        counts = await self._db.fetch_all(TAG_COUNTS, tenant_id, user_id=user_id)
        return {count.tag: count.total for count in counts}

    async def claim_due_reminders(self, tenant_id: str, *, now: datetime | None = None, limit: int = 100) -> list[Note]:
        """The notes whose `reminder_datetime` has come, by that time, each to one of all workers, once.

        A note is due again when its `reminder_datetime` is changed. So is a note that is created or restored after
        that time, if nobody claimed it. The claim is committed before this returns; in a transaction it is committed,
        or undone, with it.
        """
        moment = datetime.now(UTC) if now is None else now
        claimed = await self._db.fetch_all(CLAIM_DUE_REMINDERS, tenant_id, now=moment, limit=limit)
        return sorted(claimed, key=lambda note: (note.reminder_datetime or moment, note.id))
