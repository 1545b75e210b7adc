from __future__ import annotations

import pytest
from httpx import ASGITransport, AsyncClient, Response
from thea_store import (
    ConflictError,
    DuplicateError,
    OutcomeUnknownError,
    PoolTimeoutError,
    Store,
    StoreError,
    StoreUnavailableError,
)

from notes_service import create_app


async def answer_to(error: StoreError, store: Store) -> Response:
    """What the service answers when the store raises this."""
    app = create_app(store)

    @app.get("/failing")
    async def fail() -> None:
        raise error

    async with AsyncClient(transport=ASGITransport(app, raise_app_exceptions=False), base_url="http://notes") as client:
        return await client.get("/failing")


async def test_a_caller_has_to_say_who_it_is(client: AsyncClient) -> None:
    del client.headers["X-Tenant"]

    assert (await client.get("/upcoming", params={"user_id": 1})).status_code == 401


async def test_a_tenant_that_cannot_be_is_refused(client: AsyncClient) -> None:
    response = await client.get("/notes/1", headers={"X-Tenant": "x" * 51})

    assert response.status_code == 422
    assert "tenant_id" in response.json()["detail"]


async def test_the_argument_that_does_not_fit_is_named(client: AsyncClient, user_id: int) -> None:
    response = await client.get("/notes", params={"user_id": user_id, "limit": 1001})

    assert response.status_code == 422
    assert response.json()["argument"] == "limit"


async def test_a_note_for_nobody_is_refused(client: AsyncClient) -> None:
    response = await client.post("/notes", json={"user_id": 1, "content": "Comprar pan"})

    assert response.status_code == 422


async def test_a_field_that_nobody_may_change_is_refused(client: AsyncClient) -> None:
    assert (await client.patch("/notes/1", json={"tenant_id": "mine"})).status_code == 422


@pytest.mark.parametrize("error", [DuplicateError("such a row exists", ["telegram_id"]), ConflictError("too late")])
async def test_whoever_comes_second_is_told_of_the_conflict(thea_store: Store, error: StoreError) -> None:
    response = await answer_to(error, thea_store)

    assert (response.status_code, response.json()["detail"]) == (409, str(error))


@pytest.mark.parametrize("kind", [PoolTimeoutError, StoreUnavailableError])
async def test_a_database_that_is_busy_or_away_asks_to_come_again(thea_store: Store, kind: type[StoreError]) -> None:
    response = await answer_to(kind("db-7.internal: start it"), thea_store)

    assert (response.status_code, response.headers["Retry-After"]) == (503, "1")
    assert "db-7" not in response.text


async def test_what_the_server_undid_may_be_tried_again(thea_store: Store) -> None:
    deadlock = StoreError("a deadlock")
    deadlock.repeatable = True

    assert (await answer_to(deadlock, thea_store)).status_code == 503


async def test_an_unknown_outcome_does_not_ask_to_come_again(thea_store: Store) -> None:
    response = await answer_to(OutcomeUnknownError("notes.create: …"), thea_store)

    assert response.status_code == 500
    assert "Retry-After" not in response.headers
    assert "look before" in response.json()["detail"]


async def test_our_own_faults_tell_nothing(thea_store: Store) -> None:
    response = await answer_to(StoreError("a secret of ours"), thea_store)

    assert (response.status_code, response.text) == (500, "Internal Server Error")
