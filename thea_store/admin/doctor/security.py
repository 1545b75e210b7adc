"""Row security: that it is on, what its policies say, and that nothing goes round it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from thea_store.admin.doctor.findings import ONLY_READ, Check, CheckContext, Verdict, ok, problem, quoted
from thea_store.verification.groups import MOVERS, ROLES_OF_TENANTS, shared_tables

__all__ = ["CHECKS"]

_OF_TENANT = "(tenant_id = thea.tenant())"
_OF_NAMED_TENANT = "(tenant_id = thea.named_tenant())"
_CONDITION = f"using {_OF_TENANT} with check {_OF_TENANT}"

_TABLES = """
select format('thea.%I', c.relname), c.relname::text, c.relrowsecurity, c.relforcerowsecurity
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'thea' and c.relkind in ('r', 'p')
order by 1
"""


def _row_security(context: CheckContext) -> Sequence[Verdict]:
    tables = context.ask(_TABLES)
    found: list[Verdict] = []
    for table, _, enabled, forced in tables:
        if not enabled:
            fix = f"`alter table {table} enable row level security`"
            found.append(problem(f"it is not enabled on {table}, so every tenant sees all of it", fix))
        if not forced:
            fix = f"`alter table {table} force row level security`"
            found.append(problem(f"it is not forced on {table}, so it does not bind the owner", fix))
    return found or [ok(f"enabled and forced on {len(tables)} tables")]


# `reaches`: whether the application may act under it. A login that may become the owner is another finding.
_POLICIES = """
select
  c.relname::text as table, p.polname::text as name, p.polpermissive as permissive, p.polcmd::text as command,
  array(select case when o.role = 0 then 'public' else o.role::regrole::text end from unnest(p.polroles) as o (role))
    as roles,
  pg_get_expr(p.polqual, p.polrelid) as using, pg_get_expr(p.polwithcheck, p.polrelid) as check,
  exists (
    select
    from unnest(p.polroles) as o (role) cross join pg_roles a
    where (a.rolname in ('thea_app', 'thea_privacy', 'thea_readonly') or a.rolname = current_user)
      and not a.rolsuper
      and not pg_has_role(a.oid, c.relowner, 'member')
      and case when o.role = 0 then true else pg_has_role(a.oid, o.role, 'member') end
  ) as reaches
from pg_policy p join pg_class c on c.oid = p.polrelid join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'thea'
order by c.relname, p.polname
"""


class _Policy(NamedTuple):
    table: str
    name: str
    permissive: bool
    command: str
    roles: list[str]
    using: str | None
    check: str | None
    reaches: bool

    def is_of_tenant(self) -> bool:
        """Whether nothing but the tenant's rows passes."""
        said = {self.using, self.check} - {None}
        return said == {_OF_TENANT} or (said == {_OF_NAMED_TENANT} and set(self.roles) <= set(MOVERS))

    def binds(self, roles: Sequence[str]) -> bool:
        """Whether it says the tenant's condition to all these roles."""
        return self.is_of_tenant() and ("public" in self.roles or set(self.roles) >= set(roles))


def _policies(context: CheckContext) -> Sequence[Verdict]:
    by_table = defaultdict[str, list[_Policy]](list)
    for row in context.ask(_POLICIES):
        policy = _Policy(*row)
        by_table[policy.table].append(policy)
    tables = [name for _, name, _, _ in context.ask(_TABLES) if name not in shared_tables()]
    return [verdict for name in tables for verdict in _of_table(name, by_table[name])] or [
        ok(f"a permissive and a restrictive one of the tenant on {len(tables)} tables, and none that opens more")
    ]


