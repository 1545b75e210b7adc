"""One turn of a conversation in one transaction, beside the same by hand: find it, change its state, add a message.

    python bench/turn.py [--rounds 120] [--delays 0,0.5,5] [--json]

By hand means asyncpg's pool as the service's login: `begin; set local app.tenant_id`, the store's own three
statements, `commit`, plain records. A delay is what a proxy adds to each round trip, in milliseconds. Where uvloop is
installed, the same is done on its event loop. The processor's time of a turn is that of the process and that of the
server's backends, so a busy machine matters less to it.
"""

from __future__ import annotations

import asyncio
import gc
import importlib.util
import json
import platform
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import asyncpg
import psycopg
import typer
from delay import delayed
from ground import Ground, Place, one_tenant, prepared_ground
from options import Server, Smoke
from peers import ENTITIES, MESSAGE, POOL_SIZE
from rich.console import Console
from rich.table import Table

from thea_store import Settings, Store
from thea_store.assistant.conversations import OPEN, UPDATE_STATE
from thea_store.assistant.messages import ADD

BY_HAND = "by hand, asyncpg"
TURNS, WARM_UP = 4, 12

Turn = Callable[[Place], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Figure:
    """What a turn costs a contender."""

    loop: str
    delay_ms: float
    contender: str
    milliseconds: float
    ratio: float
    """To the time of the same by hand, the median of the rounds."""
    client_us: float
    """The processor's time in this process."""
    server_us: float
    """The same in the server's backends."""
    wal_bytes: float
    stored_bytes: float
    """By which the database grew, indexes and the audit log with it; of all contenders on average."""


def by_hand(pool: asyncpg.Pool[asyncpg.Record]) -> Turn:
    values: dict[str, Any] = MESSAGE | {
        "new_state": "asking",
        "patch": json.dumps({"step": "date"}),
        "removed": [],
        "expected_state": None,
    }

    async def turn(place: Place) -> Any:
        known = values | {"tenant_id": place.tenant_id, "user_id": place.user_id, "session_id": place.session_id}
        async with pool.acquire() as connection:
            await connection.execute(f"begin; set local app.tenant_id = '{place.tenant_id}'")
            found = await connection.fetchrow(OPEN.text, *[known[name] for name in OPEN.parameters])
            known["id"] = found["id"] if found else None
            await connection.fetchrow(UPDATE_STATE.text, *[known[name] for name in UPDATE_STATE.parameters])
            added = await connection.fetchrow(ADD.text, *[known[name] for name in ADD.parameters])
            await connection.execute("commit")
        return added

    return turn


def by_store(store: Store) -> Turn:
    async def turn(place: Place) -> Any:
        tenant = place.tenant_id
        async with store.transaction(tenant) as tx:
            found = await tx.conversations.get_or_create(tenant, place.user_id, place.session_id)
            await tx.conversations.update_state(tenant, found.id, "asking", {"step": "date"})
            return await tx.messages.add_message(
                tenant,
                place.user_id,
                place.session_id,
                user_message="And the day after?",
                bot_response="Nothing so far.",
                intent_detected="get_events",
                entities_extracted=ENTITIES,
                confidence_score=0.9,
                processing_time_ms=80,
            )

    return turn


class Meter:
    """The processor's time of the backends that work for one contender, and the bytes of the server's log."""

    def __init__(self, superuser: psycopg.Connection[Any], known: set[int]) -> None:
        """The backends are those that are there now, but for the `known` ones."""
        self._superuser = superuser
        self._pids = backends(superuser) - known

    def read(self) -> tuple[float, float]:
        # The first number is what the scheduler gave the process, in nanoseconds.
        ran = sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for pid in self._pids)
        row = self._superuser.execute("select pg_current_wal_insert_lsn() - '0/0'::pg_lsn").fetchone()
        return ran / 1000, float(row[0]) if row else 0.0


def backends(superuser: psycopg.Connection[Any]) -> set[int]:
    asked = "select pid from pg_stat_activity where datname = current_database()"
    return {pid for (pid,) in superuser.execute(asked)}


@dataclass(slots=True)
class Contender:
    name: str
    turn: Turn
    meter: Meter
    seconds: list[float] = field(default_factory=list)
    """Of a turn, round by round."""
    spent: list[float] = field(default_factory=lambda: [0.0, 0.0, 0.0])
    """All in all: microseconds of the client and of the server, bytes of the log."""


