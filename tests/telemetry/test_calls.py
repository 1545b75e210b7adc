"""What a store tells of its calls, to a hook and in the log."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from tests.support.patience import let_calls_wait
from thea_store import (
    Call,
    DuplicateError,
    InvalidArgumentError,
    JsonFormatter,
    NotFoundError,
    PoolTimeoutError,
    Settings,
    Store,
    StoreUnavailableError,
    User,
)
from thea_store.telemetry import logs
from thea_store.testing import TestDatabase

SECRET = "hunter2"


@pytest.fixture
def calls(store: Store) -> Iterator[list[Call]]:
    told: list[Call] = []
    stop = store.on_call(told.append)
    yield told
    stop()


@pytest_asyncio.fixture
async def slow_store(thea_database: TestDatabase) -> AsyncIterator[Store]:
    """One on which every query counts as slow."""
    async with Store.open(Settings(url=thea_database.app_url, pool_size=2, slow_query_ms=0)) as store:
        yield store


async def test_a_call_is_told_by_its_query_with_its_rows_and_its_time(
    store: Store, calls: list[Call], tenant: str, user: User
) -> None:
    calls.clear()
    await store.notes.create(tenant, user.id, SECRET)
    await store.notes.search(tenant, user.id, SECRET)

    assert [call.query for call in calls] == ["notes.create_many", "notes.search"]
    assert [call.rows for call in calls] == [1, 1]
    assert all(call.error is None and call.tenant_id == tenant and call.attempts == 1 for call in calls)
    assert all(0 < call.seconds < 60 and call.server == "primary" and not call.in_transaction for call in calls)


async def test_a_call_that_fails_is_told_with_its_error(store: Store, calls: list[Call], tenant: str) -> None:
    await store.users.create(tenant, telegram_id=7)
    with pytest.raises(DuplicateError):
        await store.users.create(tenant, telegram_id=7)

    assert isinstance(calls[-1].error, DuplicateError)
    assert calls[-1].rows == 0


async def test_a_missing_row_is_no_failed_call_and_a_wrong_argument_is_no_call(
    store: Store, calls: list[Call], tenant: str
) -> None:
    with pytest.raises(NotFoundError):
        await store.users.delete(tenant, 1)
    with pytest.raises(InvalidArgumentError):
        await store.users.get_by_id(tenant, "x")  # type: ignore[arg-type]

    assert all(call.error is None for call in calls)
    assert "users.get_by_id" not in [call.query for call in calls]


async def test_a_transaction_is_told_with_its_begin_and_its_commit(
    store: Store, calls: list[Call], tenant: str
) -> None:
    async with store.transaction(tenant) as tx:
        await tx.users.count(tenant)

    assert [(call.query, call.in_transaction) for call in calls] == [
        ("begin", True),
        ("users.count", True),
        ("commit", True),
    ]


async def test_a_single_call_behind_a_pooler_is_one_call(thea_database: TestDatabase, tenant: str) -> None:
    told: list[Call] = []
    async with Store.open(Settings(url=thea_database.app_url, pool_size=1, tenant_scope="transaction")) as store:
        store.on_call(told.append)
        await store.users.count(tenant)

    assert [call.query for call in told] == ["users.count"]


async def test_a_variant_is_told_by_the_name_of_its_query_and_by_its_own(
    store: Store, calls: list[Call], tenant: str
) -> None:
    await store.users.get_all(tenant, is_active=True)

    assert calls[-1].query == "users.get_all"
    assert calls[-1].statement.startswith("users.get_all+")


async def test_the_text_of_a_call_has_neither_its_values_nor_its_tenant(
    store: Store, calls: list[Call], tenant: str, user: User
) -> None:
    await store.notes.create(tenant, user.id, SECRET)

    assert SECRET not in f"{calls[-1]} {calls[-1]!r} {calls[-1]._asdict()}"
    assert tenant not in f"{calls[-1]} {calls[-1]!r}"


async def test_a_callback_that_raises_harms_neither_the_call_nor_the_other_callbacks(
    store: Store, calls: list[Call], tenant: str, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: Call) -> None:
        raise RuntimeError("mine")

    stop = store.on_call(broken)
    told: list[Call] = []
    stop_too = store.on_call(told.append)

    assert await store.users.count(tenant) == 0
    stop()
    stop_too()
    assert len(told) == len(calls) == 1
    assert "a callback of on_call failed, at the end of users.count" in caplog.text


async def test_a_callback_is_no_coroutine_function(store: Store) -> None:
    async def callback(_: Call) -> None: ...

    with pytest.raises(InvalidArgumentError, match="callback"):
        store.on_call(callback)


async def test_nothing_is_told_any_more_after_it_was_stopped(store: Store, tenant: str) -> None:
    told: list[Call] = []
    stop = store.on_call(told.append)
    stop()
    stop()
    await store.users.count(tenant)

    assert told == []


async def test_a_cancelled_call_is_told(store: Store, calls: list[Call], tenant: str) -> None:
    task = asyncio.create_task(store.users.count(tenant))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])

    assert [type(call.error) for call in calls] == [asyncio.CancelledError]


async def test_a_run_that_is_repeated_is_counted(store: Store, tenant: str) -> None:
    before = store.observer.retries["run"]
    tries = iter([True, True, False])

    async def work(_: object) -> int:
        if next(tries):
            error = StoreUnavailableError("once more")
            error.repeatable = True
            raise error
        return 1

    assert await store.run(tenant, work) == 1
    assert store.observer.retries["run"] - before == 2


async def test_a_call_that_gets_no_connection_is_told(thea_database: TestDatabase, tenant: str) -> None:
    told: list[Call] = []
    async with Store.open(Settings(url=thea_database.app_url, pool_size=1, max_overflow=0)) as store:
        store.on_call(told.append)
        let_calls_wait(store._database._pool, 0.05)  # not before: a store that opens waits as long, too
        async with store.transaction(tenant):
            with pytest.raises(PoolTimeoutError):
                await store.users.count(tenant)
        statistics = store.observer.pools[0].statistics

    assert [type(call.error) for call in told if call.query == "users.count"] == [PoolTimeoutError]
    assert statistics.timeouts == 1
    assert sum(statistics.waits.buckets) >= 1


async def test_a_pool_counts_what_its_connections_carried_and_why_they_ended(
    thea_database: TestDatabase, tenant: str, other_tenant: str
) -> None:
    async with Store.open(Settings(url=thea_database.app_url, pool_size=1, max_overflow=0)) as store:
        for one in (tenant, tenant, other_tenant, tenant):
            await store.users.count(one)
        statistics = store.observer.pools[0].statistics
        assert (statistics.asked, statistics.found) == (4, 1)

        for connection in store._database._pool._open:
            connection.raw.terminate()
        await store.users.count(tenant)
        store._database._pool.expire()
        await store.users.count(tenant)

    assert statistics.ended == {"lost": 1, "expired": 1, "closed": 1}
    assert sum(statistics.opening.buckets) == 3


# --- the log ------------------------------------------------------------------------------------


async def test_a_slow_query_is_logged_with_fields_that_a_machine_reads(
    slow_store: Store, tenant: str, caplog: pytest.LogCaptureFixture
) -> None:
    user = await slow_store.users.create(tenant, telegram_id=1, first_name=SECRET)
    caplog.clear()
    await slow_store.users.get_by_id(tenant, user.id)

    [record] = [record for record in caplog.records if record.name == "thea_store.queries"]
    fields = vars(record)
    assert {name: fields[name] for name in ("query", "rows", "outcome", "attempts", "server")} == {
        "query": "users.get_by_id",
        "rows": 1,
        "outcome": "ok",
        "attempts": 1,
        "server": "primary",
    }
    assert fields["duration_ms"] > 0
    line = JsonFormatter().format(record)
    assert json.loads(line)["query"] == "users.get_by_id"
    assert json.loads(line)["level"] == "warning"
    assert SECRET not in line
    assert tenant not in line
    assert "\n" not in line


async def test_a_slow_call_that_fails_is_logged_with_the_class_of_its_error(
    slow_store: Store, tenant: str, caplog: pytest.LogCaptureFixture
) -> None:
    await slow_store.users.create(tenant, telegram_id=1)
    with pytest.raises(DuplicateError):
        await slow_store.users.create(tenant, telegram_id=1)

    assert "DuplicateError" in [vars(record).get("outcome") for record in caplog.records]


@pytest.fixture
def own_logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("thea_store")
    before: dict[str, Any] = {name: getattr(logger, name) for name in ("handlers", "propagate", "level")}
    logger.handlers = []
    yield logger
    for name, value in before.items():
        setattr(logger, name, value)


async def test_one_setting_writes_every_record_as_a_line_of_json_once(
    thea_database: TestDatabase, tenant: str, own_logger: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(url=thea_database.app_url, pool_size=1, echo=True, log_format="json")
    for _ in range(2):
        async with Store.open(settings) as store:
            await store.users.count(tenant)

    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    told = [("limits.of_calls", "info"), ("users.count", "info")]
    assert [(line["query"], line["level"]) for line in lines] == told * 2
    assert len(own_logger.handlers) == 1


def test_an_exception_stays_within_its_line(own_logger: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    logs.write_json()
    try:
        raise ValueError("two\nlines")
    except ValueError:
        own_logger.exception("with\nbreaks", extra={"odd": object})

    [line] = capsys.readouterr().err.splitlines()
    assert json.loads(line)["exception"].startswith("Traceback")
