"""Reads on standbys, against real ones: which one serves, and what becomes of a read that none can serve."""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
import pytest_asyncio

from tests.support.standby import Standby, standbys
from thea_store import (
    OutcomeUnknownError,
    QuotaExceededError,
    Settings,
    Store,
    StoreError,
    StoreTransaction,
)
from thea_store.database import replicas as watching
from thea_store.database import transaction
from thea_store.database.limits import CallLimit
from thea_store.database.replicas import Replica
from thea_store.embedded import EmbeddedPostgres
from thea_store.migrator import migrate
from thea_store.postgres.url import DatabaseUrl
from thea_store.queries.file import SqlFile
from thea_store.tenancy.archive import export_tenant

Cluster = tuple[EmbeddedPostgres, list[Standby]]


@pytest.fixture(scope="module")
def memory() -> Iterator[Path]:
    """A directory that the servers' account may read, where nothing waits for a disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest_asyncio.fixture(scope="module")
async def cluster(memory: Path) -> AsyncIterator[Cluster]:
    """A primary and two standbys that follow it."""
    async with EmbeddedPostgres(memory / "primary") as primary:
        await asyncio.to_thread(migrate, primary.migrator_url)
        with standbys(primary, memory, 2) as made:
            yield primary, made


def both(*standbys: Standby) -> str:
    """One URL of these hosts."""
    hosts = tuple(host for standby in standbys for host in DatabaseUrl.parse(standby.app_url).hosts)
    return replace(DatabaseUrl.parse(standbys[0].app_url), hosts=hosts).render()


@asynccontextmanager
async def opened(cluster: Cluster, *standbys: Standby, **settings: Any) -> AsyncIterator[Store]:
    """A store that reads there; the standbys are looked at only when a test says so."""
    given = {"reads": "replica", "pool_size": 2, "command_timeout": 3, "replica_url": both(*standbys), **settings}
    async with Store.open(Settings(url=cluster[0].app_url, **given)) as store:
        yield store


@pytest.fixture(autouse=True)
def looked_at_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_LOOK", 3600)


def replicas_of(store: Store) -> list[Replica]:
    assert store._database._replicas is not None
    return list(store._database._replicas.each)


async def look(store: Store) -> None:
    assert store._database._replicas is not None
    for replica in replicas_of(store):
        replica.aside_until = 0.0
    await store._database._replicas.look()


@contextmanager
def paused(*standbys: Standby) -> Iterator[None]:
    """Standbys that receive, and replay nothing."""
    for standby in standbys:
        with psycopg.connect(standby.superuser_url, autocommit=True) as connection:
            connection.execute("select pg_wal_replay_pause()")
            while connection.execute("select pg_get_wal_replay_pause_state()").fetchone() != ("paused",):
                pass
    try:
        yield
    finally:
        for standby in standbys:
            with psycopg.connect(standby.superuser_url, autocommit=True) as connection:
                connection.execute("select pg_wal_replay_resume()")


def served(store: Store) -> list[str]:
    """Which kind of server served each call from now on."""
    servers: list[str] = []
    store.on_call(lambda call: servers.append(call.server))
    return servers


# --- which server -------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["session", "transaction"])
async def test_reads_are_spread_over_the_standbys_and_writes_go_to_the_primary(
    cluster: Cluster, tenant: str, scope: str
) -> None:
    async with opened(cluster, *cluster[1], tenant_scope=scope) as store:
        user = await store.users.create(tenant, telegram_id=1)
        servers = served(store)
        for _ in range(10):
            assert await store.users.get_by_id(tenant, user.id) == user
        async with store.transaction(tenant, read_only=True) as tx:
            assert await tx.users.get_by_id(tenant, user.id) == user
        await store.users.update(tenant, user.id, first_name="Ana")

        assert servers == ["replica"] * 13 + ["primary"]
        for _ in range(5):
            await look(store)
        # What every standby has replayed is forgotten.
        async with asyncio.timeout(20):
            while len(store._database._replicas._positions) > 1:  # type: ignore[union-attr]
                await look(store)
        assert all(replica.pool._calls.total() >= 4 for replica in replicas_of(store))


async def test_single_reads_stay_on_the_primary_unless_it_is_asked_for(cluster: Cluster, tenant: str) -> None:
    async with opened(cluster, *cluster[1], reads="primary") as store:
        servers = served(store)
        await store.users.count(tenant)
        async with store.transaction(tenant, read_only=True) as tx:
            await tx.users.count(tenant)

        assert servers == ["primary", "replica", "replica", "replica"]


async def test_a_standby_that_is_busy_gets_less(cluster: Cluster, tenant: str) -> None:
    async with opened(cluster, *cluster[1], pool_size=3) as store:
        first, second = replicas_of(store)
        held = [await first.pool.acquire(None) for _ in range(3)]
        before = second.pool._calls.total()
        for _ in range(6):
            await store.users.count(tenant)
        for connection in held:
            first.pool.release(connection)

        assert second.pool._calls.total() == before + 6


# --- reading what was written -------------------------------------------------------------------


@pytest.mark.parametrize("scope", ["session", "transaction"])
async def test_a_tenant_reads_what_it_wrote(cluster: Cluster, tenant: str, scope: str) -> None:
    async with opened(cluster, *cluster[1], tenant_scope=scope) as store:
        user = await store.users.create(tenant, telegram_id=1)
        servers = served(store)

        async def writes(number: int) -> None:
            name = str(number)
            if number % 2:
                await store.users.update(tenant, user.id, first_name=name)
            else:
                async with store.transaction(tenant) as tx:
                    await tx.users.update(tenant, user.id, first_name=name)

        stale = 0
        for number in range(60):
            await writes(number)
            found = await store.users.get_by_id(tenant, user.id)
            async with store.transaction(tenant, read_only=True) as tx:
                again = await tx.users.get_by_id(tenant, user.id)
            stale += sum(each is None or each.first_name != str(number) for each in (found, again))

        assert stale == 0
        assert servers.count("replica") > 60  # most reads did not need the primary


@pytest.mark.parametrize("scope", ["session", "transaction"])
async def test_after_a_transaction_a_read_asks_nothing_of_the_primary(
    cluster: Cluster, tenant: str, scope: str
) -> None:
    async with opened(cluster, *cluster[1], tenant_scope=scope) as store:
        await look(store)
        async with store.transaction(tenant) as tx:
            user = await tx.users.create(tenant, telegram_id=1)
        servers = served(store)
        asked = store._database._pool._calls.total()
        assert await store.users.get_by_id(tenant, user.id) == user

        assert servers == ["replica"]
        assert store._database._pool._calls.total() == asked


async def test_of_two_writes_the_last_is_waited_for_in_whatever_order_they_end(cluster: Cluster, tenant: str) -> None:
    async with opened(cluster, *cluster[1]) as store:
        replicas = store._database._replicas
        assert replicas is not None
        await look(store)
        replicas.wrote(tenant, position=2**61)  # further than any log is written
        replicas.wrote(tenant, position=1)
        assert await replicas.wait_for(replicas.each[0], tenant) != []

        replicas.wrote(tenant)
        replicas.wrote(tenant, position=1)
        assert replicas._writes.by_tenant[tenant].position is None


async def test_a_transaction_that_failed_unnoticed_is_not_taken_for_committed(cluster: Cluster, tenant: str) -> None:
    async with opened(cluster, *cluster[1]) as store:
        await look(store)
        with pytest.raises(StoreError, match="an earlier statement"):
            async with store.transaction(tenant) as tx:
                await tx.users.create(tenant, telegram_id=1)
                with suppress(asyncpg.PostgresError):
                    await tx._transaction._connection.raw.execute("select 1 / 0")

        assert await store.users.count(tenant) == 0
        async with store.transaction(tenant) as tx:
            await tx.users.create(tenant, telegram_id=1)
        assert await store.users.count(tenant) == 1


async def test_what_fails_behind_a_commit_does_not_deny_what_was_written(
    cluster: Cluster, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transaction, "POSITION", "select (1 / (select 0))::bigint")
    async with opened(cluster, *cluster[1]) as store:
        await look(store)
        with pytest.raises(OutcomeUnknownError, match="read it back"):
            async with store.transaction(tenant) as tx:
                await tx.users.create(tenant, telegram_id=1)

        assert await store.users.count(tenant) == 1


async def test_a_primary_that_does_not_tell_its_position_commits_as_ever(
    cluster: Cluster, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (transaction, watching):
        monkeypatch.setattr(module, "POSITION", "select (1 / (select 0))::bigint")
    async with opened(cluster, *cluster[1]) as store:
        async with store.transaction(tenant) as tx:
            await tx.users.create(tenant, telegram_id=1)
        servers = served(store)

        assert await store.users.count(tenant) == 1
        assert servers == ["primary"]


@pytest.mark.parametrize("scope", ["session", "transaction"])
@pytest.mark.parametrize("isolation", ["read committed", "repeatable read"])
async def test_a_standby_that_is_late_leaves_the_read_to_the_primary(
    cluster: Cluster, tenant: str, other_tenant: str, scope: str, isolation: Any
) -> None:
    async with opened(cluster, *cluster[1], tenant_scope=scope) as store:
        user = await store.users.create(tenant, telegram_id=1)
        await store.users.get_by_id(tenant, user.id)
        with paused(*cluster[1]):
            await store.users.update(tenant, user.id, first_name="Ana")
            servers = served(store)
            found = await store.users.get_by_id(tenant, user.id)
            async with store.transaction(tenant, read_only=True, isolation=isolation) as tx:
                again = await tx.users.get_by_id(tenant, user.id)
            await store.users.count(other_tenant)  # who wrote nothing need not wait

        assert found is not None
        assert found.first_name == "Ana"
        assert found == again
        begun = "replica" if isolation == "read committed" else "primary"
        assert servers == ["primary", begun, "primary", "primary", "replica"]


async def test_a_standby_that_is_far_behind_serves_nothing(cluster: Cluster, tenant: str, other_tenant: str) -> None:
    async with opened(cluster, *cluster[1], replica_max_lag=0) as store:
        await look(store)
        with paused(cluster[1][0]):
            await store.users.create(tenant, telegram_id=1)
            await look(store)
            await asyncio.sleep(0.05)
            await look(store)
            behind, follows = replicas_of(store)
            health = await store.health()
            before = behind.pool._calls.total()
            for _ in range(4):
                await store.users.count(other_tenant)

            assert behind.lag is not None
            assert behind.lag > 0
            assert behind.pool._calls.total() == before
            assert follows.lag == 0
        assert [each.state for each in health.replicas] == ["behind", "follows"]
        assert health.replicas[0].lag_bytes is not None
        assert health.replicas[0].lag_bytes > 0
        assert (health.replicas[1].lag_bytes, health.replicas[1].lag_seconds) == (0, 0)
        assert health.replica_lag == health.replicas[0].lag_seconds


# --- what no other server would do better ---------------------------------------------------------


@contextmanager
def locked(primary: EmbeddedPostgres, *standbys: Standby) -> Iterator[None]:
    """Nobody reads the users, on the standbys either, where the lock is replayed."""
    taken = "select from pg_locks where mode = 'AccessExclusiveLock' and granted"
    with psycopg.connect(primary.superuser_url) as connection:
        connection.execute("lock table thea.users")
        with psycopg.connect(primary.superuser_url) as other:
            other.execute("select txid_current()")  # its commit writes out the log, in which the lock is
        for standby in standbys:
            with psycopg.connect(standby.superuser_url, autocommit=True) as on_standby:
                while on_standby.execute(taken).fetchone() is None:
                    pass
        yield


@pytest.mark.parametrize("scope", ["session", "transaction"])
async def test_a_read_that_its_tenants_limit_ends_is_not_done_once_more_on_the_primary(
    cluster: Cluster, tenant: str, scope: str
) -> None:
    async with opened(cluster, cluster[1][0], tenant_scope=scope, pool_size=1, max_overflow=0) as store:
        await store.users.count(tenant)
        store._database.limits._limits = {tenant: CallLimit(statement_ms=50)}
        servers = served(store)
        with locked(cluster[0], cluster[1][0]):
            with pytest.raises(QuotaExceededError, match="50 ms"):
                await store.users.count(tenant)
            with pytest.raises(QuotaExceededError, match="50 ms"):
                async with store.transaction(tenant, read_only=True) as tx:
                    await tx.users.count(tenant)

        assert servers == ["replica"] * 3
        assert all(replica.aside_until == 0 for replica in replicas_of(store))


async def test_the_wait_for_what_was_written_does_not_count_towards_the_tenants_limit(
    cluster: Cluster, tenant: str
) -> None:
    async with opened(cluster, *cluster[1]) as store:
        with paused(*cluster[1]):
            await store.users.create(tenant, telegram_id=1)
            store._database.limits._limits = {tenant: CallLimit(statement_ms=50)}
            servers = served(store)
            assert await store.users.count(tenant) == 1
            async with store.transaction(tenant, read_only=True) as tx:
                assert await tx.users.count(tenant) == 1

        assert servers == ["primary", "replica", "primary", "primary"]


# --- recovery conflicts ---------------------------------------------------------------------------


@contextmanager
def impatient(standby: Standby) -> Iterator[psycopg.Connection[Any]]:
    """Replay there waits for no reader; gives a connection to it."""
    with psycopg.connect(standby.superuser_url, autocommit=True) as superuser:
        assert superuser.execute("show hot_standby_feedback").fetchone() == ("off",)
        superuser.execute("alter system set max_standby_streaming_delay = 0")
        superuser.execute("select pg_reload_conf()")
        try:
            yield superuser
        finally:
            superuser.execute("alter system reset max_standby_streaming_delay")
            superuser.execute("select pg_reload_conf()")


def remove_dead_rows(primary: EmbeddedPostgres) -> None:
    """Take away what a reader on a standby may still see."""
    with psycopg.connect(primary.superuser_url, autocommit=True) as superuser:
        superuser.execute("update thea.users set first_name = 'Ana'")
        superuser.execute("vacuum thea.users")
        superuser.execute("select txid_current()")  # its commit sends the log up to here


def wait_for(connection: psycopg.Connection[Any], condition: str) -> None:
    """Wait until the server says that it is so."""
    while connection.execute(f"select where {condition}".encode()).fetchone() is None:
        time.sleep(0.01)


@pytest.fixture
def failed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The SQLSTATE of each error on a standby, from now on."""
    states: list[str] = []
    without = Replica.failed

    def note(replica: Replica, error: StoreError) -> None:
        states.append(getattr(error.__cause__, "sqlstate", ""))
        without(replica, error)

    monkeypatch.setattr(Replica, "failed", note)
    return states