def _of_table(name: str, policies: Sequence[_Policy]) -> list[Verdict]:
    table = f"thea.{quoted(name)}"
    found = [
        problem(
            f"the policy {each.name} on {table} gives the application more than its tenant's rows: "
            f"{each.using or each.check or 'no condition'}",
            f"`drop policy {quoted(each.name)} on {table}`",
        )
        for each in policies
        if each.permissive and each.reaches and not each.is_of_tenant()
    ]
    reads_only = name in ONLY_READ
    commands = {"*", "r"} if reads_only else {"*"}
    condition = f"using {_OF_TENANT}" if reads_only else _CONDITION
    if not any(each.permissive and each.command in commands and each.binds(["thea_app"]) for each in policies):
        fix = _policy("tenant", table, "for select " if reads_only else "", condition)
        found.append(problem(f"{table} has no policy that shows a tenant its rows", fix))
    if not any(not each.permissive and each.command == "*" and each.binds(ROLES_OF_TENANTS) for each in policies):
        fix = _policy("tenant_guard", table, "as restrictive ", _CONDITION)
        found.append(problem(f"{table} has no restrictive policy, so that any other one could open it", fix))
    return found


def _policy(name: str, table: str, kind: str, condition: str) -> str:
    made = f"create policy {name} on {table} {kind}to {', '.join(ROLES_OF_TENANTS)} {condition}"
    return f"`drop policy if exists {name} on {table}; {made}`"


# Views of any schema that read the library's tables, also through other views. One reads with the rights of its
# owner unless it is an invoker's; a materialized one keeps rows of all tenants.
_VIEWS = """
with recursive reading (view, source) as (
  select w.ev_class, d.refobjid
  from pg_rewrite w join pg_depend d on d.objid = w.oid and d.classid = 'pg_rewrite'::regclass
  where d.refclassid = 'pg_class'::regclass and d.refobjid <> w.ev_class
), reaches (view) as (
  select r.view
  from reading r join pg_class c on c.oid = r.source join pg_namespace n on n.oid = c.relnamespace
  where n.nspname = 'thea'
  union
  select r.view from reading r join reaches on r.source = reaches.view
)
select c.oid::regclass::text, c.relkind::text
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where (n.nspname = 'thea' or c.oid in (select view from reaches))
  and (c.relkind = 'm' or c.relkind = 'v' and not coalesce((
    select o.option_value::boolean from pg_options_to_table(c.reloptions) o where o.option_name = 'security_invoker'
  ), false))
order by 1
"""


def _views(context: CheckContext) -> Sequence[Verdict]:
    return [
        problem(f"row security does not reach into the materialized view {name}", f"`drop materialized view {name}`")
        if kind == "m"
        else problem(
            f"the view {name} reads with the rights of its owner", f"`alter view {name} set (security_invoker = true)`"
        )
        for name, kind in context.ask(_VIEWS)
    ] or [ok("none goes round row security")]


# Functions of other schemas that run as somebody who sees more than a service does, and that say what they read: a
# dependency on one of our tables, or its schema's name in the text. In one that puts statements together, or is
# written in another language, nobody can look. An extension's are the extension's business.
_DEFINERS = """
select p.oid::regprocedure::text, o.rolname::text
from pg_proc p
join pg_namespace n on n.oid = p.pronamespace
join pg_language l on l.oid = p.prolang
join pg_roles o on o.oid = p.proowner
where p.prosecdef
  and n.nspname not in ('thea', 'pg_catalog', 'information_schema')
  and not exists (select from pg_depend d where d.objid = p.oid and d.classid = 'pg_proc'::regclass and d.deptype = 'e')
  and (
    o.rolsuper or o.rolbypassrls
    or exists (
      select from pg_roles g
      where g.rolname in (
        'thea_owner', 'thea_maintenance', 'thea_search', 'thea_loader', 'thea_redactor', 'thea_recorder',
        'thea_audit_expirer'
      )
        and pg_has_role(o.oid, g.oid, 'member')
    )
  )
  and (
    l.lanname not in ('sql', 'plpgsql')
    or p.prosrc ~* '\\m(thea|execute)\\M'
    or coalesce(array_to_string(p.proconfig, ' '), '') ~* '\\mthea\\M'
    or exists (
      select
      from pg_depend d join pg_class c on c.oid = d.refobjid join pg_namespace cn on cn.oid = c.relnamespace
      where d.objid = p.oid and d.classid = 'pg_proc'::regclass and d.refclassid = 'pg_class'::regclass
        and cn.nspname = 'thea'
    )
  )
order by 1
"""


