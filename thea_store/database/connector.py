"""How a connection is made: which host is asked, how long it may be silent, what the server is like.

A store has one `Connector` for each server. It finds out with its connections whether there is a pooler in between,
whether the server is a Citus cluster, and whether messages may go before a statement's own (`wire`).

- A host that refuses may be starting, or about to become the primary: the hosts are asked again for a while.
- A host that keeps silent costs each attempt its patience. So it is asked last; and once a server has answered, silence
  is not waited out again: the call that needs a connection says so.
"""

from __future__ import annotations

import asyncio
import random
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import asyncpg
from pydantic_core import to_json

from thea_store.database import wire
from thea_store.database.connection import Connection
from thea_store.database.driver import connect_arguments
from thea_store.database.driver_errors import is_misconfigured, is_silent, is_unavailable
from thea_store.database.failures import unreachable
from thea_store.database.keepalive import probe_when_idle
from thea_store.database.origin import cut_off_in_children
from thea_store.errors import StoreError, StoreUnavailableError, UnsafeRoleError
from thea_store.postgres.encoding import UTF8, wrong_encoding
from thea_store.postgres.password import PasswordSource, with_password
from thea_store.postgres.session import SHOW_SHARDS, STATE, UNSAFE_REPLICATION_ROLE, start_up_settings, which_tenants
from thea_store.postgres.url import DatabaseUrl, Host
from thea_store.queries.json_text import JsonText, parse

__all__ = ["Connector"]

# Seconds. A server that works answers at once what costs it nothing: `begin`, `set`, `rollback`, and a new connection,
# which takes a few round trips more. So these have bounds of their own, at most so long and at least that long.
_LONGEST_PROMPT = 2.0
_LONGEST_CONNECT = 5.0
_SHORTEST_PROMPT = 1.0
# The server ends a statement after the command timeout. The driver gives up this much later.
_GRACE = 1.0
# A refused connection is tried again for as long as a server takes to start: at most so many seconds, and where it has
# answered before, at most so many command timeouts.
_STARTING = 10.0
_STARTING_AGAIN = 2
# Seconds from one attempt to the next while a server may come up, times the number of those that try, because each
# attempt costs every standby a login.
_BETWEEN_ATTEMPTS = 0.25

# Seconds until a password that changes is asked for again, and again.
_CHANGING = (0.1, 0.2, 0.4, 0.8)


