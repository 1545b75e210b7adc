"""A Citus cluster that THEA_CITUS_URL names: a superuser's URL of an empty database on its coordinator."""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio

from thea_store import Settings, Store, User, migrator
from thea_store.postgres.url import DatabaseUrl
from thea_store.testing.logins import login_of, make_logins

_SCRIPT = Path(__file__).parents[2] / "deploy" / "citus" / "distribute.sql"


@dataclass(frozen=True)
class Cluster:
    """A migrated database that is spread over the cluster's nodes."""

    superuser_url: str
    password: str

    def settings(self, group: str = "thea_app") -> Settings:
        """What a store needs for the login of a group."""
        return Settings(url=self.url_of(group), tenant_scope="transaction", pool_size=2)

    def url_of(self, group: str) -> str:
        """The URL of the login of a group."""
        address = DatabaseUrl.parse(self.superuser_url)
        return replace(address, user=login_of(group), password=self.password).render()


def distribute(url: str, *arguments: str) -> str:
    """What the script prints, or its error."""
    command = ["psql", url, "-X", "-f", str(_SCRIPT), *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    return ended.stdout + ended.stderr


@pytest.fixture(scope="session")
def cluster() -> Cluster:
    url = os.environ.get("THEA_CITUS_URL")
    if not url:
        pytest.skip("THEA_CITUS_URL names no database on a coordinator: see `make test-citus`")
    with psycopg.connect(url, autocommit=True) as connection:
        password = make_logins(connection)
    migrator.migrate(url)
    assert "spread over" in distribute(url)
    return Cluster(url, password)


@pytest.fixture
def run_script(cluster: Cluster) -> Callable[..., str]:
    """Runs the script once more, with these arguments of psql, by the superuser's URL or another."""

    def run(*arguments: str, url: str | None = None) -> str:
        return distribute(url or cluster.superuser_url, *arguments)

    return run


@pytest.fixture
def tenant() -> str:
    return f"citus-{uuid.uuid4().hex[:12]}"


@pytest_asyncio.fixture
async def store(cluster: Cluster) -> AsyncIterator[Store]:
    async with Store.open(cluster.settings()) as store:
        yield store


@pytest_asyncio.fixture
async def user(store: Store, tenant: str) -> User:
    return await store.users.create(tenant, telegram_id=1, first_name="Ana")


@pytest.fixture
def worker(cluster: Cluster) -> str:
    """A superuser's URL of one of the nodes that have rows."""
    with psycopg.connect(cluster.superuser_url) as connection:
        row = connection.execute("select nodename, nodeport from pg_dist_node where groupid <> 0").fetchone()
    assert row is not None
    name, port = row
    return psycopg.conninfo.make_conninfo(cluster.superuser_url, host=name, port=port)


@pytest_asyncio.fixture
async def admin(cluster: Cluster) -> AsyncIterator[Store]:
    async with Store.open(cluster.settings("thea_admin")) as store:
        yield store
