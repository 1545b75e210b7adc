"""Fixtures for the tests of services: a store on a throwaway database, and tenants that nobody used.

The server is the first of these that there is: `THEA_TEST_DATABASE_URL` (a superuser's URL); a Docker
engine (testcontainers, image `THEA_TEST_POSTGRES_IMAGE`, default `postgres:18`); the embedded server.
`THEA_TEST_SERVER` chooses instead: `docker`, `embedded`, or a directory with PostgreSQL's programs.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

try:
    import pytest_asyncio
except ImportError:  # pragma: no cover - a service without asynchronous tests
    pytest_asyncio = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from thea_store import Store
    from thea_store.testing import TestDatabase, TestServer

__all__ = ["thea_database", "thea_new_database", "thea_server", "thea_store", "thea_tenant"]


@pytest.fixture(scope="session")
def thea_server() -> Iterator[TestServer]:
    """The PostgreSQL server of this test run."""
    from thea_store.testing import start_server  # noqa: PLC0415 - heavy, and loaded in every pytest run

    with ExitStack() as resources:
        yield start_server(resources)


@pytest.fixture(scope="session")
def thea_new_database(thea_server: TestServer) -> Iterator[Callable[..., TestDatabase]]:
    """Makes databases: migrated ones by default, empty ones with `migrated=False`."""
    with ExitStack() as resources:
        yield lambda *, migrated=True: thea_server.new_database(resources, migrated=migrated)


@pytest.fixture(scope="session")
def thea_database(thea_new_database: Callable[..., TestDatabase]) -> TestDatabase:
    """The migrated database that this worker's tests share."""
    return thea_new_database()


@pytest.fixture
def thea_tenant() -> str:
    """A tenant that has no rows yet."""
    return f"test-{uuid.uuid4().hex[:16]}"


if pytest_asyncio is not None:

    @pytest_asyncio.fixture
    async def thea_store(thea_database: TestDatabase) -> AsyncIterator[Store]:
        """A store on the test database, logged in as a member of `thea_app`."""
        from thea_store import Settings, Store  # noqa: PLC0415

        settings = Settings(url=thea_database.app_url, pool_size=2)
        async with Store.open(settings) as store:
            yield store

else:  # pragma: no cover

    @pytest.fixture(name="thea_store")
    def _needs_pytest_asyncio() -> None:
        """Tells that it needs pytest-asyncio."""
        pytest.fail("the fixture thea_store needs pytest-asyncio: pip install pytest-asyncio")
