"""A database that could not work is refused before anything is done in it: another encoding, a pooler in between."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace

import psycopg
import pytest

from tests.support.commands import Run
from tests.support.pooler import STARTUP, pgbouncer
from thea_store import MigrationError, Settings, Store, StoreError
from thea_store.migrator import migrate, rollback, status
from thea_store.postgres.url import DatabaseUrl
from thea_store.testing import TestDatabase


@pytest.fixture(params=["LATIN1", "SQL_ASCII"])
def misfit(request: pytest.FixtureRequest, thea_database: TestDatabase) -> Iterator[TestDatabase]:
    """A database in an encoding that cannot hold every text."""
    name = f"misfit_{uuid.uuid4().hex[:12]}"
    migrator = DatabaseUrl.parse(thea_database.migrator_url).user
    with psycopg.connect(thea_database.superuser_url, autocommit=True) as superuser:
        superuser.execute(
            f"create database {name} owner {migrator} template template0 encoding '{request.param}' "
            "lc_collate 'C' lc_ctype 'C'".encode()
        )

        def of_it(url: str) -> str:
            return replace(DatabaseUrl.parse(url), database=name).render()

        logins = (thea_database.superuser_url, thea_database.migrator_url, thea_database.app_url)
        superusers, migrators, services = map(of_it, logins)
        yield TestDatabase(name, superusers, migrators, services)
        superuser.execute(f"drop database {name} with (force)".encode())


def tables(database: TestDatabase) -> list[str]:
    with psycopg.connect(database.superuser_url, client_encoding="utf8") as connection:
        rows = connection.execute("select tablename from pg_tables where schemaname in ('public', 'thea')")
        return [name for (name,) in rows]


def test_another_encoding_is_refused_by_migrate_before_it_does_anything(misfit: TestDatabase, run: Run) -> None:
    with pytest.raises(MigrationError, match="encoding 'UTF8' template template0"):
        migrate(misfit.migrator_url)
    with pytest.raises(MigrationError, match="encoding"):
        migrate(misfit.migrator_url, dry_run=True)
    shown = run("migrate", DATABASE_URL=misfit.migrator_url)

    assert shown.exit_code == 1
    assert "encoding 'UTF8' template template0" in shown.stderr
    assert tables(misfit) == []


@pytest.mark.parametrize("scope", ["session", "transaction"])
async def test_another_encoding_is_refused_at_open(misfit: TestDatabase, scope: str) -> None:
    with pytest.raises(StoreError, match="encoding 'UTF8' template template0"):
        await Store.open(Settings.model_validate({"url": misfit.app_url, "tenant_scope": scope}))


@pytest.mark.parametrize("options", [{}, {"ignore_startup_parameters": STARTUP}], ids=["refused", "dropped silently"])
def test_a_pooler_in_front_of_the_migrations_is_refused(
    thea_database: TestDatabase, options: dict[str, str], run: Run
) -> None:
    with pgbouncer(thea_database.migrator_url, **options) as url:
        for verb in (migrate, rollback, status):
            with pytest.raises(MigrationError, match=r"pooler .*DATABASE_MIGRATOR_URL"):
                verb(url)
        shown = run("migrate", DATABASE_URL=url)

    assert shown.exit_code == 1
    assert "give the URL of the server itself (DATABASE_MIGRATOR_URL)" in shown.stderr
