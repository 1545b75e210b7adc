"""What a release promised to its processes: `released/<version>.json`, written by running this file.

A manifest holds each query as it is sent, with the types of its parameters and columns, and the checksums of the
migrations. Processes of that release go on working beside newer ones for as long as every query of it still
fits the newest schema, which tests/released/test_released_queries.py looks after.

The file of the version in thea_store/__init__.py says what the checkout does, and is written anew with every
change of a query or migration; once CHANGELOG.md has that version, it is never changed again.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psycopg
from pglast import parse_sql
from pglast.visitors import Visitor
from pydantic import BaseModel, ConfigDict

from thea_store import __version__
from thea_store.embedded import EmbeddedPostgres
from thea_store.migrator import available, migrate
from thea_store.postgres.types import spelled
from thea_store.postgres.url import DatabaseUrl
from thea_store.queries.file import Query
from thea_store.store import SQL_FILES
from thea_store.verification.opening import Column, Described, Findings, inspect

Connection = psycopg.Connection[tuple[Any, ...]]

ROOT = Path(__file__).parents[1]
RELEASED = ROOT / "released"
CHANGELOG = ROOT / "CHANGELOG.md"

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
        return "\n".join(self.sql)


class Manifest(BaseModel):
    """What one version promises."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: str
    migrations: dict[str, str]
    queries: dict[str, Promise]


# --- writing ------------------------------------------------------------------------------------


def of_this_checkout(url: str) -> Manifest:
    """What the code promises, by the word of a server that has its migrations."""
    findings = inspect(DatabaseUrl.parse(url), SQL_FILES)
    described = sorted(findings.described, key=lambda each: each.query.name)
    with connected(url) as connection:
        return Manifest(
            version=__version__,
            migrations={migration.id: migration.checksum for migration in available()},
            queries={each.query.name: _promise(connection, each, findings) for each in described},
        )


def _promise(connection: Connection, described: Described, findings: Findings) -> Promise:
    query = described.query
    types = [spelled(oid) for oid in described.parameter_oids]
    return Promise(
        sql=query.text.split("\n"),
        parameters=dict(zip(query.parameters, types, strict=True)),
        columns={
            column.name: spelled(column.type_oid) + _nullness(query, column, findings) for column in described.columns
        },
        omits=omitted(connection, query.text),
    )


def _nullness(query: Query[object], column: Column, findings: Findings) -> str:
    if column.name in query.not_null:
        return SAID
    may_be_null = column.name in query.nullable or query.outer_join or column.origin not in findings.not_null
    return "" if may_be_null else DECLARED


def write(manifest: Manifest, directory: Path = RELEASED, changelog: Path = CHANGELOG) -> Path:
    """Write the manifest, unless it would change one that is released: then `ValueError`."""
    path = directory / f"{manifest.version}.json"
    text = manifest.model_dump_json(indent=2, exclude_defaults=True) + "\n"
    if path.exists() and path.read_text() != text and manifest.version in out(changelog):
        raise ValueError(f"{path.name} is released, and so never changed: set the next __version__ first")
    path.write_text(text)
    return path


# --- reading ------------------------------------------------------------------------------------


def known(directory: Path = RELEASED) -> list[Manifest]:
    """Every manifest there is."""
    return [Manifest.model_validate_json(path.read_text()) for path in sorted(directory.glob("*.json"))]


def out(changelog: Path = CHANGELOG) -> set[str]:
    """The versions that are out."""
    return set(re.findall(r"^## \[(\d+\.\d+\.\d+)\]", changelog.read_text(), re.MULTILINE))


def number(version: str) -> tuple[int, int, int]:
    major, minor, patch = map(int, version.split("."))
    return major, minor, patch


def still_served(versions: Iterable[str], current: str) -> list[str]:
    """The versions whose processes may run beside this one: those of its own line, and the last before it.

    A line is a major version; before 1.0 a minor one, as in Semantic Versioning.
    """

    def line(version: str) -> tuple[int, ...]:
        major, minor, _ = number(version)
        return (major,) if major else (major, minor)

    earlier = sorted((version for version in versions if number(version) < number(current)), key=number)
    return [version for version in earlier if line(version) == line(current) or version == earlier[-1]]


# --- asking the server ----------------------------------------------------------------------------


def omitted(connection: Connection, sql: str) -> list[str]:
    """The columns that are never null and have no default, and that the inserts of a statement do not give."""
    inserts = _Inserts()
    inserts(parse_sql(sql))
    return [
        f"{table}.{column}"
        for table, given in inserts.found
        for (column,) in connection.execute(_NECESSARY, [table])
        if column not in given
    ]


_NECESSARY = """
select attname from pg_attribute
where attrelid = to_regclass(%s) and attnum > 0 and attnotnull and not atthasdef and attidentity = ''
order by attnum
"""


class _Inserts(Visitor):
    """The tables that a statement inserts into, each with the columns that it gives."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, set[str]]] = []

    def visit_InsertStmt(self, _ancestors: object, node: Any) -> None:  # noqa: N802 - the visitor's own name
        table = f"{node.relation.schemaname}.{node.relation.relname}"
        self.found.append((table, {column.name for column in node.cols}))


def connected(url: str) -> Connection:
    # A generic plan has all of a query's tables and functions; with nulls in it, the planner would leave some out.
    return psycopg.connect(
        url, autocommit=True, prepare_threshold=None, options="-c plan_cache_mode=force_generic_plan"
    )


# --- the command --------------------------------------------------------------------------------


async def main() -> Path:
    """Write the manifest of this checkout, by the word of an embedded server."""
    async with EmbeddedPostgres() as server:
        await asyncio.to_thread(migrate, server.migrator_url)
        return write(await asyncio.to_thread(of_this_checkout, server.app_url))


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{asyncio.run(main()).relative_to(ROOT)} says what this checkout does\n")
    except ValueError as error:
        sys.exit(str(error))
