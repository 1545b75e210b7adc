"""Is this database the one that the library was written for? Asked once, when a store opens.

What the server says of every query's columns and parameters is compared with its record and its claim.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from thea_store.errors import MigrationRequiredError, QueryFileError
from thea_store.extensions import Extension
from thea_store.migrator import Lineage, pending
from thea_store.postgres.types import is_model
from thea_store.postgres.url import DatabaseUrl
from thea_store.queries.file import Query, SqlFile
from thea_store.verification.comparing import fields_of, problems
from thea_store.verification.conditions_counted import too_few_conditions
from thea_store.verification.connecting import connected
from thea_store.verification.describing import Described, describe_all, not_null_columns
from thea_store.verification.groups import groups_of, serves_tenants
from thea_store.verification.live_types import lacking_types
from thea_store.verification.login import Power, powers
from thea_store.verification.protection import lacks_of, protected_tables

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["Findings", "Server", "describe", "identify", "inspect", "mismatches", "require_migrated"]


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
    with connected(address) as connection:
        groups = groups_of(connection)
        if serves_tenants(groups):
            return _found(connection, _queries([*files, *others]), extensions)
        return _found(connection, _queries(file for group in groups for file in of_groups.get(group, ())), ())


def describe(address: DatabaseUrl, queries: Sequence[Query[Any]], extensions: Sequence[Extension] = ()) -> Findings:
    """Ask the server about these queries; blocks. `StoreUnavailableError` without a connection."""
    with connected(address) as connection:
        return _found(connection, queries, extensions)


def _queries(files: Iterable[SqlFile]) -> list[Query[Any]]:
    return [query for file in files for query in file.claimed]


def _found(connection: Connection[Any], queries: Sequence[Query[Any]], extensions: Sequence[Extension]) -> Findings:
    server = _identify(connection)
    if server.applied is None:
        return Findings(server, (), frozenset())
    described = describe_all(connection, queries)
    not_null = not_null_columns(connection, described)
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
    return [*query.types.values(), *(fields_of(record).values() if is_model(record) else [record])]


def _unbound(extensions: Sequence[Extension], tables: frozenset[str]) -> Iterator[str]:
    for extension in extensions:
        for file in extension.sql_files:
            for query in file.claimed:
                if problem := too_few_conditions(query, tables):
                    yield f"{query.source}: {query.name}: {problem}"


def identify(address: DatabaseUrl) -> Server:
    """Ask the server about itself alone; blocks. `StoreUnavailableError` without a connection."""
    with connected(address) as connection:
        return _identify(connection)


def require_migrated(server: Server, address: DatabaseUrl, lineages: Sequence[Lineage] = ()) -> None:
    """Raise `MigrationRequiredError` where the schema lacks migrations, of an extension's lineage too."""
    if lacking := pending(server.applied or (), lineages):
        raise MigrationRequiredError(
            f"{address}: the schema lacks {', '.join(lacking)}: run `thea-store migrate`", lacking
        )


def mismatches(findings: Findings) -> list[str]:
    """A sentence with `file:line` for all that does not fit; empty when everything does."""
    misfits = [
        f"{described.place or described.query.source}: {described.query.name}: {problem}"
        for described in findings.described
        for problem in problems(described, findings.not_null)
    ]
    return [*findings.lacking_types, *misfits, *findings.unbound]


def _identify(connection: Connection[Any]) -> Server:
    version = connection.info.parameter_status("server_version") or "unknown"
    return Server(version, _applied(connection), powers(lambda query: connection.execute(query.encode()).fetchall()))


def _applied(connection: Connection[Any]) -> frozenset[str] | None:
    exists = connection.execute("select to_regclass('public._yoyo_migration') is not null").fetchone()
    if not exists or not exists[0]:
        return None
    return frozenset(row[0] for row in connection.execute("select migration_id from public._yoyo_migration"))
