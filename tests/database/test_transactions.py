"""Transactions: one tenant, all or nothing, with savepoints, and nothing left behind."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import psycopg
import pytest

from thea_store import (
    ConflictError,
    DuplicateError,
    InvalidArgumentError,
    InvalidTenantError,
    NotFoundError,
    Settings,
    Store,
    StoreError,
    StoreTransaction,
    StoreUnavailableError,
    TenantMismatchError,
    User,
)
from thea_store.testing import TestDatabase


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
    with pytest.raises(StoreError, match="is read_only"):
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


async def test_an_end_that_is_cancelled_while_another_task_calls_gives_the_connection_back(
    thea_database: TestDatabase, tenant: str, superuser: psycopg.Connection[Any]
) -> None:
    async with Store.open(Settings(url=thea_database.app_url, pool_size=1, max_overflow=0, pool_timeout=2)) as store:
        user = await store.users.create(tenant, telegram_id=1)
        for error in (None, RuntimeError()):
            others: list[asyncio.Task[User]] = []

            async def work(error: Exception | None = error, others: list[asyncio.Task[User]] = others) -> None:
                async with store.transaction(tenant) as tx:
                    others.append(asyncio.create_task(tx.users.update(tenant, user.id, first_name="Ana")))
                    await asyncio.sleep(0.05)
                    if error is not None:
                        raise error

            with superuser.transaction():
                superuser.execute("select from thea.users where tenant_id = %s for update", [tenant])
                task = asyncio.create_task(work())
                await asyncio.sleep(0.1)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
                with pytest.raises(StoreUnavailableError):
                    await others[0]

            assert await store.users.get_by_id(tenant, user.id) == user


async def test_a_savepoint_that_a_timeout_leaves_is_undone(store: Store, tenant: str) -> None:
    async with store.transaction(tenant) as tx:
        await tx.users.create(tenant, telegram_id=1)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), tx.savepoint():
                await tx.users.create(tenant, telegram_id=2)
                await asyncio.sleep(10)
        await tx.users.create(tenant, telegram_id=3)

    assert [user.telegram_id async for user in store.users.iterate(tenant)] == [1, 3]


async def test_a_call_that_is_cut_short_is_undone_with_its_savepoint(
    store: Store, tenant: str, user: User, superuser: psycopg.Connection[Any]
) -> None:
    async with store.transaction(tenant) as tx:
        with superuser.transaction():
            superuser.execute("select from thea.users where tenant_id = %s for update", [tenant])
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05), tx.savepoint():
                    await tx.users.update(tenant, user.id, first_name="Eva")
        await tx.users.create(tenant, telegram_id=2)

    assert {found.first_name async for found in store.users.iterate(tenant)} == {"Ana", None}


async def test_after_a_call_that_was_cut_short_nothing_more_is_done(
    store: Store, tenant: str, user: User, superuser: psycopg.Connection[Any]
) -> None:
    with pytest.raises(StoreError, match="commit: an earlier call .* was cut short"):
        async with store.transaction(tenant) as tx:
            with superuser.transaction():
                superuser.execute("select from thea.users where tenant_id = %s for update", [tenant])
                with pytest.raises(TimeoutError):
                    async with asyncio.timeout(0.05):
                        await tx.users.update(tenant, user.id, first_name="Eva")
            with pytest.raises(StoreError, match=r"cut short.*tx\.savepoint"):
                await tx.users.create(tenant, telegram_id=2)

    assert [found async for found in store.users.iterate(tenant)] == [user]


async def test_a_connection_that_is_lost_before_the_commit_is_surely_nothing_written(
    thea_database: TestDatabase, tenant: str, superuser: psycopg.Connection[Any]
) -> None:
    async with Store.open(Settings(url=thea_database.app_url, pool_size=1, max_overflow=0)) as store:
        with pytest.raises(StoreUnavailableError, match="commit: .* nothing was written"):
            async with store.transaction(tenant) as tx:
                await tx.users.create(tenant, telegram_id=1)
                superuser.execute(
                    "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
                    " where datname = %s and state = 'idle in transaction'",
                    [thea_database.name],
                )
                await asyncio.sleep(0.05)

        assert await store.users.count(tenant) == 0


async def test_a_savepoint_that_outlives_its_transaction_leaves_the_connection_alone(
    thea_database: TestDatabase, tenant: str
) -> None:
    async with Store.open(Settings(url=thea_database.app_url, pool_size=1, max_overflow=0)) as store:
        entered = asyncio.Event()

        async def linger(tx: StoreTransaction) -> None:
            async with tx.savepoint():
                entered.set()
                await asyncio.sleep(10)

        with pytest.raises(StoreError, match="another task has a savepoint open"):
            async with store.transaction(tenant) as tx:
                task = asyncio.create_task(linger(tx))
                await entered.wait()
        async with store.transaction(tenant) as tx:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await tx.users.create(tenant, telegram_id=1)

        assert await store.users.count(tenant) == 1


async def test_a_call_of_another_task_cannot_be_undone_by_a_savepoint_it_does_not_know(
    store: Store, tenant: str
) -> None:
    opened, refused = asyncio.Event(), asyncio.Event()

    async def holder(tx: StoreTransaction) -> None:
        with contextlib.suppress(KeyError):
            async with tx.savepoint():
                await tx.users.create(tenant, telegram_id=1)
                opened.set()
                await refused.wait()
                raise KeyError

    async def stranger(tx: StoreTransaction) -> None:
        await opened.wait()
        with pytest.raises(StoreError, match="another task has a savepoint open"):
            await tx.users.create(tenant, telegram_id=2)
        with pytest.raises(StoreError, match="another task has a savepoint open"):
            async with tx.savepoint():
                pass
        refused.set()

    async with store.transaction(tenant) as tx:
        await asyncio.gather(holder(tx), stranger(tx))
        await tx.users.create(tenant, telegram_id=3)

    assert [user.telegram_id async for user in store.users.iterate(tenant)] == [3]


async def test_tasks_begun_inside_a_savepoint_belong_to_it(store: Store, tenant: str) -> None:
    async with store.transaction(tenant) as tx:
        async with tx.savepoint():
            await asyncio.gather(*(tx.users.create(tenant, telegram_id=n) for n in range(5)))
        with contextlib.suppress(KeyError):
            async with tx.savepoint():
                await asyncio.gather(*(tx.users.create(tenant, telegram_id=n) for n in range(5, 9)))
                raise KeyError

    assert await store.users.count(tenant) == 5


async def test_savepoints_of_two_transactions_in_one_task_do_not_meet(
    store: Store, tenant: str, other_tenant: str
) -> None:
    async with store.transaction(tenant) as mine, store.transaction(other_tenant) as theirs, mine.savepoint():
        await theirs.users.create(other_tenant, telegram_id=1)
        async with theirs.savepoint():
            await mine.users.create(tenant, telegram_id=1)

    assert (await store.users.count(tenant), await store.users.count(other_tenant)) == (1, 1)


async def test_a_write_in_a_read_only_transaction_costs_no_connection_and_no_retry(store: Store, tenant: str) -> None:
    runs = 0
    expired = store._database._pool._expired_before

    async def writes(tx: StoreTransaction) -> None:
        nonlocal runs
        runs += 1
        await tx.users.create(tenant, telegram_id=1)

    with pytest.raises(StoreError, match="is read_only"):
        await store.run(tenant, writes, read_only=True)

    assert runs == 1
    assert store._database._pool._expired_before == expired
