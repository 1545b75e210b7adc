"""Reads what is kept of a tenant from the tables and the catalogs of a live database."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from psycopg import Connection, sql
from psycopg.rows import class_row

from thea_store.admin.compliance.asking import asked, is_auditor, name_tenant, require_reader
from thea_store.admin.compliance.chain import chain_reads
from thea_store.admin.compliance.powers import read_readers
from thea_store.admin.compliance.records import Act, Erased, Kept, Read, Report, Stored
from thea_store.errors import MigrationRequiredError, NotFoundError, UnsafeSchemaError
from thea_store.postgres.url import DatabaseUrl
from thea_store.queries.arguments import check_tenant

__all__ = ["read"]

_OWN = "thea"


def read(
    address: DatabaseUrl, tenant: str, extensions: Iterable[str] = (), *, operator: DatabaseUrl | None = None
) -> Report:
    """What is kept of a tenant; blocks.

    A login in `thea_auditor` is told of every tenant, how many rows there are and for how long they are kept. Any other
    must read the tenant's rows, as a service's may, or one in `thea_privacy`; it is refused for a tenant that is
    suspended or has ended, and how long rows are kept is then read by `operator`, the migrations' login, or left out.

    `NotFoundError` where nothing is kept of the tenant, `TenantSuspendedError` for one that the server refuses,
    `InsufficientPrivilegeError` for a login that is neither, `MigrationRequiredError` without a schema,
    `StoreUnavailableError` without a connection.
    """
    check_tenant(tenant)
    schemas = [_OWN, *extensions]
    policies = _policies_by(operator, tenant) if operator else None
    chain_reads(address, tenant)
    with asked(address) as connection:
        require_reader(connection, address)
        name_tenant(connection, tenant)
        tables = connection.execute(_TABLES, [schemas]).fetchall()
        if not tables:
            raise MigrationRequiredError(f"{address}: there is no table of tenants: run `thea-store migrate`")
        status, counts, acts, reads, noted = None, None, None, None, {}
        if is_auditor(connection):
            policies = _policies(connection, tenant)
            counts = {name: rest for name, *rest in connection.execute(_COUNTS, {"tenant": tenant})}
            status = next((status for (status,) in connection.execute(_STATUS, [tenant])), None)
            acts = tuple(connection.cursor(row_factory=class_row(Act)).execute(_ACTS, [tenant]))
            reads = tuple(connection.cursor(row_factory=class_row(Read)).execute(_READS, [tenant]))
            noted = dict(connection.execute(_NOTED, [tenant]).fetchall())
        stored = tuple(_stored(connection, tenant, table, policies, counts) for table in tables)
        readers = tuple(read_readers(connection, schemas))
        erased = connection.cursor(row_factory=class_row(Erased)).execute(_ERASED, [tenant]).fetchall()
        [(erasures,)] = connection.execute(_ERASURES, [tenant]).fetchall()
        [(made_at, database)] = connection.execute("select now(), current_database()::text").fetchall()
    if not any(each.rows for each in stored):
        raise NotFoundError(f"nothing is kept of a tenant {tenant!r}")
    return Report(
        tenant=tenant,
        status=status,
        made_at=made_at,
        database=database,
        stored=stored,
        readers=readers,
        erased=tuple(erased),
        erased_in_all=erasures,
        acts=acts,
        acts_in_all=noted.get("administration", 0),
        acts_kept=None if policies is None else policies.get("activity_log.administration", ()),
        reads=reads,
        reads_in_all=noted.get("reads", 0),
        reads_kept=None if policies is None else policies.get("activity_log.reads", ()),
    )


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

_COUNTS = """
select table_name, row_count, oldest, newest from thea.kept_of(%(tenant)s)
union all
select 'audit_log', row_count, oldest, newest from thea.entries_kept_of(%(tenant)s)
union all
select table_name, row_count, oldest, newest from thea.sums_kept_of(%(tenant)s)
union all
select 'compliance_log', count(*), min(at), max(at) from thea.compliance_log where tenant_id = %(tenant)s
"""

_STATUS = "select status from thea.tenants where id = %s"

_ERASED = """
select at, subject_id as user_id, login, actor, reason
from thea.compliance_log
where tenant_id = %s and action = 'erase user'
order by at desc, id desc
limit 100
"""

_ERASURES = "select count(*) from thea.compliance_log where tenant_id = %s and action = 'erase user'"


_ACTS = """
select at, action, login, actor, details
from thea.activity_log
where tenant in (%s, '') and kind = 'administration'
order by at desc, tenant, place desc
limit 100
"""

_READS = """
select login, actor, coalesce(details ->> 'query', action) as query, count(*) as times, max(at) as last
from thea.activity_log
where tenant = %s and kind = 'reads'
group by 1, 2, 3
order by last desc, 1, 2, 3
limit 100
"""

_NOTED = """
select kind, count(*)
from thea.activity_log
where tenant = %s or tenant = '' and kind = 'administration'
group by kind
"""


def _policies_by(operator: DatabaseUrl, tenant: str) -> dict[str, tuple[Kept, ...]]:
    with asked(operator) as connection:
        return _policies(connection, tenant)


def _policies(connection: Connection[Any], tenant: str) -> dict[str, tuple[Kept, ...]]:
    found: dict[str, tuple[Kept, ...]] = {}
    for table, *kept in connection.execute(_POLICIES, [tenant]):
        found[table] = (*found.get(table, ()), Kept(*kept))
    return found


def _stored(
    connection: Connection[Any],
    tenant: str,
    found: tuple[str, str, str | None, list[str], str | None],
    policies: Mapping[str, tuple[Kept, ...]] | None,
    counts: Mapping[str, Iterable[Any]] | None,
) -> Stored:
    schema, table, about, columns, moment = found
    name = table if schema == _OWN else f"{schema}.{table}"
    kept = None if policies is None else policies.get(name, ())
    if counts is not None and name not in counts:
        lack = f"{name} has the policy `tenant`, but nothing else that protects it, so its rows cannot be counted"
        raise UnsafeSchemaError([f"{lack}: run `thea-store doctor`"])
    rows, oldest, newest = _counted(connection, tenant, (schema, table), moment) if counts is None else counts[name]
    return Stored(name, about, tuple(columns), rows, oldest, newest, kept)


def _counted(
    connection: Connection[Any], tenant: str, table: tuple[str, str], moment: str | None
) -> tuple[int, datetime | None, datetime | None]:
    time = sql.Identifier(moment) if moment else sql.SQL("null::timestamptz")
    question = sql.SQL("select count(*), min({time}), max({time}) from {table} where tenant_id = %s").format(
        time=time, table=sql.Identifier(*table)
    )
    [(rows, oldest, newest)] = connection.execute(question, [tenant]).fetchall()
    return rows, oldest, newest
