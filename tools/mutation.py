"""Breaks the package at random, one place at a time in a copy, where the tests of that part must notice it.

    python tools/mutation.py [--minutes 10] [--seed 1] [--count 100] [word …]

The places are those where cosmic-ray can change an operator, a comparison, a condition, a number or a call of `not`.
Only the parts below are broken: those that hold a promise and have tests of their own that take seconds. The tests of
a part must pass while nothing is broken, or it is left out. It prints for each change the test that noticed it, or the
change itself, and at the end the share that was noticed; the exit status is 1 when one was not, or a part was left out.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import unified_diff
from pathlib import Path
from typing import Any, NamedTuple

from cosmic_ray import plugins
from cosmic_ray.ast import Visitor, get_ast
from cosmic_ray.mutating import mutate_code

ROOT = Path(__file__).parent.parent
COPIED = ["thea_store", "sql", "migrations", "tests", "tools", "released", "pyproject.toml", "yoyo.ini"]

ARCHIVE = ["tests/tenancy/test_archive.py", "tests/tenancy/test_move.py"]
MISTAKES = ["tests/admin/test_mistakes.py"]
OPENING = ["tests/verification/test_opening.py"]
TRANSACTIONS = ["tests/database/test_transactions.py", "tests/database/test_acting.py"]
CALLS = [*TRANSACTIONS, "tests/database/test_pool.py", "tests/database/test_silence.py"]
EVENTS = ["tests/assistant/test_events.py"]
RECURRENCE = ["tests/assistant/test_recurrence.py", "tests/assistant/test_recurrence_set.py"]
TELEGRAM = ["tests/telegram/test_importer.py", "tests/telegram/test_turns.py", "tests/telegram/test_export.py"]

PARTS: dict[str, list[str]] = {
    "thea_store/postgres/session.py": ["tests/verification/test_session_settings.py"],
    "thea_store/postgres/url.py": ["tests/postgres", "tests/test_settings.py"],
    "thea_store/postgres/url_options.py": ["tests/postgres", "tests/test_settings.py"],
    "thea_store/postgres/values.py": ["tests/postgres", "tests/repositories/test_every_field.py"],
    "thea_store/queries/arguments.py": ["tests/queries/test_arguments.py", "tests/hostile/test_tenants.py"],
    "thea_store/queries/binding.py": [
        *("tests/queries", "tests/repositories/test_repositories.py", "tests/database/test_event_loop.py"),
    ],
    "thea_store/queries/by_column.py": ["tests/queries/test_by_column.py"],
    "thea_store/queries/folding.py": ["tests/queries"],
    "thea_store/queries/lexer.py": ["tests/queries"],
    "thea_store/queries/parameters.py": ["tests/queries"],
    "thea_store/queries/reading.py": ["tests/repositories/test_repositories.py", "tests/encryption"],
    "thea_store/queries/variants.py": ["tests/queries"],
    "thea_store/migrator/losses.py": ["tests/migrator/test_losses.py"],
    "thea_store/migrator/plan.py": ["tests/migrator/test_runner.py", "tests/migrator/test_lineages.py"],
    "thea_store/migrator/files.py": ["tests/migrator/test_runner.py", "tests/migrator/test_lineages.py"],
    "thea_store/migrator/backend.py": ["tests/migrator/test_losses.py", "tests/migrator/test_runner.py"],
    "thea_store/database/transaction.py": [*TRANSACTIONS, "tests/database/test_cut_short.py"],
    "thea_store/database/database.py": CALLS,
    "thea_store/database/single_call.py": ["tests/database/test_one_message.py", *CALLS],
    "thea_store/database/server.py": CALLS,
    "thea_store/database/retries.py": TRANSACTIONS,
    "thea_store/database/acting.py": TRANSACTIONS,
    "thea_store/database/origin.py": ["tests/database/test_origin.py"],
    "thea_store/database/limits.py": ["tests/tenancy/test_limits_of_calls.py"],
    "thea_store/database/replicas.py": ["tests/database/test_replicas.py"],
    "thea_store/database/driver_errors.py": ["tests/database/test_failures.py", *CALLS],
    "thea_store/database/failures.py": ["tests/database/test_failures.py", "tests/secrets/test_secrets.py"],
    "thea_store/repositories/cursors.py": ["tests/repositories/test_cursors.py"],
    "thea_store/repositories/paging.py": ["tests/repositories"],
    "thea_store/repositories/base.py": ["tests/repositories"],
    "thea_store/repositories/audit.py": ["tests/repositories/test_audit.py"],
    "thea_store/verification/login.py": ["tests/verification/test_logins.py"],
    "thea_store/verification/protection.py": OPENING,
    "thea_store/verification/opening.py": OPENING,
    "thea_store/verification/describing.py": OPENING,
    "thea_store/verification/comparing.py": OPENING,
    "thea_store/verification/conditions_counted.py": [*OPENING, "tests/verification/test_conditions_counted.py"],
    "thea_store/verification/conditions_parsed.py": [
        *(
            "tests/proving/test_planted_faults.py",
            "tests/isolation/test_two_locks.py::test_what_is_wrong_is_found_at_its_line",
        ),
    ],
    "thea_store/tenancy/directory.py": [
        *(
            "tests/tenancy/test_directory.py",
            "tests/tenancy/test_suspension.py",
            "tests/tenancy/test_limits_of_calls.py",
        ),
    ],
    "thea_store/tenancy/people.py": ["tests/tenancy/test_people.py"],
    "thea_store/tenancy/person_file.py": ["tests/tenancy/test_people.py"],
    "thea_store/tenancy/erasure.py": ["tests/tenancy/test_people.py"],
    "thea_store/tenancy/retention.py": ["tests/tenancy/test_retention.py"],
    "thea_store/tenancy/worker.py": ["tests/tenancy/test_worker.py"],
    "thea_store/tenancy/archive/file.py": ARCHIVE,
    "thea_store/tenancy/archive/tables.py": ARCHIVE,
    "thea_store/tenancy/archive/exporting.py": ARCHIVE,
    "thea_store/tenancy/archive/importing.py": ARCHIVE,
    "thea_store/tenancy/archive/loading.py": ARCHIVE,
    "thea_store/tenancy/archive/moving.py": ARCHIVE,
    "thea_store/assistant/message_import.py": ["tests/tenancy/test_encryption.py", "tests/telegram/test_importer.py"],
    "thea_store/assistant/messages.py": ["tests/assistant/test_messages.py", "tests/test_exports.py"],
    "thea_store/assistant/events/preparing.py": EVENTS,
    "thea_store/assistant/events/reminders.py": EVENTS,
    "thea_store/assistant/events/schedule.py": EVENTS,
    "thea_store/assistant/events/windows.py": EVENTS,
    "thea_store/assistant/recurrence/rule.py": RECURRENCE,
    "thea_store/assistant/recurrence/series.py": RECURRENCE,
    "thea_store/assistant/recurrence/recurrence_set.py": RECURRENCE,
    "thea_store/assistant/recurrence/lines.py": ["tests/assistant/test_recurrence_lines.py", *RECURRENCE],
    "thea_store/telegram/turns.py": TELEGRAM,
    "thea_store/telegram/importer.py": TELEGRAM,
    "thea_store/telegram/message.py": TELEGRAM,
    "thea_store/admin/doctor/shipped.py": MISTAKES,
    "thea_store/admin/doctor/sequences.py": MISTAKES,
    "thea_store/admin/doctor/tables.py": MISTAKES,
    "thea_store/admin/doctor/grants.py": MISTAKES,
    "thea_store/admin/doctor/security.py": [*MISTAKES, "tests/admin/test_doctor.py"],
    "thea_store/admin/compliance/chain.py": ["tests/cli/test_compliance.py"],
}
"""Each part, and the tests that concern it."""

TIMEOUT = 300.0
SUMMARY = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)
PASSED, FAILED = 0, 1


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


def outcome(mutant: Mutant, directory: Path) -> tuple[str, str]:
    """`noticed` and by which test; `unnoticed` and the change; or `impossible`, where the change cannot be made."""
    path = directory / mutant.file
    text = path.read_text()
    changed = mutate_code(text, plugins.get_operator(mutant.operator)(), mutant.place)
    if changed is None or changed == text:
        return "impossible", ""
    path.write_text(changed)
    try:
        status, by = judged(mutant.file, directory)
    finally:
        path.write_text(text)
    if status != PASSED:
        return "noticed", by
    lines = unified_diff(text.splitlines(), changed.splitlines(), lineterm="", n=0)
    return "unnoticed", "\n".join(["", *lines])


def judged(file: str, directory: Path) -> tuple[int, str]:
    """How pytest ended over the tests of a part in the copy, and the first test that failed."""
    environment = os.environ | {"PYTHONPATH": str(directory), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.setdefault("THEA_TEST_SERVER", "embedded")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "--tb=no", "-p", "no:cacheprovider", *PARTS[file]]
    try:
        done = subprocess.run(
            command, cwd=directory, env=environment, capture_output=True, check=False, text=True, timeout=TIMEOUT
        )
    except subprocess.TimeoutExpired:
        return FAILED, "it hangs"
    found = SUMMARY.search(done.stdout)
    return done.returncode, found[1] if found else "it cannot be imported"


def tried(chosen: Sequence[Mutant], directory: Path, until: float, count: int) -> Iterator[str]:
    """What came of each, until there are so many that could be made, or the time is up."""
    sound = dict[str, bool]()
    made = 0
    for mutant in chosen:
        if time.monotonic() > until or made >= count:
            return
        if mutant.file not in sound:
            status, by = judged(mutant.file, directory)
            sound[mutant.file] = status == PASSED
            if status != PASSED:
                yield "unsound"
                print(f"unsound     {mutant.file} without a change {by}", flush=True)
        if sound[mutant.file]:
            told, detail = outcome(mutant, directory)
            made += told != "impossible"
            print(f"{told:<11} {mutant.file} {mutant.operator} {mutant.place} {detail}", flush=True)
            yield told


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
    with tempfile.TemporaryDirectory() as directory:
        for name in COPIED:
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, Path(directory, name))
        counted = Counter(tried(chosen, Path(directory), until, options.count))
    made = counted["noticed"] + counted["unnoticed"]
    print(f"{counted['noticed']} of {made} changes were noticed (of {len(chosen)} that could be made)")
    return 1 if counted["unnoticed"] or counted["unsound"] else 0


if __name__ == "__main__":
    sys.exit(main())
