"""Every exchange of a conversation, with what the language model made of it (table `message_history`)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from datetime import datetime
from typing import Annotated, Any, Required, cast, get_type_hints

from pydantic import Field
from typing_extensions import TypedDict, Unpack

from thea_store.assistant.conversations import begin_anew, session_is_taken
from thea_store.assistant.message_import import (
    SECRET,
    Exchange,
    ImportedAnswer,
    ImportedTurn,
    NewTurn,
    PlacedAnswer,
    PlacedTurn,
    StoredAnswer,
    StoredExchange,
    those_to_write,
)
from thea_store.database import Executor
from thea_store.errors import InvalidArgumentError
from thea_store.queries.arguments import (
    Confidence,
    Count,
    Id,
    JsonContainer,
    JsonObject,
    Key,
    Limit,
    LongText,
    Milliseconds,
    Moment,
    check,
)
from thea_store.queries.binding import bind
from thea_store.queries.file import Query, SqlFile
from thea_store.repositories.base import Page, Record, Repository, RowKey, Stored, common, listed

__all__ = [
    "Message",
    "MessageChanges",
    "MessageDetails",
    "MessageFilters",
    "MessageStatistics",
    "Messages",
    "PerformanceReport",
]


class Message(Stored, frozen=True):
    """One exchange: what the user wrote and what the assistant answered."""

    user_id: int
    conversation_id: int
    message_id: int | None
    user_message: Annotated[str, SECRET]
    bot_response: Annotated[str | None, SECRET]
    intent_detected: str | None
    entities_extracted: Annotated[dict[str, Any] | list[Any] | None, SECRET]
    confidence_score: float | None
    processing_time_ms: int | None


class MessageStatistics(Record, frozen=True):
    """Totals over messages; averages are `None` over nothing. The time is in milliseconds."""

    total_messages: int
    unique_intents: int
    intent_distribution: dict[str, int]
    avg_confidence: float | None
    avg_processing_time_ms: float | None


class PerformanceReport(Record, frozen=True):
    """How the messages of a span of time were handled.

    `slow_queries`, `low_confidence` and `failed_detections` count messages (the last: without an
    intent); the percentiles of the processing time are in milliseconds, `None` over nothing.
    """

    total_messages: int
    messages_per_hour: float
    slow_queries: int
    low_confidence: int
    failed_detections: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


class MessageDetails(TypedDict, total=False):
    """What a message may have besides what the user wrote."""

    bot_response: Annotated[LongText | None, SECRET]
    message_id: Id | None
    intent_detected: Key | None
    entities_extracted: Annotated[JsonContainer | None, SECRET]
    confidence_score: Confidence | None
    processing_time_ms: Milliseconds | None


class MessageChanges(MessageDetails, total=False):
    """What `update` may change."""

    user_message: Annotated[LongText, SECRET]


class MessageFilters(TypedDict, total=False):
    """What `get_all`, `iterate` and `count` may ask for; `None` asks for nothing.

    `message_id` is the channel's number, the same in several conversations.

    `created_from` includes its moment, `created_before` does not.
    """

    user_id: Id | None
    conversation_id: Id | None
    intent: Key | None
    message_id: Id | None
    created_from: Moment | None
    created_before: Moment | None


class _NewMessage(MessageDetails, total=False):
    user_id: Required[Id]
    conversation_id: Required[Id]
    user_message: Required[Annotated[LongText, SECRET]]
    created_at: Moment | None


_Hours = Annotated[float, Field(gt=0, le=1_000_000, allow_inf_nan=False)]
_Keep = Annotated[int, Field(ge=1, le=1_000_000)]

# How many old messages one statement removes, so that none holds its locks for long.
_BATCH = 1000

SQL = SqlFile("messages")
COMMON = common(
    SQL,
    Message,
    rows=_NewMessage,
    changes=MessageChanges,
    filters=MessageFilters,
)

GET_CONTEXT_WINDOW = SQL.query("get_context_window", Message, session_id=Key, limit=Limit)
GET_BY_MESSAGE_ID = SQL.query("get_by_message_id", Message, session_id=Key, message_id=Id)
_DETAILS = get_type_hints(MessageDetails, include_extras=True)
ADD = SQL.query(
    "add",
    Message,
    user_id=Id,
    session_id=Key,
    user_message=Annotated[LongText, SECRET],
    sealed=JsonObject | None,
    **_DETAILS,
)
KEY_OF_ROW = cast("Query[RowKey]", COMMON.row_key)
PRUNE = SQL.query("prune", int, conversation_id=Id, created_at=Moment, id=Id, keep=_Keep)
COUNT_BY_DAY = SQL.query(
    "count_by_day", int, intent=Key | None, created_from=Moment | None, created_before=Moment | None
)
GET_STATISTICS = SQL.query("get_statistics", MessageStatistics)
GET_STATISTICS_OF_USER = SQL.query("get_statistics_of_user", MessageStatistics, user_id=Id)
ANALYZE_PERFORMANCE = SQL.query(
    "analyze_performance", PerformanceReport, hours=_Hours, slow_ms=Count, low_confidence=Confidence
)
PLAN_FOR_SIZES = SQL.query("plan_for_sizes", None)
DELETE_OLD = SQL.query("delete_old", int, older_than=Moment, batch_size=int)
IMPORT_MANY = SQL.query("import_many", ImportedTurn, rows=list[PlacedTurn])
GET_ANSWERS = SQL.query("get_answers", StoredExchange, rows=list[Exchange])
FIND_ANSWERS = SQL.query("find_answers", StoredAnswer, rows=list[ImportedAnswer])
TAKE_BACK_ANSWERS = SQL.query("take_back_answers", int, rows=list[PlacedAnswer])


class Messages(Repository[Message]):
    """The message history of a tenant."""

    common = COMMON

    async def get_all(
        self,
        tenant_id: str,
        *,
        newest_first: bool = True,
        limit: int = 50,
        cursor: str | None = None,
        include_deleted: bool = False,
        **filters: Unpack[MessageFilters],
    ) -> Page[Message]:
        """A page of messages by the time they were made, from after `cursor`; empty past the end."""
        return await self._page(
            tenant_id,
            filters,
            newest_first=newest_first,
            limit=limit,
            cursor=cursor,
            include_deleted=include_deleted,
        )

    def iterate(
        self, tenant_id: str, *, batch_size: int = 500, **filters: Unpack[MessageFilters]
    ) -> AsyncIterator[Message]:
        """All messages, the oldest first, read in batches; no connection is held in between."""
        return self._iterate(tenant_id, filters, batch_size)

    async def count(self, tenant_id: str, **filters: Unpack[MessageFilters]) -> int:
        """How many messages there are that are not deleted.

        Over the whole tenant, by `intent` and time alone, it reads sums where a worker keeps them.
        """
        asked = self._asked(filters)
        if any(value is not None for name, value in asked.items() if name not in COUNT_BY_DAY.parameters):
            return await self._db.fetch_value(COMMON.count, tenant_id, **asked)
        of_days = {name: value for name, value in asked.items() if name in COUNT_BY_DAY.parameters}
        return await self._db.fetch_value(COUNT_BY_DAY, tenant_id, **of_days)

    async def create(
        self,
        tenant_id: str,
        user_id: int,
        conversation_id: int,
        user_message: str,
        *,
        created_at: datetime | None = None,
        **details: Unpack[MessageDetails],
    ) -> Message:
        """The new message of an existing conversation, which does not move; for a live exchange use `add_message`.

        `InvalidReferenceError` when the user has no such conversation, `DuplicateError` when it has a message with
        this `message_id`.
        """
        row = {
            "user_id": user_id,
            "conversation_id": conversation_id,
            "user_message": user_message,
            "created_at": created_at,
            **details,
        }
        return await self._create(tenant_id, row)

    async def update(self, tenant_id: str, id: int, /, **changes: Unpack[MessageChanges]) -> Message:  # noqa: A002
        """The message with the given fields changed; `NotFoundError` when there is none."""
        return await self._update(tenant_id, id, changes)

    async def add_message(
        self, tenant_id: str, user_id: int, session_id: str, *, user_message: str, **details: Unpack[MessageDetails]
    ) -> Message:
        """The new message, at the end of its session; or the one with this `message_id` that is there already.

        The session's conversation is made where there is none, and opened where it was closed. Where it was deleted,
        it begins anew: idle, with an empty context, and its old messages stay deleted. Its `last_activity` and
        `last_message_id` move. Within a conversation the order of `created_at` is the order of arrival, also for
        transactions that overlap: the next message waits until the transaction of the one before has ended.

        A message with this `message_id` that is there already is returned as it is, and nothing changes, except that
        a `bot_response` fills in one that was missing. So a delivery can be repeated, also after
        `OutcomeUnknownError`.

        `DuplicateError` when the session belongs to another user, `InvalidReferenceError` when there is no such user.
        """
        return await _add(self._db, tenant_id, user_id, session_id, _row(user_message, details))

    async def add_message_with_prune(
        self,
        tenant_id: str,
        user_id: int,
        session_id: str,
        *,
        user_message: str,
        keep: int = 50,
        **details: Unpack[MessageDetails],
    ) -> Message:
        """As `add_message`; the conversation then holds its newest `keep` messages, older ones are purged.

        The message that is returned is never purged, nor is any after it: where it was there already and is not among
        the newest, more than `keep` remain.
        """
        check("keep", keep, _Keep)
        row = _row(user_message, details)
        # So that a wrong argument is refused before a transaction begins.
        bind(ADD, tenant_id, {"user_id": user_id, "session_id": session_id, **row})

        async def add_and_prune(db: Executor) -> Message:
            added = await _add(db, tenant_id, user_id, session_id, row)
            await db.fetch_all(
                PRUNE,
                tenant_id,
                conversation_id=added.conversation_id,
                created_at=added.created_at,
                id=added.id,
                keep=keep,
            )
            return added

        return await self._db.atomic(tenant_id, add_and_prune)

    async def get_by_message_id(self, tenant_id: str, session_id: str, message_id: int) -> Message | None:
        """The message of this session with the channel's number `message_id`, or `None`."""
        return await self._db.fetch_optional(GET_BY_MESSAGE_ID, tenant_id, session_id=session_id, message_id=message_id)

    async def get_context_window(self, tenant_id: str, session_id: str, limit: int = 50) -> list[Message]:
        """The newest messages of the session, the oldest of them first; empty when there is no such session."""
        return await self._db.fetch_all(GET_CONTEXT_WINDOW, tenant_id, session_id=session_id, limit=limit)

    async def get_by_intent(
        self, tenant_id: str, intent: str, *, user_id: int | None = None, limit: int = 50
    ) -> list[Message]:
        """The newest messages with this intent, of one user or of all; empty when there are none."""
        check("intent", intent, Key)
        check("limit", limit, Limit)
        asked = self._asked({"intent": intent, "user_id": user_id})
        return await self._db.fetch_all(
            COMMON.get_all,
            tenant_id,
            **asked,
            newest_first=True,
            include_deleted=False,
            after_at=None,
            after_id=None,
            limit=limit,
        )

    async def get_statistics(self, tenant_id: str, user_id: int | None = None) -> MessageStatistics:
        """The totals of one user's messages, or of all; of all, it reads sums where a worker keeps them."""
        if user_id is None:
            return await self._db.fetch_one(GET_STATISTICS, tenant_id)
        return await self._db.fetch_one(GET_STATISTICS_OF_USER, tenant_id, user_id=user_id)

    async def analyze_performance(
        self, tenant_id: str, hours: float = 24, *, slow_ms: int = 1000, low_confidence: float = 0.5
    ) -> PerformanceReport:
        """How the messages of the last `hours` were handled; slow is above `slow_ms`, low below `low_confidence`."""
        return await self._db.fetch_one(
            ANALYZE_PERFORMANCE, tenant_id, hours=hours, slow_ms=slow_ms, low_confidence=low_confidence
        )

    async def delete_old_messages(self, tenant_id: str, older_than: datetime) -> int:
        """Purge the messages from before `older_than`, in batches; how many there were.

        Outside a transaction each batch commits by itself.
        """
        total = 0
        while True:
            removed = await self._db.fetch_all(DELETE_OLD, tenant_id, older_than=older_than, batch_size=_BATCH)
            total += len(removed)
            if len(removed) < _BATCH:
                return total

    async def import_many(self, tenant_id: str, rows: Iterable[NewTurn]) -> list[ImportedTurn]:
        """Add the exchanges that their conversations do not hold yet, by `message_id`, and answers to those they do.

        Returns what was written: empty when all of it was there. An answer that continues the stored
        one replaces it; what was deleted, or has another answer, stays as it is. The conversations must
        be locked (`Conversations.lock_sessions`), or two imports at once could both add an exchange.
        """
        turns = listed(rows)
        if await self._db.keys_of(tenant_id) is not None:
            asked = [{"conversation_id": turn["conversation_id"], "message_id": turn["message_id"]} for turn in turns]
            turns = those_to_write(turns, await self._db.fetch_all(GET_ANSWERS, tenant_id, rows=asked))
        return await self._db.fetch_all(IMPORT_MANY, tenant_id, rows=turns)

    async def find_answers(self, tenant_id: str, rows: Iterable[ImportedAnswer]) -> list[StoredAnswer]:
        """Those of these messages that their chat has as answers, joined to a message or alone; empty when none is."""
        return await self._db.fetch_all(FIND_ANSWERS, tenant_id, rows=listed(rows))

    async def take_back_answers(self, tenant_id: str, rows: Iterable[PlacedAnswer]) -> list[int]:
        """Purge those of these that stand alone, but for where they are kept; the conversations that had them."""
        return await self._db.fetch_all(TAKE_BACK_ANSWERS, tenant_id, rows=listed(rows))

    async def plan_for_sizes(self, tenant_id: str) -> None:
        """Have what follows planned for the tables as they are then; for bulk writes into growing ones.

        PostgreSQL otherwise keeps the plans that it made when a table was small, also those that check the foreign
        keys, until the table is analyzed again.
        """
        await self._db.execute(PLAN_FOR_SIZES, tenant_id)


