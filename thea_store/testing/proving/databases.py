"""Two databases, one of which has a tenant alone, and the other the same tenant and a twin of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from thea_store.database.connector import Connector
from thea_store.postgres.url import DatabaseUrl
from thea_store.testing.proving.arguments import Rows, as_argument
from thea_store.testing.proving.rows import Table, tables_of
from thea_store.testing.server import TestDatabase
from thea_store.verification.conditions_parsed import Catalog, catalog_of

__all__ = ["FIRST_DRAWN", "MINE", "OTHERS", "Databases", "World", "databases", "rows_of"]

# Whoever compares names loosely takes one for the other: they differ in their case.
MINE, OTHERS = "Twin", "twin"

# Where ids begin that are drawn after the making, so that they are known as such.
FIRST_DRAWN = 10**12

Fill = Callable[[TestDatabase, str], Awaitable[None] | None]
"""Makes the rows of a tenant in a database; called for each tenant."""


class World(NamedTuple):
    """One of the databases, by the service's login and by one that row security does not bind (asyncpg connections)."""

    service: Any
    superuser: Any


@dataclass(frozen=True)
class Databases:
    """Both, and what is in them."""

    alone: World
    shared: World
    database: TestDatabase
    """The one that is shared."""
    catalog: Catalog
    tables: Sequence[Table]
    mine: Rows
    others: Rows
    digest: str
    """The statement that gives one text for all that a tenant has."""
    untouched: str
    """The twin's."""
    began: datetime
    """When all was made."""


@asynccontextmanager
async def databases(
    new_database: Callable[[], TestDatabase], schemas: Sequence[str], shared_tables: Sequence[str], fill: Fill
) -> AsyncIterator[Databases]:
    """Both, filled by `fill`, with the tables of these schemas."""
    alone, shared, maintenance = new_database(), new_database(), new_database()
    await _done(fill(alone, MINE))
    with psycopg.connect(maintenance.superuser_url, autocommit=True) as connection:
        for statement in ("drop database {0}", "create database {0} template {1}"):
            names = sql.Identifier(shared.name), sql.Identifier(alone.name)
            connection.execute(sql.SQL(statement).format(*names))
    await _done(fill(shared, OTHERS))
    for database in (alone, shared):
        _restart_sequences(database, schemas)
    async with AsyncExitStack() as resources:
        first, second = [await _world(database, resources) for database in (alone, shared)]
        yield await _looked_at(first, second, shared, schemas, shared_tables)


async def _done(made: Awaitable[None] | None) -> None:
    if made is not None:
        await made


def _restart_sequences(database: TestDatabase, schemas: Sequence[str]) -> None:
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        found = connection.execute(
            "select n.nspname, c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace"
            " where n.nspname = any(%s) and c.relkind = 'S'",
            [list(schemas)],
        ).fetchall()
        for names in found:
            restart = sql.SQL("alter sequence {}.{} restart with {}")
            connection.execute(restart.format(*map(sql.Identifier, names), sql.Literal(FIRST_DRAWN)))


async def _world(database: TestDatabase, resources: AsyncExitStack) -> World:
    made = []
    for url in (database.app_url, database.superuser_url):
        connection = (await Connector(DatabaseUrl.parse(url), command_timeout=30, direct_only=True)()).raw
        resources.push_async_callback(connection.close)
        made.append(connection)
    return World(*made)


async def _looked_at(
    alone: World, shared: World, database: TestDatabase, schemas: Sequence[str], shared_tables: Sequence[str]
) -> Databases:
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        connection.execute("set search_path = ''")
        # One without an id is not protected, which the catalog tells.
        tables = [table for table in tables_of(connection, schemas) if "id" in table.all_columns]
        catalog = catalog_of(connection, schemas, shared_tables)
    digest = _digest(tables)
    mine, others = [await rows_of(shared.superuser, tables, tenant) for tenant in (MINE, OTHERS)]
    return Databases(
        alone=alone,
        shared=shared,
        database=database,
        catalog=catalog,
        tables=tables,
        mine=mine,
        others=others,
        digest=digest,
        untouched=str(await shared.superuser.fetchval(digest, OTHERS)),
        began=await shared.superuser.fetchval("select clock_timestamp()"),
    )


async def rows_of(superuser: Any, tables: Sequence[Table], tenant: str) -> Rows:
    """What a tenant has, by its tables, as arguments are made of it."""
    rows = {}
    for table in tables:
        # In the order of making; the ids of the audit log are in none.
        ordered = f"select * from {table.name} t where tenant_id = $1 order by to_jsonb(t) ->> 'at', id"  # noqa: S608 - the catalog's own name
        types = {column.name: column.type for column in table.columns}
        rows[table.name] = [
            {name: as_argument(value, types.get(name, "")) for name, value in row.items()}
            for row in await superuser.fetch(ordered, tenant)
        ]
    return Rows(rows, {table.name: table.parents for table in tables}, {table.name: table.unique for table in tables})


def _digest(tables: Sequence[Table]) -> str:
    rows = " union all ".join(
        f"select '{table.name}' || t::text from {table.name} t where tenant_id = $1"  # noqa: S608 - as above
        for table in tables
    )
    return f"select md5(string_agg(line, chr(10) order by line)) from ({rows}) as of_all (line)"  # noqa: S608
