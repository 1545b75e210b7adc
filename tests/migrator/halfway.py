"""Databases that have the first so many migrations, and what tells one of them from the next."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg

from tests.migrations.test_schema import SNAPSHOT
from thea_store.migrator import available, migrate
from thea_store.migrator.statements import APPLICATION_NAME
from thea_store.testing import TestDatabase, TestServer
from thea_store.testing.leftovers import new_name

State = dict[str, Any]
"""The schema, what else migrations change, and the history; no times, no names of users."""

# What migrations change outside of the schema `thea`. Of yoyo's tables the privileges alone count, since they
# are made before the first migration.
_ELSEWHERE = """
    select 'database', datacl::text from pg_database where datname = current_database()
    union all select 'extension ' || extname, extnamespace::regnamespace::text from pg_extension
    union all select 'table ' || relname, relacl::text from pg_class
      where relnamespace = 'public'::regnamespace and relkind = 'r' and relacl is not null
    order by 1"""
_HISTORY = {
    "_yoyo_migration": "select migration_hash, migration_id from public._yoyo_migration order by migration_id",
    "_yoyo_log": "select migration_id, operation, comment from public._yoyo_log order by created_at_utc",
}
_LEFT = f"""
    select 'the session of a migrator' from pg_stat_activity
      where datname = current_database() and application_name = '{APPLICATION_NAME}'
    union all select concat_ws(' ', 'a lock:', locktype, mode, relation::regclass) from pg_locks
      where database = (select oid from pg_database where datname = current_database()) and pid <> pg_backend_pid()
    union all select 'a prepared transaction' from pg_prepared_xacts where database = current_database()"""


@dataclass(frozen=True)
class Stage:
    """A database on the way, made by runs that nothing disturbed."""

    name: str
    state: State


@contextmanager
def stages(server: TestServer, directory: Path) -> Iterator[list[Stage]]:
    """The database before the first migration, after it, after the second …; `directory` is to work in."""
    with ExitStack() as resources:
        database = server.new_database(resources, migrated=False)
        made = [Stage(database.name, state(database))]
        for migration in available():
            shutil.copy(migration.path, directory)
            database = resources.enter_context(clone(server, database.name))
            migrate(database.migrator_url, directory)
            made.append(Stage(database.name, state(database)))
        yield made


@contextmanager
def clone(server: TestServer, template: str) -> Iterator[TestDatabase]:
    """A copy of a database, for as long as the block."""
    name = new_name()
    with server._connected() as connection:
        server._create(connection, name, template)
    try:
        yield server.database(name)
    finally:
        server._drop(name)


def state(database: TestDatabase) -> State:
    with psycopg.connect(database.superuser_url) as connection:
        found: State = {"elsewhere": connection.execute(_ELSEWHERE).fetchall()}
        for part, query in SNAPSHOT.items():
            found[part] = sorted(connection.execute(query.encode()).fetchall(), key=repr)
        for table, query in _HISTORY.items():
            found[table] = connection.execute(query.encode()).fetchall() if _exists(connection, table) else []
    return found


def differing(found: State, wanted: State) -> set[str]:
    """The parts of two states that are not the same."""
    return {name for name in wanted if found[name] != wanted[name]}


def leftovers(database: TestDatabase, patience: float = 20.0) -> list[str]:
    """What is left of a migrator, once the server has had so many seconds to notice its end."""
    deadline = time.monotonic() + patience
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        while (left := connection.execute(_LEFT.encode()).fetchall()) and time.monotonic() < deadline:
            time.sleep(0.005)
        if _exists(connection, "yoyo_lock") and connection.execute("select 1 from public.yoyo_lock").fetchone():
            left.append(("a row in yoyo's lock table",))
    return sorted(sentence for (sentence,) in left)


def _exists(connection: psycopg.Connection[Any], table: str) -> bool:
    return connection.execute("select to_regclass('public.' || %s)", [table]).fetchone() != (None,)
