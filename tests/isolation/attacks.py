"""Free SQL in wrong hands: an attacker's connections, and what is looked at behind their back.

The attacker has the service's own login, or a reader's, and writes any SQL, in the context of one tenant ("mine").
They are after another ("theirs"), its twin in all but the ids of the rows. The attacks have a database of their own,
and nothing is committed. After each test the other tenant's rows are what they were; and the attacker's own rows are
still there for them, so that a broken connection is not taken for a denial.

The fixtures are imported by name into each module, since no other test needs them.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from psycopg import Connection, errors

from tests.support.twins import KEYS, LOGS, Twin, certify, count_messages, make_twin, snapshot
from thea_store import Settings, Store
from thea_store.postgres.url import DatabaseUrl
from thea_store.testing import TestDatabase

__all__ = ["MINE", "OF_SECURITY", "THEIRS", "Scene", "alone", "group_of", "refused", "run", "switch", "undone"]
__all__ += ["app_fixture", "attacker_fixture", "reader_fixture", "scene_fixture", "untouched_fixture"]

MINE, THEIRS = "tenant-mine", "tenant-theirs"

# How PostgreSQL says that a right is lacking. Row security, and triggers of ours, say it otherwise.
_LACKING = r"permission denied|must be (a )?(owner|superuser|member)|must have|only roles with|access to library"
OF_SECURITY = "violates row-level security policy"


@dataclass(frozen=True)
class Scene:
    """Two tenants in a database, and a superuser who sees all of it."""

    database: TestDatabase
    superuser: Connection[Any]
    urls: Mapping[str, str]
    """Those of the two logins, `app` and `reader`."""
    mine: Twin
    theirs: Twin
    theirs_before: Sequence[tuple[Any, ...]]
    counts: Mapping[str, int]
    """How many rows the attacker's own tenant has in each table of tenants that the catalog knows."""
    logins: dict[str, Connection[Any]] = field(default_factory=dict)
    """A connection of each login, which the tests use in turn."""

    @property
    def tables(self) -> list[str]:
        return list(self.counts)

    @property
    def written(self) -> list[str]:
        """The tables that the application writes itself: all but the logs and the keys."""
        return [table for table in self.counts if table not in (*LOGS, KEYS)]

    def ask(self, statement: str, *values: Any, **named: Any) -> list[Any]:
        """What is really there."""
        return run(self.superuser, statement, *values, **named).fetchall()

    def ids(self, table: str, tenant: str) -> list[Any]:
        return [row[0] for row in self.ask(f"select id from {table} where tenant_id = %s order by id", tenant)]

    def row(self, table: str, tenant: str) -> dict[str, Any]:
        """A tenant's newest row, as JSON has it."""
        found = self.ask(f"select to_jsonb(x) from {table} x where tenant_id = %s order by id desc limit 1", tenant)
        row: dict[str, Any] = found[0][0]
        return row

    @contextmanager
    def connected(self, login: str, tenant: str = MINE) -> Iterator[Connection[Any]]:
        """A login's new connection in the context of a tenant; its work is rolled back."""
        with psycopg.connect(self.urls[login], autocommit=True) as connection:
            # No statement is prepared unasked.
            connection.prepare_threshold = None
            begin(connection, tenant)
            yield connection
            if not connection.closed:
                connection.rollback()


_SCENE = pytest.StashKey[Scene]()


def run(connection: Connection[Any], statement: str, *values: Any, **named: Any) -> psycopg.Cursor[Any]:
    """Run any SQL."""
    return connection.execute(statement.encode(), named or values or None)


def group_of(connection: Connection[Any]) -> str:
    """The role of ours that a login is a member of."""
    return "thea_readonly" if connection.info.user.startswith("reader") else "thea_app"


def begin(connection: Connection[Any], tenant: str) -> None:
    """Make the session the tenant's, and then begin to work without committing anything."""
    connection.rollback()
    connection.autocommit = True
    switch(connection, tenant, local=False)
    connection.autocommit = False


def switch(connection: Connection[Any], tenant: str | None, *, local: bool = True) -> None:
    """Go on in the context of a tenant, or of none."""
    connection.execute("select set_config('app.tenant_id', %s, %s)", [tenant, local])


def rows_of(connection: Connection[Any], tenant: str, tables: Iterable[str]) -> Sequence[tuple[Any, ...]]:
    """All rows of a tenant as the server writes them, each with its table; one statement, as each test asks it."""
    each = (f"select '{table}', t::text from {table} t where t.tenant_id = %(tenant)s" for table in tables)
    return run(connection, " union all ".join(each) + " order by 1, 2", tenant=tenant).fetchall()


