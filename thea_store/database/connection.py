"""One server connection that remembers its tenant, and how one is made."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
from pydantic_core import from_json, to_json

from thea_store.database.driver import connect_arguments
from thea_store.database.failures import is_misconfigured, is_silent, is_unavailable, unreachable
from thea_store.database.origin import cut_off_in_children
from thea_store.errors import StoreError, StoreUnavailableError, UnsafeRoleError
from thea_store.postgres.encoding import UTF8, wrong_encoding
from thea_store.postgres.password import PasswordSource, with_password
from thea_store.postgres.session import STATE, UNSAFE_REPLICATION_ROLE, literal, start_up_settings, which_tenants
from thea_store.postgres.url import DatabaseUrl
from thea_store.queries.binding import Json

__all__ = ["Connection", "Connector", "literal", "set_local"]

# Seconds. A server that works answers at once what costs it nothing: a new connection, `begin`, `set`, `rollback`. So
# these have a bound of their own, at most this long and at least that long.
_LONGEST_PROMPT = 5.0
_SHORTEST_PROMPT = 1.0
# The server ends a statement after the command timeout. The driver gives up this much later.
_GRACE = 1.0
# A refused connection is tried again for as long as a server takes to start.
_STARTING = 10.0

# Seconds: an idle connection is probed this early, then this often. A connection whose data or probes nobody
# acknowledges for so long is dead: its host is gone, or a firewall has forgotten it.
_PROBE_AFTER = 15
_PROBE_EVERY = 5
_PROBES = 3
_UNACKNOWLEDGED = 10.0


@dataclass(slots=True, eq=False)
class Connection:
    """A driver's connection and the tenant that its session carries; `None` is none, or not known."""

    raw: asyncpg.Connection[asyncpg.Record]
    prompt: float = _LONGEST_PROMPT
    """Seconds within which the server answers what costs it nothing."""
    prompt_begin: float | None = _LONGEST_PROMPT
    """The same for `begin`; `None` where a pooler may keep it waiting for as long as a statement."""
    tenant: str | None = None
    holder: str | None = None
    """The tenant of the call that has the connection now; `None` where it is idle, or of no tenant."""
    born: float = field(default_factory=time.monotonic)
    used: float = 0.0

    async def carry(self, tenant_id: str) -> None:
        """Make the session carry this tenant.

        The tenant is unknown from before the message goes out until the answer is there, so that a
        call cut short in between cannot leave a connection marked with the wrong one.
        """
        self.tenant = None
        await self.raw.execute(f"set app.tenant_id = {literal(tenant_id)}", timeout=self.prompt)
        self.tenant = tenant_id

    async def catch_up(self) -> None:
        """Wait until a call that was cut short is over, and the driver's cancel request through."""
        # The query that waits may be refused, by a failed transaction or by that very request.
        with contextlib.suppress(asyncpg.PostgresError):
            await self.raw.execute("select 1", timeout=self.prompt)

    async def fetch(self, sql: str, values: Sequence[object]) -> list[asyncpg.Record]:
        """The rows of one statement."""
        return await self.raw.fetch(sql, *values)


