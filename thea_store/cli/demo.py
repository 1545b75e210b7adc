"""The demonstration: the main job of the store, told as one conversation on a PostgreSQL of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from rich.console import Console

from thea_store.assistant.conversations import Conversation
from thea_store.assistant.messages import Message
from thea_store.assistant.users import User
from thea_store.cli.demo_output import DemoOutput
from thea_store.cli.output import progress_of
from thea_store.embedded import EmbeddedPostgres
from thea_store.errors import ConflictError
from thea_store.migrator import migrate
from thea_store.resources import sample_export
from thea_store.settings import Settings
from thea_store.store import SQL_FILES, Store, StoreTransaction
from thea_store.telegram.export import ExportReader
from thea_store.telegram.importer import TelegramImport

__all__ = ["run"]

TENANT, OTHER = "acme", "globex"
BOT = "THEA"

# A second import is there to show that it does nothing; that of a large file would take its time.
_PATIENCE = 3.0


@dataclass
class _Play:
    """Who and what is on output."""

    output: DemoOutput
    store: Store
    app_url: str
    user: User
    conversation: Conversation

    @property
    def name(self) -> str:
        return self.user.first_name or "User"


async def run(file: Path | None = None, console: Console | None = None) -> None:
    """Play all scenes, with the sample export or the user's own.

    `EmbeddedServerError` where no server can be started, `ExportFileError` where the file cannot be read.
    """
    began = time.perf_counter()
    output = DemoOutput(console)
    ExportReader(file or sample_export())  # a file that is not there is told before anything starts
    output.title("thea_store", "The data layer of an assistant, shown by one conversation.")
    output.scene("A PostgreSQL of its own")
    async with EmbeddedPostgres() as server:
        output.note(f"started in {time.perf_counter() - began:.1f} s, on a unix socket and nothing else")
        await _migrate(output, server.migrator_url)
        opening = time.perf_counter()
        async with Store.open(_settings(server.app_url)) as store:
            await _introduce(output, store, time.perf_counter() - opening)
            play = await _history(output, store, server.app_url, file or sample_export())
            for scene in (_live, _window, _rivals, _undone, _figures, _neighbour):
                await scene(play)
    output.gap()
    output.tell(f"That took {time.perf_counter() - began:.1f} s. The server is gone, with everything in it.")
    if file is None:
        output.note("Your own chat: thea-store demo --file result.json")
    output.note("To keep one: DATABASE_URL=embedded:/my/data thea-store import telegram --help")


def _settings(url: str) -> Settings:
    # Nothing of the environment's, which belongs to another database.
    return Settings(
        url=url, replica_url=None, migrator_url=None, tenant_scope="session", allow_unsafe_role=False, echo=False
    )


async def _migrate(output: DemoOutput, url: str) -> None:
    began = time.perf_counter()
    applied = await asyncio.to_thread(migrate, url)
    output.note(f"{len(applied)} migrations in {time.perf_counter() - began:.1f} s, up to {applied[-1]}")


async def _introduce(output: DemoOutput, store: Store, seconds: float) -> None:
    queries = sum(len(file.claimed) for file in SQL_FILES)
    health = await store.health()
    output.note(
        f"PostgreSQL {health.server_version}; {queries} queries checked against its schema ({seconds * 1000:.0f} ms)"
    )


# --- scenes -------------------------------------------------------------------------------------


async def _history(output: DemoOutput, store: Store, app_url: str, file: Path) -> _Play:
    output.scene("The past: a Telegram export comes in")
    began = time.perf_counter()
    report = await progress_of(TelegramImport(store, TENANT, file))
    took = time.perf_counter() - began
    output.tell(
        f"{report.messages:,} messages became {report.turns['new']:,} exchanges: "
        f"{_count(report.new_users, 'user')}, {_count(report.new_conversations, 'conversation')}, {took:.2f} s."
    )
    if took < _PATIENCE:
        again = await TelegramImport(store, TENANT, file).run()
        output.tell(f"The same file once more: {again.turns['new']} new, {again.turns['unchanged']:,} there.")
    user, conversation = await _protagonist(store)
    play = _Play(output, store, app_url, user, conversation)
    output.gap()
    if not report.messages:
        output.tell(f"Nobody says a word in it, so {play.name} steps in.")
        return play
    _show(play, await store.messages.get_context_window(TENANT, conversation.session_id, limit=3))
    output.note(f"last active on {conversation.last_activity:%d %B %Y}, and closed until somebody writes again")
    return play


async def _protagonist(store: Store) -> tuple[User, Conversation]:
    """The conversation that was active last, and its user; a new one where the file had none."""
    conversations = (await store.conversations.get_all(TENANT, limit=1000)).items
    if not conversations:
        user = await store.users.get_or_create_from_telegram(TENANT, 1987654321, first_name="Ana")
        return user, await store.conversations.get_or_create(TENANT, user.id, "demo")
    latest = max(conversations, key=lambda each: each.last_activity)
    found = await store.users.get_by_id(TENANT, latest.user_id)
    assert found is not None  # noqa: S101 - a foreign key says so
    return found, latest


@dataclass(frozen=True)
class _Turn:
    """What is said, the states before and after, what goes into the context, and how well it was understood."""

    said: str
    answer: str
    before: str
    after: str
    context: dict[str, Any]
    intent: str | None
    confidence: float
    milliseconds: int


_NOTE = "Llevar el bizcocho a casa de Marta el domingo"
_CAT = "Creo que el gato vuelve a pasear por el teclado."
_TURNS = (
    _Turn("Apunta una cosa", "Claro. ¿Qué anoto?", "idle", "awaiting_note", {"draft": True}, "create_note", 0.94, 412),
    _Turn(
        _NOTE, f"Anotado: «{_NOTE}».", "awaiting_note", "idle", {"draft": None, "note": _NOTE}, "note_text", 0.91, 365
    ),
    _Turn("qwñññ 8uj", _CAT, "idle", "idle", {}, None, 0.17, 1480),
)


async def _live(play: _Play) -> None:
    play.output.scene("The present: a note in two turns")
    play.output.tell("State and message are written in one transaction: both, or neither.")
    for turn in _TURNS:
        await _write(play, turn)
        play.output.gap()
        play.output.dialogue([(play.name, turn.said), (BOT, turn.answer)], assistant=BOT)
        understood = f"intent {turn.intent}" if turn.intent else "no intent"
        play.output.note(
            f"{turn.before} → {turn.after} · {understood} ({turn.confidence:.2f}) · {turn.milliseconds} ms · "
            f"context {{{', '.join(play.conversation.context_data)}}}"
        )


async def _write(play: _Play, turn: _Turn) -> None:
    async with play.store.transaction(TENANT, actor="bot:thea") as tx:
        await tx.messages.add_message(
            TENANT,
            play.user.id,
            play.conversation.session_id,
            user_message=turn.said,
            bot_response=turn.answer,
            intent_detected=turn.intent,
            confidence_score=turn.confidence,
            processing_time_ms=turn.milliseconds,
        )
        play.conversation = await tx.conversations.update_state(
            TENANT, play.conversation.id, turn.after, turn.context, expected_state=turn.before
        )


async def _window(play: _Play) -> None:
    play.output.scene("What a language model gets")
    window = await play.store.messages.get_context_window(TENANT, play.conversation.session_id, limit=4)
    play.output.tell(f"get_context_window(…, limit={len(window)}): past and present, the oldest first.")
    play.output.gap()
    for message in window:
        for role, content in (("user", message.user_message), ("assistant", message.bot_response)):
            if content:
                play.output.note(json.dumps({"role": role, "content": _short(content, 36)}, ensure_ascii=False))


async def _rivals(play: _Play) -> None:
    play.output.scene("Two writers, one state")
    play.output.tell("Two workers saw `idle` and both want to go on from there, at the same moment.")
    outcomes = await asyncio.gather(
        *(
            play.store.conversations.update_state(TENANT, play.conversation.id, state, expected_state="idle")
            for state in ("creating_event", "searching_notes")
        ),
        return_exceptions=True,
    )
    play.output.gap()
    for worker, outcome in zip(("worker 1", "worker 2"), outcomes, strict=True):
        if isinstance(outcome, Conversation):
            play.output.figures([(worker, f"won, the state is {outcome.current_state}")], style="green")
        elif isinstance(outcome, ConflictError):
            play.output.figures([(worker, f"ConflictError: {outcome}")], style="yellow")
        else:
            raise outcome
    play.conversation = await play.store.conversations.update_state(TENANT, play.conversation.id, "idle")


class _ModelIsSilentError(Exception):
    """What interrupts the transaction."""


async def _undone(play: _Play) -> None:
    play.output.scene("Half of it is nothing of it")
    play.output.tell("In the middle of a transaction, after two writes, the model falls silent.")
    seen = [("before", await _seen(play.store, play.conversation))]
    with contextlib.suppress(_ModelIsSilentError):
        async with play.store.transaction(TENANT) as tx:
            await tx.messages.add_message(
                TENANT, play.user.id, play.conversation.session_id, user_message="Borra todas mis notas"
            )
            await tx.conversations.update_state(TENANT, play.conversation.id, "deleting_notes")
            seen.append(("within", await _seen(tx, play.conversation)))
            raise _ModelIsSilentError
    seen.append(("after", await _seen(play.store, play.conversation)))
    play.output.gap()
    play.output.figures(seen)


async def _seen(store: Store | StoreTransaction, conversation: Conversation) -> str:
    found = await store.conversations.get_by_id(TENANT, conversation.id)
    total = await store.messages.count(TENANT)
    return f"{total:,} messages, state {found.current_state if found else 'missing'}"


async def _figures(play: _Play) -> None:
    play.output.scene("Figures")
    totals = await play.store.messages.get_statistics(TENANT, play.user.id)
    hour = await play.store.messages.analyze_performance(TENANT, hours=1)
    intents = ", ".join(f"{intent} {total}" for intent, total in sorted(totals.intent_distribution.items()))
    play.output.figures(
        [
            ("messages of the user", f"{totals.total_messages:,}"),
            ("intents", intents),
            ("average confidence", f"{totals.avg_confidence:.2f}"),
            ("average processing time", f"{totals.avg_processing_time_ms:.0f} ms"),
            ("messages in the last hour", f"{hour.total_messages}"),
            ("slow, unsure, not understood", f"{hour.slow_queries}, {hour.low_confidence}, {hour.failed_detections}"),
            ("p50, p95, p99", f"{hour.p50_ms:.0f}, {hour.p95_ms:.0f}, {hour.p99_ms:.0f} ms"),
        ]
    )


async def _neighbour(play: _Play) -> None:
    play.output.scene("The neighbour sees nothing")
    play.output.tell(f"Tenant {OTHER} asks for what belongs to tenant {TENANT}, first through the library:")
    found = await play.store.conversations.get_by_id(OTHER, play.conversation.id)
    window = await play.store.messages.get_context_window(OTHER, play.conversation.session_id)
    play.output.figures(
        [
            (f"conversations.get_by_id({OTHER!r}, {play.conversation.id})", repr(found)),
            (f"messages.get_context_window({OTHER!r}, …)", repr(window)),
        ]
    )
    play.output.gap()
    play.output.tell("then with free SQL, on the service's own login:")
    for statement, answers in await asyncio.to_thread(_free_sql, play.app_url):
        play.output.gap()
        play.output.tell(statement)
        play.output.figures((f"  {who}", answer) for who, answer in answers)
    play.output.gap()
    play.output.note("Row security is forced on every table, so it holds for every statement.")


_COUNT = "select count(*) from thea.message_history"
_SMUGGLE = "insert into thea.users (tenant_id, telegram_id) values ('acme', 666)"


def _free_sql(url: str) -> list[tuple[str, list[tuple[str, str]]]]:
    """What the service's login can do by itself: statements, and what each tenant gets for them."""
    with psycopg.connect(url, autocommit=True) as connection:
        counts = [("no tenant", _answer(connection, _COUNT))]
        for tenant in (TENANT, OTHER):
            connection.execute("select set_config('app.tenant_id', %s, false)", [tenant])
            counts.append((f"tenant {tenant}", _answer(connection, _COUNT)))
        return [(_COUNT, counts), (_SMUGGLE, [(f"tenant {OTHER}", _answer(connection, _SMUGGLE))])]


def _answer(connection: psycopg.Connection[Any], statement: str) -> str:
    try:
        row = connection.execute(statement.encode()).fetchone()
    except psycopg.errors.InsufficientPrivilege as error:
        return f"refused: {error.diag.message_primary}"
    return str(row[0]) if row else "done"


# --- words --------------------------------------------------------------------------------------


def _show(play: _Play, messages: list[Message]) -> None:
    lines = []
    for message in messages:
        if message.user_message:
            lines.append((play.name, _short(message.user_message)))
        if message.bot_response:
            lines.append((BOT, _short(message.bot_response)))
    play.output.dialogue(lines, assistant=BOT)


def _short(text: str, most: int = 160) -> str:
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 1]}…"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
