"""The page of capacity says what the program says for the committed figures."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FIGURES = ROOT / "docs" / "figures" / "turn.json"


def part(name: str) -> str:
    """The table below this mark of the page."""
    found = re.search(rf"<!-- {name} -->\n\n((?:\|.*\n)+)", (ROOT / "docs" / "capacity.md").read_text())
    assert found is not None
    return found[1]


def test_what_a_turn_costs_is_what_the_figures_say() -> None:
    rows = [
        f"| {each['contender']} | {each['client_us'] / 1000:.2f} | {each['server_us'] / 1000:.2f} "
        f"| {each['wal_bytes'] / 1000:.1f} | {each['stored_bytes'] / 1000:.1f} |\n"
        for each in json.loads(FIGURES.read_text())["turns"]
        if (each["loop"], each["delay_ms"]) == ("asyncio", 0)
    ]

    assert len(rows) == 3
    assert part("turn").splitlines(keepends=True)[2:] == rows


def test_what_it_carries_is_what_the_program_says() -> None:
    command: list[str | Path] = [sys.executable, ROOT / "bench" / "capacity.py", FIGURES]

    assert part("capacity") == subprocess.run(command, capture_output=True, text=True, check=True).stdout
