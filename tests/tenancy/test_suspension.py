"""A tenant that is suspended or has ended is refused by the server, whatever the client."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from thea_store import (
    InvalidTenantError,
    Settings,
    Store,
    TenantEndedError,
    TenantSuspendedError,
    UnknownTenantError,
    User,
)
from thea_store.admin.doctor import Finding, of_schema
from thea_store.admin.doctor.findings import CheckContext
from thea_store.postgres.operator import connect
from thea_store.testing import TestDatabase


@pytest_asyncio.fixture
async def suspended(admin: Store, store: Store, tenant: str) -> User:
    """A user of a tenant that was suspended after it had worked."""
    await admin.tenants.create(tenant)
    user = await store.users.create(tenant, telegram_id=1, first_name="Ana")
    await store.notes.create(tenant, user.id, "pan")
    await admin.tenants.suspend(tenant, "unpaid")
    return user


@pytest.fixture
def login(thea_database: TestDatabase) -> Iterator[psycopg.Connection[Any]]:
    """Free SQL with the service's login."""
    with psycopg.connect(thea_database.app_url, autocommit=True) as connection:
        yield connection


def carry(connection: psycopg.Connection[Any], tenant: str) -> None:
    connection.execute("select set_config('app.tenant_id', %s, false)", [tenant])


async def test_its_next_call_is_refused_and_works_again_when_it_is_resumed(
    admin: Store, store: Store, suspended: User
) -> None:
    tenant = suspended.tenant_id
    for call in (
        store.users.get_by_id(tenant, suspended.id),
        store.users.count(tenant),
        store.users.create(tenant, telegram_id=2),
        store.users.update(tenant, suspended.id, first_name="Eva"),
        store.notes.search(tenant, suspended.id, "pan"),
        store.audit.get_all(tenant),
    ):
        with pytest.raises(TenantSuspendedError, match="this tenant is suspended"):
            await call

    await admin.tenants.resume(tenant)

    assert await store.users.get_by_id(tenant, suspended.id) == suspended


async def test_the_next_statement_of_an_open_read_committed_transaction_is_refused(
    admin: Store, store: Store, tenant: str
) -> None:
    await admin.tenants.create(tenant)

    with pytest.raises(TenantSuspendedError):
        async with store.transaction(tenant) as tx:
            await tx.users.create(tenant, telegram_id=1)
            await admin.tenants.suspend(tenant, "unpaid")
            await tx.users.count(tenant)

    await admin.tenants.resume(tenant)
    assert await store.users.count(tenant) == 0


async def test_a_stricter_transaction_goes_on_to_its_end(admin: Store, store: Store, tenant: str) -> None:
    await admin.tenants.create(tenant)

    async with store.transaction(tenant, isolation="repeatable read") as tx:
        await tx.users.create(tenant, telegram_id=1)
        await admin.tenants.suspend(tenant, "unpaid")
        await tx.users.create(tenant, telegram_id=2)

    with pytest.raises(TenantSuspendedError):
        await store.users.count(tenant)
    await admin.tenants.resume(tenant)
    assert await store.users.count(tenant) == 2


async def test_free_sql_is_refused_in_every_form_and_never_finds_nothing_instead(
    login: psycopg.Connection[Any], suspended: User
) -> None:
    carry(login, suspended.tenant_id)
    for statement in (
        "select count(*) from thea.users",
        "select exists (select from thea.notes)",
        "select from thea.users where id = -1",
        "table thea.audit_log",
        f"insert into thea.users (tenant_id, telegram_id) values ('{suspended.tenant_id}', 9)",
        "update thea.users set first_name = 'x'",
        "delete from thea.notes",
        "explain select from thea.users",
        f"select from thea.search_notes('{suspended.tenant_id}', 1, '[]', 5)",
    ):
        with pytest.raises(psycopg.Error) as caught:
            login.execute(statement.encode())
        assert caught.value.sqlstate == "TH001", statement


