"""The databases that the doctor is called to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import psycopg
import pytest

from thea_store.postgres.url import DatabaseUrl
from thea_store.testing import TestDatabase, TestServer


@pytest.fixture
def database(thea_server: TestServer) -> Iterator[TestDatabase]:
    """A migrated database of the test's own, to be weakened."""
    with ExitStack() as resources:
        yield thea_server.new_database(resources)


@pytest.fixture
def lone(database: TestDatabase) -> TestDatabase:
    """The same, closed to the logins of the other databases of the tests' server."""
    with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
        superuser.execute(f"revoke connect on database {database.name} from public".encode())
        for url in (database.app_url, database.migrator_url):
            user = DatabaseUrl.parse(url).user
            superuser.execute(f"grant connect on database {database.name} to {user}".encode())
    return database
