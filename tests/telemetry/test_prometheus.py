"""What Prometheus reads of a store."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from prometheus_client import CollectorRegistry, generate_latest

from tests.support.patience import let_calls_wait
from thea_store import DuplicateError, OutcomeUnknownError, PoolTimeoutError, Settings, Store, StoreUnavailableError
from thea_store.telemetry import prometheus
from thea_store.testing import TestDatabase


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest_asyncio.fixture
async def measured(thea_database: TestDatabase, registry: CollectorRegistry) -> AsyncIterator[Store]:
    settings = Settings(
        url=thea_database.app_url,
        replica_url=thea_database.app_url,
        pool_size=1,
        max_overflow=0,
        ssl_mode="disable",
    )
    async with Store.open(settings) as store:
        prometheus.instrument(store, registry)
        yield store


def total(registry: CollectorRegistry, name: str, **labels: str) -> float:
    """The samples of this name with these labels, added up."""
    return sum(
        sample.value
        for metric in registry.collect()
        for sample in metric.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def all_labels(registry: CollectorRegistry) -> Iterator[str]:
    for metric in registry.collect():
        for sample in metric.samples:
            yield from sample.labels.values()


async def test_calls_are_counted_by_query_and_outcome(
    measured: Store, registry: CollectorRegistry, tenant: str
) -> None:
    await measured.users.create(tenant, telegram_id=1)
    await measured.users.create_many(tenant, [{"telegram_id": 2}, {"telegram_id": 3}])
    with pytest.raises(DuplicateError):
        await measured.users.create(tenant, telegram_id=1)

    duration, query = "db_client_operation_duration_seconds", "users.create_many"
    assert total(registry, f"{duration}_count", db_query_summary=query, error_type="") == 2
    assert total(registry, f"{duration}_count", db_query_summary=query, error_type="DuplicateError") == 1
    assert total(registry, f"{duration}_bucket", db_query_summary=query, le="+Inf") == 3
    assert total(registry, f"{duration}_sum", db_query_summary=query) > 0
    assert total(registry, "thea_store_rows_total", db_query_summary=query) == 3


async def test_no_label_is_a_tenant_or_a_value(measured: Store, registry: CollectorRegistry, tenant: str) -> None:
    user = await measured.users.create(tenant, telegram_id=424242, first_name="hunter2")
    await measured.notes.create(tenant, user.id, "hunter2")
    async with measured.transaction(tenant, actor="hunter2", request_id="hunter2", read_only=True) as tx:
        await tx.notes.search(tenant, user.id, "hunter2")

    shown = generate_latest(registry).decode()
    assert "notes.search" in shown
    assert not any(word in shown for word in (tenant, "hunter2", "424242"))


async def test_a_full_pool_is_seen_as_waiting_as_timeouts_and_as_refused_work(
    measured: Store, registry: CollectorRegistry, tenant: str
) -> None:
    before = total(registry, "db_client_connection_timeouts_total", thea_store_server="primary")
    let_calls_wait(measured._database._pool, 0.05)  # not before: a store that opens waits as long, too
    async with measured.transaction(tenant):
        with pytest.raises(PoolTimeoutError):
            await measured.users.count(tenant)
        used = total(
            registry, "db_client_connection_count", thea_store_server="primary", db_client_connection_state="used"
        )

    assert used == total(registry, "db_client_connection_max", thea_store_server="primary") == 1
    assert total(registry, "db_client_connection_timeouts_total", thea_store_server="primary") - before == 1
    assert total(registry, "thea_store_refused_total", error_type="PoolTimeoutError") == 1
    assert total(registry, "db_client_connection_wait_time_seconds_sum", thea_store_server="primary") >= 0.04
    assert total(registry, "db_client_connection_pending_requests") == 0


async def test_the_share_of_calls_that_found_their_tenants_connection_can_be_told(
    measured: Store, registry: CollectorRegistry, tenant: str, other_tenant: str
) -> None:
    for one in (tenant, tenant, tenant, other_tenant):
        await measured.users.count(one)

    asked, found = "thea_store_tenant_connection_asked_total", "thea_store_tenant_connection_found_total"
    assert (total(registry, asked), total(registry, found)) == (4, 2)


async def test_what_was_read_on_a_replica_is_told_apart(
    thea_new_database: Callable[[], TestDatabase], registry: CollectorRegistry, tenant: str
) -> None:
    # One of its own: where anything is said of any tenant's calls, the first read of each goes to the primary.
    url = thea_new_database().app_url
    async with Store.open(Settings(url=url, replica_url=url, pool_size=1, ssl_mode="disable")) as store:
        prometheus.instrument(store, registry)
        async with store.transaction(tenant, read_only=True) as tx:
            await tx.users.count(tenant)

    count = "db_client_operation_duration_seconds_count"
    assert total(registry, count, db_query_summary="users.count", thea_store_server="replica") == 1
    assert total(registry, count, db_query_summary="users.count", thea_store_server="primary") == 0


async def test_a_lost_connection_is_seen_as_a_retry_and_by_why_it_ended(
    measured: Store, registry: CollectorRegistry, tenant: str, superuser: psycopg.Connection[Any]
) -> None:
    pid = await next(iter(measured._database._pool._open)).raw.fetchval("select pg_backend_pid()")
    superuser.execute("select pg_terminate_backend(%s, 5000)", [pid])
    await measured.users.count(tenant)

    ended = total(registry, "thea_store_connections_ended_total", thea_store_reason="lost", thea_store_server="primary")
    assert ended == 1
    assert total(registry, "db_client_connection_create_time_seconds_count", thea_store_server="primary") == 2


async def test_an_unknown_outcome_is_counted_by_its_query(
    measured: Store, registry: CollectorRegistry, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(*_: object) -> None:
        raise OutcomeUnknownError("gone")

    monkeypatch.setattr("thea_store.database.database.in_session", lost)
    with pytest.raises(OutcomeUnknownError):
        await measured.users.create(tenant, telegram_id=1)

    assert total(registry, "thea_store_outcomes_unknown_total", db_query_summary="users.create_many") == 1


async def test_a_repeated_run_is_counted_as_a_retry(measured: Store, registry: CollectorRegistry, tenant: str) -> None:
    tries = iter([True, False])

    async def work(_: object) -> None:
        if next(tries):
            error = StoreUnavailableError("once more")
            error.repeatable = True
            raise error

    await measured.run(tenant, work)

    assert total(registry, "thea_store_retries_total", db_query_summary="run") == 1


async def test_counters_of_a_closed_store_stay_and_its_gauges_go(
    thea_database: TestDatabase, registry: CollectorRegistry, tenant: str
) -> None:
    for turn in (1, 2, 3):
        async with Store.open(Settings(url=thea_database.app_url, pool_size=1, max_overflow=0)) as store:
            prometheus.instrument(store, registry)
            await store.users.count(tenant)
            assert total(registry, "db_client_connection_count") == 1
        assert total(registry, "db_client_operation_duration_seconds_count") == turn
        assert total(registry, "thea_store_connections_ended_total") == turn
        assert total(registry, "db_client_connection_count") == 0


async def test_a_store_that_is_instrumented_twice_is_counted_once(
    measured: Store, registry: CollectorRegistry, tenant: str
) -> None:
    stop = prometheus.instrument(measured, registry)
    await measured.users.count(tenant)
    stop()
    await measured.users.count(tenant)

    assert total(registry, "db_client_operation_duration_seconds_count", db_query_summary="users.count") == 1


async def test_two_stores_of_a_registry_are_added_up(
    thea_database: TestDatabase, registry: CollectorRegistry, tenant: str
) -> None:
    settings = Settings(url=thea_database.app_url, pool_size=1, max_overflow=2)
    async with Store.open(settings) as one, Store.open(settings) as two:
        stop = prometheus.instrument(one, registry)
        prometheus.instrument(two, registry)
        await one.users.count(tenant)
        await two.users.count(tenant)
        limits = total(registry, "db_client_connection_max")
        stop()
        stop()
        await one.users.count(tenant)

    assert limits == 6
    assert total(registry, "db_client_operation_duration_seconds_count", db_query_summary="users.count") == 2
    lines = [line.rpartition(" ")[0] for line in generate_latest(registry).decode().splitlines() if line[0] != "#"]
    assert len(lines) == len(set(lines))


@pytest.mark.slow
def test_without_the_extras_nothing_of_them_is_imported() -> None:
    extras = {"prometheus_client", "opentelemetry"}
    code = f"import sys, thea_store.store; sys.exit(any(name.split('.')[0] in {extras} for name in sys.modules))"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
