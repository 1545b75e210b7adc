"""Roles, rights and functions: neither too few for the service nor more than it needs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from thea_store.admin.doctor.findings import ONLY_READ, Check, CheckContext, Verdict, ok, problem, quoted
from thea_store.admin.doctor.manifest import Thing
from thea_store.admin.doctor.on_cluster import is_cluster, is_made_there
from thea_store.store import SQL_FILES
from thea_store.verification.groups import GROUPS, shared_tables

__all__ = ["CHECKS"]

_ROLES = """
select w.name, r.oid is not null, coalesce(r.rolsuper, false), coalesce(r.rolbypassrls, false),
  array(
    -- The direct ones: what these lead to ends with them.
    select o.rolname::text
    from pg_auth_members m join pg_roles o on o.oid = m.roleid
    where m.member = r.oid and w.name in ('thea_app', 'thea_privacy', 'thea_readonly')
    group by o.rolname
    order by 1
  )
from unnest(%(names)s::text[]) as w (name)
left join pg_roles r on r.rolname = w.name
order by 1
"""


_GROUPS = ["thea_maintenance", *(group.name for group in GROUPS)]
_NAMES = ["thea_owner", "thea_recorder", "thea_redactor", *_GROUPS]


def _roles(context: CheckContext) -> Sequence[Verdict]:
    found: list[Verdict] = []
    for name, exists, superuser, bypass, others in context.ask(_ROLES, names=_NAMES):
        if not exists:
            fix = f"`create role {name} nologin noinherit`, then its grants: they stand in the migrations"
            found.append(problem(f"there is no role {name}", fix))
        for power, has in (("superuser", superuser), ("bypassrls", bypass)):
            if has:
                fix = f"`alter role {name} no{power}`"
                found.append(problem(f"{name} has {power}, so row security does not bind it", fix))
        for other in [] if superuser else others:
            fix = f"`revoke {quoted(other)} from {name}`"
            found.append(problem(f"{name} is a member of {other}, and with it every service", fix))
    return found or [ok("the library's roles are there, without powers")]


# A null column: the whole table. The owner's own rights are no grants.
_GRANTED = """
with relation as (
  select c.oid, c.relname::text as name, c.relkind::text as kind, c.relacl, c.relowner
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
  where n.nspname = 'thea' and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S')
), granted as (
  select r.name, r.kind, null as column, a.grantee, a.privilege_type
  from relation r cross join lateral aclexplode(r.relacl) a
  where a.grantee <> r.relowner
  union all
  select r.name, r.kind, t.attname::text, a.grantee, a.privilege_type
  from relation r join pg_attribute t on t.attrelid = r.oid and not t.attisdropped
  cross join lateral aclexplode(t.attacl) a
  where a.grantee <> r.relowner
)
select g.name, g.kind, g.column, coalesce(o.rolname, 'public')::text, lower(g.privilege_type)
from granted g left join pg_roles o on o.oid = g.grantee
where g.grantee = 0 or o.rolname in ('thea_app', 'thea_privacy', 'thea_readonly')
  or o.rolname = current_user and not o.rolsuper
order by 1, 3, 4, 5
"""

# Keeps `drop owned by` from taking a group out of the policies (see the migration 0001.tenancy).
_KEYSTONE = "keystone"
_WITHOUT_KEYSTONE = """
select r.rolname::text, to_regclass('thea.keystone') is not null
from pg_roles r
where r.rolname = any(%(names)s::text[])
  and has_sequence_privilege(r.oid, to_regclass('thea.keystone'), 'usage') is not true
