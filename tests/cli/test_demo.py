from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from tests.support.exports import ANA, BEN, chat, said, written
from thea_store import ExportFileError
from thea_store.cli import demo


async def played(file: Path | None = None, width: int = 80) -> str:
    """What the demonstration prints."""
    output = io.StringIO()
    await demo.run(file, Console(file=output, width=width, highlight=False))
    return output.getvalue()


def test_the_demonstration_runs_as_a_command_and_ends_soon() -> None:
    environment = {**os.environ, "COLUMNS": "60", "DATABASE_REPLICA_URL": "postgresql://nobody@127.0.0.1:1/none"}
    began = time.monotonic()
    shown = subprocess.run(
        [sys.executable, "-m", "thea_store", "demo"],
        env=environment,
        capture_output=True,
        encoding="utf-8",
        check=False,
        timeout=60,
    )

    assert (shown.returncode, shown.stderr) == (0, "")
    assert time.monotonic() - began < 10
    assert "\x1b" not in shown.stdout
    assert max(map(cell_len, shown.stdout.splitlines())) <= 60


async def test_the_demonstration_shows_what_it_says() -> None:
    text = await played()

    assert "51 messages became 25 exchanges: 1 user, 1 conversation" in text
    assert "The same file once more: 0 new, 25 there." in text
    assert "idle → awaiting_note · intent create_note (0.94)" in text
    assert '{"role": "assistant", "content": "Claro. ¿Qué anoto?"}' in text
    assert "ConflictError: the conversation is no longer in the expected state" in text
    assert "won, the state is" in text
    assert "within  29 messages, state deleting_notes" in text
    assert "after   28 messages, state idle" in text


async def test_the_neighbour_gets_nothing_by_any_way() -> None:
    lines = [line.strip() for line in (await played()).partition("The neighbour")[2].splitlines()]
    answers = dict(line.rsplit("  ", 1) for line in lines if "  " in line)

    assert {
        asked.strip(): answer for asked, answer in answers.items() if "globex" in asked or "no tenant" in asked
    } == {
        "conversations.get_by_id('globex', 1)": "None",
        "messages.get_context_window('globex', …)": "[]",
        "no tenant": "0",
        "tenant globex": "refused: new row violates row-level security policy for table",
    }
    assert "tenant globex  0" in lines
    assert "tenant acme    28" in lines


async def test_a_file_of_ones_own_takes_the_samples_place(tmp_path: Path) -> None:
    talk = chat(said(1, ANA, "hola [b]"), said(2, BEN, "buenas"), id_=BEN, kind="personal_chat")
    text = await played(written(tmp_path / "result.json", talk), width=200)

    assert "2 messages became 2 exchanges: 2 users, 2 conversations" in text
    assert "Ben  buenas" in text
    assert "Your own chat" not in text


async def test_a_chat_in_which_nobody_wrote_does_not_stop_it(tmp_path: Path) -> None:
    text = await played(written(tmp_path / "result.json", chat()))

    assert "Nobody says a word in it, so Ana steps in." in text
    assert "after   3 messages, state idle" in text


async def test_a_file_that_cannot_be_read_ends_it(tmp_path: Path) -> None:
    with pytest.raises(ExportFileError):
        await played(tmp_path / "none.json")
