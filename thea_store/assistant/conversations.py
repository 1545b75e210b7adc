"""The sessions of users, each with the state of its state machine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime
from typing import Any, Required

from typing_extensions import TypedDict, Unpack

from thea_store.database import Executor
from thea_store.errors import ConflictError, DuplicateError, NotFoundError
from thea_store.queries.arguments import Id, JsonObject, Key, Limit, Moment, check, split_patch
from thea_store.queries.file import SqlFile
from thea_store.repositories.base import Page, Record, Repository, Stored, common, listed

__all__ = [
    "Conversation",
    "ConversationChanges",
    "ConversationFilters",
    "Conversations",
    "ImportedSession",
    "Progress",
    "begin_anew",
    "session_is_taken",
]


class Conversation(Stored, frozen=True):
    """A session of a user; `last_message_id` is the channel's number of its newest message, or our id of it."""

    user_id: int
    session_id: str
    current_state: str
    context_data: dict[str, Any]
    last_message_id: int | None
    is_active: bool
    started_at: datetime
    last_activity: datetime


class ConversationChanges(TypedDict, total=False):
    """What `update` may change."""

    session_id: Key
    current_state: Key
    context_data: JsonObject
    is_active: bool
    last_message_id: Id | None
    last_activity: Moment


class ConversationFilters(TypedDict, total=False):
    """What `get_all`, `iterate` and `count` may ask for; `None` asks for nothing."""

    user_id: Id | None
    current_state: Key | None
    is_active: bool | None


class _NewConversation(TypedDict, total=False):
    user_id: Required[Id]
    session_id: Required[Key]
    current_state: Key
    context_data: JsonObject | None


class ImportedSession(TypedDict):
    """A session of an imported chat, and the span of time of its messages."""

    telegram_id: Id
    session_id: Key
    started_at: Moment
    last_activity: Moment


class Progress(TypedDict):
    """A conversation that got messages, and their span of time; None where it only lost some."""

    id: Id
    started_at: Moment | None
    last_activity: Moment | None


class LockedSession(Record, frozen=True):
    """The conversation of a session."""

    id: int
    session_id: str


# How many conversations one statement closes, so that none holds its locks for long.
_BATCH = 1000

SQL = SqlFile("conversations")
COMMON = common(
    SQL,
    Conversation,
    rows=_NewConversation,
    changes=ConversationChanges,
    filters=ConversationFilters,
)

GET_BY_SESSION_ID = SQL.query("get_by_session_id", Conversation, session_id=Key)
GET_ACTIVE = SQL.query("get_active", Conversation, user_id=Id)
GET_INACTIVE_SINCE = SQL.query("get_inactive_since", Conversation, since=Moment, limit=Limit)
CLOSE_INACTIVE = SQL.query("close_inactive", int, since=Moment, batch_size=int)
CLOSE_INACTIVE_BY_POLICY = SQL.query("close_inactive_by_policy", int, limit=Limit)
OPEN = SQL.query("open", Conversation, user_id=Id, session_id=Key)
BEGIN_ANEW = SQL.query("begin_anew", int, user_id=Id, session_id=Key)
UPDATE_STATE = SQL.query(
    "update_state",
    Conversation,
    id=Id,
    new_state=Key,
    patch=JsonObject,
    removed=list[str],
    expected_state=Key | None,
)
CLOSE = SQL.query("close", Conversation, id=Id)
IMPORT_MANY = SQL.query("import_many", int, rows=list[ImportedSession])
LOCK_SESSIONS = SQL.query("lock_sessions", LockedSession, rows=list[ImportedSession])
ADVANCE = SQL.query("advance", int, rows=list[Progress])


async def begin_anew(db: Executor, tenant_id: str, user_id: int, session_id: str) -> None:
    """Bring back the user's deleted conversation of this session: idle, with an empty context, without its messages."""
    for deleted in await db.fetch_all(BEGIN_ANEW, tenant_id, user_id=user_id, session_id=session_id):
        await db.fetch_optional(COMMON.restore, tenant_id, id=deleted)


def session_is_taken() -> DuplicateError:
    """The error of a session that belongs to another user of the tenant."""
    return DuplicateError("session_id: this session belongs to another user of the tenant", ["session_id"])


