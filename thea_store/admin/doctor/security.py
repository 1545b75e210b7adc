"""Row security: that it is on, what its policies say, and that nothing goes round it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from thea_store.admin.doctor.findings import AUDIT_LOG, Check, CheckContext, Verdict, ok, problem, quoted

__all__ = ["CHECKS"]

_OF_TENANT = "(tenant_id = thea.tenant())"
_CONDITION = f"using {_OF_TENANT} with check {_OF_TENANT}"
_APPLICATION = ("thea_app", "thea_readonly")

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
    where (a.rolname in ('thea_app', 'thea_readonly') or a.rolname = current_user)
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
        return {self.using, self.check} - {None} == {_OF_TENANT}

    def binds(self, roles: Sequence[str]) -> bool:
        """Whether it says the tenant's condition to all these roles."""
        return self.is_of_tenant() and ("public" in self.roles or set(self.roles) >= set(roles))


def _policies(context: CheckContext) -> Sequence[Verdict]:
    by_table = defaultdict[str, list[_Policy]](list)
    for row in context.ask(_POLICIES):
        policy = _Policy(*row)
        by_table[policy.table].append(policy)
    tables = [name for _, name, _, _ in context.ask(_TABLES)]
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
    reads_only = name == AUDIT_LOG
    commands = {"*", "r"} if reads_only else {"*"}
    condition = f"using {_OF_TENANT}" if reads_only else _CONDITION
    if not any(each.permissive and each.command in commands and each.binds(["thea_app"]) for each in policies):
        fix = _policy("tenant", table, "for select " if reads_only else "", condition)
        found.append(problem(f"{table} has no policy that shows a tenant its rows", fix))
    if not any(not each.permissive and each.command == "*" and each.binds(_APPLICATION) for each in policies):
        fix = _policy("tenant_guard", table, "as restrictive ", _CONDITION)
        found.append(problem(f"{table} has no restrictive policy, so that any other one could open it", fix))
    return found


def _policy(name: str, table: str, kind: str, condition: str) -> str:
    made = f"create policy {name} on {table} {kind}to {', '.join(_APPLICATION)} {condition}"
    return f"`drop policy if exists {name} on {table}; {made}`"


_VIEWS = """
select c.oid::regclass::text, c.relkind::text
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'thea'
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


CHECKS: Mapping[str, Check] = {
    "row security": _row_security,
    "policies": _policies,
    "views": _views,
}
