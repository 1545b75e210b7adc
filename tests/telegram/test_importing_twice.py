"""An import into growing tables, and the same import again, read each row a few times, whatever the statistics say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg
import pytest

from thea_store import Settings, Store
from thea_store.telegram.importer import TelegramImport
from thea_store.testing import TestDatabase

MESSAGES = 4000
TABLES = ("users", "conversations", "message_history")


def export(path: Path, messages: int, people: int) -> Path:
    """A group in which these many people wrote by turns."""
    written = [
        {
            "id": number + 1,
            "type": "message",
            "date_unixtime": str(1_700_000_000 + number),
            "from": "Ana",
            "from_id": f"user{1000 + number * 7 % people}",
            "text": f"mensaje {number}",
        }
        for number in range(messages)
    ]
    path.write_text(json.dumps({"name": "Grupo", "type": "private_group", "id": 77, "messages": written}))
    return path


def pages_read(superuser: psycopg.Connection[Any]) -> int:
    """How often a page of the tables was looked at, also for foreign keys; connections report it when they end."""
    found = superuser.execute(
        "select sum(heap_blks_hit + heap_blks_read)::bigint from pg_statio_user_tables where schemaname = 'thea'"
        " and relname = any(%s)",
        [list(TABLES)],
    ).fetchone()
    assert found is not None
    return int(found[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("people", "analyzed"), [(1, "of one message"), (2000, "never"), (2000, "of one message"), (2000, "in the middle")]
)
async def test_an_import_reads_no_more_for_each_row_as_the_tables_grow(
    thea_new_database: Callable[..., TestDatabase], tmp_path: Path, people: int, analyzed: str
) -> None:
    database = thea_new_database()
    settings = Settings(url=database.app_url, pool_size=1, max_overflow=0, command_timeout=60)
    one, half = export(tmp_path / "one.json", 1, 1), export(tmp_path / "half.json", MESSAGES // 2, people)
    whole = export(tmp_path / "whole.json", MESSAGES, people)
    with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
        for table in TABLES:
            superuser.execute(f"alter table thea.{table} set (autovacuum_enabled = false)".encode())
        # One connection, so that what the server plans for small tables is there when they are large.
        async with Store.open(settings) as store:
            for number in range(8):
                await TelegramImport(store, f"small {number}", one).run()
            if analyzed == "of one message":
                superuser.execute("analyze")
            await TelegramImport(store, "t", half, batch_size=250).run()
            if analyzed == "in the middle":
                superuser.execute("analyze")
            await TelegramImport(store, "t", whole, batch_size=250).run()
            report = await TelegramImport(store, "t", whole, batch_size=250).run()

        assert report.turns["unchanged"] == MESSAGES
        # Half of the rows were given three times, half twice; each time they are looked up with what they hang on.
        assert pages_read(superuser) < 100 * MESSAGES
