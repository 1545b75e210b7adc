"""What row security costs the questions of the largest tenant: each call beside the same by a superuser, in turn.

    python bench/row_security.py [--messages 1000000] [--rounds 60] [--json]

The service's login and a superuser, whom no policy binds, send the same statements in one process, on a database of
`scale_rows.py`. A figure is the median of the rounds' ratios. `search.py` tells what searches and tags cost: they go
through a function, which keeps tenants apart for a superuser as well.
"""

from __future__ import annotations

import asyncio
import json
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any, TypeVar

import asyncpg
import typer
from options import Smoke
from pydantic_core import from_json, to_json
from rich.console import Console
from rich.table import Table
from scale_rows import build

from thea_store.assistant.conversations import Conversations
from thea_store.assistant.events.repository import Events
from thea_store.assistant.messages import Messages
from thea_store.assistant.notes import Notes
from thea_store.database import Executor
from thea_store.queries.binding import bind_in_turns
from thea_store.queries.file import Query
from thea_store.testing import TestDatabase, start_server

AT_MOST = 2.0
TENANT = "tenant-1"
"""The largest one of `scale_rows.py`: an eighth of all rows."""
USERS, WARM_UP = 50, 12
HOUR, DAY = timedelta(hours=1), timedelta(days=1)

R = TypeVar("R")


class Direct(Executor):
    """Runs queries on one connection, whose session has the tenant."""

    def __init__(self, connection: asyncpg.Connection[asyncpg.Record]) -> None:
        self._connection = connection

    async def _rows(self, query: Query[Any], tenant_id: str, values: Mapping[str, object]) -> Sequence[asyncpg.Record]:
        bound = await bind_in_turns(query, tenant_id, values)
        return await self._connection.fetch(bound.query.text, *bound.arguments)

    async def atomic(self, tenant_id: str, work: Callable[[Executor], Awaitable[R]]) -> R:
        del tenant_id
        async with self._connection.transaction():
            return await work(self)


@dataclass(frozen=True, slots=True)
class Asked:
    """Whom a call is about, and since when."""

    user: int
    starts: datetime


@dataclass(frozen=True, slots=True)
class Figure:
    """Milliseconds of a call in the median, and the median ratio."""

    call: str
    service_ms: float
    superuser_ms: float
    ratio: float


# fmt: off
CALLS: dict[str, Callable[[Executor, Asked], Awaitable[object]]] = {
    "notes.tag_counts": lambda db, a: Notes(db).tag_counts(TENANT, a.user),
    "notes.count": lambda db, _: Notes(db).count(TENANT),
    "events.find_conflicts": lambda db, a: Events(db).find_conflicts(TENANT, a.user, a.starts, a.starts + HOUR),
    "events.get_upcoming": lambda db, a: Events(db).get_upcoming(TENANT, a.user, 7),
    "events.get_by_date_range": lambda db, a: Events(db).get_by_date_range(
        TENANT, a.user, a.starts - 20 * DAY, a.starts + 20 * DAY),
    "events.count": lambda db, _: Events(db).count(TENANT),
    "conversations.get_inactive_since": lambda db, a: Conversations(db).get_inactive_since(TENANT, a.starts, limit=20),
    "messages.count": lambda db, _: Messages(db).count(TENANT),
    "messages.get_statistics": lambda db, _: Messages(db).get_statistics(TENANT),
    "messages.get_statistics of a user": lambda db, a: Messages(db).get_statistics(TENANT, a.user),
    "messages.analyze_performance": lambda db, _: Messages(db).analyze_performance(TENANT, 24),
}
# fmt: on


async def measured(database: TestDatabase, rounds: int) -> tuple[str, list[Figure]]:
    """Each call in each round, by both in random order."""
    async with AsyncExitStack() as resources:
        service, superuser = [await _connected(url, resources) for url in (database.app_url, database.superuser_url)]
        rows = await superuser.fetch(
            "select distinct on (user_id) user_id, start_datetime from thea.events where tenant_id = $1"
            f" order by user_id, id limit {USERS}",
            TENANT,
        )
        asked = [Asked(*row) for row in rows]
        ways = [Direct(service), Direct(superuser)]
        figures = [await _compared(name, ways, asked, rounds) for name in CALLS]
        version = await superuser.fetchval("select current_setting('server_version')")
    return f"PostgreSQL {version}", figures


async def _connected(url: str, resources: AsyncExitStack) -> asyncpg.Connection[asyncpg.Record]:
    connection = await asyncpg.connect(url)
    resources.push_async_callback(connection.close)
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        format="binary",
        encoder=lambda value: b"\x01" + to_json(value),
        decoder=lambda value: from_json(value[1:]),
    )
    await connection.execute(f"set app.tenant_id = '{TENANT}'")
    return connection


async def _compared(name: str, ways: Sequence[Executor], asked: Sequence[Asked], rounds: int) -> Figure:
    rng, taken = random.Random(1), [list[float]() for _ in ways]
    for turn in range(rounds + WARM_UP):
        about, answers = rng.choice(asked), [object(), object()]
        for who in rng.sample((0, 1), 2):
            began = time.perf_counter()
            answers[who] = await CALLS[name](ways[who], about)
            if turn >= WARM_UP:
                taken[who].append((time.perf_counter() - began) * 1000)
        if answers[0] != answers[1]:
            raise SystemExit(f"{name}: the answers differ")
    ratio = statistics.median(mine / theirs for mine, theirs in zip(*taken, strict=True))
    return Figure(name, statistics.median(taken[0]), statistics.median(taken[1]), ratio)


def show(versions: str, figures: Sequence[Figure]) -> None:
    table = Table(title=f"Calls of the largest tenant, times the same without row security; at most {AT_MOST:g}")
    for heading in ("", "service, ms", "superuser, ms", "ratio"):
        table.add_column(heading, justify="right" if heading else "left")
    for each in figures:
        table.add_row(each.call, f"{each.service_ms:.2f}", f"{each.superuser_ms:.2f}", f"{each.ratio:.2f}")
    console = Console(width=max(Console().width, 100))
    console.print(table)
    console.print(versions, highlight=False)


def main(
    messages: Annotated[int, typer.Option(min=1000, help="Of all tenants.")] = 1_000_000,
    rounds: Annotated[int, typer.Option(min=3)] = 60,
    *,
    smoke: Smoke = False,
    json_: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """What row security costs the questions of the largest tenant. The server is the one that the tests would take."""
    messages, rounds = (2000, 3) if smoke else (messages, rounds)

    with ExitStack() as resources:
        database = start_server(resources).new_database(resources)
        build(database.superuser_url, messages, max(1, min(1000, messages // 1000)))
        versions, figures = asyncio.run(measured(database, rounds))
    if json_:
        print(json.dumps({"versions": versions, "calls": [asdict(each) for each in figures]}, indent=2))
    else:
        show(versions, figures)


if __name__ == "__main__":
    typer.run(main)