CONFLICT = "40001"


@pytest.mark.parametrize("scope", ["session", "transaction"])
async def test_a_read_that_a_recovery_conflict_ends_is_done_on_the_primary(
    cluster: Cluster, tenant: str, scope: str, tmp_path: Path, failed: list[str]
) -> None:
    (tmp_path / "slow.sql").write_text(
        "-- name: count\n-- How many.\n-- not null: count\n"
        "select count(pg_sleep(0.5)) as count from thea.users where tenant_id = :tenant_id\n"
    )
    slow = SqlFile("slow", tmp_path).query("count", int)
    async with opened(cluster, cluster[1][0], tenant_scope=scope) as store:
        await store.users.create(tenant, telegram_id=1)
        servers = served(store)
        async with asyncio.timeout(20):
            while servers != ["replica"]:  # a standby that has not got the user yet is passed over
                await look(store)
                servers.clear()
                failed.clear()
                assert await store.users.count(tenant) == 1
        servers.clear()
        with impatient(cluster[1][0]) as standby:
            reading = asyncio.create_task(store._database.fetch_value(slow, tenant))
            reads = "exists (select from pg_stat_activity where wait_event = 'PgSleep')"
            await asyncio.to_thread(wait_for, standby, reads)
            await asyncio.to_thread(remove_dead_rows, cluster[0])

            assert await reading == 1

        assert (servers, failed) == (["primary"], [CONFLICT])


