"""Weakens the schema, a role or a query, and runs the isolation suites, which must fail each time.

    python tools/mutants.py [--by-effect] [word …]

Words choose the weakenings whose name contains one of them. What the catalog says is looked at first, because it
is quick; with `--by-effect` it comes last, so that the table shows what a weakening would let happen.

Prints what noticed each; the exit status is 1 when one passes unnoticed or cannot be applied. The tests are
collected once, and each weakening has a process, forked from there, and a server of its own.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import psycopg
import pytest

from tools.weakenings import WEAKENINGS, Weakening

ROOT = Path(__file__).parent.parent
SUITES = [
    *map(str, sorted(ROOT.glob("tests/isolation/test_attacks_*.py"))),
    str(ROOT / "tests/isolation/test_two_locks.py"),
]
QUIET = ["-q", "-s", "-x", "-p", "no:cacheprovider", "-o", "addopts="]
SOUND = Weakening("nothing is weakened")


@dataclass
class Judge:
    """A plugin for pytest that runs the collected tests once for each weakening, each time in a forked process."""

    wanted: list[Weakening]
    by_effect: bool
    is_sound: bool = False
    caught: int = 0

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Judge two at a time, after a run in which nothing may fail."""
        if session.testsfailed:
            raise session.Interrupted("the suites cannot be collected")
        catalog = [item for item in session.items if "attacks_catalog" in item.nodeid]
        others = [item for item in session.items if item not in catalog]
        session.items = [*others, *catalog] if self.by_effect else [*catalog, *others]
        self.is_sound = self._judge(_Trial.begin(session, SOUND), hoped="passed")
        waiting, trials = list(self.wanted), list[_Trial]()
        while self.is_sound and (waiting or trials):
            while waiting and len(trials) < (os.cpu_count() or 1):
                trials.append(_Trial.begin(session, waiting.pop(0)))
            self.caught += self._judge(trials.pop(0), hoped="caught")
        return True

    def _judge(self, trial: _Trial, *, hoped: str) -> bool:
        kind, by, seconds = trial.verdict()
        shown = kind if kind == hoped else kind.upper()
        print(f"{shown:<7} {trial.weakening.name:<60} {by} ({seconds:.1f} s)", flush=True)
        return kind == hoped


@dataclass(frozen=True)
class _Trial:
    weakening: Weakening
    pid: int
    answer: int
    started: float

    @classmethod
    def begin(cls, session: pytest.Session, weakening: Weakening) -> _Trial:
        answer, told = os.pipe()
        pid = os.fork()
        if not pid:
            _run(session, weakening, told)
        os.close(told)
        return cls(weakening, pid, answer, time.monotonic())

    def verdict(self) -> tuple[str, str, float]:
        """`caught`, `passed`, or `broken` when it could not be applied; by which test, or why; seconds."""
        with os.fdopen(self.answer) as pipe:
            kind, _, by = pipe.read().partition(" ")
        os.waitpid(self.pid, 0)
        return kind or "broken", by, time.monotonic() - self.started


def _run(session: pytest.Session, weakening: Weakening, told: int) -> NoReturn:
    """Run the tests in this process until one fails, and end it; the server ends with its process."""

    def tell(answer: str) -> NoReturn:
        os.write(told, answer.encode()[:4000])
        os._exit(0)

    silence = os.open(os.devnull, os.O_WRONLY)
    for output in (1, 2):
        os.dup2(silence, output)

    class Noticed:
        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            if report.failed:
                during = "" if report.when == "call" else f" ({report.when})"
                tell(f"caught {report.nodeid.removeprefix('tests/')}{during}")

    session.config.pluginmanager.register(Noticed())
    try:
        if weakening.query:
            _weaken_query(weakening)
            session.items.sort(key=lambda item: "two_locks" not in item.nodeid)
        else:
            _weaken_databases(weakening, tell)
        for place, item in enumerate(session.items):
            following = session.items[place + 1] if place + 1 < len(session.items) else None
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
    except BaseException as error:  # noqa: BLE001 - whatever ends this process is told
        tell(f"broken {error}")
    tell("passed ")


# The library is imported by pytest, whose plugin it is, and so not above.


def _weaken_databases(weakening: Weakening, tell: Callable[[str], NoReturn]) -> None:
    from thea_store.testing import TestDatabase, TestServer  # noqa: PLC0415

    new_database = TestServer.new_database

    def weakened(self: TestServer, resources: ExitStack, *, migrated: bool = True) -> TestDatabase:
        database = new_database(self, resources, migrated=migrated)
        try:
            with psycopg.connect(database.superuser_url, autocommit=True) as connection:
                connection.execute(weakening.sql.encode() if migrated else b"")
        except psycopg.Error as error:
            tell(f"broken {error}")
        return database

    TestServer.new_database = weakened  # type: ignore[method-assign]


def _weaken_query(weakening: Weakening) -> None:
    from thea_store.store import SQL_FILES  # noqa: PLC0415

    [query] = [query for file in SQL_FILES for query in file.claimed if query.name == weakening.query]
    if weakening.old not in query.text:
        raise ValueError(f"there is nothing to weaken in {query.name}")
    object.__setattr__(query, "text", query.text.replace(weakening.old, weakening.new))


def main(arguments: list[str]) -> int:
    """Judge those that are wanted; the exit status."""
    words = [word for word in arguments if word != "--by-effect"]
    wanted = [each for each in WEAKENINGS if not words or any(word in each.name for word in words)]
    os.environ.setdefault("THEA_TEST_SERVER", "embedded")
    os.chdir(ROOT)
    judge = Judge(wanted, by_effect="--by-effect" in arguments)
    status = pytest.main([*QUIET, *SUITES], plugins=[judge])
    print(f"\n{judge.caught} of {len(wanted)} weakenings were caught.")
    return 0 if judge.is_sound and judge.caught == len(wanted) and status == pytest.ExitCode.OK else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
