"""Who may see and change rows of tenants, by the server's catalogs: by whatever way a right reaches a role.

A right on a table counts where row security lets it reach a row: the table has a policy for the role and the command,
or does not bind the role. A role has the rights of every role that it is a member of, also through others, and also
where it does not inherit them but may `set role`. What a role may do by functions that run as their owner is told for
each function, because no catalog says what a function does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from psycopg import Connection

from thea_store.admin.compliance.records import ByFunction, Reader

__all__ = ["read_readers"]


def read_readers(connection: Connection[Any], schemas: Sequence[str]) -> Iterator[Reader]:
    """The roles that may read or change a table of tenants in these schemas: those that log in first, by name."""
    functions: dict[int, list[ByFunction]] = {}
    for role, *by in connection.execute(_WITH + _BY_FUNCTIONS, [schemas]):
        functions.setdefault(role, []).append(ByFunction(by[0], by[1], tuple(by[2]), tuple(by[3])))
    for oid, role, logs_in, unbound, owns, reads, changes in connection.execute(_WITH + _READERS, [schemas]):
        by_functions = tuple(functions.get(oid, ()))
        if owns or reads or changes or by_functions:
            yield Reader(role, logs_in, unbound, owns, tuple(reads), tuple(changes), by_functions)


# `power` is what each role may do by itself and by what it inherits, `acts_as` which roles it is or may become.
_WITH = """
with recursive
target as (
  select c.oid, c.relowner, c.relacl, c.relrowsecurity, c.relforcerowsecurity,
    case when n.nspname = 'thea' then '' else n.nspname || '.' end || c.relname as name
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  where n.nspname = any(%s) and c.relkind in ('r', 'p') and not c.relispartition
    and exists (select from pg_policy p where p.polrelid = c.oid and p.polname = 'tenant')
),
granted as (
  select t.oid as target, a.grantee, a.privilege_type as privilege
  from target t
  cross join lateral aclexplode(coalesce(t.relacl, acldefault('r', t.relowner))) a
  union
  select t.oid, a.grantee, a.privilege_type
  from target t
  join pg_attribute c on c.attrelid = t.oid and not c.attisdropped
  cross join lateral aclexplode(c.attacl) a
  union
  select t.oid, r.oid, p.privilege
  from target t
  cross join (
    values ('pg_read_all_data', 'SELECT'), ('pg_write_all_data', 'INSERT'), ('pg_write_all_data', 'UPDATE'),
      ('pg_write_all_data', 'DELETE')
  ) p (role, privilege)
  join pg_roles r on r.rolname = p.role
),
power as (
  select distinct r.oid as role, t.oid as target, t.name, g.privilege = 'SELECT' as is_read
  from pg_roles r
  cross join target t
  join granted g on g.target = t.oid and g.privilege in ('SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE')
  where (g.grantee = 0 or pg_has_role(r.oid, g.grantee, 'usage'))
    and (
      g.privilege = 'TRUNCATE'
      or not t.relrowsecurity
      or r.rolsuper or r.rolbypassrls
      or not t.relforcerowsecurity and pg_has_role(r.oid, t.relowner, 'usage')
      or exists (
        select
        from pg_policy p
        cross join lateral unnest(p.polroles) o (role)
        where p.polrelid = t.oid
          and p.polpermissive
          and p.polcmd in (
            '*', case g.privilege when 'SELECT' then 'r' when 'INSERT' then 'a' when 'UPDATE' then 'w' else 'd' end
          )
          and (o.role = 0 or pg_has_role(r.oid, o.role, 'usage'))
      )
    )
),
acts_as (role, as_role) as (
  select oid, oid from pg_roles
  union
  select a.role, m.roleid from acts_as a join pg_auth_members m on m.member = a.as_role
)
"""

_READERS = """
select r.oid, r.rolname::text, r.rolcanlogin,
  bool_or(o.rolsuper or o.rolbypassrls),
  bool_or(exists (select from target t where t.relowner = o.oid)),
  coalesce(array_agg(distinct p.name) filter (where p.is_read), '{}'),
  coalesce(array_agg(distinct p.name) filter (where not p.is_read), '{}')
from pg_roles r
join acts_as a on a.role = r.oid
join pg_roles o on o.oid = a.as_role
left join power p on p.role = a.as_role
group by r.oid, r.rolname, r.rolcanlogin
order by not r.rolcanlogin, r.rolname::text collate "C"
"""

# What a role may do anyway is not said again, and a superuser may do everything.
_BY_FUNCTIONS = """
select c.role, c.function, c.runs_as, coalesce(array_agg(distinct c.name) filter (where c.is_read), '{}'),
  coalesce(array_agg(distinct c.name) filter (where not c.is_read), '{}')
from (
  select a.role, f.oid, case when n.nspname = 'thea' then '' else n.nspname || '.' end || f.proname as function,
    o.rolname::text as runs_as, p.name, p.is_read
  from pg_proc f
  join pg_namespace n on n.oid = f.pronamespace
  join pg_roles o on o.oid = f.proowner
  join power p on p.role = f.proowner
  cross join lateral aclexplode(coalesce(f.proacl, acldefault('f', f.proowner))) g
  join acts_as a on g.privilege_type = 'EXECUTE' and (g.grantee = 0 or g.grantee = a.as_role)
  join pg_roles r on r.oid = a.role and not r.rolsuper
  where f.prosecdef
    and f.prorettype <> 'trigger'::regtype
    and n.nspname <> all (array['pg_catalog', 'information_schema'])
    and not exists (
      select
      from power q
      join acts_as b on b.as_role = q.role
      where b.role = a.role and (q.target, q.is_read) = (p.target, p.is_read)
    )
) c
group by c.role, c.oid, c.function, c.runs_as
order by c.role, c.function, c.oid
"""
