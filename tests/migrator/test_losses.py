"""A way back that would throw rows away names them with their numbers, and is not gone without a word of consent."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.support.commands import Run
from thea_store import MigrationError, Store
from thea_store.migrator import available, migrate, rollback, status
from thea_store.testing import TestDatabase

pytestmark = pytest.mark.usefixtures("no_settings")

NewDatabase = Callable[..., TestDatabase]

IDS = [migration.id for migration in available()]


async def fill(database: TestDatabase, notes: int = 100) -> None:
    async with Store.open(database.app_url) as store:
        user = await store.users.create("acme", telegram_id=1)
        await store.notes.create_many("acme", [{"user_id": user.id, "content": f"note {n}"} for n in range(notes)])


def asked(database: TestDatabase, query: str) -> Any:
    with psycopg.connect(database.superuser_url) as connection:
        return connection.execute(query.encode()).fetchall()[0][0]


async def test_tables_that_hold_rows_are_named_with_their_numbers_and_stay(
    thea_new_database: NewDatabase, run: Run
) -> None:
    database = thea_new_database()
    await fill(database)
    notes = next(id_ for id_ in IDS if id_.endswith(".notes"))
    before = IDS[IDS.index(notes) - 1]
    with pytest.raises(MigrationError) as refused:
        rollback(database.migrator_url, to=before)
    shown = run("migrate", "--rollback", "--to", "0000", DATABASE_URL=database.migrator_url)

    assert "would drop thea.notes (100 rows): nothing was done" in str(refused.value)
    assert "--discard-rows" in str(refused.value)
    assert shown.exit_code == 1
    for loss in ("thea.audit_log (101 rows)", "thea.notes (100 rows)", "thea.users (1 row)"):
        assert loss in shown.stderr
    assert shown.stdout == ""
    assert status(database.migrator_url).applied == tuple(IDS)
    assert asked(database, "select count(*) from thea.notes") == 100
    assert asked(database, "select bool_and(relforcerowsecurity) from pg_class where oid = 'thea.notes'::regclass")


async def test_with_consent_they_go(thea_new_database: NewDatabase, run: Run) -> None:
    database = thea_new_database()
    await fill(database)
    options = ("--rollback", "--to", "0000", "--discard-rows", "--json")
    shown = run("migrate", *options, DATABASE_URL=database.migrator_url)

    assert shown.exit_code == 0
    assert json.loads(shown.stdout)["migrations"] == IDS[::-1]
    assert asked(database, "select to_regnamespace('thea') is null")


def test_consent_goes_with_a_rollback(run: Run) -> None:
    assert run("migrate", "--discard-rows", DATABASE_URL="postgresql://localhost/thea").exit_code == 2


def test_empty_tables_need_no_consent(thea_new_database: NewDatabase) -> None:
    database = thea_new_database()

    assert rollback(database.migrator_url, to="0000") == IDS[::-1]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """Migrations of the test's own: a table, a column more, and one that drops nothing on its way back."""
    files = {
        "0001.things.sql": "create table things (id int primary key, name text)",
        "0001.things.rollback.sql": "drop table things",
        "0002.colour.sql": "alter table things add column colour text",
        "0002.colour.rollback.sql": "alter table things drop column colour",
        "0003.index.sql": "create index things_name_idx on things (name)",
        "0003.index.rollback.sql": "drop index things_name_idx",
        "0004.broken.sql": "create index things_colour_idx on things (colour)",
        "0004.broken.rollback.sql": "drop index things_colour_idx;\ndrop index no_such_index",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(f"{text};\n")
    return tmp_path


def test_a_column_that_holds_values_is_named_too(thea_new_database: NewDatabase, own: Path) -> None:
    database = thea_new_database(migrated=False)
    (own / "0004.broken.sql").unlink()
    (own / "0004.broken.rollback.sql").unlink()
    migrate(database.migrator_url, own)
    with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
        superuser.execute("insert into things values (1, 'a', 'red'), (2, 'b', null), (3, null, 'blue')")

    assert rollback(database.migrator_url, own) == ["0003.index"]
    with pytest.raises(MigrationError, match=r"would drop public.things.colour \(2 values\): nothing was done"):
        rollback(database.migrator_url, own)
    with pytest.raises(MigrationError, match=r"0002.colour, 0001.things would drop public.things \(3 rows\): nothing"):
        rollback(database.migrator_url, own, to="0000")
    assert asked(database, "select string_agg(colour, ',' order by id) from things") == "red,blue"
    assert rollback(database.migrator_url, own, discard_rows=True) == ["0002.colour"]
    with pytest.raises(MigrationError, match=r"things \(3 rows\)"):
        rollback(database.migrator_url, own)


def test_a_way_back_that_fails_names_its_line_and_does_nothing(thea_new_database: NewDatabase, own: Path) -> None:
    database = thea_new_database(migrated=False)
    migrate(database.migrator_url, own)

    with pytest.raises(MigrationError, match=r"0004\.broken.*0004\.broken\.rollback\.sql:2\).*no_such_index"):
        rollback(database.migrator_url, own, to="0000")
    assert status(database.migrator_url, own).pending == ()
