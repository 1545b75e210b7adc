"""No argument, text of a message, id or password comes out: in a log line, an error, a `repr`, a command's output.

Everything is called with marked values, well and in every way that fails, and all that comes out is searched for them.
"""

from __future__ import annotations

import asyncio
import gc
import pickle
import subprocess
import sys
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest
import pytest_asyncio
from typer.testing import CliRunner

from tests.secrets.arguments import unfit
from tests.secrets.caught import Caught, Marks, everything
from tests.secrets.commands import broken_import, commands, guarded_login, situations
from tests.secrets.failures import FAILURES, Scene, prepare_database
from tests.secrets.slips import SLIPS
from tests.secrets.urls import urls
from tests.support import calls
from tests.support.calls import CALLS, REPOSITORIES, Call, prepare
from tests.support.logins import lets_in
from thea_store import (
    DuplicateError,
    InvalidArgumentError,
    MigrationError,
    MigrationRequiredError,
    Settings,
    SettingsError,
    Store,
    StoreUnavailableError,
)
from thea_store.admin.doctor import examine
from thea_store.cli.commands import app
from thea_store.database import connector, failures
from thea_store.database.failures import translate, unreachable
from thea_store.migrator import migrate, status
from thea_store.postgres import operator
from thea_store.postgres.operator import UnreachableError
from thea_store.postgres.url import DatabaseUrl
from thea_store.store import SQL_FILES
from thea_store.testing import TestDatabase


@pytest.fixture(scope="module")
def marks(thea_database: TestDatabase) -> Iterator[Marks]:
    login = DatabaseUrl.parse(thea_database.app_url)
    is_asked = not lets_in(replace(login, password="wrong").render())
    marks = Marks(secret=login.password or "", is_given=True) if is_asked else Marks()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calls, "_numbers", marks.numbers())
        patch.setattr(calls, "NOW", calls.NOW.replace(microsecond=marks.microsecond))
        # A server that is not there does not come up while these tests wait.
        patch.setattr(connector, "_STARTING", 0.0)
        yield marks


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def scene(
    marks: Marks, thea_new_database: Callable[..., TestDatabase], tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Scene]:
    database = thea_new_database()
    with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
        prepare_database(superuser, marks)
        async with Store.open(Settings(url=database.app_url, pool_size=2, slow_query_ms=0)) as store:
            ground = await prepare(store, marks.tenant, marks.text)
            yield Scene(marks, database, superuser, store, ground, tmp_path_factory.mktemp("secrets"))


@pytest.fixture
def caught(marks: Marks) -> Caught:
    return Caught(marks)


@contextmanager
def debugging() -> Iterator[None]:
    """asyncio's debug mode, in which it logs every step, with what it handles."""
    loop = asyncio.get_running_loop()
    slow = loop.slow_callback_duration
    loop.set_debug(True)
    loop.slow_callback_duration = 0
    try:
        yield
    finally:
        loop.set_debug(False)
        loop.slow_callback_duration = slow


# --- calls --------------------------------------------------------------------------------------


async def test_what_succeeds_tells_no_value(scene: Scene, caught: Caught) -> None:
    with everything(caught):
        async with logged(scene, caught, slow_query_ms=0) as store:
            for call in CALLS:
                ground = await prepare(scene.store, scene.tenant, new_text(scene)) if call.writes else scene.ground
                with debugging():
                    await call.run(store, scene.tenant, call.arguments(ground))

    assert not caught.leaks()
    assert {"statement", "log of asyncio"} <= caught.origins.keys()
    assert caught.origins["log of thea_store.queries"] >= len(CALLS)


async def test_what_succeeds_in_a_transaction_tells_no_value(scene: Scene, caught: Caught) -> None:
    text = scene.marks.text
    with everything(caught):
        async with logged(scene, caught, echo=True, tenant_scope="transaction") as store:
            for call in CALLS:
                with debugging(), suppress(UndoneError):
                    async with store.transaction(scene.tenant, actor=text, request_id=text) as tx:
                        await call.run(tx, scene.tenant, call.arguments(scene.ground))
                        raise UndoneError

    assert not caught.leaks()
    assert {"statement", "log of asyncio"} <= caught.origins.keys()
    assert caught.origins["log of thea_store.queries"] >= len(CALLS)


