"""Which tenants have something to do: all that a worker's login, in the group `thea_worker`, may learn of tenants."""

from __future__ import annotations

from thea_store.database import NOBODY, Executor
from thea_store.queries.arguments import Key, Limit, check_tenant
from thea_store.queries.file import SqlFile

__all__ = ["Work"]

SQL = SqlFile("work")

TENANTS_WITH_WORK = SQL.query("tenants_with_work", str, kinds=list[Key], after=Key | None, limit=Limit)
TENANTS_WITH_EXPIRED_ROWS = SQL.query("tenants_with_expired_rows", str, after=Key | None, limit=Limit)
TENANTS_WITH_UNCOUNTED_MESSAGES = SQL.query("tenants_with_uncounted_messages", str, after=Key | None, limit=Limit)
FOLD_MESSAGES = SQL.query("fold_messages", bool, tenant=str)
EXPIRE_ROWS = SQL.query("expire_rows", bool, tenant=str)
EXPIRE_AUDIT = SQL.query("expire_audit", bool, tenant=str)
CHAIN_READS = SQL.query("chain_reads", bool, tenant=str)
EXPIRE_ACTIVITY = SQL.query("expire_activity", bool, tenant=str)


class Work:
    """The tenants that have something to do now, by the server's clock. For a login in the group `thea_worker`.

    The `tenants_…` calls return names alone, in one order, and skip tenants that are suspended or have ended, but for
    what is to be done to logs. Pages follow each other by `after`, the last name of the page before. `expire` removes
    rows.
    Another login gets `InsufficientPrivilegeError`.
    """

    def __init__(self, db: Executor) -> None:
        self._db = db

    async def tenants_with(self, *kinds: str, limit: int = 100, after: str | None = None) -> list[str]:
        """The tenants that have work of any of these kinds; empty when none has.

        A migration offers a kind: `select thea.offer_work('planner.due_tasks', 'planner.tasks_due_at_idx')`.
        `InvalidArgumentError` for one that none offers.
        """
        return await self._db.fetch_all(TENANTS_WITH_WORK, NOBODY, kinds=list(kinds), after=after, limit=limit)

    async def tenants_with_expired_rows(self, *, limit: int = 100, after: str | None = None) -> list[str]:
        """The tenants that have rows, or entries of logs, whose time is over by a retention policy.

        Also those that have reads which are noted and not in the chain of their log yet.
        """
        return await self._db.fetch_all(TENANTS_WITH_EXPIRED_ROWS, NOBODY, after=after, limit=limit)

    async def tenants_with_uncounted_messages(self, *, limit: int = 100, after: str | None = None) -> list[str]:
        """The tenants that have five thousand messages, or more, which are two hours old and not counted yet."""
        return await self._db.fetch_all(TENANTS_WITH_UNCOUNTED_MESSAGES, NOBODY, after=after, limit=limit)

    async def fold_messages(self, tenant_id: str) -> bool:
        """Count some of the tenant's messages, so that `messages.count` and `get_statistics` need not read them.

        Whether there may be more to do; it is false too while a transaction that is older than the last look goes on,
        or where another worker is at it. Answers are the same before and after. A piece is up to 100,000 messages, and
        commits by itself. It works for any tenant; of those that are not named above it is not worth the while.
        """
        return await self._db.fetch_value(FOLD_MESSAGES, NOBODY, tenant=check_tenant(tenant_id))

    async def expire(self, tenant_id: str) -> bool:
        """Remove one batch of the tenant's rows whose time is over, and one of entries of each of its logs.

        Before that, a batch of reads that are noted comes into the chain of the activity log. Whether there was one;
        then there may be another. A batch has up to 500 rows of one table, and commits by itself. The audit log tells
        what was removed, with the actor `retention`, and the activity log what was removed of it.
        """
        tenant = check_tenant(tenant_id)
        steps = (EXPIRE_ROWS, EXPIRE_AUDIT, CHAIN_READS, EXPIRE_ACTIVITY)
        return any([await self._db.fetch_value(step, NOBODY, tenant=tenant) for step in steps])