@dataclass
class Connector:
    """Makes connections to the first host that takes one, with patience while a server starts."""

    address: DatabaseUrl
    command_timeout: float
    direct_only: bool
    """Refuse a pooler in between: a session's tenant would reach another client there."""
    password: PasswordSource | None = None
    """Asked for the password at each new connection, where it is not the address's own."""
    standby: bool = False
    """Whether it is one of the replicas: another server takes its place, so it is not waited for."""
    tenants: str = "any"
    """Which tenants its sessions take: `any`, or only `registered` ones."""
    settings: Mapping[str, str] = field(init=False)
    """What a session starts with besides the fixed settings; behind a pooler, each transaction begins with it."""
    pooled: bool = False
    """Found out at the first connection: a pooler refuses start-up settings that it does not know."""
    distributed: bool = False
    """Found out there, too: on Citus a tenant reaches the workers by a `set local` in a transaction block alone."""
    rides_along: bool | None = None
    """Whether messages may go before a statement's own; `None` until the first connection has shown it."""
    reads_committed: bool = True
    """Whether a transaction without a `begin` is read committed."""
    answered_last: int = 0
    answered: bool = False
    """Whether it ever answered: while a store opens, a silent server is tried again like one that refuses."""
    silence: Exception | None = None
    """How a host kept silent the last time, where one did: then the next attempt is short, and there are few."""
    _silent: set[tuple[Host, ...]] = field(default_factory=set)
    """The hosts that kept silent when they were last asked."""
    _between_attempts: int = 0
    """How many wait for their next attempt."""

    def __post_init__(self) -> None:
        timeout = str(round(self.command_timeout * 1000))
        self.settings = {"statement_timeout": timeout, **which_tenants(self.tenants)}

    @property
    def prompt(self) -> float:
        """Seconds within which a server that works answers what costs it nothing."""
        return max(_SHORTEST_PROMPT, min(_LONGEST_PROMPT, self.command_timeout / 2))

    @property
    def at_once(self) -> bool:
        """Whether a single call's tenant goes in the call's own message; otherwise each call is a block."""
        return bool(self.rides_along) and not self.distributed and self.reads_committed

    @property
    def reads_at_once(self) -> bool:
        """Whether a single read goes as a block in one message.

        A write does not, because its commit has to be told from what fails before that, and surely wrote nothing.
        """
        return bool(self.rides_along) and self.distributed

    async def __call__(self) -> Connection:
        """A new connection; `StoreUnavailableError` names the server that cannot be reached."""
        started = time.monotonic()
        for attempt in range(1000):
            try:
                connection = await self._equipped(await self._any_host())
            except Exception as error:
                if is_silent(error):
                    self.silence = error
                is_final = self.standby or not self._may_come_up(error)
                left = started + self._longest_wait() - time.monotonic()
                if is_final or left <= 0:
                    if isinstance(error, StoreError):
                        raise
                    # Waited for in vain beside a silent host: the pool has to learn of that one.
                    reason = error if is_final else self.silence or error
                    raise unreachable(reason, str(self.address)) from reason
                await self._until_next_attempt(attempt, left)
            else:
                self.answered = True
                return connection
        raise StoreUnavailableError(f"no PostgreSQL answers at {self.address}")

    async def _until_next_attempt(self, attempt: int, longest: float) -> None:
        """Wait up to `longest` seconds, and longer where many try: what the first one opens serves the others too."""
        self._between_attempts += 1
        pause = min(1.0, _BETWEEN_ATTEMPTS * self._between_attempts, 0.05 * 2**attempt) * random.uniform(0.5, 1.0)
        try:
            await asyncio.sleep(min(pause, longest))
        finally:
            self._between_attempts -= 1

    async def _equipped(self, raw: asyncpg.Connection[asyncpg.Record]) -> Connection:
        connection = Connection(raw, self.prompt, None if self.pooled else self.prompt)
        try:
            async with asyncio.timeout(self._patience()):
                if self.rides_along is None:
                    self.rides_along = wire.driver_is_known() and await connection.rides_along()
                if self.rides_along and not self.pooled:
                    await connection.take_settings_by_message(for_session=self.direct_only)
        except BaseException:
            raw.terminate()
            raise
        return connection

    def _may_come_up(self, error: BaseException) -> bool:
        # Refused, no socket yet, "the database system is starting up", no primary among the hosts yet.
        if isinstance(error, StoreError) or is_misconfigured(error):
            return False
        if is_silent(error):
            return not self.answered
        return isinstance(error, (ConnectionError, FileNotFoundError)) or is_unavailable(error)

    def _longest_wait(self) -> float:
        """Seconds for which a server that may come up is waited for; a call that met with silence has waited before."""
        if not self.answered:
            return _STARTING
        patient = _STARTING_AGAIN * max(self.command_timeout, _SHORTEST_PROMPT)
        return min(_STARTING, patient if self.silence is None else self.command_timeout + _GRACE)

    def _patience(self) -> float:
        if not self.answered and not self.standby:
            return _LONGEST_CONNECT
        if self.silence is not None:
            return _SHORTEST_PROMPT
        # A pooler may let a client wait until it has a server for it.
        longest = self.command_timeout if self.pooled else min(_LONGEST_CONNECT, self.command_timeout / 2)
        return max(_SHORTEST_PROMPT, longest)

    async def _any_host(self) -> asyncpg.Connection[asyncpg.Record]:
        # The driver gives all hosts one timeout together, so that one silent host starves the rest.
        # The one that answered last comes first and silent ones come last, so that few connections wait for those.
        hosts = self.address.each_host() or [self.address]
        if self.address.options.get("load_balance_hosts") == "random":
            random.shuffle(hosts)
        else:
            hosts = hosts[self.answered_last :] + hosts[: self.answered_last]
        hosts.sort(key=lambda host: host.hosts in self._silent)
        silence: Exception | None = None
        refusal: Exception | None = None
        for host in hosts:
            try:
                connection = await self._connect(host)
            except (OSError, asyncpg.PostgresError, asyncpg.InternalClientError, asyncpg.InterfaceError) as error:
                if is_silent(error):
                    silence = error
                    self._silent.add(host.hosts)
                else:
                    refusal = error
                    self._silent.discard(host.hosts)
            else:
                self.silence = None
                self._silent.discard(host.hosts)
                self.answered_last = self.address.hosts.index(host.hosts[0]) if host.hosts else 0
                return connection
        self.silence = silence
        # A host that refuses may become the primary, whatever the silent ones do.
        raise refusal or silence or AssertionError

    async def _connect(self, host: DatabaseUrl) -> asyncpg.Connection[asyncpg.Record]:
        if self.pooled:
            connection = await self._open(host, {}, statement_cache_size=0)
            await self._took_settings(connection)
            return connection
        server_settings = start_up_settings(jit="off", **self.settings)
        try:
            connection = await self._open(host, server_settings, statement_cache_size=1024)
        except asyncpg.PostgresError as error:
            if "unsupported startup parameter" not in str(error):
                raise
            if self.direct_only:
                raise self._pooler() from error
            self.pooled = True
            return await self._connect(host)
        if await self._took_settings(connection):
            return connection
        connection.terminate()
        if self.direct_only:
            raise self._pooler()
        self.pooled = True
        return await self._connect(host)

    async def _took_settings(self, connection: asyncpg.Connection[asyncpg.Record]) -> bool:
        """Whether the start-up settings reached the server; a pooler drops them, perhaps silently.

        `UnsafeRoleError` where triggers would not fire, `StoreError` where the database cannot hold every text.
        Then the connection ends.
        """
        try:
            [state] = await connection.fetch(STATE, timeout=self._patience())
            if state["encoding"] != UTF8:
                raise StoreError(f"{self.address}: {wrong_encoding(state['encoding'])}")
            if state["replication_role"] != "origin":
                raise UnsafeRoleError(f"{self.address}: {UNSAFE_REPLICATION_ROLE}")
            if state["is_distributed"] and self.direct_only:
                raise StoreUnavailableError(
                    f"{self.address} is a Citus cluster, whose workers do not learn a session's tenant, so that every "
                    "read there would find nothing: set DATABASE_TENANT_SCOPE=transaction"
                )
            if state["is_distributed"] and state["arrived"]:
                await connection.execute(SHOW_SHARDS, timeout=self._patience())
        except BaseException:
            connection.terminate()
            raise
        self.distributed = state["is_distributed"]
        self.reads_committed = state["isolation"] == "read committed"
        return bool(state["arrived"])

    def _pooler(self) -> StoreUnavailableError:
        return StoreUnavailableError(
            f"there is a pooler at {self.address}, where a session's tenant could reach another client: "
            "set DATABASE_TENANT_SCOPE=transaction"
        )

    async def _open(
        self, host: DatabaseUrl, server_settings: dict[str, str], *, statement_cache_size: int
    ) -> asyncpg.Connection[asyncpg.Record]:
        named = host.with_options(fallback_application_name="thea_store", **self._attributes())
        patience, named = named.without_option("connect_timeout")

        async def log_in(address: DatabaseUrl) -> asyncpg.Connection[asyncpg.Record]:
            return await asyncpg.connect(
                **connect_arguments(address, server_settings),
                timeout=float(patience or 0) or self._patience(),
                command_timeout=self.command_timeout + _GRACE,
                statement_cache_size=statement_cache_size,
                max_cached_statement_lifetime=0,
            )

        connection = await self._log_in(log_in, named)
        connected = _socket_of(connection)
        cut_off_in_children(connection, connected)
        try:
            probe_when_idle(connected, max(self.command_timeout, _SHORTEST_PROMPT), host.options)
            async with asyncio.timeout(self._patience()):
                await connection.set_type_codec(
                    "jsonb", schema="pg_catalog", encoder=_encode, decoder=_decode, format="binary"
                )
        except BaseException:
            connection.terminate()
            raise
        return connection

    async def _log_in(
        self, log_in: Callable[[DatabaseUrl], Awaitable[asyncpg.Connection[asyncpg.Record]]], address: DatabaseUrl
    ) -> asyncpg.Connection[asyncpg.Record]:
        asked = await with_password(address, self.password)
        # A password that was changed in between is asked for once more; the same one would be refused again. Whoever
        # gives it may learn of the change a little later than the server, so one that was right before has some time.
        pauses = iter((0.0, *_CHANGING) if self.answered and self.password is not None else (0.0,))
        while True:
            try:
                return await log_in(asked)
            except asyncpg.InvalidPasswordError:
                refused = asked
                while asked == refused:
                    if (pause := next(pauses, None)) is None:
                        raise
                    await asyncio.sleep(pause)
                    asked = await with_password(address, self.password)

    def _attributes(self) -> dict[str, str]:
        if self.standby:
            return {"target_session_attrs": "prefer-standby"}
        return {"target_session_attrs": "read-write"} if len(self.address.hosts) > 1 else {}


def _socket_of(connection: asyncpg.Connection[asyncpg.Record]) -> socket.socket:
    # There is no public way to it.
    found: socket.socket = connection._transport.get_extra_info("socket")  # type: ignore[attr-defined]  # noqa: SLF001
    return found


def _encode(value: object) -> bytes:
    # Times inside become ISO 8601. What JSON cannot hold was refused by the arguments' types.
    return b"".join((b"\x01", *(value.pieces if isinstance(value, JsonText) else (to_json(value),))))


def _decode(payload: bytes) -> Any:
    return parse(payload[1:])
