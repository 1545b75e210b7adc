"""The migration runner, on small migrations of its own and a throwaway server."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlparse
from psycopg.conninfo import conninfo_to_dict

from thea_store.errors import InvalidArgumentError, MigrationError, OutcomeUnknownError, StoreUnavailableError
from thea_store.migrator import Migration, available, blockers, listed, migrate, rollback, status
from thea_store.migrator.splitting import split
from thea_store.postgres.url import DatabaseUrl
from thea_store.testing import TestDatabase

ROOT = Path(__file__).parents[2]
FILE = Path("0001.a.sql")
LOCK = "select pg_advisory_lock(1952998753, 1)"


@pytest.fixture
def database_url(thea_new_database: Callable[..., TestDatabase]) -> str:
    """A fresh, empty database that belongs to a login which is no superuser, but may create roles."""
    return thea_new_database(migrated=False).migrator_url


# --- small migrations ----------------------------------------------------------------------------

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write migrations (`0001.a` → SQL) and return their directory."""
    directory = tmp_path / "migrations"
    directory.mkdir()

    def write_files(**files: str) -> Path:
        for name, sql in files.items():
            stem, _, back = name.removeprefix("m").partition("_")
            number, letter = stem[:4], stem[4:]
            (directory / f"{number}.{letter}{'.rollback' if back else ''}.sql").write_text(sql)
        return directory

    return write_files


@pytest.fixture
def three(write: Write) -> Path:
    """Three migrations that each make a table, and their way back."""
    return write(
        m0001a="create table a (x int);",
        m0001a_back="drop table a;",
        m0002b="create table b (x int);\ncreate table b2 (x int);",
        m0002b_back="drop table b2;\ndrop table b;",
        m0003c="create table c (x int);",
        m0003c_back="drop table c;",
    )


ALL = ["0001.a", "0002.b", "0003.c"]


def tables(url: str) -> set[str]:
    """The tables that are not yoyo's."""
    query = "select tablename from pg_tables where schemaname = 'public' and tablename not like '%%yoyo%%'"
    with psycopg.connect(url) as connection:
        return {name for (name,) in connection.execute(query, ())}


def marks(url: str) -> list[str]:
    """What yoyo's table says is applied."""
    with psycopg.connect(url) as connection:
        return [id_ for (id_,) in connection.execute("select migration_id from public._yoyo_migration order by 1")]


