"""How the time of each public call grows with what is stored: the same calls on databases of very unequal size.

    python bench/scale.py [--sizes 10000,10000000] [--calls 200] [--json]

A database of N messages has N / 10 notes, events and audit entries, over tenants of very unequal size: ten of them for
each ten thousand messages, and a thousand at most (see `scale_rows.py`). All stand on one server, and each call is made
on one after the other, for a place that is drawn by how many rows a tenant has. A call's time is what the server's
process and this one have worked, so that other work on the machine hardly counts. A figure is the 95th percentile in
milliseconds, and its ratio to that of the smallest database.
"""

from __future__ import annotations

import asyncio
import inspect
import itertools
import json
import platform
import random
import statistics
import tempfile
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import psycopg
import typer
from options import Server, Smoke
from rich.console import Console
from rich.table import Table
from scale_rows import WORD, build

from thea_store import Settings, Store
from thea_store.embedded import EmbeddedPostgres
from thea_store.testing import TestServer

PLACES, WARM_UP = 300, 15
DAY = timedelta(days=1)
_numbers = itertools.count(10**12)


@dataclass(frozen=True, slots=True)
class Place:
    """A user, and one row of each kind that is theirs."""

    tenant: str
    user: int
    telegram: int
    session: str
    conversation: int
    message: int
    message_number: int
    event: int
    external: str
    starts: datetime
    note: int


@dataclass(frozen=True, slots=True)
class Figure:
    """What a call takes in one database, in milliseconds."""

    call: str
    messages: int
    median: float
    p95: float
    ratio: float
    """Of the 95th percentile, to that of the smallest database."""


Prepare = Callable[[Store, Place], Awaitable[Any]]
Call = Callable[[Store, Place, Any], Awaitable[object]]


async def _nothing(store: Store, place: Place) -> None:
    """What most calls need beforehand."""


async def _first(rows: AsyncIterator[object]) -> None:
    """The first batch alone."""
    await anext(rows, None)
    if isinstance(rows, AsyncGenerator):
        await rows.aclose()


async def _new_user(store: Store, place: Place) -> int:
    return (await store.users.create(place.tenant, telegram_id=next(_numbers))).id


async def _new_conversation(store: Store, place: Place) -> int:
    return (await store.conversations.create(place.tenant, place.user, f"new-{next(_numbers)}")).id


async def _new_message(store: Store, place: Place) -> int:
    return (await store.messages.create(place.tenant, place.user, place.conversation, "Hola")).id


async def _new_event(store: Store, place: Place) -> int:
    return (await store.events.create(place.tenant, place.user, "Dentista", place.starts)).id


async def _new_note(store: Store, place: Place) -> int:
    return (await store.notes.create(place.tenant, place.user, "Comprar pan")).id


def _deleted(repository: str, make: Prepare) -> Prepare:
    async def prepare(store: Store, place: Place) -> int:
        made: int = await make(store, place)
        await getattr(store, repository).delete(place.tenant, made)
        return made

    return prepare


def _recently() -> datetime:
    return datetime.now(UTC) - DAY


