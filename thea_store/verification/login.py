"""What a login may do and become: asked by opening, by health and by `doctor`, each in the same words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, LiteralString, TypeAlias

__all__ = ["Kind", "Power", "powers"]

Kind: TypeAlias = Literal[
    "superuser",
    "bypassrls",
    "owner",
    "triggers",
    "createrole",
    "all tenants",
    "unaudited",
    "redactor",
    "recorder",
    "files",
    "reach",
]


@dataclass(frozen=True, slots=True)
class Power:
    """One thing that a login may do and a service may not, and through which role it may."""

    kind: Kind
    role: str
    """The role that has the power; the login itself, or one that it may become or whose rights it has."""
    login: str
    through: str | None
    """The role of which the login is a member directly, and that leads to `role`; `None` for its own power."""

    @property
    def is_refused(self) -> bool:
        """Whether a store does not open with it: row security, or what writes the audit log, would not bind it."""
        return self.kind != "reach"

    def __str__(self) -> str:
        """A clause about the login, such as `is a superuser`."""
        if self.through is None:
            return _OWN[self.kind]
        may = _OTHERS[self.kind].format(role=self.role)
        return f"{may} (as a member of {self.through})" if self.through != self.role else may


_OWN: dict[Kind, str] = {
    "superuser": "is a superuser",
    "bypassrls": "has BYPASSRLS",
    "owner": "owns the tables or functions",
    "triggers": "may set session_replication_role, with which neither the audit log nor foreign keys are kept",
    "createrole": "has CREATEROLE, with which it may make itself a member of any role",
    "all tenants": "may read every tenant",
    "unaudited": "may change rows without an entry in the audit log",
    "redactor": "may take back what the audit log says",
    "recorder": "may write into the compliance log",
    "files": "may read or write the server's files or run its programs",
    "reach": "may do more than a service needs",
}
_OTHERS: dict[Kind, str] = {
    "superuser": "may become {role}, a superuser",
    "bypassrls": "may become {role}, which has BYPASSRLS",
    "owner": "may become {role}, which owns the tables or functions",
    "triggers": "has the right of {role} to set session_replication_role, with which neither the audit log nor foreign "
    "keys are kept",
    "createrole": "may become {role}, which has CREATEROLE and so may make itself a member of any role",
    "all tenants": "may read every tenant, as {role} may",
    "unaudited": "may change rows without an entry in the audit log, as {role} may",
    "redactor": "may take back what the audit log says, as {role} may",
    "recorder": "may write into the compliance log, as {role} may",
    "files": "may read or write the server's files or run its programs, as {role} may",
    "reach": "may do all that {role} may, which is more than a service needs",
}

# A member with `set` may become the role, and one with `admin` may give itself `set`; a member with `inherit` has the
# role's rights, but not its attributes. Before PostgreSQL 16 a member has all three, so these columns are missing.
# The session's own role counts beside the current one, which `alter role … set role` may have changed.
# Who owns what is collected once: asked of each role, the catalog of functions would be read for each.
# Before 16, CREATEROLE makes its holder a member of any role that is no superuser.
_POWERS = """
with recursive reached (role, through, becomes, inherits) as (
  select r.oid, null::oid, true, true
  from pg_catalog.pg_roles r
  where r.rolname in (current_user, session_user)
  union
  select
    m.roleid, coalesce(f.through, m.roleid),
    f.becomes and o.sets or o.administers,
    f.inherits and o.inherits
  from reached f
  join pg_catalog.pg_auth_members m on m.member = f.role
  cross join lateral (
    select
      coalesce((to_jsonb(m) ->> 'set_option')::boolean, true) as sets,
      coalesce((to_jsonb(m) ->> 'inherit_option')::boolean, true) as inherits,
      m.admin_option as administers
  ) o
), owner (role) as (
  select n.nspowner from pg_catalog.pg_namespace n where n.nspname = 'thea'
  union
  select c.relowner
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
  where n.nspname = 'thea'
  union
  select p.proowner
  from pg_catalog.pg_proc p
  join pg_catalog.pg_namespace n on n.oid = p.pronamespace
  join pg_catalog.pg_roles r on r.oid = p.proowner
  where n.nspname = 'thea' and r.rolname not in (
    'thea_maintenance', 'thea_search', 'thea_loader', 'thea_redactor', 'thea_recorder', 'thea_audit_expirer'
  )
), power (kind, role, through) as (
  select 'superuser', r.rolname, f.through
  from reached f join pg_catalog.pg_roles r on r.oid = f.role
  where f.becomes and r.rolsuper
  union
  select 'bypassrls', r.rolname, f.through
  from reached f join pg_catalog.pg_roles r on r.oid = f.role
  where f.becomes and r.rolbypassrls
  union
  select 'createrole', r.rolname, f.through
  from reached f join pg_catalog.pg_roles r on r.oid = f.role
  where f.becomes and r.rolcreaterole and current_setting('server_version_num')::integer < 160000
  union
  select 'owner', r.rolname, f.through
  from reached f join pg_catalog.pg_roles r on r.oid = f.role
  where (f.becomes or f.inherits) and (
    r.rolname = 'thea_owner' or r.oid in (select o.role from owner o)
  )
  union
  select 'triggers', r.rolname, f.through
  from reached f join pg_catalog.pg_roles r on r.oid = f.role
  where (f.becomes or f.inherits)
    and exists (
      select from pg_catalog.pg_parameter_acl p cross join lateral pg_catalog.aclexplode(p.paracl) a
      where p.parname = 'session_replication_role' and a.privilege_type = 'SET' and a.grantee in (r.oid, 0)
    )
  union
  select
    case
      when r.rolname in ('thea_maintenance', 'thea_search') then 'all tenants'
      when r.rolname = 'thea_loader' then 'unaudited'
      when r.rolname in ('thea_redactor', 'thea_audit_expirer') then 'redactor'
      when r.rolname = 'thea_recorder' then 'recorder'
      when r.rolname in ('pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files') then 'files'
      else 'reach'
    end,
    r.rolname, f.through
  from reached f join pg_catalog.pg_roles r on r.oid = f.role
  where (f.becomes or f.inherits) and r.rolname in (
    'thea_maintenance', 'thea_search', 'thea_loader', 'thea_redactor', 'thea_recorder', 'thea_audit_expirer',
    'pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files',
    'pg_read_all_data', 'pg_write_all_data', 'pg_maintain'
  )
)
select p.kind, p.role::text, session_user::text, min(t.rolname::text)
from power p left join pg_catalog.pg_roles t on t.oid = p.through
group by p.kind, p.role
order by
  array_position(
    array[
      'superuser', 'bypassrls', 'owner', 'triggers', 'createrole', 'all tenants', 'unaudited', 'redactor', 'recorder',
      'files', 'reach'
    ],
    p.kind
  ),
  p.role
"""


def powers(ask: Callable[[LiteralString], Sequence[tuple[Any, ...]]]) -> tuple[Power, ...]:
    """All that this login may do and a service may not, the worst first; empty for a safe login.

    `ask` gives the rows of a query.
    """
    return tuple(Power(*row) for row in ask(_POWERS))
