"""Fixtures for the tests of services: a store on a throwaway database, and tenants that nobody used.

The server is the first of these that there is: `THEA_TEST_DATABASE_URL` (a superuser's URL); a Docker
engine (testcontainers, image `THEA_TEST_POSTGRES_IMAGE`, default `postgres:18`); the embedded server.
`THEA_TEST_SERVER` chooses instead: `docker`, `embedded`, or a directory with PostgreSQL's programs.

Each worker of pytest-xdist has a database of its own. The database of a failed test is kept where its
server goes on after the tests, and the failure's report tells how to look at it.

Every run of pytest imports this module, whether it tests a store or not. So it imports nothing but pytest, and
what it needs of other plugins is asked for by the fixtures that need it.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from importlib.metadata import version
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import pytest

if TYPE_CHECKING:
    from thea_store import Store
    from thea_store.extensions import Extension
    from thea_store.testing import TestDatabase, TestServer

__all__ = ["thea_database", "thea_extensions", "thea_new_database", "thea_server", "thea_store", "thea_tenant"]

_Scope = Literal["session", "package", "module", "class", "function"]

# The first pytest-asyncio in which a fixture can be told on which of the tests' loops to run.
_NEEDED = 1


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
    return cast("Store", request.getfixturevalue(f"_thea_store_on_{_loop_of(request)}_loop"))


def _loop_of(request: pytest.FixtureRequest) -> str:
    """What runs the test: `anyio`, or else the scope of the loop on which pytest-asyncio runs it."""
    if "anyio_backend" in request.fixturenames:
        if problem := _problem_with_anyio(request):
            pytest.fail(problem, pytrace=False)
        return "anyio"
    if problem := _problem(request.config):
        pytest.fail(problem, pytrace=False)
    marker = request.node.get_closest_marker("asyncio") if request.scope == "function" else None
    return str((marker and marker.kwargs.get("loop_scope")) or _loop_scope("", request.config))


def _problem_with_anyio(request: pytest.FixtureRequest) -> str | None:
    """Why anyio cannot run the test of a store; `None` where it can."""
    if request.scope != "function":
        return "thea_store in a test of anyio needs `asyncio_default_test_loop_scope = function`"
    # In its mode `auto`, pytest-asyncio runs anyio's tests too, but leaves their fixtures to anyio's other loop.
    if type(request.node).__module__.partition(".")[0] == "pytest_asyncio":
        return (
            "thea_store cannot be on the loop of a test that both anyio and pytest-asyncio want to run: "
            "set `asyncio_mode = strict`, or use anyio_backend and @pytest.mark.anyio no more"
        )
    return None


def _problem(config: pytest.Config) -> str | None:
    """Why pytest-asyncio cannot run the test of a store; `None` where it can."""
    # Not `get_plugins`, which makes a set of them: a plugin may be an object that cannot be hashed.
    plugins = [plugin for _, plugin in config.pluginmanager.list_name_plugin()]
    if not any(getattr(plugin, "__name__", "") == "pytest_asyncio.plugin" for plugin in plugins):
        return f"thea_store needs pytest-asyncio {_NEEDED}.0 or newer, or a test with @pytest.mark.anyio"
    found = version("pytest-asyncio")
    if int(found.partition(".")[0]) < _NEEDED:
        return (
            f"thea_store needs pytest-asyncio {_NEEDED}.0 or newer, and {found} is installed: "
            f"pip install 'pytest-asyncio>={_NEEDED}.0', or set `asyncio_mode = strict` and use @pytest.mark.anyio"
        )
    return None


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


def pytest_configure(config: pytest.Config) -> None:
    """Register the stores for the loops of pytest-asyncio, where there is one that has them."""
    if _problem(config) is None:
        config.pluginmanager.register(_stores(), "thea_store on the loops of pytest-asyncio")


def _stores() -> ModuleType:
    """A plugin with a store for each loop that a test may run on, since a store lives on one loop."""
    plugin = ModuleType("thea_store_on_loops")
    for scope in get_args(_Scope):
        setattr(plugin, f"store_on_{scope}_loop", _store_on(scope))
    return plugin


def _store_on(scope: _Scope) -> Any:
    import pytest_asyncio  # noqa: PLC0415 - loaded by now, if there is one

    @pytest_asyncio.fixture(name=f"_thea_store_on_{scope}_loop", scope=scope, loop_scope=scope)
    async def store(thea_database: TestDatabase, thea_extensions: Sequence[Extension]) -> AsyncIterator[Store]:
        async with _opened(thea_database, thea_extensions) as store:
            yield store

    return store


@pytest.hookimpl(hookwrapper=True)  # an older pytest, which dies of `wrapper`, may have nothing to do with us
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    """Tell where a failed test's rows are, if they can still be looked at."""
    outcome = yield
    report: pytest.TestReport = outcome.get_result()
    values: dict[str, Any] = getattr(item, "funcargs", {})
    database: TestDatabase | None = values.get("thea_database")
    if report.failed and database is not None and database.lasting:
        lines = [f"psql '{database.keep()}'"]
        if "thea_tenant" in values:
            lines.append(f"tenant_id = '{values['thea_tenant']}'")
        report.sections.append(("database kept by thea_store", "\n".join(lines)))
