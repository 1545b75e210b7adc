"""The migrator killed (-9) at boundaries between two statements of every migration, up and down: at every one nightly.

The server gets the statement, and its answer reaches nobody; to the server that is the same as a kill before the
next one, so only the first statement and the commit are withheld as well. What must hold after each kill: the schema
and the history are those before the migration or those after it (and which, wherever the commit was not on its way);
no session, lock or prepared transaction is left; the same command run again succeeds, and ends where an
uninterrupted run ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest

from tests.migrator.halfway import Stage, clone, differing, leftovers, stages, state
from tests.migrator.killing import Kill, migrator, run
from tests.support.profiles import scaled
from thea_store.errors import StoreError
from thea_store.migrator import Migration, available, migrate, rollback
from thea_store.migrator.backend import Backend
from thea_store.migrator.plan import BEFORE_ALL
from thea_store.migrator.statements import APPLICATION_NAME
from thea_store.testing import TestServer

pytestmark = pytest.mark.slow

MIGRATIONS = available()
BEGIN, COMMIT = "BEGIN", "COMMIT"


@pytest.fixture(scope="module")
def way(thea_server: TestServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Stage]]:
    with stages(thea_server, tmp_path_factory.mktemp("migrations")) as made:
        yield made


@dataclass(frozen=True)
class Journey:
    """One migration's way up or down."""

    migration: Migration
    up: bool

    @property
    def position(self) -> int:
        return MIGRATIONS.index(self.migration)

    @property
    def arguments(self) -> tuple[str, ...]:
        return () if self.up else ("--rollback", "--to", self.back_to)

    @property
    def back_to(self) -> str:
        return MIGRATIONS[self.position - 1].id if self.position else BEFORE_ALL

    @property
    def statements(self) -> list[str]:
        return [each.sql for each in (self.migration.statements if self.up else self.migration.rollback or ())]

    def again(self, url: str) -> None:
        """The same command once more."""
        migrate(url) if self.up else rollback(url, to=self.back_to)

    def numbers(self, requests: list[str]) -> tuple[range, int]:
        """The numbers of its own requests among those of a whole run, and that of its commit.

        The bookkeeping around is the same for every migration: it counts for the first one, for which it makes
        yoyo's tables, and for the last.
        """
        first = requests.index(self.statements[0])
        assert requests[first : first + len(self.statements)] == self.statements
        begin, commit = max(at for at in range(first) if requests[at] == BEGIN) + 1, requests.index(COMMIT, first) + 1
        is_first, is_last = self.migration == MIGRATIONS[0], self.migration == MIGRATIONS[-1]
        return range(1 if is_first or is_last else begin, (len(requests) if is_last else commit) + 1), commit


class Killing:
    """A journey that is begun anew for each kill; a run that nothing disturbs tells how it ends."""

    def __init__(
        self, server: TestServer, way: list[Stage], journey: Journey, program: Callable[..., None] = migrator
    ) -> None:
        self.server, self.journey, self.program = server, journey, program
        lower, upper = way[journey.position], way[journey.position + 1]
        self.start = lower if journey.up else upper
        with clone(server, self.start.name) as database:
            self.requests = run(database.migrator_url, *journey.arguments, program=program)
            self.end = state(database)
        self.after = upper.state if journey.up else self.end
        # A way back does not take back the extension, and its revoke leaves a list of privileges.
        unlike = differing(self.end, way[-1].state if journey.up else lower.state)
        assert unlike <= (set() if journey.up else {"_yoyo_log", "elsewhere"})
        numbers, self.commit = journey.numbers(self.requests)
        withheld = [Kill(at, sent=False) for at in (numbers[0], self.commit)]
        some = {*numbers[:: max(1, len(numbers) // scaled(12))], self.commit}
        self.kills = [*withheld, *(Kill(at, sent=True) for at in sorted(some))]

    def problems(self) -> Iterator[str]:
        """A sentence for everything that is not as it must be after a kill."""
        for kill in self.kills:
            place = f"{kill.at} ({self.requests[kill.at - 1].strip()[:60]!r}), {'sent' if kill.sent else 'not sent'}"
            yield from (f"{place}: {problem}" for problem in self.after_the(kill))

    def after_the(self, kill: Kill) -> Iterator[str]:
        with clone(self.server, self.start.name) as database:
            run(database.migrator_url, *self.journey.arguments, kill=kill, program=self.program)
            yield from (f"there is left: {left}" for left in leftovers(database))
            found = state(database)
            if found not in (possible := self.possible(kill)):
                yield f"half done: {sorted(differing(found, possible[0]))}"
            try:
                self.journey.again(database.migrator_url)
            except StoreError as error:
                yield f"the next run fails: {error}"
            if unlike := differing(state(database), self.end):
                yield f"the next run ends elsewhere: {sorted(unlike)}"

    def possible(self, kill: Kill) -> list[dict[str, Any]]:
        if kill.at == self.commit and kill.sent:
            return [self.start.state, self.after]
        return [self.start.state if kill.at <= self.commit else self.after]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("migration", MIGRATIONS, ids=lambda each: each.id)
@pytest.mark.parametrize("up", [True, False], ids=["up", "down"])
def test_a_kill_at_any_statement_leaves_nothing_half_done(
    thea_server: TestServer, way: list[Stage], migration: Migration, up: bool
) -> None:
    killing = Killing(thea_server, way, Journey(migration, up))
    print(f"{len(killing.kills)} kill points")

    assert len(killing.kills) >= min(scaled(12), len(killing.journey.statements)) + 2
    assert list(killing.problems()) == []


# --- controls -----------------------------------------------------------------------------------


def marking_apart(url: str, *arguments: str) -> None:
    """The migrator with yoyo's own flaw: a migration and its mark are two transactions."""
    run_without, note = Backend.run, Backend._note

    def run_and_note(self: Backend, migration: Migration, operation: Any, *, discard_rows: bool = False) -> None:
        run_without(self, migration, operation, discard_rows=discard_rows)
        with self._work():
            note(self, migration, operation)

    Backend._note = lambda *_: None  # type: ignore[method-assign]
    Backend.run = run_and_note  # type: ignore[method-assign]
    migrator(url, *arguments)


def test_a_migrator_that_marks_in_a_transaction_of_its_own_is_found_out(
    thea_server: TestServer, way: list[Stage]
) -> None:
    killing = Killing(thea_server, way, Journey(MIGRATIONS[-1], up=True), marking_apart)
    killing.kills = [Kill(at, sent=True) for at in range(killing.commit + 1, len(killing.requests) + 1)]
    problems = list(killing.problems())

    assert any("half done: ['_yoyo_log', '_yoyo_migration']" in problem for problem in problems), problems
    assert any(f"the next run fails: {MIGRATIONS[-1].id}" in problem for problem in problems), problems


def test_what_a_migrator_leaves_is_found(thea_server: TestServer, way: list[Stage]) -> None:
    with clone(thea_server, way[-1].name) as database:
        assert leftovers(database) == []
        with psycopg.connect(database.migrator_url, application_name=APPLICATION_NAME, autocommit=True) as connection:
            connection.execute("begin; select pg_advisory_xact_lock(1); insert into yoyo_lock values (1, now(), 1)")
            found = leftovers(database, patience=0.1)
            connection.execute("commit")
        assert leftovers(database, patience=0.1) == ["a row in yoyo's lock table"]

    assert found[0] == "a lock: advisory ExclusiveLock"
    assert "a lock: relation RowExclusiveLock yoyo_lock" in found
    assert found[-1] == "the session of a migrator"