def yoyo(url: str, *arguments: str) -> str:
    """What the plain yoyo command prints, with the shipped yoyo.ini and libpq's environment."""
    parts = conninfo_to_dict(url)
    names = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE"}
    place = {variable: str(parts[name]) for name, variable in names.items() if name in parts}
    command = [sys.executable, "-m", "yoyo", *arguments]
    done = subprocess.run(command, env={**os.environ, **place}, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    return done.stdout


def until(url: str, query: str) -> None:
    """Wait until the query finds something."""
    deadline = time.monotonic() + 10
    with psycopg.connect(url, autocommit=True) as connection:
        while connection.execute(query.encode()).fetchone() is None:
            assert time.monotonic() < deadline, query
            time.sleep(0.02)


# --- up ------------------------------------------------------------------------------------------


def test_pending_migrations_are_applied_in_order(database_url: str, three: Path) -> None:
    seen: list[str] = []

    assert migrate(database_url, three, on_progress=lambda id_, _: seen.append(id_)) == ALL
    assert seen == ALL == marks(database_url)
    assert tables(database_url) == {"a", "b", "b2", "c"}
    assert status(database_url, three).applied == tuple(ALL)


def test_a_second_run_has_nothing_to_do(database_url: str, three: Path) -> None:
    migrate(database_url, three)

    assert migrate(database_url, three) == []
    assert migrate(database_url, three, dry_run=True) == []


def test_a_new_file_alone_is_pending(database_url: str, three: Path, write: Write) -> None:
    migrate(database_url, three)
    write(m0004d="create table d (x int)")

    assert status(database_url, three).pending == ("0004.d",)
    assert migrate(database_url, three) == ["0004.d"]


def test_status_and_dry_runs_change_nothing(database_url: str, three: Path) -> None:
    assert status(database_url, three).pending == tuple(ALL)
    assert migrate(database_url, three, dry_run=True) == ALL
    assert rollback(database_url, three, dry_run=True) == []
    with psycopg.connect(database_url) as connection:
        assert connection.execute("select 1 from pg_tables where schemaname = 'public'").fetchone() is None


def test_the_urls_of_asyncpg_and_of_several_hosts_serve(database_url: str, three: Path) -> None:
    asyncpg_url = database_url.replace("postgresql://", "postgresql+asyncpg://")
    directory = conninfo_to_dict(database_url)["host"]

    assert migrate(asyncpg_url, three) == ALL
    assert migrate(database_url.replace(f"={directory}", f"=/nowhere,{directory}"), three) == []


def test_bodies_with_semicolons_reach_the_server_whole(database_url: str, write: Write) -> None:
    directory = write(
        m0001a="""
            -- Why: bodies; of every kind.
            /* one /* two; */ ; */
            create function one() returns int begin atomic
                select case when true then 1 end; select case 1 when 1 then 2 end;
            end;
            create function two() returns int language plpgsql as $body$
            begin execute $$select 1;$$; return 2; end $body$;
            do $$ begin create table a ("x;y" text default 'it''s;'); end $$;
            create rule r as on delete to a do also (insert into a values (E'\\';'); select 1);
            -- the end
        """
    )

    assert migrate(database_url, directory) == ["0001.a"]
    with psycopg.connect(database_url) as connection:
        assert connection.execute("select one(), two()").fetchone() == (2, 2)


# --- what is refused -----------------------------------------------------------------------------


def test_an_edited_migration_is_refused_until_it_is_restored(database_url: str, three: Path, write: Write) -> None:
    migrate(database_url, three)
    write(m0002b="create table b (x bigint);", m0004d="create table d (x int)")

    with pytest.raises(MigrationError, match=r"0002\.b was edited .*0002\.b\.sql"):
        migrate(database_url, three)
    assert "0002.b was edited" in status(database_url, three).problems[0]
    assert "d" not in tables(database_url)


def test_line_ends_of_windows_are_no_edit(database_url: str, three: Path) -> None:
    migrate(database_url, three)
    file = three / "0002.b.sql"
    file.write_bytes(file.read_bytes().replace(b"\n", b"\r\n"))

    assert migrate(database_url, three) == []


def test_an_edit_can_be_accepted_with_yoyos_own_commands(database_url: str, three: Path, write: Write) -> None:
    migrate(database_url, three)
    write(m0002b="-- a comment\ncreate table b (x int);\ncreate table b2 (x int);")

    yoyo(database_url, "unmark", "-r", "0002.b", str(three))
    yoyo(database_url, "mark", "-r", "0002.b", str(three))
    assert migrate(database_url, three) == []


def test_a_removed_migration_is_refused(database_url: str, three: Path) -> None:
    migrate(database_url, three)
    (three / "0002.b.sql").unlink()
    (three / "0002.b.rollback.sql").unlink()

    with pytest.raises(MigrationError, match=r"0002\.b is applied, but its file is gone"):
        migrate(database_url, three)


def test_a_database_of_a_newer_version_is_refused(database_url: str, three: Path) -> None:
    migrate(database_url, three)
    (three / "0003.c.sql").unlink()
    (three / "0003.c.rollback.sql").unlink()

    with pytest.raises(MigrationError, match=r"0003\.c is applied, but newer .*update thea_store"):
        migrate(database_url, three)
    with pytest.raises(MigrationError, match=r"0003\.c"):
        rollback(database_url, three)


def test_a_late_migration_is_refused(database_url: str, three: Path, tmp_path: Path) -> None:
    late = (three / "0002.b.sql").rename(tmp_path / "0002.b.sql")
    back = (three / "0002.b.rollback.sql").rename(tmp_path / "0002.b.rollback.sql")
    migrate(database_url, three)
    late.rename(three / late.name)
    back.rename(three / back.name)

    with pytest.raises(MigrationError, match=r"0002\.b is not applied, though the later 0003\.c is"):
        migrate(database_url, three)
    assert status(database_url, three).pending == ("0002.b",)


def test_another_projects_migrations_in_yoyos_tables_are_left_alone(database_url: str, three: Path) -> None:
    migrate(database_url, three)
    with psycopg.connect(database_url) as connection:
        connection.execute("insert into _yoyo_migration values ('x', '20240101_01_abcde-other', now())")

    assert migrate(database_url, three) == []
    assert status(database_url, three).applied == tuple(ALL)


def test_everything_that_does_not_fit_is_named_at_once_and_nothing_is_done(database_url: str, write: Write) -> None:
    directory = write(**{f"m000{n}a": f"create table a{n} (x int)" for n in (1, 3, 4, 6)})
    migrate(database_url, directory)
    write(m0001a="create table a1 (x bigint)", m0002a="create table a2 (x int)", m0005a="create table a5 (x int)")
    (directory / "0003.a.sql").rename(directory / "0003.b.sql")
    (directory / "0006.a.sql").unlink()
    before = tables(database_url), marks(database_url)

    with pytest.raises(MigrationError) as caught:
        migrate(database_url, directory)
    assert [line.split(":")[0].strip() for line in str(caught.value).splitlines()] == [
        "the migrations do not fit this database; nothing was changed",
        "0001.a was edited after it was applied",
        "0002.a is not applied, though the later 0006.a is",
        "0003.a is applied, but its file is gone",
        "0003.b is not applied, though the later 0006.a is",
        "0005.a is not applied, though the later 0006.a is",
        "0006.a is applied, but newer than this version, which ends at 0005.a",
    ]
    assert (tables(database_url), marks(database_url)) == before


@pytest.mark.parametrize("migration", available(), ids=lambda each: each.id)
def test_each_shipped_migration_is_missed_and_known_by_its_text(
    thea_database: TestDatabase, tmp_path: Path, migration: Migration
) -> None:
    directory = shutil.copytree(migration.path.parent, tmp_path / "migrations")
    file = directory / migration.path.name
    file.write_text(file.read_text() + "-- one word more\n")
    with pytest.raises(MigrationError, match=rf"{migration.id} was edited after it was applied: restore {file}"):
        migrate(thea_database.migrator_url, directory)

    file.unlink()
    (directory / migration.rollback_path.name).unlink()
    for other in directory.iterdir():  # which names the one before itself
        other.write_text(other.read_text().replace(f"-- depends: {migration.id}\n", ""))
    with pytest.raises(MigrationError, match=rf"\n  {migration.id} is applied, but "):
        migrate(thea_database.migrator_url, directory)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("0001.a.sql", b"\xef\xbb\xbfselect 1", r"a\.sql:1: begins with a byte order mark"),
        ("0001.a.sql", b"select '\xff'", r"a\.sql: is not UTF-8"),
        ("0001.a.sql", b"select 1;\n\ncommit;", r"a\.sql:3: `commit` would end"),
        ("0001.a.sql", b"-- why\nBEGIN;\nselect 1;", r"a\.sql:2: `begin` would end"),
        ("0001.a.sql", b"select 1;\nstart transaction;", r"a\.sql:2: `start transaction` would end"),
        ("0001.a.sql", b"prepare transaction 'x'", r"a\.sql:1: `prepare transaction`"),
        ("0001.a.sql", b"-- why\n-- transactional: false\nselect 1", r"a\.sql:2: .*outside a transaction"),
        ("0001.a.sql", b"-- depends: 0002.b\nselect 1", r"a\.sql:1: depends on 0002\.b"),
        ("0001.a.sql", b"-- nothing\n;", r"a\.sql: holds no statement"),
        ("0001.a.sql", b"select 1;\nselect 'x", r"a\.sql:2: the string"),
        ("0001.a.sql", b"select 1;\ndo $x$ begin", r"a\.sql:2: the string"),
        ("0001.a.sql", b"/* /* */\n", r"a\.sql:1: this comment"),
        ("0001.a.rollback.sql", b"rollback", r"a\.rollback\.sql:1: `rollback`"),
        ("0002.x.rollback.sql", b"select 1", r"0002\.x\.rollback\.sql: belongs to no migration"),
        ("0001.b.sql", b"select 1", r"0001\.b\.sql: has the same number as 0001\.a\.sql"),
        ("two.sql", b"select 1", r"two\.sql: is not named like a migration"),
        ("0000.x.sql", b"select 1", r"0000\.x\.sql: is not named like a migration"),
        ("__init__.py", b"", r"__init__\.py: is not named like a migration"),
    ],
)
def test_a_file_that_cannot_be_applied_as_a_whole_is_refused(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / "0001.a.sql").write_bytes(b"select 1")
    (tmp_path / name).write_bytes(content)

    with pytest.raises(MigrationError, match=message):
        available(tmp_path)


