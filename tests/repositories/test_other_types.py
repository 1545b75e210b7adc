"""Ranges and vectors, in tables as `thea-store new` writes them: what is written comes back."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest

from thea_store import Extension, InvalidArgumentError, MigrationError, QueryMismatchError, Range, Store
from thea_store.cli.new import new_aggregate, new_extension
from thea_store.migrator import migrate
from thea_store.testing import TestDatabase

NewDatabase = Callable[..., TestDatabase]
NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.fixture
def extension(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., tuple[Extension, type[Any]]]]:
    """Writes an extension with one table of these columns; the extension and its repository."""

    def written(*columns: str) -> tuple[Extension, type[Any]]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.syspath_prepend(tmp_path)
        new_extension("odd")
        new_aggregate("things", "odd", columns, [])
        made = importlib.import_module("odd").ODD
        return made, made.aggregates[0].repository

    yield written
    for name in [name for name in sys.modules if name.split(".")[0] == "odd"]:
        del sys.modules[name]


async def test_ranges_come_back_as_they_were_given(extension: Any, thea_new_database: NewDatabase) -> None:
    made, repository = extension("at:tstzrange", "days:daterange?", "few:int4range", "many:int8range", "part:numrange?")
    database = thea_new_database()
    migrate(database.migrator_url, lineages=[made.lineage])
    values = {
        "at": Range(NOON, NOON + timedelta(hours=1), "(]"),
        "days": Range(date(2026, 3, 2), date(2026, 3, 8), "[]"),
        "few": Range(1, 5),
        "many": Range[int](empty=True),
        "part": Range(Decimal("1.5"), None),
    }

    async with Store.open(database.app_url, extensions=[made]) as store:
        things = repository(store)
        thing = await things.create("acme", **values)
        changed = await things.update("acme", thing.id, few=Range(None, 7), days=None)
        with pytest.raises(InvalidArgumentError, match=r"^few\.upper: "):
            await things.update("acme", thing.id, few=Range(1, 2**31))
        with pytest.raises(InvalidArgumentError, match="^at: must be an instance of Range"):
            await things.update("acme", thing.id, at=(NOON, NOON))
        kept = await things.get_by_id("acme", thing.id)
        with psycopg.connect(database.superuser_url) as superuser:
            superuser.execute(
                "update odd.things set at = '[2026-03-02 12:00Z,infinity]', days = '[-infinity,infinity]'"
            )
        endless = await things.get_by_id("acme", thing.id)

    assert {name: getattr(thing, name) for name in values} == values
    assert (endless.at, endless.days) == (Range(NOON, None), Range[date]())
    assert (changed.few, changed.days, changed.at) == (Range(None, 7), None, values["at"])
    assert kept == changed


async def test_vectors_come_back_and_a_server_without_them_is_told(
    extension: Any, thea_new_database: NewDatabase
) -> None:
    made, repository = extension("meaning:vector(3)")
    database = thea_new_database()
    with pytest.raises(MigrationError, match="lacks the extension pgvector.*superuser run `create extension vector"):
        migrate(database.migrator_url, lineages=[made.lineage])
    with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
        if superuser.execute("select from pg_available_extensions where name = 'vector'").fetchone() is None:
            pytest.skip("the server has no pgvector: that it is told was seen")
    migrate(database.migrator_url, lineages=[made.lineage], superuser_url=database.superuser_url)

    async with Store.open(database.app_url, extensions=[made]) as store:
        things = repository(store)
        thing = await things.create("acme", meaning=[1, 2.5, 0.1])
        with pytest.raises(InvalidArgumentError, match="^meaning: must have at least 3 items"):
            await things.update("acme", thing.id, meaning=[1.0])
        kept = await things.get_by_id("acme", thing.id)
    with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
        superuser.execute("drop extension vector cascade")
    with pytest.raises(QueryMismatchError, match="lacks the extension pgvector"):
        await Store.open(database.app_url, extensions=[made])

    assert kept == thing
    assert thing.meaning == [1.0, 2.5, 0.1]
