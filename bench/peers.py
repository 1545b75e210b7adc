"""The peers: ways to make the same four calls on the same rows.

asyncpg's pool sends what a careful service would write by hand: the store's own statements, and for the twenty
rows a plainer one, without the store's optional filters.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal, Protocol, Self

import asyncpg
from ground import Place

from thea_store import Settings, Store
from thea_store.assistant.messages import ADD, GET_CONTEXT_WINDOW
from thea_store.assistant.users import COMMON

__all__ = ["ENTITIES", "MESSAGE", "POOL_SIZE", "AsyncpgPool", "Peer", "StorePeer"]

POOL_SIZE = 5
"""Connections of every pool, neither more nor fewer."""

ENTITIES = {"when": "tomorrow 10:00", "title": "dentist"}

MESSAGE: dict[str, Any] = {
    "user_message": "And the day after?",
    "bot_response": "Nothing so far.",
    "message_id": None,
    "sealed": None,
    "intent_detected": "get_events",
    "entities_extracted": json.dumps(ENTITIES),
    "confidence_score": 0.9,
    "processing_time_ms": 80,
}
"""The message that is added, as asyncpg takes it."""

_NEWEST = """
select
  tenant_id, id, user_id, conversation_id, message_id, user_message, bot_response, intent_detected,
  entities_extracted, confidence_score, processing_time_ms, created_at, updated_at, deleted_at
from thea.message_history
where tenant_id = $1
  and deleted_at is null
order by created_at desc, id desc
limit $2
"""


class Peer(Protocol):
    """One way to the database; every call is its own transaction and returns rows that have an `id`."""

    async def one_row(self, place: Place) -> Sequence[Any]:
        """The user."""
        ...

    async def twenty_rows(self, place: Place) -> Sequence[Any]:
        """The tenant's twenty newest messages."""
        ...

    async def insert(self, place: Place) -> Sequence[Any]:
        """The new message, at the end of its session, whose conversation moves."""
        ...

    async def context_window(self, place: Place) -> Sequence[Any]:
        """The session's fifty newest messages, the oldest of them first."""
        ...

    async def close(self) -> None: ...


class AsyncpgPool:
    """asyncpg's pool as `create_pool` makes it, by a role that row security does not bind; plain records."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record]) -> None:
        self._pool = pool

    @classmethod
    async def open(cls, url: str) -> Self:
        return cls(await asyncpg.create_pool(url, min_size=POOL_SIZE, max_size=POOL_SIZE))

    async def one_row(self, place: Place) -> Sequence[Any]:
        row = await self._pool.fetchrow(COMMON.get_by_id.text, place.tenant_id, place.user_id)
        return [row]

    async def twenty_rows(self, place: Place) -> Sequence[Any]:
        return await self._pool.fetch(_NEWEST, place.tenant_id, 20)

    async def insert(self, place: Place) -> Sequence[Any]:
        place_of = {"tenant_id": place.tenant_id, "user_id": place.user_id, "session_id": place.session_id}
        values = MESSAGE | place_of
        return [await self._pool.fetchrow(ADD.text, *[values[name] for name in ADD.parameters])]

    async def context_window(self, place: Place) -> Sequence[Any]:
        values = {"tenant_id": place.tenant_id, "session_id": place.session_id, "limit": 50}
        return await self._pool.fetch(
            GET_CONTEXT_WINDOW.text, *[values[name] for name in GET_CONTEXT_WINDOW.parameters]
        )

    async def close(self) -> None:
        await self._pool.close()


class StorePeer:
    """The store, as the service's weak role, with row security; checked arguments, validated records."""

    def __init__(self, store: Store) -> None:
        self._store = store

    @classmethod
    async def open(cls, url: str, scope: Literal["session", "transaction"]) -> Self:
        return cls(await Store.open(Settings(url=url, pool_size=POOL_SIZE, max_overflow=0, tenant_scope=scope)))

    async def one_row(self, place: Place) -> Sequence[Any]:
        return [await self._store.users.get_by_id(place.tenant_id, place.user_id)]

    async def twenty_rows(self, place: Place) -> Sequence[Any]:
        return (await self._store.messages.get_all(place.tenant_id, limit=20)).items

    async def insert(self, place: Place) -> Sequence[Any]:
        added = await self._store.messages.add_message(
            place.tenant_id,
            place.user_id,
            place.session_id,
            user_message="And the day after?",
            bot_response="Nothing so far.",
            intent_detected="get_events",
            entities_extracted=ENTITIES,
            confidence_score=0.9,
            processing_time_ms=80,
        )
        return [added]

    async def context_window(self, place: Place) -> Sequence[Any]:
        return await self._store.messages.get_context_window(place.tenant_id, place.session_id, 50)

    async def close(self) -> None:
        await self._store.close()