def test_files_are_listed_without_being_taken_apart(tmp_path: Path) -> None:
    # Else every opening of a store would take apart all that it never applies.
    (tmp_path / "0001.a.sql").write_text("select 'x")

    assert [migration.id for migration in listed(tmp_path)] == ["0001.a"]


def test_a_missing_and_an_empty_directory_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MigrationError, match="holds no migrations"):
        available(tmp_path)
    with pytest.raises(MigrationError, match="no such directory"):
        available(tmp_path / "nowhere")


# --- failures ------------------------------------------------------------------------------------


def test_a_failing_migration_leaves_nothing_of_itself_and_is_named(database_url: str, write: Write) -> None:
    directory = write(
        m0001a="create table a (x int);",
        m0002b="create table b (x int);\n\ncreate table b2 (\n    x int,\n    y nonsense\n);",
    )

    with pytest.raises(MigrationError, match=r"0002\.b \(.*0002\.b\.sql:5\): .*nonsense.*\(SQLSTATE 42704\)"):
        migrate(database_url, directory)
    assert tables(database_url) == {"a"}
    assert marks(database_url) == ["0001.a"]

    write(m0002b="create table b (x int);")
    assert migrate(database_url, directory) == ["0002.b"]


def test_a_failure_at_the_commit_leaves_nothing(database_url: str, write: Write) -> None:
    directory = write(
        m0001a="""
            create table a (x int primary key, y int references a deferrable initially deferred);
            insert into a values (1, 4711);
        """
    )

    with pytest.raises(MigrationError, match=r"0001\.a .*SQLSTATE 23503") as caught:
        migrate(database_url, directory)
    assert "4711" not in str(caught.value)
    assert (tables(database_url), marks(database_url)) == (set(), [])


