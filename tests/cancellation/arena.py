"""Where calls are cut short: a database with tenants that are copies of one, and what is in them afterwards."""

from __future__ import annotations

import asyncio
import itertools
import json
import re
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg import sql

from tests.support.aftermath import carries_what_its_pool_thinks, no_backend_is_left, settled
from tests.support.calls import Call, Ground, prepare
from tests.support.stepping import MOMENTS, Moment, Stepped, stepped_through, stopped
from thea_store import Settings, Store, StoreError, StoreTransaction
from thea_store.database.connection import Connection
from thea_store.testing import TestDatabase

__all__ = ["Arena", "State"]

State = tuple[str, ...]
"""All rows of a tenant and its entries in the audit log, without what differs from one run to the next."""

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d")
_names = itertools.count(1)


@dataclass
class Arena:
    """A database of its own, a tenant whose rows are copied for every step, and one that must never notice."""

    database: TestDatabase
    superuser: psycopg.Connection[Any]
    model: Ground
    bystander: Ground
    started: datetime
    tables: dict[str, list[str]]
    """The columns that can be written, by table."""
    quiet: State = ()
    unused: list[str] = field(default_factory=list)
    stores: list[Store] = field(default_factory=list)

    @classmethod
    @asynccontextmanager
    async def on(cls, database: TestDatabase) -> AsyncIterator[Arena]:
        """Two tenants with rows of every kind, old enough for every call that looks for old ones."""
        async with Store.open(database.app_url) as store:
            model = await prepare(store, "model")
            bystander = await prepare(store, "bystander", text="vecino")
        with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
            arena = cls(database, superuser, model, bystander, datetime.now(UTC), _tables(superuser))
            for statement in _AGED:
                superuser.execute(statement)
            arena.quiet = arena.state(bystander.tenant)
            yield arena

    @asynccontextmanager
    async def store(self, **settings: Any) -> AsyncIterator[Store]:
        """A store with one connection, so that every call meets what the one before it left."""
        given = {"pool_size": 1, "max_overflow": 0, **settings}
        async with Store.open(Settings(url=self.database.app_url, **given)) as store:
            self.stores.append(store)
            yield store
        self.stores.remove(store)

    def copy(self) -> Ground:
        """A tenant that nobody used, with the model's rows under the model's ids."""
        if not self.unused:
            self.unused = [f"copy-{next(_names)}" for _ in range(200)]
            for table, columns in self.tables.items():
                copied = sql.SQL(", ").join(_COPIED.get(column, sql.Identifier("t", column)) for column in columns)
                copy = _COPY.format(table=_table(table), columns=_list(columns), copied=copied)
                self.superuser.execute(copy, [self.unused])
        return replace(self.model, tenant=self.unused.pop())

    def arguments(self, call: Call) -> dict[str, Any]:
        """What the call is called with, for every copy alike; a call that writes then has something to write."""
        arguments = call.arguments(self.model)
        if str(call) == "conversations.import_many":
            (rows,) = arguments.values()
            rows[0]["session_id"] = "nueva"
        if str(call) == "messages.take_back_answers":
            (rows,) = arguments.values()
            rows[0]["message_id"] = _ANSWER
        if "keep" in arguments:
            arguments["keep"] = 1
        return arguments

    def arguments_of_what_is_deleted(self, call: Call) -> dict[str, Any]:
        """The same, but of a user, a session or an event of another calendar that has to be restored first."""
        keys = {"telegram_id": "users", "session_id": "conversations", "external_id": "events"}
        arguments = self.arguments(call)
        for key, table in keys.items():
            if key in arguments:
                found = self.superuser.execute(
                    _KEY.format(key=sql.Identifier(key), table=_table(table)), [self.model.deleted[table]]
                )
                ((arguments[key],),) = found
        return arguments

    def is_seen_to_write(self, call: Call) -> bool:
        """Whether some row is another after it; one call writes nothing, but locks, and one sets a setting."""
        return call.writes and str(call) not in {"conversations.lock_sessions", "messages.plan_for_sizes"}

    def state(self, tenant: str) -> State:
        """The tenant's rows now."""
        return self.states([tenant])[tenant]

    def states(self, tenants: Sequence[str]) -> dict[str, State]:
        """The rows of all these tenants now, each row as one text."""
        found: defaultdict[str, list[str]] = defaultdict(list)
        for table in [*self.tables, "audit_log"]:
            row = _NOTE if table == "notes" else _ROW
            rows = self.superuser.execute(_ROWS.format(table=_table(table), row=row), [list(tenants)])
            for tenant, row in rows:
                found[tenant].append(f"{table}: {json.dumps(self._masked('', row), sort_keys=True)}")
        return {tenant: tuple(sorted(found[tenant])) for tenant in tenants}

    async def step_through(
        self,
        store: Store,
        work: Callable[[str], Coroutine[Any, Any, object]],
        ready: Callable[[str], Awaitable[object]],
        *,
        writes: bool,
        moments: Sequence[Moment] = MOMENTS,
        again: bool = False,
    ) -> int:
        """Stop the work at every suspension, in a new tenant each time: it is done or not, and leaves nothing.

        How many stops that were. `ready` makes the connection what the work should meet.
        """
        ended: dict[str, bool] = {}

        async def run(stops: dict[int, Moment]) -> Stepped:
            tenant = self.copy().tenant
            await ready(tenant)
            stepped = await stopped(work(tenant), stops)
            if stepped.made:
                await self.unharmed(store, tenant)
            ended[tenant] = not stepped.made
            return stepped

        untouched = self.copy().tenant
        await run({})  # from now on its statements are prepared
        points = await stepped_through(run, moments, again=again)
        states = self.states([untouched, *ended])
        before = states.pop(untouched)
        (after,) = {states[tenant] for tenant in ended if ended[tenant]}
        assert writes == (before != after)
        assert set(states.values()) <= {before, after}
        assert self.state(self.bystander.tenant) == self.quiet
        return points

    async def step_through_the_queue(
        self, store: Store, work: Callable[[str], Coroutine[Any, Any, object]], given: str
    ) -> int:
        """Stop the work while it waits for the only connection, with another call behind it, which gets its turn."""
        pool, loop, points = store._database._pool, asyncio.get_running_loop(), 0
        moments: list[Moment] = [*MOMENTS, "closed"]
        for moment in moments:
            tenant, connection = self.copy().tenant, await pool.acquire(None)
            behind: list[asyncio.Task[int]] = []

            def queued(_: int, connection: Connection = connection, behind: list[asyncio.Task[int]] = behind) -> None:
                behind.append(loop.create_task(store.users.count(self.bystander.tenant)))
                give = pool.release if given == "a connection" else pool.end
                loop.call_soon(loop.call_soon, give, connection)  # when the other has come behind

            points += len((await stopped(work(tenant), {1: moment}, queued)).made)
            assert [await one for one in behind] == [1]
            await self.unharmed(store, tenant)
        return points

    async def cancel_while_the_server_works(self, store: Store, work: Coroutine[Any, Any, object]) -> None:
        """Cancel the work while its statement waits for a lock: the server stops, and does not wait any longer."""
        with psycopg.connect(self.database.superuser_url) as holder:
            for table in self.tables:
                holder.execute(sql.SQL("lock table {}, thea.audit_log").format(_table(table)))
            task = asyncio.create_task(work)
            while not self.superuser.execute(_BLOCKED).fetchone():
                assert not task.done(), "the call waits for no table"
                await asyncio.sleep(0.001)
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled()
            await settled(store)
            assert not self.superuser.execute(_BLOCKED).fetchall(), "the server goes on with what nobody waits for"

    async def between_two_writes(
        self,
        store: Store,
        tenant: str,
        work: Callable[[StoreTransaction], Coroutine[Any, Any, object]],
        stops: dict[int, Moment],
    ) -> tuple[Stepped, StoreError | None]:
        """Work that is stopped within a transaction, which goes on as after a timeout; and whether it was refused."""
        done: list[Stepped] = []
        try:
            async with store.transaction(tenant) as tx:
                await tx.users.create(tenant, telegram_id=1)
                done.append(await stopped(work(tx), stops))
                await tx.users.create(tenant, telegram_id=2)
        except StoreError as error:
            return done[0], error
        else:
            return done[0], None
        finally:
            await self.unharmed(store, tenant)

    async def unharmed(self, store: Store, tenant: str) -> None:
        """Nothing is left of the call: no task, no connection, no transaction, no lock, no wrong tenant; and the next
        calls find what is theirs."""
        pool = store._database._pool
        await settled(store)
        await carries_what_its_pool_thinks(store)
        await self.no_backend_is_left()
        for name, wanted in (tenant, None), (self.bystander.tenant, {self.bystander.live["users"]}):
            users = (await store.users.get_all(name, include_deleted=wanted is None)).items
            assert users
            assert {user.tenant_id for user in users} == {name}
            assert wanted is None or {user.id for user in users} == wanted
        await settled(store)
        assert pool.figures().size >= 1, "the pool has lost its connection"

    async def no_backend_is_left(self) -> None:
        """As `aftermath.no_backend_is_left`, of all stores that were opened here."""
        await no_backend_is_left(self.superuser, self.stores)

    def _masked(self, name: str, value: object) -> object:
        if isinstance(value, dict):
            return {key: self._masked(key, inner) for key, inner in value.items() if (name, key) != ("", "tenant_id")}
        if (name == "id" or name.endswith("_id")) and isinstance(value, int):
            return value if value in self._known else "new"
        if name == "id":  # the audit log's
            return "new"
        if isinstance(value, str) and _TIME.match(value):
            return value if datetime.fromisoformat(value) < self.started else "now"
        return value

    @property
    def _known(self) -> set[int]:
        return {*self.model.live.values(), *self.model.deleted.values(), self.model.telegram_id}


