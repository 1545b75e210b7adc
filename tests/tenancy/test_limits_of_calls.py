"""The limits of a tenant's calls, which each process keeps: how many at once, and how long a statement may run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Literal

import psycopg
import pytest
import pytest_asyncio

from thea_store import (
    InvalidArgumentError,
    QueryTimeoutError,
    QuotaExceededError,
    Settings,
    Store,
    StoreUnavailableError,
)
from thea_store.database import limits as limits_of_processes
from thea_store.database.connection import Connection
from thea_store.database.limits import CallLimit, CallLimits
from thea_store.testing import TestDatabase


@pytest_asyncio.fixture(scope="module", params=["session", "transaction"])
async def service(thea_database: TestDatabase, request: pytest.FixtureRequest) -> AsyncIterator[Store]:
    settings = Settings(url=thea_database.app_url, tenant_scope=request.param, pool_size=3, command_timeout=1)
    async with Store.open(settings) as opened:
        yield opened


async def learn(service: Store, *tenants: str) -> None:
    """Let the process ask now, instead of some seconds after the call."""
    for tenant in tenants:
        await service.users.count(tenant)
    await service._database.limits.refresh()


async def count_in_transaction(service: Store, tenant: str) -> int:
    async with service.transaction(tenant) as tx:
        return await tx.users.count(tenant)


async def exists_in_transaction(service: Store, tenant: str) -> bool:
    async with service.transaction(tenant) as tx:
        return await tx.users.exists(tenant, 1)


@contextmanager
def locked(database: TestDatabase) -> Iterator[None]:
    """While nobody can read users, each statement that does so takes as long as it may."""
    with psycopg.connect(database.superuser_url) as holder:
        holder.execute("lock table thea.users in access exclusive mode")
        yield


async def test_a_call_too_many_is_refused_and_the_next_one_is_not(
    admin: Store, service: Store, tenant: str, other_tenant: str, thea_database: TestDatabase
) -> None:
    await admin.tenants.create(tenant, limits={"calls_in_flight": 2})
    await learn(service, tenant, other_tenant)

    with locked(thea_database):
        others = asyncio.create_task(service.users.count(other_tenant))
        calls = [asyncio.create_task(service.users.count(tenant)) for _ in range(2)]
        await until(lambda: in_use(service) == 3)
        with pytest.raises(QuotaExceededError, match="2 calls in flight") as caught:
            await service.users.count(tenant)
        with pytest.raises(QuotaExceededError):
            await count_in_transaction(service, tenant)

    assert (caught.value.limit, caught.value.allowed, caught.value.table) == ("calls_in_flight", 2, None)
    assert await asyncio.gather(others, *calls) == [0, 0, 0]
    assert await service.users.count(tenant) == 0


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.005)


def in_use(store: Store) -> int:
    """How many connections calls have: neither idle, nor still being opened for one that waits."""
    figures = store._database.figures()
    return figures.size - figures.idle - figures.waiting


async def test_calls_that_wait_for_a_connection_are_in_flight(
    admin: Store, service: Store, tenant: str, other_tenant: str, thea_database: TestDatabase
) -> None:
    await admin.tenants.create(tenant, limits={"calls_in_flight": 1})
    await learn(service, tenant)
    everybody = service._database.figures().limit

    with locked(thea_database):
        others = [asyncio.create_task(service.users.count(other_tenant)) for _ in range(everybody)]
        await until(lambda: in_use(service) == everybody)
        waits = asyncio.create_task(service.users.count(tenant))
        await until(lambda: service._database.figures().waiting == 1)
        with pytest.raises(QuotaExceededError):
            await service.users.count(tenant)

    await asyncio.gather(waits, *others)


async def test_a_transaction_is_in_flight_until_its_end(admin: Store, service: Store, tenant: str) -> None:
    await admin.tenants.create(tenant, limits={"calls_in_flight": 1})
    await learn(service, tenant)

    async with service.transaction(tenant) as tx:
        await tx.users.create(tenant, telegram_id=1)
        with pytest.raises(QuotaExceededError):
            await service.users.count(tenant)

    assert await service.users.count(tenant) == 1


async def test_a_statement_that_the_limit_ends_is_told_from_one_that_took_too_long(
    admin: Store, service: Store, tenant: str, other_tenant: str, thea_database: TestDatabase
) -> None:
    await admin.tenants.create(tenant, limits={"statement_ms": 100})
    await service.users.create(tenant, telegram_id=2)
    await learn(service, tenant, other_tenant)

    with locked(thea_database):
        with pytest.raises(QuotaExceededError, match="100 ms") as caught:
            await service.users.count(tenant)
        with pytest.raises(QuotaExceededError):
            await service.users.create(tenant, telegram_id=1)
        with pytest.raises(QuotaExceededError):
            await count_in_transaction(service, tenant)
        # On the connections that the tenant had, too; both at once, since they take as long as any statement may.
        # So may what the connection asks about a statement that is new to it.
        calls = (service.users.count(other_tenant), count_in_transaction(service, other_tenant))
        new = (service.users.exists(tenant, 1), exists_in_transaction(service, tenant))
        outcomes = await asyncio.gather(*calls, *new, return_exceptions=True)

    assert [type(outcome) for outcome in outcomes] == [QueryTimeoutError] * 4
    assert (caught.value.limit, caught.value.allowed) == ("statement_ms", 100)
    assert await service.users.count(tenant) == 1


@pytest.mark.parametrize("scope", ["session", "transaction"])
async def test_the_server_ends_a_statement_at_the_limit_and_does_not_wait_for_more(
    admin: Store,
    thea_database: TestDatabase,
    tenant: str,
    other_tenant: str,
    scope: Literal["session", "transaction"],
) -> None:
    await admin.tenants.create(tenant, limits={"statement_ms": 100})
    settings = Settings(url=thea_database.app_url, tenant_scope=scope, pool_size=1, max_overflow=0, command_timeout=60)
    async with Store.open(settings) as patient:
        await learn(patient, tenant)
        await patient.users.count(tenant)  # what a call that goes well sets would stay

        with locked(thea_database):
            async with asyncio.timeout(20):
                with pytest.raises(QuotaExceededError):
                    await patient.users.count(tenant)
                with pytest.raises(QuotaExceededError):
                    await count_in_transaction(patient, tenant)
            # On the same connection, for longer than that.
            others = asyncio.create_task(patient.users.count(other_tenant))
            await asyncio.sleep(0.2)
        assert await others == 0


@pytest.mark.parametrize("scope", ["session", "transaction"])
async def test_a_limit_holds_where_nothing_may_go_before_a_statement(
    admin: Store,
    thea_database: TestDatabase,
    tenant: str,
    scope: Literal["session", "transaction"],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await admin.tenants.create(tenant, limits={"statement_ms": 100})
    monkeypatch.setattr("thea_store.database.wire.driver_is_known", lambda: False)
    monkeypatch.delattr(Connection, "fetch_behind")
    async with Store.open(Settings(url=thea_database.app_url, tenant_scope=scope, pool_size=1)) as opened:
        await learn(opened, tenant)

        with locked(thea_database), pytest.raises(QuotaExceededError):
            await opened.users.count(tenant)


@pytest.mark.parametrize(("limit", "longest"), [(999, 999), (1000, None), (5000, None)])
async def test_a_limit_of_time_that_is_longer_than_any_statement_may_run_changes_nothing(
    admin: Store, service: Store, tenant: str, limit: int, longest: int | None
) -> None:
    await admin.tenants.create(tenant, limits={"statement_ms": limit})
    await learn(service, tenant)

    assert service._database.limits.statement_ms(tenant) == longest


@pytest.mark.parametrize("limit", ["calls_in_flight", "statement_ms"])
async def test_a_limit_of_calls_is_a_number_that_a_server_can_hold(admin: Store, tenant: str, limit: str) -> None:
    made = await admin.tenants.create(tenant, limits={limit: 2**31 - 1})  # type: ignore[arg-type]
    assert made.limits == {limit: 2**31 - 1}

    for figure in (0, 2**31):
        with pytest.raises(InvalidArgumentError, match=limit):
            await admin.tenants.update(tenant, limits={limit: figure})  # type: ignore[misc]


async def test_a_limit_that_is_lifted_is_forgotten_and_another_tenant_has_none(
    admin: Store, service: Store, tenant: str, other_tenant: str
) -> None:
    await admin.tenants.create(tenant, limits={"calls_in_flight": 1, "statement_ms": 50})
    await learn(service, tenant, other_tenant)
    limits = service._database.limits
    assert (limits.statement_ms(tenant), limits.statement_ms(other_tenant)) == (50, None)

    # Also where the tenant made no call in between.
    await admin.tenants.update(tenant, limits={"statement_ms": 60})
    await limits.refresh()
    assert limits.statement_ms(tenant) == 60
    await admin.tenants.update(tenant, limits={"rows": 10})
    await limits.refresh()

    assert limits.statement_ms(tenant) is None
    await asyncio.gather(*(service.users.count(tenant) for _ in range(3)))


async def test_a_limit_reaches_a_running_service_by_itself(
    admin: Store, thea_database: TestDatabase, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits_of_processes, "EVERY", 0.05)
    await admin.tenants.create(tenant, limits={"calls_in_flight": 1})
    async with Store.open(Settings(url=thea_database.app_url, pool_size=1)) as opened:
        await opened.users.count(tenant)
        await asyncio.sleep(0.05)
        async with asyncio.timeout(5):
            while await _both_are_done(opened, tenant):
                pass


async def _both_are_done(opened: Store, tenant: str) -> bool:
    calls = (opened.users.count(tenant) for _ in range(2))
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(outcome) for outcome in outcomes} <= {int, QuotaExceededError}
    return outcomes == [0, 0]


async def test_a_question_that_got_no_answer_is_asked_again_and_what_is_known_stays() -> None:
    limits, asked = CallLimits(lambda _: 0, 1000), list[set[str]]()

    async def ask(tenants: Collection[str]) -> dict[str, CallLimit]:
        asked.append(set(tenants))
        if len(asked) == 2:
            raise StoreUnavailableError("the server is gone")
        return {"acme": CallLimit(statement_ms=5)}

    limits.ask_by(ask)
    for tenant in ("acme", "other", "third"):
        limits.admit(tenant)
        await limits.refresh()
        assert limits.statement_ms("acme") == 5
    await limits.close()

    assert asked == [{"acme"}, {"acme", "other"}, {"acme", "other", "third"}]


@pytest.mark.parametrize("limits", [{"calls_in_flight": 0}, {"statement_ms": 0}, {"statement_ms": 2**31}])
async def test_a_limit_that_lets_nothing_through_is_refused(admin: Store, tenant: str, limits: dict[str, int]) -> None:
    with pytest.raises(InvalidArgumentError):
        await admin.tenants.create(tenant, limits=limits)  # type: ignore[arg-type]


async def test_a_service_learns_the_limits_of_the_tenant_that_it_names_alone(
    admin: Store, tenant: str, other_tenant: str, thea_database: TestDatabase
) -> None:
    await admin.tenants.create(tenant, limits={"statement_ms": 7, "text_bytes": 9})

    with psycopg.connect(thea_database.app_url, autocommit=True) as login:
        ask = "select thea.limits_of_calls()"
        assert login.execute(ask).fetchone() == ({},)
        login.execute("select set_config('app.tenant_id', %s, false)", [other_tenant])
        assert login.execute(ask).fetchone() == ({},)
        login.execute("select set_config('app.tenant_id', %s, false)", [tenant])
        assert login.execute(ask).fetchone() == ({"statement_ms": 7},)


async def test_many_tenants_are_asked_for_in_one_message_each_by_its_name_and_the_session_is_its_tenants_after(
    admin: Store, tenant: str, other_tenant: str, thea_database: TestDatabase
) -> None:
    await admin.tenants.create(tenant, limits={"statement_ms": 7})
    names = [other_tenant, tenant, *(f"nobody-{n}" for n in range(1_200))]
    async with Store.open(thea_database.app_url) as store:
        limits = store._database.limits
        for name in names:
            limits.admit(name)
        await limits.refresh()

        assert limits._limits == {tenant: CallLimit(statement_ms=7)}
    with psycopg.connect(thea_database.app_url) as login:
        login.execute("select set_config('app.tenant_id', %s, true)", [other_tenant])
        ask = "select thea.limits_of_calls_of(%s), current_setting('app.tenant_id')"
        assert login.execute(ask, [[tenant]]).fetchone() == ({tenant: {"statement_ms": 7}}, other_tenant)
        assert login.execute(ask, [[]]).fetchone() == ({}, other_tenant)


async def test_a_login_that_no_limits_are_for_asks_once_and_remembers_no_tenant(admin: Store, tenant: str) -> None:
    limits = admin._database.limits
    limits.admit(tenant)
    await limits.refresh()
    limits.admit(tenant)

    assert limits._called == set()
    assert limits._timer is None


@pytest.mark.parametrize("value", ['"soon"', "0", "1.5", "[]"])
async def test_what_is_written_by_hand_is_no_worse(
    admin: Store, tenant: str, thea_database: TestDatabase, value: str
) -> None:
    await admin.tenants.create(tenant)

    refusals = (psycopg.DataError, psycopg.errors.CheckViolation)
    with psycopg.connect(thea_database.url_of("thea_admin")) as login, pytest.raises(refusals):
        login.execute("update thea.tenants set limits = %s where id = %s", [f'{{"statement_ms": {value}}}', tenant])
