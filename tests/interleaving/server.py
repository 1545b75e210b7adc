"""Behind the scenes: what the server itself says of rows, transactions and locks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psycopg

from tests.interleaving.model import Row, Rows


@dataclass(frozen=True)
class Server:
    """A superuser's connection, for which no row security counts."""

    connection: psycopg.Connection[Any]

    def rows(self, tenant: str) -> Rows:
        found = self.connection.execute(
            """
            select 'users', telegram_id::text, array[first_name, last_name], null, deleted_at, null, id
            from thea.users where tenant_id = %(tenant)s
            union all
            select 'notes', title, array[content], user_id, deleted_at, deleted_with, id
            from thea.notes where tenant_id = %(tenant)s
            union all
            select 'conversations', session_id, array[current_state], user_id, deleted_at, deleted_with, id
            from thea.conversations where tenant_id = %(tenant)s
            """,
            {"tenant": tenant},
        )
        return frozenset(
            Row(table, name, tuple(content), owner, (deleted_with or "self") if deleted_at else "", row_id)
            for table, name, content, owner, deleted_at, deleted_with, row_id in found
        )

    def entries(self, tenant: str) -> frozenset[tuple[str, int]]:
        """How many entries of the audit log each actor has; nobody's are those of single calls."""
        found = self.connection.execute(
            "select coalesce(actor, ''), count(*) from thea.audit_log where tenant_id = %s group by 1", [tenant]
        )
        return frozenset(found.fetchall())

    def backends(self) -> tuple[int, int, int]:
        """How many connections of stores there are, how many of them in a transaction, and the locks they hold."""
        found = self.connection.execute(
            """
            select count(*), count(*) filter (where state <> 'idle'), coalesce(sum(held.locks), 0)::int
            from pg_stat_activity
            left join lateral (select count(*) as locks from pg_locks l where l.pid = pg_stat_activity.pid) held on true
            where datname = current_database() and application_name = 'thea_store'
            """
        ).fetchone()
        assert found is not None
        connections, in_transaction, locks = found
        return connections, in_transaction, locks
