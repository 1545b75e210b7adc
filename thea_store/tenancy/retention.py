"""How long rows are kept: policies that an administrator sets, and that workers carry out."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field

from thea_store.database import NOBODY, Executor
from thea_store.errors import InvalidArgumentError, NotFoundError
from thea_store.queries.arguments import Key, check, check_tenant
from thea_store.queries.file import SqlFile
from thea_store.repositories.records import Record

__all__ = ["Retention", "RetentionPolicy"]

Rule = Literal["deleted", "old", "inactive"]

_Keep = Annotated[timedelta, Field(ge=timedelta(0), le=timedelta(days=36_525))]

_CONVERSATIONS = "conversations"
_LOGS = ("audit_log", "activity_log.administration", "activity_log.reads")


class RetentionPolicy(Record, frozen=True):
    """For how long a table's rows are kept."""

    tenant: str | None
    """The tenant that it is for; `None` for all that have none of their own."""
    table_name: str
    """As in the audit log: `notes`, `audit_log`, `planner.tasks`; and `activity_log.reads` or
    `activity_log.administration`, the two logs of thea.activity_log."""
    rule: Rule
    """What the time is counted from: `deleted`, the moment when a row was deleted; `old`, when it was made; `inactive`,
    the last activity of a conversation, which is then closed."""
    keep: timedelta | None
    """`None` for ever."""


SQL = SqlFile("retention")

GET_POLICIES = SQL.query("get_policies", RetentionPolicy)
SET_POLICY = SQL.query("set_policy", RetentionPolicy, tenant=Key | None, table_name=Key, rule=Rule, keep=_Keep | None)
REMOVE_POLICY = SQL.query("remove_policy", RetentionPolicy, tenant=Key | None, table_name=Key, rule=Rule)


class Retention:
    """The policies of retention, for a login in the group `thea_admin`, which sees no row of a tenant.

    What they say is done by workers: `thea-store work retention`, and `work inactive` for the rule `inactive`.
    """

    def __init__(self, db: Executor, tables: Iterable[str]) -> None:
        """`tables` are the full names of the tables of tenants; the library's own go by their short ones."""
        self._db = db
        self._tables = frozenset(table.removeprefix("thea.") for table in tables).union(_LOGS)

    async def get_all(self) -> list[RetentionPolicy]:
        """All policies: first those of all tenants, then those of one; empty when there are none."""
        return await self._db.fetch_all(GET_POLICIES, NOBODY)

    async def keep(
        self, table: str, rule: Rule, keep: timedelta | None, *, tenant_id: str | None = None
    ) -> RetentionPolicy:
        """Keep a table's rows for so long and then remove them; `None` keeps them for ever.

        For one tenant, or else for all that have no policy of their own. It replaces the policy that there was.
        `InvalidArgumentError` for a table that is not known, or that the rule cannot be about.
        """
        self._check(table, rule)
        values = {"tenant": tenant_id if tenant_id is None else check_tenant(tenant_id), "keep": keep}
        return await self._db.fetch_one(SET_POLICY, NOBODY, table_name=table, rule=rule, **values)

    async def remove(self, table: str, rule: Rule, *, tenant_id: str | None = None) -> RetentionPolicy:
        """The policy that was removed; that of all tenants counts again. `NotFoundError` when there was none."""
        self._check(table, rule)
        tenant = tenant_id if tenant_id is None else check_tenant(tenant_id)
        removed = await self._db.fetch_optional(REMOVE_POLICY, NOBODY, tenant=tenant, table_name=table, rule=rule)
        if removed is None:
            raise NotFoundError("retention: there is no such policy")
        return removed

    def _check(self, table: object, rule: object) -> None:
        if not isinstance(table, str) or table not in self._tables:
            raise InvalidArgumentError("table", f"is not known; these are: {', '.join(sorted(self._tables))}")
        check("rule", rule, Rule)
        if table in _LOGS and rule != "old":
            raise InvalidArgumentError("rule", "must be `old` for a log, whose entries are never deleted")
        if rule == "inactive" and table != _CONVERSATIONS:
            raise InvalidArgumentError("rule", "must be `deleted` or `old`: only conversations are inactive")
