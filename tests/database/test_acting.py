"""`store.acting`: single calls are made on somebody's behalf, and the audit log has them under that name."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.support.calls import CALLS, Call, prepare
from tests.support.pooler import pgbouncer
from tests.support.wire import Wire
from thea_store import AuditEntry, InvalidArgumentError, InvalidReferenceError, Settings, Store, User
from thea_store.assistant.notes import SQL as NOTES
from thea_store.database import single_call
from thea_store.database.acting import Acting
from thea_store.postgres.url import DatabaseUrl
from thea_store.testing import TestDatabase

PURGE = next(query for query in NOTES.claimed if query.name == "notes.purge")
WHO = {"actor": "user:12", "request_id": "petición-7 'x' \\"}


@pytest_asyncio.fixture(scope="module", params=["session", "transaction"])
async def store(request: pytest.FixtureRequest, thea_database: TestDatabase) -> AsyncIterator[Store]:
    settings = Settings(url=thea_database.app_url, tenant_scope=request.param, pool_size=1, max_overflow=0)
    async with Store.open(settings) as opened:
        yield opened


async def _entries(store: Store, tenant: str) -> list[AuditEntry]:
    """The tenant's newest entries, the newest last."""
    return (await store.audit.get_all(tenant, limit=1000)).items[::-1]


async def _last(store: Store, tenant: str) -> tuple[str | None, str | None]:
    entry = (await _entries(store, tenant))[-1]
    return entry.actor, entry.request_id


@pytest.mark.parametrize("call", [call for call in CALLS if call.writes], ids=str)
async def test_every_call_that_writes_is_audited_under_the_blocks_actor(store: Store, tenant: str, call: Call) -> None:
    ground = await prepare(store, tenant)
    before = len(await _entries(store, tenant))
    with store.acting(**WHO):
        await call.run(store, tenant, call.arguments(ground))
    entries = (await _entries(store, tenant))[before:]

    assert {(entry.actor, entry.request_id) for entry in entries} <= {(WHO["actor"], WHO["request_id"])}


async def test_a_call_after_the_block_is_nobodys_on_the_same_connection(store: Store, tenant: str, user: User) -> None:
    with store.acting(actor="user:12"):
        await store.notes.create(tenant, user.id, "pan")
        inside = await _last(store, tenant)
        await store.notes.count(tenant)
    await store.notes.create(tenant, user.id, "pan")

    assert inside == ("user:12", None)
    assert await _last(store, tenant) == (None, None)


async def test_a_call_that_fails_leaves_its_actor_to_nobody(store: Store, tenant: str, user: User) -> None:
    with store.acting(actor="user:12"), pytest.raises(InvalidReferenceError):
        await store.notes.create(tenant, user.id + 1_000_000, "pan")
    await store.notes.create(tenant, user.id, "pan")

    assert await _last(store, tenant) == (None, None)


async def test_an_argument_that_cannot_be_encoded_ends_the_connection_to_which_the_actor_was_sent(
    store: Store, tenant: str, user: User
) -> None:
    """Else the actor waits at the server for whatever is sent next."""
    call = single_call.Call(PURGE, tenant, [tenant, "no number"], who=Acting("user:12"))
    with pytest.raises(InvalidArgumentError):
        await store._database._alone(store._database._primary, call)
    await store.notes.create(tenant, user.id, "pan")

    assert await _last(store, tenant) == (None, None)


async def test_a_call_that_is_cut_short_leaves_its_actor_to_nobody(store: Store, tenant: str, user: User) -> None:
    for turns in range(12):
        with store.acting(actor="user:12"):
            call = asyncio.ensure_future(store.notes.create(tenant, user.id, "pan"))
            for _ in range(turns):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait([call])
        await store.notes.create(tenant, user.id, "pan")
        entries = await _entries(store, tenant)

        assert entries[-1].actor is None
        assert {entry.actor for entry in entries[:-1]} <= {None, "user:12"}


async def test_an_inner_block_adds_to_the_outer_one(store: Store, tenant: str, user: User) -> None:
    with store.acting(actor="outer", request_id="r-1"):
        with store.acting(actor="inner"):
            await store.users.update(tenant, user.id, username="a")
            inner = await _last(store, tenant)
        await store.users.update(tenant, user.id, username="b")

        assert inner == ("inner", "r-1")
        assert await _last(store, tenant) == ("outer", "r-1")


