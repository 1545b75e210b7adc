"""Brings a chat export of Telegram Desktop into the store: streaming, in bulk, and a second time without effect.

Each person who wrote becomes a user, each person in each chat a session `telegram:<chat>:<person>`, and each
turn (see `thea_store.telegram.turns`) a message with the number and the time that it has in Telegram.

What the store holds already stays as it is: a user's profile, a message's text, and whatever was deleted
there. A new conversation is closed, because an export is of the past; the next message opens it again.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, tzinfo
from typing import Annotated, Any, get_args

from pydantic import Field

from thea_store.assistant.conversations import ImportedSession, Progress
from thea_store.assistant.message_import import ImportedAnswer, NewTurn, PlacedAnswer
from thea_store.assistant.users import ImportedUser
from thea_store.errors import ExportFileError
from thea_store.queries.arguments import Id, check, check_tenant
from thea_store.store import Store, StoreTransaction
from thea_store.telegram.export import ExportReader
from thea_store.telegram.skipped import Skipped
from thea_store.telegram.turns import Outcome, Turn, Turns

__all__ = ["ACTOR", "ImportReport", "TelegramImport"]

ACTOR = "import:telegram"
"""Who it was, in the audit log."""

_BatchSize = Annotated[int, Field(ge=1, le=10_000)]

# How many times a transaction is tried again after a conflict with another writer.
_RETRIES = 8

_LONGEST_NAME = 255

# A batch ends once it has more text than this, in characters: a longer one keeps the event loop, and takes more of the
# server's memory.
_BATCH_TEXT = 500_000


@dataclass
class ImportReport:
    """What an import has done so far."""

    messages: int = 0
    """Messages of the file that are part of a turn."""
    answers: int = 0
    """Those of them that the assistant sent."""
    turns: Counter[Outcome] = field(default_factory=Counter)
    """What became of the turns."""
    new_users: int = 0
    new_conversations: int = 0
    skipped: Skipped = field(default_factory=Skipped)
    """Messages left out, by the reasons of `ExportReader` and `Turns`, and where the first of each stand."""
    notes: Counter[str] = field(default_factory=Counter)
    """Messages taken on an assumption of `ExportReader`."""
    broken_chats: list[str] = field(default_factory=list)
    """The chats that could not be read, and why."""

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values, with all outcomes and without reasons that did not occur."""
        return {
            "messages": self.messages,
            "answers": self.answers,
            "exchanges": {outcome: self.turns[outcome] for outcome in get_args(Outcome)},
            "new_users": self.new_users,
            "new_conversations": self.new_conversations,
            "skipped": dict(self.skipped),
            "first_skipped": {
                reason: [place._asdict() for place in places] for reason, places in self.skipped.first.items()
            },
            "notes": dict(self.notes),
            "broken_chats": self.broken_chats,
        }


class TelegramImport:
    """One run over one file. `report` counts as it goes, so it tells what was done when the run fails, too."""

    def __init__(
        self,
        store: Store,
        tenant_id: str,
        path: str | os.PathLike[str],
        *,
        assistant: int | None = None,
        chats: Iterable[tuple[str | None, int]] = (),
        zone: tzinfo = UTC,
        batch_size: int = 1000,
    ) -> None:
        """`assistant` is the Telegram id of the assistant in chats that are not a bot's.

        `chats` and `zone` are those of `ExportReader`: which chats to import, and whose clock the times are of in
        an old export. Each `batch_size` turns (1 to 10,000) are one transaction. Raises `InvalidTenantError`,
        `InvalidArgumentError`, and `ExportFileError` where there is no such file.
        """
        self._store, self._tenant_id = store, check_tenant(tenant_id)
        self._batch_size = check("batch_size", batch_size, _BatchSize)
        check("assistant", assistant, Id | None)
        self._reader = ExportReader(path, zone=zone, chats=chats)
        self._folded = Turns(assistant)
        self.report = ImportReport()

    @property
    def progress(self) -> tuple[int, int]:
        """The bytes read so far, and those of the whole file."""
        return self._reader.bytes_read, self._reader.size

    async def run(self) -> ImportReport:
        """Import the whole file.

        Where the file breaks, everything before that place is imported, and then `ExportFileError` is
        raised; so it is at the end where a chat is broken, after the others. Whatever stops a run, the next one
        goes on: nothing is written twice.
        """
        batches = _batches(self._folded.fold(self._reader), self._batch_size)
        try:
            # In a thread, so that a service can serve while it imports.
            while (batch := await asyncio.to_thread(next, batches, None)) is not None:
                await self._import(batch)
                self._count()
        finally:
            self._count()
        return self.report

    async def _import(self, batch: list[Turn]) -> None:
        async def write(tx: StoreTransaction) -> _Written:
            return await _write(tx, self._tenant_id, batch)

        written = await self._store.run(self._tenant_id, write, retry=_RETRIES, actor=ACTOR)
        self.report.new_users += written.users
        self.report.new_conversations += written.conversations
        for turn in batch:
            outcome = written.outcome(turn)
            if outcome != turn.outcome:
                self.report.turns[outcome] += 1
                if turn.outcome is not None:
                    self.report.turns[turn.outcome] -= 1
                turn.outcome = outcome

    def _count(self) -> None:
        self.report.messages, self.report.answers = self._folded.messages, self._folded.answers
        self.report.skipped = self._reader.skipped.joined(self._folded.skipped)
        self.report.notes = self._reader.notes.copy()
        self.report.broken_chats = list(self._reader.broken_chats)


