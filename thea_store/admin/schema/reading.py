"""Reads the schema from the catalogs of a live database."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, LiteralString, TypeVar

import psycopg
from psycopg import Connection
from psycopg.rows import dict_row

from thea_store.admin.schema.records import Check, Column, Index, Policy, Reference, Schema, Table
from thea_store.errors import MigrationRequiredError
from thea_store.postgres.operator import UnreachableError, connect, read_only
from thea_store.postgres.url import DatabaseUrl

__all__ = ["read"]

T = TypeVar("T")

_OWN = "thea"


def read(address: DatabaseUrl, extensions: Iterable[str] = ()) -> Schema:
    """What the catalogs say of the library's tables and those of these extensions; blocks. Any login may look.

    `UnreachableError` (a `StoreUnavailableError`) without a connection, or when it is lost;
    `MigrationRequiredError` where there is no schema yet.
    """
    try:
        with connect(address) as connection, read_only(connection):
            tables = _tables(connection, [_OWN, *extensions])
            migration = _migration(connection)
    except psycopg.Error as error:
        raise UnreachableError(
            f"{address}: the server does not say what the schema is", "run `thea-store doctor`"
        ) from error
    if not tables:
        raise MigrationRequiredError(f"{address}: there is no table in a schema thea: run `thea-store migrate`")
    return Schema(migration, tables)


_TABLES = """
select n.nspname || '.' || c.relname as name,
  case when c.relforcerowsecurity and c.relrowsecurity then 'forced' when c.relrowsecurity then 'enabled' else 'off' end
    as row_security
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = any(%(schemas)s) and c.relkind in ('r', 'p') and not c.relispartition
order by n.nspname <> 'thea', (n.nspname || '.' || c.relname) collate "C"
"""

_COLUMNS = """
select n.nspname || '.' || c.relname as belongs_to, a.attname::text as name,
  format_type(a.atttypid, a.atttypmod) as type,
  not a.attnotnull as nullable,
  case when a.attidentity <> '' then 'identity' else pg_get_expr(d.adbin, d.adrelid) end as default
from pg_class c join pg_namespace n on n.oid = c.relnamespace
join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
where n.nspname = any(%(schemas)s) and c.relkind in ('r', 'p')
order by c.oid, a.attnum
"""

_INDEXES = """
select n.nspname || '.' || c.relname as belongs_to, x.relname::text as name,
  array(
    select pg_get_indexdef(i.indexrelid, o.place, true)
    from generate_series(1, i.indnkeyatts) as o (place) order by o.place
  ) as columns,
  m.amname::text as method, pg_get_expr(i.indpred, i.indrelid, true) as condition, i.indisprimary as primary,
  i.indisunique as unique,
  coalesce(obj_description(i.indexrelid, 'pg_class'), obj_description(k.oid, 'pg_constraint')) as serves
from pg_index i join pg_class c on c.oid = i.indrelid join pg_class x on x.oid = i.indexrelid
join pg_am m on m.oid = x.relam join pg_namespace n on n.oid = c.relnamespace
left join pg_constraint k on k.conindid = i.indexrelid and k.contype in ('p', 'u', 'x')
where n.nspname = any(%(schemas)s)
order by not i.indisprimary, not i.indisunique, x.relname::text collate "C"
"""

_REFERENCES = """
select n.nspname || '.' || c.relname as belongs_to, k.conname::text as name,
  array(
    select a.attname::text from unnest(k.conkey) with ordinality as o (number, place)
    join pg_attribute a on a.attrelid = k.conrelid and a.attnum = o.number order by o.place
  ) as columns,
  t.nspname || '.' || f.relname as table,
  array(
    select a.attname::text from unnest(k.confkey) with ordinality as o (number, place)
    join pg_attribute a on a.attrelid = k.confrelid and a.attnum = o.number order by o.place
  ) as target,
  case k.confdeltype
    when 'c' then 'cascade' when 'n' then 'set null' when 'd' then 'set default' when 'r' then 'restrict'
    else 'no action'
  end as on_delete
from pg_constraint k join pg_class c on c.oid = k.conrelid join pg_class f on f.oid = k.confrelid
join pg_namespace n on n.oid = c.relnamespace join pg_namespace t on t.oid = f.relnamespace
where n.nspname = any(%(schemas)s) and k.contype = 'f'
order by k.conname::text collate "C"
"""

_CHECKS = """
select n.nspname || '.' || c.relname as belongs_to, k.conname::text as name,
  pg_get_expr(k.conbin, k.conrelid, true) as condition
from pg_constraint k join pg_class c on c.oid = k.conrelid join pg_namespace n on n.oid = c.relnamespace
where n.nspname = any(%(schemas)s) and k.contype = 'c'
order by k.conname::text collate "C"
"""

_POLICIES = """
select n.nspname || '.' || c.relname as belongs_to, p.polname::text as name,
  case when p.polpermissive then 'permissive' else 'restrictive' end as kind,
  case p.polcmd
    when '*' then 'all' when 'r' then 'select' when 'a' then 'insert' when 'w' then 'update' else 'delete'
  end as command,
  array(
    select case when o.role = 0 then 'public' else o.role::regrole::text end
    from unnest(p.polroles) as o (role) order by 1
  ) as roles,
  pg_get_expr(p.polqual, p.polrelid, true) as using, pg_get_expr(p.polwithcheck, p.polrelid, true) as check
from pg_policy p join pg_class c on c.oid = p.polrelid join pg_namespace n on n.oid = c.relnamespace
where n.nspname = any(%(schemas)s)
order by p.polname::text collate "C"
"""

_MIGRATION = """
select max(migration_id) from public._yoyo_migration where migration_id ~ '^[0-9]{4}[.]'
"""

# A login of another kind may not know it.
_MAY_KNOW = "select has_table_privilege(to_regclass('public._yoyo_migration')::oid, 'select')"


def _tables(connection: Connection[Any], schemas: list[str]) -> tuple[Table, ...]:
    columns = _by_table(connection, schemas, _COLUMNS, Column)
    indexes = _by_table(connection, schemas, _INDEXES, Index)
    references = _by_table(connection, schemas, _REFERENCES, _reference)
    checks = _by_table(connection, schemas, _CHECKS, Check)
    policies = _by_table(connection, schemas, _POLICIES, Policy)
    return tuple(
        Table(_called(name), security, columns[name], indexes[name], references[name], checks[name], policies[name])
        for name, security in connection.execute(_TABLES, {"schemas": schemas})
    )


def _called(table: str) -> str:
    """The table's name alone where it is the library's own."""
    return table.removeprefix(f"{_OWN}.")


def _reference(*, table: str, **values: Any) -> Reference:
    return Reference(table=_called(table), **values)


def _by_table(
    connection: Connection[Any], schemas: list[str], query: LiteralString, make: Callable[..., T]
) -> Mapping[str, tuple[T, ...]]:
    found = defaultdict[str, tuple[T, ...]](tuple)
    for row in connection.cursor(row_factory=dict_row).execute(query, {"schemas": schemas}):
        table = row.pop("belongs_to")
        values = {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
        found[table] += (make(**values),)
    return found


def _migration(connection: Connection[Any]) -> str | None:
    if connection.execute(_MAY_KNOW).fetchall() != [(True,)]:
        return None
    [(newest,)] = connection.execute(_MIGRATION).fetchall()
    return newest if newest is None else str(newest)
