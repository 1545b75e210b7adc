"""Stores for the logins of the operators' groups, on the worker's database."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from thea_store import Settings, Store
from thea_store.testing import TestDatabase


@pytest_asyncio.fixture(scope="session")
async def admin(thea_database: TestDatabase) -> AsyncIterator[Store]:
    """A store with a login in `thea_admin` alone."""
    async with Store.open(Settings(url=thea_database.url_of("thea_admin"), pool_size=2)) as store:
        yield store


@pytest_asyncio.fixture(scope="session")
async def finder(thea_database: TestDatabase) -> AsyncIterator[Store]:
    """A store with a login in `thea_worker` alone."""
    async with Store.open(Settings(url=thea_database.url_of("thea_worker"), pool_size=2)) as store:
        yield store
