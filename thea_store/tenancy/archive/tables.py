"""The tables that hold a tenant's rows, as the catalog knows them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from psycopg import Connection, sql

from thea_store.errors import UnsafeSchemaError

__all__ = ["AUDIT_LOG", "Table", "read_tables"]

AUDIT_LOG = "thea.audit_log"

_TABLES = """
select n.nspname::text, c.relname::text, c.oid::regclass::text,
  array(
    select a.attname::text
    from pg_attribute a
    where a.attrelid = c.oid
      and a.attnum > 0
      and not a.attisdropped
      and a.attgenerated = ''
      and a.attname <> 'tenant_id'
    order by a.attnum
  ),
  array(
    select distinct k.confrelid::regclass::text
    from pg_constraint k
    where k.conrelid = c.oid and k.contype = 'f'
  )
from pg_policy p
join pg_class c on c.oid = p.polrelid
join pg_namespace n on n.oid = c.relnamespace
where p.polname = 'tenant'
  -- What else is kept about a tenant, only read by a service, is no part of it.
  and (p.polcmd = '*' or p.polrelid = 'thea.audit_log'::regclass)
order by c.oid::regclass::text collate "C"
"""


@dataclass(frozen=True, slots=True)
class Table:
    """A table of tenants."""

    schema: str
    relation: str
    name: str
    """The full name as the server writes it, such as `thea.users`."""
    columns: tuple[str, ...]
    """All that are stored, but for `tenant_id`."""
    parents: frozenset[str]
    """The full names of the tables that its foreign keys refer to, itself among them where it refers to itself."""

    @property
    def is_log(self) -> bool:
        """Whether it is the audit log, whose rows have another kind of id and are brought in another way."""
        return self.name == AUDIT_LOG

    @property
    def refers_to_itself(self) -> bool:
        """Whether its rows may hang on rows of the same table."""
        return self.name in self.parents

    @property
    def identifier(self) -> sql.Identifier:
        """Its name for a statement."""
        return sql.Identifier(self.schema, self.relation)


def read_tables(connection: Connection[Any]) -> list[Table]:
    """Every table of tenants, each after those that it refers to, the audit log last.

    The search path must be `pg_catalog`. `UnsafeSchemaError` where tables refer to each other in a circle.
    """
    rows = connection.execute(_TABLES).fetchall()
    tables = {row[2]: Table(row[0], row[1], row[2], tuple(row[3]), frozenset(row[4])) for row in rows}
    return sorted((tables[name] for name in _in_order(tables.values())), key=lambda table: table.is_log)


def _in_order(tables: Iterable[Table]) -> list[str]:
    sorter = TopologicalSorter({table.name: sorted(table.parents - {table.name}) for table in tables})
    try:
        return list(sorter.static_order())
    except CycleError as error:
        circle = ", ".join(error.args[1])
        raise UnsafeSchemaError(
            [f"{circle}: these tables refer to each other in a circle: take one of the foreign keys away"]
        ) from None
