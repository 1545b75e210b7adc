"""No query shows or changes another tenant's rows, even where one of its two locks is missing.

The locks are the conditions `tenant_id = :tenant_id` in the statement, and the server's row security. The queries are
those that the store claims; one that is new is looked at without being named here.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from collections.abc import Set as AbstractSet
from contextlib import AsyncExitStack
from dataclasses import replace
from itertools import product
from typing import Any

import asyncpg
import psycopg
import pytest
import pytest_asyncio

from tests.isolation.two_locks import QUERIES, SCHEMAS, proof_of, two_databases
from thea_store.queries.file import Query
from thea_store.queries.query import TENANT
from thea_store.resources import sql_dir
from thea_store.store import GROUP_FILES, SQL_FILES
from thea_store.testing import TestDatabase
from thea_store.testing.proving.databases import MINE, OTHERS, Databases, World
from thea_store.testing.proving.locks import Locks, TwoLocks
from thea_store.verification.conditions_parsed import Catalog, called, catalog_of, conditions, findings, names, without
from thea_store.verification.groups import GROUPS, shared_tables


def _each(queries: Iterable[Query[Any]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("query", list(queries), ids=lambda query: query.name)


every_query = _each(QUERIES)
every_query_of_a_tenant = _each(query for query in QUERIES if TENANT in query.parameters)
# The others do nothing but insert.
every_query_with_conditions = _each(query for query in QUERIES if conditions(query))


@pytest_asyncio.fixture(scope="module")
async def both(thea_new_database: Callable[[], TestDatabase]) -> AsyncIterator[Databases]:
    async with two_databases(thea_new_database) as made:
        yield made


@pytest.fixture(scope="module")
def proof(both: Databases) -> TwoLocks:
    return proof_of(both)


@pytest.fixture(scope="module")
def catalog(thea_database: TestDatabase) -> Catalog:
    with psycopg.connect(thea_database.superuser_url) as connection:
        connection.execute("set search_path = ''")
        return catalog_of(connection, SCHEMAS)


# --- each lock alone ----------------------------------------------------------------------------


NO_ROW = "it reaches no row of the twins: give tests/support/twins.py one that it is about"


@every_query
async def test_without_its_conditions_row_security_keeps_to_the_tenant(proof: TwoLocks, query: Query[Any]) -> None:
    assert await proof.leaks(query, Locks(conditions=False)) == []


@every_query
async def test_without_row_security_its_conditions_keep_to_the_tenant(proof: TwoLocks, query: Query[Any]) -> None:
    assert await proof.leaks(query, Locks(row_security=False)) == []


@every_query
async def test_the_tenant_of_another_connection_gets_nothing(proof: TwoLocks, query: Query[Any]) -> None:
    assert await proof.leaks(query, Locks(argument=OTHERS)) == []


# The controls: the same calls work, and do reach the other tenant.


@every_query
async def test_with_both_it_works(proof: TwoLocks, query: Query[Any]) -> None:
    assert await proof.works(query), (
        f"{query.name} reaches no row of the twins: give tests/support/twins.py one that it is about"
    )


@every_query_with_conditions
async def test_without_both_it_reaches_another_tenant(proof: TwoLocks, query: Query[Any]) -> None:
    leaks = await proof.leaks(query, Locks(conditions=False, row_security=False), first_only=True)
    assert leaks, f"{query.name}: {NO_ROW}"


@every_query_of_a_tenant
async def test_for_the_other_tenant_it_reaches_it(proof: TwoLocks, query: Query[Any]) -> None:
    leaks = await proof.leaks(query, Locks(row_security=False, argument=OTHERS, session=OTHERS), first_only=True)
    assert leaks, f"{query.name}: {NO_ROW}"


# --- the conditions, read -----------------------------------------------------------------------


def test_the_queries_are_those_of_all_sql_files() -> None:
    files = [*SQL_FILES, *(file for more in GROUP_FILES.values() for file in more)]

    assert {file.aggregate for file in files} == {path.stem for path in sql_dir().glob("*.sql")}


def test_the_queries_of_other_groups_name_no_table_of_a_tenant(catalog: Catalog) -> None:
    serving = {group.name for group in GROUPS if group.serves_tenants}
    queries = [
        (query, group in serving) for group, more in GROUP_FILES.items() for file in more for query in file.claimed
    ]

    assert {serves for _, serves in queries} == {False, True}
    assert [query.name for query, serves in queries if serves and findings(query, catalog)] == []
    assert [query.name for query, _ in queries if set(names(query)) & catalog.tables] == []
    assert [query.name for query, serves in queries if (TENANT in query.parameters) != serves] == []


@every_query
def test_whatever_it_names_has_a_condition_of_its_own(catalog: Catalog, query: Query[Any]) -> None:
    assert findings(query, catalog) == []


# They look at what they are given and do nothing else: no setting, no lock, no message, no file, no other statement.
HARMLESS = {
    "array_agg", "avg", "cardinality", "chr", "clock_timestamp", "count", "date_trunc", "jsonb_build_object",
    "jsonb_object_agg", "jsonb_populate_record", "jsonb_strip_nulls", "jsonb_to_recordset", "lower",
    "make_interval", "max", "min", "now", "percentile_cont", "pg_catalog.timezone",
    "starts_with", "strpos", "sum", "to_jsonb", "unnest",
}  # fmt: skip
# What adds a message or syncs an event, with the rights of who asks; what finds notes, each with a proof of its own;
# what reads the session's own tenant's policy, limits or keys, the last with the rights of who asks.
WITH_EFFECT = {
    "thea.add_message", "thea.limits_of_calls_of", "thea.may_search", "thea.search_notes", "thea.tagged_notes",
    "thea.tenant_keeps", "thea.upsert_event",
}  # fmt: skip
# They tell what belongs to a person, with the rights of who asks.
OF_PEOPLE = {"thea.other_user_ids", "thea.person_row_ids", "thea.person_rows", "thea.person_tables"}


@every_query
def test_it_calls_nothing_but_what_is_known(query: Query[Any]) -> None:
    known = HARMLESS | WITH_EFFECT | OF_PEOPLE
    assert called(query) <= known, "say in HARMLESS that it does nothing but look at what it is given"


def test_a_function_that_a_query_calls_has_a_condition_for_each_table(catalog: Catalog) -> None:
    invoked = {name: catalog.invokers[name] for query in QUERIES for name in called(query) & catalog.invokers.keys()}

    assert "thea.add_message" in invoked
    assert {name: found for name, text in invoked.items() if (found := _without_condition(text, catalog.tables))} == {}


def test_a_function_that_lacks_one_is_noticed(catalog: Catalog) -> None:
    text = catalog.invokers["thea.add_message"]
    for condition in re.finditer(r"\w+\.tenant_id = p_tenant", text):
        weaker = f"{text[: condition.start()]}true{text[condition.end() :]}"

        assert len(_without_condition(weaker, catalog.tables)) == 1
    assert len(_without_condition(text.replace("values (p_tenant,", "values (whose,", 1), catalog.tables)) == 1


def _without_condition(function: str, tables: AbstractSet[str]) -> list[str]:
    """The parts of a function's text that name a tenants' table, and have no `tenant_id = p_tenant` for it.

    Each goes to where the next table is named.
    """
    places = [found for found in _TABLE.finditer(function) if found[2] in tables]
    ends = [found.start() for found in places[1:]] + [len(function)]
    parts = [(found[1], function[found.start() : end]) for found, end in zip(places, ends, strict=False)]
    return [part for verb, part in parts if not (_GIVES if verb == "insert into" else _ASKS).search(part)]


_TABLE = re.compile(r"\b(from|join|update|insert into)\s+(thea\.\w+)\b(?!\()")
_ASKS, _GIVES = re.compile(r"\btenant_id = p_tenant\b"), re.compile(r"\(\s*tenant_id,[^)]*\)[^(]*\(\s*p_tenant,")


@every_query_with_conditions
def test_each_condition_that_is_missing_is_found(catalog: Catalog, query: Query[Any]) -> None:
    for condition in conditions(query):
        assert findings(replace(query, text=without(query, [condition])), catalog)


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        ("select id from thea.notes", "thea.notes has no `notes.tenant_id = :tenant_id` of its own"),
        ("select id from thea.notes n where tenant_id = $1 or id = $2", "thea.notes has no `n.tenant_id"),
        ("select id from thea.notes where not tenant_id = $1", "thea.notes has no `notes.tenant_id"),
        ("select id from thea.notes where tenant_id = $2", "thea.notes has no `notes.tenant_id"),
        ("select id from thea.notes where tenant_id <> $1", "thea.notes has no `notes.tenant_id"),
        ("select id from thea.notes n where n.tenant_id = n.tenant_id", "thea.notes has no `n.tenant_id"),
        ("select id from thea.notes where tenant_id in ($1, $2)", "compared in another way"),
        ("select id from thea.notes where tenant_id = $1 and (tenant_id, id) = ($1, 1)", "compared in another way"),
        (
            "select n.id from thea.notes n join thea.users u on u.id = n.user_id where n.tenant_id = $1",
            "thea.users has no `u.tenant_id = :tenant_id` of its own",
        ),
        (
            "select n.id from thea.notes n, thea.users u where u.tenant_id = $1 and n.tenant_id = u.tenant_id",
            "thea.notes has no `n.tenant_id",
        ),
        ("select 1 from thea.notes n, thea.users u where tenant_id = $1", "thea.users has no `u.tenant_id"),
        (
            "select n.id from thea.notes n left join thea.users u on n.tenant_id = $1 and u.tenant_id = $1",
            "thea.notes has no `n.tenant_id",
        ),
        (
            "select n.id from thea.notes n full join thea.users u on u.tenant_id = $1 where n.tenant_id = $1",
            "thea.users has no `u.tenant_id",
        ),
        ("select 1 where exists (select from thea.notes where id = $2)", "thea.notes has no `notes.tenant_id"),
        (
            "select (select max(id) from thea.users) from thea.notes where tenant_id = $1",
            "thea.users has no `users.tenant_id",
        ),
        (
            "with old as (delete from thea.notes returning id) select id from thea.users where tenant_id = $1",
            "thea.notes has no `notes.tenant_id",
        ),
        ("update thea.notes set title = $2", "thea.notes has no `notes.tenant_id"),
        ("update thea.notes set tenant_id = $2 where tenant_id = $1", "it moves rows to another tenant"),
        ("update thea.notes n set title = $2 from thea.users u where n.tenant_id = $1", "thea.users has no"),
        ("delete from thea.notes n using thea.users u where u.tenant_id = $1", "thea.notes has no"),
        ("insert into thea.users (tenant_id, telegram_id) values ($2, 1)", "thea.users do not get `:tenant_id`"),
        ("insert into thea.users (tenant_id, telegram_id) values ($1, 1), ($2, 2)", "do not get `:tenant_id`"),
        ("insert into thea.users (telegram_id, tenant_id) select $1, $2", "do not get `:tenant_id`"),
        ("insert into thea.users (tenant_id) select $1 union all select $2", "do not get `:tenant_id`"),
        ("insert into thea.users values ($1, 1)", "do not get `:tenant_id`"),
        ("insert into thea.users default values", "do not get `:tenant_id`"),
        ("insert into thea.users (tenant_id) values ($1) on conflict do nothing", "does not name tenant_id"),
        (
            "insert into thea.users (tenant_id) values ($1) on conflict (telegram_id) do nothing",
            "does not name tenant_id",
        ),
        (
            "insert into thea.users as u (tenant_id) values ($1) on conflict (tenant_id) do update set tenant_id = $2",
            "it moves rows to another tenant",
        ),
        ("with thea as (select 1) select n.id from thea.notes n, thea", "thea.notes has no `n.tenant_id"),
        ("select id from notes where tenant_id = $1", "notes is no table or view of these schemas"),
        ("select id from thea.unknown where tenant_id = $1", "thea.unknown is no table or view"),
        ("select id from public.notes where tenant_id = $1", "public.notes is no table or view"),
        ("select id from thea.search_notes($1, 1, $2, 1)", "thea.search_notes gives ids: join the table that has them"),
        (
            "select n.id from thea.search_notes($1, 1, $2, 1) f join thea.notes n using (id)",
            "thea.notes has no `n.tenant_id",
        ),
        (
            "select n.id from thea.search_notes($2, 1, $2, 1), thea.notes n where n.tenant_id = $1",
            "does not get `:tenant_id`",
        ),
        ("select thea.tenant()", "thea.tenant is no function that takes the tenant first"),
        ("select document from thea.person_rows($2, 1, $2, null, null, 1)", "does not get `:tenant_id`"),
        ("table thea.notes", "thea.notes has no `notes.tenant_id"),
        ("merge into thea.notes n using thea.users u on n.tenant_id = $1 when matched then delete", "MergeStmt"),
        ("truncate thea.notes", "TruncateStmt"),
        ("select id from thea.notes tablesample system (1) where tenant_id = $1", "where this check does not look"),
    ],
)
def test_what_is_wrong_is_found_at_its_line(catalog: Catalog, statement: str, finding: str) -> None:
    query = replace(QUERIES[0], text=f"\n{statement}", parameters=("tenant_id", "other"), first_line=10)

    found = findings(query, catalog)

    assert any(finding in one for one in found), found
    assert all(one.startswith((f"{query.source.path}:10: ", f"{query.source.path}:11: ")) for one in found)


# --- row security, table by table ----------------------------------------------------------------


@pytest_asyncio.fixture
async def shared(both: Databases) -> AsyncIterator[World]:
    """The database of both tenants, whose connections are each in a transaction that is undone."""
    async with AsyncExitStack() as transactions:
        for connection in both.shared:
            transaction = connection.transaction()
            await transaction.start()
            transactions.push_async_callback(transaction.rollback)
            await connection.execute(f"set local app.tenant_id = '{MINE}'")
        yield both.shared


_THEIRS = f"where tenant_id <> '{MINE}'"
_GUARDS = (
    "select policyname, schemaname || '.' || tablename from pg_policies"
    " where schemaname = 'thea' and permissive = 'RESTRICTIVE'"
)


async def _without_guards(shared: World, tables: Iterable[str]) -> None:
    guards = await shared.superuser.fetch(_GUARDS)
    for guard, table in guards:
        await shared.superuser.execute(f"drop policy {guard} on {table}")

    assert {table for _, table in guards} == {*tables}


async def _with_guards_alone(shared: World, tables: Iterable[str]) -> None:
    for table in tables:
        await shared.superuser.execute(f"create policy careless on {table} using (true) with check (true)")


@pytest.mark.parametrize("role", ["thea_app", "thea_readonly"])
@pytest.mark.parametrize("weaken", [_without_guards, _with_guards_alone])
async def test_each_of_a_tables_policies_holds_alone(
    both: Databases, shared: World, role: str, weaken: Callable[[World, Iterable[str]], Awaitable[None]]
) -> None:
    tables, login = both.others.tables.keys(), shared.superuser
    foreign = {table: await login.fetchval(f"select to_jsonb(t) from {table} t {_THEIRS}") for table in tables}
    await weaken(shared, tables)
    await login.execute(f"set local role {role}")
    for table, tenant in product(tables, [MINE, ""]):
        await login.execute(f"set local app.tenant_id = '{tenant}'")
        row = f"select (jsonb_populate_record(null::{table}, $1)).*"

        assert await login.fetchval(f"select count(*) from {table} {_THEIRS}") == 0
        assert await _done(login, f"delete from {table} {_THEIRS}") in {"DELETE 0", "42501"}
        assert await _done(login, f"insert into {table} overriding system value {row}", foreign[table]) == "42501"


async def test_tables_hide_other_tenants_from_their_owner_too(shared: World) -> None:
    owners = await shared.superuser.fetch(
        "select tablename, tableowner from pg_tables where schemaname = 'thea' and not (tablename = any($1))",
        list(shared_tables()),
    )
    for table, owner in owners:
        await shared.superuser.execute(f"set local role {owner}")

        assert await shared.superuser.fetchval(f"select count(*) from thea.{table} {_THEIRS}") == 0


async def test_functions_that_read_as_their_owner_refuse_every_other_tenant(both: Databases, shared: World) -> None:
    called_by_services = await shared.superuser.fetch(
        "select oid::regproc::text from pg_proc where has_function_privilege('thea_app', oid, 'execute')"
    )
    tried = both.catalog.functions.keys() & {name for (name,) in called_by_services}
    for name in tried:
        count = await shared.service.fetchval("select pronargs from pg_proc where oid = $1::regproc", name)
        call = f"select 1 from {name}($1{', null' * (count - 1)})"

        assert await _done(shared.service, call, MINE) == "SELECT 0"
        assert await _done(shared.service, call, OTHERS) == "42501"
        assert await _done(shared.service, call, None) == "42501"
    assert tried


async def _done(login: Any, statement: str, *values: object) -> str:
    """What the server says of a statement, or why it refuses it."""
    try:
        async with login.transaction():
            prepared = await login.prepare(statement)
            await prepared.fetch(*values)
            return str(prepared.get_statusmsg())
    except asyncpg.PostgresError as error:
        return str(error.sqlstate)