def _definers(context: CheckContext) -> Sequence[Verdict]:
    return [
        problem(
            f"the function {name} runs as {owner}, whom no tenant's policy binds, and may read the library's tables",
            f"`alter function {name} security invoker`, or drop it",
        )
        for name, owner in context.ask(_DEFINERS)
    ] or [ok("no function of another schema reads the tables with more rights than its caller has")]


# A setting that says whose a session is, or whether row security and triggers work, belongs to no role or database:
# the library's own sessions fix it, and those of people and other programs do not.
_SETTINGS = """
select s.setting, format(
  'alter %%s%%s reset %%s',
  case when r.oid is null then format('database %%I', d.datname) else format('role %%I', r.rolname) end,
  case when r.oid is not null and d.oid is not null then format(' in database %%I', d.datname) else '' end,
  split_part(s.setting, '=', 1)
)
from pg_db_role_setting e
cross join lateral unnest(e.setconfig) as s (setting)
left join pg_roles r on r.oid = e.setrole
left join pg_database d on d.oid = e.setdatabase
where e.setdatabase in (0, (select c.oid from pg_database c where c.datname = current_database()))
  and split_part(s.setting, '=', 1) = any(%(names)s)
  and s.setting <> all(%(harmless)s)
order by 2, 1
"""
_PERSONAL = ("app.tenant_id", "app.actor", "app.request_id")
_HARMLESS = {
    "session_replication_role": "origin",
    "row_security": "on",
    "standard_conforming_strings": "on",
    "default_transaction_isolation": "read committed",
}


def _settings(context: CheckContext) -> Sequence[Verdict]:
    names = [*_PERSONAL, *_HARMLESS]
    harmless = [f"{name}={value}" for name, value in _HARMLESS.items()] + [f"{name}=" for name in _PERSONAL]
    return [
        problem(f"`{setting}` is set for others than one session: {_harm(setting)}", f"`{fix}`")
        for setting, fix in context.ask(_SETTINGS, names=names, harmless=harmless)
    ] or [ok("no role or database has one that changes whose rows a session sees, or what it writes")]


def _harm(setting: str) -> str:
    name = setting.partition("=")[0]
    if name in _PERSONAL:
        return "sessions would be some tenant's or actor's from their beginning"
    if name == "session_replication_role":
        return "neither the audit log nor foreign keys would be kept"
    return "statements of people and other programs would not mean what they say"


# Ours is who may migrate, without a way to use it. Anybody else could do what only functions of the library should do.
_INNER = """
select r.rolname::text, m.member::regrole::text
from pg_auth_members m join pg_roles r on r.oid = m.roleid
where r.rolname = any(%(inner)s::text[])
  and m.member::regrole::text <> 'thea_owner'
  and not (
    -- Since PostgreSQL 16 whoever makes a role may grant it, and that alone.
    coalesce((to_jsonb(m) ->> 'set_option')::boolean, true) is false
    and coalesce((to_jsonb(m) ->> 'inherit_option')::boolean, true) is false
    and exists (select from pg_roles o where o.rolname = 'thea_owner' and pg_has_role(m.member, o.oid, 'member'))
  )
order by 1, 2
"""
_INNER_ROLES = {
    "thea_search": "may read the notes of every tenant",
    "thea_loader": "may change rows without an entry in the audit log",
    "thea_redactor": "may take back what the audit log says",
    "thea_recorder": "may write whatever it likes into the compliance log",
    "thea_audit_expirer": "may remove entries of the logs",
}


def _inner_roles(context: CheckContext) -> Sequence[Verdict]:
    return [
        problem(f"{member} is a member of {role}, and {_INNER_ROLES[role]}", f"`revoke {role} from {member}`")
        for role, member in context.ask(_INNER, inner=list(_INNER_ROLES))
    ] or [ok(f"nobody but thea_owner is a member of {' or '.join(_INNER_ROLES)}")]


CHECKS: Mapping[str, Check] = {
    "row security": _row_security,
    "policies": _policies,
    "views": _views,
    "definers": _definers,
    "settings": _settings,
    "inner roles": _inner_roles,
}
