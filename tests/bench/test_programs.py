"""Every program of bench/ runs to its end on the smallest sizes; what it measures then says nothing."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
BENCH, FIGURES = ROOT / "bench", ROOT / "docs" / "figures"
OF_ANOTHER_KIND = {
    "capacity",  # computes with what another one measured
    "delay",  # a proxy that others start
    "plots",  # draws what others measured
}


def programs() -> list[str]:
    return sorted(path.stem for path in BENCH.glob("*.py") if "__main__" in path.read_text())


def run(program: str, *arguments: str) -> str:
    """What it prints."""
    command = [sys.executable, str(BENCH / f"{program}.py"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("program", [each for each in programs() if each not in OF_ANOTHER_KIND])
def test_a_benchmark_runs(program: str) -> None:
    assert any(letter.isdigit() for letter in run(program, "--smoke"))


def test_the_model_of_capacity_reads_what_a_turn_cost(tmp_path: Path) -> None:
    turn = tmp_path / "turn.json"
    turn.write_text(run("turn", "--smoke", "--json"))

    assert "| one primary |" in run("capacity", str(turn))


def test_each_picture_is_drawn_of_the_figures_beside_it(tmp_path: Path) -> None:
    shutil.copy(FIGURES / "scale.json", tmp_path)

    assert "tasks.json is not there: run bench/tasks.py --json" in run("plots", str(tmp_path))
    drawn, kept = ((each / "scale.svg").read_text() for each in (tmp_path, FIGURES))
    texts = re.findall(r">([^<>]+)</text>", kept)
    assert "notes.count" in texts
    assert re.findall(r">([^<>]+)</text>", drawn) == texts


def test_what_is_no_benchmark_is_a_program_too() -> None:
    assert set(programs()) >= OF_ANOTHER_KIND
