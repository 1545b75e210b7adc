"""The sums of messages: whatever is done meanwhile, an answer from them is that of all rows, in the same snapshot."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import psycopg
import pytest

from tests.support.counting import Connection, Reader, hastened_fold, hastened_trigger, populate, random_steps
from thea_store.testing import TestDatabase


@pytest.fixture(scope="module")
def hasty(thea_new_database: Callable[..., TestDatabase]) -> TestDatabase:
    """A database in which a row is old after some milliseconds, so that rows become old while the test runs."""
    database = thea_new_database()
    with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
        superuser.execute(hastened_fold(superuser).encode())
        for (trigger,) in superuser.execute(
            "select pg_get_triggerdef(oid) from pg_trigger where tgfoid = 'thea.leave_difference()'::regprocedure"
        ).fetchall():
            superuser.execute(hastened_trigger(trigger).encode())
    return database


@pytest.fixture
def reader(hasty: TestDatabase, tenant: str) -> Iterator[Reader]:
    found = Reader(hasty.app_url, tenant)
    yield found
    found.connection.close()


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 4))])
def test_sums_are_exact_in_every_snapshot_whoever_writes_and_counts_meanwhile(
    seed: int, hasty: TestDatabase, reader: Reader
) -> None:
    random_steps(reader, seed, hasty)


# --- who may go on while the counting begins ----------------------------------------------------------


@pytest.fixture
def writer(hasty: TestDatabase, tenant: str) -> Iterator[Connection]:
    """A service's session; its tenant has three messages, which are old."""
    with psycopg.connect(hasty.superuser_url, autocommit=True) as superuser:
        populate(superuser, tenant)
        superuser.execute(
            "insert into thea.message_history (tenant_id, user_id, conversation_id, user_message, created_at)"
            " select tenant_id, user_id, id, 'Hola', now() - interval '3 days' from thea.conversations"
            " where tenant_id = %s limit 3",
            [tenant],
        )
    with psycopg.connect(hasty.app_url) as connection:
        connection.execute("select set_config('app.tenant_id', %s, false)", [tenant])
        connection.commit()
        yield connection


@pytest.fixture
def counting(hasty: TestDatabase, tenant: str) -> Iterator[Callable[[], bool]]:
    """One look of a worker at the tenant."""
    with psycopg.connect(hasty.url_of("thea_worker"), autocommit=True) as worker:

        def fold() -> bool:
            [(done,)] = worker.execute("select thea.fold_messages(%s)", [tenant]).fetchall()
            return bool(done)

        yield fold


def until(condition: Callable[[], object]) -> None:
    """Look until it is so: other transactions of the server may hold the counting back."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def remove_one(writer: Connection) -> None:
    writer.execute(
        "delete from thea.message_history where id = (select min(id) from thea.message_history)"
        " and tenant_id = current_setting('app.tenant_id')"
    )


def counted(reader: Reader) -> int:
    with reader.connection.transaction():
        reader.connection.execute("select set_config('app.tenant_id', $1, true)", [reader.tenant])
        [(sums,)] = reader.connection.execute("select sum(messages)::int from thea.message_counts").fetchall()
    return sums or 0


def test_counting_does_not_begin_while_somebody_writes_who_found_that_nothing_is_counted(
    writer: Connection, counting: Callable[[], bool], reader: Reader
) -> None:
    remove_one(writer)

    assert [counting() for _ in range(3)] == [False] * 3
    writer.commit()
    until(lambda: (counting(), counted(reader) == 2)[1])
    reader.compare()


def test_who_does_not_see_that_the_counting_has_begun_leaves_a_difference(
    writer: Connection, counting: Callable[[], bool], reader: Reader
) -> None:
    writer.execute("set transaction isolation level repeatable read")
    writer.execute("select from thea.message_folds")
    until(lambda: (counting(), counted(reader) == 3)[1])
    remove_one(writer)
    writer.commit()

    assert counted(reader) == 2
    reader.compare()


def test_messages_are_not_counted_in_a_transaction_that_sees_no_more_than_its_beginning(
    hasty: TestDatabase, tenant: str
) -> None:
    with (
        psycopg.connect(hasty.url_of("thea_worker")) as worker,
        pytest.raises(psycopg.errors.InvalidTransactionState, match="read committed"),
    ):
        worker.execute("set transaction isolation level repeatable read")
        worker.execute("select thea.fold_messages(%s)", [tenant])
