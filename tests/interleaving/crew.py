"""The actors and their store: lets them work, and holds what came of it against the model and the server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Self

from tests.interleaving.actors import Act, Actor
from tests.interleaving.calls import ReadAll
from tests.interleaving.history import CUT, OUT_OF_REACH, Event, explain
from tests.interleaving.model import State
from tests.interleaving.server import Server
from tests.interleaving.wishes import TABLES
from tests.interleaving.witness import Witness
from tests.support.patience import let_calls_wait
from thea_store import QueryTimeoutError, Settings, Store

Scope = Literal["session", "transaction"]

POOL_SIZE, LIMIT = 2, 3

# Seconds. Whatever takes as long as this is stuck, on a slow machine too.
_STUCK = 20.0
# Where transactions may hold all connections, the others soon give up.
_SHORT = 0.05

_LOOK = [Act(lambda *_, table=table: ReadAll(table)) for table in TABLES]


class Crew:
    """The actors of some tenants on one store, and the states in which each tenant may be."""

    def __init__(self, store: Store, server: Server, tenants: Sequence[str]) -> None:
        self.store, self.server, self.witness = store, server, Witness()
        self.states = {tenant: frozenset({State()}) for tenant in tenants}
        self.inside: set[Actor] = set()
        """Those who have a transaction open."""
        self._pool = store._database._pool
        self._unheard: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: self._unheard.append(context))

    @classmethod
    async def opened(cls, url: str, scope: Scope, server: Server, tenants: Sequence[str]) -> Self:
        settings = Settings(
            url=url, tenant_scope=scope, pool_size=POOL_SIZE, max_overflow=LIMIT - POOL_SIZE, pool_timeout=_STUCK
        )
        return cls(await Store.open(settings), server, tenants)

    def actor(self, tenant: str, name: str) -> Actor:
        return Actor(f"{tenant}/{name}", tenant, self.store, self.witness)

    # --- work -------------------------------------------------------------------------------------

    async def work(self, plan: Mapping[Actor, Sequence[Act]]) -> list[Event]:
        """Let all of them do what they are to do, all at once; what was seen, which must be what can have been."""
        entering = sum(act.what == "enter" for acts in plan.values() for act in acts)
        full = len(self.inside) + entering >= LIMIT
        # No setting, as it changes: a wait without hope is short, and any other ends well.
        let_calls_wait(self._pool, _SHORT if full else _STUCK)
        holders = self.inside
        await self._play(plan)
        told = self.witness.take()
        for tenant, events in told.items():
            rivals = {actor.name for actor in holders if actor.tenant == tenant} | {event.actor for event in events}
            _check_reasons(events, rivals, full=full)
            before, self.states[tenant] = self.states[tenant], explain(self.states[tenant], events)
            assert self.states[tenant], _story(f"no order explains what {tenant} saw", before, events)
        await self._settle()
        return [event for events in told.values() for event in events]

    async def _play(self, plan: Mapping[Actor, Sequence[Act]]) -> None:
        tenants = list(self.states)
        for actor in plan:
            other = tenants[tenants.index(actor.tenant) - 1]
            actor.known, actor.foreign = self._rows(actor.tenant, actor.number), self._rows(other, None)
            actor.other = other
        tasks = [actor.start(acts) for actor, acts in plan.items()]
        done, stuck = await asyncio.wait(tasks, timeout=2 * _STUCK) if tasks else (set(), set())
        assert not stuck, f"stuck: {stuck}, {self._pool.figures()}"
        for task in done:
            task.result()
        self.inside = {actor for actor in self.inside | plan.keys() if actor.number is not None}

    def _rows(self, tenant: str, transaction: int | None) -> Any:
        return next(iter(self.states[tenant])).view(transaction)

    # --- what must hold ---------------------------------------------------------------------------

    async def _settle(self) -> None:
        """Wait until no connection is in doubt: those of open transactions are in use, and all others idle."""
        deadline = time.monotonic() + _STUCK
        while not self._is_settled():
            assert time.monotonic() < deadline, (
                f"{len(self.inside)} transactions are open, but the pool has {self._pool.figures()} and the server has "
                f"(connections, in a transaction, locks) {self.server.backends()}"
            )
            await asyncio.sleep(0.002)
        assert not self._unheard

    def _is_settled(self) -> bool:
        figures, held = self._pool.figures(), len(self.inside)
        if (figures.idle + held, figures.waiting) != (figures.size, 0):
            return False
        size, in_transaction, locks = self.server.backends()
        begun = sum(actor.has_begun() for actor in self.inside)
        most = begun + sum(actor.may_be_describing() for actor in self.inside)
        return size == figures.size and begun <= in_transaction <= most and (in_transaction > 0 or locks == 0)

    def _compare(self, tenant: str) -> None:
        rows, entries = self.server.rows(tenant), self.server.entries(tenant)
        before = self.states[tenant]
        self.states[tenant] = frozenset(match for state in before for match in state.matching(rows, entries))
        assert self.states[tenant], _story(f"{tenant} has {sorted(rows)} and {sorted(entries)}", before, [])

    async def look(self) -> None:
        """Compare with the server; then let each tenant look at all it has, from outside and in its transactions."""
        for tenant in self.states:
            self._compare(tenant)
        plan = dict.fromkeys(self.inside, _LOOK)
        if len(self.inside) < LIMIT:
            plan |= {self.actor(tenant, "look"): _LOOK for tenant in self.states}
        await self.work(plan)
        for connection in list(self._pool._idle):
            carried = await connection.raw.fetchval("select current_setting('app.tenant_id')")
            assert carried == (connection.tenant or ""), f"marked with {connection.tenant!r}, and carries {carried!r}"

    async def go_home(self) -> None:
        """End all transactions; then every connection can be used, and the closed store leaves none behind."""
        await self.work({actor: [Act("leave", reach=9)] * 9 for actor in self.inside})
        await self.look()
        meeting = asyncio.Barrier(LIMIT)
        async with asyncio.timeout(_STUCK):
            await asyncio.gather(*(self._meet(tenant, meeting) for tenant in self.states))
        await self.store.close()
        await self._settle()
        assert self.server.backends() == (0, 0, 0)
        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def _meet(self, tenant: str, meeting: asyncio.Barrier) -> None:
        async with self.store.transaction(tenant) as tx:
            shown = [row for row in self._rows(tenant, None) if row.table == "users" and not row.hidden]
            assert await tx.users.count(tenant) == len(shown)
            await meeting.wait()


def _check_reasons(events: Sequence[Event], rivals: set[str], *, full: bool) -> None:
    """An error for want of a lock or of a connection needs somebody who had it."""
    for event in events:
        if event.seen is QueryTimeoutError:
            assert rivals - {event.actor} or any(each.seen == CUT for each in events), event
        elif event.seen in OUT_OF_REACH:
            assert full, event


def _story(what: str, before: frozenset[State], events: Sequence[Event]) -> str:
    told = [
        f"  {event.started:3}..{event.ended:<3} {event.actor} (tx {event.transaction}): {event.doing} -> {event.seen}"
        for event in events
    ]
    return "\n".join([what, *(f"  before: {state}" for state in before), *told])
