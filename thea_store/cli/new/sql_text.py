"""The SQL that `new` writes: a table's migration and the file of its queries, in full."""

from __future__ import annotations

from collections.abc import Iterable

from thea_store.cli.new.columns import Aggregate, Column

__all__ = ["aggregate_migration", "query", "query_file", "schema_migration"]

_STORED = ("tenant_id", "id")
_TIMES = ("created_at", "updated_at", "deleted_at")
_WIDTH = 100


def schema_migration(extension: str, depends: str) -> tuple[str, str]:
    """The first migration of an extension, and its way back."""
    up = f"""-- depends: {depends}

-- Why: the tables of the extension {extension} stand in a schema of their own.

create schema {extension};
"""
    return up, f"drop schema {extension};\n"


def aggregate_migration(aggregate: Aggregate, depends: str) -> tuple[str, str]:
    """The migration that makes a table and protects it, and its way back."""
    name, table = aggregate.name, aggregate.table
    lines = [
        "tenant_id text not null",
        "id bigint generated always as identity",
        *(f"{parent.reference} bigint not null" for parent in aggregate.parents),
        *(column.definition for column in aggregate.columns),
        "created_at timestamptz not null default now()",
        "updated_at timestamptz not null default now()",
        "deleted_at timestamptz",
        f"constraint {name}_pkey primary key (tenant_id, id)",
        *(
            f"constraint {name}_{parent.reference}_fkey foreign key (tenant_id, {parent.reference})\n"
            f"    references {parent.table} (tenant_id, id) on delete cascade"
            for parent in aggregate.parents
        ),
    ]
    keys = [("created_at", ""), *((parent.reference, f"{parent.reference}, ") for parent in aggregate.parents)]
    indexes = [
        f"create index {name}_{key}_idx on {table} (tenant_id, {column}created_at, id) include (deleted_at);\n"
        f"comment on index {aggregate.extension}.{name}_{key}_idx is '{name}.get_all';\n"
        for key, column in keys
    ]
    nobody = (
        ""
        if aggregate.parents
        else f"""
comment on table {table} is 'no person: its rows hang on nobody';
"""
    )
    body = ",\n".join(f"  {line}" for line in lines)
    extensions = sorted({column.kind.extension for column in aggregate.columns if column.kind.extension})
    asked = "".join(
        f"-- A superuser does this beforehand, once in each database; where it is there, this does nothing.\n"
        f"create extension if not exists {extension} schema public;\n\n"
        for extension in extensions
    )
    up = f"""-- depends: {depends}

-- Why: the {name.replace("_", " ")} of a tenant.

{asked}create table {table} (
{body}
);

{chr(10).join(indexes)}{nobody}
-- Row security, both policies, the rights, the audit log, and what happens when a parent is deleted.
select thea.protect('{table}');
"""
    return up, f"select thea.unprotect('{table}');\n\ndrop table {table};\n"


def query_file(aggregate: Aggregate) -> str:
    """The queries that every repository has, in the service's own file."""
    return "\n".join(
        [
            f"-- The {aggregate.name.replace('_', ' ')} of a tenant.\n",
            *(
                part(aggregate)
                for part in (
                    _get_by_id,
                    _exists,
                    _count,
                    _get_all,
                    _create_many,
                    _update,
                    _delete,
                    _restore,
                    _purge,
                )
            ),
        ]
    )


def query(aggregate: Aggregate, name: str) -> str:
    """A query to begin with: a list of rows, the newest first."""
    return f"""
-- name: {name}
-- The newest {aggregate.name.replace("_", " ")}, up to `limit`; empty when there are none.
select
{_listed(_columns(aggregate))}
from {aggregate.table}
where tenant_id = :tenant_id
  and deleted_at is null
order by created_at desc, id desc
limit :limit;
"""


# --- the statements --------------------------------------------------------------------------------


def _columns(aggregate: Aggregate) -> list[str]:
    references = [parent.reference for parent in aggregate.parents]
    return [*_STORED, *references, *(column.name for column in aggregate.columns), *_TIMES]


def _filters(aggregate: Aggregate) -> list[tuple[str, str]]:
    references = [(parent.reference, "bigint") for parent in aggregate.parents]
    return [*references, *((column.name, column.kind.sql) for column in filtered(aggregate.columns))]


def filtered(columns: Iterable[Column]) -> list[Column]:
    """The columns that `get_all` can ask for: those with few values."""
    return [column for column in columns if column.kind.sql == "boolean"]


def _get_by_id(aggregate: Aggregate) -> str:
    return f"""-- name: get_by_id
-- The {aggregate.one} with this id; no row when there is none or it was deleted.
select
{_listed(_columns(aggregate))}
from {aggregate.table}
where tenant_id = :tenant_id
  and id = :id
  and deleted_at is null;
"""


def _exists(aggregate: Aggregate) -> str:
    return f"""-- name: exists
-- Whether there is a {aggregate.one} with this id that is not deleted.
-- not null: found
select exists (
  select from {aggregate.table}
  where tenant_id = :tenant_id
    and id = :id
    and deleted_at is null
) as found;
"""


def _count(aggregate: Aggregate) -> str:
    return f"""-- name: count
-- How many {aggregate.name.replace("_", " ")} there are that are not deleted.
-- not null: total
{_variants([name for name, _ in _filters(aggregate)])}select count(*) as total
from {aggregate.table}
where tenant_id = :tenant_id
  and deleted_at is null{_conditions(aggregate)};
"""


