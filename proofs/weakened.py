"""A plugin for pytest (`-p weakened`) that weakens every migrated database, or one query, before the tests see it.

`THEA_WEAKENING` is the number of the weakening in `weakenings.WEAKENINGS`.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

import psycopg
import pytest
from weakenings import WEAKENINGS, Weakening

from thea_store.store import SQL_FILES
from thea_store.testing import TestDatabase, TestServer

NOT_WEAKENED = 99
"""The exit status when the weakening itself fails, which must not pass for its being noticed."""

_new_database = TestServer.new_database


def _weaken_schema(weakening: Weakening) -> None:
    def new_database(self: TestServer, resources: ExitStack, *, migrated: bool = True) -> TestDatabase:
        database = _new_database(self, resources, migrated=migrated)
        if migrated:
            try:
                with psycopg.connect(database.superuser_url, autocommit=True) as connection:
                    connection.execute(weakening.sql.encode())
            except psycopg.Error as error:
                pytest.exit(f"{weakening.name}: {error}", returncode=NOT_WEAKENED)
        return database

    TestServer.new_database = new_database  # type: ignore[method-assign]


def _weaken_query(weakening: Weakening) -> None:
    for query in [query for file in SQL_FILES for query in file.claimed if query.name == weakening.query]:
        if weakening.old in query.text:
            object.__setattr__(query, "text", query.text.replace(weakening.old, weakening.new))
            return
    pytest.exit(f"{weakening.name}: there is nothing to weaken in {weakening.query}", returncode=NOT_WEAKENED)


def _weaken() -> None:
    weakening = WEAKENINGS[int(os.environ["THEA_WEAKENING"])]
    (_weaken_query if weakening.query else _weaken_schema)(weakening)


_weaken()
