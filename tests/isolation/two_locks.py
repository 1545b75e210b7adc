"""The library's own queries and tables, put before the proof that services have for theirs."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import psycopg

from tests.support.twins import LONG_AGO, certify, count_messages, make_twin
from thea_store import Settings, Store
from thea_store.assistant import AGGREGATES
from thea_store.repositories import audit
from thea_store.store import SQL_FILES
from thea_store.tenancy import people
from thea_store.testing import TestDatabase
from thea_store.testing.proving.databases import OTHERS, Databases, databases
from thea_store.testing.proving.locks import TwoLocks
from thea_store.testing.proving.rows import fill, tables_of, with_parents

__all__ = ["ABOUT", "QUERIES", "SCHEMAS", "proof_of", "two_databases"]

SCHEMAS = ["thea"]
QUERIES = [query for file in SQL_FILES for query in file.claimed]
THIRD = "Twin-2"

ABOUT = {str(query.source.path): each.table for each in AGGREGATES for query in each.sql.claimed} | {
    str(query.source.path): "thea.audit_log" for file in (audit.SQL, people.SQL) for query in file.claimed
}


@asynccontextmanager
async def two_databases(new_database: Callable[[], TestDatabase]) -> AsyncIterator[Databases]:
    """One that has a tenant alone, and one that has its twin, too."""
    async with databases(new_database, SCHEMAS, (), _fill) as made:
        yield made


def proof_of(made: Databases) -> TwoLocks:
    """What runs each query there without one of its locks."""
    return TwoLocks(made, QUERIES, ABOUT, _weakened)


_FUNCTIONS_CONDITION = re.compile(r"\b\w+\.tenant_id = p_tenant\b")
_FUNCTIONS_SCOPE = "thea.note_scope(p_tenant, p_user)"


def _weakened(function: str) -> str:
    """The function turned to the other tenant: it searches what row security keeps from its index."""
    weakened, count = _FUNCTIONS_CONDITION.subn("true", function)
    assert count, f"no condition on `p_tenant` in {function}"
    assert _FUNCTIONS_SCOPE in weakened, f"no look for entries of `p_tenant` in {function}"
    return weakened.replace(_FUNCTIONS_SCOPE, f"thea.note_scope('{OTHERS}', p_user)")


async def _fill(database: TestDatabase, tenant: str) -> None:
    async with Store.open(Settings(url=database.app_url, pool_size=1)) as store:
        await make_twin(store, tenant)
        certify(database.superuser_url, tenant)
        count_messages(database.superuser_url, tenant)
        await asyncio.to_thread(_fill_the_rest, database, tenant)
        for stranger in (OTHERS, THIRD) if tenant == OTHERS else ():
            await _make_stranger(store, stranger)


def _fill_the_rest(database: TestDatabase, tenant: str) -> None:
    """Rows of the aggregates that a twin has none of yet, as the proof of an extension makes them."""
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        connection.execute("set search_path = ''")
        names = [
            each.table
            for each in AGGREGATES
            if not connection.execute(f"select from {each.table} where tenant_id = %s limit 1", [tenant]).rowcount
        ]
        if names:
            fill(connection, with_parents(tables_of(connection, SCHEMAS), names), tenant)


async def _make_stranger(store: Store, tenant: str) -> None:
    """A user without a name, whose Telegram id and session the tenant that is alone does not have."""
    user = await store.users.create(tenant, telegram_id=2001)
    await store.notes.create(tenant, user.id, "Solo aquí", category="casa", tags=["compra"])
    await store.events.create(tenant, user.id, "Solo aquí", LONG_AGO, external_id="solo", reminder_minutes=5)
    await store.messages.add_message(tenant, user.id, "2001-solo", user_message="Hola", intent_detected="saludar")
