from __future__ import annotations

from typing import Any

from httpx import AsyncClient
from thea_store import Note, Store

OTHER = {"X-Tenant": "somebody-else"}


async def keep(client: AsyncClient, user_id: int, content: str, **more: Any) -> Note:
    response = await client.post("/notes", json={"user_id": user_id, "content": content, **more})
    assert response.status_code == 201, response.text
    return Note.model_validate_json(response.text)


async def test_a_note_is_kept(client: AsyncClient, user_id: int, thea_store: Store, thea_tenant: str) -> None:
    note = await keep(client, user_id, "Comprar pan", title="Compras", tags=["casa"])

    assert (note.content, note.title, note.tags) == ("Comprar pan", "Compras", ["casa"])
    assert await thea_store.notes.get_by_id(thea_tenant, note.id) == note
    assert (await client.get(f"/notes/{note.id}")).json() == note.model_dump(mode="json")


async def test_notes_come_in_pages(client: AsyncClient, user_id: int) -> None:
    for content in ("one", "two", "three"):
        await keep(client, user_id, content, tags=["all"])
    question: dict[str, str | int] = {"user_id": user_id, "tags": "all"}
    first = (await client.get("/notes", params={**question, "limit": 2})).json()
    rest = (await client.get("/notes", params={**question, "cursor": first["next_cursor"]})).json()

    assert [note["content"] for note in first["items"]] == ["three", "two"]
    assert ([note["content"] for note in rest["items"]], rest["next_cursor"]) == (["one"], None)


async def test_notes_are_found_by_any_form_of_their_words(client: AsyncClient, user_id: int) -> None:
    await keep(client, user_id, "Preparar las reuniones del lunes")
    await keep(client, user_id, "Comprar pan")
    response = await client.get("/notes/search", params={"user_id": user_id, "q": "REUNION"})

    assert [hit["content"] for hit in response.json()] == ["Preparar las reuniones del lunes"]


async def test_what_is_not_given_stays_as_it_is(client: AsyncClient, user_id: int) -> None:
    note = await keep(client, user_id, "Comprar pan", title="Compras", category="casa")
    changed = (await client.patch(f"/notes/{note.id}", json={"title": None, "is_pinned": True})).json()

    assert (changed["title"], changed["is_pinned"]) == (None, True)
    assert (changed["content"], changed["category"]) == ("Comprar pan", "casa")


async def test_tags_are_added_once(client: AsyncClient, user_id: int) -> None:
    note = await keep(client, user_id, "Comprar pan", tags=["casa"])
    response = await client.post(f"/notes/{note.id}/tags", json={"tags": ["hoy", "casa"]})

    assert response.json()["tags"] == ["casa", "hoy"]


async def test_a_deleted_note_is_gone(client: AsyncClient, user_id: int) -> None:
    note = await keep(client, user_id, "Comprar pan")

    assert (await client.delete(f"/notes/{note.id}")).status_code == 204
    assert (await client.get(f"/notes/{note.id}")).status_code == 404
    assert (await client.delete(f"/notes/{note.id}")).status_code == 404


async def test_another_tenant_finds_nothing(client: AsyncClient, user_id: int) -> None:
    note = await keep(client, user_id, "Comprar pan")
    place = f"/notes/{note.id}"

    assert (await client.get(place, headers=OTHER)).status_code == 404
    assert (await client.patch(place, headers=OTHER, json={"title": "mine"})).status_code == 404
    assert (await client.delete(place, headers=OTHER)).status_code == 404
    assert (await client.get("/notes", headers=OTHER, params={"user_id": user_id})).json()["items"] == []
    assert (await client.get(place)).json() == note.model_dump(mode="json")
