"""All that is proven of an extension, put together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import psycopg

from thea_store.errors import IsolationError, StoreError
from thea_store.extensions import Extension, discover
from thea_store.postgres.url import DatabaseUrl
from thea_store.queries.file import Query
from thea_store.queries.query import TENANT
from thea_store.settings import extensions_setting
from thea_store.testing.proving.attacks import WEAKENINGS, Attacker, open_relations
from thea_store.testing.proving.databases import OTHERS, Databases, databases
from thea_store.testing.proving.locks import Locks, TwoLocks
from thea_store.testing.proving.report import Fault, Report
from thea_store.testing.proving.rows import Table, fill, tables_of, with_parents
from thea_store.testing.server import TestDatabase
from thea_store.testing.sources import start_server
from thea_store.verification.conditions_parsed import catalog_of, conditions, findings
from thea_store.verification.left_out import sentences
from thea_store.verification.opening import inspect, mismatches
from thea_store.verification.protection import lacks_of

__all__ = ["prove"]

Rows = Callable[[psycopg.Connection[Any], str], None]
"""Makes a tenant's rows by a superuser's connection; the same for each tenant, but for the tenant's name."""

_LOCKS = {
    "its conditions alone": Locks(row_security=False),
    "row security alone": Locks(conditions=False),
    "a connection of another tenant": Locks(session=OTHERS),
}


def prove(extension: Extension, *, rows: Rows | None = None, server: str | None = None) -> Report:
    """Prove that each query and table of an extension keeps tenants apart; blocks, for some seconds.

    It makes its own databases on a throwaway server, which `server` names as THEA_TEST_SERVER does. Rows are made of
    what the catalog says; where that is not enough, `rows` makes them. Raises `IsolationError` with the report where
    anything is found, and `StoreError` where the proof cannot be made: without the extra `prove`, for instance.
    """
    with ThreadPoolExecutor(1) as thread:  # a loop of its own, whatever the caller's does
        report = thread.submit(_prove, extension, rows, server).result()
    if not report.is_isolated:
        raise IsolationError(report)
    return report


def _prove(extension: Extension, rows: Rows | None, server: str | None) -> Report:
    extensions = discover([extension], extensions_setting())
    with ExitStack() as resources:
        started = start_server(resources, extensions, server)
        return asyncio.run(_Proof(extension, rows).on(lambda: started.new_database(resources)))


