"""The tables: keys, indexes, triggers, owners."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from thea_store.admin.doctor.findings import LOGS, SUMS, Check, CheckContext, Verdict, ok, problem, quoted, warning
from thea_store.verification.groups import shared_tables

__all__ = ["CHECKS"]

# A key that does not begin with the tenant could be met, or guessed, from another tenant.
_KEYS = """
select format('thea.%I', c.relname), null, null
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'thea' and c.relkind in ('r', 'p') and not c.relispartition
  and not exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary)
union all
select format('thea.%I', c.relname), coalesce(k.conname::text, i.indexrelid::regclass::text),
  case when k.oid is null then 'index' else 'unique constraint' end
from pg_index i join pg_class c on c.oid = i.indrelid join pg_namespace n on n.oid = c.relnamespace
left join pg_constraint k on k.conindid = i.indexrelid and k.contype in ('p', 'u', 'x')
left join pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[0]
where n.nspname = 'thea' and i.indisunique and a.attname is distinct from 'tenant_id'
union all
select format('thea.%I', c.relname), k.conname, 'exclusion constraint'
from pg_constraint k join pg_class c on c.oid = k.conrelid join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'thea' and k.contype = 'x' and not exists (
  select
  from unnest(k.conkey, k.conexclop) as e (number, operator)
  join pg_attribute a on a.attrelid = c.oid and a.attnum = e.number
  join pg_operator o on o.oid = e.operator
  where a.attname = 'tenant_id' and o.oprname = '='
)
union all
select format('thea.%I', c.relname), k.conname, 'foreign key'
from pg_constraint k join pg_class c on c.oid = k.conrelid join pg_namespace n on n.oid = c.relnamespace
join pg_attribute a on a.attrelid = c.oid and a.attnum = k.conkey[1]
where n.nspname = 'thea' and k.contype = 'f' and a.attname <> 'tenant_id'
order by 1, 2
"""


def _keys(context: CheckContext) -> Sequence[Verdict]:
    found: list[Verdict] = []
    for table, key, kind in context.ask(_KEYS):
        if table.removeprefix("thea.") in shared_tables():
            continue
        if key is None:
            found.append(
                problem(f"{table} has no primary key", f"`alter table {table} add primary key (tenant_id, id)`")
            )
        else:
            drop = f"drop index {key}" if kind == "index" else f"alter table {table} drop constraint {quoted(key)}"
            fix = f"`{drop}`, and make it anew in a migration, with tenant_id as its first column"
            found.append(problem(f"the {kind} {key} of {table} does not begin with tenant_id", fix))
    return found or [ok("every primary key, unique index and foreign key of tenants begins with tenant_id")]


_UNINDEXED = """
select k.conname::text, format('thea.%I', c.relname), (
  select string_agg(format('%I', a.attname), ', ' order by o.place)
  from unnest(k.conkey) with ordinality as o (number, place)
  join pg_attribute a on a.attrelid = c.oid and a.attnum = o.number
)
from pg_constraint k join pg_class c on c.oid = k.conrelid join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'thea' and k.contype = 'f'
  and not exists (
    select
    from pg_index i
    where i.indrelid = c.oid and i.indisvalid and i.indpred is null
      and (i.indkey::int2[])[0:cardinality(k.conkey) - 1] @> k.conkey
  )