async def test_a_transaction_that_a_recovery_conflict_ends_is_run_again_elsewhere(
    cluster: Cluster, tenant: str, failed: list[str]
) -> None:
    async with opened(cluster, cluster[1][0]) as store:
        await store.users.create(tenant, telegram_id=1)
        seen: list[str] = []
        with impatient(cluster[1][0]) as standby:

            async def work(tx: StoreTransaction) -> int:
                await tx.users.count(tenant)
                seen.append(tx._transaction.server)
                if seen == ["replica"]:
                    backend = tx._transaction._connection.raw.get_server_pid()
                    gone = f"not exists (select from pg_stat_activity where pid = {backend})"
                    await asyncio.to_thread(remove_dead_rows, cluster[0])
                    await asyncio.to_thread(wait_for, standby, gone)
                return await tx.users.count(tenant)

            async with asyncio.timeout(20):
                # A standby that has not got the user yet is passed over, and another conflict may come before.
                while "replica" not in seen:
                    await look(store)
                    seen.clear()
                    failed.clear()
                    assert await store.run(tenant, work, read_only=True, isolation="repeatable read") == 1

        assert seen == ["replica", "primary"]
        assert len(failed) == 1


# --- standbys that die --------------------------------------------------------------------------


async def test_a_store_opens_and_reads_while_its_standbys_are_dead_and_uses_them_once_they_are_back(
    cluster: Cluster, tenant: str
) -> None:
    for standby in cluster[1]:
        standby.end()
    async with opened(cluster, *cluster[1]) as store:
        servers = served(store)
        assert await store.users.count(tenant) == 0
        async with store.transaction(tenant, read_only=True) as tx:
            assert await tx.users.count(tenant) == 0
        health = await store.health()
        assert {*servers} == {"primary"}
        assert health.reachable
        assert [(each.state, each.lag_bytes) for each in health.replicas] == [("down", None), ("down", None)]

        for standby in cluster[1]:
            standby.start()
        await look(store)
        servers.clear()
        assert await store.users.count(tenant) == 0
        assert servers == ["replica"]