def test_copy_from_a_client_is_an_error_like_any_other(database_url: str, write: Write) -> None:
    directory = write(m0001a="create table a (x int);\ncopy a from stdin;")

    with pytest.raises(MigrationError, match=r"0001\.a\.sql:2"):
        migrate(database_url, directory)
    assert tables(database_url) == set()


def test_after_kill_9_in_a_migration_the_next_run_succeeds(database_url: str, write: Write) -> None:
    directory = write(
        m0001a="create table a (x int);",
        m0002b="""
            create table b (x int);
            select pg_sleep(60) where to_regclass('go_on') is null;
            create table b2 (x int);
        """,
    )
    program = "import sys, pathlib, thea_store.migrator as m; m.migrate(sys.argv[1], pathlib.Path(sys.argv[2]))"
    child = subprocess.Popen([sys.executable, "-c", program, database_url, str(directory)], cwd=ROOT)
    until(database_url, "select 1 from pg_stat_activity where state = 'active' and query like 'select pg_sleep(60)%'")
    child.send_signal(signal.SIGKILL)
    child.wait()
    with psycopg.connect(database_url) as connection:
        connection.execute("create table go_on (x int)")

    assert marks(database_url) == ["0001.a"]
    assert migrate(database_url, directory, wait=10) == ["0002.b"]
    assert tables(database_url) == {"a", "b", "b2", "go_on"}


