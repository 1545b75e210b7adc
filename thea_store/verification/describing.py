"""What the server says of each query: its columns and the types of its parameters.

Every query is prepared on the live schema, in a pipeline. The driver for it is libpq (psycopg), because it alone tells
from which table a column comes, and so whether it can be null.
"""

from __future__ import annotations

import selectors
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from thea_store.errors import StoreUnavailableError
from thea_store.queries.file import Query, Source
from thea_store.verification.connecting import PATIENCE
from thea_store.verification.live_types import names_of, type_name

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.pq.abc import PGconn, PGresult

__all__ = ["Column", "Described", "describe_all", "not_null_columns"]

# Queries in flight at once: what is sent meanwhile must fit into the sockets' buffers.
_AHEAD = 16


@dataclass(frozen=True, slots=True)
class Column:
    """A result column as the server describes it."""

    name: str
    type: str
    """The type's name."""
    origin: tuple[int, int]
    """The table's oid and the column's number in it; zeros for an expression."""
    modifier: int = -1
    """What the type says in brackets, as the server has it; -1 for nothing."""


@dataclass(frozen=True, slots=True)
class Described:
    """A prepared query: its columns and parameter types, or why it cannot be prepared."""

    query: Query[Any]
    columns: tuple[Column, ...] = ()
    parameters: tuple[str, ...] = ()
    """The names of the parameters' types."""
    failure: str | None = None
    place: Source | None = None
    """The line that the failure is about, where the server tells."""


def describe_all(connection: Connection[Any], queries: Sequence[Query[Any]]) -> tuple[Described, ...]:
    """Each of the queries as the server describes it, in their order; blocks."""
    return tuple(_with_types(connection, _describe(connection, queries)))


def _describe(connection: Connection[Any], queries: Sequence[Query[Any]]) -> list[Described]:
    described: list[Described] = []
    connection.execute("savepoint undisturbed")
    while len(described) < len(queries):
        described += _describe_until_failure(connection.pgconn, queries[len(described) :])
        # A query that is refused fails the transaction, with the settings that it fixes.
        connection.execute("rollback to savepoint undisturbed")
    return described


def _describe_until_failure(pg: PGconn, queries: Sequence[Query[Any]]) -> list[Described]:
    described: list[Described] = []
    pg.enter_pipeline_mode()
    try:
        chunks = [queries[start : start + _AHEAD] for start in range(0, len(queries), _AHEAD)]
        # While the answers to one chunk are read, the server works on the next.
        for chunk, following in zip_longest([[], *chunks], chunks, fillvalue=()):
            for query in following:
                pg.send_prepare(b"", query.text.encode())
                pg.send_describe_prepared(b"")
                pg.pipeline_sync()
            _wait(pg, pg.flush)
            answers = [_answer(pg, query) for query in chunk]
            failed = next((place for place, answer in enumerate(answers) if answer.failure is not None), None)
            if failed is not None:  # the server ignores all that comes after it
                for query in following:
                    _answer(pg, query)
                return described + answers[: failed + 1]
            described += answers
    finally:
        pg.exit_pipeline_mode()
    return described


def _answer(pg: PGconn, query: Query[Any]) -> Described:
    prepared, told = _result(pg), _result(pg)
    _next(pg)  # the sync
    return _described(query, prepared, told)


def _result(pg: PGconn) -> PGresult:
    result = _next(pg)
    if result is None:
        raise StoreUnavailableError("the connection was lost while the schema was checked: try again")
    _next(pg)  # the end of this command
    return result


def _next(pg: PGconn) -> PGresult | None:
    _wait(pg, pg.is_busy)
    return pg.get_result()


def _wait(pg: PGconn, is_waiting: Callable[[], int]) -> None:
    if not is_waiting():
        return
    # libpq's own waiting would hold Python's lock, and with it every other thread.
    with selectors.DefaultSelector() as selector:
        selector.register(pg.socket, selectors.EVENT_READ)
        while is_waiting():
            if not selector.select(PATIENCE):
                raise StoreUnavailableError(f"the server fell silent for {PATIENCE:g} s while the schema was checked")
            pg.consume_input()


def _described(query: Query[Any], prepared: PGresult, told: PGresult) -> Described:
    from psycopg.pq import DiagnosticField, ExecStatus  # noqa: PLC0415

    if prepared.status != ExecStatus.COMMAND_OK:
        message = prepared.error_field(DiagnosticField.MESSAGE_PRIMARY) or b"the connection was lost"
        position = prepared.error_field(DiagnosticField.STATEMENT_POSITION)
        place = query.source_at(int(position)) if position else None
        return Described(query, failure=message.decode(errors="replace"), place=place)
    columns = tuple(
        Column(
            (told.fname(i) or b"").decode(), type_name(told.ftype(i)), (told.ftable(i), told.ftablecol(i)), told.fmod(i)
        )
        for i in range(told.nfields)
    )
    return Described(query, columns, tuple(type_name(told.param_type(i)) for i in range(told.nparams)))


def not_null_columns(connection: Connection[Any], described: Sequence[Described]) -> frozenset[tuple[int, int]]:
    """The columns that are declared `not null`, by their table's oid and their number."""
    tables = sorted({column.origin[0] for one in described for column in one.columns})
    rows = connection.execute(
        "select attrelid::bigint, attnum::int from pg_catalog.pg_attribute"
        " where attrelid = any(%s::oid[]) and attnum > 0 and attnotnull",
        [tables],
    )
    return frozenset((table, number) for table, number in rows)


def _with_types(connection: Connection[Any], described: Sequence[Described]) -> Sequence[Described]:
    """All with the names of their types, also of those that only the server knows."""
    named = [type_ for one in described for type_ in (*one.parameters, *(column.type for column in one.columns))]
    names = names_of(connection, named)
    if not names:
        return described
    return [
        replace(
            one,
            parameters=tuple(names.get(type_, type_) for type_ in one.parameters),
            columns=tuple(replace(column, type=names.get(column.type, column.type)) for column in one.columns),
        )
        for one in described
    ]
