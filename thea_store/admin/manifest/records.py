"""What a version asks of the schema: `released/<version>.json` of the library, `manifest.json` of an extension.

A manifest holds each query as it is sent, with the types of its parameters and columns, and the checksums of the
migrations. With it, code is compared without a server, and processes of an old version are held against a new schema.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg
from pydantic import BaseModel, ConfigDict

from thea_store.errors import StoreError
from thea_store.extensions import Extension
from thea_store.migrator import Migration
from thea_store.postgres.url import DatabaseUrl
from thea_store.queries.file import Query, SqlFile
from thea_store.verification.describing import Column, Described
from thea_store.verification.left_out import left_out
from thea_store.verification.opening import Findings, inspect

__all__ = [
    "DECLARED",
    "SAID",
    "Connection",
    "Manifest",
    "Promise",
    "connected",
    "manifest_of",
    "path_of",
    "read",
]

Connection = psycopg.Connection[tuple[Any, ...]]

# Why a column is never null: its table says so, or the query itself, of which the server knows nothing.
DECLARED, SAID = " not null", " never null"


class Promise(BaseModel):
    """One query: its lines, and what goes in and comes out, in order."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sql: list[str]
    parameters: dict[str, str]
    columns: dict[str, str]
    omits: list[str] = []
    """What its inserts leave to a trigger: columns that are never null and have no default."""

    @property
    def text(self) -> str:
        """The statement as it is sent."""
        return "\n".join(self.sql)


class Manifest(BaseModel):
    """What one version promises."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    migrations: dict[str, str]
    queries: dict[str, Promise]

    def as_text(self) -> str:
        """The file's text."""
        return self.model_dump_json(indent=2, exclude_defaults=True) + "\n"


def path_of(extension: Extension) -> Path:
    """Where the manifest of an extension stands: beside its migrations."""
    return extension.migrations.parent / "manifest.json"


def read(path: Path) -> Manifest:
    """The manifest of a file; `StoreError` where there is none."""
    try:
        return Manifest.model_validate_json(path.read_text("utf-8"))
    except (OSError, ValueError) as error:
        what = error.strerror if isinstance(error, OSError) else "it is no manifest"
        raise StoreError(f"{path}: {what}: write one with `thea-store manifest`") from None


def manifest_of(url: str, files: Sequence[SqlFile], migrations: Sequence[Migration], version: str) -> Manifest:
    """What the claimed queries of these files ask, by the word of a server that has the migrations."""
    findings = inspect(DatabaseUrl.parse(url), files)
    described = sorted(findings.described, key=lambda each: each.query.name)
    with connected(url) as connection:
        return Manifest(
            version=version,
            migrations={migration.id: migration.checksum for migration in migrations},
            queries={each.query.name: _promise(connection, each, findings) for each in described},
        )


def _promise(connection: Connection, described: Described, findings: Findings) -> Promise:
    query = described.query
    if described.failure is not None:
        raise StoreError(f"{query.source}: {query.name}: the server refuses it: {described.failure}")
    return Promise(
        sql=query.text.split("\n"),
        parameters=dict(zip(query.parameters, described.parameters, strict=True)),
        columns={column.name: column.type + _nullness(query, column, findings) for column in described.columns},
        omits=left_out(connection, query),
    )


def _nullness(query: Query[Any], column: Column, findings: Findings) -> str:
    if column.name in query.not_null:
        return SAID
    may_be_null = column.name in query.nullable or query.outer_join or column.origin not in findings.not_null
    return "" if may_be_null else DECLARED


# --- asking the server ----------------------------------------------------------------------------


def connected(url: str) -> Connection:
    """A connection whose plans are generic: these have all of a query's tables and functions."""
    return psycopg.connect(
        url, autocommit=True, prepare_threshold=None, options="-c plan_cache_mode=force_generic_plan"
    )
