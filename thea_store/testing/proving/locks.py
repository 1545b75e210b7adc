"""Queries run with one of their locks, or none, in two databases that differ by one tenant.

A query that keeps to its tenant has the same outcome in both, and leaves the other tenant as it was. So nothing need be
known of what a query should return.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from thea_store.database.connection import set_local
from thea_store.database.driver import sent
from thea_store.queries.binding import bind
from thea_store.queries.file import Query
from thea_store.testing.proving.arguments import argument_sets
from thea_store.testing.proving.databases import FIRST_DRAWN, MINE, OTHERS, Databases, World
from thea_store.verification.conditions_parsed import conditions, names, without

__all__ = ["Locks", "TwoLocks"]

_FUNCTIONS_CONDITION = re.compile(r"\b\w+\.tenant_id = p_tenant\b")

# A constraint, a right, or a row too many where one is expected: an answer, as a caller gets it.
_REFUSALS = ("21", "23", "42501")


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


class TwoLocks:
    """Runs queries in both databases, and undoes each."""

    def __init__(
        self,
        databases: Databases,
        queries: Sequence[Query[Any]],
        about: Mapping[str, str] | None = None,
        weakened: Callable[[str], str] | None = None,
    ) -> None:
        """`queries` are all that are looked at; `about` says by their files which table they are about.

        `weakened` takes the tenant's conditions out of a function's text, where that has other ones than
        `….tenant_id = p_tenant`.
        """
        self._of, self._queries, self._about = databases, queries, about or {}
        self._weakened = weakened or (lambda text: _FUNCTIONS_CONDITION.sub("true", text))
        self._sets: dict[str, list[dict[str, Any]]] = {}
        self.calls = 0
        """How often a query was run."""

    async def leaks(self, query: Query[Any], locks: Locks, *, first_only: bool = False) -> list[str]:
        """How other tenants are seen or changed by any of many calls; empty where they are not."""
        found: list[str] = []
        async with self._undone():
            for values in self._argument_sets(query):
                alone, shared = await self._in_both(query, values, locks)
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
            of_file = [one for one in self._queries if one.source.path == query.source.path]
            about = self._about.get(str(query.source.path))
            self._sets[query.name] = argument_sets(query, of_file, self._of.mine, self._of.others, about)
        return self._sets[query.name]

    async def _in_both(self, query: Query[Any], values: Mapping[str, Any], locks: Locks) -> list[Outcome | str]:
        runs = [self._run(world, query, values, locks) for world in (self._of.alone, self._of.shared)]
        # Both are over before an error of one is raised: what follows undoes what was done on either connection.
        outcomes = await asyncio.gather(*runs, return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]

    async def _run(self, world: World, query: Query[Any], values: Mapping[str, Any], locks: Locks) -> Outcome | str:
        self.calls += 1
        weakened = self._weakened_functions(query, locks)
        connection = world.superuser if weakened or not locks.row_security else world.service
        text = query.text if locks.conditions else without(query, conditions(query))
        # What the run before did is undone in the same message, which saves one.
        await connection.execute("; ".join(["rollback", "begin", *set_local(tenant_id=locks.session)]))
        try:
            for function in weakened:
                await connection.execute(function)
            if connection is world.superuser and locks.row_security:
                service = await world.service.fetchval("select current_user")
                await connection.execute(f"set local session authorization {service}")
            rows = await connection.fetch(text, *sent(bind(query, locks.argument, values).arguments))
            if world is self._of.shared and await self._digest(connection) != self._of.untouched:
                return "the other tenant is changed"
        except Exception as error:
            sqlstate = getattr(error, "sqlstate", None)
            if sqlstate is None or not sqlstate.startswith(_REFUSALS):
                raise
            return Outcome([], sqlstate)
        return Outcome(sorted(repr(self._masked(dict(row))) for row in rows))

    def _weakened_functions(self, query: Query[Any], locks: Locks) -> list[str]:
        """The functions that the query calls, without the lock that it has to do without.

        The conditions of one with its owner's rights do for row security what it cannot do fast; those of one with its
        caller's rights are the statement's.
        """
        called, catalog = set(names(query)), self._of.catalog
        weakened = []
        if not locks.row_security:
            weakened += [self._weakened(text) for name, text in catalog.functions.items() if name in called]
        if not locks.conditions:
            texts = [text for name, text in catalog.invokers.items() if name in called]
            weakened += [_FUNCTIONS_CONDITION.sub("true", text) for text in texts]
        return weakened

    async def _digest(self, connection: Any) -> str:
        """The other tenant's digest, as far as the transaction can have changed it."""
        if not await connection.fetchval("select pg_current_xact_id_if_assigned() is not null"):
            return self._of.untouched
        await connection.execute(f"set local app.tenant_id = '{OTHERS}'")
        return str(await connection.fetchval(self._of.digest, OTHERS))

    def _masked(self, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: self._masked(one) for key, one in value.items()}
        if isinstance(value, datetime) and value.tzinfo is not None and value >= self._of.began:
            return "now"
        if isinstance(value, int) and value >= FIRST_DRAWN:
            return "new"
        return value
