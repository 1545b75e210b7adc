"""Calls a second of 1, 4, 16 and 64 tasks over a pool of ten: the store beside asyncpg's own pool.

    python bench/tasks.py [--rounds 40] [--json]

Each task reads one user after another. asyncpg's pool sends the same statement without row security and returns plain
records. A figure is the median of the rounds' ratios, so that a busy machine disturbs both alike; more is better.
"""

from __future__ import annotations

import asyncio
import json
import platform
import random
import statistics
import time
from collections.abc import Sequence
from typing import Annotated

import asyncpg
import typer
from ground import Ground, Place, Traffic, one_tenant, prepared_ground, zipf
from options import Server, Smoke
from peers import AsyncpgPool, Peer, StorePeer
from rich.console import Console
from rich.table import Table

from thea_store import Settings, Store

POOL_SIZE, CALLS, TASKS = 10, 320, (1, 4, 16, 64)


async def seconds(peer: Peer, places: Sequence[Place], tasks: int) -> float:
    """For these calls, shared among so many tasks."""

    async def some(first: int) -> None:
        for place in places[first::tasks]:
            await peer.one_row(place)

    began = time.perf_counter()
    await asyncio.gather(*map(some, range(tasks)))
    return time.perf_counter() - began


async def ratios(ground: Ground, traffic: Traffic, rounds: int) -> dict[int, float]:
    """The store's calls a second, in times of the pool's, by the number of tasks."""
    rng, found = random.Random(1), dict[int, float]()
    settings = Settings(url=ground.app_url, pool_size=POOL_SIZE, max_overflow=0)
    opened = asyncpg.create_pool(ground.plain_url, min_size=POOL_SIZE, max_size=POOL_SIZE)
    async with opened as pool, Store.open(settings) as store:
        peers: list[Peer] = [AsyncpgPool(pool), StorePeer(store)]
        for tasks in TASKS:
            taken: tuple[list[float], list[float]] = ([], [])
            for turn in range(rounds + 3):
                places = [traffic.draw(rng) for _ in range(CALLS)]
                for who in rng.sample((0, 1), 2):
                    took = await seconds(peers[who], places, tasks)
                    if turn >= 3:  # the first ones warm up
                        taken[who].append(took)
            found[tasks] = statistics.median(theirs / mine for theirs, mine in zip(*taken, strict=True))
    return found


async def measured(server: str | None, rounds: int) -> tuple[str, dict[str, dict[int, float]]]:
    async with prepared_ground(server) as ground:
        return f"{ground.server}; Python {platform.python_version()}", {
            "one tenant": await ratios(ground, one_tenant(ground), rounds),
            "100 tenants by Zipf": await ratios(ground, zipf(ground), rounds),
        }


def command(
    rounds: Annotated[int, typer.Option(min=3)] = 40,
    server: Server = None,
    *,
    smoke: Smoke = False,
    json_: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
) -> None:
    """Calls a second of some tasks over one pool, beside asyncpg's pool."""
    versions, found = asyncio.run(measured(server, 3 if smoke else rounds))
    if json_:
        print(json.dumps({"versions": versions, "ratios": found}, indent=2))
        return
    table = Table("", *(f"{tasks} tasks" for tasks in TASKS), title="Calls a second, in times of asyncpg's pool")
    for name, figures in found.items():
        table.add_row(name, *(f"{figures[tasks]:.2f}" for tasks in TASKS))
    console = Console(width=100)
    console.print(table)
    console.print(versions, highlight=False)


if __name__ == "__main__":
    typer.run(command)
