"""The limits of a tenant, which the database keeps exactly, and what a tenant has."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from thea_store import InvalidArgumentError, NotFoundError, QuotaExceededError, Settings, Store
from thea_store.testing import TestDatabase


def used(superuser: psycopg.Connection[Any], tenant: str) -> dict[str, int]:
    return dict(superuser.execute("select counted, used from thea.quotas where tenant = %s", [tenant]).fetchall())


async def test_a_row_too_many_is_refused_and_says_how_many_there_may_be(
    admin: Store, store: Store, tenant: str
) -> None:
    await admin.tenants.create(tenant, limits={"rows": {"users": 2}})
    first = await store.users.create(tenant, telegram_id=1)
    await store.users.create(tenant, telegram_id=2)

    with pytest.raises(QuotaExceededError, match="2 rows in users") as caught:
        await store.users.create(tenant, telegram_id=3)
    with pytest.raises(QuotaExceededError):
        await store.users.create_many(tenant, [{"telegram_id": 4}, {"telegram_id": 5}])

    assert (caught.value.limit, caught.value.allowed, caught.value.table) == ("rows", 2, "users")
    assert await store.users.count(tenant) == 2
    await store.users.purge(tenant, first.id)
    await store.users.create(tenant, telegram_id=3)
    await store.notes.create(tenant, (await store.users.get_all(tenant)).items[0].id, "no limit here")


async def test_what_hangs_on_a_purged_row_is_free_again(
    admin: Store, store: Store, tenant: str, superuser: psycopg.Connection[Any]
) -> None:
    await admin.tenants.create(tenant, limits={"rows": 3, "text_bytes": 1000})
    user = await store.users.create(tenant, telegram_id=1)
    await store.notes.create_many(tenant, [{"user_id": user.id, "content": "ñ" * 10} for _ in range(3)])
    with pytest.raises(QuotaExceededError):
        await store.notes.create(tenant, user.id, "one more")

    await store.users.purge(tenant, user.id)

    assert {name: total for name, total in used(superuser, tenant).items() if total} == {}
    again = await store.users.create(tenant, telegram_id=1)
    await store.notes.create(tenant, again.id, "room for it")


async def test_bytes_of_text_count_in_all_tables_and_in_what_is_changed(
    admin: Store, store: Store, tenant: str, superuser: psycopg.Connection[Any]
) -> None:
    await admin.tenants.create(tenant, limits={"text_bytes": 200})
    user = await store.users.create(tenant, telegram_id=1)
    note = await store.notes.create(tenant, user.id, "ñ" * 40, tags=["compra"])

    with pytest.raises(QuotaExceededError, match="200 bytes of text") as caught:
        await store.notes.update(tenant, note.id, content="x" * 190)

    assert (caught.value.limit, caught.value.allowed, caught.value.table) == ("text_bytes", 200, None)
    await store.notes.update(tenant, note.id, content="x")
    await store.notes.update(tenant, note.id, content="y" * 100)
    usage = await admin.tenants.usage(tenant)
    assert usage.text_bytes == used(superuser, tenant)["text_bytes"]
    assert (usage.rows["users"], usage.rows["notes"], usage.rows["events"]) == (1, 1, 0)


async def test_many_at_once_do_not_go_beyond_it(
    admin: Store, store: Store, tenant: str, superuser: psycopg.Connection[Any]
) -> None:
    await admin.tenants.create(tenant, limits={"rows": {"users": 5}})

    calls = [store.users.create(tenant, telegram_id=number) for number in range(12)]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)

    refused = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    assert {type(outcome) for outcome in refused} == {QuotaExceededError}
    assert (len(refused), await store.users.count(tenant)) == (7, 5)
    assert used(superuser, tenant) == {"users": 5}


async def test_what_is_undone_is_not_counted(
    admin: Store, store: Store, tenant: str, superuser: psycopg.Connection[Any]
) -> None:
    await admin.tenants.create(tenant, limits={"rows": {"users": 2}})
    async with store.transaction(tenant) as tx:
        await tx.users.create(tenant, telegram_id=1)
        with pytest.raises(QuotaExceededError):
            async with tx.savepoint():
                await tx.users.create_many(tenant, [{"telegram_id": 2}, {"telegram_id": 3}])

    assert used(superuser, tenant) == {"users": 1}
    assert await store.users.count(tenant) == 1


async def test_a_limit_counts_what_is_there_when_it_is_set_and_can_be_changed(
    admin: Store, store: Store, tenant: str, superuser: psycopg.Connection[Any]
) -> None:
    user = await store.users.create(tenant, telegram_id=1, first_name="Ana")
    await store.users.delete(tenant, (await store.users.create(tenant, telegram_id=2)).id)
    await admin.tenants.create(tenant, limits={"rows": {"users": 1}, "text_bytes": 10_000})

    assert used(superuser, tenant) == {"users": 2, "text_bytes": (await admin.tenants.usage(tenant)).text_bytes}
    with pytest.raises(QuotaExceededError):
        await store.users.create(tenant, telegram_id=3)
    await store.users.update(tenant, user.id, first_name="Eva")
    await admin.tenants.update(tenant, limits={"rows": {"users": 3}})
    await store.users.create(tenant, telegram_id=3)
    assert used(superuser, tenant) == {"users": 3}
    await admin.tenants.update(tenant, limits={})
    await store.users.create(tenant, telegram_id=4)
    assert used(superuser, tenant) == {}


async def test_another_tenant_is_not_held_back(admin: Store, store: Store, tenant: str, other_tenant: str) -> None:
    await admin.tenants.create(tenant, limits={"rows": 0, "text_bytes": 0})

    await store.users.create(other_tenant, telegram_id=1)

    with pytest.raises(QuotaExceededError):
        await store.users.create(tenant, telegram_id=1)


async def test_free_sql_does_not_get_round_a_limit(
    admin: Store, store: Store, tenant: str, thea_database: TestDatabase
) -> None:
    await admin.tenants.create(tenant, limits={"rows": {"users": 1}})
    await store.users.create(tenant, telegram_id=1)

    with psycopg.connect(thea_database.app_url, autocommit=True) as login:
        login.execute("select set_config('app.tenant_id', %s, false)", [tenant])
        for statement in (
            "insert into thea.users (tenant_id, telegram_id) select thea.tenant(), n from generate_series(2, 3) n",
            "update thea.quotas set used = 0",
            "delete from thea.quotas",
            "select thea.charge('x', 'users', -5)",
            "select thea.usage_of('x')",
            "alter table thea.users disable trigger meter_insert",
        ):
            with pytest.raises(psycopg.Error) as caught:
                login.execute(statement.encode())
            assert caught.value.sqlstate in {"TH004", "42501"}, statement


@pytest.mark.parametrize(
    ("limits", "argument"),
    [
        ({"rows": -1}, "limits.rows"),
        ({"rows": {"notes": True}}, "limits.rows"),
        ({"text_bytes": "many"}, "limits.text_bytes"),
        ({"notes": 3}, "limits.notes"),
        ({"rows": {"nothing": 3}}, "limits"),
    ],
)
async def test_a_limit_that_is_none_is_refused(admin: Store, tenant: str, limits: Any, argument: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await admin.tenants.create(tenant, limits=limits)

    assert caught.value.argument.startswith(argument)
    assert await admin.tenants.get(tenant) is None


async def test_limits_that_a_cluster_does_not_keep_are_refused_with_the_reason(
    thea_new_database: Callable[..., TestDatabase], tenant: str
) -> None:
    database = thea_new_database()
    script = (Path(__file__).parents[2] / "deploy" / "citus" / "distribute.sql").read_text()
    [name] = re.findall(r"add constraint (\w+)'\n", script)
    [condition] = re.findall(r"' (check \(not \(limits .*\)\))'\n", script)
    with psycopg.connect(database.superuser_url) as superuser:
        added = f"alter table thea.tenants add constraint {name} {condition}".replace("''", "'")
        superuser.execute(added.encode())

    async with Store.open(Settings(url=database.url_of("thea_admin"), pool_size=1)) as keeper:
        with pytest.raises(InvalidArgumentError, match="^limits: a Citus cluster keeps none of rows or of text"):
            await keeper.tenants.create(tenant, limits={"rows": 2})
        made = await keeper.tenants.create(tenant, limits={"statement_ms": 500})

    assert made.limits == {"statement_ms": 500}


async def test_usage_of_a_tenant_that_is_not_in_the_directory_is_not_found(admin: Store, tenant: str) -> None:
    with pytest.raises(NotFoundError):
        await admin.tenants.usage(tenant)
