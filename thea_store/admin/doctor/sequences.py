"""Identity sequences that lag behind the ids that there are, as after rows were brought in from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString

import psycopg
from psycopg import Connection, sql

from thea_store.admin.doctor.findings import Check, CheckContext, Verdict, ok, problem, quoted
from thea_store.admin.doctor.on_cluster import is_cluster
from thea_store.postgres.operator import connect, read_only

__all__ = ["CHECKS"]

_SEQUENCES: LiteralString = """
select n.nspname::text, c.relname::text, a.attname::text, s.relname::text, row_security_active(c.oid)
from pg_class s
join pg_depend d on d.objid = s.oid and d.classid = 'pg_class'::regclass and d.deptype in ('i', 'a')
join pg_class c on c.oid = d.refobjid
join pg_namespace n on n.oid = c.relnamespace
join pg_attribute a on a.attrelid = c.oid and a.attnum = d.refobjsubid
where s.relkind = 'S' and c.relkind in ('r', 'p')
  and exists (select from pg_attribute t where t.attrelid = c.oid and t.attname = 'tenant_id')
  -- Of a service's own tables, those that `thea.protect` knows.
  and (n.nspname = 'thea' or exists (select from pg_policy p where p.polrelid = c.oid and p.polname = 'tenant_guard'))
order by 1, 2
"""

# By the primary key, tenant after tenant: the highest id of all would read the whole table.
_HIGHEST: LiteralString = """
with recursive tenant (id) as (
  (select tenant_id from {table} order by tenant_id limit 1)
  union all
  select (select n.tenant_id from {table} n where n.tenant_id > t.id order by n.tenant_id limit 1)
  from tenant t
  where t.id is not null
)
select max(highest.id)
from tenant
cross join lateral (
  select r.{column} as id from {table} r where r.tenant_id = tenant.id order by r.{column} desc limit 1
) highest
"""


def _sequences(context: CheckContext) -> Sequence[Verdict]:
    if is_cluster(context):
        return [ok("not looked at: on a Citus cluster each node draws ids from a span of its own")]
    if not context.has_migrator:
        return _looked_at(context.connection)
    with connect(context.settings.address(context.settings.migrator_url)) as connection, read_only(connection):
        return _looked_at(connection)


def _looked_at(connection: Connection[Any]) -> Sequence[Verdict]:
    rows = connection.execute(_SEQUENCES).fetchall()
    if any(is_bound for *_, is_bound in rows) and not _may_become_maintenance(connection):
        return [ok("not looked at: give a login that may become thea_maintenance as DATABASE_MIGRATOR_URL")]
    following = {(schema, table): _next(connection, schema, sequence) for schema, table, _, sequence, _ in rows}
    if any(is_bound for *_, is_bound in rows):
        connection.execute("set local role thea_maintenance")
    found = []
    for schema, table, column, *_ in rows:
        highest = _highest(connection, schema, table, column)
        if highest is not None and highest >= following[schema, table]:
            name = f"{quoted(schema)}.{quoted(table)}"
            fix = f"`alter table {name} alter column {quoted(column)} restart with {highest + 1}`"
            found.append(
                problem(f"the sequence of {name} is behind the ids of its rows: new rows would meet them", fix)
            )
    return found or [ok("each sequence is past the ids of its rows")]


def _may_become_maintenance(connection: Connection[Any]) -> bool:
    try:
        with connection.transaction(force_rollback=True):
            connection.execute("set local role thea_maintenance")
    except (psycopg.errors.InsufficientPrivilege, psycopg.errors.InvalidParameterValue):
        return False
    return True


def _next(connection: Connection[Any], schema: str, sequence: str) -> int:
    query = sql.SQL("select last_value + is_called::int from {}").format(sql.Identifier(schema, sequence))
    [(value,)] = connection.execute(query).fetchall()
    return int(value)


def _highest(connection: Connection[Any], schema: str, table: str, column: str) -> int | None:
    names = {"table": sql.Identifier(schema, table), "column": sql.Identifier(column)}
    row = connection.execute(sql.SQL(_HIGHEST).format(**names)).fetchone()
    return row[0] if row else None


CHECKS: Mapping[str, Check] = {"sequences": _sequences}