def set_local(**settings: str | None) -> str:
    """The statements that give a transaction these `app.` settings; `None` gives none."""
    given = {name: value for name, value in settings.items() if value is not None}
    return "".join(f"; set local app.{name} = {literal(value)}" for name, value in given.items())


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
    tenants: str = "any"
    """Which tenants its sessions take: `any`, or only `registered` ones."""
    pooled: bool = False
    """Found out at the first connection: a pooler refuses start-up settings that it does not know."""
    answered_last: int = 0
    answered: bool = False
    """Whether it ever answered: while a store opens, a silent server is tried again like one that refuses."""
    silent: bool = False
    """Whether it kept silent the last time: then the next attempt is short."""

    @property
    def prompt(self) -> float:
        """Seconds within which a server that works answers what costs it nothing."""
        return max(_SHORTEST_PROMPT, min(_LONGEST_PROMPT, self.command_timeout / 2))

    async def __call__(self) -> Connection:
        """A new connection; `StoreUnavailableError` names the server that cannot be reached."""
        started = time.monotonic()
        for attempt in range(1000):
            try:
                raw = await self._any_host()
            except Exception as error:
                self.silent = is_silent(error)
                waited = time.monotonic() - started
                if not self._may_come_up(error) or waited > _STARTING:
                    if isinstance(error, StoreError):
                        raise
                    raise unreachable(error, str(self.address)) from error
                await asyncio.sleep(min(1.0, 0.05 * 2**attempt) * random.uniform(0.5, 1.0))
            else:
                self.answered, self.silent = True, False
                return Connection(raw, self.prompt, None if self.pooled else self.prompt)
        raise StoreUnavailableError(f"no PostgreSQL answers at {self.address}")

    def _may_come_up(self, error: BaseException) -> bool:
        # Refused, no socket yet, "the database system is starting up", no primary among the hosts yet.
        if isinstance(error, StoreError) or is_misconfigured(error):
            return False
        if is_silent(error):
            return not self.answered
        return isinstance(error, (ConnectionError, FileNotFoundError)) or is_unavailable(error)

    def _patience(self) -> float:
        if not self.answered:
            return _LONGEST_PROMPT
        if self.silent:
            return _SHORTEST_PROMPT
        # A pooler may let a client wait until it has a server for it.
        return max(_SHORTEST_PROMPT, self.command_timeout) if self.pooled else self.prompt

    async def _any_host(self) -> asyncpg.Connection[asyncpg.Record]:
        # The driver gives all hosts one timeout together, so that one silent host starves the rest.
        # The one that answered last comes first, so that not every connection waits for a silent one.
        hosts = self.address.each_host() or [self.address]
        if self.address.options.get("load_balance_hosts") == "random":
            random.shuffle(hosts)
        else:
            hosts = hosts[self.answered_last :] + hosts[: self.answered_last]
        for position, host in enumerate(hosts):
            try:
                connection = await self._connect(host)
            except (OSError, asyncpg.PostgresError, asyncpg.InternalClientError, asyncpg.InterfaceError):
                if position == len(hosts) - 1:
                    raise
            else:
                self.answered_last = (self.answered_last + position) % len(hosts)
                return connection
        raise AssertionError

    async def _connect(self, host: DatabaseUrl) -> asyncpg.Connection[asyncpg.Record]:
        if self.pooled:
            connection = await self._open(host, {}, statement_cache_size=0)
            await self._took_settings(connection)
            return connection
        timeout = str(round(self.command_timeout * 1000))
        server_settings = start_up_settings(jit="off", statement_timeout=timeout, **which_tenants(self.tenants))
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
            arrived, replication_role, encoding = await connection.fetchrow(STATE, timeout=self._patience()) or (
                False,
                "",
                "",
            )
            if encoding != UTF8:
                raise StoreError(f"{self.address}: {wrong_encoding(encoding)}")
            if replication_role != "origin":
                raise UnsafeRoleError(f"{self.address}: {UNSAFE_REPLICATION_ROLE}")
        except BaseException:
            connection.terminate()
            raise
        return bool(arrived)

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
            _probe_when_idle(connected, min(_UNACKNOWLEDGED, max(self.command_timeout, _SHORTEST_PROMPT)))
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
        try:
            return await log_in(asked)
        except asyncpg.InvalidPasswordError:
            # A password that was changed in between is asked for once more; the same one would be refused again.
            again = await with_password(address, self.password)
            if again == asked:
                raise
            return await log_in(again)

    def _attributes(self) -> dict[str, str]:
        if self.standby:
            return {"target_session_attrs": "prefer-standby"}
        return {"target_session_attrs": "read-write"} if len(self.address.hosts) > 1 else {}


def _socket_of(connection: asyncpg.Connection[asyncpg.Record]) -> socket.socket:
    # There is no public way to it.
    found: socket.socket = connection._transport.get_extra_info("socket")  # type: ignore[attr-defined]  # noqa: SLF001
    return found


def _probe_when_idle(connected: socket.socket, unacknowledged: float) -> None:
    """Let the kernel notice a dead connection, also while nobody uses it; RFC 1122, 4.2.3.6, and RFC 5482."""
    if connected.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    options = {
        "TCP_KEEPIDLE": _PROBE_AFTER,
        "TCP_KEEPALIVE": _PROBE_AFTER,  # its name on macOS
        "TCP_KEEPINTVL": _PROBE_EVERY,
        "TCP_KEEPCNT": _PROBES,
        "TCP_USER_TIMEOUT": round(unacknowledged * 1000),
    }
    for name, value in options.items():
        if hasattr(socket, name):
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _encode(value: object) -> bytes:
    # Times inside become ISO 8601. What JSON cannot hold was refused by the arguments' types.
    return b"\x01" + (value if isinstance(value, Json) else to_json(value))


def _decode(payload: bytes) -> Any:
    # pydantic's parser is six times as fast, but refuses a nesting that its own validation accepts.
    try:
        return from_json(payload[1:])
    except ValueError:
        return json.loads(payload[1:])