def alone(connection: Connection[Any]) -> None:
    """From now on each statement stands alone, as some must."""
    connection.rollback()
    connection.autocommit = True


@contextmanager
def undone(connection: Connection[Any]) -> Iterator[None]:
    """Whatever is done inside, or fails, is taken back."""
    connection.execute("savepoint attempt")
    try:
        yield
    finally:
        connection.execute("rollback to savepoint attempt")
        connection.execute("release savepoint attempt")


def refused(
    connection: Connection[Any],
    statement: str,
    *values: Any,
    by: type[psycopg.Error] | tuple[type[psycopg.Error], ...] = errors.InsufficientPrivilege,
    match: str = _LACKING,
    **named: Any,
) -> psycopg.Error:
    """The error with which a statement was refused; the test fails if it was not."""
    with undone(connection):
        try:
            run(connection, statement, *values, **named)
        except by as error:
            refusal = error
        else:
            pytest.fail(f"not refused: {statement}")
    assert re.search(match, str(refusal)), f"{statement}: {refusal}"
    return refusal


@pytest_asyncio.fixture(name="scene", scope="session")
async def scene_fixture(
    request: pytest.FixtureRequest, thea_new_database: Callable[..., TestDatabase]
) -> AsyncIterator[Scene]:
    """Made for the first module that asks for it, and kept for the others."""
    stash = request.config.stash
    if _SCENE in stash:
        yield stash[_SCENE]
        return
    database = thea_new_database()
    # The tests judge the login's role themselves.
    settings = Settings(url=database.app_url, pool_size=1, max_overflow=0, allow_unsafe_role=True)
    async with Store.open(settings) as store:
        mine, theirs = [await make_twin(store, tenant) for tenant in (MINE, THEIRS)]
    for tenant in (MINE, THEIRS):
        certify(database.superuser_url, tenant)
        count_messages(database.superuser_url, tenant)
    with psycopg.connect(database.superuser_url, autocommit=True) as superuser, ExitStack() as connections:
        reader = f"reader_of_{database.name}"[:63]
        address = DatabaseUrl.parse(database.app_url)
        # So that the directory is asked in every statement.
        run(superuser, "insert into thea.tenants (id) values (%s), (%s)", MINE, THEIRS)
        run(superuser, f"create role {reader} login password '{address.password}' in role thea_readonly")
        connections.callback(run, superuser, f"drop role {reader}")
        counts = {f"thea.{table}": len(rows) for table, rows in snapshot(superuser, MINE).items()}
        before = rows_of(superuser, THEIRS, counts)
        urls = {"app": database.app_url, "reader": replace(address, user=reader).render()}
        scene = stash[_SCENE] = Scene(database, superuser, urls, mine, theirs, before, counts)
        for login in urls:
            scene.logins[login] = connections.enter_context(scene.connected(login))
        yield scene
        del stash[_SCENE]


@pytest.fixture(name="untouched", autouse=True)
def untouched_fixture(scene: Scene) -> Iterator[None]:
    """The other tenant's rows are after each test what they were."""
    yield
    assert rows_of(scene.superuser, THEIRS, scene.tables) == scene.theirs_before


@contextmanager
def _attacking(scene: Scene, login: str) -> Iterator[Connection[Any]]:
    connection = scene.logins[login]
    yield connection
    connection.rollback()
    counted = " union all ".join(f"select '{table}', count(*) from {table}" for table in scene.tables)
    begin(connection, MINE)
    found = dict(run(connection, counted))
    # Nothing is left for the next test either.
    alone(connection)
    run(connection, "discard all")
    begin(connection, MINE)
    assert found == scene.counts, "the attacker's own rows"


@pytest.fixture(name="app")
def app_fixture(scene: Scene) -> Iterator[Connection[Any]]:
    """The service's login."""
    with _attacking(scene, "app") as connection:
        yield connection


@pytest.fixture(name="reader")
def reader_fixture(scene: Scene) -> Iterator[Connection[Any]]:
    """The login of one who may only read."""
    with _attacking(scene, "reader") as connection:
        yield connection


@pytest.fixture(name="attacker", params=["app", "reader"])
def attacker_fixture(request: pytest.FixtureRequest, scene: Scene) -> Iterator[Connection[Any]]:
    """Each of the two logins in turn."""
    with _attacking(scene, request.param) as connection:
        yield connection
