"""The nightly run: every part that the Makefile calls nightly, each told by its time and result."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / ".ci" / "nightly"


def test_every_target_that_is_nightly_is_a_part_of_it() -> None:
    marked = re.findall(r"^([a-z-]+):.*## .*\(nightly\b", (ROOT / "Makefile").read_text(), re.MULTILINE)
    [parts] = re.findall(r"^all=\((.*)\)$", SCRIPT.read_text(), re.MULTILINE)

    assert marked
    assert sorted(parts.split()) == sorted(marked)


def test_a_part_that_fails_stops_no_other_and_is_told_with_what_was_skipped(tmp_path: Path) -> None:
    (tmp_path / ".ci").mkdir()
    for each in (SCRIPT, SCRIPT.with_name("engine")):
        shutil.copy(each, tmp_path / ".ci")
    (tmp_path / "Makefile").write_text(
        "broken:\n\t@exit 3\nsound:\n\t@echo fine$(ARGS)\nlame:\n\t@echo 'SKIPPED [1] a.py:1: no engine'\n"
    )
    # Without a user's id and a path to apt-get nothing is installed.
    (tmp_path / "id").write_text("#!/bin/sh\necho 1000\n")
    (tmp_path / "id").chmod(0o755)
    command = [str(tmp_path / ".ci" / "nightly"), "broken", "sound", "lame"]
    environment = {"PATH": f"{tmp_path}:/usr/local/bin:/usr/bin:/bin", "ARGS": "-k one", "MAKEFLAGS": " -- ARGS=-k"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 1, done.stderr
    assert "fine\n" in done.stdout
    table = done.stdout.splitlines()[-3:]
    assert [re.sub(r" +\d+ s  ", ": ", line) for line in table] == [
        "broken: FAILED",
        "sound: passed",
        "lame: passed, but skipped some: see above",
    ]
