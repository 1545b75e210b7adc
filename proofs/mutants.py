"""Applies each weakening to fresh databases and runs the isolation suites, which must fail each time.

    python proofs/mutants.py [word …]     only the weakenings whose name contains one of the words

Prints a table of what noticed each; the exit status is 1 when one passes unnoticed, or cannot be applied.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from weakenings import WEAKENINGS

ROOT = Path(__file__).parent.parent
SUITES = [*sorted(ROOT.glob("tests/test_attacks_*.py")), ROOT / "tests/test_two_locks.py"]
PYTEST = [sys.executable, "-m", "pytest", "-q", "-x", "--tb=line", "-p", "no:cacheprovider"]
SUMMARY = re.compile(r"^(?:FAILED|ERROR) (?:tests/)?(\S+\.py(?:::\S+)?)", re.MULTILINE)
PASSED, FAILED = 0, 1


@dataclass(frozen=True, slots=True)
class Verdict:
    """How the suites ended."""

    status: int
    by: str
    seconds: float


def judge(number: int | None) -> Verdict:
    """Run the suites with a weakening, or with none."""
    environment = dict(os.environ, PYTHONPATH=str(ROOT / "proofs"))
    environment.setdefault("THEA_TEST_SERVER", "embedded")
    plugin = []
    if number is not None:
        environment["THEA_WEAKENING"] = str(number)
        plugin = ["-p", "weakened"]
    started = time.monotonic()
    run = subprocess.run(
        [*PYTEST, *plugin, *SUITES], cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    noticed = SUMMARY.search(run.stdout)
    by = noticed[1] if noticed else (run.stdout + run.stderr).strip()[-300:]
    return Verdict(run.returncode, by, time.monotonic() - started)


def main(words: list[str]) -> int:
    """Judge all of them, two at a time; the exit status."""
    wanted = [n for n, each in enumerate(WEAKENINGS) if not words or any(word in each.name for word in words)]
    sound = judge(None)
    if sound.status != PASSED:
        print(f"The suites fail without any weakening: {sound.by}")
        return 1
    print(f"The suites pass without a weakening ({sound.seconds:.0f} s). With one:\n")
    survivors = 0
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for number, verdict in zip(wanted, pool.map(judge, wanted), strict=True):
            noticed = verdict.status == FAILED
            survivors += not noticed
            mark = "caught " if noticed else "MISSED "
            print(f"{mark} {WEAKENINGS[number].name:<60} {verdict.by} ({verdict.seconds:.0f} s)", flush=True)
    print(f"\n{len(wanted) - survivors} of {len(wanted)} weakenings were caught.")
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
