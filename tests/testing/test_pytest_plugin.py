"""The plugin as the tests of a service meet it: each test here runs a pytest of its own."""

from __future__ import annotations

import ast
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from thea_store.postgres.url import DatabaseUrl
from thea_store.testing import TestDatabase, start_server

pytest_plugins = ["pytester"]

Run = Callable[..., pytest.RunResult]
Server = psycopg.Connection[Any]

USES = """
async def uses(store, tenant):
    user = await store.users.create(tenant, telegram_id=1)
    assert await store.users.get_by_id(tenant, user.id) == user
"""
PASSES = f"""
{USES}
async def test_it(thea_store, thea_tenant):
    await uses(thea_store, thea_tenant)
"""
FAILS = f"""
{PASSES}
    assert thea_tenant == ""
"""
LOOPS = f"""
import pytest
{USES}
@pytest.mark.asyncio
async def test_default(thea_store, thea_tenant):
    await uses(thea_store, thea_tenant)

@pytest.mark.asyncio(loop_scope="session")
async def test_session(thea_store, thea_tenant):
    await uses(thea_store, thea_tenant)
"""
ANYIO = f"""
import pytest
{USES}
@pytest.fixture(params=["asyncio", ("asyncio", {{"debug": True}})])
def anyio_backend(request):
    return request.param

@pytest.mark.anyio
async def test_it(thea_store, thea_tenant):
    await uses(thea_store, thea_tenant)
"""
AUTO = "--asyncio-mode=auto"


@pytest.fixture(scope="module")
def outer() -> Iterator[TestDatabase]:
    """A database on a server that no other test uses, so that whatever appears on it is an inner run's."""
    with ExitStack() as resources, pytest.MonkeyPatch.context() as environment:
        environment.delenv("THEA_TEST_DATABASE_URL", raising=False)
        yield start_server(resources).new_database(resources)