class _Proof:
    """One proof: what is looked at, and what has been found."""

    def __init__(self, extension: Extension, rows: Rows | None) -> None:
        self._extension, self._rows = extension, rows
        self._schemas = ["thea", extension.name]
        self._queries = [query for file in extension.sql_files for query in file.claimed]
        self._faults: list[Fault] = []
        self._controls = 0
        self._unshown: list[str] = []

    async def on(self, new_database: Callable[[], TestDatabase]) -> Report:
        """The report, from databases that this makes."""
        first = new_database()
        self._faults += self._of_schema(first)
        calls = attacks = 0
        tables: Sequence[Table] = ()
        if not self._faults or all(fault.subject != "proof" for fault in self._faults):
            try:
                async with databases(
                    new_database, self._schemas, self._extension.shared_tables, self._fill
                ) as prepared:
                    tables = [table for table in prepared.tables if self._is_ours(table.name)]
                    calls = await self._of_queries(prepared)
                    attacks = self._of_tables(prepared, tables)
            except StoreError as error:
                self._faults.append(Fault("proof", self._extension.name, "proof", str(error)))
        return Report(
            extensions=(self._extension.name,),
            queries=len(self._queries),
            tables=len(tables),
            calls=calls,
            attacks=attacks,
            controls=self._controls,
            faults=tuple(dict.fromkeys(self._faults)),
            unshown=tuple(self._unshown),
        )

    def _is_ours(self, table: str) -> bool:
        return table.startswith(f"{self._extension.name}.") and table not in self._extension.shared_tables

    def _fill(self, database: TestDatabase, tenant: str) -> None:
        with psycopg.connect(database.superuser_url, autocommit=True) as connection:
            connection.execute("set search_path = ''")
            if self._rows is not None:
                self._rows(connection, tenant)
                return
            tables = tables_of(connection, self._schemas)
            wanted = with_parents(tables, [table.name for table in tables if self._is_ours(table.name)])
            is_open = {fault.name for fault in self._faults if fault.rule == "protected"}
            fill(connection, wanted, tenant, is_open)

    # --- what the catalog and the statements say ---------------------------------------------------

    def _of_schema(self, database: TestDatabase) -> list[Fault]:
        inspected = inspect(DatabaseUrl.parse(database.app_url), [], [self._extension])
        found = [Fault("query", _name_in(sentence), "fits the schema", sentence) for sentence in mismatches(inspected)]
        with psycopg.connect(database.superuser_url, autocommit=True) as connection:
            connection.execute("set search_path = ''")
            catalog = catalog_of(connection, self._schemas, self._extension.shared_tables)
            found += self._left_out(connection, {fault.name for fault in found})
            lacks = lacks_of(connection, [self._extension.name], self._extension.shared_tables)
            found += [Fault("table", each.partition(":")[0], "protected", each) for each in lacks]
            found += [
                Fault("function" if kind == "function" else "view", name, "goes round the policies", why)
                for kind, name, why in open_relations(connection, [self._extension.name])
            ]
            found += self._unaudited(connection)
        # What the server cannot read is told already.
        unread = {fault.name for fault in found if fault.rule == "fits the schema"}
        found += [
            Fault("query", query.name, "a condition for each table", sentence)
            for query in self._queries
            if query.name not in unread
            for sentence in findings(query, catalog)
        ]
        return found

    def _left_out(self, connection: psycopg.Connection[Any], unread: set[str]) -> Iterator[Fault]:
        queries = [query for query in self._queries if query.name not in unread]
        for sentence in sentences(connection, queries):
            yield Fault("query", _name_in(sentence), "gives what it must", sentence)

    def _unaudited(self, connection: psycopg.Connection[Any]) -> Iterator[Fault]:
        for table in tables_of(connection, [self._extension.name]):
            if not self._is_ours(table.name):
                continue
            triggers = {
                row[0]
                for row in connection.execute(
                    "select tgfoid::regproc::text from pg_catalog.pg_trigger where tgrelid = %s::regclass"
                    " and tgenabled = 'O'",
                    [table.name],
                )
            }
            if "thea.audit" not in triggers:
                why = f"no trigger writes its changes to the audit log: `select thea.protect('{table.name}')`"
                yield Fault("table", table.name, "audited", why)

    # --- what happens -------------------------------------------------------------------------------

    async def _of_queries(self, prepared: Databases) -> int:
        aggregates = self._extension.aggregates
        about = {str(query.source.path): each.table for each in aggregates for query in each.sql.claimed}
        locks = TwoLocks(prepared, self._queries, about)
        broken = {fault.name for fault in self._faults if fault.rule == "fits the schema"}
        for query in self._queries:
            if TENANT in query.parameters and query.name not in broken:
                try:
                    await self._of_query(locks, query)
                except Exception as error:
                    if (sqlstate := getattr(error, "sqlstate", None)) is None:
                        raise
                    why = f"{query.source}: the server answers the proof's own rows with SQLSTATE {sqlstate}"
                    self._faults.append(Fault("query", query.name, "runs", why))
        return locks.calls

    async def _of_query(self, locks: TwoLocks, query: Query[Any]) -> None:
        for name, taken in _LOCKS.items():
            if name == "a connection of another tenant" and not conditions(query):
                continue
            if found := await locks.leaks(query, taken, first_only=True):
                self._faults.append(Fault("query", query.name, name, f"{query.source}: {found[0]}"))
        if conditions(query):
            if await locks.leaks(query, Locks(conditions=False, row_security=False), first_only=True):
                self._controls += 1
            else:
                self._unshown.append(f"{query.source}: {query.name}")

    def _of_tables(self, prepared: Databases, tables: Sequence[Table]) -> int:
        with psycopg.connect(prepared.database.superuser_url, autocommit=True) as connection:
            attacker = Attacker(connection)
            for table in tables:
                for breach in attacker.breaches(table):
                    self._faults.append(Fault("table", table.name, "closed to free SQL", breach))
                if any(fault.name == table.name for fault in self._faults):
                    continue  # what is open already cannot be weakened
                for weakening, statements in WEAKENINGS.items():
                    found = attacker.breaches(table, statements)
                    if weakening == "both policies" and not found:
                        why = "with both policies taken away nothing is reached, so the proof says nothing of it"
                        self._faults.append(Fault("table", table.name, "proof can fail", why))
                    elif weakening != "both policies" and found:
                        self._faults.append(Fault("table", table.name, f"without {weakening}", found[0]))
                    else:
                        self._controls += 1
            return attacker.attempts


def _name_in(sentence: str) -> str:
    """The query's name in a sentence that begins with `file:line: name: `."""
    return sentence.split(": ", 2)[1] if sentence.count(": ") > 1 else sentence
