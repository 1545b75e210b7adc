"""Eight writers through the library on a cluster, and what they were told, held against what is there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager, closing
from dataclasses import replace
from functools import partial

import psycopg

from tests.cluster.judge import Told, Verdict, judge
from tests.cluster.nodes import Cluster
from thea_store import OutcomeUnknownError, Settings, Store, StoreError
from thea_store.postgres.url import DatabaseUrl
from thea_store.testing import TestServer

__all__ = ["COMMAND", "Write", "counted", "create", "verdict", "write", "writers"]

WRITERS = 8
COMMAND = 3.0
COUNTED = "select content, count(*) from thea.notes where tenant_id = %s group by content"

TENANT = "acme"

Write = Callable[[Store, str, int, str], Awaitable[object]]


async def create(store: Store, tenant: str, user: int, text: str) -> None:
    await store.notes.create(tenant, user, text)


async def write(number: int, one: Callable[[str], Awaitable[object]], told: Told, over: asyncio.Event) -> None:
    n = 0
    while not over.is_set():
        n += 1
        text, began = f"writer {number} note {n}", time.monotonic()
        try:
            await one(text)
        except OutcomeUnknownError:
            told.unknown.add(text)
        except StoreError:
            told.failed.add(text)
        else:
            told.done.add(text)
            told.at.append((began, time.monotonic()))
        told.longest = max(told.longest, time.monotonic() - began)
        await asyncio.sleep(0.02)


@asynccontextmanager
async def writers(cluster: Cluster, told: Told) -> AsyncIterator[str]:
    """Eight of them, until the block is left; it gets a superuser's URL of their database."""
    leader = cluster.leader()
    assert leader is not None
    with ExitStack() as resources:
        made = TestServer(leader.url).new_database(resources)
        resources.pop_all()  # it ends with the cluster
    hosts = tuple((node.address, 5432) for node in cluster.nodes)
    url = replace(DatabaseUrl.parse(made.app_url), hosts=hosts).render()
    over = asyncio.Event()
    async with Store.open(Settings(url=url, pool_size=WRITERS, command_timeout=COMMAND)) as store:
        user = (await store.users.get_or_create_from_telegram(TENANT, 1)).id
        by = partial(create, store, TENANT, user)
        tasks = [asyncio.create_task(write(number, by, told, over)) for number in range(WRITERS)]
        try:
            yield made.superuser_url
        finally:
            over.set()
            await asyncio.gather(*tasks)


def verdict(cluster: Cluster, told: Told, superuser_url: str) -> Verdict:
    """What is wrong with what they were told, by the rows of the primary of now."""
    leader = cluster.leader()
    assert leader is not None
    final = replace(DatabaseUrl.parse(superuser_url), hosts=((leader.address, 5432),)).render()
    found = counted(final, TENANT)
    there = len(told.unknown & found.keys())
    unknown = f"{len(told.unknown)} unknown, of which {there} are there"
    print(f"{len(told.done)} acknowledged, {unknown}, {len(told.failed)} failed", flush=True)
    return judge(told, found)


def counted(superuser_url: str, tenant: str) -> dict[str, int]:
    """How often each text is there."""
    with closing(psycopg.connect(superuser_url)) as connection:
        return dict(connection.execute(COUNTED, [tenant]).fetchall())