async def test_transactions_and_atomic_calls_in_a_block_have_its_actor(store: Store, tenant: str, user: User) -> None:
    note = await store.notes.create(tenant, user.id, "pan")
    await store.notes.delete(tenant, note.id)
    with store.acting(**WHO):
        await store.notes.restore(tenant, note.id)
        restored = await _last(store, tenant)
        async with store.transaction(tenant, request_id="own") as tx:
            await tx.notes.update(tenant, note.id, title="x")
        in_transaction = await _last(store, tenant)
        await store.run(tenant, lambda tx: tx.notes.update(tenant, note.id, title="y"), actor="own")

        assert restored == (WHO["actor"], WHO["request_id"])
        assert in_transaction == (WHO["actor"], "own")
        assert await _last(store, tenant) == ("own", WHO["request_id"])


async def test_a_block_is_its_tasks_and_that_of_the_tasks_begun_in_it(store: Store, tenant: str, user: User) -> None:
    async def write(title: str) -> None:
        await store.notes.create(tenant, user.id, "pan", title=title)

    entered, left = asyncio.Event(), asyncio.Event()

    async def elsewhere() -> None:
        await entered.wait()
        await write("elsewhere")
        left.set()

    other = asyncio.create_task(elsewhere())
    with store.acting(actor="user:12"):
        child = asyncio.create_task(write("child"))
        entered.set()
        await left.wait()
        await child
    await other
    actors = {(entry.after or {}).get("title"): entry.actor for entry in await _entries(store, tenant)}

    assert (actors["child"], actors["elsewhere"]) == ("user:12", None)


async def test_a_block_of_one_store_is_not_anothers(
    store: Store, thea_database: TestDatabase, tenant: str, user: User
) -> None:
    async with Store.open(Settings(url=thea_database.app_url, pool_size=1)) as another:
        with store.acting(actor="user:12"):
            await another.notes.create(tenant, user.id, "pan")

    assert await _last(store, tenant) == (None, None)


async def test_cascades_and_bulk_writes_have_the_actor_too(store: Store, tenant: str, user: User) -> None:
    with store.acting(actor="user:12"):
        await store.notes.create_many(tenant, [{"user_id": user.id, "content": str(n)} for n in range(300)])
        await store.users.delete(tenant, user.id)
    entries = [entry for entry in await _entries(store, tenant) if entry.table_name == "notes"]

    assert len(entries) == 600
    assert {entry.actor for entry in entries} == {"user:12"}


async def test_where_nothing_can_ride_along_a_transaction_says_who_acts(
    thea_database: TestDatabase, tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thea_store.database.wire.driver_is_known", lambda: False)
    for scope in ("session", "transaction"):
        async with Store.open(Settings(url=thea_database.app_url, tenant_scope=scope, pool_size=1)) as old:
            with old.acting(**WHO):
                await old.users.get_or_create_from_telegram(tenant, 7, username=scope)

            assert await _last(old, tenant) == (WHO["actor"], WHO["request_id"])


async def test_behind_a_pooler_a_call_and_no_other_has_the_actor(thea_database: TestDatabase, tenant: str) -> None:
    with pgbouncer(thea_database.app_url, default_pool_size="1") as url:
        settings = Settings(url=url, tenant_scope="transaction", ssl_mode="disable")
        async with Store.open(settings) as pooled:
            with pooled.acting(**WHO):
                user = await pooled.users.create(tenant, telegram_id=1)
            inside = await _last(pooled, tenant)
            await pooled.users.update(tenant, user.id, username="a")

            assert inside == (WHO["actor"], WHO["request_id"])
            assert await _last(pooled, tenant) == (None, None)


@pytest.mark.parametrize("wrong", ["", "x" * 256, "a\0b", 12])
def test_who_acts_is_checked_when_the_block_begins(store: Store, wrong: Any) -> None:
    for name in ("actor", "request_id"):
        with pytest.raises(InvalidArgumentError, match=name), store.acting(**{name: wrong}):
            pytest.fail("the block began")


async def test_saying_who_acts_is_no_message_more(thea_database: TestDatabase, tenant: str) -> None:
    if DatabaseUrl.parse(thea_database.app_url).password is None:
        pytest.skip("the server asks for no password over TCP")
    async with Wire(thea_database.app_url).listening() as wire:
        for scope in ("session", "transaction"):
            settings = Settings(url=wire.url, tenant_scope=scope, pool_size=1, max_overflow=0)
            async with Store.open(settings) as store:
                user = await store.users.create(tenant, telegram_id=len(scope))
                counts = []
                for actor in (None, "user:12"):
                    with store.acting(actor=actor):
                        await store.notes.create(tenant, user.id, "pan")
                        wire.reset()
                        await store.notes.create(tenant, user.id, "pan")
                        counts.append(wire.round_trips)

                assert counts[0] == counts[1] == 1, scope
