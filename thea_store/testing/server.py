"""A server on which tests make databases, by cloning a template that was migrated once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from thea_store.errors import StoreError
from thea_store.migrator import Lineage, listed, migrate
from thea_store.postgres.url import DatabaseUrl
from thea_store.testing.leftovers import drop, keep, new_name, sweep
from thea_store.testing.logins import MIGRATOR, SERVICE, do, login_of, make_logins, require_superuser

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["TestDatabase", "TestServer"]

_LOCK = 7_423_642_001


@dataclass(frozen=True, slots=True)
class TestDatabase:
    """One database of a test server, by its logins, whose passwords its `repr` does not show."""

    __test__ = False

    name: str
    superuser_url: str = field(repr=False)
    migrator_url: str = field(repr=False)
    app_url: str = field(repr=False)
    lasting: bool = False
    """Whether its server goes on after the tests."""

    def url_of(self, group: str) -> str:
        """The URL of a login that is a member of this group alone, such as `thea_admin`."""
        return replace(DatabaseUrl.parse(self.app_url), user=login_of(group)).render()

    def keep(self) -> str:
        """Let it stay after this run, to be looked at; the superuser's URL, without the password.

        The newest twenty stay. Where the server is down by now, so does what it has.
        """
        import psycopg  # noqa: PLC0415

        with suppress(psycopg.Error), psycopg.connect(self.superuser_url, autocommit=True) as connection:
            keep(connection, self.name)
        return replace(DatabaseUrl.parse(self.superuser_url), password=None).render()


class TestServer:
    """A server on which tests may make and drop databases.

    A lasting one keeps its templates, one for each set of migrations, and the logins. What runs that
    were killed left behind is dropped after a day.
    """

    __test__ = False

    def __init__(self, superuser_url: str, *, lasting: bool = False, lineages: Sequence[Lineage] = ()) -> None:
        """`lineages` are the migrations of extensions, beside the library's own."""
        self._lineages = lineages
        self._address = DatabaseUrl.parse(superuser_url)
        self._lasting = lasting
        with self._connected() as connection:
            require_superuser(connection)
            connection.execute("select pg_advisory_lock(%s)", [_LOCK])
            self._password = make_logins(connection)
            if lasting:
                sweep(connection)
            # Copying files is the faster way where nothing waits for the disk, and the slower one elsewhere.
            synced = connection.execute("show fsync").fetchone() == ("on",)
            self._strategy = "wal_log" if synced else "file_copy"

    def new_database(self, resources: ExitStack, *, migrated: bool = True) -> TestDatabase:
        """A new database, dropped when `resources` is closed; a migrated one is cloned from a template."""
        name = new_name()
        with self._connected() as connection:
            self._create(connection, name, self._made_template(connection) if migrated else "template0")
        resources.callback(self._drop, name)
        return self.database(name)

    def database(self, name: str) -> TestDatabase:
        """The URLs of a database of this server."""

        def url(user: str) -> str:
            return replace(self._address, user=user, password=self._password, database=name).render()

        superuser = replace(self._address, database=name).render()
        return TestDatabase(name, superuser, url(MIGRATOR), url(SERVICE), self._lasting)

    @cached_property
    def _template(self) -> str:
        text = "".join(migration.id + migration.checksum for migration in listed(lineages=self._lineages))
        return f"thea_template_{hashlib.sha256(text.encode()).hexdigest()[:16]}"

    def _made_template(self, connection: Connection[Any]) -> str:
        """The migrated template, made once for these very migrations, however many workers ask."""
        if _exists(connection, self._template):
            return self._template
        connection.execute("select pg_advisory_lock(%s)", [_LOCK])
        if not _exists(connection, self._template):
            # Under another name until it is complete: a run that dies leaves no half a template.
            building = new_name()
            self._create(connection, building, "template0")
            made = self.database(building)
            migrate(made.migrator_url, lineages=self._lineages, superuser_url=made.superuser_url)
            do(connection, f"alter database {building} rename to {self._template}")
            # A visitor would hinder its cloning.
            do(connection, f"alter database {self._template} with allow_connections false")
        connection.execute("select pg_advisory_unlock(%s)", [_LOCK])
        return self._template

    def _create(self, connection: Connection[Any], name: str, template: str) -> None:
        do(connection, f"create database {name} template {template} owner {MIGRATOR} strategy {self._strategy}")
        # A template's privileges are not copied: what the first migration took away there is taken away here, too.
        asked = "select datacl is not null from pg_database where datname = %s and datname <> 'template0'"
        if connection.execute(asked, [template]).fetchone() == (True,):
            do(connection, f"revoke temporary on database {name} from public")

    def _drop(self, name: str) -> None:
        with self._connected() as connection:
            drop(connection, name)

    @contextmanager
    def _connected(self) -> Iterator[Connection[Any]]:
        import psycopg  # noqa: PLC0415

        from thea_store.postgres.operator import forget_login  # noqa: PLC0415 - as psycopg

        try:
            connection = psycopg.connect(self._address.render(), autocommit=True)
        except psycopg.OperationalError as error:
            forget_login(error)
            raise StoreError(f"the tests' server {self._address} lets nobody in: {error}") from None
        with connection:
            yield connection


def _exists(connection: Connection[Any], database: str) -> bool:
    return connection.execute("select from pg_database where datname = %s", [database]).fetchone() is not None
