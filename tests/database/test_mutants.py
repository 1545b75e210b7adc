"""The deliberate defects of the pool, which `make pool-mutants` tries: each fits the code, and is another one."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.pool_mutants import ROOT, Defect, defects

DEFECTS = defects()


@pytest.mark.slow
@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
@pytest.mark.skipif(shutil.which("git") is None, reason="applies a diff with git")
def test_a_defect_can_be_put_into_the_code_and_names_what_exists(defect: Defect, tmp_path: Path) -> None:
    """One that is no Python, or names nothing, fails for that, and so shows nothing of the suites."""
    shutil.copytree(ROOT / "thea_store", tmp_path / "thea_store", ignore=shutil.ignore_patterns("__pycache__", "_data"))
    defect.apply(tmp_path)
    checked = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--select=F821,F823", "thea_store"]
    found = subprocess.run(checked, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert found.returncode == 0, found.stdout


def test_there_are_defects_to_try_each_of_another_kind() -> None:
    changes = [
        [line for line in defect.diff.read_text().splitlines()[1:] if line and not line.startswith("@@")]
        for defect in DEFECTS
        if defect.diff is not None
    ]

    assert len(changes) >= 70
    assert [change for change in changes if changes.count(change) > 1] == []