async def test_another_tenant_works_meanwhile_on_the_same_connections(store: Store, suspended: User) -> None:
    other = f"other-{uuid.uuid4().hex[:8]}"
    for _ in range(3):
        with pytest.raises(TenantSuspendedError):
            await store.users.count(suspended.tenant_id)
        await store.users.create(other, telegram_id=uuid.uuid4().int % 10**9)

    assert await store.users.count(other) == 3


async def test_one_that_has_ended_is_refused_for_good_and_keeps_its_rows(
    admin: Store, store: Store, suspended: User, superuser: psycopg.Connection[Any]
) -> None:
    tenant = suspended.tenant_id
    await admin.tenants.end(tenant)

    with pytest.raises(TenantEndedError, match="has ended"):
        await store.users.count(tenant)
    with pytest.raises(TenantSuspendedError):
        await store.users.create(tenant, telegram_id=2)
    assert superuser.execute("select count(*) from thea.users where tenant_id = %s", [tenant]).fetchone() == (1,)


async def test_one_that_is_not_in_the_directory_works(admin: Store, store: Store, tenant: str) -> None:
    await admin.tenants.create(f"some-{uuid.uuid4().hex[:8]}")

    await store.users.create(tenant, telegram_id=1)

    assert await store.users.count(tenant) == 1


# --- registered tenants alone -------------------------------------------------------------------


@pytest_asyncio.fixture(params=["session", "transaction"])
async def strict(request: pytest.FixtureRequest, thea_database: TestDatabase) -> AsyncIterator[Store]:
    """A service that takes registered tenants alone."""
    settings = Settings(
        url=thea_database.app_url, pool_size=1, max_overflow=1, tenants="registered", tenant_scope=request.param
    )
    async with Store.open(settings) as store:
        yield store


async def test_a_service_may_take_registered_tenants_alone(admin: Store, strict: Store, tenant: str) -> None:
    for call in (strict.users.count(tenant), strict.users.create(tenant, telegram_id=1)):
        with pytest.raises(UnknownTenantError, match="DATABASE_TENANTS=registered"):
            await call

    await admin.tenants.create(tenant)
    await strict.users.create(tenant, telegram_id=1)
    await admin.tenants.suspend(tenant, "unpaid")

    with pytest.raises(TenantSuspendedError):
        await strict.users.count(tenant)
    assert issubclass(UnknownTenantError, InvalidTenantError)


# --- before the first tenant is in the directory ------------------------------------------------


PLAIN, ASKING = "RETURN thea.unchecked_tenant()", "RETURN thea.admitted_tenant()"


def body(connection: psycopg.Connection[Any]) -> str:
    [(text,)] = connection.execute("select pg_get_function_sqlbody('thea.tenant()'::regprocedure)").fetchall()
    return str(text)


async def test_the_directory_is_asked_only_once_there_is_one(thea_new_database: Any) -> None:
    database: TestDatabase = thea_new_database()
    with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
        strict = Settings(url=database.app_url, pool_size=1, tenants="registered")
        async with (
            Store.open(database.app_url) as store,
            Store.open(strict) as registered,
            Store.open(database.url_of("thea_admin")) as admin,
        ):
            await store.users.create("acme", telegram_id=1)
            with pytest.raises(UnknownTenantError):
                await registered.users.count("acme")
            before = body(superuser)

            await admin.tenants.create("acme")

            assert (before, body(superuser)) == (PLAIN, ASKING)
            assert await registered.users.count("acme") == 1
            await admin.tenants.suspend("acme", "unpaid")
            with pytest.raises(TenantSuspendedError):
                await store.users.count("acme")
            for url in (database.app_url, database.url_of("thea_admin")):
                assert [finding for finding in examined(url) if finding.state == "problem"] == []


def examined(url: str) -> Sequence[Finding]:
    """What doctor finds with this login."""
    settings = Settings(url=url)
    with connect(settings.address()) as connection:
        return of_schema(CheckContext(connection, settings, has_migrator=False))
