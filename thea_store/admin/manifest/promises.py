"""Whether a database keeps what a manifest promises: a sentence for each promise that it breaks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psycopg
from psycopg import errors

from thea_store.admin.manifest.records import DECLARED, SAID, Connection, Manifest, Promise, connected
from thea_store.postgres.types import is_model
from thea_store.postgres.url import DatabaseUrl
from thea_store.queries.file import Query, Source
from thea_store.verification.describing import Described
from thea_store.verification.left_out import left_out
from thea_store.verification.opening import Findings, describe

__all__ = ["broken", "differences", "edited"]


def differences(manifest: Manifest, queries: Sequence[Query[Any]], migrations: Mapping[str, str]) -> list[str]:
    """A sentence for each thing in which the code and its manifest differ; asks no server."""
    found = []
    for query in queries:
        promise = manifest.queries.get(query.name)
        if promise is None:
            found.append(f"{query.source}: {query.name} is new: `thea-store manifest` asks a server about it")
        elif promise.text != query.text:
            found.append(f"{query.source}: {query.name} was changed: `thea-store manifest` asks a server about it")
        else:
            found += [f"{query.source}: {query.name}: {misfit}" for misfit in _misfits(query, promise)]
    gone = manifest.queries.keys() - {query.name for query in queries}
    found += [f"{name} is in the manifest, but in no code any more: `thea-store manifest`" for name in sorted(gone)]
    return [*found, *edited(manifest, migrations)]


def _misfits(query: Query[Any], promise: Promise) -> list[str]:
    record = query.record
    fields = set(record.model_fields) if is_model(record) else None
    if fields is None or fields == promise.columns.keys():
        return []
    name = getattr(record, "__name__", "its record")
    return [
        *(f"the column {column} has no field in {name}" for column in promise.columns if column not in fields),
        *(f"{name}.{field} has no column" for field in sorted(fields - promise.columns.keys())),
    ]


def broken(manifest: Manifest, url: str) -> list[str]:
    """A sentence for every promise that this database does not keep to a login like this one."""
    findings = describe(DatabaseUrl.parse(url), [_query(*item) for item in manifest.queries.items()])
    with connected(url) as connection:
        return [
            f"{name} of {manifest.version}: {problem}"
            for (name, promise), found in zip(manifest.queries.items(), findings.described, strict=True)
            for problem in [
                *_problems(promise, found, findings),
                *_forbidden(connection, promise),
                *_required(connection, found.query, promise),
            ]
        ]


def edited(manifest: Manifest, now: Mapping[str, str]) -> list[str]:
    """A sentence for each of its migrations that is not what it was, by the checksums of now."""
    return [
        f"the migration {id_} {'was edited' if id_ in now else 'is gone'}, "
        "though databases have it: restore it, and put the change into a new one"
        for id_, checksum in manifest.migrations.items()
        if now.get(id_) != checksum
    ]


def _query(name: str, promise: Promise) -> Query[object]:
    nothing = frozenset[str]()
    return Query(
        name=name,
        source=Source(Path(name), 1),
        text=promise.text,
        first_line=1,
        parameters=tuple(promise.parameters),
        summary="",
        not_null=nothing,
        nullable=nothing,
        writes=False,
        outer_join=False,
    )


def _problems(promise: Promise, found: Described, findings: Findings) -> list[str]:
    if found.failure is not None:
        return [f"the server refuses it: {found.failure}"]
    names = [column.name for column in found.columns]
    if names != list(promise.columns):
        return [f"its columns were {', '.join(promise.columns)}, and are {', '.join(names)}"]
    parameters = zip(promise.parameters.items(), found.parameters, strict=True)
    problems = [f"the parameter :{name} was {was}, and is {now}" for (name, was), now in parameters if was != now]
    for column in found.columns:
        was, now = promise.columns[column.name], column.type
        if (type_ := was.removesuffix(DECLARED).removesuffix(SAID)) != now:
            problems.append(f"the column {column.name} was {type_}, and is {now}")
        if was.endswith(DECLARED) and column.origin not in findings.not_null:
            problems.append(f"the column {column.name} was never null, and can be null")
    return problems


def _forbidden(connection: Connection, promise: Promise) -> Iterator[str]:
    """Whether the login may run it: preparing asks for no privilege, explaining does."""
    values = ", ".join(["null"] * len(promise.parameters))
    try:
        connection.execute(f"prepare promised as {promise.text}".encode())
    except psycopg.Error:  # told by `_problems`
        return
    try:
        connection.execute(f"explain execute promised{values and f' ({values})'}".encode())
    except errors.InsufficientPrivilege as error:
        yield f"a service may not run it: {error.diag.message_primary}"
    connection.execute("deallocate promised")


def _required(connection: Connection, query: Query[Any], promise: Promise) -> Iterator[str]:
    """The columns that an insert must give by now, and this one does not."""
    for column in left_out(connection, query):
        if column not in promise.omits:
            yield f"the column {column} must be given by now, which it does not"
