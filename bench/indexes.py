"""A bulk of rows is written without indexes, which are built afterwards: it takes a fifth of the time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg

__all__ = ["built_afterwards"]

# Those of primary keys and of other constraints stay.
_INDEXES = """
select i.indexrelid::regclass::text, pg_get_indexdef(i.indexrelid)
from pg_index i
join pg_class c on c.oid = i.indrelid
where c.relnamespace = 'thea'::regnamespace
  and c.relname = any(%s)
  and not exists (select from pg_constraint k where k.conindid = i.indexrelid)
"""


@contextmanager
def built_afterwards(superuser: psycopg.Connection[Any], tables: Sequence[str]) -> Iterator[None]:
    """A block in which these tables of the schema `thea` have no indexes but those of constraints."""
    indexes = superuser.execute(_INDEXES, [list(tables)]).fetchall()
    for name, _ in indexes:
        superuser.execute(f"drop index {name}".encode())
    yield
    for _, definition in indexes:
        superuser.execute(definition.encode())
