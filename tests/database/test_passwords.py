"""Passwords that change while a store is open."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.support.logins import GuardedLogin, guarded_login
from thea_store import InvalidArgumentError, Settings, Store, StoreUnavailableError
from thea_store.postgres.url import DatabaseUrl
from thea_store.testing import TestDatabase

Source = Callable[[], str | Awaitable[str]]


class Vault:
    """Holds the password of the day, and counts how often it is asked for."""

    def __init__(self, login: GuardedLogin) -> None:
        self.login, self.password, self.asked = login, "monday", 0

    def rotate(self, password: str) -> None:
        self.login.change_password(password)
        self.password = password

    def now(self) -> str:
        self.asked += 1
        return self.password

    async def later(self) -> str:
        await asyncio.sleep(0)
        return self.now()

    def settings(self, **changes: Any) -> Settings:
        # The URL's own password is one that the server refuses.
        url = replace(DatabaseUrl.parse(self.login.url), password="of last year").render()
        return Settings(**{"url": url, "pool_size": 1, "max_overflow": 3, **changes})


@pytest.fixture
def vault(thea_database: TestDatabase) -> Iterator[Vault]:
    with guarded_login(thea_database, "monday") as login:
        yield Vault(login)


def sources(vault: Vault) -> dict[str, Source]:
    return {"sync": vault.now, "async": vault.later, "a function that returns a coroutine": Indirect(vault)}


class Indirect:
    """Can be called, and returns a coroutine, without being a coroutine function."""

    def __init__(self, vault: Vault) -> None:
        self.vault = vault

    def __call__(self) -> Awaitable[str]:
        return self.vault.later()


async def open_more(store: Store, tenant: str) -> None:
    """Uses three connections at once, so that two of them are new."""
    async with store.transaction(tenant), store.transaction(tenant), store.transaction(tenant) as tx:
        await tx.users.count(tenant)


@pytest.mark.parametrize("kind", ["sync", "async", "a function that returns a coroutine"])
async def test_the_password_may_change_while_the_store_runs(vault: Vault, tenant: str, kind: str) -> None:
    async with Store.open(vault.settings(), password=sources(vault)[kind]) as store:
        before = vault.asked
        vault.rotate("tuesday")
        await open_more(store, tenant)
        health = await store.health()

        assert vault.asked == before + 3  # two connections and the check
        assert health.reachable
        assert health.role_is_safe


async def test_the_replica_and_its_check_are_given_the_password_of_now(vault: Vault, tenant: str) -> None:
    settings = vault.settings(replica_url=vault.settings().url)
    async with Store.open(settings, password=vault.now) as store:
        vault.rotate("tuesday")
        async with (
            store.transaction(tenant, read_only=True),
            store.transaction(tenant, read_only=True) as tx,
        ):
            assert await tx.users.count(tenant) == 0
        asked = vault.asked
        await store.health()

        assert vault.asked == asked + 2


async def test_a_password_that_changes_between_question_and_answer_is_asked_for_again(
    vault: Vault, tenant: str
) -> None:
    old = iter(["monday"])
    async with Store.open(vault.settings(), password=vault.now) as store:
        vault.rotate("tuesday")
        store._database._connector.password = lambda: next(old, vault.password)
        await open_more(store, tenant)


async def test_a_password_that_changes_under_load_fails_no_call(vault: Vault, tenant: str) -> None:
    """The server knows each one a moment before whoever gives it does."""
    async with Store.open(vault.settings(pool_size=3), password=vault.later) as store:
        over, done = asyncio.Event(), [0] * 4

        async def calls(caller: int) -> None:
            while not over.is_set():
                store._database._pool.expire()  # so that connections are made all the time
                assert await store.users.count(tenant) == 0
                done[caller] += 1

        callers = [asyncio.create_task(calls(caller)) for caller in range(len(done))]
        for day in range(6):
            before = min(done)
            await asyncio.to_thread(vault.login.change_password, f"day {day}")
            await asyncio.sleep(0.05)
            vault.password = f"day {day}"
            async with asyncio.timeout(30):
                while min(done) == before and not any(caller.done() for caller in callers):  # noqa: ASYNC110 - no event
                    await asyncio.sleep(0.01)
        over.set()
        await asyncio.gather(*callers)

    assert vault.asked > sum(done) / 2


async def test_a_password_that_is_wrong_is_refused_like_one_in_the_url(vault: Vault) -> None:
    asked = 0

    def wrong() -> str:
        nonlocal asked
        asked += 1
        return "wrong"

    with pytest.raises(StoreUnavailableError, match="refuses the password"):
        await Store.open(vault.settings(), password=wrong)
    assert asked == 2


async def test_a_function_that_blocks_does_not_stop_the_loop(vault: Vault) -> None:
    threads = set()

    def slow() -> str:
        threads.add(threading.current_thread())
        return vault.password

    await (await Store.open(vault.settings(), password=slow)).close()

    assert threads
    assert threading.current_thread() not in threads


def _fails() -> str:
    raise LookupError("s3cret")


@pytest.mark.parametrize("source", [_fails, lambda: None, lambda: b"bytes", lambda: "", lambda: "a\0b"])
async def test_a_function_without_a_password_is_named(vault: Vault, source: Any) -> None:
    with pytest.raises(StoreUnavailableError, match="the function given as `password`") as caught:
        await Store.open(vault.settings(), password=source)
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("source", ["s3cret", 5, b"s3cret"])
async def test_a_password_that_is_no_function_is_refused(vault: Vault, source: Any) -> None:
    with pytest.raises(InvalidArgumentError, match=r"^password: must be a function") as caught:
        await Store.open(vault.settings(), password=source)
    assert "s3cret" not in str(caught.value)