class UndoneError(Exception):
    """Leaves a transaction, so that it leaves nothing."""


def new_text(scene: Scene) -> str:
    return f"{scene.marks.text} {next(calls._numbers)}"


@asynccontextmanager
async def logged(scene: Scene, caught: Caught, **options: Any) -> AsyncIterator[Store]:
    """A store with a password, each of whose statements is caught."""
    async with scene.opened(scene.url(), **options) as store:
        for one in store._database._pool._open:
            one.raw.add_query_logger(lambda query: caught.statement(query.query))
        yield store


@pytest.mark.parametrize("repository", REPOSITORIES)
async def test_what_is_refused_is_not_repeated(repository: str, scene: Scene, caught: Caught) -> None:
    tried = 0
    with everything(caught):
        for call in (call for call in CALLS if call.repository == repository):
            arguments = call.arguments(scene.ground)
            for name, value in arguments.items():
                for wrong in unfit(value, scene.marks):
                    try:
                        await call.run(scene.store, scene.tenant, arguments | {name: wrong})
                    except InvalidArgumentError as error:
                        caught.error(error, f"{call} {name}")
                        tried += 1
                    else:
                        pytest.fail(f"{call} takes {wrong!r:.80} as {name}")

    assert tried > 5
    assert not caught.leaks()


@pytest.mark.parametrize("name", FAILURES)
async def test_what_fails_tells_no_value(name: str, scene: Scene, caught: Caught) -> None:
    expected, provoke = FAILURES[name]
    with everything(caught), debugging(), pytest.raises(expected) as raised:
        await provoke(scene)
    caught.error(raised.value)

    assert type(raised.value) is expected
    assert not caught.leaks()


@pytest.mark.parametrize(
    ("statement", "refuses"),
    [
        ("select $1::integer", "driver"),
        ("select $1::bigint[]", "driver"),
        ("select $1::timestamptz", "driver"),
        ("select $1::uuid", "driver"),
        ("select $1::text::uuid", "server"),
        ("begin; set local app.actor = E'{}'; select 1/0", "server"),
        ("begin; set local app.actor = E'{}'; select nothing", "server"),
    ],
)
async def test_what_is_refused_past_all_checks_tells_no_value(
    statement: str, refuses: str, scene: Scene, caught: Caught
) -> None:
    raw = await asyncpg.connect(scene.database.app_url)
    with pytest.raises(asyncpg.PostgresError) as refused:
        if "$1" in statement:
            await raw.fetch(statement, scene.marks.text)
        else:
            await raw.execute(statement.format(scene.marks.text))
    raw.terminate()
    error = translate(refused.value, "users.update")
    error.__cause__ = refused.value
    caught.error(error)

    assert (refused.value.sqlstate == "22000") is (refuses == "driver")
    assert not caught.leaks()


async def test_a_row_that_the_driver_cannot_read_is_not_told(scene: Scene, caught: Caught) -> None:
    def decode(text: str) -> object:
        try:
            raise KeyError(text)
        except KeyError:
            raise ValueError(text)  # noqa: B904 - for the sake of its context

    raw = await asyncpg.connect(scene.database.app_url)
    await raw.set_type_codec("jsonb", schema="pg_catalog", encoder=str, decoder=decode)
    with pytest.raises(ValueError, match=scene.marks.word) as unread:
        await raw.fetch("select to_jsonb($1::text)", scene.marks.text)
    raw.terminate()
    error = translate(unread.value, "users.update")
    error.__cause__ = unread.value
    caught.error(error)

    assert "ValueError" in str(error)
    assert not caught.leaks()


def test_a_refused_login_tells_no_more_than_a_refused_statement(marks: Marks, caught: Caught) -> None:
    refused = asyncpg.PostgresError.new({"C": "P0001", "M": f"not {marks.text}", "D": marks.text, "W": marks.text})
    error = unreachable(refused, "db.example.org/thea")
    error.__cause__ = refused
    caught.error(error)

    assert not caught.leaks()


