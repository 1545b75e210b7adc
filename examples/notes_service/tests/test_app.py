from __future__ import annotations

import pytest
from fastapi.encoders import jsonable_encoder
from httpx import AsyncClient
from thea_store import Store

from notes_service import create_app


async def test_the_service_opens_and_closes_its_own_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "embedded:")
    app = create_app()

    async with app.router.lifespan_context(app):
        store: Store = app.state.store
        assert await store.ping() > 0
    assert not (await store.health()).reachable


async def test_a_service_with_its_database_is_ready(client: AsyncClient) -> None:
    response = await client.get("/health")

    assert (response.status_code, response.json()) == (200, {"ready": True})


async def test_the_routes_are_described_with_the_records(client: AsyncClient) -> None:
    description = jsonable_encoder((await client.get("/openapi.json")).json())

    assert {"Note", "NoteHit", "NoteChanges", "EventOccurrence"} <= description["components"]["schemas"].keys()
