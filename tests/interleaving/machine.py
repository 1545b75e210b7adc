"""A state machine of several tenants who work at once over one small pool.

Its rules say what each actor does next; then all of them do it, on one loop and three connections. One order of
what was done must explain all that was seen and all that is there; the pool must have its connections back, and
each of them must carry the tenant that it is marked with.

The plan is drawn by Hypothesis and repeated exactly. In which order the server answers is not, so a failure may
take several runs to show again; the story that it tells is the whole of what was seen.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Coroutine
from itertools import count
from typing import Any, ClassVar, TypeVar

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.interleaving.actors import Act, Actor
from tests.interleaving.crew import LIMIT, Crew, Scope
from tests.interleaving.server import Server
from tests.interleaving.wishes import CALLS, PICKS
from tests.interleaving.witness import Cut
from thea_store.testing import TestDatabase

T = TypeVar("T")

_ENOUGH = 16
_examples = count(1)

_picks = st.integers(0, PICKS - 1)
_reaches = st.sampled_from([0, 0, 1, 1, 9])
_moments = st.sampled_from(["before", "with", "later"])
_cuts = st.none() | st.none() | st.builds(Cut, st.sampled_from([1, 1, 2, 2, 3, 4, 5]), _moments)
# Where a transaction or a savepoint begins or ends there is one message, and so one pause or two.
_cuts_at_edges = st.none() | st.none() | st.none() | st.builds(Cut, st.integers(1, 2), _moments)
_call = st.builds(Act, st.sampled_from(list(CALLS)), _picks, _picks, _cuts, _reaches)
_calls = st.lists(_call, min_size=1, max_size=4)
_many_calls = st.lists(_call, min_size=4, max_size=9)
_ends = st.builds(Act, st.sampled_from(["leave", "leave", "give up"]), st.just(0), st.just(0), _cuts_at_edges, _reaches)
_actors = st.integers(0, 4)


class Interleaving(RuleBasedStateMachine):
    """Two actors of each of two tenants and one of a third; made anew for every example, with its own store."""

    scope: ClassVar[Scope]
    database: ClassVar[TestDatabase]
    server: ClassVar[Server]
    met: ClassVar[Counter[tuple[str, bool, str]]]
    """What happened, in all examples together."""

    def __init__(self) -> None:
        super().__init__()
        # With a factory the runner leaves alone what pytest's own loop needs.
        self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
        name = f"{self.scope}-{next(_examples)}"
        self.tenants = [f"{name}-{letter}" for letter in "abc"]
        self.crew = self._run(Crew.opened(self.database.app_url, self.scope, self.server, self.tenants))
        self.actors = [self.crew.actor(self.tenants[n // 2], str(n % 2)) for n in range(5)]
        self.plan: dict[Actor, list[Act]] = {}
        self._depths = [0] * len(self.actors)
        self._sound = True

    @initialize()
    def there_are_rows(self) -> None:
        for kinds in (["create user"], ["create notes", "find or create conversation"]):
            for actor in self.actors[::2]:
                self.plan[actor] = [Act(kind, pick, pick) for pick in (0, 1) for kind in kinds]
            self.meanwhile()

    @rule(actor=_actors, calls=_calls)
    def call(self, actor: int, calls: list[Act]) -> None:
        """Where the actor is by then, in a transaction or not."""
        self._next(actor, *calls)

    @rule(actor=_actors, calls=_calls, cut=_cuts_at_edges)
    def enter(self, actor: int, calls: list[Act], cut: Cut | None) -> None:
        """Begin a transaction; in one, a savepoint."""
        self._depths[actor] += 1
        self._next(actor, Act("enter", cut=cut), *calls)

    @rule(actor=_actors, calls=st.tuples(_calls, _calls, _calls), ends=st.tuples(_ends, _ends))
    def transaction(self, actor: int, calls: tuple[list[Act], ...], ends: tuple[Act, Act]) -> None:
        """A whole transaction with a savepoint; where one is open, two savepoints."""
        before, inside, after = calls
        self._next(actor, Act("enter"), *before, Act("enter"), *inside, ends[0], *after, ends[1])

    @precondition(lambda self: any(self._depths))
    @rule(which=_actors, calls=_calls)
    def call_inside(self, which: int, calls: list[Act]) -> None:
        self._next(self._inside(which), *calls)

    @precondition(lambda self: any(self._depths))
    @rule(which=_actors, end=_ends, calls=_calls)
    def leave(self, which: int, end: Act, calls: list[Act]) -> None:
        """Leave the innermost block well, or with second thoughts."""
        actor = self._inside(which)
        self._depths[actor] -= 1
        self._next(actor, end, *calls)

    @rule(actor=_actors, cut=_cuts, what=st.sampled_from(["next", "next", "next", "forget"]))
    def iterate(self, actor: int, cut: Cut | None, what: str) -> None:
        """Take one row more of an iterator, or leave it half-way."""
        self._next(actor, Act(what, cut=cut))

    @precondition(lambda self: any(self._depths))
    @rule(which=_actors, cut=_cuts)
    def iterate_inside(self, which: int, cut: Cut | None) -> None:
        """Begin an iterator in a transaction, which may end before it does."""
        self._next(self._inside(which), Act("forget"), Act("next"), Act("next", cut=cut))

    @rule(calls=_many_calls)
    def crowd(self, calls: list[Act]) -> None:
        """Single calls of many, more than there are connections."""
        if self.plan:
            self.meanwhile()
        for n, call in enumerate(calls):
            self.plan[self.crew.actor(self.tenants[n % len(self.tenants)], f"crowd {n}")] = [call]
        self.meanwhile()

    @rule(calls=_many_calls)
    def squeeze(self, calls: list[Act]) -> None:
        """The same, when transactions leave them one connection to share."""
        free = [actor for actor, depth in enumerate(self._depths) if not depth]
        while len(self.actors) - len(free) < LIMIT - 1:
            self.enter(free.pop(), [], None)
        self.crowd(calls)

    @precondition(lambda self: self.plan)
    @rule()
    def meanwhile(self) -> None:
        """Let all of them do what they are to do."""
        plan, self.plan = self.plan, {}
        self.met.update(event.kind for event in self._run(self.crew.work(plan)))
        self._run(self.crew.look())

    def _inside(self, which: int) -> int:
        inside = [actor for actor, depth in enumerate(self._depths) if depth]
        return inside[which % len(inside)]

    def _next(self, actor: int, *acts: Act) -> None:
        self.plan.setdefault(self.actors[actor], []).extend(acts)
        if sum(map(len, self.plan.values())) >= _ENOUGH:
            self.meanwhile()

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        self._sound = False
        result = self._runner.run(work)
        self._sound = True
        return result

    def teardown(self) -> None:
        """Nothing is left behind: no transaction, no lock, no task, and no connection too few."""
        try:
            if self._sound:
                self._run(self.crew.go_home())
        finally:
            self._runner.run(self.crew.store._database.close(patience=0))
            self._runner.close()