def test_a_connection_that_breaks_is_told_apart(database_url: str, write: Write) -> None:
    directory = write(m0001a="create table a (x int);\nselect pg_terminate_backend(pg_backend_pid());")

    with pytest.raises(StoreUnavailableError, match=r"0001\.a .*0001\.a\.sql:2.*run again"):
        migrate(database_url, directory)
    assert tables(database_url) == set()


def test_a_connection_that_breaks_at_the_commit_leaves_the_outcome_open(database_url: str, write: Write) -> None:
    directory = write(
        m0001a="""
            create table a (x int);
            create function stop() returns trigger language plpgsql as
                'begin perform pg_terminate_backend(pg_backend_pid()); return null; end';
            create constraint trigger at_commit after insert on a
                deferrable initially deferred for each row execute function stop();
            insert into a values (1);
        """
    )

    with pytest.raises(OutcomeUnknownError, match=r"0001\.a .*run again"):
        migrate(database_url, directory)


def test_waiting_for_a_lock_ends_and_says_to_run_again(database_url: str, write: Write) -> None:
    directory = write(m0001a="create table a (x int);")
    migrate(database_url, directory)
    write(m0002b="create table b (x int);\nalter table a add y int;")

    with psycopg.connect(database_url) as reader:
        reader.execute("select x from a")
        began = time.monotonic()
        with pytest.raises(MigrationError, match=r"0002\.b \(.*0002\.b\.sql:2\).*55P03.*run again"):
            migrate(database_url, directory, lock_timeout=0.1)
        assert time.monotonic() - began < 2.5
    assert tables(database_url) == {"a"}
    assert migrate(database_url, directory) == ["0002.b"]


def test_who_holds_a_table_is_named_by_a_migration_that_waited_in_vain(
    thea_new_database: Callable[..., TestDatabase], write: Write
) -> None:
    database = thea_new_database(migrated=False)
    directory = write(m0001a="create table a (x int);\ngrant select on a to thea_app;\ncreate table b (x int);")
    migrate(database.migrator_url, directory)
    write(m0002b="alter table a add y int;")

    with (
        psycopg.connect(database.app_url, application_name="support") as holder,
        psycopg.connect(database.superuser_url, application_name="reports") as bystander,
    ):
        pid = holder.info.backend_pid
        holder.execute("select x from a")
        bystander.execute("select x from b")
        with pytest.raises(MigrationError) as caught:
            migrate(database.migrator_url, directory, lock_timeout=2)
    login = conninfo_to_dict(database.app_url)["user"]

    assert str(caught.value).endswith(f". It waited for server process {pid} (support, login {login}), which holds a.")
    assert migrate(database.migrator_url, directory) == ["0002.b"]


def test_a_table_that_is_given_free_in_time_is_waited_for(database_url: str, write: Write) -> None:
    directory = write(m0001a="create table a (x int);")
    migrate(database_url, directory)
    write(m0002b="alter table a add y int;")

    with psycopg.connect(database_url) as reader, ThreadPoolExecutor(1) as pool:
        reader.execute("select x from a")
        waiting = pool.submit(migrate, database_url, directory, lock_timeout=60)
        until(database_url, "select 1 from pg_locks where relation = 'a'::regclass and not granted")
        assert not waiting.done()
        reader.rollback()
        assert waiting.result() == ["0002.b"]


@pytest.mark.parametrize(
    ("blocker", "phrase"),
    [
        (
            (7, "ana", "psql", "12:00", "a"),
            "server process 7 (psql, login ana, in a transaction since 12:00), which holds a",
        ),
        ((7, "ana", "", None, None), "server process 7 (without an application name, login ana)"),
        ((0, None, None, None, "a"), "a prepared transaction (pg_prepared_xacts), which holds a"),
    ],
)
def test_a_blocker_is_told_by_what_is_known_of_it(blocker: tuple[Any, ...], phrase: str) -> None:
    assert blockers._phrase(*blocker) == phrase


def test_a_backfill_that_row_security_would_narrow_fails(database_url: str, write: Write) -> None:
    directory = write(
        m0001a="create table a (x int); alter table a enable row level security, force row level security;",
        m0002b="update a set x = 1;",
    )

    with pytest.raises(MigrationError, match=r"0002\.b .*row-level security.*42501"):
        migrate(database_url, directory)


