"""One call outside a transaction: its statement, sent to one server in one message.

The statement is a transaction by itself. What has to go before it, in the same message, is put together here: the
tenant, who acts, how long it may run.

- In *session* scope a connection carries its tenant from call to call. Another tenant goes before the statement, once.
- In *transaction* scope each statement has its tenant before it. Behind a pooler, that message brings all the settings
  of the session, too. On a Citus cluster it is a transaction's block, and has its end, too.

Where the driver or the server cannot do so, `thea_store.database.database` begins a transaction for the statement.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import asyncpg

from thea_store.database import wire
from thea_store.database.acting import UNSAID, Acting
from thea_store.database.connection import BEGIN, Connection, set_local
from thea_store.database.driver_errors import answered, is_of_other_isolation
from thea_store.database.executor import Row
from thea_store.database.failures import translate
from thea_store.database.limits import limit_time
from thea_store.database.server import Server
from thea_store.postgres.session import fixed_at_once, local_statements
from thea_store.queries.file import Query

__all__ = ["Call", "in_one_message", "in_session"]

_COMMIT = wire.statement("commit")


class Call(NamedTuple):
    """One statement, and what the server does before it in the same transaction."""

    query: Query[Any]
    tenant: str
    arguments: Sequence[object]
    before: Sequence[str] = ()
    who: Acting = UNSAID
    """On whose behalf it is run."""
    longest_ms: int | None = None
    """For how many milliseconds it may run, where its tenant has a limit."""
    has_one_plan: bool = False
    """Whether the server is to take the plan that it keeps for all values."""


async def in_session(server: Server, call: Call) -> Sequence[Row]:
    """The rows of the statement, in a session that carries its tenant from then on."""
    connection = await server.pool.acquire(call.tenant)
    connection.sent, is_ready = False, False
    try:
        is_new = connection.tenant != call.tenant
        # Telling the tenant once more finds out, before the statement is sent, whether the connection is dead.
        if connection.is_doubtful() or (is_new and not server.connector.rides_along):
            await connection.carry(call.tenant)
        is_ready = True
        if not server.connector.rides_along:
            rows = await _send_apart(connection, call)
        else:
            if call.who != UNSAID:
                await connection.take_actors_by_message()
            message = _actors_message(call.who) + _message(call)
            rows = await connection.fetch_for(call.tenant, message, call.query.text, call.arguments)
    except BaseException as error:
        if connection.dangling:  # what went before would be the next call's
            connection.raw.terminate()
        server.take_back(connection, error)
        if isinstance(error, Exception):
            query, longest_ms = call.query, call.longest_ms if connection.sent else None
            unknown = is_ready and query.writes
            raise translate(error, query.name, unknown=unknown, prompt=not is_ready, longest_ms=longest_ms) from error
        raise
    server.pool.release(connection)
    return rows


async def _send_apart(connection: Connection, call: Call) -> Sequence[Row]:
    """The statement in a message of its own, where nothing may go before it there."""
    if call.before:
        await connection.raw.execute("; ".join(call.before))
    return await connection.fetch(call.query.text, call.arguments)


async def in_one_message(server: Server, call: Call) -> Sequence[Row]:
    """The rows of the statement, with its tenant in the same message and for this message alone."""
    query, tenant, arguments, _, who, longest_ms, _ = call
    connection = await server.pool.acquire(tenant)
    connection.sent, is_doubtful = False, connection.is_doubtful()
    try:
        if is_doubtful:
            await connection.catch_up()
            is_doubtful = False
        if connection.lacks_settings_for(query.text):
            opening = ["begin", *local_statements(**server.connector.settings), *set_local(tenant_id=tenant)]
            await connection.describe(opening, query.text)
        if who != UNSAID and not (server.connector.pooled or server.connector.distributed):
            await connection.take_actors_by_message()
        # Behind a pooler no plan is kept, and a coordinator has none for all values.
        keeps_plans = not (server.connector.pooled or server.connector.distributed)
        message = _tenants_message(server, tenant, who) + _message(call, keeps_plans=keeps_plans)
        after = _COMMIT if server.connector.distributed else b""
        rows = await connection.fetch_behind(message, query.text, arguments, after)
        if after and connection.raw.is_in_transaction():
            await connection.raw.execute("commit")
    except BaseException as error:
        if connection.dangling:  # what went before would be the next call's tenant
            connection.raw.terminate()
        try:
            if server.connector.distributed and answered(error):
                await _leave_block(connection)
        finally:
            server.take_back(connection, error)
        if isinstance(error, Exception):
            unknown, limit = connection.sent and query.writes, longest_ms if connection.sent else None
            failure = translate(error, query.name, unknown=unknown, prompt=is_doubtful, longest_ms=limit)
            if is_of_other_isolation(error):
                server.connector.reads_committed, failure.repeatable = False, True
            raise failure from error
        raise
    server.pool.release(connection)
    return rows


async def _leave_block(connection: Connection) -> None:
    """Roll the block of a call back that failed, so that it is over when its error is told."""
    if connection.raw.is_in_transaction():
        with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError):  # whoever takes it back finds it out
            await connection.raw.execute("rollback", timeout=connection.prompt)


def _tenants_message(server: Server, tenant: str, who: Acting) -> bytes:
    if server.connector.distributed:
        settings = local_statements(**server.connector.settings) if server.connector.pooled else []
        named = set_local(tenant_id=tenant, actor=who.actor, request_id=who.request_id)
        return b"".join(map(wire.statement, [BEGIN, *settings, *named]))
    if not server.connector.pooled:
        return wire.set_tenant(tenant) + _actors_message(who)
    # Nothing is prepared behind a pooler, and each transaction brings the settings of its own.
    return wire.statement(fixed_at_once(**{**server.connector.settings, "app.tenant_id": tenant, **who.settings}))


def _actors_message(who: Acting) -> bytes:
    """What tells the server who acts, in the transaction of the statement behind it; empty where nobody says so."""
    return wire.set_actor(who.actor or "", who.request_id or "") if who != UNSAID else b""


def _message(call: Call, *, keeps_plans: bool = True) -> bytes:
    """What the server does before the statement, in its transaction, besides the tenant and who acts."""
    message = wire.TAKE_ONE_PLAN if call.has_one_plan and keeps_plans else b""
    if call.before or call.longest_ms is not None:
        message += b"".join(map(wire.statement, [*call.before, *limit_time(call.longest_ms)]))
    return message
