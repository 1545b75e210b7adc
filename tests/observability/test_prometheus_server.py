"""A real Prometheus over an hour of ordinary load and over faults that are provoked one after the other."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry, start_http_server

from tests.observability.test_dashboards import ALERTS, PLACE, expressions
from tests.observability.timeline import STEP, Prometheus, Timeline, promtool, running
from tests.support.patience import let_calls_wait
from tests.support.standby import Standby, servers_directory, standbys
from thea_store import (
    DuplicateError,
    OutcomeUnknownError,
    PoolTimeoutError,
    Settings,
    Store,
    StoreError,
    StoreUnavailableError,
)
from thea_store.embedded import EmbeddedPostgres
from thea_store.migrator import migrate
from thea_store.telemetry import prometheus

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("prometheus")]

END_WHO_WAITS = """
select pg_terminate_backend(pid)
from pg_stat_activity
where wait_event_type = 'Lock' and datname = current_database()
"""
HOUR, MINUTES = 3600 // STEP, 60 // STEP


class Told(NamedTuple):
    """What Prometheus knows: its server, and when what happened."""

    server: Prometheus
    phases: dict[str, tuple[float, float]]


async def ordinary(store: Store, tenant: str, n: int) -> None:
    """What a service does in a quarter of a minute."""
    user = await store.users.get_or_create_from_telegram(tenant, n % 7 + 1)
    await store.users.get_by_id(tenant, user.id)
    async with store.transaction(tenant, read_only=True) as tx:
        await tx.users.count(tenant)
    if n % 20 == 0:
        with pytest.raises(DuplicateError):
            await store.users.create(tenant, telegram_id=user.telegram_id or 0)


async def full_pool(store: Store, tenant: str, timeline: Timeline, superuser: psycopg.Connection[Any]) -> None:
    del superuser
    pool = store._database._pool
    async with store.transaction(tenant), store.transaction(tenant):
        let_calls_wait(pool, 0.01)
        with pytest.raises(PoolTimeoutError):
            await store.users.count(tenant)
        let_calls_wait(pool, 30.0)
        waiting = [asyncio.create_task(store.users.count(tenant)) for _ in range(3)]
        await asyncio.sleep(0)
        timeline.look(5 * MINUTES)
    await asyncio.gather(*waiting)


async def locked(superuser: psycopg.Connection[Any]) -> None:
    """Lock the notes, while the store goes on: the plan of a slow query may hold them for a moment."""
    await asyncio.to_thread(superuser.execute, "lock table thea.notes")


async def slow_query(store: Store, tenant: str, timeline: Timeline, superuser: psycopg.Connection[Any]) -> None:
    user = await store.users.get_or_create_from_telegram(tenant, 1)
    await store.notes.create(tenant, user.id, "the first, so that the counters are there")
    timeline.look(MINUTES)
    for _ in range(2):
        with superuser.transaction():
            await locked(superuser)
            calls = [asyncio.create_task(store.notes.create(tenant, user.id, "slow")) for _ in range(2)]
            await asyncio.sleep(0.7)
        await asyncio.gather(*calls)
    timeline.look(5 * MINUTES)


async def failover(store: Store, tenant: str, timeline: Timeline, superuser: psycopg.Connection[Any]) -> None:
    """The server takes no writes any more, as one that was demoted."""
    login = psycopg.conninfo.conninfo_to_dict(store._settings.url)["user"]
    superuser.execute(f"alter role {login} set default_transaction_read_only = on".encode())
    try:
        for connection in list(store._database._pool._open):
            connection.raw.terminate()
        with pytest.raises(StoreError):
            await store.users.update_last_activity(tenant, 1)
    finally:
        superuser.execute(f"alter role {login} reset default_transaction_read_only".encode())
    store._database._pool.expire()
    await ordinary(store, tenant, 1)
    timeline.look(2 * MINUTES)


async def unknown_outcome(store: Store, tenant: str, timeline: Timeline, superuser: psycopg.Connection[Any]) -> None:
    """The server ends the connection while it works on a write."""
    user = await store.users.get_or_create_from_telegram(tenant, 1)
    with superuser.transaction():
        await locked(superuser)
        call = asyncio.create_task(store.notes.create(tenant, user.id, "lost"))
        for _ in range(500):
            await asyncio.sleep(0.01)
            if superuser.execute(END_WHO_WAITS).fetchall():
                break
        with pytest.raises(OutcomeUnknownError):
            await call
    timeline.look(2 * MINUTES)


async def unavailable(store: Store, tenant: str, timeline: Timeline, superuser: psycopg.Connection[Any]) -> None:
    """The database is gone, as after a mistake with its name."""
    del superuser
    connector = store._database._connector
    there, connector.address = connector.address, replace(connector.address, database="nowhere")
    for connection in list(store._database._pool._open):
        connection.raw.terminate()
    for _ in range(3 * MINUTES):
        with pytest.raises(StoreUnavailableError):
            await store.users.count(tenant)
        timeline.look()
    connector.address = there


async def replica_behind(store: Store, tenant: str, timeline: Timeline, superuser: psycopg.Connection[Any]) -> None:
    """A standby that receives and replays nothing, for a minute as the store has it."""
    replicas = store._database._replicas
    assert replicas
    [place] = replicas.each[0].connector.address.hosts
    with psycopg.connect(superuser.info.dsn, host=place[0], port=place[1], autocommit=True) as standby:
        standby.execute("select pg_wal_replay_pause()")
        await store.users.get_or_create_from_telegram(tenant, 1000)
        await replicas.look()
        replicas._positions = type(replicas._positions)((seen - 60, position) for seen, position in replicas._positions)
        await replicas.look()
        timeline.look(5 * MINUTES)
        standby.execute("select pg_wal_replay_resume()")
    for _ in range(1000):
        await replicas.look()
        if not replicas.each[0].lag:
            return
        await asyncio.sleep(0.01)
    pytest.fail("the standby does not catch up")


Fault = Callable[[Store, str, Timeline, psycopg.Connection[Any]], Any]
FAULTS: dict[str, Fault] = {
    "TheaStorePoolExhausted": full_pool,
    "TheaStoreSlowQuery": slow_query,
    "TheaStoreReplicaBehind": replica_behind,
    "TheaStoreFailover": failover,
    "TheaStoreOutcomeUnknown": unknown_outcome,
    "TheaStoreUnavailable": unavailable,
}


Cluster = tuple[EmbeddedPostgres, Standby]


@pytest_asyncio.fixture(scope="module")
async def cluster() -> AsyncIterator[Cluster]:
    """A primary, and a standby that follows it."""
    with servers_directory() as directory:
        async with EmbeddedPostgres(directory / "primary") as primary:
            await asyncio.to_thread(migrate, primary.migrator_url)
            with standbys(primary, directory, 1) as [standby]:
                yield primary, standby


@pytest_asyncio.fixture(scope="module")
async def told(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Told]:
    promtool()
    directory, registry = tmp_path_factory.mktemp("prometheus"), CollectorRegistry()
    minutes_of_faults = 20 * len(FAULTS)
    timeline = Timeline(registry, float(round(time.time()) - 3600 - 60 * minutes_of_faults - 600))
    phases: dict[str, tuple[float, float]] = {}
    primary, standby = cluster
    settings = Settings(url=primary.app_url, replica_url=standby.app_url, pool_size=2, max_overflow=0)
    with psycopg.connect(primary.superuser_url, autocommit=True) as superuser, ExitStack() as resources:
        async with Store.open(settings) as store:
            prometheus.instrument(store, registry)
            for name, fault in {"ordinary": None, **FAULTS}.items():
                began = timeline.now
                if fault is not None:
                    await fault(store, "observed", timeline, superuser)
                phases[name] = (began, timeline.now + 10 * 60)
                for n in range(HOUR if fault is None else 12 * MINUTES):
                    await ordinary(store, "observed", n)
                    timeline.look()
                if fault is None:
                    phases[name] = (began, timeline.now)
            timeline.write(directory)
            server, thread = start_http_server(0, "127.0.0.1", registry=registry)
            resources.callback(thread.join)
            resources.callback(server.server_close)
            resources.callback(server.shutdown)
            configuration = (
                "global: {scrape_interval: 1s}\n"
                f"rule_files: [{ALERTS}]\n"
                "scrape_configs:\n"
                f"  - {{job_name: notes, static_configs: [{{targets: ['127.0.0.1:{server.server_port}']}}]}}\n"
            )
            yield Told(resources.enter_context(running(configuration, directory)), phases)


def rules(server: Prometheus) -> dict[str, dict[str, Any]]:
    return {rule["name"]: rule for group in server.ask("rules")["groups"] for rule in group["rules"]}


async def test_no_alert_fires_in_an_hour_of_ordinary_load(told: Told) -> None:
    began, ended = told.phases["ordinary"]
    firing = {name: told.server.fires(rule, began, ended) for name, rule in rules(told.server).items()}

    assert ended - began == 3600
    assert {name for name, seconds in firing.items() if seconds} == set()


@pytest.mark.parametrize("alert", FAULTS)
async def test_an_alert_fires_in_its_fault(told: Told, alert: str) -> None:
    began, ended = told.phases[alert]

    assert told.server.fires(rules(told.server)[alert], began, ended)


async def test_every_rule_has_a_fault(told: Told) -> None:
    assert {*FAULTS} == rules(told.server).keys()


@pytest.mark.parametrize("panel", sorted(expressions()))
async def test_an_expression_of_the_dashboard_has_data(told: Told, panel: str) -> None:
    began, ended = min(told.phases.values())[0], max(told.phases.values())[1]

    assert any(told.server.over_time(expressions()[panel], began, ended))


async def test_a_service_that_runs_is_scraped(told: Told) -> None:
    for _ in range(200):
        found = told.server.ask("query", query='db_client_connection_max{instance!="replayed"}')["result"]
        if found:
            break
        await asyncio.sleep(0.1)

    assert {series["metric"]["job"] for series in found} == {"notes"}
    [target] = told.server.ask("targets")["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")


def test_the_shipped_configuration_is_read_by_prometheus(tmp_path: Path) -> None:
    command = [promtool(), "check", "config", str(PLACE / "prometheus" / "prometheus.yml")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)

    assert done.returncode == 0, done.stdout + done.stderr
