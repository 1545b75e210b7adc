"""What each of the server's refusals becomes, provoked on a real server or as the driver raises it."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import asyncpg
import psycopg
import pytest

from tests.support.wire import Wire
from thea_store import (
    ConflictError,
    InsufficientPrivilegeError,
    InvalidArgumentError,
    OutcomeUnknownError,
    QueryTimeoutError,
    Settings,
    Store,
    StoreError,
    StoreUnavailableError,
    User,
)
from thea_store.database.failures import translate
from thea_store.postgres.url import DatabaseUrl
from thea_store.testing import TestDatabase


def refusal(state: str) -> asyncpg.PostgresError:
    return asyncpg.PostgresError.new({"C": state, "M": "the secret value 4711", "D": "Key (a)=(4711)"})


@pytest.mark.parametrize(
    ("state", "becomes", "repeatable"),
    [
        ("40001", ConflictError, True),
        ("40P01", ConflictError, True),
        ("25006", StoreUnavailableError, True),
        ("57014", QueryTimeoutError, False),
        ("55P03", QueryTimeoutError, False),
        ("22003", InvalidArgumentError, False),
        ("23514", InvalidArgumentError, False),
        ("25P02", StoreError, False),
        ("42501", InsufficientPrivilegeError, False),
        ("42703", StoreError, False),
        ("53100", StoreError, False),
        ("53200", StoreError, False),
        ("58030", StoreError, False),
        ("XX000", StoreError, False),
        ("57P01", StoreUnavailableError, True),
        ("08006", StoreUnavailableError, True),
    ],
)
def test_each_refusal_has_its_error_without_the_servers_text(
    state: str, becomes: type[StoreError], repeatable: bool
) -> None:
    failure = translate(refusal(state), "users.update")

    assert type(failure) is becomes
    assert failure.repeatable is repeatable
    assert "4711" not in str(failure)


@pytest.mark.parametrize(
    "error",
    [ConnectionResetError(), asyncpg.ConnectionDoesNotExistError(), asyncpg.InternalClientError(), TimeoutError()],
)
def test_an_answer_that_got_lost_is_unknown_only_where_something_may_have_been_done(error: Exception) -> None:
    assert type(translate(error, "users.update", unknown=True)) is OutcomeUnknownError
    assert type(translate(error, "users.get_by_id")) in {StoreUnavailableError, QueryTimeoutError}


def test_what_nobody_foresaw_is_still_an_error_of_the_library() -> None:
    assert "ZeroDivisionError" in str(translate(ZeroDivisionError(), "users.update"))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"password": "wrong-secret"}, "password"),
        ({"database": "thea_nowhere"}, "does not exist"),
        ({"user": "thea_nobody"}, "login|password"),
    ],
)
async def test_a_login_that_fails_says_what_to_correct(
    thea_database: TestDatabase, change: dict[str, Any], says: str
) -> None:
    address = replace(DatabaseUrl.parse(thea_database.app_url), **change)
    if change.keys() == {"password"} and address.hosts[0][0].startswith("/"):
        pytest.skip("the server's socket asks for no password")

    with pytest.raises(StoreUnavailableError, match=says) as caught:
        await Store.open(address.render())
    assert "wrong-secret" not in str(caught.value)


async def test_a_privilege_that_was_taken_away_is_named(
    store: Store, tenant: str, user: User, superuser: psycopg.Connection[Any]
) -> None:
    superuser.execute("revoke update on thea.users from thea_app")
    superuser.execute("revoke update (username) on thea.users from thea_app")
    try:
        with pytest.raises(StoreError, match="lacks a privilege"):
            await store.users.update(tenant, user.id, username="x")
    finally:
        superuser.execute(
            "grant update (telegram_id, username, first_name, last_name, language_code, timezone, is_active,"
            " preferences, last_activity, deleted_at) on thea.users to thea_app"
        )


async def test_queries_are_logged_by_name_and_never_with_a_value(
    thea_database: TestDatabase, tenant: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        async with Store.open(Settings(url=thea_database.app_url, echo=True)) as store:
            await store.users.create(tenant, telegram_id=471147, first_name="Secreta")
        async with Store.open(Settings(url=thea_database.app_url, slow_query_ms=0)) as store:
            await store.users.get_by_telegram_id(tenant, 471147)
    lines = [(record.levelname, record.getMessage()) for record in caplog.records]

    assert any(level == "INFO" and text.startswith("users.create_many: ") for level, text in lines)
    assert any(level == "WARNING" and "slow query users.get_by_telegram_id" in text for level, text in lines)
    assert "471147" not in caplog.text
    assert "Secreta" not in caplog.text


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ("53100", "the server's disk is full: make room there; nothing was written"),
        ("53200", r"lacks resources \(SQLSTATE 53200\)"),
        ("58030", r"the server failed \(SQLSTATE 58030\), its log says why"),
        ("XX001", r"the server failed \(SQLSTATE XX001\), its log says why"),
    ],
)
def test_what_is_the_servers_trouble_is_said_to_be(state: str, says: str) -> None:
    assert re.search(says, str(translate(refusal(state), "notes.create")))


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ("40001", "a recovery conflict: see hot_standby_feedback"),
        ("25P03", "idle_in_transaction_session_timeout"),
        ("57P01", "ended by the server's operator"),
        ("57P05", "idle_session_timeout"),
        ("XX000", "the connection to the server was lost"),
    ],
)
async def test_what_the_server_said_last_is_the_reason_of_a_lost_connection(
    thea_database: TestDatabase, tenant: str, state: str, says: str
) -> None:
    async with (
        Ending(thea_database.app_url, state).listening() as wire,
        Store.open(Settings(url=wire.url, ssl_mode="disable", pool_size=1, max_overflow=0)) as store,
    ):
        with pytest.raises(StoreUnavailableError, match=says) as caught:
            async with store.transaction(tenant) as tx:
                await tx.users.count(tenant)
                wire.ends = True
                await tx.users.count(tenant)
        wire.ends = False

        assert caught.value.repeatable
        assert await store.users.count(tenant) == 0


class Ending(Wire):
    """Answers in the server's place that it ends the connection, and ends it."""

    ends = False

    def __init__(self, url: str, state: str) -> None:
        super().__init__(url)
        fields = f"SFATAL\0VFATAL\0C{state}\0Mterminating connection\0\0".encode()
        self._word = b"E" + (len(fields) + 4).to_bytes(4, "big") + fields

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ending = asyncio.StreamReader()

        async def pump() -> None:
            while data := await reader.read(65536):
                ending.feed_data(self._word if self.ends else data)
                if self.ends:
                    break
            ending.feed_eof()

        await asyncio.gather(pump(), super()._answer(ending, writer))


