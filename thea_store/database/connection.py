"""One server connection that remembers its tenant, and what is sent on it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg

from thea_store.database import wire
from thea_store.database.driver import sent
from thea_store.database.driver_errors import answered
from thea_store.postgres.session import literal

__all__ = ["BEGIN", "Connection", "set_local"]

BEGIN = "begin isolation level read committed"
"""Begins a transaction that is like a statement's own, whatever the server's default is."""

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
    prompt: float
    """Seconds within which the server answers what costs it nothing."""
    prompt_begin: float | None
    """The same for `begin`; `None` where a pooler may keep it waiting for as long as a statement."""
    tenant: str | None = None
    holder: str | None = None
    """The tenant of the call that has the connection now; `None` where it is idle, or of no tenant."""
    born: float = field(default_factory=_now)
    used: float = field(default_factory=_now)
    sent: bool = False
    """Whether the last statement went out, so that the server may have run it."""
    unclear: bool = False
    """Whether nobody knows which tenant the session carries, because the message that says so was cut short."""
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

    async def carry_none(self) -> None:
        """Make the session carry no tenant."""
        await self.carry("")
        self.tenant, self.unclear = None, False

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

    async def fetch_behind(
        self, before: bytes, sql: str, values: Sequence[object], after: bytes = b""
    ) -> list[asyncpg.Record]:
        """The rows of one statement, with the messages `before` it in its own round trip and transaction.

        Where there are some, those `after` it go along as well, where the event loop lets them.

        Never the driver's `fetch`: where the type of a result has changed, it would run the statement once more,
        without what goes before it. An argument that cannot be encoded may leave the connection `dangling`.
        """
        raw: Any = self.raw
        self.sent = self.dangling = False
        raw._check_open()  # noqa: SLF001 - see thea_store.database.wire
        protocol = raw._protocol  # noqa: SLF001
        statement = self._described.get(sql) or await self._describe(sql, alone=bool(before))
        count = protocol.queries_count
        joined = wire.Joined(raw._transport, before, after)  # noqa: SLF001
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
