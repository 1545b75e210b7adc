"""The directory of tenants: what an operator reads and writes in it."""

from __future__ import annotations

import uuid

import pytest

from thea_store import (
    ConflictError,
    DuplicateError,
    InsufficientPrivilegeError,
    InvalidArgumentError,
    InvalidTenantError,
    NotFoundError,
    Store,
)


async def test_a_new_tenant_is_active_and_has_what_was_given(admin: Store, tenant: str) -> None:
    made = await admin.tenants.create(tenant, name="Panadería Ñandú", limits={"text_bytes": 10})

    assert (made.id, made.name, made.status) == (tenant, "Panadería Ñandú", "active")
    assert (made.limits, made.settings, made.reason) == ({"text_bytes": 10}, {}, None)
    assert made.created_at.utcoffset() is not None
    assert (made.suspended_at, made.ended_at) == (None, None)
    assert await admin.tenants.get(tenant) == made


async def test_one_that_was_never_created_is_none(admin: Store, tenant: str) -> None:
    assert await admin.tenants.get(tenant) is None


async def test_a_second_one_of_the_same_id_is_a_duplicate(admin: Store, tenant: str) -> None:
    await admin.tenants.create(tenant)

    with pytest.raises(DuplicateError) as caught:
        await admin.tenants.create(tenant)
    assert caught.value.fields == ("id",)


async def test_a_suspended_tenant_says_why_and_since_when_until_it_is_resumed(admin: Store, tenant: str) -> None:
    await admin.tenants.create(tenant)

    suspended = await admin.tenants.suspend(tenant, "unpaid")
    again = await admin.tenants.suspend(tenant, "unpaid for long")
    resumed = await admin.tenants.resume(tenant)

    assert (suspended.status, suspended.reason) == ("suspended", "unpaid")
    assert suspended.suspended_at is not None
    assert (again.reason, again.suspended_at) == ("unpaid for long", suspended.suspended_at)
    assert (resumed.status, resumed.reason, resumed.suspended_at) == ("active", None, None)
    assert (await admin.tenants.resume(tenant)).status == "active"


async def test_a_tenant_ends_once_and_for_good(admin: Store, tenant: str) -> None:
    await admin.tenants.create(tenant)
    await admin.tenants.suspend(tenant, "leaving")

    ended = await admin.tenants.end(tenant)

    assert (ended.status, ended.reason, ended.suspended_at) == ("ended", None, None)
    assert ended.ended_at is not None
    assert await admin.tenants.end(tenant) == ended
    for call in (
        admin.tenants.suspend(tenant, "again"),
        admin.tenants.resume(tenant),
        admin.tenants.rename(tenant, "Otra"),
        admin.tenants.update(tenant, settings={}),
    ):
        with pytest.raises(ConflictError, match="has ended"):
            await call


async def test_whatever_is_done_to_one_that_is_not_there_finds_none(admin: Store, tenant: str) -> None:
    for call in (
        admin.tenants.suspend(tenant, "unpaid"),
        admin.tenants.resume(tenant),
        admin.tenants.end(tenant),
        admin.tenants.rename(tenant, "Otra"),
        admin.tenants.update(tenant, settings={}),
    ):
        with pytest.raises(NotFoundError):
            await call


async def test_an_update_changes_what_is_given_alone(admin: Store, tenant: str) -> None:
    made = await admin.tenants.create(tenant, name="Una", limits={"text_bytes": 10})

    changed = await admin.tenants.update(tenant, settings={"plan": "grande"})
    renamed = await admin.tenants.rename(tenant, "Otra")

    assert (changed.name, changed.limits, changed.settings) == ("Una", {"text_bytes": 10}, {"plan": "grande"})
    assert changed.updated_at > made.updated_at
    assert renamed == changed.model_copy(update={"name": "Otra", "updated_at": renamed.updated_at})


async def test_pages_go_through_all_tenants_of_a_status_the_newest_first(admin: Store) -> None:
    ids = [f"página {number} {uuid.uuid4().hex[:8]}" for number in range(5)]
    for one in ids:
        await admin.tenants.create(one)
        await admin.tenants.suspend(one, "paging")

    found: list[str] = []
    cursor: str | None = None
    while True:
        page = await admin.tenants.get_all(status="suspended", limit=2, cursor=cursor)
        found += [tenant.id for tenant in page.items]
        if (cursor := page.next_cursor) is None:
            break

    assert [one for one in found if one in ids] == ids[::-1]
    with pytest.raises(InvalidArgumentError, match="cursor"):
        await admin.tenants.get_all(cursor=(await admin.tenants.get_all(status="suspended", limit=1)).next_cursor)


@pytest.mark.parametrize("bad", ["", " x", "x" * 51, "a\nb"])
async def test_an_id_that_is_none_is_refused(admin: Store, bad: str) -> None:
    for call in (
        admin.tenants.create(bad),
        admin.tenants.get(bad),
        admin.tenants.suspend(bad, "unpaid"),
        admin.tenants.end(bad),
    ):
        with pytest.raises(InvalidTenantError):
            await call


async def test_wrong_arguments_are_named(admin: Store, tenant: str) -> None:
    with pytest.raises(InvalidArgumentError, match="^reason"):
        await admin.tenants.suspend(tenant, "")
    with pytest.raises(InvalidArgumentError, match="^status"):
        await admin.tenants.get_all(status="gone")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="^limit"):
        await admin.tenants.get_all(limit=0)
    with pytest.raises(InvalidArgumentError, match="^status: cannot be changed; these can: limits, name, settings"):
        await admin.tenants.update(tenant, status="ended")  # type: ignore[call-arg]
    with pytest.raises(InvalidArgumentError, match="^name"):
        await admin.tenants.create(tenant, name=7)  # type: ignore[arg-type]


async def test_a_services_login_may_not_touch_the_directory(store: Store, tenant: str) -> None:
    for call in (
        store.tenants.create(tenant),
        store.tenants.get(tenant),
        store.tenants.get_all(),
        store.tenants.suspend(tenant, "unpaid"),
        store.tenants.end(tenant),
    ):
        with pytest.raises(InsufficientPrivilegeError, match="only a login in the group thea_admin"):
            await call


async def test_an_administrators_login_reads_and_writes_no_row_of_a_tenant(admin: Store, tenant: str) -> None:
    for call in (
        admin.users.create(tenant, telegram_id=1),
        admin.users.get_all(tenant),
        admin.audit.get_all(tenant),
    ):
        with pytest.raises(InsufficientPrivilegeError):
            await call
