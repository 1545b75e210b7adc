"""What goes before a statement in the driver's own message, so that both are one round trip and one transaction.

The driver ends a statement's messages with Sync. What is written to its socket just before rides in the same
message, and the server runs both in one transaction; its answers to what rode along are of kinds that the driver
passes over while it waits for the statement's. PostgreSQL manual, "Extended Query" and "Message Formats".

This leans on private parts of asyncpg, so it is used with the versions it was tried with, and only after a connection
has shown that it works. Otherwise each message goes by itself, as the driver's public calls send it.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import Any

import asyncpg

__all__ = [
    "ONE_PLAN",
    "ONE_PLAN_NAME",
    "SET_ACTOR",
    "SET_ACTOR_NAME",
    "SET_TENANT_NAME",
    "TAKE_ONE_PLAN",
    "Joined",
    "driver_is_known",
    "set_actor",
    "set_tenant",
    "statement",
    "tenant_setter",
]

_KNOWN = "0.32."
"""The versions of asyncpg that this was tried with; the bound in `pyproject.toml` says the same."""

SET_TENANT_NAME = "thea_tenant"
SET_ACTOR_NAME = "thea_actor"
SET_ACTOR = (
    "select from (select set_config('app.actor', $1, true), set_config('app.request_id', $2, true) offset 0)"
    " as set (actor, request) where actor = '' and request = ''"
)
"""Says who acts in the transaction; it returns no row, because one of the two is not empty."""

ONE_PLAN_NAME = "thea_one_plan"
ONE_PLAN = (
    "select from (select set_config('plan_cache_mode', 'force_generic_plan', true)) as set (mode) where mode is null"
)
"""Lets the transaction's statements have the plan that the server keeps for all values; it returns no row."""

_SYNC = b"S" + struct.pack("!i", 4)
_NO_PARAMETERS = struct.pack("!hhh", 0, 0, 0)
_ALL_ROWS = struct.pack("!i", 0)


def tenant_setter(*, for_session: bool) -> str:
    """Gives the session or the transaction its tenant, and returns no row: the statement's rows are the only ones."""
    is_local = "false" if for_session else "true"
    return f"select from (select set_config('app.tenant_id', $1, {is_local})) as set (tenant) where tenant is null"


def driver_is_known() -> bool:
    """Whether the driver is of a version that this was tried with."""
    return asyncpg.__version__.startswith(_KNOWN)


def statement(sql: str) -> bytes:
    """Parse, bind and execute a statement without parameters that returns no row."""
    parse = _message(b"P", b"\0" + sql.encode() + b"\0" + struct.pack("!h", 0))
    return parse + _message(b"B", b"\0\0" + _NO_PARAMETERS) + _message(b"E", b"\0" + _ALL_ROWS)


@lru_cache(maxsize=1024)
def set_tenant(tenant_id: str) -> bytes:
    """Bind and execute what `tenant_setter` gives, which was prepared under its name."""
    return _prepared(SET_TENANT_NAME, tenant_id)


def set_actor(actor: str, request_id: str) -> bytes:
    """Bind and execute `SET_ACTOR`, which was prepared under its name; an empty text says nothing."""
    return _prepared(SET_ACTOR_NAME, actor, request_id)


class Joined:
    """Puts a message before the next one that the driver writes, and another at its end, so that all go out at once.

    Where the event loop's transports cannot be changed, as those of uvloop, the first goes out by itself: they join by
    themselves what is written in one turn of the loop. The other does not go out then.
    """

    __slots__ = ("_after", "_before", "_is_changed", "_is_out", "_transport")

    def __init__(self, transport: Any, before: bytes, after: bytes = b"") -> None:
        self._transport, self._before, self._is_out, self._is_changed = transport, before, False, False
        self._after = after
        if not before:
            return
        try:
            transport.write = self._write
        except AttributeError:
            self._is_out = True
            transport.write(before)
        else:
            self._is_changed = True

    def _write(self, message: bytes) -> None:
        self.end()
        self._is_out = True
        if self._after and message[-len(_SYNC) :] == _SYNC:
            message = b"".join((message[: -len(_SYNC)], self._after, _SYNC))
        self._transport.write(b"".join((self._before, message)))

    def end(self) -> bool:
        """Leave the transport as it was; whether the message went out."""
        if self._is_changed:
            del self._transport.write
            self._is_changed = False
        return self._is_out


def _prepared(name: str, *texts: str) -> bytes:
    values = [text.encode() for text in texts]
    bind = b"\0" + name.encode() + b"\0" + struct.pack("!hh", 0, len(values))
    bind += b"".join(struct.pack("!i", len(value)) + value for value in values)
    return _message(b"B", bind + struct.pack("!h", 0)) + _message(b"E", b"\0" + _ALL_ROWS)


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!i", len(body) + 4) + body


TAKE_ONE_PLAN = _prepared(ONE_PLAN_NAME)
"""Binds and executes `ONE_PLAN`, which was prepared under its name."""
