"""What must hold after a call was cut short, seen from the pool and from the server."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import psycopg

from thea_store import Store

__all__ = ["carries_what_its_pool_thinks", "no_backend_is_left", "settled"]

_PATIENCE = 20.0
_LASTING = ("Pool._sweep", "Replicas._watch")


async def settled(*stores: Store) -> None:
    """Wait until nothing runs any more but the pools' janitors, and every connection is back."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        others = [task for task in tasks if not any(name in repr(task.get_coro()) for name in _LASTING)]
        figures = [store._database.figures() for store in stores]
        if not others and all((one.idle, one.waiting) == (one.size, 0) for one in figures):
            return
        assert time.monotonic() < deadline, f"still running: {others}; not all connections are back: {figures}"
        await asyncio.wait(others, timeout=0.1) if others else await asyncio.sleep(0.001)


async def carries_what_its_pool_thinks(store: Store) -> None:
    """Each idle connection has the tenant on the server that the pool has noted, and no transaction."""
    for connection in [one for one in store._database._pool._idle if not one.raw.is_closed()]:
        carried = await connection.raw.fetchval("select current_setting('app.tenant_id')")
        assert carried == (connection.tenant or ""), "the pool takes the connection for another tenant's"
        assert not connection.raw.is_in_transaction()


async def no_backend_is_left(superuser: psycopg.Connection[Any], stores: Sequence[Store]) -> None:
    """Wait until the server has no connection but those of the stores, and these neither a transaction nor a lock."""
    deadline = time.monotonic() + _PATIENCE
    while True:
        pids = {one.raw.get_server_pid() for store in stores for one in store._database._pool._open}
        found = superuser.execute(_BACKENDS).fetchall()
        if {pid for pid, _, _ in found} <= pids and all(state == "idle" and not locks for _, state, locks in found):
            return
        assert time.monotonic() < deadline, f"left behind on the server: {found}, of the pools: {pids}"
        await asyncio.sleep(0.002)


_BACKENDS = """
select pid, state, exists (select from pg_locks where pg_locks.pid = a.pid)
from pg_stat_activity a
where datname = current_database() and usename <> current_user
"""
