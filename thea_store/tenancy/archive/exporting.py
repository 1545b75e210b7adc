"""Takes a tenant out of a database, as it is at one moment."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg
from psycopg import Connection, sql

from thea_store.errors import NotFoundError, StoreError
from thea_store.postgres.url import DatabaseUrl
from thea_store.queries.arguments import check_tenant
from thea_store.tenancy.archive.file import ArchiveWriter, Manifest
from thea_store.tenancy.archive.session import Progress, applied_migrations, connected, no_progress, transaction
from thea_store.tenancy.archive.tables import Table, read_tables

__all__ = ["OWN_ENTRIES", "Exported", "export_tenant", "highest_ids", "rows_of"]

# `{table}` and `{columns}` are names from the catalog. The ids come in their order, so that a row which refers to
# another one of its table mostly comes after it.
_ROWS = """
copy (
  select row_to_json(r)
  from (
    select {columns}
    from {table}
    where tenant_id = {tenant}{condition}
    order by {order}
  ) r
) to stdout
"""
OWN_ENTRIES = " and table_name <> 'tenant'"
"""Which entries of the audit log go along with a tenant, as the end of a condition."""
_RANGE = "select min(id), max(id) from {table} where tenant_id = {tenant}"
_LOG = "call thea.log_export(%s::text)"
_LOGGED = """
select table_name, min(row_id), max(row_id)
from thea.audit_log
where tenant_id = {tenant}
  and table_name <> 'tenant'
group by table_name
"""


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote."""

    file: Path
    manifest: Manifest


def export_tenant(address: DatabaseUrl, tenant_id: str, file: Path, *, on_progress: Progress = no_progress) -> Exported:
    """Write all rows of a tenant into a new archive, as they are at one moment; blocks.

    Deleted rows and the audit log are in it. Any login that reads the tenant will do. `NotFoundError` for a tenant
    without a row; `InvalidArgumentError` where the file is there already. When it fails there is no file.
    """
    check_tenant(tenant_id)
    with connected(address) as connection:
        migrations = applied_migrations(connection, address)
        version = connection.info.server_version // 10_000
        with ArchiveWriter(file, tenant_id, version, migrations) as writer:
            _log(connection, address, tenant_id, writer.manifest.id)
            _write(connection, address, tenant_id, writer, on_progress)
        return Exported(file, writer.manifest)


def _log(connection: Connection[Any], address: DatabaseUrl, tenant_id: str, archive: str) -> None:
    """Let the activity log say that the tenant is exported, before a row is read."""
    try:
        with transaction(connection, tenant_id):
            connection.execute(_LOG, [archive])
    except (psycopg.errors.ReadOnlySqlTransaction, psycopg.errors.FeatureNotSupported) as error:  # in recovery
        raise StoreError(
            f"{address}: an export has an entry in the activity log, and this server or login is read-only: give the "
            "primary's URL"
        ) from error


def _write(
    connection: Connection[Any], address: DatabaseUrl, tenant_id: str, writer: ArchiveWriter, on_progress: Progress
) -> None:
    with transaction(connection, tenant_id, is_snapshot=True):
        tables = read_tables(connection)
        for table in tables:
            writer.add(table.name, table.columns, _counted(rows_of(connection, table, tenant_id), table, on_progress))
        for name, (lowest, highest) in highest_ids(connection, tables, tenant_id).items():
            writer.set_ids(name, lowest, highest)
        if not any(writer.manifest.rows.values()):
            raise NotFoundError(f"{address}: there is no row of this tenant: check its name")


def rows_of(connection: Connection[Any], table: Table, tenant_id: str, *, since: int | None = None) -> Iterator[bytes]:
    """The rows of a table, each as JSON in one line; within a transaction of the tenant.

    With `since`, an id of a transaction, only those that it or a later one wrote. Entries of the audit log about the
    tenant as a whole, such as that it was brought in, stay where they were written.
    """
    statement = sql.SQL(_ROWS).format(
        table=table.identifier,
        columns=sql.SQL(", ").join(map(sql.Identifier, table.columns)),
        tenant=sql.Literal(tenant_id),
        condition=sql.SQL(OWN_ENTRIES if table.is_log else "") + _written_since(since),
        order=sql.SQL("at, id" if table.is_log else "id"),
    )
    with connection.cursor() as cursor, cursor.copy(statement) as copy:
        for row in copy:
            # JSON has no raw control character, so of what COPY escapes only the backslash is in it.
            yield bytes(row).replace(b"\\\\", b"\\")


def _written_since(transaction: int | None) -> sql.Composable:
    if transaction is None:
        return sql.SQL("")
    # `age` compares ids of transactions also where they began anew with small numbers.
    return sql.SQL(" and age(xmin) <= age({}::text::xid)").format(sql.Literal(str(transaction)))


def highest_ids(connection: Connection[Any], tables: Iterable[Table], tenant_id: str) -> dict[str, tuple[int, int]]:
    """The lowest and the highest id of each table that has any: of its rows, and of those that its log speaks of."""
    tenant = sql.Literal(tenant_id)
    found: dict[str, tuple[int, int]] = {}
    logged = {
        name if "." in name else f"thea.{name}": (lowest, highest)
        for name, lowest, highest in connection.execute(sql.SQL(_LOGGED).format(tenant=tenant))
    }
    for table in tables:
        if table.is_log:
            continue
        row = connection.execute(sql.SQL(_RANGE).format(table=table.identifier, tenant=tenant)).fetchone()
        known = [id_ for id_ in (*(row or ()), *logged.get(table.name, ())) if id_ is not None]
        if known:
            found[table.name] = min(known), max(known)
    return found


def _counted(rows: Iterable[bytes], table: Table, on_progress: Progress) -> Iterator[bytes]:
    waiting = 0
    for row in rows:
        yield row
        waiting += 1
        if waiting == _TOLD_EVERY:
            on_progress(table.name, waiting)
            waiting = 0
    on_progress(table.name, waiting)


_TOLD_EVERY = 1_000