async def _opened(
    url: str, ground: Ground, superuser: psycopg.Connection[Any], resources: AsyncExitStack
) -> list[Contender]:
    async def store(scope: Literal["session", "transaction"]) -> Turn:
        settings = Settings(url=url, pool_size=POOL_SIZE, max_overflow=0, tenant_scope=scope)
        return by_store(await resources.enter_async_context(Store.open(settings)))

    async def pool() -> Turn:
        made = asyncpg.create_pool(url, min_size=POOL_SIZE, max_size=POOL_SIZE)
        return by_hand(await resources.enter_async_context(made))

    ways: dict[str, Awaitable[Turn]] = {
        BY_HAND: pool(),
        "store, session scope": store("session"),
        "store, transaction scope": store("transaction"),
    }
    rng, traffic, made = random.Random(1), one_tenant(ground), list[Contender]()
    for name, way in ways.items():
        known = backends(superuser)
        turn = await way
        lanes = [[traffic.draw(rng) for _ in range(WARM_UP)] for _ in range(POOL_SIZE)]
        await asyncio.gather(*(_each(turn, places) for places in lanes))
        made.append(Contender(name, turn, Meter(superuser, known)))
    return made


async def measure(url: str, ground: Ground, rounds: int) -> list[Contender]:
    rng, traffic = random.Random(2), one_tenant(ground)
    async with AsyncExitStack() as resources:
        superuser = resources.enter_context(psycopg.connect(ground.superuser_url, autocommit=True))
        contenders = await _opened(url, ground, superuser, resources)
        gc.collect()
        gc.disable()
        try:
            for _ in range(rounds):
                places = [traffic.draw(rng) for _ in range(TURNS)]
                for who in rng.sample(contenders, len(contenders)):
                    before, own, began = who.meter.read(), time.process_time(), time.perf_counter()
                    await _each(who.turn, places)
                    took, used = time.perf_counter() - began, (time.process_time() - own) * 1e6
                    after = who.meter.read()
                    who.seconds.append(took / TURNS)
                    more = (used, after[0] - before[0], after[1] - before[1])
                    who.spent = [old + new / TURNS for old, new in zip(who.spent, more, strict=True)]
                gc.collect()
        finally:
            gc.enable()
    return contenders


async def _each(turn: Turn, places: Sequence[Place]) -> None:
    for place in places:
        await turn(place)


async def main(server: str | None, rounds: int, delays: Sequence[float]) -> tuple[str, list[Figure]]:
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if importlib.util.find_spec("uvloop"):
        loops["uvloop"] = importlib.import_module("uvloop").new_event_loop
    figures = list[Figure]()
    async with prepared_ground(server) as ground:
        for delay in delays:
            many = rounds if delay < 1 else max(2, rounds // 4)
            async with delayed(ground.app_url, delay) as url:
                for loop, factory in loops.items():
                    size = _size(ground)
                    measured = await asyncio.to_thread(_run, factory, url, ground, many)
                    stored = (_size(ground) - size) / len(measured) / (many * TURNS + WARM_UP * POOL_SIZE)
                    figures += [_figure(loop, delay, each, measured[0], stored) for each in measured]
        return f"{ground.server}; Python {platform.python_version()}", figures


def _run(factory: Callable[[], asyncio.AbstractEventLoop], url: str, ground: Ground, rounds: int) -> list[Contender]:
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(measure(url, ground, rounds))


def _size(ground: Ground) -> int:
    with psycopg.connect(ground.superuser_url) as connection:
        row = connection.execute("select pg_database_size(current_database())").fetchone()
    return int(row[0]) if row else 0


def _figure(loop: str, delay: float, who: Contender, hand: Contender, stored: float) -> Figure:
    ratio = statistics.median(mine / theirs for mine, theirs in zip(who.seconds, hand.seconds, strict=True))
    client, server, wal = (each / len(who.seconds) for each in who.spent)
    return Figure(loop, delay, who.name, statistics.median(who.seconds) * 1000, ratio, client, server, wal, stored)


def show(versions: str, figures: Sequence[Figure]) -> None:
    table = Table(title="One turn of a conversation: find it, change its state, add a message, in one transaction")
    for heading in ("loop", "delay", "", "ms", "times by hand", "client µs", "server µs", "WAL bytes", "stored"):
        table.add_column(heading, justify="left" if heading in ("loop", "") else "right")
    for each in figures:
        table.add_row(
            each.loop,
            f"{each.delay_ms:g}",
            each.contender,
            f"{each.milliseconds:.2f}",
            f"{each.ratio:.2f}",
            f"{each.client_us:.0f}",
            f"{each.server_us:.0f}",
            f"{each.wal_bytes:.0f}",
            f"{each.stored_bytes:.0f}",
        )
    console = Console(width=max(Console().width, 110))
    console.print(table)
    console.print(versions, highlight=False)


def command(
    rounds: Annotated[int, typer.Option(min=4)] = 120,
    delays: Annotated[str, typer.Option(help="Milliseconds added to each round trip.")] = "0,0.5,5",
    server: Server = None,
    *,
    smoke: Smoke = False,
    json_: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """One turn of a conversation, beside the same by hand."""
    if smoke:
        rounds, delays = 4, "0"
    versions, figures = asyncio.run(main(server, rounds, [float(each) for each in delays.split(",")]))
    if json_:
        print(json.dumps({"versions": versions, "turns": [asdict(each) for each in figures]}, indent=2))
    else:
        show(versions, figures)


if __name__ == "__main__":
    typer.run(command)
