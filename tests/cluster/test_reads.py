"""Ten thousand reads right after writes, on two standbys whose replay is held back: each finds what was written."""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import psycopg
import pytest

from tests.support.standby import Standby, servers_directory, standbys
from thea_store import Settings, Store
from thea_store.embedded import EmbeddedPostgres
from thea_store.migrator import migrate
from thea_store.postgres.url import DatabaseUrl

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(1800)]

TENANTS, ROUNDS = 10, 500


@contextmanager
def delayed(standby: Standby) -> Iterator[None]:
    """It replays each commit a little later than it might."""
    with psycopg.connect(standby.superuser_url, autocommit=True) as superuser:
        superuser.execute("alter system set recovery_min_apply_delay = '20ms'")
        superuser.execute("select pg_reload_conf()")
    yield


@contextmanager
def halting(standby: Standby) -> Iterator[None]:
    """Its replay stands still for moments, some of them longer than a read waits."""
    over, moments = threading.Event(), random.Random(7)

    def halts() -> None:
        with psycopg.connect(standby.superuser_url, autocommit=True) as superuser:
            while not over.is_set():
                superuser.execute("select pg_wal_replay_pause()")
                over.wait(moments.uniform(0, 0.2))
                superuser.execute("select pg_wal_replay_resume()")
                over.wait(moments.uniform(0, 0.2))

    thread = threading.Thread(target=halts)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


async def writes_and_reads(store: Store, tenant: str) -> Counter[bool]:
    """How often a read found what had been written just before."""
    user = await store.users.create(tenant, telegram_id=1)
    found: Counter[bool] = Counter()
    for number in range(ROUNDS):
        name = str(number)
        if number % 2:
            await store.users.update(tenant, user.id, first_name=name)
        else:
            async with store.transaction(tenant) as tx:
                await tx.users.update(tenant, user.id, first_name=name)
        once = await store.users.get_by_id(tenant, user.id)
        async with store.transaction(tenant, read_only=True) as tx:
            again = await tx.users.get_by_id(tenant, user.id)
        found.update(each is not None and each.first_name == name for each in (once, again))
    return found


async def test_no_read_is_stale() -> None:
    with servers_directory() as directory:
        async with EmbeddedPostgres(directory / "primary") as primary:
            await asyncio.to_thread(migrate, primary.migrator_url)
            with standbys(primary, directory, 2) as (first, second), delayed(first), halting(second):
                hosts = tuple(host for each in (first, second) for host in DatabaseUrl.parse(each.app_url).hosts)
                replicas = replace(DatabaseUrl.parse(first.app_url), hosts=hosts).render()
                settings = Settings(url=primary.app_url, replica_url=replicas, reads="replica", pool_size=TENANTS)
                async with Store.open(settings) as store:
                    by: Counter[str] = Counter()
                    store.on_call(lambda call: by.update([call.server] * (call.query == "users.get_by_id")))
                    all_of = await asyncio.gather(*(writes_and_reads(store, f"t{n}") for n in range(TENANTS)))
    found = sum(all_of, Counter[bool]())
    print(f"{found[True]} found what was written, {found[False]} did not; {dict(by)}", flush=True)

    assert found == {True: 2 * TENANTS * ROUNDS}
    assert by["replica"] > TENANTS * ROUNDS  # most of them on the standbys, or nothing is shown
