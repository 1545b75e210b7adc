"""A text that is sealed in one place is sealed in every place: arguments, records and the database agree."""

from __future__ import annotations

from typing import get_args, get_origin, get_type_hints

import psycopg
import pytest
from typing_extensions import is_typeddict

from thea_store.assistant import messages, notes
from thea_store.encryption import sealed_in
from thea_store.queries.binding import seals
from thea_store.queries.file import Query
from thea_store.queries.reading import opens
from thea_store.testing import TestDatabase

FILES = (messages.SQL, notes.SQL)
QUERIES = [query for file in FILES for query in file.written]


def test_the_database_says_of_the_same_columns_that_they_are_sealed(thea_database: TestDatabase) -> None:
    with psycopg.connect(thea_database.superuser_url) as connection:
        columns = connection.execute("select target::text, names from thea.sealed_columns()").fetchall()

    ours = {sealed_in(record) for record in (messages.Message, notes.Note)}
    assert {(table, frozenset(names)) for table, names in columns} == ours


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)
def test_what_writes_a_text_seals_it_and_what_reads_it_opens_it(query: Query[object]) -> None:
    table, names = sealed_in(messages.Message if query.name.startswith("messages") else notes.Note) or ("", frozenset())
    rows = [get_args(kind)[0] if get_origin(kind) is list else kind for kind in query.types.values()]
    written = names & {*query.types, *(name for row in rows if is_typeddict(row) for name in get_type_hints(row))}
    fields = names & set(getattr(query.record, "model_fields", {}))

    if written:
        place = seals(query)
        assert place is not None
        assert (place.table, place.names) == (table, written)
    if fields:
        assert opens(query) == (table, fields)