# fmt: off
CALLS: dict[str, Call | tuple[Prepare, Call]] = {
    "users.get_by_id": lambda s, p, _: s.users.get_by_id(p.tenant, p.user),
    "users.get_by_telegram_id": lambda s, p, _: s.users.get_by_telegram_id(p.tenant, p.telegram),
    "users.exists": lambda s, p, _: s.users.exists(p.tenant, p.user),
    "users.get_all": lambda s, p, _: s.users.get_all(p.tenant, limit=20),
    "users.iterate": lambda s, p, _: _first(s.users.iterate(p.tenant, batch_size=20)),
    "users.get_preferences": lambda s, p, _: s.users.get_preferences(p.tenant, p.user),
    "users.get_with": lambda s, p, _: s.users.get_with(
        p.tenant, p.user, notes=5, events=5, conversations=2, messages=20),
    "users.create": lambda s, p, _: s.users.create(p.tenant, telegram_id=next(_numbers)),
    "users.create_many": lambda s, p, _: s.users.create_many(
        p.tenant, [{"telegram_id": next(_numbers)} for _ in range(20)]),
    "users.get_or_create_from_telegram": lambda s, p, _: s.users.get_or_create_from_telegram(
        p.tenant, p.telegram, first_name="Ana"),
    "users.update": lambda s, p, _: s.users.update(p.tenant, p.user, first_name="Ana"),
    "users.merge_preferences": lambda s, p, _: s.users.merge_preferences(p.tenant, p.user, {"theme": "light"}),
    "users.update_last_activity": lambda s, p, _: s.users.update_last_activity(p.tenant, p.user),
    "users.delete": (_new_user, lambda s, p, new: s.users.delete(p.tenant, new)),
    "users.restore": (_deleted("users", _new_user), lambda s, p, new: s.users.restore(p.tenant, new)),
    "users.purge": (_new_user, lambda s, p, new: s.users.purge(p.tenant, new)),
    "conversations.get_by_id": lambda s, p, _: s.conversations.get_by_id(p.tenant, p.conversation),
    "conversations.get_by_session_id": lambda s, p, _: s.conversations.get_by_session_id(p.tenant, p.session),
    "conversations.exists": lambda s, p, _: s.conversations.exists(p.tenant, p.conversation),
    "conversations.get_all": lambda s, p, _: s.conversations.get_all(p.tenant, limit=20),
    "conversations.iterate": lambda s, p, _: _first(s.conversations.iterate(p.tenant, batch_size=20)),
    "conversations.get_active": lambda s, p, _: s.conversations.get_active(p.tenant, p.user),
    "conversations.get_inactive_since": lambda s, p, _: s.conversations.get_inactive_since(
        p.tenant, _recently(), limit=20),
    "conversations.create": lambda s, p, _: s.conversations.create(p.tenant, p.user, f"new-{next(_numbers)}"),
    "conversations.create_many": lambda s, p, _: s.conversations.create_many(
        p.tenant, [{"user_id": p.user, "session_id": f"new-{next(_numbers)}"} for _ in range(20)]),
    "conversations.get_or_create": lambda s, p, _: s.conversations.get_or_create(p.tenant, p.user, p.session),
    "conversations.update": lambda s, p, _: s.conversations.update(p.tenant, p.conversation, is_active=True),
    "conversations.update_state": lambda s, p, _: s.conversations.update_state(
        p.tenant, p.conversation, "waiting", {"step": "time"}),
    "conversations.close_conversation": lambda s, p, _: s.conversations.close_conversation(p.tenant, p.conversation),
    "conversations.delete": (_new_conversation, lambda s, p, new: s.conversations.delete(p.tenant, new)),
    "conversations.restore": (
        _deleted("conversations", _new_conversation), lambda s, p, new: s.conversations.restore(p.tenant, new)),
    "conversations.purge": (_new_conversation, lambda s, p, new: s.conversations.purge(p.tenant, new)),
    "messages.get_by_id": lambda s, p, _: s.messages.get_by_id(p.tenant, p.message),
    "messages.get_by_message_id": lambda s, p, _: s.messages.get_by_message_id(p.tenant, p.session, p.message_number),
    "messages.exists": lambda s, p, _: s.messages.exists(p.tenant, p.message),
    "messages.get_all": lambda s, p, _: s.messages.get_all(p.tenant, limit=20),
    "messages.get_all of a user": lambda s, p, _: s.messages.get_all(p.tenant, user_id=p.user, limit=20),
    "messages.iterate": lambda s, p, _: _first(s.messages.iterate(p.tenant, batch_size=20)),
    "messages.get_context_window": lambda s, p, _: s.messages.get_context_window(p.tenant, p.session, 20),
    "messages.get_by_intent": lambda s, p, _: s.messages.get_by_intent(p.tenant, "greet", limit=20),
    "messages.count": lambda s, p, _: s.messages.count(p.tenant),
    "messages.count of a user": lambda s, p, _: s.messages.count(p.tenant, user_id=p.user),
    "messages.get_statistics": lambda s, p, _: s.messages.get_statistics(p.tenant),
    "messages.get_statistics of a user": lambda s, p, _: s.messages.get_statistics(p.tenant, p.user),
    "messages.analyze_performance": lambda s, p, _: s.messages.analyze_performance(p.tenant, 24),
    "messages.create": lambda s, p, _: s.messages.create(p.tenant, p.user, p.conversation, "Hola"),
    "messages.create_many": lambda s, p, _: s.messages.create_many(
        p.tenant, [{"user_id": p.user, "conversation_id": p.conversation, "user_message": "Hola"} for _ in range(20)]),
    "messages.add_message": lambda s, p, _: s.messages.add_message(p.tenant, p.user, p.session, user_message="Hola"),
    "messages.add_message_with_prune": lambda s, p, _: s.messages.add_message_with_prune(
        p.tenant, p.user, p.session, user_message="Hola", keep=1000),
    "messages.update": lambda s, p, _: s.messages.update(p.tenant, p.message, bot_response="Hecho."),
    "messages.delete": (_new_message, lambda s, p, new: s.messages.delete(p.tenant, new)),
    "messages.restore": (_deleted("messages", _new_message), lambda s, p, new: s.messages.restore(p.tenant, new)),
    "messages.purge": (_new_message, lambda s, p, new: s.messages.purge(p.tenant, new)),
    "events.get_by_id": lambda s, p, _: s.events.get_by_id(p.tenant, p.event),
    "events.exists": lambda s, p, _: s.events.exists(p.tenant, p.event),
    "events.get_all": lambda s, p, _: s.events.get_all(p.tenant, limit=20),
    "events.iterate": lambda s, p, _: _first(s.events.iterate(p.tenant, batch_size=20)),
    "events.get_by_date_range": lambda s, p, _: s.events.get_by_date_range(
        p.tenant, p.user, p.starts - 20 * DAY, p.starts + 20 * DAY),
    "events.get_upcoming": lambda s, p, _: s.events.get_upcoming(p.tenant, p.user, 7),
    "events.find_conflicts": lambda s, p, _: s.events.find_conflicts(p.tenant, p.user, p.starts, p.starts + DAY / 24),
    "events.get_by_category": lambda s, p, _: s.events.get_by_category(p.tenant, p.user, "salud"),
    "events.get_by_location": lambda s, p, _: s.events.get_by_location(p.tenant, p.user, "Calle 7"),
    "events.claim_due_reminders": (_new_event, lambda s, p, _: s.events.claim_due_reminders(p.tenant, limit=20)),
    "events.create": lambda s, p, _: s.events.create(p.tenant, p.user, "Dentista", p.starts, reminder_minutes=30),
    "events.create_many": lambda s, p, _: s.events.create_many(
        p.tenant, [{"user_id": p.user, "title": "Dentista", "start_datetime": p.starts} for _ in range(20)]),
    "events.upsert_external": lambda s, p, _: s.events.upsert_external(
        p.tenant, p.user, p.external, "Dentista", p.starts),
    "events.update": lambda s, p, _: s.events.update(p.tenant, p.event, title="Dentista"),
    "events.skip": (_new_event, lambda s, p, new: s.events.skip(p.tenant, new, p.starts)),
    "events.complete": (_new_event, lambda s, p, new: s.events.complete(p.tenant, new)),
    "events.cancel": (_new_event, lambda s, p, new: s.events.cancel(p.tenant, new)),
    "events.delete": (_new_event, lambda s, p, new: s.events.delete(p.tenant, new)),
    "events.restore": (_deleted("events", _new_event), lambda s, p, new: s.events.restore(p.tenant, new)),
    "events.purge": (_new_event, lambda s, p, new: s.events.purge(p.tenant, new)),
    "notes.get_by_id": lambda s, p, _: s.notes.get_by_id(p.tenant, p.note),
    "notes.exists": lambda s, p, _: s.notes.exists(p.tenant, p.note),
    "notes.get_all": lambda s, p, _: s.notes.get_all(p.tenant, limit=20),
    "notes.get_all with a tag": lambda s, p, _: s.notes.get_all(p.tenant, user_id=p.user, tags=["tag1"], limit=20),
    "notes.iterate": lambda s, p, _: _first(s.notes.iterate(p.tenant, batch_size=20)),
    "notes.search": lambda s, p, _: s.notes.search(p.tenant, p.user, WORD),
    "notes.get_by_category": lambda s, p, _: s.notes.get_by_category(p.tenant, p.user, "salud"),
    "notes.get_by_tags": lambda s, p, _: s.notes.get_by_tags(p.tenant, p.user, ["tag1", "tag21"]),
    "notes.tag_counts": lambda s, p, _: s.notes.tag_counts(p.tenant, p.user),
    "notes.claim_due_reminders": (_new_note, lambda s, p, _: s.notes.claim_due_reminders(p.tenant, limit=20)),
    "notes.create": lambda s, p, _: s.notes.create(p.tenant, p.user, "Comprar pan y leche", tags=["casa"]),
    "notes.create_many": lambda s, p, _: s.notes.create_many(
        p.tenant, [{"user_id": p.user, "content": "Comprar pan"} for _ in range(20)]),
    "notes.update": lambda s, p, _: s.notes.update(p.tenant, p.note, priority=1),
    "notes.add_tags": lambda s, p, _: s.notes.add_tags(p.tenant, p.note, ["casa"]),
    "notes.remove_tags": lambda s, p, _: s.notes.remove_tags(p.tenant, p.note, ["casa"]),
    "notes.toggle_pin": lambda s, p, _: s.notes.toggle_pin(p.tenant, p.note),
    "notes.delete": (_new_note, lambda s, p, new: s.notes.delete(p.tenant, new)),
    "notes.restore": (_deleted("notes", _new_note), lambda s, p, new: s.notes.restore(p.tenant, new)),
    "notes.purge": (_new_note, lambda s, p, new: s.notes.purge(p.tenant, new)),
    "audit.get_all": lambda s, p, _: s.audit.get_all(p.tenant, limit=20),
    "audit.get_for": lambda s, p, _: s.audit.get_for(p.tenant, "notes", p.note),
    "people.export": lambda s, p, _: _first(s.people.export(p.tenant, p.user)),
    "people.get_erasures": lambda s, p, _: s.people.get_erasures(p.tenant),
}
# fmt: on

