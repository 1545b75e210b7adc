"""The schema's migrations: what there is, what a database has of it, and the way up and down.

The files are yoyo's (`NNNN.name.sql`, with `NNNN.name.rollback.sql` beside it for the way back) and so
are the tables that remember them, so the plain `yoyo` command works on the same database. What this
package adds: a lock that ends with its process, each migration and its mark in one transaction,
checksums, a strict order, bounded waiting, and errors that name the file, the line and the remedy.

Everything here is synchronous; from a coroutine, call it through `asyncio.to_thread`.
"""

from __future__ import annotations

from thea_store.migrator.files import Lineage, Migration, available, listed
from thea_store.migrator.plan import Status
from thea_store.migrator.runner import migrate, pending, rollback, status

__all__ = ["Lineage", "Migration", "Status", "available", "listed", "migrate", "pending", "rollback", "status"]
