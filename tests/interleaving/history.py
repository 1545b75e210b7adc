"""Whether what callers saw can have happened: one order of the events must explain all of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from tests.interleaving.model import LOST, Effect, Frame, Rows, State, difference, face
from thea_store import PoolTimeoutError, QueryTimeoutError, StoreError, StoreUnavailableError

CUT = "cut short"
"""What a caller saw of a call that was cancelled."""

OUT_OF_REACH = (PoolTimeoutError, StoreUnavailableError)
"""There was no connection for the call, so nothing was done."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a caller did, from when to when, and what it saw: a value, an error's class, or `CUT`."""

    doing: Any
    """A call, or what was done to the transaction."""
    seen: Any
    started: float
    ended: float
    actor: str = ""
    transaction: int | None = None

    @property
    def kind(self) -> tuple[str, bool, str]:
        """What was done, whether in a transaction, and what came of it."""
        done = self.doing if isinstance(self.doing, str) else type(self.doing).__name__
        outcome = self.seen.__name__ if isinstance(self.seen, type) else CUT if self.seen is CUT else "done"
        return done, self.transaction is not None, outcome

    def after(self, state: State) -> Iterator[State]:
        """The states in which this may leave the tenant; none where it cannot have been seen in this one."""
        match self.doing:
            case "begin":
                yield state.holding(self._number, Frame()) if self.seen is None else state
            case "savepoint":
                yield from self._savepoint(state)
            case "release":
                yield from self._release(state)
            case "undo":
                yield from self._undo(state)
            case "commit":
                yield from self._commit(state)
            case "roll back":
                yield state.holding(self._number)
            case _:
                yield from self._called(state)

    def _called(self, state: State) -> Iterator[State]:
        frames, view = state.frames(self.transaction), state.view(self.transaction)
        inside = self.transaction is not None
        effect: Effect = self.doing.expect(view, self.seen)
        if effect.early:
            if self.seen == effect.answer:
                yield state
        elif inside and (not frames or frames[-1].lost):
            if self.seen in (StoreError, CUT):
                yield state
        elif self.seen in (CUT, QueryTimeoutError):
            yield self._lose(state)
            if self.seen is CUT and not inside:  # it may have been done
                yield from self._done(state, effect, view)
            elif self.seen is CUT and frames[-1].left:  # while the savepoint was released, and so before it was sent
                yield state.holding(self._number, *frames[:-1], replace(frames[-1], left=False))
        elif face(self.seen) == face(effect.answer):
            yield from [self._lose(state)] if effect.refused else self._done(state, effect, view)
        elif self.seen in OUT_OF_REACH and not inside:
            yield state

    def _done(self, state: State, effect: Effect, view: Rows) -> Iterator[State]:
        changes = difference(view, effect.rows)
        did = Frame(changes, effect.shares, len(changes) + effect.more_entries)
        if state.locked(did, self.transaction):
            return
        if self.transaction is None:
            yield state.publish(did, "")
        else:
            *below, top = state.frames(self.transaction)
            yield state.holding(self.transaction, *below, did.onto(top))

    def _lose(self, state: State) -> State:
        if self.transaction is None:
            return state
        return state.holding(self.transaction, *state.frames(self.transaction)[:-1], LOST)

    def _savepoint(self, state: State) -> Iterator[State]:
        *below, top = state.frames(self.transaction)
        if top.lost:
            if self.seen in (StoreError, CUT):
                yield state
        elif self.seen is None:
            yield state.holding(self._number, *below, replace(top, left=False), Frame())
        elif self.seen is CUT:  # it is not entered then, and the transaction goes on, unless its connection is lost
            yield from (state.holding(self._number, *below, replace(top, left=True)), self._lose(state))

    def _release(self, state: State) -> Iterator[State]:
        *below, top = state.frames(self.transaction)
        if self.seen is CUT:
            yield from self._undo(state)
        elif top.lost:
            if self.seen is StoreError:
                yield state.holding(self._number, *below)
        elif self.seen is None:
            yield state.holding(self._number, *below[:-1], replace(top.onto(below[-1]), left=True))

    def _undo(self, state: State) -> Iterator[State]:
        *below, _ = state.frames(self.transaction)
        yield state.holding(self._number, *below)
        if self.seen is CUT:  # how far it came is not known, so it may be that nothing more is allowed
            yield state.holding(self._number, *below[:-1], LOST)

    def _commit(self, state: State) -> Iterator[State]:
        (only,) = state.frames(self.transaction)
        ended = state.holding(self._number)
        if self.seen is None and not only.lost:
            yield ended.publish(only, self.actor)
        elif self.seen is StoreError and only.lost:
            yield ended
        elif self.seen is CUT:
            yield from (ended, ended.publish(only, self.actor))

    @property
    def _number(self) -> int:
        assert self.transaction is not None
        return self.transaction


def explain(states: Iterable[State], events: Sequence[Event]) -> frozenset[State]:
    """All states in which the events may have left the tenant; none when no order explains what was seen.

    An event takes effect at one moment between its start and its end.
    """
    ends = set()
    todo = [(state, frozenset(events)) for state in states]
    met = set(todo)
    while todo:
        state, left = todo.pop()
        if not left:
            ends.add(state)
        first_end = min((event.ended for event in left), default=0)
        for event in left:
            if event.started < first_end:
                reached = {(after, left - {event}) for after in event.after(state)} - met
                met |= reached
                todo.extend(reached)
    return frozenset(ends)