def _batches(changed: Iterator[Turn], size: int) -> Iterator[list[Turn]]:
    """The turns in lists, in which each comes once; where reading them fails, first those before that place."""
    batch: dict[tuple[str, int], Turn] = {}
    length = 0
    try:
        for turn in changed:
            # Another turn of the same number is of a chat that comes twice in the file.
            if len(batch) == size or length > _BATCH_TEXT or batch.get(turn.key, turn) is not turn:
                yield list(batch.values())
                batch.clear()
                length = 0
            batch[turn.key] = turn
            length += len(turn.user_message) + len(turn.bot_response or "")
    except ExportFileError:
        if batch:
            yield list(batch.values())
        raise
    if batch:
        yield list(batch.values())


@dataclass
class _Written:
    """What one transaction did."""

    users: int
    conversations: int
    ids: dict[str, int]
    """The conversations by their session; a deleted one is missing."""
    is_new: dict[tuple[int, int], bool]
    """By conversation and number, each turn that was written: whether it was new, or else completed."""

    def outcome(self, turn: Turn) -> Outcome:
        """What became of the turn, which may be in its second batch of this run."""
        conversation_id = self.ids.get(turn.session_id)
        if conversation_id is None:
            return "deleted"
        if turn.outcome == "new":
            return "new"
        match self.is_new.get((conversation_id, turn.message_id)):
            case None:
                return turn.outcome or "unchanged"
            case is_new:
                return "new" if is_new else "completed"


async def _write(tx: StoreTransaction, tenant_id: str, batch: list[Turn]) -> _Written:
    # Users before conversations before messages, each in the order of their keys: so that two imports,
    # or an import and a delete, wait for each other instead of locking each other out.
    sessions = _sessions(batch)
    # Within one import a table may grow from nothing to most of its rows, before anything analyzes it.
    await tx.messages.plan_for_sizes(tenant_id)
    new_users = await tx.users.import_many(tenant_id, _people(batch))
    new_conversations = await tx.conversations.import_many(tenant_id, sessions)
    ids = await tx.conversations.lock_sessions(tenant_id, sessions)
    held = {(ids[each.session_id], each.message_id): each for each in batch if each.session_id in ids}
    stored = await _stored_already(tx, tenant_id, held.values())
    rows = [_row(key[0], each) for key, each in held.items() if each.key not in stored]
    written = await tx.messages.import_many(tenant_id, rows)
    is_new = {(row.conversation_id, row.message_id): row.is_new for row in written}
    changed = {key: held[key] for key in is_new}
    left = await _take_back(tx, tenant_id, changed)
    # An answer alone did not move its conversation where the file that brought it lacked the message it replies to.
    moved = changed | {key: each for key, each in held.items() if each.is_alone and not each.may_be_joined}
    await tx.conversations.advance(tenant_id, _progress(moved, left))
    return _Written(new_users, new_conversations, ids, is_new)


async def _stored_already(tx: StoreTransaction, tenant_id: str, turns: Iterable[Turn]) -> set[tuple[str, int]]:
    """The standalone answers (turns without a user's message) that are stored: as such, or joined to their message."""
    standalone = [each for each in turns if each.may_be_joined]
    if not standalone:
        return set()
    asked: list[ImportedAnswer] = [
        {"session": each.session_prefix, "message_id": each.message_id} for each in standalone
    ]
    found = {(each.session, each.message_id) for each in await tx.messages.find_answers(tenant_id, asked)}
    return {each.key for each in standalone if (each.session_prefix, each.message_id) in found}


async def _take_back(tx: StoreTransaction, tenant_id: str, written: Mapping[tuple[int, int], Turn]) -> list[int]:
    """Remove the standalone answers whose message is known now; returns the conversations that had them."""
    placed: list[PlacedAnswer] = []
    for (conversation_id, number), turn in written.items():
        if not turn.may_be_joined:
            for answer in turn.answers:
                kept_in = conversation_id if answer == number else None
                placed.append({"session": turn.session_prefix, "message_id": answer, "kept_in": kept_in})
    return await tx.messages.take_back_answers(tenant_id, placed) if placed else []


def _people(batch: list[Turn]) -> list[ImportedUser]:
    names: dict[int, str | None] = {}
    for each in batch:
        names[each.person.telegram_id] = names.get(each.person.telegram_id) or each.person.name
    return [
        ImportedUser(telegram_id=telegram_id, first_name=name and name[:_LONGEST_NAME])
        for telegram_id, name in names.items()
    ]


def _sessions(batch: list[Turn]) -> list[ImportedSession]:
    by_session: defaultdict[str, list[Turn]] = defaultdict(list)
    for each in batch:
        by_session[each.session_id].append(each)
    return [
        ImportedSession(
            telegram_id=turns[0].person.telegram_id,
            session_id=session_id,
            started_at=_started_at(turns),
            last_activity=_last_activity(turns),
        )
        for session_id, turns in by_session.items()
    ]


def _progress(moved: Mapping[tuple[int, int], Turn], left: Iterable[int]) -> list[Progress]:
    by_conversation: defaultdict[int, list[Turn]] = defaultdict(list)
    for (conversation_id, _), each in moved.items():
        by_conversation[conversation_id].append(each)
    return [
        Progress(id=id_, started_at=_started_at(turns), last_activity=_last_activity(turns))
        for id_, turns in by_conversation.items()
    ] + [Progress(id=id_, started_at=None, last_activity=None) for id_ in {*left} - by_conversation.keys()]


def _started_at(turns: Iterable[Turn]) -> datetime:
    return min(each.opened_at for each in turns)


def _last_activity(turns: Iterable[Turn]) -> datetime:
    return max(each.last_activity for each in turns)


def _row(conversation_id: int, turn: Turn) -> NewTurn:
    return NewTurn(
        conversation_id=conversation_id,
        message_id=turn.message_id,
        user_message=turn.user_message,
        bot_response=turn.bot_response,
        answer_ids=[*turn.answers] or None,
        created_at=turn.created_at,
    )
