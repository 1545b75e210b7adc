"""The tenant in a statement's own message: that it reaches that statement alone, whatever goes wrong with it."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest

from tests.support.hostile_settings import hostile_login
from tests.support.pooler import pgbouncer
from tests.support.wire import Wire
from thea_store import (
    DuplicateError,
    InvalidArgumentError,
    OutcomeUnknownError,
    QuotaExceededError,
    Settings,
    Store,
    StoreUnavailableError,
)
from thea_store.assistant.users import SQL as USERS
from thea_store.database import wire as before_statements
from thea_store.database.connection import Connection
from thea_store.database.single_call import Call
from thea_store.postgres.url import DatabaseUrl
from thea_store.testing import TestDatabase

NewDatabase = Callable[[], TestDatabase]
GET = next(query for query in USERS.claimed if query.name == "users.get_by_id")


@asynccontextmanager
async def opened(url: str, **settings: Any) -> AsyncIterator[Store]:
    """A store whose calls all meet on one connection."""
    given = {"pool_size": 1, "max_overflow": 0, "tenant_scope": "transaction", "ssl_mode": "disable", **settings}
    async with Store.open(Settings(url=url, **given)) as store:
        yield store


def connection_of(store: Store) -> Connection:
    (connection,) = store._database._pool._open
    return connection


async def carried(connection: Connection) -> str:
    found: str = await connection.raw.fetchval("select current_setting('app.tenant_id', true)")
    return found


async def test_a_call_leaves_no_tenant_and_no_transaction_on_its_connection(
    thea_database: TestDatabase, tenant: str
) -> None:
    async with opened(thea_database.app_url) as store:
        user = await store.users.create(tenant, telegram_id=1)
        assert await store.users.get_by_id(tenant, user.id) == user

        assert not await carried(connection_of(store))
        assert not connection_of(store).raw.is_in_transaction()


async def _repeats_a_key(store: Store, tenant: str) -> None:
    with pytest.raises(DuplicateError):
        await store.users.create(tenant, telegram_id=1)


async def _takes_too_long(store: Store, tenant: str) -> None:
    call = Call(replace(GET, text="select pg_sleep($1::float8)"), tenant, [30.0], longest_ms=20)
    with pytest.raises(QuotaExceededError):
        await store._database._alone(store._database._primary, call)


@pytest.mark.parametrize("fails", [_repeats_a_key, _takes_too_long])
async def test_a_statement_that_fails_leaves_its_session_to_the_tenant_before(
    thea_database: TestDatabase, tenant: str, other_tenant: str, fails: Callable[[Store, str], Awaitable[None]]
) -> None:
    async with opened(thea_database.app_url, tenant_scope="session") as store:
        user = await store.users.create(tenant, telegram_id=1)
        other = await store.users.create(other_tenant, telegram_id=1)
        connection = connection_of(store)
        await fails(store, tenant)

        assert connection_of(store) is connection
        assert connection.tenant == await carried(connection) == other_tenant
        assert await store.users.get_by_id(other_tenant, other.id) == other
        assert await store.users.get_by_id(tenant, user.id) == user
        assert connection.tenant == await carried(connection) == tenant


# --- the three traps ----------------------------------------------------------------------------


SCOPES = pytest.mark.parametrize("scope", ["session", "transaction"])


class _Unchangeable:
    """A transport like those of uvloop, which take no other `write`."""

    __slots__ = ("_real",)

    def __init__(self, real: Any) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


@SCOPES
@pytest.mark.parametrize("joined", [True, False])
async def test_an_argument_that_cannot_be_encoded_leaves_no_tenant_at_the_server(
    thea_database: TestDatabase, tenant: str, other_tenant: str, scope: str, *, joined: bool
) -> None:
    """Else it waits there for whatever is sent next: where it went out by itself, the connection ends."""
    async with opened(thea_database.app_url, tenant_scope=scope) as store:
        user = await store.users.create(other_tenant, telegram_id=1)
        before = connection_of(store)
        raw: Any = before.raw
        if not joined:
            raw._transport = _Unchangeable(raw._transport)
        with pytest.raises(InvalidArgumentError):
            await store._database._alone(store._database._primary, Call(GET, tenant, [tenant, "no number"]))

        assert before.raw.is_closed() is not joined
        assert await store.users.get_by_id(other_tenant, user.id) == user
        assert await carried(connection_of(store)) == (other_tenant if scope == "session" else "")
        assert await store.users.get_by_id(tenant, user.id) is None


@SCOPES
async def test_where_messages_go_out_apart_they_are_of_one_transaction_all_the_same(
    thea_database: TestDatabase, tenant: str, other_tenant: str, scope: str
) -> None:
    async with opened(thea_database.app_url, tenant_scope=scope) as store:
        user = await store.users.create(other_tenant, telegram_id=1)
        raw: Any = connection_of(store).raw
        raw._transport = _Unchangeable(raw._transport)

        for _ in range(2):
            assert await store.users.get_by_id(tenant, user.id) is None
            assert await store.users.get_by_id(other_tenant, user.id) == user


async def test_a_transaction_goes_on_after_an_argument_that_could_not_be_encoded(
    thea_database: TestDatabase, tenant: str
) -> None:
    """Its beginning has not gone out, and goes with what comes next."""
    async with opened(thea_database.app_url) as store:
        async with store.transaction(tenant, actor="somebody") as tx:
            with pytest.raises(InvalidArgumentError):
                await tx._transaction.run(GET, [tenant, "no number"])
            user = await tx.users.create(tenant, telegram_id=1)

        assert await store.users.get_by_id(tenant, user.id) == user
        [entry] = await store.audit.get_for(tenant, "users", user.id)
        assert entry.actor == "somebody"


async def test_a_type_that_the_driver_has_to_ask_for_does_not_use_up_the_tenants_transaction(
    thea_new_database: NewDatabase, tenant: str
) -> None:
    database = thea_new_database()
    with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
        superuser.execute("create type public.mood as enum ('sad', 'merry')")
    async with opened(database.app_url) as store:
        await store.users.create(tenant, telegram_id=1)
        connection = connection_of(store)
        [row] = await connection.fetch_behind(
            before_statements.set_tenant(tenant),
            "select count(*), max($2::public.mood) from thea.users where tenant_id = $1",
            [tenant, "sad"],
        )

        assert tuple(row) == (1, "sad")


@SCOPES
async def test_a_result_whose_type_was_changed_is_asked_for_again_with_its_tenant(
    thea_new_database: NewDatabase, tenant: str, scope: str
) -> None:
    database = thea_new_database()
    async with opened(database.app_url, tenant_scope=scope) as store:
        user = await store.users.create(tenant, telegram_id=1, username="ana")
        assert await store.users.update(tenant, user.id, first_name="Eva") != user
        with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
            superuser.execute("alter table thea.users alter username type varchar(64)")

        found = await store.users.update(tenant, user.id, first_name="Ana")
        assert found.first_name == "Ana"
        assert await store.users.get_by_id(tenant, user.id) == found
        async with store.transaction(tenant) as tx:
            assert await tx.users.exists(tenant, user.id)


async def test_behind_a_pooler_a_result_whose_type_was_changed_is_described_anew(
    thea_new_database: NewDatabase, tenant: str
) -> None:
    """Nothing is prepared there, so that the server cannot notice it; the driver does, by the length of a value."""
    database = thea_new_database()
    with pgbouncer(database.app_url) as url:
        async with opened(url) as store:
            user = await store.users.create(tenant, telegram_id=1)
            said = await store.messages.add_message(tenant, user.id, "s", user_message="hola", processing_time_ms=7)
            assert await store.messages.get_by_id(tenant, said.id) == said
            with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
                superuser.execute("alter table thea.message_history alter processing_time_ms type bigint")

            assert await store.messages.get_by_id(tenant, said.id) == said
            changed = await store.messages.update(tenant, said.id, processing_time_ms=8)
            assert changed.processing_time_ms == 8
            async with store.transaction(tenant) as tx:
                assert await tx.messages.get_by_id(tenant, said.id) == changed


# --- what else goes wrong -----------------------------------------------------------------------


@pytest.mark.parametrize("writes", [False, True])
async def test_a_message_whose_answer_is_lost_is_a_write_of_unknown_outcome_or_a_read_that_is_tried_again(
    thea_database: TestDatabase, tenant: str, *, writes: bool
) -> None:
    async with Wire(thea_database.app_url).listening() as wire, opened(wire.url) as store:
        user = await store.users.create(tenant, telegram_id=1)
        await store.users.update(tenant, user.id, first_name="Ana")
        wire.answers.clear()
        wire.reset()
        call = store.users.update(tenant, user.id, first_name="Eva") if writes else store.users.exists(tenant, user.id)
        task = asyncio.ensure_future(call)
        await wire.until_sent()
        wire.cut()
        wire.answers.set()

        if writes:
            with pytest.raises(OutcomeUnknownError):
                await task
        else:
            assert await task
        assert (await store.users.get_all(tenant)).items


async def test_a_transaction_whose_connection_is_dead_at_its_first_statement_runs_on_another_one(
    thea_database: TestDatabase, tenant: str, superuser: psycopg.Connection[Any]
) -> None:
    for scope in ("session", "transaction"):
        async with opened(thea_database.app_url, tenant_scope=scope) as store:
            number = 1 if scope == "session" else 2
            await store.users.count(tenant)
            async with store.transaction(tenant, actor=scope) as tx:
                superuser.execute("select pg_terminate_backend(%s, 5000)", [connection_of(store).raw.get_server_pid()])
                async with tx.savepoint():
                    user = await tx.users.create(tenant, telegram_id=number)

            [entry] = await store.audit.get_for(tenant, "users", user.id)
            assert entry.actor == scope


async def test_a_transaction_that_loses_its_connection_later_is_not_continued_on_another_one(
    thea_database: TestDatabase, tenant: str, superuser: psycopg.Connection[Any]
) -> None:
    async with opened(thea_database.app_url) as store:
        with pytest.raises(StoreUnavailableError, match="nothing was written"):
            async with store.transaction(tenant) as tx:
                await tx.users.create(tenant, telegram_id=1)
                superuser.execute("select pg_terminate_backend(%s, 5000)", [connection_of(store).raw.get_server_pid()])
                await tx.users.create(tenant, telegram_id=2)

        assert await store.users.count(tenant) == 0


async def test_where_transactions_are_of_another_isolation_by_themselves_each_call_begins_its_own(
    thea_new_database: NewDatabase, tenant: str
) -> None:
    """The pooler's connections are the role's, whose default may change under a running store."""
    database = thea_new_database()
    with (
        hostile_login(database, "role", {}) as url,
        pgbouncer(url, default_pool_size="1", server_lifetime="0") as pooled,
    ):
        async with opened(pooled) as store:
            user = await store.users.create(tenant, telegram_id=1)
            change = f"alter role {DatabaseUrl.parse(url).user} set default_transaction_isolation = serializable"
            with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
                superuser.execute(change.encode())
            assert store._database._connector.at_once
            assert (await store.users.update(tenant, user.id, first_name="Ana")).first_name == "Ana"

            assert not store._database._connector.at_once
            assert await store.users.count(tenant) == 1


# --- a driver that is not known -----------------------------------------------------------------


# --- a block in one message, as a Citus cluster needs one ----------------------------------------


@pytest.mark.parametrize("joined", [True, False])
async def test_a_read_is_a_block_in_one_message_where_only_a_block_carries_the_tenant(
    thea_database: TestDatabase, tenant: str, *, joined: bool
) -> None:
    async with Wire(thea_database.app_url).listening() as wire, opened(wire.url) as store:
        user = await store.users.create(tenant, telegram_id=1)
        store._database._connector.distributed = True
        assert await store.users.get_by_id(tenant, user.id) == user
        raw: Any = connection_of(store).raw
        if not joined:
            raw._transport = _Unchangeable(raw._transport)
        wire.reset()
        assert await store.users.get_by_id(tenant, user.id) == user

        assert wire.round_trips == (1 if joined else 2)
        assert not raw.is_in_transaction()
        assert not await carried(connection_of(store))


async def test_a_read_that_fails_in_its_block_leaves_none_open(thea_database: TestDatabase, tenant: str) -> None:
    async with opened(thea_database.app_url) as store:
        user = await store.users.create(tenant, telegram_id=1)
        store._database._connector.distributed = True
        connection = connection_of(store)
        await _takes_too_long(store, tenant)
        assert store._database.figures().idle == 1
        with pytest.raises(InvalidArgumentError):
            await store._database._alone(store._database._primary, Call(GET, tenant, [tenant, "no number"]))

        assert await store.users.get_by_id(tenant, user.id) == user
        assert not await carried(connection_of(store))
        assert connection.raw.is_closed() or connection_of(store) is connection


async def test_a_write_waits_for_its_commit_in_a_message_of_its_own(thea_database: TestDatabase, tenant: str) -> None:
    async with Wire(thea_database.app_url).listening() as wire, opened(wire.url) as store:
        store._database._connector.distributed = True
        user = await store.users.create(tenant, telegram_id=1)
        await store.users.update(tenant, user.id, first_name="Ana")
        wire.reset()
        await store.users.update(tenant, user.id, first_name="Eva")

        assert wire.round_trips == 2


async def test_with_a_driver_that_is_not_known_every_message_goes_by_itself(
    thea_database: TestDatabase, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(before_statements, "_KNOWN", "0.31.")
    async with Wire(thea_database.app_url).listening() as wire, opened(wire.url) as store:
        user = await store.users.create(tenant, telegram_id=1)
        assert await store.users.get_by_id(tenant, user.id) == user
        wire.reset()
        assert await store.users.get_by_id(tenant, user.id) == user

        assert wire.round_trips == 3


@pytest.mark.parametrize("broken", ["ignores what goes before", "lacks what is needed"])
async def test_a_driver_that_fails_the_proof_is_not_trusted_with_it(
    thea_database: TestDatabase, tenant: str, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    async def fails(self: Connection, _: bytes, sql: str, values: Any) -> list[asyncpg.Record]:
        if broken == "lacks what is needed":
            raise AttributeError("bind_execute")
        return await self.fetch(sql, values)

    monkeypatch.setattr(Connection, "fetch_behind", fails)
    async with opened(thea_database.app_url) as store:
        user = await store.users.create(tenant, telegram_id=1)

        assert not store._database._connector.at_once
        assert await store.users.get_by_id(tenant, user.id) == user


def test_the_driver_has_an_upper_bound_that_is_the_version_tried() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    [bound] = [line for line in project["project"]["dependencies"] if line.startswith("asyncpg")]

    assert bound == "asyncpg>=0.32,<0.33"
    assert before_statements.driver_is_known()
    assert version("asyncpg").startswith(before_statements._KNOWN)