_ANSWER = 1
"""The message of the model that is an answer alone."""
_AGED = [
    "set session_replication_role = replica",  # no triggers: copies leave no audit entries
    "update thea.message_history set created_at = '2020-01-01' where tenant_id = 'model'",
    f"update thea.message_history set message_id = {_ANSWER} where tenant_id = 'model' and deleted_at is null",
    "update thea.message_history set answer_ids = array[message_id] where tenant_id = 'model' and deleted_at is null",
    "update thea.conversations set last_activity = '2020-01-01' where tenant_id = 'model'",
    "update thea.events set next_reminder_at = '2020-01-01' where tenant_id = 'model'",
    "update thea.notes set next_reminder_at = '2020-01-01' where tenant_id = 'model'",
    "delete from thea.audit_log where tenant_id = 'model'",
]
_COPY = sql.SQL(
    "insert into {table} (tenant_id, {columns}) overriding system value"
    " select copies.tenant, {copied} from {table} t, unnest(%s::text[]) as copies (tenant) where t.tenant_id = 'model'"
)
# The words of a note begin with whose it is, in a copy too.
_COPIED = {
    "search_vector": sql.SQL(
        "replace(t.search_vector::text, thea.note_scope(t.tenant_id, t.user_id), thea.note_scope(tenant, t.user_id))"
        "::tsvector"
    )
}
_BLOCKED = "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
_KEY = sql.SQL("select {key} from {table} where tenant_id = 'model' and id = %s")
_ROWS = sql.SQL("select tenant_id, {row} from {table} t where tenant_id = any(%s)")
_ROW = sql.SQL("to_jsonb(t)")
_NOTE = sql.SQL(
    "to_jsonb(t) || jsonb_build_object("
    "'search_vector', replace(search_vector::text, thea.note_scope(tenant_id, user_id), 'its own '))"
)


def _tables(superuser: psycopg.Connection[Any]) -> dict[str, list[str]]:
    rows = superuser.execute(
        "select table_name, array_agg(column_name::text) from information_schema.columns"
        " where table_schema = 'thea' and table_name in (select tablename from pg_tables) and is_generated = 'NEVER'"
        " group by 1 having bool_or(column_name = 'tenant_id') and table_name <> 'audit_log'"
    )
    return {table: [column for column in columns if column != "tenant_id"] for table, columns in rows}


def _table(name: str) -> sql.Identifier:
    return sql.Identifier("thea", name)


def _list(columns: Sequence[str]) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, columns))