def _get_all(aggregate: Aggregate) -> str:
    return f"""-- name: get_all
-- A page of {aggregate.name.replace("_", " ")} in the order of time, from after the given place; empty past the end.
-- one plan: after_at, after_id
{_variants([*(parent.reference for parent in aggregate.parents), "after_at", "newest_first"])}select
{_listed(_columns(aggregate))}
from {aggregate.table}
where tenant_id = :tenant_id
  and (
    :after_at::timestamptz is null
    or case when :newest_first
      then (created_at, id) < (:after_at, :after_id)
      else (created_at, id) > (:after_at, :after_id)
    end
  )
  and (:include_deleted or deleted_at is null){_conditions(aggregate)}
order by case when :newest_first then (created_at, id) end desc, created_at, id
limit :limit;
"""


def _variants(names: list[str]) -> str:
    return f"-- variants: {', '.join(names)}\n" if names else ""


def _conditions(aggregate: Aggregate) -> str:
    return "".join(f"\n  and (:{name}::{kind} is null or {name} = :{name})" for name, kind in _filters(aggregate))


def _create_many(aggregate: Aggregate) -> str:
    references = [parent.reference for parent in aggregate.parents]
    given = [*references, *(column.name for column in aggregate.columns)]
    kinds = [*(f"{name} bigint" for name in references), *(f"{c.name} {c.kind.sql}" for c in aggregate.columns)]
    # A parent that is deleted meanwhile waits for this statement; one that was gives no id, which is refused.
    parents = ",\n".join(
        f"""{parent.name} as (
  select id
  from {parent.table}
  where tenant_id = :tenant_id
    and id = any (array(select {parent.reference} from jsonb_to_recordset(:rows) as ({parent.reference} bigint)))
    and deleted_at is null
  for share
)"""
        for parent in aggregate.parents
    )
    values = [
        ":tenant_id",
        *(
            f"case when r.{p.reference} in (select id from {p.name}) then r.{p.reference} end"
            for p in aggregate.parents
        ),
        *(f"coalesce(r.{c.name}, {c.default})" if c.default else f"r.{c.name}" for c in aggregate.columns),
    ]
    ordered = ", ".join([*given, "place"])
    missing = f"; an error when a {' or a '.join(p.name[:-1] for p in aggregate.parents)} is missing" if parents else ""
    return f"""-- name: create_many
-- The new {aggregate.name.replace("_", " ")}, in the order of the rows{missing}.
{f"with {parents}" + chr(10) if parents else ""}insert into {aggregate.table} (
{_listed(["tenant_id", *given])}
)
select
{_listed(values)}
from rows from (
  jsonb_to_recordset(:rows) as (
{_listed(kinds, "    ")}
  )
) with ordinality as r ({ordered})
order by r.place
returning
{_listed(_columns(aggregate))};
"""


def _update(aggregate: Aggregate) -> str:
    names = [column.name for column in aggregate.columns]
    return f"""-- name: update
-- The {aggregate.one} with the given fields changed; no row when there is none.
update {aggregate.table}
set ({", ".join(names)}) = (
  select {", ".join(f"n.{name}" for name in names)}
  from jsonb_populate_record({aggregate.name}, :changes) n
)
where tenant_id = :tenant_id
  and id = :id
  and deleted_at is null
returning
{_listed(_columns(aggregate))};
"""


def _delete(aggregate: Aggregate) -> str:
    return f"""-- name: delete
-- The id of the {aggregate.one}, which is hidden with all that hangs on it; no row when there was none.
update {aggregate.table}
set deleted_at = now()
where tenant_id = :tenant_id
  and id = :id
  and deleted_at is null
returning id;
"""


def _restore(aggregate: Aggregate) -> str:
    if not aggregate.parents:
        return f"""-- name: restore
-- The {aggregate.one}, back; no row when it was not deleted.
update {aggregate.table}
set deleted_at = null
where tenant_id = :tenant_id
  and id = :id
  and deleted_at is not null
returning
{_listed(_columns(aggregate))};
"""
    joins = "\n".join(
        f"  join {p.table} p{n} on p{n}.tenant_id = :tenant_id and p{n}.id = k.{p.reference}"
        f" and p{n}.deleted_at is null"
        for n, p in enumerate(aggregate.parents, 1)
    )
    locks = ", ".join(f"p{n}" for n, _ in enumerate(aggregate.parents, 1))
    return f"""-- name: restore
-- The {aggregate.one}, back; no row when it was not deleted, or when what it hangs on is.
with parents as (
  select k.id
  from {aggregate.table} k
{joins}
  where k.tenant_id = :tenant_id
    and k.id = :id
  for share of {locks}
)
update {aggregate.table} t
set deleted_at = null, deleted_with = null
from parents
where t.tenant_id = :tenant_id
  and t.id = :id
  and t.id = parents.id
  and t.deleted_at is not null
returning
{_listed([f"t.{name}" for name in _columns(aggregate)])};
"""


def _purge(aggregate: Aggregate) -> str:
    return f"""-- name: purge
-- The id of the {aggregate.one}, which is gone for good; no row when there was none.
delete from {aggregate.table}
where tenant_id = :tenant_id
  and id = :id
returning id;
"""


def _listed(names: Iterable[str], indent: str = "  ") -> str:
    """The names separated by commas, in lines of a readable length."""
    lines, line = [], ""
    for name in names:
        if line and len(line) + len(name) + 2 > _WIDTH:
            lines.append(f"{indent}{line},")
            line = name
        else:
            line = f"{line}, {name}" if line else name
    return "\n".join([*lines, f"{indent}{line}"])