order by 1
"""
_NEW_KEYSTONE = "create sequence if not exists thea.keystone; alter sequence thea.keystone owner to thea_owner; "


def _keystone(context: CheckContext) -> Sequence[Verdict]:
    found: list[Verdict] = []
    for role, exists in context.ask(_WITHOUT_KEYSTONE, names=_GROUPS):
        fix = f"`{'' if exists else _NEW_KEYSTONE}grant usage on sequence thea.keystone to {role}`"
        found.append(problem(f"a login in {role} could `drop owned by {role}`, and close every table to it", fix))
    return found or [ok("no login can take its group out of the policies")]


# The groups that change no row by themselves.
_READERS = {"thea_privacy", "thea_readonly"}

# What a row is known by, and by whom: never changed.
_FIXED = {"tenant_id", "id", "user_id", "conversation_id", "created_at", "updated_at"}


# What a migration makes next would be open before it is protected.
_DEFAULTS = """
select coalesce(n.nspname, 'every schema')::text, d.defaclrole::regrole::text,
  coalesce(o.rolname, 'public')::text,
  case d.defaclobjtype when 'r' then 'tables' when 'S' then 'sequences' when 'f' then 'functions' else 'schemas' end,
  lower(a.privilege_type)
from pg_default_acl d
left join pg_namespace n on n.oid = d.defaclnamespace
cross join lateral aclexplode(d.defaclacl) a
left join pg_roles o on o.oid = a.grantee
where (n.nspname = 'thea' or d.defaclnamespace = 0) and d.defaclobjtype in ('r', 'S', 'f')
  and (o.rolname in ('thea_app', 'thea_privacy', 'thea_readonly') or a.grantee = 0 and d.defaclobjtype <> 'f')
order by 1, 2, 3, 4, 5
"""


def _default_rights(context: CheckContext) -> Sequence[Verdict]:
    found: list[Verdict] = []
    for schema, maker, grantee, things, privilege in context.ask(_DEFAULTS):
        place = f" in schema {schema}" if schema == "thea" else ""
        fix = f"alter default privileges for role {maker}{place} revoke {privilege} on {things} from {grantee}"
        found.append(problem(f"{grantee} gets {privilege} on the {things} that {maker} makes in {schema}", f"`{fix}`"))
    return found or [ok("a new table is closed until its migration opens it")]


def _excess_rights(context: CheckContext) -> Sequence[Verdict]:
    granted = context.ask(_GRANTED)
    found: list[Verdict] = []
    for name, kind, column, role, privilege in granted:
        if _may(role, privilege, name, kind, column):
            continue
        what = f"{privilege} ({quoted(column)})" if column else privilege
        thing = f"{'sequence ' if kind == 'S' else ''}thea.{quoted(name)}"
        grantee = role if role == "public" else quoted(role)
        fix = f"revoke {what} on {thing} from {grantee}"
        if what == "update" and (columns := _updated_columns(granted, name, role)):
            # The revocation takes those of the columns along.
            fix += f"; grant update ({', '.join(columns)}) on {thing} to {grantee}"
        found.append(problem(f"{role} may {what} on {thing}", f"`{fix}`"))
    return found or [ok("no role of the application may do more than it needs")]


def _updated_columns(granted: Sequence[tuple[Any, ...]], table: str, role: str) -> list[str]:
    return [
        quoted(column)
        for name, kind, column, grantee, privilege in granted
        if (name, grantee, privilege) == (table, role, "update")
        and column is not None
        and _may(role, privilege, name, kind, column)
    ]


def _may(role: str, privilege: str, table: str, kind: str, column: str | None) -> bool:
    if role == "public" or table in shared_tables():
        return False
    if kind == "S":
        return privilege == "usage" and (role not in _READERS or table == _KEYSTONE)
    if privilege == "select":
        return True
    if role in _READERS or table in ONLY_READ:
        return False
    return privilege in {"insert", "delete"} or (privilege == "update" and column not in {None, *_FIXED})


_MISSING = """
select 'select on public._yoyo_migration' as what
from pg_roles app
where app.rolname = 'thea_app' and to_regclass('public._yoyo_migration') is not null
  and not has_table_privilege(app.oid, to_regclass('public._yoyo_migration'), 'select')
