"""Stores for the logins of the operators' groups, on the worker's database."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator

import psycopg
import pytest
import pytest_asyncio

from tests.tenancy.places import Place
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


@pytest.fixture(scope="module")
def here(thea_database: TestDatabase) -> Iterator[Place]:
    with psycopg.connect(thea_database.superuser_url, autocommit=True) as superuser:
        yield Place(thea_database, superuser)


@pytest.fixture(scope="module")
def there(thea_new_database: Callable[..., TestDatabase]) -> Iterator[Place]:
    database = thea_new_database()
    with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
        yield Place(database, superuser)


@pytest_asyncio.fixture(scope="module")
async def there_store(there: Place) -> AsyncIterator[Store]:
    async with Store.open(Settings(url=there.database.app_url, pool_size=1)) as opened:
        yield opened
