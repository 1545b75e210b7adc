"""Is this database the one that the library was written for? Asked once, when a store opens.

Every query is prepared on the live schema, in a pipeline, and what the server says of its columns and
parameters is compared with its record and its claim. The driver for it is libpq (psycopg), because it
alone tells from which table a column comes, and so whether it can be null.
"""

from __future__ import annotations

import selectors
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from itertools import zip_longest
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from thea_store.encryption import SEALED, sealed_in
from thea_store.errors import MigrationRequiredError, QueryFileError, StoreError, StoreUnavailableError
from thea_store.extensions import Extension
from thea_store.migrator import Lineage, pending
from thea_store.postgres.session import fixed_locally
from thea_store.postgres.types import fits, is_model, is_optional
from thea_store.postgres.url import DatabaseUrl
from thea_store.queries.binding import opens
from thea_store.queries.file import Query, Source, SqlFile
from thea_store.verification.conditions_counted import too_few_conditions
from thea_store.verification.groups import groups_of, serves_tenants
from thea_store.verification.live_types import lacking_types, names_of, type_name
from thea_store.verification.login import Power, powers
from thea_store.verification.protection import lacks_of, protected_tables

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg.pq.abc import PGconn, PGresult
    from pydantic import BaseModel

__all__ = [
    "Column",
    "Described",
    "Findings",
    "Replayed",
    "Server",
    "describe",
    "identify",
    "inspect",
    "mismatches",
    "replayed",
    "require_migrated",
    "written",
]

# Queries in flight at once: what is sent meanwhile must fit into the sockets' buffers.
_AHEAD = 16
_PATIENCE = 30.0


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


@dataclass(frozen=True, slots=True)
class Server:
    """What the server says of itself and of the login."""

    version: str
    applied: frozenset[str] | None
    """The applied migrations; `None` where none ever was."""
    powers: tuple[Power, ...]
    """What the login may do and a service may not; empty for a safe one."""

    @property
    def is_safe(self) -> bool:
        """Whether row security binds the login, whatever it may become."""
        return not any(power.is_refused for power in self.powers)


@dataclass(frozen=True, slots=True)
class Findings:
    """The server, and what it says of every query."""

    server: Server
    described: tuple[Described, ...]
    not_null: frozenset[tuple[int, int]]
    """The columns that are declared `not null`, by their table's oid and their number."""
    lacks: tuple[str, ...] = ()
    """What tables of extensions lack to keep tenants apart, a sentence with its fix for each."""
    unbound: tuple[str, ...] = ()
    """Queries of extensions with fewer conditions on the tenant than tables of tenants, with `file:line`."""
    lacking_types: tuple[str, ...] = ()
    """What to do about types of queries that the server refuses and the database lacks."""


def inspect(
    address: DatabaseUrl,
    files: Sequence[SqlFile],
    extensions: Sequence[Extension] = (),
    of_groups: Mapping[str, Sequence[SqlFile]] = MappingProxyType({}),
) -> Findings:
    """Ask the server; blocks, so asynchronous code calls it in a thread.

    `files` are the library's own, to which those of `extensions` are added. `of_groups` are the files of the groups
    whose logins serve no tenant; such a login is asked about the queries of its groups alone. `QueryFileError` when a
    query is claimed by no code, `StoreUnavailableError` without a connection.
    """
    files = [*files, *(file for extension in extensions for file in extension.sql_files)]
    others = [file for more in of_groups.values() for file in more]
    if unclaimed := [sentence for file in (*files, *others) for sentence in file.unclaimed()]:
        raise QueryFileError("\n".join(unclaimed))
    with _connected(address) as connection:
        groups = groups_of(connection)
        if serves_tenants(groups):
            return _found(connection, _queries([*files, *others]), extensions)
        return _found(connection, _queries(file for group in groups for file in of_groups.get(group, ())), ())


def describe(address: DatabaseUrl, queries: Sequence[Query[Any]], extensions: Sequence[Extension] = ()) -> Findings:
    """Ask the server about these queries; blocks. `StoreUnavailableError` without a connection."""
    with _connected(address) as connection:
        return _found(connection, queries, extensions)


def _queries(files: Iterable[SqlFile]) -> list[Query[Any]]:
    return [query for file in files for query in file.claimed]


