from __future__ import annotations

import asyncio

import pytest
from fastapi.encoders import jsonable_encoder
from httpx import ASGITransport, AsyncClient
from thea_store import Store
from thea_store.embedded import EmbeddedPostgres
from thea_store.migrator import migrate

from notes_service import create_app


async def test_the_service_opens_and_closes_its_own_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "embedded:")
    app = create_app()

    async with app.router.lifespan_context(app):
        store: Store = app.state.store
        assert await store.ping() > 0
        async with AsyncClient(transport=ASGITransport(app), base_url="http://notes") as client:
            shown = (await client.get("/metrics")).text
        assert "db_client_connection_max{" in shown
    assert not (await store.health()).reachable


async def test_a_service_with_its_database_is_ready(client: AsyncClient) -> None:
    response = await client.get("/health")

    assert (response.status_code, response.json()) == (200, {"ready": True})


async def test_a_probe_asks_whether_the_database_answers(client: AsyncClient) -> None:
    response = await client.get("/ready")

    assert (response.status_code, response.json()) == (200, {"ready": True})


async def test_a_probe_fails_while_the_database_is_gone() -> None:
    async with EmbeddedPostgres() as server:
        await asyncio.to_thread(migrate, server.migrator_url)
        store = await Store.open(server.app_url)
    async with AsyncClient(transport=ASGITransport(create_app(store)), base_url="http://notes") as client:
        response = await client.get("/ready")
    await store.close()

    assert (response.status_code, response.json()) == (503, {"ready": False})


async def test_the_routes_are_described_with_the_records(client: AsyncClient) -> None:
    description = jsonable_encoder((await client.get("/openapi.json")).json())

    assert {"Note", "NoteHit", "NoteChanges", "EventOccurrence"} <= description["components"]["schemas"].keys()