async def test_a_standby_that_dies_fails_no_read(cluster: Cluster, tenant: str) -> None:
    async with opened(cluster, *cluster[1]) as store:
        user = await store.users.create(tenant, telegram_id=1)

        async def reads() -> int:
            done = 0
            while not enough.is_set():
                assert await store.users.get_by_id(tenant, user.id) == user
                async with store.transaction(tenant, read_only=True) as tx:
                    assert await tx.users.get_by_id(tenant, user.id) == user
                done += 1
            return done

        enough = asyncio.Event()
        readers = [asyncio.create_task(reads()) for _ in range(3)]
        await asyncio.sleep(0.1)
        try:
            for standby in cluster[1]:
                await asyncio.to_thread(standby.end)
                await asyncio.sleep(0.1)
        finally:
            enough.set()
            for standby in cluster[1]:
                await asyncio.to_thread(standby.start)
        done = await asyncio.gather(*readers)

        assert all(done)


async def test_a_read_only_transaction_whose_standby_is_lost_later_is_run_again_elsewhere(
    cluster: Cluster, tenant: str
) -> None:
    async with opened(cluster, cluster[1][0]) as store:
        seen: list[str] = []

        async def work(tx: StoreTransaction) -> int:
            seen.append(tx._transaction.server)
            await tx.users.count(tenant)
            if len(seen) == 1:
                pid = tx._transaction._connection.raw.get_server_pid()
                with psycopg.connect(cluster[1][0].superuser_url, autocommit=True) as superuser:
                    superuser.execute("select pg_terminate_backend(%s, 5000)", [pid])
            return await tx.users.count(tenant)

        assert await store.run(tenant, work, read_only=True) == 0
        assert seen == ["replica", "primary"]


