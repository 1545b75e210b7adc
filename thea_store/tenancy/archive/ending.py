"""Ends a tenant: removes all that it has, for good."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from psycopg.types.json import Jsonb

from thea_store.errors import NotFoundError
from thea_store.postgres.url import DatabaseUrl
from thea_store.queries.arguments import check_tenant
from thea_store.tenancy.archive.exporting import export_tenant
from thea_store.tenancy.archive.file import Archive
from thea_store.tenancy.archive.session import Progress, applied_migrations, connected, no_progress, transaction
from thea_store.tenancy.archive.tables import read_tables

__all__ = ["Ended", "end_tenant"]

_BEGIN = "select thea.end_begin(%s, %s)"
_FORGET = "select thea.forget_message_counts(%s)"
_ROWS = "select thea.end_rows(%s, %s, %s)"

# Of one transaction: it takes a fraction of a second, so nobody waits long for a lock.
_BATCH = 2_000


@dataclass(frozen=True, slots=True)
class Ended:
    """What is gone, by table, and the archive that has it."""

    tenant: str
    archive: Path | None
    tables: dict[str, int]


def end_tenant(
    address: DatabaseUrl, tenant_id: str, archive: Path | None, *, on_progress: Progress = no_progress
) -> Ended:
    """Remove all rows of a tenant, with a login in `thea_mover`; blocks.

    They are exported to `archive` first; `None` leaves that out. What stopped it is no matter: run again, it goes on.
    The tenant must not be used meanwhile. One entry in the audit log stays, which says who ended it.
    """
    check_tenant(tenant_id)
    told: dict[str, object] = {"archive": None}
    if archive is not None:
        manifest = export_tenant(address, tenant_id, archive, on_progress=on_progress).manifest
        with Archive(archive) as written:
            written.verify()
        told = {"archive": manifest.id, "rows": manifest.rows}
    with connected(address) as connection:
        applied_migrations(connection, address)
        with transaction(connection, tenant_id):
            tables = read_tables(connection)
        with transaction(connection, tenant_id, actor="end"):
            connection.execute(_BEGIN, [tenant_id, Jsonb(told)])
        # Or each message that goes would leave its difference to the sums. It has a transaction of its own, since a
        # node of a cluster lets one role alone change a tenant's rows in one.
        with transaction(connection, tenant_id, actor="end"):
            connection.execute(_FORGET, [tenant_id])
        gone = dict.fromkeys((table.name for table in reversed(tables)), 0)
        for table in gone:
            while True:
                with transaction(connection, tenant_id, actor="end"):
                    [(removed,)] = connection.execute(_ROWS, [tenant_id, table, _BATCH]).fetchall()
                gone[table] += removed
                on_progress(table, removed)
                if removed < _BATCH:
                    break
        # A worker may have begun anew meanwhile.
        with transaction(connection, tenant_id, actor="end"):
            connection.execute(_FORGET, [tenant_id])
        if archive is None and not any(gone.values()):
            raise NotFoundError(f"{address}: there is no row of this tenant: check its name")
        return Ended(tenant_id, archive, gone)