@pytest.mark.parametrize(
    "statement",
    [
        "alter table public.diary alter column entry type integer using entry::integer;",
        "create unique index on public.diary (entry);",
        "alter table public.diary add check (entry = '');",
        "do $$ begin perform entry::integer from public.diary; end $$;",
    ],
)
def test_a_migration_that_fails_tells_no_row(
    statement: str, unmigrated: str, scene: Scene, caught: Caught, tmp_path: Path
) -> None:
    tmp_path.joinpath("0001.diary.sql").write_text(
        f"create table public.diary (entry text);\ninsert into public.diary values ('{scene.marks.text}');\n"
        f"insert into public.diary values ('{scene.marks.text}');\n{statement}\n"
    )
    with everything(caught), pytest.raises(MigrationError, match="SQLSTATE 2") as raised:
        migrate(unmigrated, tmp_path)
    caught.error(raised.value)

    assert not caught.leaks()


@pytest.fixture(scope="module")
def unmigrated(thea_new_database: Callable[..., TestDatabase]) -> str:
    return thea_new_database(migrated=False).migrator_url


async def test_an_error_that_nobody_took_tells_no_value(scene: Scene, caught: Caught) -> None:
    with everything(caught):
        task = asyncio.ensure_future(FAILURES["a_duplicate_seen_by_a_superuser"][1](scene))
        await asyncio.wait([task])
        del task
        gc.collect()

    assert any("never retrieved" in text and "DuplicateError" in text for _, text in caught.said)
    assert not caught.leaks()


def test_an_error_survives_pickling_and_leaves_its_cause_behind(marks: Marks) -> None:
    for error in (InvalidArgumentError("a", "b"), MigrationRequiredError("a", ["b"]), UnreachableError("a", "b")):
        error.__cause__ = ValueError(marks.text)
        copied = pickle.loads(pickle.dumps(error))

        assert (type(copied), str(copied), vars(copied)) == (type(error), str(error), vars(error))
        assert marks.word.encode() not in pickle.dumps(error)


async def test_a_broken_row_is_named_by_its_number_alone(scene: Scene, caught: Caught) -> None:
    event = scene.ground.live["events"]
    scene.superuser.execute(
        "update thea.events set recurrence_rule = %s, series_end = 'infinity' where id = %s", [scene.marks.text, event]
    )
    try:
        with everything(caught):
            await scene.store.events.get_upcoming(scene.tenant, scene.ground.live["users"], now=calls.NOW)
    finally:
        scene.superuser.execute(
            "update thea.events set recurrence_rule = null, series_end = null where id = %s", [event]
        )
    (leak,) = caught.leaks()

    # The one line that names a row: nothing else would tell an operator which one to correct.
    assert f"event {event}: its recurrence rule or its timezone cannot be read" in leak
    assert not scene.marks.shown_in(leak.replace(str(event), ""))


# --- passwords ----------------------------------------------------------------------------------


@pytest.mark.slow
async def test_no_url_tells_its_password(scene: Scene, caught: Caught) -> None:
    opened = refused = 0
    with everything(caught):
        for url in urls(scene.marks.secret):
            try:
                settings = Settings(url=url)
            except SettingsError as error:
                caught.error(error, "settings")
                with pytest.raises(InvalidArgumentError) as raised:
                    migrate(url)
                caught.error(raised.value, "migrate")
                refused += 1
            else:
                opened += 1
                with pytest.raises(StoreUnavailableError) as unavailable:
                    await Store.open(settings)
                caught.error(unavailable.value, "open")
                with pytest.raises(StoreUnavailableError) as unavailable:
                    status(url)
                caught.error(unavailable.value, "status")

    assert min(opened, refused) > 20
    assert not caught.leaks()


