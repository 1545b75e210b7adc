"""One server connection that remembers its tenant, and how one is made."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
from pydantic_core import to_json

from thea_store.database import wire
from thea_store.database.driver import connect_arguments, sent
from thea_store.database.failures import answered, is_misconfigured, is_silent, is_unavailable, unreachable
from thea_store.database.origin import cut_off_in_children
from thea_store.errors import StoreError, StoreUnavailableError, UnsafeRoleError
from thea_store.postgres.encoding import UTF8, wrong_encoding
from thea_store.postgres.password import PasswordSource, with_password
from thea_store.postgres.session import STATE, UNSAFE_REPLICATION_ROLE, literal, start_up_settings, which_tenants
from thea_store.postgres.url import DatabaseUrl, Host
from thea_store.queries.json_text import JsonText, parse

__all__ = ["Connection", "Connector", "literal", "set_local"]

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

# Seconds: a connection on which nothing comes is probed this early, then this often, also while a statement runs. One
# whose data or probes nobody acknowledges for so long is dead: its host is gone, or a firewall has forgotten it. The
# last of these bounds data that were sent, and the others the wait for an answer; only both together find every case.
_PROBE_AFTER = 2
_PROBE_EVERY = 1
_PROBES = 3
_UNACKNOWLEDGED = 5.0

# Seconds until a password that changes is asked for again, and again.
_CHANGING = (0.1, 0.2, 0.4, 0.8)

# Seconds: a connection that was idle for longer has to answer before a call's own message is entrusted to it.
_LONG_IDLE = 5.0


def _now() -> float:
    # Looked up at each call: a service's tests may put another clock into `time`, as freezegun does, and by two clocks
    # each new connection is too old.
    return time.monotonic()


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
    born: float = field(default_factory=_now)
    used: float = field(default_factory=_now)
    sent: bool = False
    """Whether the last statement went out, so that the server may have run it."""
    dangling: bool = False
    """Whether what goes before a statement went out without it, and waits at the server for what comes next."""
    _described: dict[str, Any] = field(default_factory=dict)
    _takes_actors: bool = False

    def is_doubtful(self) -> bool:
        """Whether it was idle for so long that it may be dead, where something can be sent first that tells."""
        return self.prompt_begin is not None and time.monotonic() - self.used > _LONG_IDLE

    def lacks_settings_for(self, sql: str) -> bool:
        """Whether the statement can be described only within a transaction that brings the settings: see `describe`."""
        return self.prompt_begin is None and sql not in self._described

    async def describe(self, opening: Sequence[str], sql: str) -> None:
        """Have the statement described, in a transaction that begins with `opening` and is undone.

        Behind a pooler a session has whatever settings its role has, and one of them may refuse the statement.
        """
        await self.raw.execute("; ".join(opening))
        await self._describe(sql, alone=False)
        await self.raw.execute("rollback")

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
        self.sent = True
        return await self.raw.fetch(sql, *sent(values))

    async def fetch_for(
        self, tenant_id: str, before: bytes, sql: str, values: Sequence[object]
    ) -> list[asyncpg.Record]:
        """As `fetch_behind`, in a session that carries this tenant from then on.

        Where it carries another one, it learns the tenant in the same message. The tenant is unknown until the answer
        is there: with a statement that fails, the server undoes the setting, as it does with all of a transaction
        (PostgreSQL manual, "SET"), so that the session carries again whom it carried before.
        """
        if self.tenant == tenant_id:
            return await self.fetch_behind(before, sql, values)
        carried, self.tenant = self.tenant, None
        try:
            rows = await self.fetch_behind(wire.set_tenant(tenant_id) + before, sql, values)
        except asyncpg.PostgresError as error:
            if answered(error) and not self.dangling:
                self.tenant = carried
            raise
        self.tenant = tenant_id
        return rows

    async def fetch_behind(self, before: bytes, sql: str, values: Sequence[object]) -> list[asyncpg.Record]:
        """The rows of one statement, with the messages `before` it in its own round trip and transaction.

        Never the driver's `fetch`: where the type of a result has changed, it would run the statement once more,
        without what goes before it. An argument that cannot be encoded may leave the connection `dangling`.
        """
        raw: Any = self.raw
        self.sent = self.dangling = False
        raw._check_open()  # noqa: SLF001 - see thea_store.database.wire
        protocol = raw._protocol  # noqa: SLF001
        statement = self._described.get(sql) or await self._describe(sql, alone=bool(before))
        count = protocol.queries_count
        joined = wire.Joined(raw._transport, before)  # noqa: SLF001
        try:
            rows: list[asyncpg.Record] = await protocol.bind_execute(statement, sent(values), "", 0, False, None)  # noqa: FBT003
        finally:
            self.sent = protocol.queries_count != count
            self.dangling = joined.end() and not self.sent
        return rows

    async def know(self, sql: str) -> None:
        """Have the statement described, once."""
        if sql not in self._described:
            await self._describe(sql, alone=True)

    async def _describe(self, sql: str, *, alone: bool) -> Any:
        """The driver's description of a statement, kept.

        Where it is asked for `alone`, that is a transaction of its own, which the message behind it ends: the driver
        may ask for types that it does not know, and so use up a transaction that was meant for the statement and what
        goes before it.
        """
        raw: Any = self.raw
        is_known = raw._stmt_cache.has((sql, asyncpg.Record, False))  # noqa: SLF001
        statement = await raw._get_statement(sql, None)  # noqa: SLF001
        statement.attach()  # it is not closed while it is kept here
        if alone and not is_known:
            await raw.execute("select 1", timeout=self.prompt_begin)
        self._described[sql] = statement
        return statement

    async def take_settings_by_message(self, *, for_session: bool) -> None:
        """Prepare what `wire` names: the tenant, for the rest of the session or of a transaction, and the one plan."""
        raw: Any = self.raw
        setters = {
            wire.SET_TENANT_NAME: wire.tenant_setter(for_session=for_session),
            wire.ONE_PLAN_NAME: wire.ONE_PLAN,
        }
        for name, sql in setters.items():
            await raw._get_statement(sql, None, named=name, use_cache=False)  # noqa: SLF001
        await raw.execute("select 1", timeout=self.prompt_begin)

    async def take_actors_by_message(self) -> None:
        """Prepare the statement that `wire.set_actor` names, once."""
        if self._takes_actors:
            return
        raw: Any = self.raw
        try:
            await raw._get_statement(  # noqa: SLF001
                wire.SET_ACTOR, None, named=wire.SET_ACTOR_NAME, use_cache=False
            )
            await raw.execute("select 1", timeout=self.prompt_begin)
        except BaseException:  # whether the name is taken by now, nobody knows
            raw.terminate()
            raise
        self._takes_actors = True

    async def rides_along(self) -> bool:
        """Whether what goes before a statement takes effect on it, and on nothing after it."""
        try:
            before = wire.statement(_SET_PROOF)
            [during] = await self.fetch_behind(before, _ASK_PROOF, ())
            [after] = await self.fetch_behind(b"", _ASK_PROOF, ())
        except (AttributeError, TypeError, ValueError):  # the driver's private parts are others
            return False
        return bool(during[0] == _PROOF and after[0] != _PROOF)


_PROOF = "rides along"
_SET_PROOF = f"select from (select set_config('app.request_id', '{_PROOF}', true)) as set (value) where value is null"
_ASK_PROOF = "select current_setting('app.request_id', true)"


def set_local(**settings: str | None) -> list[str]:
    """The statements that give a transaction these `app.` settings; `None` gives none."""
    given = {name: value for name, value in settings.items() if value is not None}
    return [f"set local app.{name} = {literal(value)}" for name, value in given.items()]


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

    @property
    def prompt(self) -> float:
        """Seconds within which a server that works answers what costs it nothing."""
        return max(_SHORTEST_PROMPT, min(_LONGEST_PROMPT, self.command_timeout / 2))

    @property
    def at_once(self) -> bool:
        """Whether a single call's tenant goes in the call's own message; otherwise each call is a block."""
        return bool(self.rides_along) and not self.distributed and self.reads_committed

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
            longest = min(_UNACKNOWLEDGED, max(self.command_timeout, _SHORTEST_PROMPT))
            _probe_when_idle(connected, longest, host.options)
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


def _probe_when_idle(connected: socket.socket, unacknowledged: float, given: Mapping[str, str]) -> None:
    """Let the kernel notice a dead connection, also while nobody uses it; RFC 1122, 4.2.3.6, and RFC 5482.

    What the URL says goes first, in libpq's keys.
    """
    if connected.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(given.get("keepalives", "1")))
    idle = int(given.get("keepalives_idle", "0")) or _PROBE_AFTER
    options = {
        "TCP_KEEPIDLE": idle,
        "TCP_KEEPALIVE": idle,  # its name on macOS
        "TCP_KEEPINTVL": int(given.get("keepalives_interval", "0")) or _PROBE_EVERY,
        "TCP_KEEPCNT": int(given.get("keepalives_count", "0")) or _PROBES,
        "TCP_USER_TIMEOUT": int(given.get("tcp_user_timeout", "0")) or round(unacknowledged * 1000),
    }
    for name, value in options.items():
        if hasattr(socket, name):
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _encode(value: object) -> bytes:
    # Times inside become ISO 8601. What JSON cannot hold was refused by the arguments' types.
    return b"".join((b"\x01", *(value.pieces if isinstance(value, JsonText) else (to_json(value),))))


def _decode(payload: bytes) -> Any:
    return parse(payload[1:])
