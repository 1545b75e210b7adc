"""The people a tenant serves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any, Required

from pydantic import Field
from typing_extensions import TypedDict, Unpack

from thea_store.assistant.conversations import Conversation
from thea_store.assistant.events.repository import Event
from thea_store.assistant.messages import Message
from thea_store.assistant.notes import Note
from thea_store.errors import InvalidArgumentError
from thea_store.queries.arguments import Id, JsonObject, Moment, Name, Timezone, check, split_patch
from thea_store.queries.file import SqlFile
from thea_store.repositories.base import Page, Record, Repository, Stored, common, listed

__all__ = ["ImportedUser", "TelegramProfile", "User", "UserChanges", "UserFilters", "UserOverview", "Users"]


class User(Stored, frozen=True):
    """A person who uses the service."""

    telegram_id: int
    username: str | None
    first_name: str | None
    last_name: str | None
    language_code: str | None
    timezone: str
    is_active: bool
    preferences: dict[str, Any]
    last_activity: datetime | None


class UserOverview(Record, frozen=True):
    """A user with the newest of what hangs on them, the newest first."""

    user: User
    notes: list[Note]
    events: list[Event]
    conversations: list[Conversation]
    messages: list[Message]


class UserChanges(TypedDict, total=False):
    """What `update` may change."""

    telegram_id: Id
    username: Name | None
    first_name: Name | None
    last_name: Name | None
    language_code: Name | None
    timezone: Timezone
    is_active: bool
    preferences: JsonObject
    last_activity: Moment | None


class UserFilters(TypedDict, total=False):
    """What `get_all`, `iterate` and `count` may ask for; `None` asks for nothing."""

    is_active: bool | None
    language_code: Name | None
    active_since: Moment | None


class _NewUser(TypedDict, total=False):
    telegram_id: Required[Id]
    username: Name | None
    first_name: Name | None
    last_name: Name | None
    language_code: Name | None
    timezone: Timezone
    preferences: JsonObject | None


class TelegramProfile(TypedDict, total=False):
    """What Telegram tells of a person; `None` is a field that they left empty."""

    username: Name | None
    first_name: Name | None
    last_name: Name | None
    language_code: Name | None


class ImportedUser(TypedDict):
    """Somebody who wrote in an imported chat."""

    telegram_id: Id
    first_name: Name | None


class _Piece(Record, frozen=True):
    """The user, or one of what hangs on them."""

    kind: str
    document: dict[str, Any]


_Some = Annotated[int, Field(ge=0, le=1000)]

SQL = SqlFile("users")
COMMON = common(
    SQL,
    User,
    rows=_NewUser,
    changes=UserChanges,
    filters=UserFilters,
)

GET_BY_TELEGRAM_ID = SQL.query("get_by_telegram_id", User, telegram_id=Id)
GET_OR_CREATE = SQL.query("get_or_create_from_telegram", User, telegram_id=Id, profile=TelegramProfile)
GET_WITH = SQL.query("get_with", _Piece, id=Id, notes=_Some, events=_Some, conversations=_Some, messages=_Some)
IMPORT_MANY = SQL.query("import_many", int, rows=list[ImportedUser])
UPDATE_LAST_ACTIVITY = SQL.query("update_last_activity", User, id=Id, at=Moment | None)
GET_PREFERENCES = SQL.query("get_preferences", dict[str, Any], id=Id)
MERGE_PREFERENCES = SQL.query("merge_preferences", dict[str, Any], id=Id, patch=JsonObject, removed=list[str])


# Whose texts may be sealed, by the table.
_SEALED = {"thea.notes": "notes", "thea.message_history": "messages"}


class Users(Repository[User]):
    """The users of a tenant."""

    common = COMMON

    async def get_all(
        self,
        tenant_id: str,
        *,
        newest_first: bool = True,
        limit: int = 50,
        cursor: str | None = None,
        include_deleted: bool = False,
        **filters: Unpack[UserFilters],
    ) -> Page[User]:
        """A page of users by the time they were made, from after `cursor`; empty past the end."""
        return await self._page(
            tenant_id,
            filters,
            newest_first=newest_first,
            limit=limit,
            cursor=cursor,
            include_deleted=include_deleted,
        )

    def iterate(self, tenant_id: str, *, batch_size: int = 500, **filters: Unpack[UserFilters]) -> AsyncIterator[User]:
        """All users, the oldest first, read in batches; no connection is held in between."""
        return self._iterate(tenant_id, filters, batch_size)

    async def count(self, tenant_id: str, **filters: Unpack[UserFilters]) -> int:
        """How many users there are that are not deleted."""
        return await self._count(tenant_id, filters)

    async def create(
        self,
        tenant_id: str,
        *,
        telegram_id: int,
        username: str | None = None,
        first_name: str | None = None,
        last_name: str | None = None,
        language_code: str | None = None,
        timezone: str = "UTC",
        preferences: dict[str, Any] | None = None,
    ) -> User:
        """The new user; `DuplicateError` when the Telegram id is taken, by a deleted user too."""
        return await self._create(
            tenant_id,
            {
                "telegram_id": telegram_id,
                "username": username,
                "first_name": first_name,
                "last_name": last_name,
                "language_code": language_code,
                "timezone": timezone,
                "preferences": preferences,
            },
        )

    async def update(self, tenant_id: str, id: int, /, **changes: Unpack[UserChanges]) -> User:  # noqa: A002
        """The user with the given fields changed; `None` is a value. `NotFoundError` when there is none."""
        return await self._update(tenant_id, id, changes)

    async def get_by_telegram_id(self, tenant_id: str, telegram_id: int) -> User | None:
        """The user with this Telegram id, or `None`."""
        return await self._db.fetch_optional(GET_BY_TELEGRAM_ID, tenant_id, telegram_id=telegram_id)

    async def get_or_create_from_telegram(
        self, tenant_id: str, telegram_id: int, **profile: Unpack[TelegramProfile]
    ) -> User:
        """The user with this Telegram id, with the given profile fields refreshed.

        A field that is given as `None` is emptied, one that is not given stays as it is. The user is made where
        there is none, however many ask at once; a deleted one is restored with all that the delete hid. Telegram
        does not tell the timezone: a new user's is UTC until `update(timezone=…)`, and recurring events follow it.
        """
        try:
            return await self._db.fetch_one(GET_OR_CREATE, tenant_id, telegram_id=telegram_id, profile=profile)
        except InvalidArgumentError as error:
            raise InvalidArgumentError(error.argument.removeprefix("profile."), error.reason) from error.__cause__

    async def update_last_activity(self, tenant_id: str, user_id: int, at: datetime | None = None) -> User:
        """The user, active at that moment (default: now); an earlier one changes nothing."""
        check("user_id", user_id, Id)
        return await self._db.fetch_one(UPDATE_LAST_ACTIVITY, tenant_id, id=user_id, at=at)

    async def get_with(
        self,
        tenant_id: str,
        user_id: int,
        *,
        notes: int = 0,
        events: int = 0,
        conversations: int = 0,
        messages: int = 0,
    ) -> UserOverview | None:
        """The user with up to so many (0 to 1000) of each, in one round trip; `None` when there is no such user."""
        check("user_id", user_id, Id)
        pieces = await self._db.fetch_all(
            GET_WITH,
            tenant_id,
            id=user_id,
            notes=notes,
            events=events,
            conversations=conversations,
            messages=messages,
        )
        for table, kind in _SEALED.items():
            await self._db.open_documents(tenant_id, table, [each.document for each in pieces if each.kind == kind])
        return _overview(pieces)

    async def get_preferences(self, tenant_id: str, user_id: int) -> dict[str, Any]:
        """The user's preferences; `NotFoundError` when there is no such user."""
        check("user_id", user_id, Id)
        return await self._db.fetch_value(GET_PREFERENCES, tenant_id, id=user_id)

    async def merge_preferences(self, tenant_id: str, user_id: int, patch: Mapping[str, Any]) -> dict[str, Any]:
        """The preferences after the keys of `patch` were set, atomically; a `None` removes its key."""
        check("user_id", user_id, Id)
        kept, removed = split_patch("patch", patch)
        return await self._db.fetch_value(MERGE_PREFERENCES, tenant_id, id=user_id, patch=kept, removed=removed)

    async def import_many(self, tenant_id: str, rows: Iterable[ImportedUser]) -> int:
        """Make the users that are not there; how many were new. A deleted one stays deleted."""
        return len(await self._db.fetch_all(IMPORT_MANY, tenant_id, rows=listed(rows)))


def _overview(pieces: Iterable[_Piece]) -> UserOverview | None:
    parts: dict[str, list[dict[str, Any]]] = {kind: [] for kind in UserOverview.model_fields}
    for piece in pieces:
        parts[piece.kind].append(piece.document)
    for user in parts.pop("user"):
        overview = UserOverview.model_validate({"user": user, **parts})
        # The statement's branches may come in any order, so each list is put in its own.
        for rows in (overview.notes, overview.events, overview.conversations, overview.messages):
            rows.sort(key=lambda row: (row.created_at, row.id), reverse=True)
        return overview
    return None
