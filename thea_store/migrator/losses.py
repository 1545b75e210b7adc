"""What a way back would throw away: found by going it for a trial, within a transaction, and looking what is gone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg import sql

__all__ = ["Loss", "losses"]

# Tables with their columns, those of yoyo and of the server apart.
_COLUMNS = """
select c.oid::bigint, n.nspname::text, c.relname::text, c.relforcerowsecurity, a.attnum::integer, a.attname::text
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
left join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.relkind in ('r', 'p')
  and not c.relispartition
  and n.nspname !~ '^pg_' and n.nspname <> 'information_schema'
  and not (n.nspname = 'public' and c.relname ~ '^_?yoyo_')
order by 2, 3, 5
"""


@dataclass(frozen=True, slots=True)
class Loss:
    """A table that holds rows, or a column that holds values, and how many."""

    name: str
    count: int
    is_column: bool = False

    def __str__(self) -> str:
        """Such as `thea.notes (100 rows)`."""
        unit = "value" if self.is_column else "row"
        return f"{self.name} ({self.count:,} {unit}{'' if self.count == 1 else 's'})"


def losses(connection: psycopg.Connection, go_back: Callable[[], None]) -> list[Loss]:
    """The tables and columns that `go_back` drops although they hold something, in the order of their names.

    It is undone afterwards. Within a transaction, in which those tables stay locked, so that no row comes in between
    this look and the real way back.
    """
    before = _columns(connection)
    with connection.transaction(force_rollback=True):
        go_back()
        after = _columns(connection)
    kept = {table for table, _ in after}
    found: list[Loss] = []
    for table in {table: None for table, _ in before.keys() - after.keys()}:
        columns = [(key, column) for key, column in before.items() if key[0] == table]
        schema, name, forced, _ = columns[0][1]
        place = sql.Identifier(schema, name)
        if forced:  # it binds the owner as well, who could not count otherwise
            connection.execute(sql.SQL("alter table {} no force row level security").format(place))
        if table not in kept:
            found += _counted(connection, place, sql.SQL("*"), Loss(f"{schema}.{name}", 0))
            continue
        for key, (*_, column) in columns:
            if key not in after and column is not None:
                loss = Loss(f"{schema}.{name}.{column}", 0, is_column=True)
                found += _counted(connection, place, sql.Identifier(column), loss)
    return sorted(found, key=lambda loss: loss.name)


def _columns(connection: psycopg.Connection) -> dict[tuple[int, int | None], tuple[str, str, bool, str | None]]:
    return {(row[0], row[4]): (row[1], row[2], row[3], row[5]) for row in connection.execute(_COLUMNS)}


def _counted(connection: psycopg.Connection, table: sql.Identifier, what: sql.Composable, loss: Loss) -> list[Loss]:
    rows: list[Any] = connection.execute(sql.SQL("select count({}) from {}").format(what, table)).fetchall()
    count = rows[0][0]
    return [Loss(loss.name, count, is_column=loss.is_column)] if count else []