COUNTS_A_TENANT = {
    "users.count": lambda s, p, _: s.users.count(p.tenant),
    "conversations.count": lambda s, p, _: s.conversations.count(p.tenant),
    "events.count": lambda s, p, _: s.events.count(p.tenant),
    "notes.count": lambda s, p, _: s.notes.count(p.tenant),
}
"""Calls that read all of a tenant's rows, as their docstrings say, so that their time is that of the tenant."""

LEFT_OUT = {
    "users.import_many conversations.import_many conversations.lock_sessions conversations.advance": "an import's own",
    "messages.import_many messages.find_answers messages.take_back_answers messages.plan_for_sizes": "an import's own",
    "conversations.close_inactive conversations.close_inactive_by_policy messages.delete_old_messages": (
        "work in batches until nothing is left"
    ),
    "people.erase": "for another login",
}
_REPOSITORIES = ("users", "conversations", "messages", "events", "notes", "audit", "people")


def check_complete(store: Store) -> None:
    """`AssertionError` names the public calls that are neither measured nor left out."""
    public = {
        f"{repository}.{name}"
        for repository in _REPOSITORIES
        for name, _ in inspect.getmembers(getattr(store, repository), inspect.isroutine)
        if not name.startswith("_")
    }
    known = {name.partition(" ")[0] for name in (*CALLS, *COUNTS_A_TENANT)} | set(" ".join(LEFT_OUT).split())
    if public != known:
        raise AssertionError(f"neither measured nor left out: {public - known}; not there: {known - public}")


