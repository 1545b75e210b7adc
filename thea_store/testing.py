"""Servers and databases for tests: where they come from, and how each is made in milliseconds."""

from __future__ import annotations

import asyncio
import hashlib
import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from thea_store.errors import StoreError
from thea_store.migrations import available, migrate
from thea_store.urls import DatabaseUrl

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["TestDatabase", "TestServer", "start_server"]

_MIGRATOR, _SERVICE = "thea_test_migrator", "thea_test_service"
_PASSWORD = "thea-test"  # noqa: S105 - roles of throwaway servers
_LOCK = 7_423_642_001


@dataclass(frozen=True, slots=True)
class TestDatabase:
    """One database of a test server, by its three logins."""

    __test__ = False

    name: str
    superuser_url: str
    migrator_url: str
    app_url: str


class TestServer:
    """A server on which tests may make and drop databases."""

    __test__ = False

    def __init__(self, superuser_url: str) -> None:
        self._address = DatabaseUrl.parse(superuser_url)
        with self._connected() as connection:
            _make_roles(connection)

    def new_database(self, resources: ExitStack, *, migrated: bool = True) -> TestDatabase:
        """A new database, dropped when `resources` is closed; a migrated one is cloned from a template."""
        template = self._template() if migrated else "template0"
        name = f"thea_test_{os.getpid()}_{uuid.uuid4().hex[:8]}"
        with self._connected() as connection:
            _do(connection, f"create database {name} template {template} owner {_MIGRATOR}")
            # A template's privileges are not copied.
            _do(connection, f"revoke temporary on database {name} from public")
        resources.callback(self._drop, name)
        return self.database(name)

    def database(self, name: str) -> TestDatabase:
        """The URLs of a database of this server."""

        def url(user: str, password: str) -> str:
            return replace(self._address, user=user, password=password, database=name).render()

        superuser = replace(self._address, database=name).render()
        return TestDatabase(name, superuser, url(_MIGRATOR, _PASSWORD), url(_SERVICE, _PASSWORD))

    def _template(self) -> str:
        """The migrated template, made once for these very migrations, however many workers ask."""
        digest = hashlib.sha256("".join(m.checksum for m in available()).encode()).hexdigest()[:16]
        name = f"thea_template_{digest}"
        with self._connected() as connection:
            connection.execute("select pg_advisory_lock(%s)", [_LOCK])
            if connection.execute("select from pg_database where datname = %s", [name]).fetchone() is None:
                # Under another name until it is complete: a run that dies leaves no half a template.
                building = f"{name}_building"
                _do(connection, f"drop database if exists {building} with (force)")
                _do(connection, f"create database {building} template template0 owner {_MIGRATOR}")
                migrate(self.database(building).migrator_url)
                _do(connection, f"alter database {building} rename to {name}")
        return name

    def _drop(self, name: str) -> None:
        with self._connected() as connection:
            _do(connection, f"drop database if exists {name} with (force)")

    @contextmanager
    def _connected(self) -> Iterator[Connection[Any]]:
        import psycopg  # noqa: PLC0415

        with psycopg.connect(self._address.render(), autocommit=True) as connection:
            yield connection


def start_server(resources: ExitStack) -> TestServer:
    """The server that the environment names, or the first that can be had; ended with `resources`."""
    if url := os.environ.get("THEA_TEST_DATABASE_URL"):
        return TestServer(url)
    match os.environ.get("THEA_TEST_SERVER", ""):
        case "":
            return TestServer(_container(resources, required=False) or _embedded(resources, None))
        case "embedded":
            return TestServer(_embedded(resources, None))
        case "docker":
            return TestServer(_container(resources, required=True) or "")
        case bin_dir:
            return TestServer(_embedded(resources, bin_dir))


def _embedded(resources: ExitStack, bin_dir: str | None) -> str:
    from thea_store.embedded import EmbeddedPostgres  # noqa: PLC0415

    # Its own event loop: the fixture is synchronous, so that it serves tests on any loop.
    runner = resources.enter_context(asyncio.Runner())
    server = EmbeddedPostgres(bin_dir=bin_dir)
    runner.run(server.start())
    resources.callback(lambda: runner.run(server.stop()))
    return server.superuser_url


def _container(resources: ExitStack, *, required: bool) -> str | None:
    try:
        from docker.errors import DockerException  # noqa: PLC0415
        from testcontainers.community.postgres import PostgresContainer  # noqa: PLC0415
    except ImportError:
        if required:
            raise StoreError("THEA_TEST_SERVER=docker needs testcontainers: pip install testcontainers") from None
        return None
    image = os.environ.get("THEA_TEST_POSTGRES_IMAGE", "postgres:18")
    try:
        container = PostgresContainer(image, driver=None, docker_client_kw={"timeout": 60})
    except DockerException:
        if required:
            raise StoreError("THEA_TEST_SERVER=docker, but no Docker engine answers: start it") from None
        return None
    resources.enter_context(container)
    url: str = container.get_connection_url()
    return url


def _make_roles(connection: Connection[Any]) -> None:
    connection.execute("select pg_advisory_lock(%s)", [_LOCK])
    for role, powers in ((_MIGRATOR, "createrole"), (_SERVICE, "")):
        if connection.execute("select from pg_roles where rolname = %s", [role]).fetchone() is None:
            _do(connection, f"create role {role} login {powers} password '{_PASSWORD}'")
    # The groups exist before the first migration, so that the service's login can be a member.
    for group in ("thea_owner", "thea_app", "thea_readonly", "thea_maintenance"):
        if connection.execute("select from pg_roles where rolname = %s", [group]).fetchone() is None:
            _do(connection, f"create role {group} nologin noinherit")
    _do(connection, f"grant thea_owner to {_MIGRATOR}")
    _do(connection, f"grant thea_app to {_SERVICE}")


def _do(connection: Connection[Any], statement: str) -> None:
    # Names and options cannot be parameters; here they are all this module's own.
    connection.execute(statement.encode())
