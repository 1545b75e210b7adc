"""Whether all that may be kept of a person is exported and erased with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from thea_store.admin.doctor.findings import Check, CheckContext, Verdict, ok, problem, warning

__all__ = ["CHECKS"]

_MAY_ASK = """
select coalesce(has_function_privilege(to_regprocedure('thea.person_condition(regclass,text,regclass[])'), 'execute'),
  false)
"""

# Tables of tenants that do not hang on people, and whose comment gives no reason. A table that hangs on one with a
# reason needs none of its own.
_UNCOVERED = """
with recursive tables as (
  select c.oid, coalesce(obj_description(c.oid, 'pg_class'), '') like 'no person: _%' as is_excused
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  where c.relkind in ('r', 'p')
    and not c.relispartition
    and (n.nspname = 'thea' or exists (
      select from pg_policy p join pg_class o on o.oid = p.polrelid
      where p.polname = 'tenant_guard' and o.relnamespace = n.oid
    ))
    and exists (select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped)
), excused as (
  select oid from tables where is_excused
  union
  select k.conrelid
  from excused e
  join pg_constraint k on k.confrelid = e.oid and k.contype = 'f' and k.confdeltype = 'c'
)
select oid::regclass::text
from tables
where oid not in (select oid from excused)
  and thea.person_condition(oid::regclass, 't') is null
order by 1
"""

# Rows of others that refer to a person, or to a row of theirs, and do not go with it.
_HINDERING = """
select k.conname::text, k.conrelid::regclass::text, k.confrelid::regclass::text
from pg_constraint k
where k.contype = 'f'
  and k.confdeltype in ('a', 'r')
  and exists (select from pg_policy p where p.polrelid = k.confrelid and p.polname = 'tenant_guard')
  and thea.person_condition(k.confrelid::regclass, 't') is not null
order by 2, 1
"""


def _people(context: CheckContext) -> Sequence[Verdict]:
    if context.ask(_MAY_ASK) != [(True,)]:
        return []  # a login that has no part in the tenants' rows, or a schema that is older
    found = [
        problem(
            f"{table} has rows of tenants that are neither exported nor erased with a person",
            f"let it refer to thea.users by a key that cascades, or `comment on table {table} is 'no person: …'`, "
            "in a migration, with the reason",
        )
        for (table,) in context.ask(_UNCOVERED)
    ]
    found += [
        warning(
            f"the key {key} of {table} keeps rows of {parent} from being erased with their person",
            "make it `on delete cascade`, or remove the rows that refer to a person before they are erased",
        )
        for key, table, parent in context.ask(_HINDERING)
    ]
    return found or [ok("every table of tenants is covered by a person's export and erasure, or says why not")]


CHECKS: Mapping[str, Check] = {"people": _people}
