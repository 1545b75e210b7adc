"""Each extension numbers its own migrations; `-- depends:` orders them across lineages."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from thea_store import InvalidArgumentError
from thea_store.errors import MigrationError
from thea_store.migrator import Lineage, available, migrate, rollback, status
from thea_store.postgres.url import DatabaseUrl
from thea_store.resources import migrations_dir
from thea_store.testing import TestDatabase

NewDatabase = Callable[..., TestDatabase]
OWN = [migration.id for migration in available()]


def lineage(parent: Path, name: str, *files: str) -> Lineage:
    """A lineage with these files: `0001.one`, then what it depends on."""
    directory = parent / name
    directory.mkdir(exist_ok=True)
    for file in files:
        number, *needed = file.split(" ")
        depends = f"-- depends: {' '.join(needed)}\n\n" if needed else ""
        table = f"{name}_{number.replace('.', '_')}"
        (directory / f"{name}.{number}.sql").write_text(f"{depends}create table public.{table} (id bigint);\n")
        (directory / f"{name}.{number}.rollback.sql").write_text(f"drop table public.{table};\n")
    return Lineage(name, directory)


def test_the_librarys_own_come_first_and_each_lineage_in_the_order_of_its_numbers(tmp_path: Path) -> None:
    zoo = lineage(tmp_path, "zoo", "0001.one", "0002.two zoo.0001.one")
    ark = lineage(tmp_path, "ark", "0001.one zoo.0002.two")

    ids = [migration.id for migration in available(lineages=[zoo, ark])]

    assert ids == [*OWN, "zoo.0001.one", "zoo.0002.two", "ark.0001.one"]


def test_all_lineages_are_applied_at_once_and_each_is_rolled_back_alone(
    thea_new_database: NewDatabase, tmp_path: Path
) -> None:
    url = thea_new_database(migrated=False).migrator_url
    lineages = [lineage(tmp_path, "zoo", f"0001.one {OWN[2]}", "0002.two zoo.0001.one")]

    assert migrate(url, lineages=lineages) == [*OWN, "zoo.0001.one", "zoo.0002.two"]
    assert status(url, lineages=lineages).pending == ()
    assert rollback(url, lineages=lineages, extension="zoo") == ["zoo.0002.two"]
    assert rollback(url, lineages=lineages, extension="zoo", to="0000") == ["zoo.0001.one"]
    assert status(url, lineages=lineages).applied == tuple(OWN)


def test_what_an_extension_depends_on_is_not_taken_from_under_it(
    thea_new_database: NewDatabase, tmp_path: Path
) -> None:
    url = thea_new_database(migrated=False).migrator_url
    lineages = [lineage(tmp_path, "zoo", f"0001.one {OWN[-1]}")]
    migrate(url, lineages=lineages)

    with pytest.raises(MigrationError, match=f"{OWN[-1]} is what zoo.0001.one depends on") as refused:
        rollback(url, lineages=lineages)

    assert "--extension zoo" in str(refused.value)
    assert status(url, lineages=lineages).pending == ()


def test_a_later_migration_of_the_library_applies_under_an_installed_extension(
    thea_new_database: NewDatabase, tmp_path: Path
) -> None:
    url = thea_new_database().migrator_url
    lineages = [lineage(tmp_path, "zoo", f"0001.one {OWN[2]}")]
    migrate(url, lineages=lineages)
    newer = tmp_path / "own"
    newer.mkdir()
    for path in migrations_dir().glob("*.sql"):
        (newer / path.name).write_bytes(path.read_bytes())
    (newer / "0099.later.sql").write_text("create table public.later (id bigint);\n")

    assert migrate(url, newer, lineages=lineages) == ["0099.later"]


def test_an_extension_that_was_taken_away_is_told_and_stops_nothing(
    thea_new_database: NewDatabase, tmp_path: Path
) -> None:
    url = thea_new_database().migrator_url
    migrate(url, lineages=[lineage(tmp_path, "zoo", "0001.one")])

    state = status(url)

    assert (state.strangers, state.problems, state.pending) == (("zoo.0001.one",), (), ())
    assert migrate(url) == []


def test_an_edited_file_of_an_extension_is_noticed(thea_new_database: NewDatabase, tmp_path: Path) -> None:
    url = thea_new_database().migrator_url
    lineages = [lineage(tmp_path, "zoo", "0001.one")]
    migrate(url, lineages=lineages)
    lineages[0].directory.joinpath("zoo.0001.one.sql").write_text("create table public.other (id bigint);\n")

    with pytest.raises(MigrationError, match=r"zoo\.0001\.one was edited after it was applied"):
        migrate(url, lineages=lineages)


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        (["0001.one", "0002.two"], "does not depend on zoo.0001.one, the one before it"),
        (["0001.one nowhere.0001.x"], "of the extension nowhere; is it installed?"),
        (["0001.one 0001.tenanci"], "0001.tenanci, which is no earlier migration"),
        (["0001.one zoo.0001.one"], "the order is that of the numbers"),
        (["0001.one users"], "give its full id"),
    ],
)
def test_a_wrong_dependency_is_named_with_its_line(tmp_path: Path, files: list[str], complaint: str) -> None:
    with pytest.raises(MigrationError) as refused:
        available(lineages=[lineage(tmp_path, "zoo", *files)])

    assert complaint in str(refused.value)
    assert ".sql:1: " in str(refused.value)


def test_lineages_that_wait_for_each_other_are_named(tmp_path: Path) -> None:
    circle = [
        lineage(tmp_path, "zoo", "0001.one", "0002.two zoo.0001.one ark.0001.one"),
        lineage(tmp_path, "ark", "0001.one zoo.0002.two"),
    ]

    with pytest.raises(MigrationError, match=r"ark\.0001\.one, zoo\.0002\.two wait for each other"):
        available(lineages=circle)


def test_a_file_of_another_lineage_is_refused(tmp_path: Path) -> None:
    zoo = lineage(tmp_path, "zoo", "0001.one")
    zoo.directory.joinpath("ark.0002.two.sql").write_text("select 1;\n")

    with pytest.raises(MigrationError, match=r"rename it to zoo\.NNNN\.name\.sql"):
        available(lineages=[zoo])


def test_plain_yoyo_applies_both_sources_in_the_same_order(thea_new_database: NewDatabase, tmp_path: Path) -> None:
    database = thea_new_database(migrated=False)
    zoo = lineage(tmp_path, "zoo", f"0001.one {OWN[-1]}", "0002.two zoo.0001.one")
    url = DatabaseUrl.parse(database.migrator_url).render().replace("postgresql://", "postgresql+psycopg://")
    yoyo = [sys.executable, "-m", "yoyo", "apply", "--batch", "--database", url]
    subprocess.run([*yoyo, str(migrations_dir()), str(zoo.directory)], check=True, capture_output=True, cwd=tmp_path)

    state = status(database.migrator_url, lineages=[zoo])

    assert (state.pending, state.problems) == ((), ())
    with psycopg.connect(database.migrator_url) as connection:
        order = connection.execute("select migration_id from _yoyo_migration order by applied_at_utc, migration_id")
        assert [row[0] for row in order] == [*OWN, "zoo.0001.one", "zoo.0002.two"]


def test_an_extension_that_is_not_there_cannot_be_rolled_back(thea_new_database: NewDatabase) -> None:
    with pytest.raises(InvalidArgumentError, match="there is no extension 'zoo' here"):
        rollback(thea_new_database().migrator_url, extension="zoo")
