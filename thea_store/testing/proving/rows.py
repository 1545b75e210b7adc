"""Rows for any table that keeps tenants, made of what the catalog says of it.

Two tenants get the same rows, texts and keys alike, so that only the tenant and the ids tell them apart: a query that
forgets the tenant finds the other's. Each table gets two rows that are there, one that is deleted, and one
that is deleted with its parent.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from itertools import starmap
from typing import Any
from uuid import UUID

import psycopg
from psycopg import Connection, sql
from psycopg.types.json import Jsonb

from thea_store.errors import StoreError

__all__ = ["Column", "Table", "fill", "tables_of", "with_parents"]

Values = dict[str, Any]

LONG_AGO = datetime(2020, 5, 4, 9, 0, tzinfo=UTC)
_KEPT = frozenset({"tenant_id", "id", "created_at", "updated_at", "deleted_at", "deleted_with"})
# Two rows that are there, one that is deleted, and one that is deleted with its parent. Then come rows without
# children: for each of some columns one in which it alone is null, or true.
_DELETED, _WITH_PARENT, _ROWS = 2, 3, 4
_MOST_ROWS = 16
_QUOTED = re.compile(r"'((?:[^']|'')*)'")
_NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?")


@dataclass(frozen=True)
class Column:
    """A column that a new row may give."""

    name: str
    type: str
    is_required: bool
    labels: Sequence[str] = ()
    """Of an enumeration."""


@dataclass(frozen=True)
class Table:
    """A table that keeps tenants, as the catalog has it."""

    name: str
    columns: Sequence[Column]
    parents: Mapping[str, str]
    """The columns that refer to a row, and of which table; a table's own rows among them."""
    checks: Sequence[str]
    """What its constraints compare values with."""
    unique: frozenset[str]
    """The columns of unique keys, other than the tenant and references."""
    all_columns: Sequence[str] = field(default=())


_TABLES = """
select c.oid::regclass::text, c.oid
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attname = 'tenant_id' and not a.attisdropped
where n.nspname = any(%s) and c.relkind in ('r', 'p') and not c.relispartition
order by 1
"""
_COLUMNS = """
select a.attname, pg_catalog.format_type(a.atttypid, a.atttypmod),
  a.attnotnull and not a.atthasdef and a.attidentity = '' and a.attgenerated = '',
  a.attidentity <> '' or a.attgenerated <> '',
  array(select e.enumlabel::text from pg_catalog.pg_enum e where e.enumtypid = a.atttypid order by e.enumsortorder)
from pg_catalog.pg_attribute a
where a.attrelid = %s and a.attnum > 0 and not a.attisdropped
order by a.attnum
"""
_PARENTS = """
select a.attname, k.confrelid::regclass::text
from pg_catalog.pg_constraint k
join pg_catalog.pg_attribute a on a.attrelid = k.conrelid and a.attnum = k.conkey[cardinality(k.conkey)]
where k.contype = 'f' and k.conrelid = %s and a.attname <> 'tenant_id'
"""
_CHECKS = (
    "select pg_catalog.pg_get_constraintdef(oid) from pg_catalog.pg_constraint where contype = 'c' and conrelid = %s"
)
_UNIQUE = """
select distinct a.attname
from pg_catalog.pg_index i
join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = any(i.indkey)
where i.indrelid = %s and i.indisunique and not i.indisprimary and a.attname <> 'tenant_id'
"""


def tables_of(connection: Connection[Any], schemas: Sequence[str]) -> list[Table]:
    """The tables of these schemas that keep tenants, parents before what hangs on them."""
    found = [_table(connection, name, oid) for name, oid in connection.execute(_TABLES, [list(schemas)]).fetchall()]
    ordered: list[Table] = []
    while found:
        done = {table.name for table in ordered}
        known = done | {table.name for table in found}
        ready = [
            table
            for table in found
            if all(parent in done or parent == table.name or parent not in known for parent in table.parents.values())
        ]
        if not ready:
            raise StoreError(f"the tables {', '.join(table.name for table in found)} refer to each other in a circle")
        ordered += ready
        found = [table for table in found if table not in ready]
    return ordered


