"""Deleting and restoring while others do the same: nothing stays hidden, and nothing outlives its parent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import psycopg
import pytest

from thea_store import Store, User

UNTIL_SOMEBODY_WAITS = """
do $$
begin
  while not exists (select from pg_locks where not granted and pg_backend_pid() = any(pg_blocking_pids(pid))) loop
    perform pg_sleep(0.01);
  end loop;
end
$$
"""


async def test_a_restore_that_waited_brings_back_what_was_hidden_meanwhile(
    store: Store, tenant: str, user: User
) -> None:
    await store.conversations.create(tenant, user.id, "early")
    await store.users.delete(tenant, user.id)
    async with store.transaction(tenant) as tx:
        await tx.users.restore(tenant, user.id)
        waiting = asyncio.create_task(store.users.restore(tenant, user.id))
        await asyncio.sleep(0.1)
        await tx.conversations.create(tenant, user.id, "late")
        await tx.users.delete(tenant, user.id)
    await waiting

    assert {found.session_id async for found in store.conversations.iterate(tenant)} == {"early", "late"}


async def test_a_conversation_comes_back_with_what_was_hidden_while_its_restore_waited(
    store: Store, tenant: str, user: User
) -> None:
    first = await store.messages.add_message(tenant, user.id, "s", user_message="early")
    await store.conversations.delete(tenant, first.conversation_id)
    async with store.transaction(tenant) as tx:
        await tx.conversations.restore(tenant, first.conversation_id)
        waiting = asyncio.create_task(store.conversations.restore(tenant, first.conversation_id))
        await asyncio.sleep(0.1)
        await tx.messages.add_message(tenant, user.id, "s", user_message="late")
        await tx.conversations.delete(tenant, first.conversation_id)
    await waiting

    assert [found.user_message for found in await store.messages.get_context_window(tenant, "s")] == ["early", "late"]


async def test_a_message_that_is_being_restored_does_not_outlive_its_conversation(
    store: Store, tenant: str, user: User
) -> None:
    message = await store.messages.add_message(tenant, user.id, "s", user_message="x")
    await store.messages.delete(tenant, message.id)
    async with store.transaction(tenant) as tx:
        await tx.messages.restore(tenant, message.id)
        waiting = asyncio.create_task(store.conversations.delete(tenant, message.conversation_id))
        await asyncio.sleep(0.1)
    await waiting

    assert not await store.messages.exists(tenant, message.id)


async def test_a_message_that_is_being_restored_does_not_outlive_its_user(
    store: Store, tenant: str, user: User
) -> None:
    message = await store.messages.add_message(tenant, user.id, "s", user_message="x")
    await store.messages.delete(tenant, message.id)
    async with store.transaction(tenant) as tx:
        await tx.messages.restore(tenant, message.id)
        waiting = asyncio.create_task(store.users.delete(tenant, user.id))
        await asyncio.sleep(0.1)
    await waiting

    assert not await store.messages.exists(tenant, message.id)


@pytest.mark.parametrize("call", ["messages.create_many", "messages.restore", "conversations.restore", "get_or_create"])
async def test_who_waits_for_the_user_holds_no_conversation(
    store: Store, tenant: str, user: User, superuser: psycopg.Connection[Any], call: str
) -> None:
    conversation = await store.conversations.create(tenant, user.id, "s")
    row = {"user_id": user.id, "conversation_id": conversation.id, "user_message": "x"}
    message = (await store.messages.create_many(tenant, [row]))[0]
    await store.messages.delete(tenant, message.id)
    if "conversation" in call or "get" in call:
        await store.conversations.delete(tenant, conversation.id)
    calls: dict[str, Callable[[], Coroutine[Any, Any, object]]] = {
        "messages.create_many": lambda: store.messages.create_many(tenant, [row]),
        "messages.restore": lambda: store.messages.restore(tenant, message.id),
        "conversations.restore": lambda: store.conversations.restore(tenant, conversation.id),
        "get_or_create": lambda: store.conversations.get_or_create(tenant, user.id, "s"),
    }
    with superuser.transaction():  # as a delete does, which then goes on to the conversations
        superuser.execute("select from thea.users where tenant_id = %s for update", [tenant])
        waiting = asyncio.create_task(calls[call]())
        await asyncio.sleep(0.1)
        superuser.execute("select from thea.conversations where tenant_id = %s for update nowait", [tenant])
    await waiting


async def test_a_call_of_several_statements_is_done_again_after_a_deadlock(
    store: Store, tenant: str, user: User, superuser: psycopg.Connection[Any]
) -> None:
    await store.notes.create(tenant, user.id, "x")
    superuser.execute("set deadlock_timeout = '1h'")  # so that the call is the one that gives way
    with superuser.transaction():
        superuser.execute("update thea.notes set is_pinned = true where tenant_id = %s", [tenant])
        deleting = asyncio.create_task(store.users.delete(tenant, user.id))
        await asyncio.to_thread(superuser.execute, UNTIL_SOMEBODY_WAITS)
        await asyncio.to_thread(
            superuser.execute, "update thea.users set username = 'x' where tenant_id = %s", [tenant]
        )
    await deleting

    assert await store.users.count(tenant) == await store.notes.count(tenant) == 0