@pytest.mark.slow
async def test_no_command_tells_a_value(scene: Scene, caught: Caught, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(scene.directory)
    statuses = Counter[int]()
    with guarded_login(scene) as url, everything(caught):
        for situation in situations(scene, url):
            for name, value in situation.items():
                monkeypatch.setenv(name, value)
            for arguments in commands(scene):
                result = await asyncio.to_thread(CliRunner().invoke, app, arguments)
                caught.add(" ".join(arguments), result.output)
                statuses[result.exit_code] += 1
                if result.exception is not None:
                    caught.error(result.exception, " ".join(arguments))

    assert not caught.leaks()
    assert min(statuses[0], statuses[1], statuses[2]) >= 5


def test_no_process_tells_a_value(scene: Scene, caught: Caught) -> None:
    command = [sys.executable, "-W", "always", "-m", "thea_store", *broken_import(scene)]
    environment = {"DATABASE_URL": scene.url(), "DATABASE_ECHO": "true", "PYTHONASYNCIODEBUG": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    caught.add("process", done.stdout + done.stderr)

    assert done.returncode == 1
    assert "thea-store: " in done.stderr
    assert not caught.leaks()


async def test_a_password_that_the_server_asks_for_is_not_told(scene: Scene, caught: Caught) -> None:
    with guarded_login(scene) as url, everything(caught), debugging():
        async with scene.opened(url) as store:
            await store.ping()
            caught.add("health", repr(await store.health()))
            scene.superuser.execute(f"alter role {DatabaseUrl.parse(url).user} nologin".encode())
            caught.add("health", repr(await store.health()))
            scene.superuser.execute(f"alter role {DatabaseUrl.parse(url).user} login".encode())
        wrong = replace(DatabaseUrl.parse(url), password=f"{scene.marks.password}!").render()
        with pytest.raises(StoreUnavailableError, match="refuses the password") as raised:
            await Store.open(wrong)
        caught.error(raised.value)
        with pytest.raises(StoreUnavailableError) as raised:
            migrate(wrong)
        caught.error(raised.value)

    assert not caught.leaks()


async def test_no_object_tells_a_value(scene: Scene, caught: Caught) -> None:
    settings = Settings(url=scene.url(), replica_url=scene.url(), migrator_url=scene.url())
    async with scene.opened(scene.url()) as store, store.transaction(scene.tenant, actor=scene.marks.text) as tx:
        await tx.users.get_by_id(scene.tenant, scene.ground.live["users"])
        database = store._database
        caught.object([settings, settings.address(), Store.open(scene.url()), scene.database])
        caught.object([store, store.users, tx, tx._transaction, database, database._pool, database._connector])
        caught.object([SQL_FILES, [query for file in SQL_FILES for query in file.claimed]])
        caught.object([database.figures(), await store.health(), await asyncio.to_thread(examine, settings)])

    assert not caught.leaks()


# --- the net itself, and what it is known to let through ----------------------------------------


@pytest.mark.parametrize("slip", SLIPS)
def test_the_net_catches(slip: str, caught: Caught) -> None:
    with everything(caught):
        pass

    assert not caught.leaks()

    with everything(caught):
        SLIPS[slip](caught)

    assert caught.leaks()


@pytest.mark.parametrize(
    "name",
    [
        "a_duplicate_seen_by_a_superuser",
        "a_check",
        "a_value_that_cannot_be_cast",
        "a_trigger_that_tells",
        "a_connection_that_is_ended_while_it_writes",
    ],
)
async def test_a_driver_left_alone_would_tell(
    name: str, scene: Scene, caught: Caught, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "_silence", lambda _: None)
    expected, provoke = FAILURES[name]
    with pytest.raises(expected) as told:
        await provoke(scene)
    caught.error(told.value)

    assert caught.leaks()


def test_psycopg_left_alone_would_tell_the_password(
    scene: Scene, caught: Caught, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(operator, "forget_login", lambda _: None)
    with guarded_login(scene) as url, pytest.raises(UnreachableError, match="refuses the password") as told:
        operator.connect(replace(DatabaseUrl.parse(url), password=f"{scene.marks.password}!"))
    caught.error(told.value)

    assert caught.leaks()


async def test_what_still_shows_a_value(scene: Scene) -> None:
    """None of this is the library's word; who logs it, logs values."""
    with pytest.raises(DuplicateError) as failed:
        await FAILURES["a_duplicate"][1](scene)
    with pytest.raises(InvalidArgumentError) as misnamed:
        await Call("users", "update").run(scene.store, scene.tenant, {"id": 1, scene.marks.word: 1})
    with_variables = traceback.TracebackException.from_exception(failed.value, capture_locals=True)
    shown = {
        "a record": repr(await scene.store.users.get_by_id(scene.tenant, scene.ground.live["users"])),
        "settings, written out": str(Settings(url=scene.url()).model_dump()),
        "a traceback with the variables of its frames": "".join(with_variables.format()),
        "the name of an argument that no call has": str(misnamed.value),
    }

    assert not [where for where, text in shown.items() if not scene.marks.shown_in(text)]
