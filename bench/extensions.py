"""What extensions cost: opening a store with twenty of them, and a call through one beside the library's own.

    python bench/extensions.py [number]

Medians of runs that take turns in one process, on an embedded PostgreSQL.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from options import Smoke

from thea_store import Extension, Settings, Store
from thea_store.cli.new import new_aggregate, new_extension
from thea_store.embedded import EmbeddedPostgres
from thea_store.migrator import migrate

ROUNDS, CALLS = 15, 133


def extensions(number: int) -> list[Extension]:
    """So many, each with one table and its common queries, written into the current directory."""
    made = []
    for place in range(number):
        name = f"bench{place}"
        new_extension(name)
        new_aggregate("tasks", name, ["title:text", "due_at:timestamptz?", "done:boolean"], ["users"])
        Path("tests", "test_tasks.py").unlink()
        made.append(getattr(importlib.import_module(name), name.upper()))
    return made


async def opening(url: str, given: list[Extension]) -> float:
    began = time.perf_counter()
    async with Store.open(Settings(url=url, pool_size=1), extensions=given):
        return (time.perf_counter() - began) * 1000


async def calls(call: Callable[[], Awaitable[Any]]) -> float:
    began = time.perf_counter()
    for _ in range(CALLS):
        await call()
    return time.perf_counter() - began


async def measure(number: int, rounds: int) -> None:
    given = extensions(number)
    queries = sum(len(file.claimed) for extension in given for file in extension.sql_files)
    async with EmbeddedPostgres() as server:
        await asyncio.to_thread(migrate, server.migrator_url, lineages=[each.lineage for each in given])
        alone, with_all = [], []
        for _ in range(rounds):
            alone.append(await opening(server.app_url, []))
            with_all.append(await opening(server.app_url, given))
        print(f"open, no extension             {statistics.median(alone):6.0f} ms")
        print(f"open, {number} extensions, {queries} queries {statistics.median(with_all):6.0f} ms")
        async with Store.open(Settings(url=server.app_url, pool_size=1), extensions=given) as store:
            user = await store.users.create("acme", telegram_id=1)
            note = await store.notes.create("acme", user.id, "Comprar pan")
            tasks = given[0].aggregates[0].repository(store)
            task = await tasks.create("acme", user_id=user.id, title="Comprar pan")  # type: ignore[attr-defined]
            own, theirs = [], []
            for _ in range(rounds):
                own.append(await calls(lambda: store.notes.get_by_id("acme", note.id)))
                theirs.append(await calls(lambda: tasks.get_by_id("acme", task.id)))
            ratio = statistics.median(b / a for a, b in zip(own, theirs, strict=True))
            print(f"get_by_id, an extension's / the library's own: {ratio:.2f}")


def main(number: Annotated[int, typer.Argument(min=1)] = 20, *, smoke: Smoke = False) -> None:
    """What so many extensions cost."""
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        sys.path.insert(0, directory)
        asyncio.run(measure(1, 1) if smoke else measure(number, ROUNDS))


if __name__ == "__main__":
    typer.run(main)