def _found(connection: Connection[Any], queries: Sequence[Query[Any]], extensions: Sequence[Extension]) -> Findings:
    server = _identify(connection)
    if server.applied is None:
        return Findings(server, (), frozenset())
    described = tuple(_with_types(connection, _describe(connection, queries)))
    not_null = _not_null(connection, described)
    if not extensions:
        return Findings(server, described, not_null)
    refused = [one.query for one in described if one.failure is not None]
    schemas = [extension.name for extension in extensions]
    shared = [table for extension in extensions for table in extension.shared_tables]
    return Findings(
        server,
        described,
        not_null,
        lacks_of(connection, schemas, shared),
        tuple(_unbound(extensions, protected_tables(connection))),
        lacking_types(connection, [kind for query in refused for kind in _kinds(query)]),
    )


def _kinds(query: Query[Any]) -> list[Any]:
    """The annotations of its parameters and columns."""
    record = query.record
    return [*query.types.values(), *(_annotations(record).values() if is_model(record) else [record])]


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


def _unbound(extensions: Sequence[Extension], tables: frozenset[str]) -> Iterator[str]:
    for extension in extensions:
        for file in extension.sql_files:
            for query in file.claimed:
                if problem := too_few_conditions(query, tables):
                    yield f"{query.source}: {query.name}: {problem}"


def identify(address: DatabaseUrl) -> Server:
    """Ask the server about itself alone; blocks. `StoreUnavailableError` without a connection."""
    with _connected(address) as connection:
        return _identify(connection)


def require_migrated(server: Server, address: DatabaseUrl, lineages: Sequence[Lineage] = ()) -> None:
    """Raise `MigrationRequiredError` where the schema lacks migrations, of an extension's lineage too."""
    if lacking := pending(server.applied or (), lineages):
        raise MigrationRequiredError(
            f"{address}: the schema lacks {', '.join(lacking)}: run `thea-store migrate`", lacking
        )


class Replayed(NamedTuple):
    """How far a standby has come."""

    is_standby: bool
    missing: int | None
    """Bytes of the primary's log that it has not replayed; `None` where the primary's position is not known."""
    seconds: float | None
    """Seconds since the last transaction that it replayed, where something is missing, and else 0."""


def written(address: DatabaseUrl) -> str | None:
    """The position of a primary's log; `None` where it does not answer, or is a standby. Blocks."""
    try:
        with _connected(address) as connection:
            row = connection.execute(_WRITTEN).fetchone()
    except StoreError:
        return None
    return row[0] if row else None


def replayed(address: DatabaseUrl, position: str | None) -> Replayed:
    """How far a standby has come, against that position of the primary's log. Blocks; `StoreUnavailableError`."""
    with _connected(address, standby=True) as connection:
        [(is_standby, missing, seconds)] = connection.execute(_REPLAYED, {"written": position}).fetchall()
    if not is_standby or missing is None:
        return Replayed(is_standby, None, None)
    return Replayed(is_standby, missing, seconds if missing else 0.0)


_WRITTEN = "select case when not pg_is_in_recovery() then pg_current_wal_lsn()::text end"
_REPLAYED = """
select
  pg_is_in_recovery(),
  greatest(pg_wal_lsn_diff(%(written)s::text::pg_lsn, pg_last_wal_replay_lsn()), 0)::bigint,
  extract(epoch from now() - pg_last_xact_replay_timestamp())::double precision
"""


def mismatches(findings: Findings) -> list[str]:
    """A sentence with `file:line` for all that does not fit; empty when everything does."""
    misfits = [
        f"{described.place or described.query.source}: {described.query.name}: {problem}"
        for described in findings.described
        for problem in _problems(described, findings.not_null)
    ]
    return [*findings.lacking_types, *misfits, *findings.unbound]


# --- asking -------------------------------------------------------------------------------------


@contextmanager
def _connected(address: DatabaseUrl, *, standby: bool = False) -> Iterator[Connection[Any]]:
    import psycopg  # noqa: PLC0415 - 60 ms, and a store that is never opened does not need it

    from thea_store.postgres import operator  # noqa: PLC0415 - as psycopg

    try:
        with (
            operator.connect(address, application_name="thea_store verify", standby=standby) as connection,
            connection.transaction(),
        ):
            connection.execute(fixed_locally(statement_timeout=f"{_PATIENCE:g}s").encode())
            yield connection
    except psycopg.OperationalError as error:
        raise StoreUnavailableError(f"{address}: the connection was lost while the schema was checked") from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise StoreError(
            f"{address}: the login may not read the schema's version: make it a member, `grant thea_app to …`"
        ) from error
    except psycopg.Error as error:
        raise StoreError(f"{address}: the schema cannot be checked (SQLSTATE {error.sqlstate})") from error


