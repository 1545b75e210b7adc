"""One server connection that remembers its tenant, and how one is made."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
from pydantic_core import from_json, to_json

from thea_store.database.driver import connect_arguments
from thea_store.database.failures import is_misconfigured, is_unavailable, unreachable
from thea_store.errors import StoreError, StoreUnavailableError, UnsafeRoleError
from thea_store.postgres.encoding import UTF8, wrong_encoding
from thea_store.postgres.password import PasswordSource, with_password
from thea_store.postgres.session import STATE, UNSAFE_REPLICATION_ROLE, literal, start_up_settings
from thea_store.postgres.url import DatabaseUrl

__all__ = ["Connection", "Connector", "literal", "set_local"]

# Seconds: one attempt at one host; the driver's own patience beyond the server's statement timeout.
_ATTEMPT = 5.0
_GRACE = 5.0
_CATCH_UP = 5.0
# A refused connection is tried again for as long as a server takes to start.
_STARTING = 10.0


@dataclass(slots=True, eq=False)
class Connection:
    """A driver's connection and the tenant that its session carries; `None` is none, or not known."""

    raw: asyncpg.Connection[asyncpg.Record]
    tenant: str | None = None
    born: float = field(default_factory=time.monotonic)
    used: float = 0.0

    async def carry(self, tenant_id: str) -> None:
        """Make the session carry this tenant.

        The tenant is unknown from before the message goes out until the answer is there, so that a
        call cut short in between cannot leave a connection marked with the wrong one.
        """
        self.tenant = None
        await self.raw.execute(f"set app.tenant_id = {literal(tenant_id)}")
        self.tenant = tenant_id

    async def catch_up(self) -> None:
        """Wait until a call that was cut short is over, and the driver's cancel request through."""
        # The query that waits may be refused, by a failed transaction or by that very request.
        with contextlib.suppress(asyncpg.PostgresError):
            await self.raw.execute("select 1", timeout=_CATCH_UP)

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
    pooled: bool = False
    """Found out at the first connection: a pooler refuses start-up settings that it does not know."""
    answered_last: int = 0

    async def __call__(self) -> Connection:
        """A new connection; `StoreUnavailableError` names the server that cannot be reached."""
        started = time.monotonic()
        for attempt in range(1000):
            try:
                return Connection(await self._any_host())
            except Exception as error:
                waited = time.monotonic() - started
                if not _may_come_up(error) or waited > _STARTING:
                    if isinstance(error, StoreError):
                        raise
                    raise unreachable(error, str(self.address)) from error
                await asyncio.sleep(min(1.0, 0.05 * 2**attempt) * random.uniform(0.5, 1.0))
        raise StoreUnavailableError(f"no PostgreSQL answers at {self.address}")

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
        server_settings = start_up_settings(jit="off", statement_timeout=timeout)
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
            arrived, replication_role, encoding = await connection.fetchrow(STATE) or (False, "", "")
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
                timeout=float(patience or 0) or _ATTEMPT,
                command_timeout=self.command_timeout + _GRACE,
                statement_cache_size=statement_cache_size,
                max_cached_statement_lifetime=0,
            )

        connection = await self._log_in(log_in, named)
        try:
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


def _encode(value: object) -> bytes:
    # Times inside become ISO 8601. What JSON cannot hold was refused by the arguments' types.
    return b"\x01" + to_json(value)


def _decode(payload: bytes) -> Any:
    # pydantic's parser is six times as fast, but refuses a nesting that its own validation accepts.
    try:
        return from_json(payload[1:])
    except ValueError:
        return json.loads(payload[1:])


def _may_come_up(error: BaseException) -> bool:
    # Refused, no socket yet, "the database system is starting up", no primary among the hosts yet.
    if isinstance(error, StoreError) or is_misconfigured(error):
        return False
    return isinstance(error, (ConnectionError, FileNotFoundError, TimeoutError)) or is_unavailable(error)