@pytest.fixture
def url(outer: TestDatabase, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server that outlives the inner run, with a password: one that trusts its clients does not mind."""
    address = DatabaseUrl.parse(outer.superuser_url)
    url = replace(address, database="postgres", password=address.password or "of-the-superuser").render()
    monkeypatch.setenv("THEA_TEST_DATABASE_URL", url)
    with psycopg.connect(url, autocommit=True) as connection:
        before = databases(connection)
        yield url
        for name in databases(connection) - before:
            connection.execute(f"drop database {name}".encode())


@pytest.fixture
def server(url: str) -> Iterator[Server]:
    with psycopg.connect(url, autocommit=True) as connection:
        yield connection


@pytest.fixture
def run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs one file of tests with nothing configured but by these options."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)

    def run(source: str, *options: str, alone: bool = False) -> pytest.RunResult:
        pytester.makepyfile(test_inner=source)
        pytest_in = pytester.runpytest_subprocess if alone else pytester.runpytest_inprocess
        # Plugins that these tests are not about, for a quicker start; and what pytest-asyncio asks to be told.
        unloaded = ("-p", "no:hypothesispytest", "-p", "no:cov")
        scope = () if "no:asyncio" in options else ("--override-ini=asyncio_default_fixture_loop_scope=function",)
        return pytest_in(*unloaded, *scope, *options)

    return run


@pytest.fixture
def hide(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Has the inner run not find these modules."""

    def hide(*modules: str) -> None:
        directory = pytester.mkdir("hidden")
        for module in modules:
            (directory / f"{module}.py").write_text("raise ImportError('hidden')")
        monkeypatch.setenv("PYTHONPATH", str(directory))

    return hide


def databases(server: Server) -> set[str]:
    found = server.execute("select datname from pg_database where starts_with(datname, 'thea_test_')")
    return {name for (name,) in found}


# --- loops --------------------------------------------------------------------------------------


@pytest.mark.parametrize("tests", ["function", "session"])
@pytest.mark.parametrize("fixtures", ["function", "session"])
@pytest.mark.usefixtures("url")
def test_the_store_is_on_the_loop_of_the_test(run: Run, tests: str, fixtures: str) -> None:
    result = run(
        LOOPS,
        f"--override-ini=asyncio_default_test_loop_scope={tests}",
        f"--override-ini=asyncio_default_fixture_loop_scope={fixtures}",
    )

    result.assert_outcomes(passed=2)


@pytest.mark.usefixtures("url")
def test_tests_that_share_a_loop_share_a_store(run: Run) -> None:
    source = """
    seen = set()
    async def test_one(thea_store):
        seen.add(id(thea_store))
    async def test_two(thea_store):
        seen.add(id(thea_store))
        assert len(seen) == 1
    """
    result = run(source, AUTO, "--override-ini=asyncio_default_test_loop_scope=session")

    result.assert_outcomes(passed=2)


@pytest.mark.usefixtures("url")
def test_anyio_alone_suffices(run: Run, hide: Callable[..., None]) -> None:
    pytest.importorskip("anyio")
    hide("pytest_asyncio")

    run(ANYIO, "-p", "no:asyncio", alone=True).assert_outcomes(passed=2)


@pytest.mark.usefixtures("url")
def test_anyio_beside_pytest_asyncio(run: Run) -> None:
    pytest.importorskip("anyio")

    run(ANYIO, "--asyncio-mode=strict").assert_outcomes(passed=2)


@pytest.mark.usefixtures("url")
def test_without_a_plugin_for_coroutines_the_remedy_is_told(run: Run, hide: Callable[..., None]) -> None:
    hide("pytest_asyncio")
    source = """
    def test_store(thea_store): ...
    def test_database(thea_database): ...
    """
    result = run(source, "-p", "no:asyncio", alone=True)

    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*thea_store needs pytest-asyncio*"])


@pytest.mark.usefixtures("url")
def test_a_test_that_two_plugins_want_to_run_is_told_to_decide(run: Run) -> None:
    pytest.importorskip("anyio")
    result = run(ANYIO, AUTO)

    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*thea_store cannot be on the loop of a test that both anyio and pytest-asyncio*"])


@pytest.mark.usefixtures("url")
def test_a_shared_store_is_not_for_tests_of_anyio(run: Run) -> None:
    pytest.importorskip("anyio")
    result = run(ANYIO, "--asyncio-mode=strict", "--override-ini=asyncio_default_test_loop_scope=session")

    result.assert_outcomes(errors=2)
    result.stdout.fnmatch_lines(["*needs `asyncio_default_test_loop_scope = function`*"])


OLD_PLUGIN = """
import asyncio, inspect, pytest

def fixture(function=None, **options):  # as before 0.24: what it does not know goes on to pytest
    return pytest.fixture(function, **options)

@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    if inspect.iscoroutinefunction(pyfuncitem.obj):
        names = pyfuncitem._fixtureinfo.argnames
        asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
        return True
"""


@pytest.fixture
def old_pytest_asyncio(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has the inner run find a pytest-asyncio from before 1.0."""
    directory = pytester.mkdir("old")
    package, metadata = directory / "pytest_asyncio", directory / "pytest_asyncio-0.23.8.dist-info"
    package.mkdir()
    metadata.mkdir()
    (package / "__init__.py").write_text("from pytest_asyncio.plugin import fixture")
    (package / "plugin.py").write_text(OLD_PLUGIN)
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: pytest-asyncio\nVersion: 0.23.8\n")
    (metadata / "entry_points.txt").write_text("[pytest11]\nasyncio = pytest_asyncio.plugin\n")
    monkeypatch.setenv("PYTHONPATH", str(directory))


@pytest.mark.slow
@pytest.mark.usefixtures("old_pytest_asyncio")
def test_no_run_dies_of_an_old_pytest_asyncio_and_the_needed_version_is_named(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        test_other="def test_plain(): ...\n\nasync def test_coroutine(): ...\n",
        test_store="def test_database(thea_database): ...\n\nasync def test_store(thea_store): ...\n",
    )
    others = pytester.runpytest_subprocess("test_other.py")
    ours = pytester.runpytest_subprocess()

    others.assert_outcomes(passed=2)
    ours.assert_outcomes(passed=3, errors=1)
    ours.stdout.fnmatch_lines(["*thea_store needs pytest-asyncio 1.0 or newer, and 0.23.8 is installed: pip install*"])
    assert "never awaited" not in ours.stdout.str() + ours.stderr.str()


def test_a_run_that_asks_for_nothing_imports_nothing() -> None:
    script = "import sys, pytest; seen = {*sys.modules}; import thea_store.pytest_plugin; print({*sys.modules} - seen)"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    packages = {name.partition(".")[0] for name in ast.literal_eval(found)}

    assert {name for name in ast.literal_eval(found) if name.startswith("thea_store.")} == {"thea_store.pytest_plugin"}
    assert packages - sys.stdlib_module_names == {"thea_store"}


# --- servers ------------------------------------------------------------------------------------


def test_without_docker_the_embedded_server_serves(
    run: Run, hide: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("THEA_TEST_DATABASE_URL", "THEA_TEST_SERVER"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")
    hide("docker", "testcontainers")

    run(PASSES, AUTO, alone=True).assert_outcomes(passed=1)


@pytest.mark.slow
def test_a_docker_that_does_not_answer_is_passed_over(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("THEA_TEST_DATABASE_URL", "THEA_TEST_SERVER"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere.sock")

    run(PASSES, AUTO).assert_outcomes(passed=1)


@pytest.mark.slow
def test_each_worker_has_its_own_database_and_drops_it(run: Run, server: Server) -> None:
    before = databases(server)
    source = f"{PASSES}\n    with open('seen', 'a') as seen:\n        seen.write(thea_store._settings.url + ' ')"
    result = run(source, AUTO, "-n", "2", "--dist", "each")

    result.assert_outcomes(passed=2)
    assert len(set(Path("seen").read_text().split())) == 2
    assert databases(server) == before


def test_the_template_serves_later_runs(run: Run, server: Server) -> None:
    templates = "select oid, datname from pg_database where starts_with(datname, 'thea_template_')"
    run(PASSES, AUTO).assert_outcomes(passed=1)
    before = server.execute(templates).fetchall()
    run(PASSES, AUTO).assert_outcomes(passed=1)

    assert before
    assert server.execute(templates).fetchall() == before


@pytest.mark.usefixtures("url")
def test_the_settings_of_the_service_do_not_count(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://production.invalid/thea")
    monkeypatch.setenv("DATABASE_REPLICA_URL", "postgresql://replica.invalid/thea")
    monkeypatch.setenv("DATABASE_SSL_MODE", "verify-full")
    monkeypatch.setenv("DATABASE_SSL_CA", "/nowhere/ca.pem")

    run(PASSES, AUTO).assert_outcomes(passed=1)


# --- what stays, what goes ----------------------------------------------------------------------


def test_a_failed_test_tells_where_to_look(run: Run, server: Server, url: str) -> None:
    before = databases(server)
    result = run(FAILS, AUTO, "--showlocals")

    result.assert_outcomes(failed=1)
    (kept,) = databases(server) - before
    address = replace(DatabaseUrl.parse(url), password=None, database=kept)
    output = result.stdout.str()
    assert f"psql '{address.render()}'" in output
    tenant = output.partition("tenant_id = '")[2].partition("'")[0]
    with psycopg.connect(replace(DatabaseUrl.parse(url), database=kept).render()) as connection:
        found = connection.execute("select telegram_id from thea.users where tenant_id = %s", [tenant]).fetchall()
    assert found == [(1,)]


def test_no_output_holds_a_password(run: Run, url: str) -> None:
    source = f"{FAILS}\n\ndef test_more(thea_database, thea_server, thea_new_database):\n    assert 0\n"
    result = run(source, AUTO, "--showlocals", "-vv")

    result.assert_outcomes(failed=2)
    password = DatabaseUrl.parse(url).password
    assert f":{password}@" not in result.stdout.str() + result.stderr.str()


@pytest.mark.slow
def test_the_newest_of_what_was_kept_stays(run: Run, server: Server) -> None:
    old = [f"thea_test_20200101000000_{n:08x}" for n in range(21)]
    for name in old:
        server.execute(f"create database {name}".encode())
        server.execute(f"comment on database {name} is 'kept after a failure'".encode())
    run(PASSES, AUTO).assert_outcomes(passed=1)

    assert databases(server).intersection(old) == set(old[1:])


@pytest.mark.slow
def test_what_a_killed_run_left_goes_after_a_day(run: Run, server: Server, pytester: pytest.Pytester) -> None:
    before = databases(server)
    pytester.makepyfile(
        test_killed="import os, signal\ndef test_it(thea_database):\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = pytester.runpytest_subprocess("test_killed.py")
    (left,) = databases(server) - before
    pytester.path.joinpath("test_killed.py").unlink()
    run(PASSES, AUTO).assert_outcomes(passed=1)
    still_there = databases(server) - before
    yesterday = (datetime.now(UTC) - timedelta(days=1, minutes=1)).strftime("%Y%m%d%H%M%S")
    server.execute(f"alter database {left} rename to thea_test_{yesterday}_00000000".encode())
    run(PASSES, AUTO).assert_outcomes(passed=1)

    assert killed.ret == -signal.SIGKILL
    assert still_there == {left}
    assert databases(server) == before


# --- what cannot be -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("postgresql://u:hush-hush@/db?host=/nowhere", "*the tests' server /nowhere/db lets nobody in: *"),
        (
            "postgresql://u:hush-hush@[::1/db",
            "*THEA_TEST_DATABASE_URL: has an IPv6 address without its closing bracket*",
        ),
        ("mysql://u:hush-hush@host/db", "*THEA_TEST_DATABASE_URL: must start with postgresql://*"),
    ],
)
def test_a_url_that_does_not_serve_is_told_in_a_sentence(
    run: Run, monkeypatch: pytest.MonkeyPatch, url: str, complaint: str
) -> None:
    monkeypatch.setenv("THEA_TEST_DATABASE_URL", url)
    result = run(PASSES, AUTO, "--showlocals")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([complaint])
    assert "hush-hush" not in result.stdout.str() + result.stderr.str()
    assert "Traceback" not in result.stdout.str()


def test_a_login_that_is_no_superuser_is_refused(
    run: Run, outer: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THEA_TEST_DATABASE_URL", outer.migrator_url)
    result = run(PASSES, AUTO)

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*must be given by a superuser's URL*"])