def _row(user_message: str, details: MessageDetails) -> dict[str, object]:
    for name in details.keys() - _DETAILS.keys():
        raise InvalidArgumentError(name, "is no argument of this call")
    return dict.fromkeys([*_DETAILS, "sealed"]) | {"user_message": user_message} | details


async def _add(db: Executor, tenant_id: str, user_id: int, session_id: str, row: Mapping[str, object]) -> Message:
    session = {"user_id": user_id, "session_id": session_id}
    if added := await db.fetch_optional(ADD, tenant_id, **session, **row):
        if added.bot_response is None and row["bot_response"] is not None:
            return await _answer(db, tenant_id, added.id, {**session, **row})
        return added

    async def add_again(db: Executor) -> Message:
        # The session is deleted, or somebody else made it, or added the message, after the statement had looked.
        await begin_anew(db, tenant_id, user_id, session_id)
        if added := await db.fetch_optional(ADD, tenant_id, **session, **row):
            return added
        raise session_is_taken()

    return await db.atomic(tenant_id, add_again)


async def _answer(db: Executor, tenant_id: str, message_id: int, row: Mapping[str, object]) -> Message:
    """The message that was there without an answer, with the answer sealed for its row."""

    async def with_its_key(db: Executor) -> Message:
        there = await db.fetch_one(KEY_OF_ROW, tenant_id, id=message_id)
        return await db.fetch_one(ADD, tenant_id, row_key=there.row_key, **row)

    return await db.atomic(tenant_id, with_its_key)