def test_what_a_file_sets_ends_with_it(database_url: str, write: Write) -> None:
    directory = write(
        m0001a="create schema s; set search_path = s; set default_transaction_read_only = on;",
        m0002b="create table b (x int);",
    )

    assert migrate(database_url, directory) == ["0001.a", "0002.b"]
    assert tables(database_url) == {"b"}


def test_the_databases_own_settings_do_not_count(database_url: str, write: Write) -> None:
    name = conninfo_to_dict(database_url)["dbname"]
    with psycopg.connect(database_url) as connection:
        for setting in ("search_path = nowhere", "statement_timeout = '20ms'"):
            connection.execute(f"alter database {name} set {setting}".encode())
    directory = write(m0001a="create table a (x int); select pg_sleep(0.1);")

    assert migrate(database_url, directory) == ["0001.a"]
    assert tables(database_url) == {"a"}


def test_a_migration_that_cannot_be_marked_is_not_applied(database_url: str, write: Write) -> None:
    directory = write(m0001a="create table a (x int); alter table _yoyo_migration rename to gone;")

    with pytest.raises(MigrationError, match=r"0001\.a .*42P01"):
        migrate(database_url, directory)
    assert (tables(database_url), marks(database_url)) == (set(), [])


def test_a_login_without_privileges_is_told_what_it_needs(database_url: str, three: Path) -> None:
    role = f"stranger_{time.monotonic_ns()}"
    address = DatabaseUrl.parse(database_url)
    with psycopg.connect(database_url) as connection:
        connection.execute(f"create role {role} login password '{address.password}'".encode())
    login = replace(address, user=role).render()

    with pytest.raises(MigrationError, match=r"42501.*must own the database"):
        migrate(login, three)


def test_passwords_are_in_no_error(three: Path) -> None:
    for url in ("postgresql://u:hush@127.0.0.1:1/d", "postgresql://u:hush@h:x/d", "postgresql://u:hush@h/d?bad=1"):
        with pytest.raises((StoreUnavailableError, InvalidArgumentError)) as caught:
            migrate(url, three)
        assert "hush" not in f"{caught.value} {caught.value.__cause__} {caught.value.__context__}"


# --- several at once -----------------------------------------------------------------------------


def test_four_migrators_at_once_apply_each_migration_once(database_url: str, write: Write) -> None:
    directory = write(
        m0001a="create table a (x int); select pg_sleep(0.2);",
        m0002b="create table b (x int); insert into a values (1);",
        m0003c="create table c (x int); insert into a values (2);",
    )

    with ThreadPoolExecutor(4) as pool:
        done = list(pool.map(lambda _: migrate(database_url, directory), range(4)))

    assert sorted(id_ for each in done for id_ in each) == ALL
    with psycopg.connect(database_url) as connection:
        assert connection.execute("select array_agg(x order by x) from a").fetchone() == ([1, 2],)


@pytest.mark.slow
def test_four_processes_at_once_bring_a_database_to_the_shipped_schema(database_url: str) -> None:
    command = [sys.executable, "-m", "thea_store", "migrate", "--json"]
    environment = {**os.environ, "DATABASE_MIGRATOR_URL": database_url}
    processes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(4)
    ]
    answers = [process.communicate(timeout=80) for process in processes]
    shipped = [migration.id for migration in available()]

    assert [process.returncode for process in processes] == [0] * 4, answers
    assert sorted(id_ for output, _ in answers for id_ in json.loads(output)["migrations"]) == shipped
    with psycopg.connect(database_url) as connection:
        log = connection.execute("select migration_id, operation from _yoyo_log order by created_at_utc").fetchall()
    assert log == [(id_, "apply") for id_ in shipped]


def test_a_migrator_that_waits_too_long_names_the_holder(database_url: str, three: Path) -> None:
    with psycopg.connect(database_url, application_name="release 42", autocommit=True) as holder:
        holder.execute(LOCK)

        with pytest.raises(MigrationError, match=rf"server process {holder.info.backend_pid} \(release 42\).*since 20"):
            migrate(database_url, three, wait=0.2)
        assert migrate(database_url, three, dry_run=True) == ALL
    assert migrate(database_url, three) == ALL