_PLACES = """
select u.tenant_id, u.id, u.telegram_id, c.session_id, c.id, m.id, m.message_id, e.id, e.external_id, e.start_datetime,
  n.id
from (select * from thea.users where deleted_at is null order by hashint8extended(id, 9) limit %s) u
cross join lateral (
  select * from thea.conversations where tenant_id = u.tenant_id and user_id = u.id order by id limit 1
) c
cross join lateral (
  select * from thea.message_history
  where tenant_id = u.tenant_id and conversation_id = c.id and deleted_at is null
  order by id limit 1
) m
cross join lateral (
  select * from thea.events where tenant_id = u.tenant_id and user_id = u.id and deleted_at is null order by id limit 1
) e
cross join lateral (
  select * from thea.notes where tenant_id = u.tenant_id and user_id = u.id and deleted_at is null order by id limit 1
) n
"""


@dataclass(frozen=True, slots=True)
class Ground:
    """A database, its size, and where calls go in it."""

    messages: int
    store: Store
    process: int
    """That of the store's only connection."""
    places: Sequence[Place]

    def worked(self) -> float:
        """Milliseconds that the server's process and this one have worked."""
        return int(Path(f"/proc/{self.process}/schedstat").read_text().split()[0]) / 1e6 + time.process_time() * 1000


