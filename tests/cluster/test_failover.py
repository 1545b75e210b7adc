"""Writers through the library while primaries die: nothing acknowledged is lost or twice, nothing is told wrongly."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace

import psycopg
import pytest

from tests.backup.installation import PASSWORD, PROGRAMS
from tests.cluster.nodes import Cluster, Node
from tests.support.standby import servers_directory
from thea_store import OutcomeUnknownError, Settings, Store, StoreError
from thea_store.embedded.account import server_account
from thea_store.postgres.url import DatabaseUrl
from thea_store.testing import TestServer

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(7200)]

KILLS = int(os.environ.get("THEA_CLUSTER_KILLS", "9"))
WRITERS = 8
COUNTED = "select content, count(*) from thea.notes where tenant_id = %s group by content"


@dataclass
class Told:
    """What the writers were told of each text, and when the last answer came."""

    done: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    at: list[tuple[float, float]] = field(default_factory=list)
    """When each write that was done began and ended."""
    longest: float = 0.0
    """Seconds that the longest call took, whatever its outcome."""


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    for program in ("etcd", "/usr/bin/python3", str(PROGRAMS / "postgres")):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is missing: `apt-get install etcd-server python3 postgresql-15`")
    if (place := os.environ.get("THEA_PATRONI")) is None:
        pytest.skip("Patroni is missing: `make test-cluster` installs it")
    with servers_directory() as directory:
        (directory / "all").mkdir()
        shutil.copytree(place, directory / "patroni")  # where the servers' account may read it
        with Cluster(directory / "all", server_account(None), directory / "patroni").running() as made:
            yield made


async def write(store: Store, user: int, number: int, told: Told, over: asyncio.Event) -> None:
    n = 0
    while not over.is_set():
        n += 1
        text, began = f"writer {number} note {n}", time.monotonic()
        try:
            await store.notes.create("acme", user, text)
        except OutcomeUnknownError:
            told.unknown.add(text)
        except StoreError:
            told.failed.add(text)
        else:
            told.done.add(text)
            told.at.append((began, time.monotonic()))
        told.longest = max(told.longest, time.monotonic() - began)
        await asyncio.sleep(0.005)


def hit(node: Node, kind: str) -> None:
    node.signal(signal.SIGSTOP if kind == "frozen" else signal.SIGKILL, with_patroni=kind != "server")


def mend(node: Node, kind: str) -> None:
    if kind == "frozen":
        node.signal(signal.SIGCONT, with_patroni=True)
    elif kind == "node":
        node.end()
        node.start()


async def one(cluster: Cluster, kind: str, told: Told) -> tuple[float, float]:
    """Seconds until the cluster takes writes again, and until a writer's call that began after the fault is done."""
    node = cluster.leader()
    assert node is not None
    told.longest = 0.0
    struck = time.monotonic()
    await asyncio.to_thread(hit, node, kind)
    others = Cluster.writable if kind == "server" else lambda cluster: cluster.leader() not in {node, None}
    await asyncio.sleep(0.3)
    await asyncio.to_thread(cluster.until, lambda: others(cluster))
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


async def test_no_kill_loses_doubles_or_misreports_a_write(cluster: Cluster) -> None:
    leader = cluster.leader()
    assert leader is not None
    superuser = f"postgresql://postgres:{PASSWORD}@127.0.0.1:{leader.port}/postgres"
    with ExitStack() as resources:
        made = TestServer(superuser).new_database(resources)
        resources.pop_all()  # it ends with the cluster
        hosts = tuple(("127.0.0.1", node.port) for node in cluster.nodes)
        url = replace(DatabaseUrl.parse(made.app_url), hosts=hosts).render()
    told, over = Told(), asyncio.Event()
    settings = Settings(url=url, pool_size=WRITERS, command_timeout=3, pool_timeout=5)
    async with Store.open(settings) as store:
        user = (await store.users.get_or_create_from_telegram("acme", 1)).id
        writers = [asyncio.create_task(write(store, user, number, told, over)) for number in range(WRITERS)]
        try:
            for number in range(KILLS):
                await asyncio.sleep(1)
                kind = ("server", "node", "frozen")[number % 3]
                recovered, back = await one(cluster, kind, told)
                print(
                    f"{kind}: cluster {recovered:.2f} s, writers {back:.2f} s, longest {told.longest:.2f} s", flush=True
                )
        finally:
            over.set()
            await asyncio.gather(*writers)
    leader = cluster.leader()
    assert leader is not None
    final = replace(DatabaseUrl.parse(made.superuser_url), hosts=(("127.0.0.1", leader.port),)).render()
    with closing(psycopg.connect(final)) as connection:
        counted: dict[str, int] = dict(connection.execute(COUNTED, ["acme"]).fetchall())
    print(f"{len(told.done)} acknowledged, {len(told.unknown)} unknown, {len(told.failed)} failed", flush=True)
    lost = sorted(told.done - counted.keys())
    wrong = sorted(told.failed & counted.keys())
    twice = {text for text, count in counted.items() if count > 1}
    assert (lost, twice, wrong) == ([], set(), [])
