"""Queries run with one of their locks, or none, in two databases that differ by one tenant.

A query that keeps to its tenant has the same outcome in both, and leaves the other tenant as it was. So nothing need be
known of what a query should return.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import asyncpg

from tests.isolation.two_locks_arguments import argument_sets
from tests.isolation.two_locks_databases import FIRST_DRAWN, MINE, OTHERS, Databases, World
from tests.isolation.two_locks_statements import conditions, names, without
from thea_store.database.connection import set_local
from thea_store.queries.binding import bind
from thea_store.queries.file import Query
from thea_store.store import SQL_FILES

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]

__all__ = ["QUERIES", "Locks", "Proof"]

QUERIES = [query for file in SQL_FILES for query in file.claimed]

_FUNCTIONS_CONDITION = re.compile(r"\b\w+\.tenant_id = p_tenant\b")
_FUNCTIONS_SCOPE = "thea.note_scope(p_tenant, p_user)"


@dataclass(frozen=True)
class Locks:
    """Which locks there are when a query is run, and which tenants it is told."""

    conditions: bool = True
    """Whether the statement has its conditions."""
    row_security: bool = True
    """Whether the login is the service's, which row security binds, or a superuser's."""
    argument: str = MINE
    """`:tenant_id`."""
    session: str = MINE
    """What the connection carries."""


@dataclass(frozen=True)
class Outcome:
    """What came of a query, without the times and ids that were made meanwhile."""

    rows: Sequence[str]
    sqlstate: str | None = None


class Proof:
    """Runs queries in both databases, and undoes each."""

    def __init__(self, databases: Databases) -> None:
        self._of = databases
        self._sets: dict[str, list[dict[str, Any]]] = {}

    async def leaks(self, query: Query[Any], locks: Locks, *, first_only: bool = False) -> list[str]:
        """How other tenants are seen or changed by any of many calls; empty where they are not."""
        found: list[str] = []
        async with self._undone():
            for values in self._argument_sets(query):
                alone, shared = await asyncio.gather(
                    self._run(self._of.alone, query, values, locks), self._run(self._of.shared, query, values, locks)
                )
                if shared != alone:
                    found.append(f"{query.name} with {values}: {shared}, and without other tenants {alone}")
                if found and first_only:
                    break
        return found

    async def works(self, query: Query[Any]) -> bool:
        """Whether any of those calls is answered as every caller's is."""
        async with self._undone():
            for values in self._argument_sets(query):
                outcome = await self._run(self._of.shared, query, values, Locks())
                if isinstance(outcome, Outcome) and outcome.sqlstate is None:
                    return True
        return False

    @asynccontextmanager
    async def _undone(self) -> AsyncIterator[None]:
        try:
            yield
        finally:  # no lock stays for the other login
            for connection in (*self._of.alone, *self._of.shared):
                await connection.execute("rollback")

    def _argument_sets(self, query: Query[Any]) -> list[dict[str, Any]]:
        if query.name not in self._sets:
            aggregate = query.name.partition(".")[0]
            of_file = [one for one in QUERIES if one.name.partition(".")[0] == aggregate]
            self._sets[query.name] = argument_sets(query, of_file, self._of.mine, self._of.others)
        return self._sets[query.name]

    async def _run(self, world: World, query: Query[Any], values: Mapping[str, Any], locks: Locks) -> Outcome | str:
        connection = world.service if locks.row_security else world.superuser
        text = query.text if locks.conditions else without(query, conditions(query))
        # What the run before did is undone in the same message, which saves one.
        await connection.execute(f"rollback; begin{set_local(tenant_id=locks.session)}")
        try:
            if not locks.row_security:
                await self._weaken(connection, query)
            rows = await connection.fetch(text, *bind(query, locks.argument, values).arguments)
            if world is self._of.shared and await self._digest(connection) != self._of.untouched:
                return "the other tenant is changed"
        except (asyncpg.IntegrityConstraintViolationError, asyncpg.InsufficientPrivilegeError) as error:
            return Outcome([], error.sqlstate)
        return Outcome(sorted(repr(self._masked(dict(row))) for row in rows))

    async def _weaken(self, connection: Connection, query: Query[Any]) -> None:
        """Turn the functions to the other tenant, too, that search what row security keeps from its index."""
        for name in {*names(query)} & self._of.catalog.functions.keys():
            weakened, count = _FUNCTIONS_CONDITION.subn("true", self._of.catalog.functions[name])
            assert count, f"{name} has no condition on `p_tenant`"
            assert _FUNCTIONS_SCOPE in weakened, f"{name} does not look for entries of `p_tenant`"
            await connection.execute(weakened.replace(_FUNCTIONS_SCOPE, f"thea.note_scope('{OTHERS}', p_user)"))

    async def _digest(self, connection: Connection) -> str:
        """The other tenant's digest, as far as the transaction can have changed it."""
        if not await connection.fetchval("select pg_current_xact_id_if_assigned() is not null"):
            return self._of.untouched
        await connection.execute(f"set local app.tenant_id = '{OTHERS}'")
        return str(await connection.fetchval(self._of.digest, OTHERS))

    def _masked(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._masked(one) for key, one in value.items()}
        if isinstance(value, datetime) and value >= self._of.began:
            return "now"
        if isinstance(value, int) and value >= FIRST_DRAWN:
            return "new"
        return value
