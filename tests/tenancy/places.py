"""A database as an operator has it who takes tenants out and brings them in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg

from tests.support.twins import snapshot
from thea_store.postgres.url import DatabaseUrl
from thea_store.testing import TestDatabase

__all__ = ["Place"]


@dataclass(frozen=True)
class Place:
    """A database, by the logins that an operator has for it."""

    database: TestDatabase
    superuser: psycopg.Connection[Any]

    @property
    def mover(self) -> DatabaseUrl:
        return DatabaseUrl.parse(self.database.url_of("thea_mover"))

    @property
    def service(self) -> DatabaseUrl:
        return DatabaseUrl.parse(self.database.app_url)

    def rows(self, tenant: str, *, with_log: bool = True) -> dict[str, list[tuple[Any, ...]]]:
        """All that the tenant has, without the entries about the tenant as a whole."""
        found = snapshot(self.superuser, tenant)
        entries = found.pop("audit_log")
        return found | ({"audit_log": [row for row in entries if "tenant" not in row]} if with_log else {})

    def entries(self, tenant: str) -> list[tuple[str, str, dict[str, Any]]]:
        """The entries about the tenant as a whole: who, what, and what they say."""
        return self.superuser.execute(
            "select actor, action, coalesce(after, before) from thea.audit_log"
            " where tenant_id = %s and table_name = 'tenant' order by at",
            [tenant],
        ).fetchall()
