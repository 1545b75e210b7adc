"""Transactions: one tenant, all or nothing, with savepoints, and nothing left behind."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest

from thea_store import (
    ConflictError,
    DuplicateError,
    InvalidArgumentError,
    InvalidTenantError,
    NotFoundError,
    Store,
    StoreError,
    StoreTransaction,
    StoreUnavailableError,
    TenantMismatchError,
    User,
)


async def test_what_a_block_wrote_is_there_after_it(store: Store, tenant: str) -> None:
    async with store.transaction(tenant) as tx:
        user = await tx.users.create(tenant, telegram_id=1)
        assert await store.users.get_by_id(tenant, user.id) is None

    assert await store.users.get_by_id(tenant, user.id) == user


async def test_an_exception_undoes_the_whole_block(store: Store, tenant: str) -> None:
    with pytest.raises(RuntimeError, match="second thoughts"):
        async with store.transaction(tenant) as tx:
            await tx.users.create(tenant, telegram_id=1)
            raise RuntimeError("second thoughts")

    assert await store.users.count(tenant) == 0


async def test_another_tenant_is_refused_inside(store: Store, tenant: str, other_tenant: str) -> None:
    async with store.transaction(tenant) as tx:
        with pytest.raises(TenantMismatchError):
            await tx.users.create(other_tenant, telegram_id=1)
        with pytest.raises(TenantMismatchError):
            await tx.users.delete(other_tenant, 1)
        with pytest.raises(InvalidTenantError):
            await tx.users.count("")


async def test_a_savepoint_is_undone_alone(store: Store, tenant: str) -> None:
    async with store.transaction(tenant) as tx:
        await tx.users.create(tenant, telegram_id=1)
        with pytest.raises(DuplicateError):
            async with tx.savepoint():
                await tx.users.create(tenant, telegram_id=2)
                await tx.users.create(tenant, telegram_id=1)
        async with tx.savepoint():
            await tx.users.create(tenant, telegram_id=3)

    assert sorted([user.telegram_id async for user in store.users.iterate(tenant)]) == [1, 3]


async def test_savepoints_nest(store: Store, tenant: str) -> None:
    async with store.transaction(tenant) as tx, tx.savepoint():
        await tx.users.create(tenant, telegram_id=1)
        with pytest.raises(KeyError):
            async with tx.savepoint():
                await tx.users.create(tenant, telegram_id=2)
                raise KeyError

    assert [user.telegram_id async for user in store.users.iterate(tenant)] == [1]


async def test_a_failure_swallowed_inside_a_savepoint_undoes_that_savepoint(store: Store, tenant: str) -> None:
    async with store.transaction(tenant) as tx:
        await tx.users.create(tenant, telegram_id=1)
        with pytest.raises(StoreError, match="savepoint"):
            async with tx.savepoint():
                with pytest.raises(DuplicateError):
                    await tx.users.create(tenant, telegram_id=1)
        await tx.users.create(tenant, telegram_id=2)

    assert await store.users.count(tenant) == 2


async def test_a_swallowed_failure_without_a_savepoint_is_no_silent_loss(store: Store, tenant: str) -> None:
    with pytest.raises(StoreError, match="rolled back"):
        async with store.transaction(tenant) as tx:
            await tx.users.create(tenant, telegram_id=1)
            with pytest.raises(DuplicateError):
                await tx.users.create(tenant, telegram_id=1)

    assert await store.users.count(tenant) == 0


async def test_after_a_failure_the_next_call_says_what_to_do(store: Store, tenant: str) -> None:
    with pytest.raises(StoreError, match=r"tx\.savepoint"):
        async with store.transaction(tenant) as tx:
            with pytest.raises(DuplicateError):
                await tx.users.create_many(tenant, [{"telegram_id": 1}, {"telegram_id": 1}])
            await tx.users.count(tenant)


async def test_a_transaction_that_has_ended_is_refused(store: Store, tenant: str) -> None:
    async with store.transaction(tenant) as tx:
        pass

    with pytest.raises(StoreError, match="has ended"):
        await tx.users.count(tenant)


async def test_calls_of_several_tasks_take_turns(store: Store, tenant: str) -> None:
    async with store.transaction(tenant) as tx:
        await asyncio.gather(*(tx.users.create(tenant, telegram_id=n) for n in range(20)))

    assert await store.users.count(tenant) == 20


async def test_reads_see_the_transaction_itself(store: Store, tenant: str, user: User) -> None:
    async with store.transaction(tenant) as tx:
        await tx.users.delete(tenant, user.id)

        assert await tx.users.get_by_id(tenant, user.id) is None
        assert await store.users.get_by_id(tenant, user.id) == user


async def test_actor_and_request_reach_the_audit_log_of_this_transaction_alone(
    store: Store, tenant: str, superuser: psycopg.Connection[Any]
) -> None:
    async with store.transaction(tenant, actor="user:12", request_id="req'\\-1") as tx:
        user = await tx.users.create(tenant, telegram_id=1)
    await store.users.update(tenant, user.id, first_name="Ana")

    entries = superuser.execute(
        "select action, actor, request_id, before, after from thea.audit_log where tenant_id = %s order by at", [tenant]
    ).fetchall()
    assert entries[0][:3] == ("insert", "user:12", "req'\\-1")
    assert entries[1] == ("update", None, None, {"first_name": None}, {"first_name": "Ana"})


async def test_a_read_only_transaction_refuses_to_write(store: Store, tenant: str) -> None:
    with pytest.raises(StoreUnavailableError, match="read-only"):
        async with store.transaction(tenant, read_only=True) as tx:
            await tx.users.create(tenant, telegram_id=1)


async def test_an_unknown_isolation_is_refused_before_anything_is_sent(store: Store, tenant: str) -> None:
    with pytest.raises(InvalidArgumentError, match="isolation"):
        store.transaction(tenant, isolation="chaos; drop table users")  # type: ignore[arg-type]


async def test_a_block_does_not_take_a_retry(store: Store, tenant: str) -> None:
    with pytest.raises(InvalidArgumentError, match=r"store\.run"):
        store.transaction(tenant, retry=3)


async def test_run_runs_the_whole_function_again_after_a_serialization_failure(
    store: Store, tenant: str, user: User
) -> None:
    runs = 0

    async def add_one(tx: StoreTransaction) -> int:
        nonlocal runs
        runs += 1
        before = int((await tx.users.get_preferences(tenant, user.id)).get("n", 0))
        if runs == 1:  # another writer comes in between
            await store.users.merge_preferences(tenant, user.id, {"n": before + 10})
        await tx.users.merge_preferences(tenant, user.id, {"n": before + 1})
        return before + 1

    assert await store.run(tenant, add_one, retry=2, isolation="repeatable read") == 11
    assert runs == 2
    assert await store.users.get_preferences(tenant, user.id) == {"n": 11}


async def test_run_gives_up_after_the_last_retry(store: Store, tenant: str, user: User) -> None:
    runs = 0

    async def always_late(tx: StoreTransaction) -> None:
        nonlocal runs
        runs += 1
        await tx.users.get_by_id(tenant, user.id)
        await store.users.merge_preferences(tenant, user.id, {"n": runs})
        await tx.users.merge_preferences(tenant, user.id, {"n": 0})

    with pytest.raises(ConflictError, match="run all of it again"):
        await store.run(tenant, always_late, retry=2, isolation="serializable")
    assert runs == 3


async def test_run_does_not_repeat_other_errors(store: Store, tenant: str) -> None:
    runs = 0

    async def fails(tx: StoreTransaction) -> None:
        nonlocal runs
        runs += 1
        await tx.users.update(tenant, 1, first_name="Ana")

    with pytest.raises(NotFoundError):
        await store.run(tenant, fails, retry=5)
    assert runs == 1


async def test_two_rivals_in_a_deadlock_both_succeed_with_retries(store: Store, tenant: str) -> None:
    first = await store.users.create(tenant, telegram_id=1)
    second = await store.users.create(tenant, telegram_id=2)
    met = asyncio.Barrier(2)
    rounds = {1: 0, 2: 0}

    def rival(name: int, mine: User, theirs: User) -> Any:
        async def work(tx: StoreTransaction) -> None:
            rounds[name] += 1
            await tx.users.merge_preferences(tenant, mine.id, {f"by{name}": True})
            if rounds[name] == 1:
                await met.wait()
            await tx.users.merge_preferences(tenant, theirs.id, {f"by{name}": True})

        return work

    await asyncio.gather(store.run(tenant, rival(1, first, second)), store.run(tenant, rival(2, second, first)))

    assert sum(rounds.values()) == 3
    for user in (first, second):
        assert await store.users.get_preferences(tenant, user.id) == {"by1": True, "by2": True}
