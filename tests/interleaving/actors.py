"""Those who work on the store at once: each says what it saw, and some are cut short on the way."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.interleaving.calls import END, Call, Next, Repositories
from tests.interleaving.history import CUT, Event
from tests.interleaving.model import Rows
from tests.interleaving.wishes import CALLS, Known, Wish
from tests.interleaving.witness import Cut, Seen, Witness, seen
from thea_store import Note, Store, StoreTransaction


class Act(NamedTuple):
    """Something that an actor is to do, and how many blocks are left where it fails."""

    what: str | Wish
    """`enter`, `leave`, `give up`, `next`, `forget`, or a call by its name."""
    pick: int = 0
    other: int = 0
    cut: Cut | None = None
    reach: int = 0


class SecondThoughtsError(Exception):
    """Leaves a block."""


@dataclass(eq=False)
class Actor:
    """Works for one tenant, one thing after the other, in a transaction or without one."""

    name: str
    tenant: str
    store: Store
    witness: Witness
    known: Rows = frozenset()
    foreign: Rows = frozenset()
    other: str = ""
    number: int | None = None
    """Of the transaction that is open."""
    _blocks: list[AbstractAsyncContextManager[Any]] = field(default_factory=list)
    _at: Repositories | None = None
    _notes: tuple[AsyncIterator[Note], int | None] | None = None
    # The open savepoints are known by the context, which a transaction must not change.
    _context: Context = field(default_factory=copy_context)

    def start(self, acts: Sequence[Act]) -> asyncio.Task[None]:
        return asyncio.create_task(self._play(acts), name=self.name, context=self._context)

    def has_begun(self) -> bool:
        """Whether its transaction has begun at the server, which it does with its first statement."""
        assert isinstance(self._at, StoreTransaction)
        transaction = self._at._transaction
        begun = transaction._connection.raw.is_in_transaction()
        assert begun or transaction._opening or transaction._doubtful, "a transaction has ended by itself"
        return begun

    def may_be_describing(self) -> bool:
        """Whether the server may still be busy with the description of the first statement, whose call was cut short.

        The driver asks for a description without ending its message (flush, and no sync). The next message ends it,
        which goes out when the block is left; until then the server says `active`.
        """
        assert isinstance(self._at, StoreTransaction)
        return self._at._transaction._doubtful and not self.has_begun()

    async def _play(self, acts: Sequence[Act]) -> None:
        for act in acts:
            error = await self._one(act)
            for _ in range(min(act.reach, len(self._blocks)) if error else 0):
                await self._leave(error)

    async def _one(self, act: Act) -> BaseException | None:
        match act.what:
            case "enter":
                return await self._enter(act.cut)
            case "leave":
                return await self._leave(None, act.cut) if self._blocks else None
            case "give up":
                error = SecondThoughtsError()
                return (await self._leave(error, act.cut) or error) if self._blocks else None
            case "next":
                return await self._next(act.cut)
            case "forget":
                self._notes = None
                return None
            case name:
                wish = name if callable(name) else CALLS[name]
                known = Known(self.known, self.foreign, self.other, self.witness.mark(self.tenant))
                return await self._call(wish(known, act.pick, act.other), act.cut)

    async def _call(self, call: Call, cut: Cut | None) -> BaseException | None:
        return (await self._see(call, call.make(self._at or self.store, self.tenant), cut, self.number)).error

    async def _next(self, cut: Cut | None) -> BaseException | None:
        if self._notes is None:
            self._notes = (self._at or self.store).notes.iterate(self.tenant, batch_size=1), self.number
        notes, number = self._notes
        call = Next(notes)
        answer, error = await self._see(call, call.make(self.store, self.tenant), cut, number)
        if error or answer == END:
            self._notes = None
        return error

    async def _enter(self, cut: Cut | None) -> BaseException | None:
        block: AbstractAsyncContextManager[Any]
        if isinstance(self._at, StoreTransaction):
            block = self._at.savepoint()
            error = (await self._see("savepoint", block.__aenter__(), cut, self.number)).error
        else:
            block, number = self.store.transaction(self.tenant, actor=self.name), next(self.witness.transactions)
            at, error = await self._see("begin", block.__aenter__(), cut, number)
            if error is None:
                self._at, self.number = at, number
        if error is None:
            self._blocks.append(block)
        return error

    async def _leave(self, error: BaseException | None, cut: Cut | None = None) -> BaseException | None:
        block, number = self._blocks.pop(), self.number
        if self._blocks:
            doing = "undo" if error else "release"
        else:
            doing = "roll back" if error else "commit"
            self._at = self.number = None
        leaving = block.__aexit__(type(error) if error else None, error, None)
        return (await self._see(doing, leaving, cut, number)).error

    async def _see(self, doing: Call | str, work: Any, cut: Cut | None, transaction: int | None) -> Seen:
        started = next(self.witness.moments)
        answer, error = await seen(work, cut, self._context)
        if isinstance(error, asyncio.CancelledError):
            told: Any = CUT
        else:
            told = type(error) if error else None if isinstance(doing, str) else answer
        # A single call, or a commit, that was cut short may still be done after its caller was told so.
        lasts = told is CUT and (transaction is None or doing == "commit")
        ended = math.inf if lasts else next(self.witness.moments)
        self.witness.note(self.tenant, Event(doing, told, started, ended, self.name, transaction))
        return Seen(answer, error)