union all
select 'usage on schema thea'
from pg_roles app
where app.rolname = 'thea_app' and not has_schema_privilege(app.oid, 'thea', 'usage')
union all
select case c.relkind when 'S' then p.name || ' on sequence ' else p.name || ' on ' end || format('thea.%%I', c.relname)
from pg_roles app cross join pg_class c join pg_namespace n on n.oid = c.relnamespace
cross join lateral (values
  ('select', case c.relkind when 'S' then true else has_table_privilege(app.oid, c.oid, 'select') end),
  ('insert', case c.relkind when 'S' then true else has_table_privilege(app.oid, c.oid, 'insert') end),
  ('update (…)', case c.relkind when 'S' then true else has_any_column_privilege(app.oid, c.oid, 'update') end),
  ('delete', case c.relkind when 'S' then true else has_table_privilege(app.oid, c.oid, 'delete') end),
  ('usage', case c.relkind when 'S' then has_sequence_privilege(app.oid, c.oid, 'usage') else true end)
) as p (name, granted)
where app.rolname = 'thea_app' and n.nspname = 'thea' and c.relkind in ('r', 'p', 'S')
  and c.relname = any(%(used)s) and not p.granted and (c.relname <> all(%(logs)s) or p.name = 'select')
union all
select 'execute on function ' || f.oid::regprocedure::text
from pg_roles app cross join pg_proc f join pg_namespace n on n.oid = f.pronamespace
where app.rolname = 'thea_app' and n.nspname = 'thea' and f.proname = any(%(used)s)
  and not has_function_privilege(app.oid, f.oid, 'execute')
order by 1
"""


def _missing_rights(context: CheckContext) -> Sequence[Verdict]:
    found: list[Verdict] = []
    for (what,) in context.ask(_MISSING, used=_used_names(), logs=list(ONLY_READ)):
        columns = ", with the columns that its migration lists" if "…" in what else ""
        found.append(problem(f"thea_app lacks {what}", f"`grant {what} to thea_app`{columns}"))
    return found or [ok("thea_app may do all that the queries need")]


def _used_names() -> list[str]:
    """What the queries name in the schema, and the function in every policy."""
    texts = [query.text for file in SQL_FILES for query in file.claimed]
    return sorted({"tenant", *(name for text in texts for name in re.findall(r"\bthea\.(\w+)", text))})


_TENANT = """
select f.provolatile::text, f.prosecdef, coalesce(pg_get_function_sqlbody(f.oid), '')
from pg_proc f join pg_namespace n on n.oid = f.pronamespace
where n.nspname = 'thea' and f.proname = 'tenant' and f.pronargs = 0
"""
_ASKS_DIRECTORY = "RETURN thea.admitted_tenant()"
_ASKS_NOTHING = "RETURN thea.unchecked_tenant()"
_FUNCTION = (
    "`create or replace function thea.tenant() returns text language sql stable parallel safe "
    "return thea.admitted_tenant()`"
)


def _tenant(context: CheckContext) -> Sequence[Verdict]:
    rows = context.ask(_TENANT)
    if not rows:
        return [problem("there is no function thea.tenant(), so no policy can work", _FUNCTION)]
    [(volatility, definer, body)] = rows
    if volatility != "s":
        found = "thea.tenant() is not stable: a cached plan could show one tenant the rows of another, or read them all"
        return [problem(found, _FUNCTION)]
    if definer or body not in {_ASKS_NOTHING, _ASKS_DIRECTORY}:
        return [problem("thea.tenant() is not the function that the policies were written for", _FUNCTION)]
    directory = ", and the directory whether it may work" if body == _ASKS_DIRECTORY else ""
    return [ok(f"thea.tenant() reads the setting app.tenant_id{directory}, anew in every statement")]


_DEFINERS = """
select f.oid::regprocedure::text, o.rolname::text,
  case
    -- A role that is missing is told by itself.
    when r.name is not null then o.rolname = r.name or to_regrole(r.name) is null
    else o.rolname in ('thea_owner', 'thea_search', 'thea_redactor')
  end,
  o.rolsuper or o.rolbypassrls,
  coalesce(f.proconfig, '{}') @> array['search_path=pg_catalog, pg_temp'],
  has_function_privilege('public', f.oid, 'execute') and f.prorettype <> 'trigger'::regtype,
  case
    when r.name is not null then r.name
    when f.prorettype = 'trigger'::regtype then 'thea_owner'
    when f.proname = 'erase_person' then 'thea_redactor'
    else 'thea_search'
  end
