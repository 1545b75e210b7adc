"""Tries each defect of `pool_mutants/` in a copy of the package, where one of the suites must notice it.

    python tools/pool_mutants.py [word …]     only the defects whose name contains one of the words

A defect is a unified diff that `git apply` takes. Its name says what is wrong, and its first line what comes of it.
Prints which suite was the first to notice each; the exit status is 1 when one passes unnoticed, or cannot be applied
any more.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
DEFECTS = Path(__file__).with_name("pool_mutants")
COPIED = ["thea_store", "sql", "migrations", "tests", "tools", "released", "pyproject.toml"]
# The next one is asked where none before it noticed anything.
SUITES = [
    "tests/database/test_pool.py",
    "tests/database/test_transactions.py",
    "tests/database/test_one_message.py",
    "tests/database/test_one_plan.py",
    "tests/database/test_acting.py",
    "tests/database/test_replicas.py",
    "tests/database/test_cut_short.py",
    "tests/database/test_origin.py",
    "tests/database/test_silence.py",
    "tests/cancellation/test_opening_and_closing_cut_short.py",
    "tests/cancellation/test_cancellation.py",
    "tests/interleaving/test_interleaving.py",
    "tests/cancellation/test_cancellation_everywhere.py",
    "tests/interleaving/test_interleaving_long.py",
]
QUICK = SUITES[:12]
PYTEST = [
    sys.executable,
    "-m",
    "pytest",
    "-q",
    "-x",
    "--tb=line",
    "-p",
    "no:cacheprovider",
    "-m",
    "",
    "--hypothesis-profile=unshrunk",
]
SUMMARY = re.compile(r"^(?:FAILED|ERROR) \S+?::(.+?)(?: - (.*))?$", re.MULTILINE)
PASSED, FAILED = 0, 1


@dataclass(frozen=True, slots=True)
class Defect:
    """What somebody might write, as a diff of the package."""

    name: str
    diff: Path | None = None

    def apply(self, place: Path) -> None:
        """Put it into the copy there; ends the program where it no longer fits."""
        if self.diff is None:
            return
        # What is no repository of its own would be looked for in the directories above.
        environment = dict(os.environ, GIT_CEILING_DIRECTORIES=str(place.parent))
        command = ["git", "apply", str(self.diff)]
        done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{self.diff.name} no longer fits:\n{done.stderr}")


def defects() -> list[Defect]:
    """Those of the directory, by name."""
    return [Defect(diff.stem.replace("-", " "), diff) for diff in sorted(DEFECTS.glob("*.diff"))]


@contextmanager
def copied(defect: Defect) -> Iterator[Path]:
    """A directory with what the suites need, and the defect."""
    with tempfile.TemporaryDirectory() as directory:
        for source in (ROOT / name for name in COPIED):
            if source.is_dir():
                shutil.copytree(source, Path(directory, source.name), ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copy(source, directory)
        defect.apply(Path(directory))
        yield Path(directory)


def judge(defect: Defect, suites: Sequence[str] = SUITES) -> str | None:
    """The first suite that notices the defect, and what it says; or `None`."""
    environment = dict(os.environ, COLUMNS="250")
    environment.setdefault("THEA_TEST_SERVER", "embedded")
    with copied(defect) as place:

        def run(*command: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                command, cwd=place, env=environment, capture_output=True, text=True, check=False, timeout=1800
            )

        package = run(sys.executable, "-c", "import thea_store; print(thea_store.__file__)").stdout
        assert Path(package).is_relative_to(place), f"the suites would run on {package}"
        for suite in suites:
            result = run(*PYTEST, suite)
            failure = SUMMARY.search(result.stdout)
            if result.returncode == FAILED and failure:
                return f"{suite}: {failure[2] or failure[1]}"
            if result.returncode != PASSED:
                raise SystemExit(f"{defect.name}: {suite} did not run:\n{(result.stdout + result.stderr)[-2000:]}")
    return None


def main(words: list[str]) -> int:
    """Judge all of them, two at a time; the exit status."""
    wanted = [each for each in defects() if not words or any(word.lower() in each.name for word in words)]
    if by := judge(Defect("none"), QUICK):
        print(f"This fails without any defect: {by}")
        return 1
    missed, started = 0, time.monotonic()
    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        for defect, by in zip(wanted, pool.map(judge, wanted), strict=True):
            missed += by is None
            print(f"{'caught' if by else 'MISSED'} {defect.name:<57} {by or ''}"[:170], flush=True)
    print(f"\n{len(wanted) - missed} of {len(wanted)} defects were caught ({time.monotonic() - started:.0f} s).")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
