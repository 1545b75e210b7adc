"""Reads what is kept of a tenant, and who may see it, from the tables and the catalogs of a live database."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import Connection, sql
from psycopg.rows import class_row

from thea_store.admin.compliance.records import Erased, Kept, Reader, Report, Stored
from thea_store.errors import MigrationRequiredError, NotFoundError, StoreError, TenantSuspendedError
from thea_store.postgres.operator import UnreachableError, connect, read_only
from thea_store.postgres.url import DatabaseUrl
from thea_store.queries.arguments import check_tenant

__all__ = ["asked", "read"]

_OWN = "thea"
_SUSPENDED = {"TH001": "suspended", "TH002": "ended"}
# A tenant's rows are counted one by one.
_PATIENCE = "600s"


def read(
    address: DatabaseUrl, tenant: str, extensions: Iterable[str] = (), *, operator: DatabaseUrl | None = None
) -> Report:
    """What is kept of a tenant; blocks. The login must read its rows, as a service's may, or one in `thea_privacy`.

    How long rows are kept stands where no tenant's login may look, so `operator` is the migrations' login; without it
    that is left out. `NotFoundError` where nothing is kept of the tenant, `TenantSuspendedError` for one that the
    server refuses, `MigrationRequiredError` without a schema, `StoreUnavailableError` without a connection.
    """
    check_tenant(tenant)
    schemas = [_OWN, *extensions]
    policies = _policies(operator, tenant) if operator else None
    with asked(address) as connection:
        connection.execute("select set_config('app.tenant_id', %s, true)", [tenant])
        tables = connection.execute(_TABLES, [schemas]).fetchall()
        if not tables:
            raise MigrationRequiredError(f"{address}: there is no table of tenants: run `thea-store migrate`")
        stored = tuple(_stored(connection, tenant, table, policies) for table in tables)
        readers = [
            Reader(role, logs_in, unbound, tuple(reads), tuple(changes))
            for role, logs_in, unbound, reads, changes in connection.execute(_READERS, [schemas])
        ]
        erased = connection.cursor(row_factory=class_row(Erased)).execute(_ERASED, [tenant]).fetchall()
        [(made_at, database)] = connection.execute("select now(), current_database()::text").fetchall()
    if not any(each.rows for each in stored):
        raise NotFoundError(f"nothing is kept of a tenant {tenant!r}")
    return Report(tenant, made_at, database, stored, tuple(readers), tuple(erased))


@contextmanager
def asked(address: DatabaseUrl) -> Iterator[Connection[Any]]:
    """A connection for as long a look as counting rows takes, whose errors say what to do."""
    try:
        with connect(address) as connection, read_only(connection):
            connection.execute("select set_config('statement_timeout', %s, true)", [_PATIENCE])
            yield connection
    except psycopg.errors.InsufficientPrivilege as error:
        raise StoreError(
            f"{address}: the login may not read the tenant's rows: take a service's, or one in thea_privacy"
        ) from error
    except psycopg.Error as error:
        if error.sqlstate in _SUSPENDED:
            raise TenantSuspendedError(
                f"this tenant is {_SUSPENDED[error.sqlstate]}, so the server refuses to tell: resume it for the report"
            ) from error
        raise UnreachableError(
            f"{address}: the server does not say what is kept (SQLSTATE {error.sqlstate})", "run `thea-store doctor`"
        ) from error


# Names of columns, and which of them says when a row came about.
_TABLES = """
select n.nspname::text, c.relname::text, obj_description(c.oid, 'pg_class'),
  array_agg(a.attname::text order by a.attnum),
  (array_agg(a.attname::text order by a.attnum) filter (where a.attname in ('created_at', 'at')))[1]
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where n.nspname = any(%s) and c.relkind in ('r', 'p') and not c.relispartition
  and exists (select from pg_policy p where p.polrelid = c.oid and p.polname = 'tenant')
group by n.nspname, c.oid, c.relname
order by n.nspname <> 'thea', n.nspname, c.relname collate "C"
"""

_POLICIES = """
select distinct on (table_name, rule) table_name, rule, keep, tenant is not null
from thea.retention_policies
where tenant is null or tenant = %s
order by table_name, rule, tenant nulls last
"""

_READERS = """
select r.rolname::text as role, r.rolcanlogin as logs_in, r.rolsuper or r.rolbypassrls as unbound,
  coalesce(array_agg(t.name order by t.own desc, t.name collate "C") filter (
    where has_any_column_privilege(r.oid, t.oid, 'select')
  ), '{}') as reads,
  coalesce(array_agg(t.name order by t.own desc, t.name collate "C") filter (
    where has_any_column_privilege(r.oid, t.oid, 'insert, update') or has_table_privilege(r.oid, t.oid, 'delete')
  ), '{}') as changes
from pg_roles r
cross join (
  select c.oid, n.nspname = 'thea' as own,
    case when n.nspname = 'thea' then '' else n.nspname || '.' end || c.relname as name
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where n.nspname = any(%s) and c.relkind in ('r', 'p') and not c.relispartition
    and exists (select from pg_policy p where p.polrelid = c.oid and p.polname = 'tenant')
) t
group by r.oid, r.rolname, r.rolcanlogin, r.rolsuper, r.rolbypassrls
having bool_or(
  has_any_column_privilege(r.oid, t.oid, 'select, insert, update') or has_table_privilege(r.oid, t.oid, 'delete')
)
order by not r.rolcanlogin, r.rolname::text collate "C"
"""

_ERASED = """
select at, subject_id as user_id, login, actor, reason
from thea.compliance_log
where tenant_id = %s and action = 'erase user'
order by at desc, id desc
limit 100
"""


def _policies(operator: DatabaseUrl, tenant: str) -> dict[str, tuple[Kept, ...]]:
    found: dict[str, tuple[Kept, ...]] = {}
    with asked(operator) as connection:
        for table, *kept in connection.execute(_POLICIES, [tenant]):
            found[table] = (*found.get(table, ()), Kept(*kept))
    return found


def _stored(
    connection: Connection[Any],
    tenant: str,
    found: tuple[str, str, str | None, list[str], str | None],
    policies: Mapping[str, tuple[Kept, ...]] | None,
) -> Stored:
    schema, table, about, columns, moment = found
    time = sql.Identifier(moment) if moment else sql.SQL("null::timestamptz")
    question = sql.SQL("select count(*), min({time}), max({time}) from {table} where tenant_id = %s").format(
        time=time, table=sql.Identifier(schema, table)
    )
    [(rows, oldest, newest)] = connection.execute(question, [tenant]).fetchall()
    name = table if schema == _OWN else f"{schema}.{table}"
    kept = None if policies is None else policies.get(name, ())
    return Stored(name, about, tuple(columns), rows, oldest, newest, kept)