from pg_proc f join pg_namespace n on n.oid = f.pronamespace join pg_roles o on o.oid = f.proowner
-- What works across tenants on a worker's behalf.
left join (
  values
    ('count_rows', 'thea_maintenance'),
    ('usage_of', 'thea_maintenance'),
    ('tenants_with_work', 'thea_maintenance'),
    ('tenants_with_expired_rows', 'thea_maintenance'),
    ('expire_rows', 'thea_maintenance'),
    ('tenants_with_expired_audit', 'thea_audit_expirer'),
    ('expire_audit', 'thea_audit_expirer'),
    ('tenants_with_uncounted_messages', 'thea_maintenance'),
    ('fold_messages', 'thea_maintenance'),
    ('fold_messages_here', 'thea_maintenance'),
    ('sums_kept_of', 'thea_maintenance'),
    ('leave_difference', 'thea_maintenance'),
    ('forget_message_counts', 'thea_maintenance'),
    -- What works on a tenant as a whole.
    ('import_begin', 'thea_loader'),
    ('import_rows', 'thea_loader'),
    ('sync_rows', 'thea_loader'),
    ('remove_rows', 'thea_loader'),
    ('pause_tenant', 'thea_loader'),
    ('unpause_tenant', 'thea_loader'),
    ('end_begin', 'thea_loader'),
    ('end_rows', 'thea_loader'),
    ('require_key', 'thea_loader'),
    ('add_key', 'thea_loader'),
    ('retire_keys', 'thea_loader'),
    ('end_encryption', 'thea_loader'),
    ('seal_rows', 'thea_loader'),
    ('open_rows', 'thea_loader'),
    ('encrypted_tenants', 'thea_maintenance'),
    ('redact_texts', 'thea_redactor'),
    -- What hides and restores rows with others.
    ('cascade_deletion', 'thea_loader'),
    ('advance_ids', 'thea_owner'),
    ('advance_past', 'thea_loader'),
    ('reserve_ids', 'thea_owner'),
    -- What writes the compliance log, and what is told of a tenant to those who read it.
    ('record_compliance', 'thea_recorder'),
    ('record_directory', 'thea_recorder'),
    ('record_policy', 'thea_recorder'),
    ('record_whole', 'thea_recorder'),
    ('record_key', 'thea_recorder'),
    ('record_expiry', 'thea_recorder'),
    ('chain_reads', 'thea_recorder'),
    ('tenants_with_noted_reads', 'thea_recorder'),
    ('tenants_with_expired_activity', 'thea_audit_expirer'),
    ('expire_activity', 'thea_audit_expirer'),
    ('log_forgotten_key', 'thea_recorder'),
    ('log_read', 'thea_recorder'),
    ('log_export', 'thea_recorder'),
    ('kept_of', 'thea_maintenance'),
    ('entries_kept_of', 'thea_audit_expirer'),
    -- What a service learns of the directory.
    ('limits_of_calls', 'thea_owner')
) as r (function, name) on r.function = f.proname
where n.nspname = 'thea' and f.prosecdef
order by 1
"""


def _functions(context: CheckContext) -> Sequence[Verdict]:
    found: list[Verdict] = []
    for name, owner, known, powerful, fixed_path, public, right in context.ask(_DEFINERS):
        if not fixed_path:
            fix = f"`alter function {name} set search_path = pg_catalog, pg_temp`"
            found.append(problem(f"{name} runs as {owner}, but with the caller's search_path", fix))
        if powerful or not (known or (is_cluster(context) and is_made_there(Thing("owner of function", "", name)))):
            cure = f"alter role {owner} nosuperuser nobypassrls" if known else f"alter function {name} owner to {right}"
            rights = "whom row security does not bind" if powerful else "with other rights than its migration gave it"
            found.append(problem(f"{name} runs as {owner}, {rights}", f"`{cure}`"))
        if public:
            fix = f"`revoke execute on function {name} from public`"
            found.append(problem(f"everyone may call {name}, which runs as {owner}", fix))
    return found or [ok("those that run as their owner fix their search_path, and are not for everyone")]


CHECKS: Mapping[str, Check] = {
    "roles": _roles,
    "missing rights": _missing_rights,
    "excess rights": _excess_rights,
    "default rights": _default_rights,
    "keystone": _keystone,
    "tenant": _tenant,
    "functions": _functions,
}
