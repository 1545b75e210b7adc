"""What stands beside the database: a pooler in between, the migrator's login, the replica."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from psycopg import Connection

from thea_store.admin.doctor.findings import CheckContext, Verdict, ok, problem, quoted, warning
from thea_store.database.connector import Connector
from thea_store.postgres.operator import read_only
from thea_store.settings import Settings

__all__ = ["has_pooler", "migrator", "pooler", "replica"]

_LAG = 10.0


def has_pooler(settings: Settings) -> bool:
    """Whether a pooler is in between, told by what a service's own connector meets.

    `StoreUnavailableError` when that cannot connect.
    """
    connector = Connector(settings.address(), command_timeout=10, direct_only=False)

    async def ask() -> bool:
        connection = await connector()
        with suppress(Exception):  # it has told what was asked
            await connection.raw.close(timeout=5)
        return connector.pooled

    return asyncio.run(ask())


def pooler(context: CheckContext) -> Sequence[Verdict]:
    """Whether the tenant reaches the server in a way that this connection allows."""
    scope = context.settings.tenant_scope
    if not context.pooled:
        return [ok(f"none is in between, and the tenant's scope is the {scope}")]
    if scope == "transaction":
        return [ok("one is in between, and the tenant's scope is the transaction")]
    found = "one is in between, where a session's tenant could reach another client"
    return [problem(found, "set DATABASE_TENANT_SCOPE=transaction, or give the server's own address")]


_MIGRATOR = """
select current_user::text, r.rolsuper or r.rolcreaterole or exists (
  select from pg_roles o where o.rolname = 'thea_owner' and pg_has_role(r.oid, o.oid, 'member')
)
from pg_roles r
where r.rolname = current_user
"""


def migrator(context: CheckContext) -> Sequence[Verdict]:
    """Whether the migrator's login may do its work."""
    [(name, may)] = context.ask(_MIGRATOR)
    login = quoted(name)
    if may:
        return [ok(f"{login} may change the schema")]
    fix = f"`grant thea_owner to {login}`, or before the first migration `alter role {login} createrole`"
    return [problem(f"{login} may not change the schema", fix)]


_WRITTEN = "select case when not pg_is_in_recovery() then pg_current_wal_lsn()::text end"
# Where all is replayed there is no lag, however long ago the last transaction was.
_REPLAYED = """
select pg_is_in_recovery(), pg_last_wal_replay_lsn() >= %(written)s::pg_lsn,
  extract(epoch from now() - pg_last_xact_replay_timestamp())::double precision
"""


def replica(context: CheckContext, primary: Connection[Any] | None) -> Sequence[Verdict]:
    """Whether the replica is one, and follows; the second only where the primary answers, too."""
    written = None
    if primary is not None:
        with read_only(primary):
            [(written,)] = primary.execute(_WRITTEN).fetchall()
    [(is_standby, caught_up, seconds)] = context.ask(_REPLAYED, written=written)
    if not is_standby:
        return [warning("DATABASE_REPLICA_URL leads to a primary", "give a standby's URL, or leave it out")]
    if written is None:
        return [ok("a standby")]
    if caught_up or (seconds is not None and seconds <= _LAG):
        return [ok("a standby, which follows")]
    behind = "has replayed nothing yet" if seconds is None else f"is {seconds:,.0f} s behind"
    fix = "look at its log, and on the primary at pg_stat_replication: does it still receive?"
    return [warning(f"the standby {behind}", fix)]
