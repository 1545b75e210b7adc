"""Processes of the last release can go on working on the newest schema: every query of theirs still fits it.

`manifests.py` and `promises.py` have the rules; here they are held against the migrations of this checkout, and
against schemas that break them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from thea_store import __version__
from thea_store.admin.manifest import Manifest, Promise, broken, edited
from thea_store.migrator import available
from thea_store.testing import TestDatabase
from tools.manifest import known, of_this_checkout, out, still_served, write

MANIFESTS = {manifest.version: manifest for manifest in known()}
SERVED = [*still_served(MANIFESTS, __version__), __version__]
CHECKSUMS = {migration.id: migration.checksum for migration in available()}
WRITE_IT = (
    f"released/{__version__}.json is not what the code does: `make release-manifest` writes it anew "
    "(where CHANGELOG.md has this version, set the next __version__ first)"
)


def test_the_manifest_of_this_version_says_what_the_code_does(thea_database: TestDatabase) -> None:
    now, said = of_this_checkout(thea_database.app_url), MANIFESTS[__version__]
    names = now.queries.keys() | said.queries.keys()

    assert now.migrations == said.migrations, WRITE_IT
    assert [name for name in sorted(names) if now.queries.get(name) != said.queries.get(name)] == [], WRITE_IT


def test_every_version_that_is_out_has_its_manifest() -> None:
    assert out() - MANIFESTS.keys() == set()


@pytest.mark.parametrize("version", SERVED)
def test_every_query_of_a_served_version_fits_the_newest_schema(thea_database: TestDatabase, version: str) -> None:
    assert len(MANIFESTS[version].queries) > 50
    assert broken(MANIFESTS[version], thea_database.app_url) == []


@pytest.mark.parametrize("version", SERVED)
def test_no_migration_of_a_served_version_was_edited(version: str) -> None:
    assert edited(MANIFESTS[version], CHECKSUMS) == []


# --- the rules ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            "alter table thea.users rename column username to nickname",
            'users.get_by_id of {0}: the server refuses it: column "username" does not exist',
        ),
        (
            "alter table thea.users rename column tenant_id to tenant",
            'notes.create_many of {0}: the server refuses it: column "tenant_id" does not exist',
        ),
        (
            "drop table thea.notes",
            'notes.get_by_id of {0}: the server refuses it: relation "thea.notes" does not exist',
        ),
        (
            "drop function thea.tagged_notes",
            "notes.get_by_tags of {0}: the server refuses it: function thea.tagged_notes(",
        ),
        (
            "alter table thea.conversations alter column last_message_id type numeric",
            "conversations.get_by_id of {0}: the column last_message_id was bigint, and is numeric",
        ),
        (
            "alter table thea.users alter column telegram_id type numeric",
            "users.get_by_telegram_id of {0}: the parameter :telegram_id was bigint, and is numeric",
        ),
        (
            "alter table thea.users alter column timezone drop not null",
            "users.get_by_id of {0}: the column timezone was never null, and can be null",
        ),
        (
            "alter table thea.users add column age bigint not null",
            "users.create_many of {0}: the column thea.users.age must be given by now, which it does not",
        ),
        (
            "revoke update (preferences) on thea.users from thea_app",
            "users.merge_preferences of {0}: a service may not run it: permission denied for table users",
        ),
        (
            "revoke execute on function thea.tagged_notes from thea_app",
            "notes.get_by_tags of {0}: a service may not run it: permission denied for function tagged_notes",
        ),
    ],
)
def test_a_schema_that_breaks_a_promise_is_told_by_query_and_column(
    thea_new_database: Callable[..., TestDatabase], change: str, sentence: str
) -> None:
    database = thea_new_database()
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        connection.execute(change.encode())

    told = broken(MANIFESTS[__version__], database.app_url)
    assert any(each.startswith(sentence.format(__version__)) for each in told), told


def test_columns_that_come_and_go_with_the_schema_are_told(thea_database: TestDatabase) -> None:
    query = Promise(sql=["table thea.audit_log"], parameters={}, columns={"tenant_id": "text not null"})
    (sentence,) = broken(Manifest(version="0.0.1", migrations={}, queries={"all": query}), thea_database.app_url)

    assert sentence.startswith("all of 0.0.1: its columns were tenant_id, and are tenant_id, id, at, actor, ")


def test_a_schema_that_only_grows_breaks_nothing(thea_new_database: Callable[..., TestDatabase]) -> None:
    database = thea_new_database()
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        connection.execute(
            "alter table thea.users add column nickname text, add column rank bigint not null default 0;"
            "create index on thea.users (tenant_id, nickname);"
            "alter table thea.notes alter column title set default '';"
            "create table thea.more (tenant_id text not null, id bigint not null);"
        )

    assert broken(MANIFESTS[__version__], database.app_url) == []


def test_a_released_migration_that_was_edited_or_is_gone_is_told() -> None:
    manifest = Manifest(version="0.0.1", migrations={"0001.a": "1", "0002.b": "2", "0003.c": "3"}, queries={})

    assert [sentence.split(",")[0] for sentence in edited(manifest, {"0001.a": "1", "0003.c": "4", "0004.d": "5"})] == [
        "the migration 0002.b is gone",
        "the migration 0003.c was edited",
    ]


@pytest.mark.parametrize(
    ("current", "served"),
    [
        ("0.1.0", []),
        ("0.1.1", ["0.1.0"]),
        ("0.2.0", ["0.1.1"]),
        ("1.0.0", ["0.2.0"]),
        ("1.10.1", ["1.0.0", "1.9.0", "1.10.0"]),
        ("2.0.0", ["1.10.0"]),
    ],
)
def test_the_versions_of_a_line_and_the_last_before_it_are_served(current: str, served: list[str]) -> None:
    versions = ["1.10.0", "0.1.0", "0.1.1", "0.2.0", "1.0.0", "1.9.0", "2.0.0", "3.0.0"]

    assert still_served(versions, current) == served


def test_a_manifest_is_written_anew_until_its_version_is_out(tmp_path: Path) -> None:
    changelog = tmp_path / "CHANGELOG.md"
    changelog.write_text("## [Unreleased]\n\n## [0.0.9] - 2026-01-01\n")
    first = Manifest(version="0.0.10", migrations={}, queries={})
    second = first.model_copy(update={"migrations": {"0001.a": "1"}})
    write(first, tmp_path, changelog)
    write(second, tmp_path, changelog)
    assert known(tmp_path) == [second]

    changelog.write_text("## [Unreleased]\n\n## [0.0.10] - 2026-02-01\n\n## [0.0.9] - 2026-01-01\n")
    write(second, tmp_path, changelog)
    with pytest.raises(ValueError, match=r"0\.0\.10\.json is released, and so never changed"):
        write(first, tmp_path, changelog)
    assert known(tmp_path) == [second]