order by 1
"""


def _foreign_keys(context: CheckContext) -> Sequence[Verdict]:
    return [
        problem(
            f"{key} of {table} has no index, so that deleting a parent reads the whole table",
            f"`create index concurrently on {table} ({columns})`",
        )
        for key, table, columns in context.ask(_UNINDEXED)
    ] or [ok("each has an index")]


_INVALID = """
select i.indexrelid::regclass::text
from pg_index i join pg_class c on c.oid = i.indrelid join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'thea' and not (i.indisvalid and i.indisready)
order by 1
"""


def _indexes(context: CheckContext) -> Sequence[Verdict]:
    return [
        problem(
            f"{index} is invalid: its building goes on, or failed",
            f"wait, if it is being built; else `reindex index concurrently {index}`, or drop it",
        )
        for (index,) in context.ask(_INVALID)
    ] or [ok("all are valid")]


_TRIGGERS = """
select
  c.relname::text,
  array(
    select format('%I', t.tgname) from pg_trigger t
    where t.tgrelid = c.oid and not t.tgisinternal and t.tgenabled in ('D', 'R') order by 1
  ),
  exists (select from pg_trigger t where t.tgrelid = c.oid and t.tgisinternal and t.tgenabled in ('D', 'R')),
  exists (
    select from pg_trigger t join pg_proc p on p.oid = t.tgfoid join pg_namespace pn on pn.oid = p.pronamespace
    where t.tgrelid = c.oid and pn.nspname = 'thea'
      and p.proname = case c.relname when 'audit_log' then 'audit_is_append_only'
        when 'compliance_log' then 'compliance_is_append_only' else 'audit' end
  )
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname = 'thea' and c.relkind in ('r', 'p')
order by 1
"""


_APPEND_ONLY = (
    "create trigger append_only before update or delete or truncate on {} "
    "for each statement execute function thea.{}_is_append_only()"
)


# Tables whose texts can be sealed, and that take plain texts of encrypted tenants. A disabled trigger is told above.
_TAKING_PLAIN_TEXTS = """
select a.attrelid::regclass::text
from pg_attribute a
where a.attname = 'sealed'
  and a.atttypid = 'jsonb'::regtype
  and col_description(a.attrelid, a.attnum) like 'seals %'
  and pg_get_function_sqlbody(to_regprocedure('thea.is_encrypted(text)')) <> 'RETURN false'
  and (
    select count(*) from pg_trigger t
    where t.tgrelid = a.attrelid
      and t.tgfoid in (to_regprocedure('thea.refuse_plain_text()'), to_regprocedure('thea.keep_row_key()'))
  ) < 3
order by 1
"""


def _triggers(context: CheckContext) -> Sequence[Verdict]:
    found = [
        problem(
            f"{table} takes plain texts of encrypted tenants",
            "`thea-store encryption rotate` for any encrypted tenant, which makes the triggers anew that refuse them",
        )
        for (table,) in context.ask(_TAKING_PLAIN_TEXTS)
    ]
    for name, disabled, without_keys, audited in context.ask(_TRIGGERS):
        table = f"thea.{quoted(name)}"
        for trigger in disabled:
            fix = f"`alter table {table} enable trigger {trigger}`"
            found.append(problem(f"the trigger {trigger} of {table} is disabled", fix))
        if without_keys:
            fix = f"`alter table {table} enable trigger all`, as a superuser"
            found.append(problem(f"the foreign keys of {table} are not enforced", fix))
        if audited or name in (*shared_tables(), *SUMS):
            continue
        if name in LOGS:
            fix = f"`{_APPEND_ONLY.format(table, name.removesuffix('_log'))}`"
            found.append(problem(f"{table} is not append-only", fix))
        else:
            fix = f"give {table} a trigger that calls thea.audit(), as the migrations do"
            found.append(problem(f"changes of {table} do not come into the audit log", fix))
    return found or [ok("all are enabled, and every table of tenants is audited")]


_OWNERS = """
select c.oid::regclass::text, r.rolname::text,
  case c.relkind when 'v' then 'view' else 'table' end
from pg_class c join pg_namespace n on n.oid = c.relnamespace join pg_roles r on r.oid = c.relowner
where n.nspname = 'thea' and c.relkind in ('r', 'p', 'v') and r.rolname <> 'thea_owner'
order by 1
"""


def _owners(context: CheckContext) -> Sequence[Verdict]:
    return [
        warning(f"{name} belongs to {owner}, not to thea_owner", f"`alter {kind} {name} owner to thea_owner`")
        for name, owner, kind in context.ask(_OWNERS)
    ] or [ok("all belong to thea_owner")]


CHECKS: Mapping[str, Check] = {
    "keys": _keys,
    "foreign keys": _foreign_keys,
    "indexes": _indexes,
    "triggers": _triggers,
    "owners": _owners,
}
