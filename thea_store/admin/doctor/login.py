"""The service's login: what it may do, what it may not, and the settings that it comes with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from thea_store.admin.doctor.findings import Check, CheckContext, Verdict, ok, problem, quoted, warning
from thea_store.postgres.operator import connect
from thea_store.verification.groups import GROUPS
from thea_store.verification.login import Power, powers

__all__ = ["CHECKS"]

_SAFE_LOGIN = "log in as a role made with `create role … login password '…' in role thea_app`"

_ATTRIBUTES = """
select r.rolname::text, r.rolreplication, r.rolcreaterole, r.rolcreatedb
from pg_roles r
where r.rolname = session_user
"""


def _powers(context: CheckContext) -> Sequence[Verdict]:
    [(name, replication, create_role, create_database)] = context.ask(_ATTRIBUTES)
    found = powers(context.ask)
    if found and found[0].kind == "superuser" and found[0].through is None:
        return [_verdict(context, found[0])]  # who may do all that the others say, too
    verdicts = [_verdict(context, power) for power in found]
    login = quoted(name)
    told = {power.kind for power in found}
    for attribute, has in (("replication", replication), ("createrole", create_role), ("createdb", create_database)):
        if has and attribute not in told:
            fix = f"`alter role {login} no{attribute}`"
            verdicts.append(warning(f"{login} has {attribute}, which no service needs", fix))
    return verdicts or [ok(f"row security binds {login}, which has no power beyond")]


def _verdict(context: CheckContext, power: Power) -> Verdict:
    found = f"{quoted(power.login)} {power}"
    if power.is_refused and context.settings.allow_unsafe_role:
        return warning(f"{found} (DATABASE_ALLOW_UNSAFE_ROLE allows it)", _cure(power))
    return problem(found, _cure(power))


def _cure(power: Power) -> str:
    login = quoted(power.login)
    if power.through is not None:
        return f"`revoke {quoted(power.through)} from {login}`"
    match power.kind:
        case "bypassrls" | "createrole":
            return f"`alter role {login} no{power.kind}`"
        case "triggers":
            return f"`revoke set on parameter session_replication_role from {login}, public`"
        case _:
            return _SAFE_LOGIN


_MEMBER = """
select
  current_user::text, g.rolname::text, pg_has_role(current_user, g.oid, 'member'),
  pg_has_role(current_user, g.oid, 'usage')
from pg_roles g join pg_roles r on r.rolname = current_user
-- To the server a superuser is a member of every role, without a membership.
where g.rolname = any(%(groups)s::text[]) and not r.rolsuper
order by 2
"""


def _membership(context: CheckContext) -> Sequence[Verdict]:
    rows = context.ask(_MEMBER, groups=[group.name for group in GROUPS])
    if not rows:
        return []  # the roles are a check of their own
    login = quoted(rows[0][0])
    groups = {group: inherits for _, group, member, inherits in rows if member}
    if not groups:
        return [problem(f"{login} is no member of thea_app, so it may do nothing", f"`grant thea_app to {login}`")]
    return [
        _inherited(login, group) if inherits else _not_inherited(login, group) for group, inherits in groups.items()
    ]


def _inherited(login: str, group: str) -> Verdict:
    return ok(f"{login} has the rights of {group}")


def _not_inherited(login: str, group: str) -> Verdict:
    fix = f"`alter role {login} inherit`, then `revoke {group} from {login}` and `grant {group} to {login}`"
    return problem(f"{login} is a member of {group}, but does not inherit its rights", fix)


# Asked in a session as the login gets it, since the library's own sessions fix some of them.
_SETTINGS = """
select current_user::text, current_database()::text, s.name, s.value
from (values
  ('app.tenant_id', coalesce(current_setting('app.tenant_id', true), '')),
  ('app.actor', coalesce(current_setting('app.actor', true), '')),
  ('app.request_id', coalesce(current_setting('app.request_id', true), '')),
  ('row_security', current_setting('row_security')),
  ('session_replication_role', current_setting('session_replication_role'))
) as s (name, value)
"""
_HARMS = {
    "app.tenant_id": ("", "a new connection is some tenant's already"),
    "app.actor": ("", "a new connection has some actor already, whom the audit log would name"),
    "app.request_id": ("", "a new connection has some request already, which the audit log would name"),
    "row_security": ("on", "row_security is off, so a query without the library fails"),
    "session_replication_role": (
        "origin",
        "session_replication_role is not origin, so that neither the audit log nor foreign keys are kept",
    ),
}


def _session(context: CheckContext) -> Sequence[Verdict]:
    with connect(context.settings.address(), as_it_comes=True) as connection:
        rows = connection.execute(_SETTINGS).fetchall()
    return [
        _preset(setting, _HARMS[setting][1], login, database)
        for login, database, setting, value in rows
        if value != _HARMS[setting][0]
    ] or [ok("a new connection is no tenant's, and row security is on")]


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
        found = f"{quoted(login)} owns the database, so it may create what it likes"
        if context.settings.allow_unsafe_role:
            return [warning(f"{found} (DATABASE_ALLOW_UNSAFE_ROLE allows it)", _SAFE_LOGIN)]
        return [problem(found, _SAFE_LOGIN)]
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
