"""What the server did for a call, as its own account tells: the plan of each statement, with the rows of each node.

The account is auto_explain's, which also tells of the statements inside: of functions, of triggers, of foreign keys.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import asyncpg

from thea_store.database.connection import Connection
from thea_store.database.connector import Connector
from thea_store.postgres.url import DatabaseUrl
from thea_store.queries.binding import bind
from thea_store.queries.file import Query
from thea_store.testing import TestDatabase
from thea_store.testing.logins import login_of
from thea_store.verification.groups import shared_tables

__all__ = ["Fault", "Mode", "Plan", "Planner", "Rule", "judge", "open_planner", "read_plan"]

Mode = Literal["custom", "generic"]
"""A plan for the values of the call, or one for all values, which a server may choose after five calls."""

Rule = Literal["seq scan", "filter", "reads", "pages"]

# Rows thrown away for each that a node keeps; rows read for each that a statement returns or writes; and pages for
# each row that is read, or written to all indexes: more than that, and an index was walked in vain.
_THROWN, _READ, _PAGES, _WRITTEN_PAGES = 100, 100, 10, 100

_EXPLAIN = (
    "load 'auto_explain'; set auto_explain.log_min_duration = 0; set auto_explain.log_nested_statements = on;"
    " set auto_explain.log_analyze = on; set auto_explain.log_buffers = on; set auto_explain.log_timing = off;"
    " set auto_explain.log_format = json; set client_min_messages = log;"
    # Functions that work with rows of others let nothing less through.
    " set auto_explain.log_level = warning"
)

_Node = Mapping[str, Any]


class Fault(NamedTuple):
    """What a statement should not do."""

    rule: Rule
    text: str
    read: float
    """How many rows the statement looked at."""


@dataclass(frozen=True)
class Plan:
    """One statement that was executed."""

    statement: str
    root: _Node

    @cached_property
    def nodes(self) -> list[_Node]:
        """All nodes that ran."""
        return [node for node in _walk(self.root) if node["Actual Loops"]]

    @property
    def returned(self) -> float:
        """How many rows came back."""
        return _rows(self.root)

    @property
    def written(self) -> float:
        """How many rows were inserted, updated or deleted."""
        written = [child for node in self.nodes if node["Node Type"] == "ModifyTable" for child in node["Plans"]]
        return sum(_rows(node) for node in written if node["Parent Relationship"] == "Outer")

    @property
    def read(self) -> float:
        """How many rows of tables were looked at."""
        return sum(
            _rows(n) + _thrown(n) for n in self.nodes if n["Node Type"].endswith("Scan") and "Relation Name" in n
        )

    @property
    def thrown(self) -> float:
        """How many rows were looked at and thrown away."""
        return sum(_thrown(node) for node in self.nodes)

    @property
    def pages(self) -> int:
        """How many pages were looked at, without those of functions: each statement inside of one is a plan itself."""
        functions = [node for node in self.nodes if node["Node Type"] == "Function Scan"]
        return _pages(self.root) - sum(map(_pages, functions))

    @property
    def indexes(self) -> set[str]:
        """The indexes that were looked into."""
        named = {node["Index Name"] for node in self.nodes if "Index Name" in node}
        return named.union(*(node.get("Conflict Arbiter Indexes", ()) for node in self.nodes))

    def touches(self, tables: Collection[str]) -> bool:
        """Whether it has to do with one of the tables."""
        return any(node.get("Relation Name") in tables for node in _walk(self.root))


def _pages(node: _Node) -> int:
    return int(node["Shared Hit Blocks"] + node["Shared Read Blocks"])


def judge(plan: Plan, tables: Collection[str], hidden: int = 0) -> Iterator[Fault]:
    """The faults of a statement on these tables; so many rows may be met in vain because they are deleted."""
    read, done = plan.read, plan.returned + plan.written
    for node in plan.nodes:
        if node["Node Type"] == "Seq Scan" and node.get("Relation Name") in tables:
            yield Fault("seq scan", f"{_described(node)} reads all tenants' rows", read)
        rows, thrown = _rows(node), _thrown(node)
        if thrown > _THROWN * max(1, rows) + hidden:
            yield Fault("filter", f"{_described(node)} throws away {thrown:.0f} rows for {rows:.0f}", read)
    if read > _READ * max(1, done) + hidden:
        widest = max(plan.nodes, key=lambda node: _rows(node) + _thrown(node) if "Relation Name" in node else 0)
        yield Fault("reads", f"{read:.0f} rows are read for {done:.0f}, most by {_described(widest)}", read)
    if plan.pages > 100 + _PAGES * (read + plan.returned) + _WRITTEN_PAGES * plan.written + hidden:
        yield Fault("pages", f"{plan.pages} pages are read for {read:.0f} rows", read)


@dataclass
class Planner:
    """A session of a group's login that tells how its statements were executed."""

    connection: Connection
    login: str
    tables: Collection[str]
    _told: list[str]

    async def explain(
        self, query: Query[Any], tenant: str, values: Mapping[str, Any], mode: Mode, *, spoilt: str | None = None
    ) -> list[Plan]:
        """The plans of one call, which is undone; none of a call that a constraint refuses.

        `spoilt` is what a superuser does to the schema before, and undone with it.
        """
        raw = self.connection.raw
        if self.connection.tenant != tenant:
            await self.connection.carry(tenant)
        await raw.execute(f"begin; set local plan_cache_mode = force_{mode}_plan")
        try:
            if spoilt is not None:
                await raw.execute(f"reset session authorization; {spoilt}; set session authorization {self.login}")
            self._told.clear()
            await raw.fetch(query.text, *bind(query, tenant, values).arguments)
        except asyncpg.IntegrityConstraintViolationError:
            pass
        finally:
            await raw.execute("rollback")
        await asyncio.sleep(0)  # what the server told is handed on by then
        plans = [plan for plan in map(read_plan, self._told) if plan is not None]
        return [plan for plan in plans if plan.touches(self.tables)]


