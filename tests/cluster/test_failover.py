"""Writers through the library while primaries fail: nothing acknowledged is lost or twice, nothing is told wrongly."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.backup.installation import PROGRAMS
from tests.cluster.judge import Told, Verdict, judge
from tests.cluster.nodes import Cluster, Node
from tests.support.standby import servers_directory
from thea_store import OutcomeUnknownError, Settings, Store, StoreError
from thea_store.embedded.account import server_account
from thea_store.postgres.url import DatabaseUrl
from thea_store.testing import TestServer

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(7200)]

KILLS = int(os.environ.get("THEA_CLUSTER_KILLS", "10"))
KINDS = ("server", "node", "frozen", "network", "disk")
WRITERS = 8
COMMAND = 3.0
# Seconds that a call may take at this command timeout where a node says nothing any more.
LONGEST = 8.0
# Seconds after the cluster's own recovery within which a write is done, where a process was killed.
LATER = 1.0
# Seconds after which somebody makes room on a disk.
FULL = 30.0
COUNTED = "select content, count(*) from thea.notes where tenant_id = %s group by content"

Write = Callable[[Store, int, str], Awaitable[object]]


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of the servers' account, with Patroni in it."""
    for program in ("etcd", "ip", "setpriv", "/usr/bin/python3", str(PROGRAMS / "postgres")):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is missing: `apt-get install etcd-server iproute2 python3 postgresql-15`")
    if os.geteuid() != 0:
        pytest.skip("only root makes the nodes' networks and disks")
    if (patroni := os.environ.get("THEA_PATRONI")) is None:
        pytest.skip("Patroni is missing: `make test-cluster` installs it")
    with servers_directory() as directory:
        (directory / "all").mkdir()
        shutil.copytree(patroni, directory / "patroni")  # where the servers' account may read it
        yield directory


@contextmanager
def running(place: Path, *, synchronous: bool = True) -> Iterator[Cluster]:
    account = server_account(None)
    with Cluster(place / "all", account, place / "patroni", synchronous=synchronous).running() as made:
        yield made


async def create(store: Store, user: int, text: str) -> None:
    await store.notes.create("acme", user, text)


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


def hit(node: Node, kind: str) -> None:
    match kind:
        case "network":
            node.cluster.network.cut(node.number)
        case "disk":
            node.fill()
        case _:
            node.signal(signal.SIGSTOP if kind == "frozen" else signal.SIGKILL, with_patroni=kind != "server")


def mend(node: Node, kind: str) -> None:
    match kind:
        case "frozen":
            node.signal(signal.SIGCONT, with_patroni=True)
        case "network":
            node.cluster.network.join(node.number)
        case "disk":
            node.make_room()
        case "node":
            node.end()
            node.start()


async def one(cluster: Cluster, kind: str, told: Told) -> tuple[float, float]:
    """Seconds until the cluster takes writes again, and until a writer's call that began after the fault is done."""
    node = cluster.leader()
    assert node is not None
    told.longest = 0.0
    await asyncio.to_thread(hit, node, kind)
    struck = time.monotonic()
    besides = None if kind in {"server", "disk"} else node
    await asyncio.sleep(0.3)
    ends = struck + FULL

    def writable() -> bool:
        if kind == "disk" and time.monotonic() > ends:  # it still leads, and cannot go on
            node.make_room()
        return cluster.writable(besides)

    await asyncio.to_thread(cluster.until, writable)
    recovered = time.monotonic()
    for _ in range(3000):
        if back := [end for began, end in told.at if end > struck + 0.3 and end > began > struck]:
            break
        await asyncio.sleep(0.02)
    else:
        pytest.fail(f"no write since the fault ({kind})")
    await asyncio.to_thread(mend, node, kind)
    await asyncio.to_thread(cluster.until, cluster.whole)
    return recovered - struck, back[0] - struck


@asynccontextmanager
async def writers(cluster: Cluster, told: Told, one: Write = create) -> Any:
    """Eight of them, until the block is left; what it gives then says how often each text is there."""
    leader = cluster.leader()
    assert leader is not None
    with ExitStack() as resources:
        made = TestServer(leader.url).new_database(resources)
        resources.pop_all()  # it ends with the cluster
    hosts = tuple((node.address, 5432) for node in cluster.nodes)
    url = replace(DatabaseUrl.parse(made.app_url), hosts=hosts).render()
    over = asyncio.Event()
    async with Store.open(Settings(url=url, pool_size=WRITERS, command_timeout=COMMAND)) as store:
        user = (await store.users.get_or_create_from_telegram("acme", 1)).id
        by = partial(one, store, user)
        tasks = [asyncio.create_task(write(number, by, told, over)) for number in range(WRITERS)]
        try:
            yield made.superuser_url
        finally:
            over.set()
            await asyncio.gather(*tasks)


def verdict(cluster: Cluster, told: Told, superuser_url: str) -> Verdict:
    leader = cluster.leader()
    assert leader is not None
    final = replace(DatabaseUrl.parse(superuser_url), hosts=((leader.address, 5432),)).render()
    with closing(psycopg.connect(final)) as connection:
        counted: dict[str, int] = dict(connection.execute(COUNTED, ["acme"]).fetchall())
    print(f"{len(told.done)} acknowledged, {len(told.unknown)} unknown, {len(told.failed)} failed", flush=True)
    return judge(told, counted)


async def test_no_fault_loses_doubles_or_misreports_a_write(place: Path) -> None:
    told, seconds = Told(), defaultdict[str, list[tuple[float, float, float]]](list)
    with running(place) as cluster:
        async with writers(cluster, told) as superuser_url:
            for number in range(KILLS):
                await asyncio.sleep(1)
                kind = KINDS[number % len(KINDS)]
                recovered, back = await one(cluster, kind, told)
                seconds[kind].append((recovered, back, told.longest))
                print(
                    f"{kind}: cluster {recovered:.2f} s, writers {back:.2f} s, longest {told.longest:.2f} s", flush=True
                )
        found = verdict(cluster, told, superuser_url)

    assert found == Verdict([], [], [])
    late = [each for kind in ("server", "node") for each in seconds[kind] if each[1] > each[0] + LATER]
    slow = [each for kind in ("frozen", "network") for each in seconds[kind] if each[2] > LONGEST]
    assert (late, slow) == ([], [])
