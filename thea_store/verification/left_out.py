"""Does an insert give a value to each column that must have one? Read by the parser, and asked of the catalogs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from thea_store.queries.file import Query
from thea_store.verification.parse_tree import name_of, nodes, parsed, targets

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["left_out", "sentences"]

# The columns that are never null and that the server has no value for, and whether a trigger may give them one.
_NECESSARY = """
select a.attname, exists (
  select from pg_catalog.pg_trigger t
  where t.tgrelid = a.attrelid and t.tgenabled <> 'D'
    and t.tgtype & 7 = 7  -- for each row, before, insert
)
from pg_catalog.pg_attribute a
where a.attrelid = to_regclass(%s) and a.attnum > 0 and not a.attisdropped
  and a.attnotnull and not a.atthasdef and a.attidentity = ''
order by a.attnum
"""


def left_out(connection: Connection[Any], query: Query[Any]) -> list[str]:
    """The columns that must have a value and that the query's inserts leave to a trigger, or forgot."""
    return [column for column, _ in _left_out(connection, query)]


def sentences(connection: Connection[Any], queries: Iterable[Query[Any]]) -> list[str]:
    """A sentence for each column that must have a value, and that neither the insert nor a trigger can give it."""
    return [
        f"{query.source}: {query.name}: its insert gives {column} no value, which is `not null` and has no default: "
        "give it one, in the statement and in the row's type, or let the table have a default"
        for query in queries
        for column, is_filled in _left_out(connection, query)
        if not is_filled
    ]


def _left_out(connection: Connection[Any], query: Query[Any]) -> Iterator[tuple[str, bool]]:
    for node in nodes(parsed(query)):
        if node.kind == "InsertStmt":
            table, given = ".".join(name_of(node.get("relation"))), targets(node.get("cols"))
            for column, is_filled in connection.execute(_NECESSARY, [table]):
                if column not in given:
                    yield f"{table}.{column}", is_filled
