"""Fixtures for the tests of services: a store on a throwaway database, and tenants that nobody used.

The server is the first of these that there is: `THEA_TEST_DATABASE_URL` (a superuser's URL); a Docker
engine (testcontainers, image `THEA_TEST_POSTGRES_IMAGE`, default `postgres:18`); the embedded server.
`THEA_TEST_SERVER` chooses instead: `docker`, `embedded`, or a directory with PostgreSQL's programs.

Each worker of pytest-xdist has a database of its own. The database of a failed test is kept where its
server goes on after the tests, and the failure's report tells how to look at it.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Literal, cast

import pytest

try:
    import pytest_asyncio
except ImportError:
    pytest_asyncio = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from thea_store import Store
    from thea_store.extensions import Extension
    from thea_store.testing import TestDatabase, TestServer

__all__ = ["thea_database", "thea_extensions", "thea_new_database", "thea_server", "thea_store", "thea_tenant"]

_Scope = Literal["session", "package", "module", "class", "function"]


@pytest.fixture(scope="session")
def thea_extensions() -> Sequence[Extension]:
    """The extensions under test; override it in a `conftest.py` for one that is not installed.

    Those of `DATABASE_EXTENSIONS` and of installed distributions are there without it.
    """
    return ()


@pytest.fixture(scope="session")
def thea_server(thea_extensions: Sequence[Extension]) -> Iterator[TestServer]:
    """The PostgreSQL server of this test run."""
    from thea_store.errors import StoreError  # noqa: PLC0415 - heavy, and loaded in every pytest run
    from thea_store.testing import start_server  # noqa: PLC0415

    with ExitStack() as resources:
        try:
            server = start_server(resources, thea_extensions)
        except StoreError as error:
            # Without a traceback, which would show the URL, password and all, to `--showlocals`.
            raise pytest.fail.Exception(str(error), pytrace=False) from None
        yield server


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


def _loop_scope(fixture_name: str, config: pytest.Config) -> _Scope:
    """For how long tests share a loop by default, and so may share a store."""
    del fixture_name
    try:
        return cast("_Scope", config.getini("asyncio_default_test_loop_scope"))
    except ValueError:  # pytest-asyncio is not there
        return "function"


@pytest.fixture(scope=_loop_scope)
def thea_store(request: pytest.FixtureRequest, thea_database: TestDatabase) -> Store:
    """A store on the test database, logged in as a member of `thea_app`.

    Tests that share an event loop share the store: opening one takes some 30 ms.
    """
    del thea_database  # asked for by name, so that the report of a failed test finds it
    loop = "anyio" if "anyio_backend" in request.fixturenames else _loop_of(request)
    return cast("Store", request.getfixturevalue(f"_thea_store_on_{loop}_loop"))


def _loop_of(request: pytest.FixtureRequest) -> str:
    """The scope of the loop on which pytest-asyncio runs the test."""
    if not request.config.pluginmanager.has_plugin("asyncio"):
        pytest.fail("thea_store needs pytest-asyncio, or a test with @pytest.mark.anyio", pytrace=False)
    marker = request.node.get_closest_marker("asyncio") if request.scope == "function" else None
    return str((marker and marker.kwargs.get("loop_scope")) or _loop_scope("", request.config))


@asynccontextmanager
async def _opened(database: TestDatabase, extensions: Sequence[Extension]) -> AsyncIterator[Store]:
    from thea_store import Settings, Store  # noqa: PLC0415

    # What the service's own environment says of its database does not count here.
    settings = Settings(
        url=database.app_url, replica_url=None, migrator_url=None, ssl_mode="prefer", ssl_ca=None, pool_size=2
    )
    async with Store.open(settings, extensions=extensions) as store:
        yield store


@pytest.fixture
async def _thea_store_on_anyio_loop(
    anyio_backend: str | tuple[str, object], thea_database: TestDatabase, thea_extensions: Sequence[Extension]
) -> AsyncIterator[Store]:
    if "asyncio" not in anyio_backend:
        pytest.fail("thea_store runs on asyncio: let the fixture anyio_backend return 'asyncio'", pytrace=False)
    async with _opened(thea_database, thea_extensions) as store:
        yield store


if pytest_asyncio is not None:
    _fixture = pytest_asyncio.fixture

    def _store_on(scope: _Scope) -> Any:
        @_fixture(name=f"_thea_store_on_{scope}_loop", scope=scope, loop_scope=scope)
        async def store(thea_database: TestDatabase, thea_extensions: Sequence[Extension]) -> AsyncIterator[Store]:
            async with _opened(thea_database, thea_extensions) as store:
                yield store

        return store

    # A store lives on one loop, so there is one for each loop that a test may run on.
    _on_session_loop, _on_package_loop, _on_module_loop = (
        _store_on("session"),
        _store_on("package"),
        _store_on("module"),
    )
    _on_class_loop, _on_function_loop = _store_on("class"), _store_on("function")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell where a failed test's rows are, if they can still be looked at."""
    report = yield
    values: dict[str, Any] = getattr(item, "funcargs", {})
    database: TestDatabase | None = values.get("thea_database")
    if report.failed and database is not None and database.lasting:
        lines = [f"psql '{database.keep()}'"]
        if "thea_tenant" in values:
            lines.append(f"tenant_id = '{values['thea_tenant']}'")
        report.sections.append(("database kept by thea_store", "\n".join(lines)))
    return report
