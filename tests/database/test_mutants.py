"""The deliberate defects of the pool, which `make pool-mutants` tries: each still fits the code."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tools.pool_mutants import ROOT, defects

DEFECTS = defects()


@pytest.mark.slow
@pytest.mark.parametrize("defect", DEFECTS, ids=lambda defect: defect.name)
@pytest.mark.skipif(shutil.which("git") is None, reason="applies a diff with git")
def test_a_defect_can_be_put_into_the_code(defect: object, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "thea_store", tmp_path / "thea_store", ignore=shutil.ignore_patterns("__pycache__", "_data"))
    for one in DEFECTS:
        if one is defect:
            one.apply(tmp_path)


def test_there_are_defects_to_try() -> None:
    assert len(DEFECTS) >= 70