@pytest.fixture
def unnoted(thea_new_database: Callable[..., TestDatabase]) -> str:
    """The URL of a database in which no tenant's reads are noted, for which a first call would ask the primary."""
    return thea_new_database().app_url


async def test_a_lost_connection_to_a_standby_is_said_to_be_one(unnoted: str, tenant: str) -> None:
    """Between two statements the driver does not pass on what the server said."""
    async with Wire(unnoted).listening() as wire:
        settings = Settings(url=unnoted, replica_url=wire.url, ssl_mode="disable", pool_size=1)
        async with Store.open(settings) as store:
            with pytest.raises(StoreUnavailableError, match="recovery conflict"):
                async with store.transaction(tenant, read_only=True) as tx:
                    await tx.users.count(tenant)
                    wire.cut()
                    await asyncio.sleep(0.05)
                    await tx.users.count(tenant)


async def test_read_only_transactions_go_to_the_replica(unnoted: str, tenant: str) -> None:
    settings = Settings(url=unnoted, replica_url=unnoted, pool_size=1, max_overflow=0)
    async with Store.open(settings) as store:
        user = await store.users.create(tenant, telegram_id=1)
        assert store._database._replicas is not None
        [replica] = store._database._replicas.each
        calls = replica.pool._calls.total()
        async with store.transaction(tenant, read_only=True) as tx:
            assert await tx.users.get_by_id(tenant, user.id) == user
        health = await store.health()

    assert replica.pool._calls.total() == calls + 1
    assert [each.state for each in health.replicas] == ["primary"]
    assert health.replica_lag is None  # what answers there is a primary
