from __future__ import annotations

from typing import Any

import pytest

from thea_store import InvalidArgumentError, Store, User


async def test_the_history_of_a_row_tells_what_changed_and_on_whose_behalf(store: Store, tenant: str) -> None:
    async with store.transaction(tenant, actor="user:1", request_id="r1") as tx:
        user = await tx.users.create(tenant, telegram_id=1, first_name="Ana")
    await store.users.update(tenant, user.id, first_name="Eva", preferences={"a": 1})
    async with store.transaction(tenant, actor="admin", request_id="r2") as tx:
        await tx.users.delete(tenant, user.id)
    history = await store.audit.get_for(tenant, "users", user.id)

    assert [(e.action, e.actor, e.request_id) for e in history] == [
        ("insert", "user:1", "r1"),
        ("update", None, None),
        ("delete", "admin", "r2"),
    ]
    assert history[0].before is None
    assert history[0].after is not None
    assert history[0].after["first_name"] == "Ana"
    assert history[1].before == {"first_name": "Ana", "preferences": {}}
    assert history[1].after == {"first_name": "Eva", "preferences": {"a": 1}}
    assert history[2].before == {"deleted_at": None}


async def test_a_purge_is_told_with_what_went_and_for_each_row_that_went_along(
    store: Store, tenant: str, user: User
) -> None:
    message = await store.messages.add_message(tenant, user.id, "s", user_message="hola")
    async with store.transaction(tenant, actor="admin") as tx:
        await tx.users.purge(tenant, user.id)

    for table, row_id in (
        ("users", user.id),
        ("conversations", message.conversation_id),
        ("message_history", message.id),
    ):
        last = (await store.audit.get_for(tenant, table, row_id))[-1]
        assert (last.action, last.actor, last.after) == ("purge", "admin", None)
        assert last.before is not None


@pytest.mark.parametrize(
    "document", [{"theme": "dark"}, {"theme": None}, {"days": [None, 1]}, {"home": {"town": "Lugo", "street": None}}]
)
async def test_a_row_is_told_with_its_documents_as_they_were(
    store: Store, tenant: str, document: dict[str, Any]
) -> None:
    user = await store.users.create(tenant, telegram_id=1, preferences=document)
    await store.users.purge(tenant, user.id)
    insert, purge = await store.audit.get_for(tenant, "users", user.id)

    assert insert.after is not None
    assert insert.after["preferences"] == document
    assert "username" not in insert.after
    assert purge.before == insert.after


async def test_what_is_rolled_back_leaves_no_entry(store: Store, tenant: str, user: User) -> None:
    with pytest.raises(KeyError):
        async with store.transaction(tenant) as tx:
            await tx.users.update(tenant, user.id, first_name="Eva")
            raise KeyError

    assert [e.action for e in await store.audit.get_for(tenant, "users", user.id)] == ["insert"]


async def test_pages_of_entries_are_the_newest_first_and_narrowed(store: Store, tenant: str) -> None:
    for n in range(6):
        async with store.transaction(tenant, actor=f"user:{n % 2}") as tx:
            user = await tx.users.create(tenant, telegram_id=n)
            await tx.conversations.create(tenant, user.id, f"s{n}")

    async def asked(**narrowed: Any) -> list[tuple[str, int]]:
        found, cursor = [], None
        while True:
            page = await store.audit.get_all(tenant, limit=2, cursor=cursor, **narrowed)
            found += [(entry.table_name, entry.row_id) for entry in page.items]
            if (cursor := page.next_cursor) is None:
                return found

    everything = await asked()
    assert len(everything) == len(set(everything)) == 12
    assert everything[0][0] == "conversations"
    assert {table for table, _ in await asked(table="users")} == {"users"}
    assert len(await asked(actor="user:1")) == 6
    assert len(await asked(actor="user:1", table="users")) == 3
    assert await asked(actor="nobody") == []


async def test_another_tenant_reads_nothing(store: Store, tenant: str, other_tenant: str, user: User) -> None:
    assert await store.audit.get_for(other_tenant, "users", user.id) == []
    assert (await store.audit.get_all(other_tenant)).items == []
    await store.users.update(tenant, user.id, first_name="Eva")
    cursor = (await store.audit.get_all(tenant, limit=1)).next_cursor

    with pytest.raises(InvalidArgumentError, match="^cursor"):
        await store.audit.get_all(other_tenant, cursor=cursor)
    with pytest.raises(InvalidArgumentError, match="^cursor"):
        await store.audit.get_all(tenant, cursor=cursor, actor="x")
    users = await store.users.create_many(tenant, [{"telegram_id": n} for n in range(2)])
    foreign = (await store.users.get_all(tenant, limit=1)).next_cursor
    assert users
    with pytest.raises(InvalidArgumentError, match="^cursor"):
        await store.audit.get_all(tenant, cursor=foreign)


@pytest.mark.parametrize(
    ("argument", "call"),
    [("limit", {"limit": 0}), ("table", {"table": "secrets"}), ("actor", {"actor": ""}), ("cursor", {"cursor": "x"})],
)
async def test_what_does_not_fit_is_named(store: Store, tenant: str, argument: str, call: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match=f"^{argument}"):
        await store.audit.get_all(tenant, **call)