def _table(connection: Connection[Any], name: str, oid: int) -> Table:
    columns = connection.execute(_COLUMNS, [oid]).fetchall()
    parents = dict(connection.execute(_PARENTS, [oid]).fetchall())
    unique = {row[0] for row in connection.execute(_UNIQUE, [oid])}
    return Table(
        name=name,
        columns=[
            Column(row[0], row[1].removeprefix("public."), row[2], row[4])
            for row in columns
            if row[0] not in _KEPT and not row[3]
        ],
        parents=parents,
        checks=[row[0] for row in connection.execute(_CHECKS, [oid])],
        unique=frozenset(unique - parents.keys()),
        all_columns=[row[0] for row in columns],
    )


def with_parents(tables: Sequence[Table], names: Iterable[str]) -> list[Table]:
    """The tables of these names, and those that they hang on, in the order that they stand in."""
    known = {table.name: table for table in tables}
    wanted = list(names)
    for name in wanted:  # grows by the parents of what is in it
        wanted += [parent for parent in known[name].parents.values() if parent not in wanted]
    return [table for table in tables if table.name in wanted]


def fill(
    connection: Connection[Any], tables: Sequence[Table], tenant: str, open_tables: AbstractSet[str] = frozenset()
) -> None:
    """Rows in each of the tables; `StoreError` where the catalog does not say enough to make one.

    One of `open_tables`, of which it is told already that it is not protected, stays empty then.
    """
    connection.execute("select set_config('app.tenant_id', %s, false)", [tenant])
    ids: dict[str, list[int]] = {}
    for table in tables:
        odd = [column.name for column in table.columns if not column.is_required or column.type == "boolean"]
        wanted = [*map(_Row, range(_ROWS)), *starmap(_Row, enumerate(["", *odd][: _MOST_ROWS - _ROWS], _ROWS))]
        ids[table.name] = []
        try:
            for row in wanted:
                ids[table.name].append(_insert(connection, table, tenant, row, ids))
        except StoreError:
            if table.name not in open_tables:
                raise
    for table in tables:
        if "deleted_at" in table.all_columns and len(ids[table.name]) > _WITH_PARENT:
            hide = sql.SQL("update {} set deleted_at = now() where tenant_id = %s and id = %s and deleted_at is null")
            for number in (_DELETED, _WITH_PARENT):
                connection.execute(hide.format(_identifier(table.name)), [tenant, ids[table.name][number]])


@dataclass(frozen=True)
class _Row:
    """Which row of a table is to be made."""

    number: int
    odd: str = ""
    """The column that is null, or true, in this row alone."""


def _insert(
    connection: Connection[Any], table: Table, tenant: str, row_wanted: _Row, ids: Mapping[str, Sequence[int]]
) -> int:
    last: psycopg.Error | None = None
    for values in _attempts(table, row_wanted, ids):
        named = {"tenant_id": tenant, **values}
        statement = sql.SQL("insert into {} ({}) values ({}) returning id").format(
            _identifier(table.name),
            sql.SQL(", ").join(map(sql.Identifier, named)),
            sql.SQL(", ").join(sql.Placeholder() for _ in named),
        )
        try:
            with connection.transaction():
                row = connection.execute(statement, list(named.values())).fetchone()
                return int(row[0]) if row else 0
        except psycopg.Error as error:
            last = error
    raise StoreError(
        f"no row of {table.name} can be made of what the catalog says ({last.sqlstate if last else 'no attempt'}): "
        "give the proof rows of your own, `prove(EXTENSION, rows=…)`"
    ) from last


