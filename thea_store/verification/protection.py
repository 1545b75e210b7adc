"""Do the tables of extensions keep tenants apart? Asked when a store opens, as the service's login.

What is asked for is what `thea.protect` makes; the catalogs are open to every login.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["lacks_of", "protected_tables"]

_PROTECTED = """
select p.polrelid::regclass::text
from pg_catalog.pg_policy p
where p.polname = 'tenant_guard'
"""

# One row for each lack: the table, what it lacks, and the fix.
_LACKS = """
with tables as (
  select c.oid, format('%%I.%%I', n.nspname, c.relname) as name, c.relkind, c.relrowsecurity, c.relforcerowsecurity,
    c.reloptions
  from pg_catalog.pg_class c
  join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where n.nspname = any(%(schemas)s)
    and not c.relispartition
    and format('%%I.%%I', n.nspname, c.relname) <> all(%(shared)s)
),
lacks as (
  select name, 'row security is not enabled and forced' as lack, null as fix
  from tables
  where relkind in ('r', 'p') and not (relrowsecurity and relforcerowsecurity)
  union all
  select t.name, format('it has no policy %%s with `tenant_id = thea.tenant()`', wanted.name), null
  from tables t
  cross join (values ('tenant', true), ('tenant_guard', false)) as wanted (name, permissive)
  where t.relkind in ('r', 'p')
    and not exists (
      select from pg_catalog.pg_policy p
      where p.polrelid = t.oid
        and p.polname = wanted.name
        and p.polpermissive = wanted.permissive
        and p.polcmd = '*'
        and pg_catalog.pg_get_expr(p.polqual, p.polrelid) = '(tenant_id = thea.tenant())'
        and pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid) = '(tenant_id = thea.tenant())'
    )
  union all
  select t.name, format('its policy %%s is not one that thea.protect makes', p.polname), 'drop it'
  from tables t
  join pg_catalog.pg_policy p on p.polrelid = t.oid
  where p.polname <> all(array[
    'tenant', 'tenant_guard', 'mover', 'mover_guard', 'maintenance_reads', 'maintenance_deletes'
  ])
  union all
  select t.name, format('%%s is unique across tenants', i.indexrelid::regclass), 'begin it with tenant_id'
  from tables t
  join pg_catalog.pg_index i on i.indrelid = t.oid
  left join pg_catalog.pg_attribute a on a.attrelid = t.oid and a.attnum = i.indkey[0]
  where (i.indisunique or i.indisexclusion) and a.attname is distinct from 'tenant_id'
  union all
  select t.name, format('its foreign key %%s does not begin with tenant_id on both sides', k.conname),
    'make it `foreign key (tenant_id, …) references … (tenant_id, id)`'
  from tables t
  join pg_catalog.pg_constraint k on k.conrelid = t.oid and k.contype = 'f'
  left join pg_catalog.pg_attribute a on a.attrelid = k.conrelid and a.attnum = k.conkey[1]
  left join pg_catalog.pg_attribute b on b.attrelid = k.confrelid and b.attnum = k.confkey[1]
  where (a.attname, b.attname) is distinct from ('tenant_id', 'tenant_id')
  union all
  select t.name,
    format('%%s may %%s it, which no policy binds', coalesce(r.rolname, 'everybody'), lower(g.privilege_type)),
    format('revoke %%s on %%s from %%s', lower(g.privilege_type), t.name, coalesce(quote_ident(r.rolname), 'public'))
  from tables t
  join pg_catalog.pg_class c on c.oid = t.oid
  cross join lateral pg_catalog.aclexplode(c.relacl) g
  left join pg_catalog.pg_roles r on r.oid = g.grantee
  where t.relkind in ('r', 'p')
    and g.privilege_type in ('TRUNCATE', 'TRIGGER')
    and (g.grantee = 0 or r.rolname in ('thea_app', 'thea_readonly'))
  union all
  select name, 'it is a view with the rights of its owner, whom no policy binds',
    'create it `with (security_invoker = true)`'
  from tables
  where relkind = 'v' and not coalesce('security_invoker=true' = any(reloptions), false)
  union all
  select name, 'it is a copy of rows of all tenants, which no policy guards', 'drop it, or make it an ordinary view'
  from tables
  where relkind = 'm'
)
select name, lack,
  coalesce(fix, format('`select thea.protect(%%L)` in a migration, or name it in `shared_tables`', name))
from lacks
order by name, lack
"""


def lacks_of(connection: Connection[Any], schemas: Sequence[str], shared: Iterable[str]) -> tuple[str, ...]:
    """A sentence with its fix for each thing that a table of these schemas lacks; empty when all are closed."""
    if not schemas:
        return ()
    rows = connection.execute(_LACKS, {"schemas": list(schemas), "shared": list(shared)})
    return tuple(f"{name}: {lack}: {fix}" for name, lack, fix in rows)


def protected_tables(connection: Connection[Any]) -> frozenset[str]:
    """The full names of the tables that have rows of tenants."""
    connection.execute("set search_path = ''")
    return frozenset(row[0] for row in connection.execute(_PROTECTED))
