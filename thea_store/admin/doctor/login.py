"""The service's login: what it may do, what it may not, and the settings that it comes with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from thea_store.admin.doctor.findings import Check, CheckContext, Verdict, ok, problem, quoted, warning

__all__ = ["CHECKS"]

_SAFE_LOGIN = "log in as a role made with `create role … login password '…' in role thea_app`"

# `others`: what the login may become or use, and could reach every row, file or program with.
_POWERS = """
select
  r.rolname::text, r.rolsuper, r.rolbypassrls, r.rolreplication, r.rolcreaterole, r.rolcreatedb,
  array(
    select distinct o.rolname::text
    from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_roles o on o.oid = c.relowner
    where n.nspname = 'thea' and pg_has_role(r.oid, o.oid, 'member')
    order by 1
  ) as owners,
  array(
    select o.rolname::text
    from pg_roles o
    where o.oid <> r.oid
      and pg_has_role(r.oid, o.oid, 'member')
      and (
        o.rolsuper or o.rolbypassrls or o.rolname in (
          'pg_execute_server_program', 'pg_read_server_files', 'pg_write_server_files',
          'pg_read_all_data', 'pg_write_all_data', 'pg_maintain', 'thea_maintenance', 'thea_search'
        )
      )
    order by 1
  ) as others
from pg_roles r
where r.rolname = current_user
"""


def _powers(context: CheckContext) -> Sequence[Verdict]:
    [(name, superuser, bypass, replication, create_role, create_database, owners, others)] = context.ask(_POWERS)
    login = quoted(name)
    if superuser:
        return [_unsafe(context, f"{login} is a superuser, whom row security does not bind", _SAFE_LOGIN)]
    found: list[Verdict] = []
    if bypass:
        found.append(_unsafe(context, f"{login} bypasses row security", f"`alter role {login} nobypassrls`"))
    for owner in owners:
        fix = _SAFE_LOGIN if owner == name else f"`revoke {quoted(owner)} from {login}`, or {_SAFE_LOGIN}"
        found.append(_unsafe(context, f"{login} owns the tables, or may become their owner {owner}", fix))
    for other in others:
        fix = f"`revoke {quoted(other)} from {login}`"
        found.append(problem(f"{login} may do all that {other} may, which reaches further than one tenant", fix))
    for power, has in (("replication", replication), ("createrole", create_role), ("createdb", create_database)):
        if has:
            found.append(warning(f"{login} has {power}, which no service needs", f"`alter role {login} no{power}`"))
    return found or [ok(f"row security binds {login}, which has no power beyond")]


def _unsafe(context: CheckContext, found: str, fix: str) -> Verdict:
    if context.settings.allow_unsafe_role:
        return warning(f"{found} (DATABASE_ALLOW_UNSAFE_ROLE allows it)", fix)
    return problem(found, fix)


_MEMBER = """
select current_user::text, pg_has_role(current_user, g.oid, 'member'), pg_has_role(current_user, g.oid, 'usage')
from pg_roles g
where g.rolname = 'thea_app'
"""


def _membership(context: CheckContext) -> Sequence[Verdict]:
    rows = context.ask(_MEMBER)
    if not rows:
        return []  # the roles are a check of their own
    [(name, member, inherits)] = rows
    login = quoted(name)
    if not member:
        return [problem(f"{login} is no member of thea_app, so it may do nothing", f"`grant thea_app to {login}`")]
    if not inherits:
        fix = f"`alter role {login} inherit`, then `revoke thea_app from {login}` and `grant thea_app to {login}`"
        return [problem(f"{login} is a member of thea_app, but does not inherit its rights", fix)]
    return [ok(f"{login} has the rights of thea_app")]


_SETTINGS = """
select current_user::text, current_database()::text, coalesce(current_setting('app.tenant_id', true), ''),
  current_setting('row_security')
"""


def _session(context: CheckContext) -> Sequence[Verdict]:
    [(login, database, tenant, row_security)] = context.ask(_SETTINGS)
    found: list[Verdict] = []
    if tenant:
        found.append(_preset("app.tenant_id", "a new connection is some tenant's already", login, database))
    if row_security != "on":
        found.append(_preset("row_security", "row_security is off, so every query fails", login, database))
    return found or [ok("a new connection is no tenant's, and row security is on")]


def _preset(setting: str, found: str, login: str, database: str) -> Verdict:
    fix = f"`alter role {quoted(login)} reset {setting}` and `alter database {quoted(database)} reset {setting}`"
    return problem(found, fix)


_CREATES = """
select c.what, format('revoke %%s from public, thea_app, %%I', c.privilege, r.rolname)
from pg_roles r cross join lateral (
  select 'temporary tables', format('temporary on database %%I', d.datname)
  from pg_database d
  where d.datname = current_database() and has_database_privilege(r.oid, d.oid, 'temporary')
  union all
  select 'schemas', format('create on database %%I', d.datname)
  from pg_database d
  where d.datname = current_database() and has_database_privilege(r.oid, d.oid, 'create')
  union all
  select 'objects in schema ' || n.nspname, format('create on schema %%I', n.nspname)
  from pg_namespace n
  where n.nspname !~ '^pg_' and has_schema_privilege(r.oid, n.oid, 'create')
) as c (what, privilege)
where r.rolname = %(role)s
order by c.what
"""

# No row for a login that is too powerful anyway, nor before the first migration, which takes rights away.
_OWNER = """
select r.rolname::text, pg_has_role(r.oid, d.datdba, 'member')
from pg_roles r, pg_database d, pg_namespace n
where r.rolname = current_user and d.datname = current_database() and n.nspname = 'thea'
  and not r.rolsuper and not pg_has_role(r.oid, n.nspowner, 'member')
"""


def _creation(context: CheckContext) -> Sequence[Verdict]:
    rows = context.ask(_OWNER)
    if not rows:
        return []
    [(login, owns_database)] = rows
    if owns_database:
        return [_unsafe(context, f"{quoted(login)} owns the database, so it may create what it likes", _SAFE_LOGIN)]
    return [
        problem(f"{quoted(login)} may create {what}, where data could outlive its tenant's turn", f"`{fix}`")
        for what, fix in context.ask(_CREATES, role=login)
    ] or [ok(f"{quoted(login)} may create nothing")]


CHECKS: Mapping[str, Check] = {
    "powers": _powers,
    "membership": _membership,
    "session": _session,
    "creation": _creation,
}