@asynccontextmanager
async def open_planner(database: TestDatabase, group: str = "thea_app") -> AsyncIterator[Planner]:
    """A session of a group's login; that a superuser opened it gives it auto_explain and no right."""
    connection = await Connector(DatabaseUrl.parse(database.superuser_url), 120.0, direct_only=False)()
    told: list[str] = []
    try:
        rows = await connection.raw.fetch(
            "select tablename from pg_tables where schemaname = 'thea' and not (tablename = any($1))",
            list(shared_tables()),
        )
        await connection.raw.execute(f"{_EXPLAIN}; set session authorization {login_of(group)}")
        connection.raw.add_log_listener(lambda _, message: told.append(str(message.message)))
        yield Planner(connection, login_of(group), frozenset(row[0] for row in rows), told)
    finally:
        await connection.raw.close()


# --- reading ----------------------------------------------------------------------------------------


def read_plan(message: str) -> Plan | None:
    """The plan that a message of auto_explain tells; `None` of any other message."""
    head, _, body = message.partition("\n")
    if not head.endswith("plan:"):
        return None
    told = json.loads(body)
    return Plan(told["Query Text"], told["Plan"])


def _walk(node: _Node) -> Iterator[_Node]:
    yield node
    for child in node.get("Plans", ()):
        yield from _walk(child)


def _rows(node: _Node) -> float:
    return float(node["Actual Rows"] * node["Actual Loops"])


def _thrown(node: _Node) -> float:
    """By a filter, by a join's filter, or because a bitmap was not exact."""
    return float(sum(n * node["Actual Loops"] for name, n in node.items() if name.startswith("Rows Removed by")))


def _described(node: _Node) -> str:
    named = [
        f"{word} {node[name]}" for word, name in (("on", "Relation Name"), ("using", "Index Name")) if name in node
    ]
    condition = node.get("Index Cond") or node.get("Recheck Cond") or node.get("Hash Cond")
    return " ".join([node["Node Type"], *named, f"({condition})" if condition else "(no condition)"])
