"""Opening a store: what is checked, in which order, and what each failure says."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import psycopg
import pytest

from thea_store import (
    InvalidArgumentError,
    MigrationRequiredError,
    QueryMismatchError,
    Settings,
    SettingsError,
    Store,
    UnsafeRoleError,
    Vector,
)
from thea_store.migrator import available, rollback
from thea_store.postgres.url import DatabaseUrl
from thea_store.queries.file import SqlFile
from thea_store.repositories.base import Record
from thea_store.testing import TestDatabase
from thea_store.verification.comparing import _column_problems
from thea_store.verification.describing import Column, Described
from thea_store.verification.opening import inspect, mismatches

NewDatabase = Callable[..., TestDatabase]


async def test_a_store_is_awaited_or_entered(thea_database: TestDatabase, tenant: str) -> None:
    store = await Store.open(thea_database.app_url)
    assert await store.users.count(tenant) == 0
    await store.close()

    async with Store.open(Settings(url=thea_database.app_url)) as store:
        assert await store.ping() > 0


async def test_without_arguments_the_environment_counts(
    thea_database: TestDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", thea_database.app_url)

    async with Store.open() as store:
        assert await store.ping() > 0


async def test_an_empty_database_lacks_every_migration_by_name(thea_new_database: NewDatabase) -> None:
    database = thea_new_database(migrated=False)

    with pytest.raises(MigrationRequiredError, match="thea-store migrate") as caught:
        await Store.open(database.app_url)
    assert caught.value.pending == tuple(migration.id for migration in available())


async def test_an_older_schema_names_the_pending_migration(thea_new_database: NewDatabase) -> None:
    database = thea_new_database()
    undone = rollback(database.migrator_url)

    with pytest.raises(MigrationRequiredError) as caught:
        await Store.open(database.app_url)
    assert caught.value.pending == tuple(undone)


async def test_a_login_that_row_security_would_not_bind_is_refused(
    thea_database: TestDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(UnsafeRoleError, match="superuser"):
        await Store.open(thea_database.superuser_url)
    with pytest.raises(UnsafeRoleError, match="owns the tables"):
        await Store.open(thea_database.migrator_url)

    address = DatabaseUrl.parse(thea_database.app_url)
    with psycopg.connect(thea_database.superuser_url, autocommit=True) as connection:
        connection.execute(
            "create role thea_test_curious login in role thea_app, thea_maintenance"
            f" password '{address.password}'".encode()
        )
        try:
            with pytest.raises(UnsafeRoleError, match="every tenant"):
                await Store.open(replace(address, user="thea_test_curious").render())
        finally:
            connection.execute("drop role thea_test_curious")

    with caplog.at_level(logging.WARNING, logger="thea_store"):
        await (await Store.open(Settings(url=thea_database.superuser_url, allow_unsafe_role=True))).close()
    assert "row security would not bind it" in caplog.text


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("alter table thea.users drop column language_code", "language_code"),
        ("alter table thea.users alter column telegram_id type text", "telegram_id"),
        ("alter table thea.users alter column timezone drop not null", "timezone can be null"),
        ("alter table thea.users alter column last_activity type timestamp", "last_activity"),
        ("alter table thea.conversations rename column context_data to context", "context_data"),
    ],
)
async def test_every_query_that_does_not_fit_the_schema_is_listed_with_its_place(
    thea_new_database: NewDatabase, change: str, complaint: str
) -> None:
    database = thea_new_database()
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        connection.execute(change)

    with pytest.raises(QueryMismatchError, match=complaint) as caught:
        await Store.open(database.app_url)
    assert len(caught.value.mismatches) > 3
    for mismatch in caught.value.mismatches:
        place = mismatch.split(": ")[0]
        assert place.startswith("sql/")
        assert place.partition(":")[2].isdigit()


class _Fitting(Record, frozen=True):
    id: int
    username: str | None
    total: int


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ({"id": int, "username": str | None, "total": int}, None),
        ({"id": str, "username": str | None, "total": int}, "the column id is bigint"),
        ({"id": int, "username": str, "total": int}, "the column username can be null"),
        ({"id": int, "username": str | None}, "the column total has no field"),
        ({"id": int, "username": str | None, "total": int, "more": int}, "more has no column"),
        ({"id": float, "username": str | None, "total": int}, "the column id is bigint"),
        ({"id": bool, "username": str | None, "total": int}, "the column id is bigint"),
        ({"id": int, "username": bytes | None, "total": int}, "the column username is text"),
    ],
)
def test_columns_are_compared_with_the_record(
    thea_database: TestDatabase, tmp_path: Path, fields: dict[str, Any], complaint: str | None
) -> None:
    statement = "select id, username, 1 + 1 as total from thea.users where tenant_id = :tenant_id"
    found = problems(thea_database, tmp_path, statement, "-- not null: total\n", fields)

    assert found == [] if complaint is None else complaint in found[0]


@pytest.mark.parametrize(
    ("hint", "complaint"),
    [
        ("", "the column total can be null"),
        ("-- not null: total\n", None),
        ("-- not null: total, totl\n", "the hint names totl"),
        ("-- not null: total\n-- nullable: id\n", "the column id can be null"),
    ],
)
def test_hints_say_what_the_catalog_cannot_know(
    thea_database: TestDatabase, tmp_path: Path, hint: str, complaint: str | None
) -> None:
    statement = "select id, 1 + 1 as total from thea.users where tenant_id = :tenant_id"
    found = problems(thea_database, tmp_path, statement, hint, {"id": int, "total": int})

    assert found == [] if complaint is None else complaint in found[0]


def test_an_outer_join_can_null_what_the_catalog_calls_not_null(thea_database: TestDatabase, tmp_path: Path) -> None:
    statement = (
        "select n.id from thea.users u left join thea.notes n on n.tenant_id = :tenant_id and n.user_id = u.id"
        " where u.tenant_id = :tenant_id"
    )
    found = problems(thea_database, tmp_path, statement, "", {"id": int})

    assert "the column id can be null" in found[0]


@pytest.mark.parametrize(("kind", "fits"), [(int, True), (int | None, True), (str, False), (float, False)])
def test_parameters_are_compared_with_their_declared_types(
    thea_database: TestDatabase, tmp_path: Path, kind: Any, fits: bool
) -> None:
    statement = "select id from thea.users where tenant_id = :tenant_id and id = :wanted"
    found = problems(thea_database, tmp_path, statement, "", {"id": int}, wanted=kind)

    assert (found == []) == fits


def test_all_mismatches_are_found_in_one_go(thea_database: TestDatabase, tmp_path: Path) -> None:
    text = "".join(
        f"-- name: q{n}\n-- Something.\nselect nothing_{n} from thea.users where tenant_id = :tenant_id;\n"
        for n in range(40)
    )
    (tmp_path / "many.sql").write_text(text)
    file = SqlFile("many", tmp_path)
    for n in range(40):
        file.query(f"q{n}", int)
    found = mismatches(inspect(DatabaseUrl.parse(thea_database.app_url), [file]))

    assert len(found) == 40
    assert all(f"nothing_{n}" in sentence for n, sentence in enumerate(found))


def problems(
    database: TestDatabase, directory: Path, statement: str, hint: str, fields: dict[str, Any], **types: Any
) -> list[str]:
    (directory / "made.sql").write_text(f"-- name: it\n-- Something.\n{hint}{statement};\n")
    file = SqlFile("made", directory)
    record = type("Made", (Record,), {"__annotations__": fields})
    file.query("it", record, **types)
    return mismatches(inspect(DatabaseUrl.parse(database.app_url), [file]))


async def test_health_tells_what_an_operator_asks_first(store: Store) -> None:
    health = await store.health()

    assert health.reachable
    assert health.role_is_safe
    assert health.schema_version == available()[-1].id
    assert health.pending_migrations == ()
    assert health.server_version is not None
    assert health.pool.limit == 10


async def test_health_of_a_database_that_is_gone_is_an_answer(thea_new_database: NewDatabase) -> None:
    database = thea_new_database()
    async with Store.open(database.app_url) as store:
        with psycopg.connect(database.superuser_url.replace(database.name, "postgres"), autocommit=True) as connection:
            connection.execute(f"drop database {database.name} with (force)")
        health = await store.health()

    assert not health.reachable
    assert health.problem is not None


async def test_what_is_no_source_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="source"):
        await Store.open(42)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="DATABASE_URL"):
        await Store.open("mysql://elsewhere/db")


async def test_an_embedded_store_brings_its_own_server_and_schema(tenant: str) -> None:
    async with Store.open("embedded:") as store:
        user = await store.users.create(tenant, telegram_id=1)
        assert await store.users.get_by_id(tenant, user.id) == user


async def test_an_embedded_store_with_a_path_keeps_its_data(tmp_path: Path, tenant: str) -> None:
    async with Store.open(f"embedded:{tmp_path / 'data'}") as store:
        user = await store.users.create(tenant, telegram_id=1)
    async with Store.open(f"embedded:{tmp_path / 'data'}") as store:
        assert await store.users.get_by_id(tenant, user.id) == user


def test_importing_the_library_loads_nothing_that_only_operators_need() -> None:
    heavy = {"psycopg", "typer", "rich", "ijson", "docker", "testcontainers", "sqlalchemy"}
    code = f"import sys; from thea_store import Store; print(sorted({heavy!r} & sys.modules.keys()))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize(("dimensions", "problems"), [(3, 0), (4, 1), (-1, 0)])
def test_a_vector_of_other_dimensions_than_its_column_is_told(tmp_path: Path, dimensions: int, problems: int) -> None:
    tmp_path.joinpath("things.sql").write_text(
        "-- name: found\n-- What is there.\n-- tenant: none, a value\nselect 1 as embedding;\n"
    )
    query = SqlFile("things", tmp_path).query("found", _Embedded)
    column = Column("embedding", "vector", (1, 1), dimensions)

    told = _column_problems(Described(query, (column,)), frozenset({(1, 1)}))
    assert [f"vector({dimensions})" in problem for problem in told] == [True] * problems


class _Embedded(Record, frozen=True):
    embedding: Annotated[list[float], Vector(3)]
