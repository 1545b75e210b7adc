from __future__ import annotations

from httpx import AsyncClient


async def test_a_new_service_can_make_its_user_and_keep_a_note(client: AsyncClient) -> None:
    user = (await client.post("/users", json={"telegram_id": 4711, "first_name": "Ana"})).json()
    note = await client.post("/notes", json={"user_id": user["id"], "content": "Comprar pan"})
    found = await client.get("/notes/search", params={"user_id": user["id"], "q": "pan"})

    assert note.status_code == 201
    assert [hit["content"] for hit in found.json()] == ["Comprar pan"]


async def test_a_user_who_is_there_is_a_conflict_that_names_the_field(client: AsyncClient) -> None:
    await client.post("/users", json={"telegram_id": 1})
    again = await client.post("/users", json={"telegram_id": 1})

    assert again.status_code == 409
    assert again.json()["fields"] == ["telegram_id"]
