"""Storms: many workers on few connections, two thirds of the work cut short, connections killed, statements timed out.

Afterwards no tenant has seen or got another's rows, no transaction is half done, and the pool is as it was.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from pydantic import BaseModel

from tests.cancellation.arena import Arena
from tests.support.aftermath import settled
from tests.support.calls import CALLS, Ground, prepare
from thea_store import PoolTimeoutError, Store, StoreError, StoreTransaction, TenantMismatchError
from thea_store.testing import TestDatabase

pytestmark = pytest.mark.slow

WORKERS, CALLS_EACH = 24, 200
SEEDS = [1, 2]
TENANTS = [f"storm-{letter}" for letter in "abcdef"]


class UndoError(Exception):
    """Leaves a savepoint."""


@dataclass
class Storm:
    """One storm: what it works on, and what came of each piece of work."""

    store: Store
    grounds: dict[str, Ground]
    counts: Counter[str] = field(default_factory=Counter)

    async def work(self, seed: int) -> None:
        rng = Random(seed)
        for number in range(CALLS_EACH):
            tenant = rng.choice(TENANTS)
            if rng.random() < 0.02:  # others purge and delete what the calls are about
                with contextlib.suppress(StoreError):
                    self.grounds[tenant] = await prepare(self.store, tenant, f"{tenant} {seed} {number}")
            task = asyncio.create_task(
                self._piece(rng, tenant, f"pair {self.store._settings.tenant_scope} {seed} {number}")
            )
            await self._cut_short(rng, task)
            await asyncio.wait([task])
            self.counts[_outcome(task)] += 1

    async def _cut_short(self, rng: Random, task: asyncio.Task[None]) -> None:
        if rng.random() < 1 / 3:
            return
        for _ in range(rng.choice([0, 1, 2, 3, 5, 8, 13, 21, 34, 55])):
            await asyncio.sleep(0)
        if task.cancel() and rng.random() < 0.2:  # and again, while it cleans up
            await asyncio.sleep(0)
            task.cancel()

    async def _piece(self, rng: Random, tenant: str, name: str) -> None:
        if rng.random() < 0.6:
            await self._call(rng, self.store, tenant)
        elif rng.random() < 0.5:
            async with asyncio.timeout(rng.uniform(0, 0.05)), self.store.transaction(tenant) as tx:
                await self._pair(rng, tx, tenant, name)
        else:
            await self.store.run(tenant, lambda tx: self._pair(rng, tx, tenant, name))

    async def _pair(self, rng: Random, tx: StoreTransaction, tenant: str, name: str) -> None:
        """Two notes with one title, of which there are both or none; what a savepoint undid between them is nowhere."""
        user = self.grounds[tenant].live["users"]
        await tx.notes.create(tenant, user, tenant, title=name)
        with contextlib.suppress(UndoError, TimeoutError):
            async with asyncio.timeout(rng.uniform(0, 0.02)), tx.savepoint():
                await tx.notes.create(tenant, user, tenant, title="undone")
                await self._call(rng, tx, tenant)
                raise UndoError
        await self._call(rng, tx, tenant)
        await tx.notes.create(tenant, user, tenant, title=name)

    async def _call(self, rng: Random, api: Store | StoreTransaction, tenant: str) -> None:
        call, ground = rng.choice(CALLS), self.grounds[tenant]
        result = await call.run(api, tenant, call.arguments(ground))
        assert {*_tenants(result)} <= {tenant}
        assert not [other for other in TENANTS if other != tenant and other in repr(result)]
        self.counts["results looked at"] += 1


def _outcome(task: asyncio.Task[Any]) -> str:
    if task.cancelled():
        return "cancelled"
    error = task.exception()
    if error is None:
        return "done"
    # What no storm may cause: a call that gets no connection in half a minute, a transaction with two tenants.
    assert isinstance(error, (StoreError, TimeoutError)), repr(error)
    assert not isinstance(error, (PoolTimeoutError, TenantMismatchError)), repr(error)
    # A timeout that met a savepoint's own messages: the transaction refuses to go on.
    assert type(error) is not StoreError or "cut short" in str(error), repr(error)
    return type(error).__name__


def _tenants(result: object) -> list[str]:
    if isinstance(result, BaseModel):
        own = [result.tenant_id] if hasattr(result, "tenant_id") else []
        return own + [found for value in dict(result).values() for found in _tenants(value)]
    if isinstance(result, list):
        return [found for value in result for found in _tenants(value)]
    return []


async def _kill(arena: Arena, rng: Random, storm: Storm) -> None:
    """End connections of the store every now and then, behind its back."""
    while True:
        await asyncio.sleep(rng.uniform(0.1, 0.4))
        killed = arena.superuser.execute(KILL).fetchall()
        storm.counts["connections killed"] += len(killed)


async def _block(arena: Arena, rng: Random, storm: Storm) -> None:
    """Hold the users of a tenant now and then for longer than a statement may take."""
    while True:
        tenant = rng.choice(TENANTS)
        with psycopg.connect(arena.database.superuser_url) as holder:
            holder.execute("set statement_timeout = '2s'")
            with contextlib.suppress(psycopg.errors.QueryCanceled, psycopg.errors.DeadlockDetected):
                holder.execute("select from thea.users where tenant_id = %s for update", [tenant])
                user = storm.grounds[tenant].live["users"]
                late = asyncio.create_task(storm.store.users.update_last_activity(tenant, user))
                await asyncio.wait([late], timeout=5)
                storm.counts[f"blocked: {_outcome(late)}"] += 1
        await asyncio.sleep(rng.uniform(0.3, 0.9))


@pytest_asyncio.fixture(scope="module")
async def arena(thea_new_database: Callable[..., TestDatabase]) -> AsyncIterator[Arena]:
    async with Arena.on(thea_new_database()) as arena:
        yield arena


@pytest.mark.timeout(600)
@pytest.mark.parametrize("scope", ["session", "transaction"])
@pytest.mark.parametrize("seed", SEEDS)
async def test_after_a_storm_everything_is_as_it_should_be(arena: Arena, scope: str, seed: int) -> None:
    settings: dict[str, Any] = {"pool_size": 2, "max_overflow": 1, "tenant_scope": scope, "command_timeout": 0.5}
    async with arena.store(**settings) as store:
        storm = Storm(store, {tenant: await prepare(store, tenant, f"{tenant} {scope} {seed}") for tenant in TENANTS})
        weather = [asyncio.create_task(blow(arena, Random(seed), storm)) for blow in (_kill, _block)]
        await asyncio.gather(*(storm.work(1000 * seed + worker) for worker in range(WORKERS)))
        for task in weather:
            task.cancel()
        await asyncio.wait(weather)
        await settled(store)
        for tenant in TENANTS:
            await prepare(store, tenant, f"{tenant} {scope} {seed} after")
            await arena.unharmed(store, tenant)
        async with store.transaction("storm-a"), store.transaction("storm-b"), store.transaction("storm-c"):
            assert store._database.figures().size == 3
    print(f"\nscope {scope}, seed {seed}: {dict(storm.counts.most_common())}")

    assert arena.state(arena.bystander.tenant) == arena.quiet
    assert min(storm.counts[name] for name in ("done", "cancelled", "connections killed")) > 0
    assert any(name.startswith("blocked") for name in storm.counts)
    for wrong in WRONG:
        assert arena.superuser.execute(wrong).fetchall() == []


KILL = """
select pg_terminate_backend(pid) from pg_stat_activity
where datname = current_database() and application_name = 'thea_store'
order by random() limit 1
"""

HANGING = [
    *((child, "users", "user_id") for child in ("events", "notes", "conversations", "message_history")),
    ("message_history", "conversations", "conversation_id"),
]

# Rows that name another tenant; pairs that are halves; what was undone; what is visible though its parent is hidden.
WRONG = [
    *(
        f"select tenant_id, id from thea.{table} t where tenant_id like 'storm-_'"
        " and replace(t::text, tenant_id, '') ~ 'storm-[a-f]'"
        for table in ("users", "events", "notes", "conversations", "message_history", "audit_log")
    ),
    "select title from thea.notes where title like 'pair%' group by title having count(*) <> 2",
    "select title from thea.notes where title = 'undone'",
    *(
        f"select c.id from thea.{child} c join thea.{parent} p on p.tenant_id = c.tenant_id and p.id = c.{key}"
        " where p.deleted_at is not null and c.deleted_at is null"
        for child, parent, key in HANGING
    ),
]
