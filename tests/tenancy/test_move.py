"""A tenant moves to another database while its service goes on."""

from __future__ import annotations

import psycopg
import pytest

from tests.support.twins import make_twin
from tests.tenancy.places import Place
from thea_store import ConflictError, NotFoundError, Store, TenantSuspendedError
from thea_store.tenancy.archive import end_tenant, move_tenant, moving


async def test_a_tenant_is_at_its_new_place_what_it_was(
    *, store: Store, here: Place, there: Place, there_store: Store, tenant: str
) -> None:
    twin = await make_twin(store, tenant)
    moved = move_tenant(here.mover, there.mover, tenant)

    assert there.rows(tenant) == here.rows(tenant)
    assert moved.tables["thea.users"] == len(twin.ids["users"])
    with pytest.raises(TenantSuspendedError):
        await store.users.get_by_id(tenant, twin.ids["users"][0])
    created = await there_store.users.create(tenant, telegram_id=99)
    assert created.id > max(twin.ids["users"])
    end_tenant(here.mover, tenant, None)
    assert set(map(len, here.rows(tenant).values())) == {0}


async def test_what_is_written_meanwhile_comes_along(
    *, store: Store, here: Place, there: Place, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = await make_twin(store, tenant)
    ana, luis, _ = twin.ids["users"]
    first, *_ = twin.ids["notes"]
    # Each round is copied before the next thing happens.
    monkeypatch.setattr(moving, "_FEW", 1)
    happened = iter(
        [
            f"update thea.notes set content = 'written since' where tenant_id = '{tenant}' and id = {first}",
            f"delete from thea.users where tenant_id = '{tenant}' and id = {luis}",
            f"insert into thea.users (tenant_id, telegram_id) values ('{tenant}', 1002)",
            f"update thea.users set last_activity = now() where tenant_id = '{tenant}' and id = {ana}",
            f"update thea.users set deleted_at = now() where tenant_id = '{tenant}' and id = {ana}",
        ]
    )

    def happen(table: str, rows: int) -> None:  # noqa: ARG001
        if table in {"thea.users", "thea.audit_log"} and (statement := next(happened, None)) is not None:
            with psycopg.connect(here.database.app_url) as service:
                service.execute("select set_config('app.tenant_id', %s, true)", [tenant])
                service.execute(statement.encode())

    moved = move_tenant(here.mover, there.mover, tenant, on_progress=happen)

    assert next(happened, None) is None
    assert moved.rounds >= 3
    assert there.rows(tenant) == here.rows(tenant)


async def test_a_move_that_fails_lets_the_tenant_go_on_where_it_was(
    *, store: Store, here: Place, there: Place, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    user = await store.users.create(tenant, telegram_id=1)
    monkeypatch.setattr(moving, "_PATIENCE", 0.05)
    with psycopg.connect(here.database.app_url) as writer:
        writer.execute("select set_config('app.tenant_id', %s, true)", [tenant])
        writer.execute("update thea.users set first_name = 'Ana' where tenant_id = %s", [tenant])
        with pytest.raises(ConflictError, match="did not end within"):
            move_tenant(here.mover, there.mover, tenant)

    monkeypatch.undo()
    assert (await store.users.update(tenant, user.id, last_name="Ruiz")).first_name == "Ana"
    move_tenant(here.mover, there.mover, tenant)
    assert there.rows(tenant) == here.rows(tenant)


async def test_rows_from_elsewhere_are_in_the_way(
    *, store: Store, here: Place, there: Place, there_store: Store, tenant: str
) -> None:
    user = await store.users.create(tenant, telegram_id=1)
    await there_store.users.create(tenant, telegram_id=2)
    with pytest.raises(ConflictError, match="has rows of this tenant already"):
        move_tenant(here.mover, there.mover, tenant)

    assert await store.users.exists(tenant, user.id)


def test_who_is_not_there_cannot_move(here: Place, there: Place, tenant: str) -> None:
    with pytest.raises(NotFoundError, match="no row of this tenant"):
        move_tenant(here.mover, there.mover, tenant)
