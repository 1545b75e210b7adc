"""Two databases, one of which has a tenant alone, and the other the same tenant and a twin of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

import asyncpg
import psycopg
from psycopg import sql

from tests.isolation.two_locks_arguments import Rows
from tests.isolation.two_locks_statements import Catalog
from tests.support.twins import LONG_AGO, make_twin, tenant_tables
from thea_store import Settings, Store
from thea_store.database.connection import Connector
from thea_store.postgres.url import DatabaseUrl
from thea_store.testing import TestDatabase

__all__ = ["FIRST_DRAWN", "MINE", "OTHERS", "Databases", "World", "catalog_of", "databases"]

# Whoever compares names loosely takes one for the other: these differ in their case, or in their end.
MINE, OTHERS, THIRD = "Twin", "twin", "Twin-2"

# Where ids begin that are drawn after the making, so that they are known as such.
FIRST_DRAWN = 10**12

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record]


class World(NamedTuple):
    """One of the databases, by the service's login and by one that row security does not bind."""

    service: Connection
    superuser: Connection


@dataclass(frozen=True)
class Databases:
    """Both, and what is in them."""

    alone: World
    shared: World
    catalog: Catalog
    mine: Rows
    others: Rows
    digest: str
    """The statement that gives one text for all that a tenant has."""
    untouched: str
    """The twin's."""
    began: datetime
    """When all was made."""


@asynccontextmanager
async def databases(new_database: Callable[[], TestDatabase], maintenance: TestDatabase) -> AsyncIterator[Databases]:
    """Both, filled; `maintenance` is a database to be in while one is cloned."""
    alone, shared = new_database(), new_database()
    async with Store.open(Settings(url=alone.app_url, pool_size=1)) as store:
        await make_twin(store, MINE)
    with psycopg.connect(maintenance.superuser_url, autocommit=True) as connection:
        connection.execute(f"drop database {shared.name}".encode())
        connection.execute(f"create database {shared.name} template {alone.name}".encode())
    async with Store.open(Settings(url=shared.app_url, pool_size=1)) as store:
        await make_twin(store, OTHERS)
        for tenant in (OTHERS, THIRD):
            await _make_stranger(store, tenant)
    for database in (alone, shared):
        _restart_sequences(database)
    async with AsyncExitStack() as resources:
        first, second = [await _world(database, resources) for database in (alone, shared)]
        yield await _looked_at(first, second, shared.superuser_url)


async def _make_stranger(store: Store, tenant: str) -> None:
    """A user without a name, whose Telegram id and session the tenant that is alone does not have."""
    user = await store.users.create(tenant, telegram_id=2001)
    await store.notes.create(tenant, user.id, "Solo aquí", category="casa", tags=["compra"])
    await store.events.create(tenant, user.id, "Solo aquí", LONG_AGO, external_id="solo", reminder_minutes=5)
    await store.messages.add_message(tenant, user.id, "2001-solo", user_message="Hola", intent_detected="saludar")


def _restart_sequences(database: TestDatabase) -> None:
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        found = connection.execute(
            "select relname from pg_class where relnamespace = 'thea'::regnamespace and relkind = 'S'"
        ).fetchall()
        for (name,) in found:
            restart = sql.SQL("alter sequence thea.{} restart with {}")
            connection.execute(restart.format(sql.Identifier(name), sql.Literal(FIRST_DRAWN)))


async def _world(database: TestDatabase, resources: AsyncExitStack) -> World:
    made = []
    for url in (database.app_url, database.superuser_url):
        connection = (await Connector(DatabaseUrl.parse(url), command_timeout=30, direct_only=True)()).raw
        resources.push_async_callback(connection.close)
        made.append(connection)
    return World(*made)


async def _looked_at(alone: World, shared: World, url: str) -> Databases:
    with psycopg.connect(url) as connection:
        tables, catalog = tenant_tables(connection), catalog_of(connection)
    digest = _digest(tables)
    mine, others = [await _rows(shared.superuser, tables, tenant) for tenant in (MINE, OTHERS)]
    return Databases(
        alone=alone,
        shared=shared,
        catalog=catalog,
        mine=mine,
        others=others,
        digest=digest,
        untouched=await shared.superuser.fetchval(digest, OTHERS),
        began=await shared.superuser.fetchval("select clock_timestamp()"),
    )


# --- the catalog --------------------------------------------------------------------------------


def catalog_of(connection: psycopg.Connection[Any]) -> Catalog:
    """What the schema has for a query."""
    relations = connection.execute(
        "select relname, exists (select from pg_attribute where attrelid = c.oid and attname = 'tenant_id')"
        " from pg_class c where relnamespace = 'thea'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'f')"
    )
    functions = connection.execute(
        "select proname, pg_get_functiondef(oid) from pg_proc"
        " where pronamespace = 'thea'::regnamespace and prosecdef and proargnames[1] = 'p_tenant'"
    )
    return Catalog(dict(relations.fetchall()), dict(functions.fetchall()))


_PARENTS = """
select k.conrelid::regclass::text, a.attname, k.confrelid::regclass::text
from pg_constraint k
join pg_attribute a on a.attrelid = k.conrelid and a.attnum = k.conkey[2]
where k.contype = 'f' and k.connamespace = 'thea'::regnamespace
"""
_KEYS = """
select c.relname, a.attname
from pg_index i
join pg_class c on c.oid = i.indrelid
join pg_attribute a on a.attrelid = c.oid and a.attnum = any(i.indkey)
where c.relnamespace = 'thea'::regnamespace and i.indisunique and not i.indisprimary and a.attname <> 'tenant_id'
"""


async def _rows(superuser: Connection, tables: Mapping[str, Sequence[str]], tenant: str) -> Rows:
    parents: dict[str, dict[str, str]] = {table: {} for table in tables}
    keys: dict[str, set[str]] = {table: set() for table in tables}
    for table, column, parent in await superuser.fetch(_PARENTS):
        parents[table.split(".")[-1]][column] = parent.split(".")[-1]
    for table, column in await superuser.fetch(_KEYS):
        keys[table].add(column)
    rows = {}
    for table in tables:
        # In the order of making; the ids of the audit log are in none.
        ordered = f"select * from thea.{table} t where tenant_id = $1 order by to_jsonb(t) ->> 'at', id"
        rows[table] = [dict(row) for row in await superuser.fetch(ordered, tenant)]
    return Rows(rows, parents, {table: frozenset(names - parents[table].keys()) for table, names in keys.items()})


def _digest(tables: Mapping[str, Sequence[str]]) -> str:
    rows = " union all ".join(
        f"select '{table}' || t::text from thea.{table} t where tenant_id = $1" for table in tables
    )
    return f"select md5(string_agg(line, chr(10) order by line)) from ({rows}) as of_all (line)"
