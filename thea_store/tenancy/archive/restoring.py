"""Brings one tenant back from a side restore: a server that was started on a backup."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from psycopg import Connection

from thea_store.errors import InsufficientPrivilegeError, InvalidArgumentError, NotFoundError
from thea_store.postgres.url import DatabaseUrl
from thea_store.queries.arguments import check_tenant
from thea_store.tenancy.archive.exporting import rows_of
from thea_store.tenancy.archive.importing import KEYS, require_same_keys, require_same_schema
from thea_store.tenancy.archive.loading import Loader, Tally
from thea_store.tenancy.archive.session import Progress, applied_migrations, connected, no_progress, transaction
from thea_store.tenancy.archive.tables import read_tables

__all__ = ["Restored", "restore_tenant"]

# No server starts twice in the same microsecond.
_SERVER = "select pg_postmaster_start_time(), oid from pg_database where datname = current_database()"
_READS = """
select not row_security_active('thea.users') or exists (
  select
  from pg_policy p
  cross join unnest(p.polroles) as role
  where p.polrelid = 'thea.users'::regclass
    and p.polpermissive
    and p.polcmd in ('r', '*')
    and (role = 0 or pg_has_role(role, 'usage'))
)
"""
_ROWS = "select thea.load_rows(%(tenant)s, %(table)s, %(rows)s::json, %(ids)s, %(dry)s)"


@dataclass(frozen=True, slots=True)
class Restored:
    """What came back, and what did not, by table; with `dry_run` what would."""

    tenant: str
    dry_run: bool
    tables: dict[str, Tally]


def restore_tenant(
    live: DatabaseUrl,
    side: DatabaseUrl,
    tenant_id: str,
    *,
    dry_run: bool = False,
    on_progress: Progress = no_progress,
) -> Restored:
    """Bring back what the backup has of a tenant and the live database has not; blocks.

    Both logins are ordinary ones, the live one a member of `thea_app`. Rows that are there stay as they are. A user who
    is there under another id, known by the Telegram id, keeps it, and what comes back hangs on that one; so with
    conversations, and with every table that has a unique key. Each row that comes back has its entry in the audit log,
    by the actor `restore`. Run again, it goes on, and does nothing where all is back.

    `NotFoundError` where the backup has no row of this tenant; `ArchiveError` where it has another schema version;
    `InvalidArgumentError` where both URLs lead to the same database.
    """
    check_tenant(tenant_id)
    with ExitStack() as resources:
        backup = resources.enter_context(connected(side))
        target = resources.enter_context(connected(live))
        _require_two_databases(backup, target)
        require_same_schema(
            applied_migrations(backup, side),
            applied_migrations(target, live),
            f"the backup at {side}",
            str(live),
            older="run `thea-store migrate` on the backup's server first",
        )
        loader = Loader(target, tenant_id, "restore", _ROWS, {"dry": dry_run}, None)
        with transaction(backup, tenant_id, is_snapshot=True):
            for table in read_tables(backup):
                if table.name == KEYS:
                    require_same_keys(target, tenant_id, list(rows_of(backup, table, tenant_id)), side, all_here=True)
                elif not table.is_log:
                    loader.load(table, partial(rows_of, backup, table, tenant_id), on_progress)
        if not any(tally.seen for tally in loader.tallies.values()):
            _require_reader(backup, side)
            raise NotFoundError(f"{side}: the backup has no row of this tenant: check its name and the backup's date")
        return Restored(tenant_id, dry_run, loader.tallies)


def _require_two_databases(backup: Connection[Any], target: Connection[Any]) -> None:
    first, second = (connection.execute(_SERVER).fetchone() for connection in (backup, target))
    if first == second:
        raise InvalidArgumentError(
            "from", "is the live database itself: give the URL of the server that was started on the backup"
        )


def _require_reader(backup: Connection[Any], side: DatabaseUrl) -> None:
    if backup.execute(_READS).fetchone() != (True,):
        raise InsufficientPrivilegeError(f"{side}: this login reads no tenant's rows there: give the service's")
