"""Behind PgBouncer, whose server connections go from client to client."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.pooler import STARTUP, pgbouncer
from thea_store import QueryTimeoutError, Settings, Store, StoreUnavailableError
from thea_store.testing import TestDatabase


@pytest.mark.parametrize("options", [{}, {"ignore_startup_parameters": STARTUP}], ids=["refused", "dropped silently"])
async def test_a_session_keeps_no_tenant_there_whatever_becomes_of_start_up_settings(
    thea_database: TestDatabase, options: dict[str, str]
) -> None:
    with (
        pgbouncer(thea_database.app_url, **options) as url,
        pytest.raises(StoreUnavailableError, match="set DATABASE_TENANT_SCOPE=transaction"),
    ):
        await Store.open(url)


async def test_tenants_that_share_one_server_connection_see_their_own_rows(thea_database: TestDatabase) -> None:
    tenants = [f"pooled-{number}" for number in range(8)]

    async def live(store: Store, tenant: str) -> list[str | None]:
        user = await store.users.create(tenant, telegram_id=1, first_name=tenant)
        for _ in range(10):
            await store.notes.create(tenant, user.id, tenant)
        async with store.transaction(tenant) as tx:
            await tx.users.update(tenant, user.id, last_name=tenant)
            notes = [note.content async for note in tx.notes.iterate(tenant, batch_size=3)]
        return [user.last_name async for user in store.users.iterate(tenant)] + [*notes]

    with pgbouncer(thea_database.app_url, default_pool_size="1") as url:
        async with Store.open(Settings(url=url, tenant_scope="transaction", pool_size=4)) as store:
            seen = await asyncio.gather(*(live(store, tenant) for tenant in tenants))

    assert seen == [[tenant] * 11 for tenant in tenants]


async def test_a_statement_has_its_bound_there_too(thea_database: TestDatabase, tenant: str) -> None:
    with pgbouncer(thea_database.app_url) as url:
        settings = Settings(url=url, tenant_scope="transaction", command_timeout=0.2)
        async with Store.open(settings) as store, store.transaction(tenant) as tx:
            user = await tx.users.create(tenant, telegram_id=1)
            with pytest.raises(QueryTimeoutError):
                await store.users.get_or_create_from_telegram(tenant, 1)  # waits for the transaction

            assert user.telegram_id == 1