def test_a_transaction_without_the_lock_does_nothing(database_url: str, write: Write) -> None:
    directory = write(m0001a="select pg_advisory_unlock(1952998753, 1);", m0002b="create table b (x int);")

    with psycopg.connect(database_url, autocommit=True) as other:

        def take_the_lock(_id: str, _seconds: float) -> None:
            other.execute(LOCK)

        with pytest.raises(MigrationError, match="pooler"):
            migrate(database_url, directory, on_progress=take_the_lock)
    assert tables(database_url) == set()


# --- down ----------------------------------------------------------------------------------------


def test_down_and_up_again(database_url: str, three: Path) -> None:
    migrate(database_url, three)

    assert rollback(database_url, three) == ["0003.c"]
    assert rollback(database_url, three, to="0000", dry_run=True) == ["0002.b", "0001.a"]
    assert rollback(database_url, three, to="0001") == ["0002.b"]
    assert tables(database_url) == {"a"}
    assert migrate(database_url, three) == ["0002.b", "0003.c"]
    assert rollback(database_url, three, to="0000") == ["0003.c", "0002.b", "0001.a"]
    assert rollback(database_url, three) == []
    assert (tables(database_url), marks(database_url)) == (set(), [])
    assert migrate(database_url, three) == ALL


def test_a_rollback_that_fails_leaves_its_migration_applied(database_url: str, three: Path, write: Write) -> None:
    migrate(database_url, three)
    write(m0002b_back="drop table b2;\ndrop table nowhere;")

    with pytest.raises(MigrationError, match=r"0002\.b .*0002\.b\.rollback\.sql:2.*nowhere"):
        rollback(database_url, three, to="0001.a")
    assert marks(database_url) == ALL
    with pytest.raises(MigrationError, match=r"0002\.b .*0002\.b\.rollback\.sql:2.*nowhere"):
        rollback(database_url, three, to="0001.a", discard_rows=True)  # tries nothing beforehand
    assert marks(database_url) == ["0001.a", "0002.b"]
    assert tables(database_url) == {"a", "b", "b2"}


def test_a_migration_without_a_way_back_stops_a_rollback_before_it_begins(database_url: str, three: Path) -> None:
    migrate(database_url, three)
    (three / "0002.b.rollback.sql").unlink()

    with pytest.raises(MigrationError, match=r"0002\.b has no way back: write .*0002\.b\.rollback\.sql"):
        rollback(database_url, three, to="0001")
    assert marks(database_url) == ALL


def test_a_rollback_to_what_is_not_applied_is_refused(database_url: str, three: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="to: '0007' is no applied migration"):
        rollback(database_url, three, to="0007")


# --- beside plain yoyo ---------------------------------------------------------------------------


def test_what_plain_yoyo_applied_is_accepted(database_url: str, three: Path, write: Write) -> None:
    yoyo(database_url, "apply", str(three))
    write(m0004d="create table d (x int)", m0004d_back="drop table d")

    assert migrate(database_url, three) == ["0004.d"]
    assert rollback(database_url, three, to="0002.b") == ["0004.d", "0003.c"]
    assert tables(database_url) == {"a", "b", "b2"}


def test_plain_yoyo_goes_on_where_we_stopped(database_url: str, three: Path) -> None:
    migrate(database_url, three)

    assert [line.split()[0] for line in yoyo(database_url, "list", str(three)).splitlines()[2:]] == ["A", "A", "A"]
    yoyo(database_url, "rollback", "-r", "0003.c", str(three))
    assert tables(database_url) == {"a", "b", "b2"}
    yoyo(database_url, "apply", str(three))
    assert status(database_url, three).applied == tuple(ALL)


def test_a_lock_that_a_killed_yoyo_left_is_removed(database_url: str, three: Path) -> None:
    migrate(database_url, three)
    rollback(database_url, three)
    with psycopg.connect(database_url) as connection:
        connection.execute("insert into yoyo_lock values (1, now(), 4711)")

    assert migrate(database_url, three) == ["0003.c"]
    assert "0003.c" in yoyo(database_url, "list", str(three))


