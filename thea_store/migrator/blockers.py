"""Who a migration waits for, asked while it waits: afterwards nobody can tell."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg

from thea_store.migrator.statements import BLOCKERS

__all__ = ["watch"]

# Often enough to meet every wait that comes to its end, though a machine is slow.
_LOOKS = 4


@contextmanager
def watch(waiting: psycopg.Connection, parameters: dict[str, Any], lock_timeout: float) -> Iterator[list[str]]:
    """A list that holds a phrase for each session that this connection waited for, the last time it waited.

    It is filled by another connection with these parameters, made when the block takes long enough to be waiting.
    Where none can be made, the list stays empty.
    """
    found: list[str] = []
    pid = waiting.info.backend_pid
    over = threading.Event()

    def look() -> None:
        if over.wait(lock_timeout / _LOOKS):
            return
        with suppress(psycopg.Error), psycopg.connect(**parameters, autocommit=True) as connection:
            while True:
                if rows := connection.execute(BLOCKERS, {"pid": pid}).fetchall():
                    found[:] = [_phrase(*row) for row in rows]
                if over.wait(lock_timeout / _LOOKS):
                    return

    thread = threading.Thread(target=look, name="thea-store blockers", daemon=True)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join(1)  # one that is still connecting ends by itself


def _phrase(pid: int, user: str | None, application: str | None, since: object, table: str | None) -> str:
    place = f", which holds {table}" if table else ""
    if not pid:
        return f"a prepared transaction (pg_prepared_xacts){place}"
    # Of other logins' sessions the server shows a migrator no times.
    begun = f", in a transaction since {since}" if since else ""
    return f"server process {pid} ({application or 'without an application name'}, login {user}{begun}){place}"
