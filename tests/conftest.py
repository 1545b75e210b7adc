"""The project's own tests use the plugin that services get, with one store for a whole worker."""

from __future__ import annotations

import gc
import uuid
from collections.abc import AsyncIterator, Generator, Iterator
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from tests.support import profiles  # noqa: F401 - loads one
from tests.support.commands import no_settings, run  # noqa: F401 - fixtures
from tests.support.stepping import pytest_terminal_summary  # noqa: F401 - a hook
from thea_store import Settings, Store, User
from thea_store.database import limits
from thea_store.testing import TestDatabase


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Keep the garbage collector from what is collected, which lives as long as the run: it took half of the time."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _no_background_questions() -> Iterator[None]:
    """A test that is about the limits of calls lets its store ask: elsewhere a question would come in between."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "EVERY", 3600.0)
        yield


@pytest_asyncio.fixture(scope="session")
async def thea_store(thea_database: TestDatabase) -> AsyncIterator[Store]:
    async with Store.open(Settings(url=thea_database.app_url, pool_size=3, max_overflow=7)) as store:
        yield store


@pytest.fixture
def store(thea_store: Store) -> Store:
    return thea_store


@pytest.fixture
def tenant(thea_tenant: str) -> str:
    return thea_tenant


@pytest.fixture
def other_tenant() -> str:
    return f"other-{uuid.uuid4().hex[:16]}"


@pytest_asyncio.fixture
async def user(store: Store, tenant: str) -> User:
    return await store.users.create(tenant, telegram_id=1001, first_name="Ana")


@pytest.fixture
def superuser(thea_database: TestDatabase) -> Iterator[psycopg.Connection[Any]]:
    """A connection that sees everything, to look behind the scenes."""
    with psycopg.connect(thea_database.superuser_url, autocommit=True) as connection:
        yield connection
