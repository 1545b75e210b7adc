"""Tries each of `pool_defects.txt` in a copy of the package, where one of the suites must notice it.

    python tools/pool_mutants.py [word …]     only the defects whose name contains one of the words

Prints which suite was the first to notice each; the exit status is 1 when one passes unnoticed, or cannot be
applied any more.
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
DEFECTS = Path(__file__).with_name("pool_defects.txt")
COPIED = ["thea_store", "sql", "migrations", "tests", "tools", "released", "pyproject.toml"]
# The next one is asked where none before it noticed anything.
SUITES = [
    "tests/database/test_pool.py",
    "tests/database/test_transactions.py",
    "tests/database/test_cut_short.py",
    "tests/cancellation/test_opening_and_closing_cut_short.py",
    "tests/cancellation/test_cancellation.py",
    "tests/interleaving/test_interleaving.py",
    "tests/cancellation/test_cancellation_everywhere.py",
    "tests/interleaving/test_interleaving_long.py",
]
QUICK = SUITES[:6]
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
    """What somebody might write: in these files, a text that is there and what takes its place."""

    name: str
    changes: tuple[tuple[str, str, str], ...] = ()

    def apply(self, package: Path) -> None:
        for file, old, new in self.changes:
            text = (package / file).read_text()
            if text.count(old) != 1:
                raise SystemExit(f"`{self.name}` no longer fits {file}: {text.count(old)} places for\n{old}")
            (package / file).write_text(text.replace(old, new))


def defects() -> Iterator[Defect]:
    """Those of the file."""
    for block in DEFECTS.read_text().split("\n== ")[1:]:
        title, *patches = block.split("\n@@ ")
        yield Defect(title.splitlines()[0], tuple(map(_change, patches)))


def _change(patch: str) -> tuple[str, str, str]:
    file, *lines = patch.rstrip("\n").splitlines()
    old = "".join(f"{line[1:]}\n" for line in lines if line[:1] != "+")
    new = "".join(f"{line[1:]}\n" for line in lines if line[:1] != "-")
    return file, old, new


@contextmanager
def copied(defect: Defect) -> Iterator[Path]:
    """A directory with what the suites need, and the defect."""
    with tempfile.TemporaryDirectory() as directory:
        for source in (ROOT / name for name in COPIED):
            if source.is_dir():
                shutil.copytree(source, Path(directory, source.name), ignore=shutil.ignore_patterns("__pycache__"))
            elif source.exists():
                shutil.copy(source, directory)
        defect.apply(Path(directory, "thea_store"))
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
    wanted = [each for each in defects() if not words or any(word in each.name for word in words)]
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