def _attempts(table: Table, row: _Row, ids: Mapping[str, Sequence[int]]) -> Iterator[Values]:
    """All columns given, each from its likeliest value on, under each parent that will do; then the necessary alone."""
    choices = {column.name: list(_values(table, column, row.number)) for column in table.columns}
    for name in [name for name in choices if name == row.odd]:
        choices[name] = [value for value in choices[name] if value is True] or [None]
    parents = [row.number] if row.number in {0, 1, _WITH_PARENT} else [0, 1, 4, 5, 6, row.number]
    for only, parent in [*((False, each) for each in parents), *((True, each) for each in parents)]:
        references = _references(table, parent, ids)
        wanted = [
            column.name
            for column in table.columns
            if column.name not in references and (column.is_required or not only)
        ]
        for depth in range(max((len(choices[name]) for name in wanted), default=1)):
            chosen = {name: choices[name][min(depth, len(choices[name]) - 1)] for name in wanted}
            yield {name: value for name, value in (chosen | references).items() if value is not None}


def _another(number: int) -> int:
    """The number of another row that is there."""
    return {0: 1, 1: 0}.get(number, number + 1 if number >= _ROWS else 0)


def _references(table: Table, number: int, ids: Mapping[str, Sequence[int]]) -> Values:
    """The parents' rows of this number; of a table that is referred to twice, another row the second time."""
    found: Values = {}
    for name, parent in table.parents.items():
        again = parent in [table.parents[other] for other in found]
        chosen = _another(number) if again else number
        if name not in _KEPT:
            found[name] = ids[parent][chosen] if len(ids.get(parent, ())) > chosen else None
    return found


def _values(table: Table, column: Column, number: int) -> Iterator[Any]:
    if column.labels:
        yield column.labels[number % len(column.labels)]
        return
    about = [check for check in table.checks if re.search(rf"\b{re.escape(column.name)}\b", check)]
    base, _, modifier = column.type.removesuffix("[]").removesuffix(")").partition("(")
    if base == "vector" and modifier:
        yield f"[{','.join([str(number + 1)] * int(modifier))}]"
        return
    values = list(_of_type(base, column, number, about))
    yield from ([value] for value in values) if column.type.endswith("[]") else values


def _of_type(base: str, column: Column, number: int, about: Sequence[str]) -> Iterator[Any]:
    if base in {"text", "character varying", "character", "citext", "name"}:
        literals = [text.replace("''", "'") for check in about for text in _QUOTED.findall(check)]
        yield from (text for text in literals if re.fullmatch(r"[\w .-]+", text))
        yield f"pan {column.name} {number}"
        yield f"pan{number}"
        yield "UTC"
    elif base in {"smallint", "integer", "bigint", "numeric", "real", "double precision"}:
        yield number + 1
        yield from (float(found) if "." in found else int(found) for check in about for found in _NUMBER.findall(check))
        yield 0
    elif base == "boolean":
        yield False
        yield True
    elif base.startswith("timestamp"):
        yield LONG_AGO + timedelta(days=number)
    else:
        yield from _OTHERS.get(base, lambda _: ())(number)


_OTHERS: Mapping[str, Any] = {
    "date": lambda number: [date(2020, 5, 4 + number)],
    "time": lambda number: [time(9, number)],
    "time without time zone": lambda number: [time(9, number)],
    "interval": lambda number: [timedelta(hours=number + 1)],
    "uuid": lambda number: [UUID(int=number + 1)],
    "json": lambda number: [Jsonb({"pan": number}), Jsonb([number])],
    "jsonb": lambda number: [Jsonb({"pan": number}), Jsonb([number])],
    "bytea": lambda number: [bytes([number])],
    "inet": lambda number: [f"192.0.2.{number}"],
    "int4range": lambda number: [f"[{number},{number + 2})"],
    "int8range": lambda number: [f"[{number},{number + 2})"],
    "numrange": lambda number: [f"[{number},{number + 2})"],
    "tstzrange": lambda number: [f"[{date(2020, 5, 1 + number)},{date(2020, 5, 8 + number)})"],
    "daterange": lambda number: [f"[{date(2020, 5, 1 + number)},{date(2020, 5, 8 + number)})"],
    "tsvector": lambda _: ["pan"],
    "vector": lambda number: [f"[{number + 1}]"],
}


def _identifier(name: str) -> sql.Composed:
    return sql.SQL(".").join(sql.Identifier(part.strip('"')) for part in name.split("."))
