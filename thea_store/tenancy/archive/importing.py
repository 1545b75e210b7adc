"""Brings an archive in: with its ids where the tenant has nothing yet, and with others elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from psycopg import Connection
from psycopg.types.json import Jsonb

from thea_store.errors import ArchiveError, InvalidTenantError
from thea_store.postgres.url import DatabaseUrl
from thea_store.queries.arguments import check_tenant
from thea_store.tenancy.archive.file import Archive, Manifest
from thea_store.tenancy.archive.loading import Loader, Tally
from thea_store.tenancy.archive.session import Progress, applied_migrations, connected, no_progress, transaction
from thea_store.tenancy.archive.tables import Table, read_tables

__all__ = ["ADVANCE", "KEYS", "Imported", "import_tenant", "require_same_keys", "require_same_schema"]

ACTOR = "import"
"""Who brings a tenant in, as the audit log has it."""

_BEGIN = "select thea.import_begin(%s, %s::uuid, %s)"
ADVANCE = "select thea.advance_past(%s, %s)"
"""Has new rows of a table come after those that were brought in."""
_ROWS = "select thea.import_rows(%(tenant)s, %(archive)s::uuid, %(table)s, %(rows)s::json, %(ids)s)"


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did."""

    tenant: str
    ids: str
    """`kept` or `mapped`."""
    tables: dict[str, Tally]


def import_tenant(
    address: DatabaseUrl,
    file: Path,
    *,
    tenant_id: str | None = None,
    name: str | None = None,
    on_progress: Progress = no_progress,
) -> Imported:
    """Bring an archive in, with a login in `thea_mover`; blocks.

    It goes to the tenant that it is of, or to the one called `name`. `tenant_id` is the tenant that the archive is
    expected to be of. All of the archive is verified before the first row is written, and what stopped an import is no
    matter: run again, it goes on. `ArchiveError` for an archive that was cut off or altered, or is of another schema or
    tenant.
    """
    for given in (tenant_id, name):
        if given is not None:
            check_tenant(given)
    with Archive(file) as archive, connected(address) as connection:
        manifest = archive.manifest
        target = _target(manifest, file, tenant_id, name)
        require_same_schema(manifest.migrations, applied_migrations(connection, address), str(file), str(address))
        archive.verify()
        with transaction(connection, target):
            tables = read_tables(connection)
        _require_known(manifest, tables, file)
        if part := manifest.part(KEYS):
            if part.rows and target != manifest.tenant:
                raise ArchiveError(
                    f"{file}: its texts are encrypted for the tenant that it is of, and open for no other one: bring "
                    "it in under its own name"
                )
            require_same_keys(connection, target, archive.lines(part), file)
        ids, loader = _begun(connection, manifest, target)
        for table in tables:
            if part := manifest.part(table.name):
                loader.load(table, partial(archive.lines, part), on_progress)
                if ids == "kept" and not table.is_log:
                    with transaction(connection, target):
                        connection.execute(ADVANCE, [target, table.name])
        return Imported(target, ids, loader.tallies)


def _target(manifest: Manifest, file: Path, tenant_id: str | None, name: str | None) -> str:
    if tenant_id is not None and manifest.tenant != tenant_id:
        raise ArchiveError(
            f"{file}: it is of another tenant than the given one: check the file, or bring it in under this name (--as)"
        )
    try:
        return check_tenant(name or manifest.tenant)
    except InvalidTenantError:
        raise ArchiveError(f"{file}: the tenant in its manifest has no valid name") from None


_EXPORT_AGAIN = "bring it in where these migrations are not applied yet, migrate there, and export it again"


def require_same_schema(
    theirs: Iterable[str], ours: Iterable[str], there: str, here: str, *, older: str = _EXPORT_AGAIN
) -> None:
    """Raise `ArchiveError` unless both have the same migrations; `older` says what to do where theirs are fewer."""
    missing, others = sorted(set(theirs) - set(ours)), sorted(set(ours) - set(theirs))
    if missing:
        raise ArchiveError(
            f"{there} is of another version: {here} lacks {', '.join(missing)}: run `thea-store migrate` there first"
        )
    if others:
        raise ArchiveError(f"{there} is of another version: it lacks {', '.join(others)}, which {here} has: {older}")


KEYS = "thea.encryption_keys"
"""The table of a tenant's wrapped keys."""

_WRAPPED = "select version, wrapped::text from thea.encryption_keys where tenant_id = %s"


def require_same_keys(
    connection: Connection[Any], tenant_id: str, lines: Iterable[bytes], there: object, *, all_here: bool = False
) -> None:
    """Raise `ArchiveError` where the tenant has another key here under the version of one of these.

    With `all_here` also where it has none, since only an import brings keys in.
    """
    with transaction(connection, tenant_id):
        ours = dict(connection.execute(_WRAPPED, [tenant_id]).fetchall())
    for line in lines:
        key = json.loads(line)
        here = ours.get(key["version"], None if all_here else key["wrapped"])
        if here is None:
            raise ArchiveError(
                f"{there}: its texts are sealed by keys that the tenant does not have here: export it there, and "
                "import the archive here, which brings the keys along"
            )
        if here != key["wrapped"]:
            raise ArchiveError(
                f"{there}: its texts are sealed by another key than the tenant has here, so they would not open: bring "
                "it in where the tenant has no key yet"
            )


def _require_known(manifest: Manifest, tables: Iterable[Table], file: Path) -> None:
    columns = {table.name: table.columns for table in tables}
    for part in manifest.parts:
        if columns.get(part.table) != part.columns:
            raise ArchiveError(
                f"{file}: its table {part.table} is missing here or has other columns: bring both to the same version"
            )


def _begun(connection: Connection[Any], manifest: Manifest, tenant_id: str) -> tuple[str, Loader]:
    """Whether ids are kept or mapped, and what loads the rows."""
    told = {
        "tenant": manifest.tenant,
        "exported_at": manifest.exported_at,
        "tables": {
            part.table: {"rows": part.rows, "lowest": part.lowest, "highest": part.highest} for part in manifest.parts
        },
    }
    with transaction(connection, tenant_id, actor=ACTOR):
        [(state,)] = connection.execute(_BEGIN, [tenant_id, manifest.id, Jsonb(told)]).fetchall()
    # The words of a note stand for its tenant and user, and another version of PostgreSQL may make others.
    is_same = tenant_id == manifest.tenant and manifest.server_version == connection.info.server_version // 10_000
    keeps_all = state["ids"] == "kept" and is_same
    given = None if keeps_all else {"offsets": state["offsets"], "anew": True}
    return state["ids"], Loader(connection, tenant_id, ACTOR, _ROWS, {"archive": manifest.id}, given)
