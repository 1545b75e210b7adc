"""A cluster that loses what it acknowledged, which the judge must report."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from tests.cluster.judge import Told
from tests.cluster.nodes import running
from tests.cluster.writing import verdict, writers

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(600)]


async def test_what_a_primary_without_synchronous_standbys_acknowledged_is_reported_as_lost(place: Path) -> None:
    told = Told()
    with running(place, synchronous=False) as cluster:
        async with writers(cluster, told) as superuser_url:
            await asyncio.sleep(1)
            leader = cluster.leader()
            assert leader is not None
            others = [node for node in cluster.nodes if node is not leader]
            for node in others:
                cluster.network.cut(node.number)
            await asyncio.sleep(1)
            leader.signal(signal.SIGKILL, with_patroni=True)
            cluster.network.cut(leader.number)  # else its kernel would send what the server had handed to it
            for node in others:
                cluster.network.join(node.number)
            await asyncio.to_thread(cluster.until, lambda: cluster.writable(leader))
        found = verdict(cluster, told, superuser_url)

    assert found.lost
    assert (found.twice, found.wrong) == ([], [])