async def test_a_standby_whose_pool_is_full_leaves_the_read_to_the_primary(cluster: Cluster, tenant: str) -> None:
    async with opened(cluster, cluster[1][0], pool_size=1, max_overflow=0, command_timeout=1) as store:
        [replica] = replicas_of(store)
        held = await replica.pool.acquire(None)
        servers = served(store)
        assert await store.users.count(tenant) == 0
        replica.pool.release(held)

        assert servers == ["primary"]
        assert replica.aside_until == 0


@pytest.mark.slow
async def test_a_standby_that_freezes_costs_a_read_seconds_and_fails_none(
    cluster: Cluster, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_LOOK", 0.5)
    async with opened(cluster, cluster[1][0], command_timeout=30) as store:
        await store.users.count(tenant)
        [replica] = replicas_of(store)
        (connection, *_) = replica.pool._open
        with cluster[1][0].frozen(connection.raw.get_server_pid()):
            async with asyncio.timeout(15):
                assert await store.users.count(tenant) == 0
                async with store.transaction(tenant, read_only=True) as tx:
                    assert await tx.users.count(tenant) == 0
            assert not replica.answers
        async with asyncio.timeout(15):
            while not replica.answers:  # noqa: ASYNC110 - there is no event
                await asyncio.sleep(0.1)


async def test_the_calls_of_a_tenant_are_counted_over_all_servers(cluster: Cluster, tenant: str) -> None:
    async with opened(cluster, cluster[1][0]) as store:
        [replica] = replicas_of(store)
        store._database.limits._limits = {tenant: CallLimit(calls_in_flight=1)}
        held = await replica.pool.acquire(tenant)
        with pytest.raises(QuotaExceededError):
            await store.users.count(tenant)
        with pytest.raises(QuotaExceededError):
            async with store.transaction(tenant, read_only=True) as tx:
                await tx.users.count(tenant)
        with pytest.raises(QuotaExceededError):
            await store.users.create(tenant, telegram_id=1)
        replica.pool.release(held)

        assert replica.aside_until == 0
        assert await store.users.count(tenant) == 0


async def test_a_write_in_a_read_only_transaction_is_refused_and_costs_no_standby(
    cluster: Cluster, tenant: str
) -> None:
    async with opened(cluster, *cluster[1]) as store:
        with pytest.raises(StoreError, match="read_only"):
            async with store.transaction(tenant, read_only=True) as tx:
                await tx.users.create(tenant, telegram_id=1)

        assert all(replica.aside_until == 0 for replica in replicas_of(store))


async def test_what_is_noted_when_it_is_read_is_read_on_the_primary(cluster: Cluster, tenant: str) -> None:
    with psycopg.connect(cluster[0].superuser_url, autocommit=True) as superuser:
        superuser.execute("insert into thea.tenants (id, settings) values (%s, '{\"log_reads\": true}')", [tenant])
        async with opened(cluster, *cluster[1]) as store:
            servers = served(store)
            await store.users.count(tenant)
            async with store.transaction(tenant, read_only=True) as tx:
                await tx.users.count(tenant)
        noted = superuser.execute(
            "select details ->> 'query' from thea.noted_reads where tenant = %s order by id",
            [tenant],
        ).fetchall()

    assert servers == ["primary"] * 4
    assert noted == [("users.count",), ("transaction",)]


async def test_an_export_from_a_standby_is_refused_because_it_would_leave_no_entry(
    cluster: Cluster, tenant: str, tmp_path: Path
) -> None:
    address = DatabaseUrl.parse(cluster[1][0].app_url)
    with pytest.raises(StoreError, match="give the primary's URL"):
        await asyncio.to_thread(export_tenant, address, tenant, tmp_path / "archive.zip")

    assert [path.name for path in await asyncio.to_thread(lambda: list(tmp_path.iterdir()))] == []
