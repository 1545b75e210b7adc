"""The service's client; the database comes from the fixtures of thea_store."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio
from httpx import ASGITransport, AsyncClient
from thea_store import Store

from notes_service import create_app


@pytest_asyncio.fixture
async def client(thea_store: Store, thea_tenant: str) -> AsyncIterator[AsyncClient]:
    transport = ASGITransport(create_app(thea_store))
    async with AsyncClient(transport=transport, base_url="http://notes", headers={"X-Tenant": thea_tenant}) as client:
        yield client


@pytest_asyncio.fixture
async def user_id(thea_store: Store, thea_tenant: str) -> int:
    return (await thea_store.users.create(thea_tenant, telegram_id=1, timezone="Europe/Madrid")).id