class Conversations(Repository[Conversation]):
    """The conversations of a tenant."""

    common = COMMON

    async def get_all(
        self,
        tenant_id: str,
        *,
        newest_first: bool = True,
        limit: int = 50,
        cursor: str | None = None,
        include_deleted: bool = False,
        **filters: Unpack[ConversationFilters],
    ) -> Page[Conversation]:
        """A page of conversations by the time they were made, from after `cursor`; empty past the end."""
        return await self._page(
            tenant_id,
            filters,
            newest_first=newest_first,
            limit=limit,
            cursor=cursor,
            include_deleted=include_deleted,
        )

    def iterate(
        self, tenant_id: str, *, batch_size: int = 500, **filters: Unpack[ConversationFilters]
    ) -> AsyncIterator[Conversation]:
        """All conversations, the oldest first, read in batches; no connection is held in between."""
        return self._iterate(tenant_id, filters, batch_size)

    async def count(self, tenant_id: str, **filters: Unpack[ConversationFilters]) -> int:
        """How many conversations there are that are not deleted."""
        return await self._count(tenant_id, filters)

    async def create(
        self,
        tenant_id: str,
        user_id: int,
        session_id: str,
        *,
        current_state: str = "idle",
        context_data: dict[str, Any] | None = None,
    ) -> Conversation:
        """The new conversation; `DuplicateError` when the session has one, `InvalidReferenceError` without the user."""
        row = {
            "user_id": user_id,
            "session_id": session_id,
            "current_state": current_state,
            "context_data": context_data,
        }
        return await self._create(tenant_id, row)

    async def update(
        self,
        tenant_id: str,
        id: int,  # noqa: A002
        /,
        **changes: Unpack[ConversationChanges],
    ) -> Conversation:
        """The conversation with the given fields changed; `NotFoundError` when there is none."""
        return await self._update(tenant_id, id, changes)

    async def get_by_session_id(self, tenant_id: str, session_id: str) -> Conversation | None:
        """The conversation of this session, open or closed, or `None`."""
        return await self._db.fetch_optional(GET_BY_SESSION_ID, tenant_id, session_id=session_id)

    async def get_or_create(self, tenant_id: str, user_id: int, session_id: str) -> Conversation:
        """The open conversation of this session, however many ask at once.

        A closed one is opened again in the state and with the context that it was closed in. A deleted one begins
        anew: idle, with an empty context; its old messages stay deleted, and only `restore`, called instead of this,
        brings it back as it was. `DuplicateError` when the session belongs to another user,
        `InvalidReferenceError` when there is no such user.
        """
        asked = {"user_id": user_id, "session_id": session_id}
        if conversation := await self._db.fetch_optional(OPEN, tenant_id, **asked):
            return conversation

        async def open_anew(db: Executor) -> Conversation:
            await begin_anew(db, tenant_id, user_id, session_id)
            if conversation := await db.fetch_optional(OPEN, tenant_id, **asked):
                return conversation
            raise session_is_taken()

        return await self._db.atomic(tenant_id, open_anew)

    async def update_state(
        self,
        tenant_id: str,
        conversation_id: int,
        new_state: str,
        context_update: Mapping[str, Any] | None = None,
        *,
        expected_state: str | None = None,
    ) -> Conversation:
        """The conversation in its new state, with `context_update` merged into its context.

        A `None` in the update removes its key. With `expected_state` it is a compare-and-set:
        `ConflictError` when the conversation is in another state. `NotFoundError` when there is none.
        """
        check("conversation_id", conversation_id, Id)
        patch, removed = split_patch("context_update", context_update if context_update is not None else {})
        changed = await self._db.fetch_all(
            UPDATE_STATE,
            tenant_id,
            id=conversation_id,
            new_state=new_state,
            patch=patch,
            removed=removed,
            expected_state=expected_state,
        )
        if not changed and expected_state is not None and await self.exists(tenant_id, conversation_id):
            raise ConflictError("the conversation is no longer in the expected state: read it again")
        if not changed:
            raise NotFoundError("conversations: this tenant has no such row")
        return changed[0]

    async def get_active(self, tenant_id: str, user_id: int) -> list[Conversation]:
        """The user's open conversations, the one active last first; empty when all are closed."""
        return await self._db.fetch_all(GET_ACTIVE, tenant_id, user_id=user_id)

    async def close_conversation(self, tenant_id: str, conversation_id: int) -> Conversation:
        """The conversation, closed; `NotFoundError` when there is none.

        It keeps its state and its context, and goes on with them when a message opens it again.
        """
        check("conversation_id", conversation_id, Id)
        return await self._db.fetch_one(CLOSE, tenant_id, id=conversation_id)

    async def get_inactive_since(self, tenant_id: str, since: datetime, *, limit: int = 100) -> list[Conversation]:
        """The open conversations whose last activity was before `since`, the longest silent first."""
        return await self._db.fetch_all(GET_INACTIVE_SINCE, tenant_id, since=since, limit=limit)

    async def close_inactive(self, tenant_id: str, since: datetime) -> int:
        """Close the open conversations whose last activity was before `since`, in batches; how many there were.

        Each keeps its state and its context, and goes on with them when a message opens it again: where a new
        message should begin with nothing, set another state first, or delete the conversation. Outside a transaction
        each batch commits by itself.
        """
        total = 0
        while True:
            closed = await self._db.fetch_all(CLOSE_INACTIVE, tenant_id, since=since, batch_size=_BATCH)
            total += len(closed)
            if len(closed) < _BATCH:
                return total

    async def close_inactive_by_policy(self, tenant_id: str, *, limit: int = 500) -> int:
        """Close open conversations that were inactive for as long as the tenant's policy says; how many there were.

        The policy is that of `store.retention` for conversations and the rule `inactive`: a day, unless it is changed.
        The time is the server's. The longest silent are closed first, up to `limit`.
        """
        return len(await self._db.fetch_all(CLOSE_INACTIVE_BY_POLICY, tenant_id, limit=limit))

    async def import_many(self, tenant_id: str, rows: Iterable[ImportedSession]) -> int:
        """Make the conversations of these sessions that are not there, closed; how many were new."""
        return len(await self._db.fetch_all(IMPORT_MANY, tenant_id, rows=listed(rows)))

    async def lock_sessions(self, tenant_id: str, rows: Iterable[ImportedSession]) -> dict[str, int]:
        """The conversation of each session, locked until the transaction ends; deleted ones are missing."""
        locked = await self._db.fetch_all(LOCK_SESSIONS, tenant_id, rows=listed(rows))
        return {session.session_id: session.id for session in locked}

    async def advance(self, tenant_id: str, rows: Iterable[Progress]) -> int:
        """Widen the conversations' spans to include these, and look up their newest message; how many moved."""
        return len(await self._db.fetch_all(ADVANCE, tenant_id, rows=listed(rows)))