async def prepared(server_url: str, messages: int, resources: AsyncExitStack, dropped: ExitStack) -> Ground:
    """A new database of this size."""
    database = TestServer(server_url).new_database(dropped)
    began = time.monotonic()
    await asyncio.to_thread(build, database.superuser_url, messages, min(1000, messages // 1000))
    with psycopg.connect(database.superuser_url) as connection:
        places = [Place(*row) for row in connection.execute(_PLACES, [PLACES]).fetchall()]
        [(size,)] = connection.execute("select pg_database_size(current_database()) / 10 ^ 9").fetchall()
        Console(stderr=True).print(f"{messages:,} messages: {size:.2f} GB in {time.monotonic() - began:.0f} s")
        settings = Settings(url=database.app_url, pool_size=1, max_overflow=0)
        store = await resources.enter_async_context(Store.open(settings))
        [(process,)] = connection.execute(
            "select pid from pg_stat_activity where datname = current_database() and backend_type = 'client backend'"
            " and pid <> pg_backend_pid()"
        ).fetchall()
    return Ground(messages, store, process, places)


async def measured(server_url: str, sizes: Sequence[int], calls: int) -> tuple[str, list[Figure]]:
    """Each call so many times in each database, one after the other."""
    # The databases are dropped after their stores are closed.
    with ExitStack() as dropped:
        async with AsyncExitStack() as resources:
            grounds = [await prepared(server_url, size, resources, dropped) for size in sizes]
            check_complete(grounds[0].store)
            version = (await grounds[0].store.health()).server_version
            figures = [
                figure
                for name, call in (CALLS | COUNTS_A_TENANT).items()
                for figure in await _compared(name, call, grounds, calls)
            ]
    return f"PostgreSQL {version}; Python {platform.python_version()}", figures


async def on_embedded(sizes: Sequence[int], calls: int) -> tuple[str, list[Figure]]:
    """The same, on a server of its own in a directory: ten million messages do not fit into most memories."""
    with tempfile.TemporaryDirectory(prefix="thea-scale-") as directory:
        async with EmbeddedPostgres(Path(directory, "data")) as server:
            return await measured(server.superuser_url, sizes, calls)


async def _compared(
    name: str, call: Call | tuple[Prepare, Call], grounds: Sequence[Ground], calls: int
) -> list[Figure]:
    prepare, made = call if isinstance(call, tuple) else (_nothing, call)
    rng, taken = random.Random(1), [list[float]() for _ in grounds]
    for turn in range(calls + WARM_UP):
        for ground, times in zip(grounds, taken, strict=True):
            place = rng.choice(ground.places)
            ready = await prepare(ground.store, place)
            before = ground.worked()
            await made(ground.store, place, ready)
            if turn >= WARM_UP:
                times.append(ground.worked() - before)
    percentiles = [statistics.quantiles(times, n=20)[-1] for times in taken]
    return [
        Figure(name, ground.messages, statistics.median(times), p95, p95 / percentiles[0])
        for ground, times, p95 in zip(grounds, taken, percentiles, strict=True)
    ]


def show(versions: str, figures: Sequence[Figure]) -> None:
    sizes = list(dict.fromkeys(figure.messages for figure in figures))
    table = Table(title="95th percentile in milliseconds, and in times of the smallest database")
    table.add_column("")
    for size in sizes:
        table.add_column(f"{size:,}", justify="right")
    for name, group in itertools.groupby(figures, lambda figure: figure.call):
        table.add_row(name, *(f"{each.p95:.2f} ({each.ratio:.2f})" for each in group))
    console = Console(width=max(Console().width, 110))
    console.print(table)
    console.print(versions, highlight=False)


def command(
    sizes: Annotated[str, typer.Option(help="Messages of each database, the smallest first.")] = "10000,10000000",
    calls: Annotated[int, typer.Option(min=20, help="Of each kind, in each database.")] = 200,
    server: Server = None,
    *,
    json_: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
    smoke: Smoke = False,
) -> None:
    """How the time of each public call grows with what is stored."""
    numbers, calls = ([10_000, 20_000], 2) if smoke else ([int(size) for size in sizes.split(",")], calls)
    versions, figures = asyncio.run(measured(server, numbers, calls) if server else on_embedded(numbers, calls))
    if json_:
        print(json.dumps({"versions": versions, "calls": [asdict(each) for each in figures]}, indent=2))
    else:
        show(versions, figures)


if __name__ == "__main__":
    typer.run(command)
