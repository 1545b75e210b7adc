"""Breaks the package at random, one place at a time in a copy, where the tests of that part must notice it.

    python tools/mutation.py [--minutes 10] [--seed 1] [--count 100] [word …]

The places are those where cosmic-ray can change an operator, a comparison, a condition, a number or a call of `not`.
Only the parts below are broken: those that hold a promise and have tests of their own that take seconds. It prints
each change that no test noticed, and at the end the share that was noticed; the exit status is 1 when one was not.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cosmic_ray import plugins
from cosmic_ray.ast import Visitor, get_ast
from cosmic_ray.mutating import mutate_code

ROOT = Path(__file__).parent.parent
COPIED = ["thea_store", "sql", "migrations", "tests", "tools", "released", "pyproject.toml"]

PARTS: dict[str, list[str]] = {
    "thea_store/postgres/session.py": ["tests/verification/test_session_settings.py"],
    "thea_store/verification/login.py": ["tests/verification/test_logins.py"],
    "thea_store/migrator/losses.py": ["tests/migrator/test_losses.py"],
    "thea_store/migrator/plan.py": ["tests/migrator/test_runner.py"],
    "thea_store/migrator/backend.py": ["tests/migrator/test_losses.py", "tests/migrator/test_runner.py"],
    "thea_store/admin/doctor/shipped.py": ["tests/admin/test_mistakes.py"],
    "thea_store/admin/doctor/sequences.py": ["tests/admin/test_mistakes.py"],
    "thea_store/queries/arguments.py": ["tests/queries/test_arguments.py", "tests/hostile/test_tenants.py"],
    "thea_store/queries/binding.py": ["tests/queries", "tests/repositories/test_repositories.py"],
    "thea_store/repositories/cursors.py": ["tests/repositories/test_cursors.py"],
    "thea_store/database/failures.py": ["tests/database/test_failures.py", "tests/secrets/test_secrets.py"],
    "thea_store/assistant/recurrence/rule.py": ["tests/assistant/test_recurrence.py"],
}
"""Each part, and the tests that concern it."""

TIMEOUT = 240.0


class Mutant(NamedTuple):
    """One change: the file, cosmic-ray's name of the operator, and which of the places it finds."""

    file: str
    operator: str
    place: int


class _Places(Visitor):  # type: ignore[misc]  # its base has no types
    """Counts the places where an operator can change something."""

    def __init__(self, operator: Any) -> None:
        self.operator, self.count = operator, 0

    def visit(self, node: Any) -> Any:
        self.count += sum(1 for _ in self.operator.mutation_positions(node))
        return node


def mutants(words: Sequence[str]) -> list[Mutant]:
    """All changes that can be made in the parts whose name contains one of the words."""
    found = []
    for file in PARTS:
        if words and not any(word in file for word in words):
            continue
        tree = get_ast((ROOT / file).read_text())
        for name in sorted(plugins.operator_names()):
            if "Variable" in name:
                continue  # needs to be told which one
            if "Binary" in name and not name.endswith("Add_Sub"):
                continue  # a dozen for each sum, of which one says as much; most others are of annotations alone
            counting = _Places(plugins.get_operator(name)())
            counting.walk(tree)
            found += [Mutant(file, name, place) for place in range(counting.count)]
    return found


def outcome(mutant: Mutant, directory: Path) -> str:
    """`noticed`, `unnoticed` or `impossible` (the change cannot be made)."""
    path = directory / mutant.file
    text = path.read_text()
    changed = mutate_code(text, plugins.get_operator(mutant.operator)(), mutant.place)
    if changed is None or changed == text:
        return "impossible"
    path.write_text(changed)
    try:
        return "noticed" if _fails(mutant, directory) else "unnoticed"
    finally:
        path.write_text(text)


def _fails(mutant: Mutant, directory: Path) -> bool:
    environment = os.environ | {"PYTHONPATH": str(directory), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.setdefault("THEA_TEST_SERVER", "embedded")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--tb=no", "-p", "no:cacheprovider", *PARTS[mutant.file]]
    try:
        done = subprocess.run(
            command, cwd=directory, env=environment, capture_output=True, check=False, timeout=TIMEOUT
        )
    except subprocess.TimeoutExpired:
        return True  # it hangs
    return done.returncode != 0


def main() -> int:
    """Try mutants at random until the time or the number is used up."""
    reader = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    reader.add_argument("words", nargs="*")
    reader.add_argument("--minutes", type=float, default=10)
    reader.add_argument("--seed", type=int, default=1)
    reader.add_argument("--count", type=int, default=100)
    options = reader.parse_args()
    chosen = mutants(options.words)
    random.Random(options.seed).shuffle(chosen)
    until = time.monotonic() + options.minutes * 60
    counted: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as directory:
        for name in COPIED:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, Path(directory, name))
        for mutant in chosen:
            if time.monotonic() > until or counted["noticed"] + counted["unnoticed"] >= options.count:
                break
            told = outcome(mutant, Path(directory))
            counted[told] += 1
            print(f"{told:<11} {mutant.file} {mutant.operator} {mutant.place}", flush=True)
    tried = counted["noticed"] + counted["unnoticed"]
    print(f"{counted['noticed']} of {tried} changes were noticed (of {len(chosen)} that could be made)")
    return 1 if counted["unnoticed"] else 0


if __name__ == "__main__":
    sys.exit(main())
