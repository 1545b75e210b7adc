"""Writers through the library while primaries fail: nothing acknowledged is lost or twice, nothing is told wrongly."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections import defaultdict
from pathlib import Path

import pytest

from tests.cluster.judge import Told, Verdict
from tests.cluster.nodes import Cluster, Node, running
from tests.cluster.writing import verdict, writers

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(7200)]

KILLS = int(os.environ.get("THEA_CLUSTER_KILLS", "10"))
KINDS = ("server", "node", "frozen", "network", "disk")
# Seconds that a call may take at the writers' command timeout, unless a disk is full.
LONGEST = 8.0
# Seconds after the cluster's own recovery within which a write is done, where a process was killed: nineteen times in
# twenty, and always.
LATER, LATEST = 1.0, 3.0
# Seconds after which somebody makes room on a disk, and after which nobody waits for a write any more.
FULL, ENOUGH = 20.0, 80.0


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


def relieve(node: Node, kind: str, struck: float) -> None:
    """Make room on a disk after a while: with some left for its log, a server goes on leading and takes no row."""
    if kind == "disk" and time.monotonic() > struck + FULL:
        node.make_room()


async def one(cluster: Cluster, kind: str, told: Told) -> tuple[float, float]:
    """Seconds until the cluster takes writes again, and until a writer's call that began after the fault is done."""
    node = cluster.leader()
    assert node is not None
    told.longest = 0.0
    await asyncio.to_thread(hit, node, kind)
    struck = time.monotonic()
    besides = None if kind in {"server", "disk"} else node
    await asyncio.sleep(0.3)

    def writable() -> bool:
        relieve(node, kind, struck)
        return cluster.writable(besides)

    await asyncio.to_thread(cluster.until, writable)
    recovered = time.monotonic()
    while not (back := [end for began, end in told.at if end > struck + 0.3 and end > began > struck]):
        await asyncio.sleep(0.02)
        relieve(node, kind, struck)
        assert time.monotonic() < recovered + ENOUGH, f"no write since the fault ({kind})"
    await asyncio.to_thread(mend, node, kind)
    await asyncio.to_thread(cluster.until, cluster.whole)
    return recovered - struck, back[0] - struck


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
    assert [each for kind in KINDS if kind != "disk" for each in seconds[kind] if each[2] > LONGEST] == []
    later = [back - recovered for kind in ("server", "node") for recovered, back, _ in seconds[kind]]
    print(f"after a kill: {sorted(round(each, 2) for each in later)}", flush=True)
    assert sum(each > LATER for each in later) <= len(later) // 20
    assert max(later) <= LATEST