def _identify(connection: Connection[Any]) -> Server:
    version = connection.info.parameter_status("server_version") or "unknown"
    return Server(version, _applied(connection), powers(lambda query: connection.execute(query.encode()).fetchall()))


def _applied(connection: Connection[Any]) -> frozenset[str] | None:
    exists = connection.execute("select to_regclass('public._yoyo_migration') is not null").fetchone()
    if not exists or not exists[0]:
        return None
    return frozenset(row[0] for row in connection.execute("select migration_id from public._yoyo_migration"))


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
            if not selector.select(_PATIENCE):
                raise StoreUnavailableError(f"the server fell silent for {_PATIENCE:g} s while the schema was checked")
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


def _not_null(connection: Connection[Any], described: Sequence[Described]) -> frozenset[tuple[int, int]]:
    tables = sorted({column.origin[0] for one in described for column in one.columns})
    rows = connection.execute(
        "select attrelid::bigint, attnum::int from pg_catalog.pg_attribute"
        " where attrelid = any(%s::oid[]) and attnum > 0 and attnotnull",
        [tables],
    )
    return frozenset((table, number) for table, number in rows)


# --- comparing ----------------------------------------------------------------------------------


def _problems(described: Described, not_null: frozenset[tuple[int, int]]) -> list[str]:
    if described.failure is not None:
        return [f"the server refuses it: {described.failure}"]
    return [*_parameter_problems(described), *_column_problems(described, not_null)]


def _parameter_problems(described: Described) -> list[str]:
    query = described.query
    return [
        f"the parameter :{name} is {type_} on the server, which the declared type does not fit"
        for name, type_ in zip(query.parameters, described.parameters, strict=True)
        if not fits(type_, query.types[name])
    ]


def _column_problems(described: Described, not_null: frozenset[tuple[int, int]]) -> list[str]:
    query, columns = described.query, described.columns
    fields = _fields(query, columns)
    if isinstance(fields, str):
        return [fields]
    problems = [f"the hint names {name}, which is no column" for name in sorted(_hinted(query) - _names(columns))]
    problems += [f"{_record(query)}.{name} has no column" for name in sorted(fields.keys() - _names(columns))]
    # Of a sealed text the column is null, and `sealed` has it; the record gets it opened.
    _, sealed = opens(query) or ("", frozenset())
    if sealed and columns[-1].name != SEALED:
        problems.append(f"the column {SEALED} must be the last one, since {_record(query)} may have sealed texts")
    for column in columns:
        if column.name not in fields:
            problems.append(f"the column {column.name} has no field in {_record(query)}")
            continue
        annotation = fields[column.name]
        dimensions = column.modifier if column.type == "vector" and column.modifier > 0 else None
        if not fits(column.type, annotation, dimensions):
            found = f"{column.type}({dimensions})" if dimensions else column.type
            problems.append(f"the column {column.name} is {found}, which {_record(query)} does not take")
        elif _may_be_null(query, column, not_null) and not is_optional(annotation) and column.name not in sealed:
            problems.append(
                f"the column {column.name} can be null, but not in {_record(query)}: let it be None there, "
                f"or write `-- not null: {column.name}` where the server cannot know better"
            )
    return problems


def _fields(query: Query[Any], columns: Sequence[Column]) -> dict[str, Any] | str:
    record = query.record
    if record is None:
        return {} if not columns else f"it returns the column {columns[0].name}, but is claimed for none"
    if is_model(record):
        return _annotations(record) | ({SEALED: dict[str, Any] | None} if sealed_in(record) else {})
    if len(columns) != 1:
        return f"it returns {len(columns)} columns, but is claimed for one value"
    return {columns[0].name: record}


@cache
def _annotations(record: type[BaseModel]) -> dict[str, Any]:
    return {name: field.rebuild_annotation() for name, field in record.model_fields.items()}


def _may_be_null(query: Query[Any], column: Column, not_null: frozenset[tuple[int, int]]) -> bool:
    if column.name in query.nullable:
        return True
    if column.name in query.not_null:
        return False
    return query.outer_join or column.origin not in not_null


def _hinted(query: Query[Any]) -> frozenset[str]:
    return query.not_null | query.nullable


def _names(columns: Sequence[Column]) -> set[str]:
    return {column.name for column in columns}


def _record(query: Query[Any]) -> str:
    return getattr(query.record, "__name__", str(query.record))
