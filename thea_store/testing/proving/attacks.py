"""A table attacked with free SQL, as a service's login: whatever is tried, the other tenant's rows stay its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import psycopg
from psycopg import Connection, sql

from thea_store.testing.proving.databases import MINE, OTHERS
from thea_store.testing.proving.rows import Table

__all__ = ["WEAKENINGS", "Attacker", "open_relations"]

_NONE, _DENIED = "nothing", "denied"

# What takes one lock of a table away, and what takes both: only the last may let an attack through.
WEAKENINGS = {
    "its restrictive policy": "drop policy tenant_guard on {table}",
    "its permissive policy": "alter policy tenant on {table} using (true) with check (true)",
    "both policies": "drop policy tenant_guard on {table};"
    " alter policy tenant on {table} using (true) with check (true)",
}

# Functions and views through which a service's login may reach rows that no policy guards.
_OPEN = """
select 'function', p.oid::regprocedure::text,
  'it runs with the rights of ' || p.proowner::regrole::text || ', whom the caller''s tenant does not bind'
from pg_catalog.pg_proc p
join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = any(%(schemas)s) and p.prosecdef
  and has_function_privilege('thea_app', p.oid, 'execute')
  -- A function that takes the tenant first, and compares it, is proven with the queries that call it.
  and p.proargnames[1] is distinct from 'p_tenant'
union all
select 'view', c.oid::regclass::text,
  'it reads with the rights of its owner: create it `with (security_invoker = true)`'
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = any(%(schemas)s) and c.relkind = 'v'
  and not coalesce('security_invoker=true' = any(c.reloptions), false)
union all
select 'view', c.oid::regclass::text, 'it is a copy of rows of all tenants, which no policy guards: drop it'
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = any(%(schemas)s) and c.relkind = 'm'
order by 1, 2
"""


def open_relations(connection: Connection[Any], schemas: Sequence[str]) -> list[tuple[str, str, str]]:
    """Functions and views that go round the policies: their kind, their name, and why."""
    return connection.execute(_OPEN, {"schemas": list(schemas)}).fetchall()


class Attacker:
    """A connection that takes a service's role, and tries a table."""

    def __init__(self, connection: Connection[Any]) -> None:
        """`connection` is a superuser's, which can take any role and break any lock for a while."""
        self._connection = connection
        self.attempts = 0
        """How many statements were tried."""

    def breaches(self, table: Table, weakening: str = "select") -> list[str]:
        """What an attacker reaches of another tenant in a table, in words; empty where it is closed."""
        found: list[str] = []
        with self._connection.transaction(force_rollback=True):
            for statement in weakening.format(table=table.name).split(";"):
                self._connection.execute(statement.encode())
            for role in ("thea_app", "thea_readonly"):
                for tenant in (MINE, "", OTHERS.upper()):
                    for what, outcome in self._tried(table, role, tenant):
                        if outcome not in {_NONE, _DENIED}:
                            found.append(f"as {role}, with the tenant {tenant!r}, {what}: {outcome}")
        return list(dict.fromkeys(found))

    def _tried(self, table: Table, role: str, tenant: str) -> Iterator[tuple[str, str]]:
        name = sql.SQL(".").join(sql.Identifier(part) for part in table.name.split("."))
        theirs = sql.SQL("tenant_id = {}").format(sql.Literal(OTHERS))
        attacks = {
            "it reads their rows": sql.SQL("select id from {} where {}"),
            "it counts their rows": sql.SQL("select id from {} where {} group by id having count(*) > 0"),
            "it deletes their rows": sql.SQL("delete from {} where {} returning id"),
            "it locks their rows": sql.SQL("select id from {} where {} for update"),
        }
        for what, attack in attacks.items():
            yield what, self._outcome(role, tenant, attack.format(name, theirs))
        if writable := [column for column in table.all_columns if column == "deleted_at"]:
            change = sql.SQL("update {} set {} = null where {} returning id")
            yield (
                "it changes their rows",
                self._outcome(role, tenant, change.format(name, sql.Identifier(writable[0]), theirs)),
            )
        copy = sql.SQL("insert into {} overriding system value select (jsonb_populate_record(null::{}, {}::jsonb)).*")
        row = self._their_row(name)
        if row is not None:
            yield "it inserts a row as them", self._outcome(role, tenant, copy.format(name, name, sql.Literal(row)))
        yield (
            "it moves a row to them",
            self._outcome(
                role, tenant, sql.SQL("update {} set tenant_id = {} returning id").format(name, sql.Literal(OTHERS))
            ),
        )
        yield "it empties the table", self._outcome(role, tenant, sql.SQL("truncate {} cascade").format(name))

    def _their_row(self, name: sql.Composed) -> str | None:
        asked = sql.SQL(
            "select (to_jsonb(t) || jsonb_build_object('id', 999999999999))::text from {} t"
            " where tenant_id = {} limit 1"
        )
        row = self._connection.execute(asked.format(name, sql.Literal(OTHERS))).fetchone()
        return None if row is None else str(row[0])

    def _outcome(self, role: str, tenant: str, attack: sql.Composed) -> str:
        self.attempts += 1
        try:
            with self._connection.transaction(force_rollback=True):
                self._connection.execute(sql.SQL("set local role {}").format(sql.Identifier(role)))
                self._connection.execute("select set_config('app.tenant_id', %s, true)", [tenant])
                cursor = self._connection.execute(attack)
                return _NONE if cursor.rowcount in {0, -1} and not _truncated(cursor) else f"{cursor.rowcount} rows"
        except psycopg.errors.InsufficientPrivilege:
            return _DENIED
        except psycopg.errors.UniqueViolation:
            return "a key of theirs answers"
        except psycopg.Error as error:
            return _DENIED if error.sqlstate and error.sqlstate.startswith("42") else f"error {error.sqlstate}"


def _truncated(cursor: psycopg.Cursor[Any]) -> bool:
    return bool(cursor.statusmessage and cursor.statusmessage.startswith("TRUNCATE"))