def test_a_plain_yoyo_at_work_is_waited_for(database_url: str, three: Path) -> None:
    migrate(database_url, three)
    rollback(database_url, three)

    with psycopg.connect(database_url, autocommit=True) as running:
        running.execute("insert into yoyo_lock values (1, now(), 4711)")
        with pytest.raises(MigrationError, match="yoyo break-lock"):
            migrate(database_url, three, wait=0.2)
        with ThreadPoolExecutor(1) as pool:
            waiting = pool.submit(migrate, database_url, three)
            time.sleep(0.3)
            running.execute("delete from yoyo_lock")
            assert waiting.result() == ["0003.c"]


def test_plain_yoyo_would_split_the_shipped_files_as_we_do() -> None:
    for migration in available():
        for path, ours in ((migration.path, migration.statements), (migration.rollback_path, migration.rollback)):
            text = path.read_text() if path.exists() else ""
            theirs = [[each.sql for each in split(path, piece)] for piece in sqlparse.split(text)]

            assert [piece for piece in theirs if piece] == [[each.sql] for each in ours or ()], path


# --- splitting -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "statements"),
    [
        ("select 1; select 2", ["select 1", "select 2"]),
        (";; select 1;;", ["select 1"]),
        ("-- a; b\nselect 1 -- c;\n;", ["select 1"]),
        ("/* a; /* b; */ c; */ select 1", ["select 1"]),
        ("select 'a;''b'; select \"c;\"", ["select 'a;''b'", 'select "c;"']),
        (r"select E'\';'; select 'a\'; select 2", [r"select E'\';'", r"select 'a\'", "select 2"]),
        ("do $$ a; $$; do $x$ $$;$$ $x$", ["do $$ a; $$", "do $x$ $$;$$ $x$"]),
        ("select a$b$c; select 1", ["select a$b$c", "select 1"]),
        (
            "create rule r as on delete to t do (a; b); select 1",
            ["create rule r as on delete to t do (a; b)", "select 1"],
        ),
        (
            "CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE 1 WHEN 1 THEN 2 END; END; select 1",
            [
                "CREATE OR REPLACE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE 1 WHEN 1 THEN 2 END; END",
                "select 1",
            ],
        ),
        ("create function f(int) returns int return $1 + 1; select 1", None),
        ("create function f(int) returns int begin atomic select $1; select $2; end; select 1", None),
        ("prepare p (int) as select $1; execute p (1)", None),
        ('create table t (begin int, "end" int); select 1', ['create table t (begin int, "end" int)', "select 1"]),
    ],
)
def test_statements_end_where_the_servers_lexer_says(text: str, statements: list[str] | None) -> None:
    expected = list(text.rsplit("; ", 1)) if statements is None else statements

    assert [statement.sql for statement in split(FILE, text)] == expected


def test_a_migration_may_number_the_arguments_of_functions_and_of_what_it_prepares(
    database_url: str, three: Path, write: Write
) -> None:
    body = """
    create function one_more(int) returns int language sql immutable return $1 + 1;
    create function two_more(int) returns int begin atomic select one_more($1) + 1; end;
    create function three_more(int) returns int language sql as 'select two_more($1) + 1';
    prepare told (int) as insert into a values ($1);
    execute told (three_more(4));
    deallocate told;
    """
    write(m0004d=body)
    migrate(database_url, three)

    with psycopg.connect(database_url) as connection:
        assert connection.execute("select max(x) from a").fetchone() == (7,)


def test_each_statement_knows_its_line() -> None:
    assert [statement.line for statement in split(FILE, "-- why\n\nselect 1;\nselect\n2; select 3")] == [3, 4, 5]


def test_an_open_body_is_named_by_its_first_line() -> None:
    with pytest.raises(MigrationError, match=r"a\.sql:2: the `begin atomic` of this statement has no `end`"):
        list(split(FILE, "select 1;\ncreate procedure p()\nbegin atomic select 1;"))
