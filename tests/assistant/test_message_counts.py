"""The sums of messages: whatever is done meanwhile, an answer from them is that of all rows, in the same snapshot."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from thea_store.assistant.messages import COUNT_BY_DAY, GET_STATISTICS
from thea_store.queries.query import Query
from thea_store.testing import TestDatabase

Connection = psycopg.Connection[Any]
Window = tuple[str | None, datetime | None, datetime | None]
"""An intent, and between which moments."""

PLAIN = """
with chosen as (
  select intent_detected, confidence_score, processing_time_ms
  from thea.message_history
  where tenant_id = current_setting('app.tenant_id') and deleted_at is null
),
intents as (
  select intent_detected as intent, count(*) as total from chosen where intent_detected is not null group by 1
)
select
  (select count(*) from chosen), (select count(*) from intents),
  (select coalesce(jsonb_object_agg(intent, total), '{}') from intents),
  (select avg(confidence_score) from chosen), (select avg(processing_time_ms)::double precision from chosen)
"""
PLAIN_COUNT = """
select count(*) from thea.message_history
where tenant_id = current_setting('app.tenant_id') and deleted_at is null
  and ($1::text is null or intent_detected = $1)
  and ($2::timestamptz is null or created_at >= $2) and ($3::timestamptz is null or created_at < $3)
"""
INTENTS = (None, "greet", "remind")


class Reader:
    """Compares the answers from sums with those from all rows."""

    def __init__(self, url: str, tenant: str) -> None:
        self.tenant = tenant
        self.connection = psycopg.connect(url, autocommit=True, cursor_factory=psycopg.RawCursor)
        self.sums_were_used = 0

    def compare(self, *windows: Window) -> None:
        ask = self.connection.execute
        with self.connection.transaction():
            ask("set transaction isolation level repeatable read")
            ask("select set_config('app.tenant_id', $1, true)", [self.tenant])
            [(*whole, confidence, time)] = ask(GET_STATISTICS.text, [self.tenant]).fetchall()
            [(*plain, plain_confidence, plain_time)] = ask(PLAIN).fetchall()
            counts = list[int]()
            plain_counts = list[int]()
            for window in ((None, None, None), *windows):
                counts.append(self._count(*window))
                plain_counts += ask(PLAIN_COUNT, window).fetchone() or ()
            [(used,)] = ask(
                "select exists (select from thea.message_counts c join thea.message_folds f using (tenant_id)"
                " where c.tenant_id = $1 and c.at < f.until)",
                [self.tenant],
            ).fetchall()
        self.sums_were_used += used

        assert whole == plain
        assert confidence == (plain_confidence and pytest.approx(plain_confidence, rel=1e-9, abs=1e-12))
        assert time == (plain_time and pytest.approx(plain_time, rel=1e-12))
        assert counts == plain_counts

    def _count(self, intent: str | None, first: datetime | None, until: datetime | None) -> int:
        values = {"tenant_id": self.tenant, "intent": intent, "created_from": first, "created_before": until}
        query: Query[int] = COUNT_BY_DAY.variant(values)
        [(total,)] = self.connection.execute(query.text, [values[name] for name in query.parameters]).fetchall()
        return int(total)


@pytest.fixture(scope="module")
def hasty(thea_new_database: Callable[..., TestDatabase]) -> TestDatabase:
    """A database in which a row is old after some milliseconds, so that rows become old while the test runs."""
    database = thea_new_database()
    with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
        [(fold,)] = superuser.execute("select pg_get_functiondef('thea.fold_messages(text)'::regprocedure)").fetchall()
        superuser.execute(fold.replace("2 hours 1 minute", "40 milliseconds").replace("2 hours", "40 milliseconds"))
        for (trigger,) in superuser.execute(
            "select pg_get_triggerdef(oid) from pg_trigger where tgfoid = 'thea.leave_difference()'::regprocedure"
        ).fetchall():
            hasty = trigger.replace("'01:00:00'", "'00:00:00.02'")
            assert hasty != trigger
            superuser.execute(hasty.replace("CREATE TRIGGER", "CREATE OR REPLACE TRIGGER"))
    return database


@pytest.fixture
def reader(hasty: TestDatabase, tenant: str) -> Iterator[Reader]:
    found = Reader(hasty.app_url, tenant)
    yield found
    found.connection.close()


def age(rng: random.Random) -> timedelta:
    """Some are new, some of the last days, some at a day's beginning or end."""
    if rng.random() < 0.5:
        return timedelta(milliseconds=rng.choice([0, 0, 10, 25, 50]))
    return timedelta(minutes=rng.randrange(4 * 24 * 60))


def window(rng: random.Random) -> Window:
    now = datetime.now(UTC)
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    moments = [None, midnight - timedelta(days=2), midnight - timedelta(days=1), midnight, now - timedelta(hours=2)]
    moments += [now - age(rng), now - age(rng)]
    return rng.choice(INTENTS), rng.choice(moments), rng.choice(moments)


# --- any order of steps of transactions that overlap ---------------------------------------------------


class Writer:
    """A service's session, which leaves its transaction open between its steps."""

    def __init__(self, url: str, tenant: str, rng: random.Random) -> None:
        self.rng, self.tenant = rng, tenant
        self.connection = psycopg.connect(url, autocommit=True)
        # One thread has all sessions: none may wait for another.
        self.connection.execute("set lock_timeout = '10ms'")

    def step(self) -> None:
        ask, rng = self.connection.execute, self.rng
        if not self.connection.info.transaction_status:
            ask(f"begin isolation level {rng.choice(['read committed', 'repeatable read'])}".encode())
            ask("select set_config('app.tenant_id', %s, true)", [self.tenant])
            return
        try:
            rng.choice([self.insert, self.insert, self.change, self.change, self.change, self.savepoint, self.end])()
        except (psycopg.errors.LockNotAvailable, psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected):
            ask("rollback")

    def insert(self) -> None:
        rng = self.rng
        for _ in range(rng.choice([1, 1, 5])):
            self.connection.execute(
                "insert into thea.message_history (tenant_id, user_id, conversation_id, user_message, intent_detected,"
                " confidence_score, processing_time_ms, created_at)"
                " select tenant_id, user_id, id, 'Hola', %s, %s, %s, %s from thea.conversations where tenant_id = %s"
                " and deleted_at is null order by id offset %s limit 1",
                [
                    *(rng.choice(INTENTS), rng.choice([None, rng.random()]), rng.choice([None, rng.randrange(2000)])),
                    *(datetime.now(UTC) - age(rng), self.tenant, rng.randrange(4)),
                ],
            )

    def change(self) -> None:
        rng = self.rng
        table = rng.choice(["message_history"] * 6 + ["conversations", "users"])
        restored = "" if table == "users" else ", deleted_with = null"
        changes = {
            "update thea.{0} set deleted_at = now() where {1} and deleted_at is null": 3,
            f"update thea.{{0}} set deleted_at = null{restored} where {{1}} and deleted_at is not null": 3,
            "delete from thea.{0} where {1}": 1,
        }
        if table == "message_history":
            for change in ("intent_detected = 'remind'", "confidence_score = 0.125", "processing_time_ms = null"):
                changes[f"update thea.{{0}} set {change} where {{1}}"] = 2
        elif rng.random() < 0.5:
            changes.popitem()
        change = rng.choices(list(changes), list(changes.values()))[0]
        chosen = "tenant_id = %s and id in (select id from thea.{0} where tenant_id = %s order by id offset %s limit 3)"
        self.connection.execute(
            change.format(table, chosen.format(table)).encode(),
            [self.tenant, self.tenant, rng.randrange(40 if table == "message_history" else 4)],
        )

    def savepoint(self) -> None:
        self.connection.execute("savepoint s")
        self.rng.choice([self.insert, self.change])()
        self.connection.execute(self.rng.choice([b"rollback to s", b"release s"]))

    def end(self) -> None:
        self.connection.execute(self.rng.choice([b"commit", b"commit", b"commit", b"rollback"]))


class Folder(Writer):
    """A worker's session."""

    def step(self) -> None:
        if self.connection.info.transaction_status:
            self.connection.execute(self.rng.choice([b"commit", b"commit", b"commit", b"rollback"]))
            return
        if self.rng.random() < 0.5:
            self.connection.execute("begin")
        self.connection.execute("select thea.fold_messages(%s)", [self.tenant])


def populate(superuser: Connection, tenant: str) -> None:
    superuser.execute(
        "insert into thea.users (tenant_id, telegram_id) select %s, g from generate_series(1, 4) g", [tenant]
    )
    superuser.execute(
        "insert into thea.conversations (tenant_id, user_id, session_id) select tenant_id, id, id::text"
        " from thea.users where tenant_id = %s",
        [tenant],
    )


class Forgetter(Writer):
    """A mover's session, which has the counting begin anew."""

    def step(self) -> None:
        if self.connection.info.transaction_status:
            self.end()
        elif self.rng.random() < 0.15:
            self.connection.execute("begin")
            self.connection.execute("select set_config('app.tenant_id', %s, true)", [self.tenant])
            with suppress(psycopg.errors.LockNotAvailable):
                self.connection.execute("select thea.forget_message_counts(%s)", [self.tenant])


@pytest.mark.parametrize("seed", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in range(1, 4))])
def test_sums_are_exact_in_every_snapshot_whoever_writes_and_counts_meanwhile(
    seed: int, hasty: TestDatabase, tenant: str, reader: Reader
) -> None:
    rng = random.Random(seed)
    with ExitStack() as stack:
        superuser = stack.enter_context(psycopg.connect(hasty.superuser_url, autocommit=True))
        populate(superuser, tenant)
        writers = [Writer(hasty.app_url, tenant, rng) for _ in range(3)]
        folders = [Folder(hasty.url_of("thea_worker"), tenant, rng) for _ in range(2)]
        sessions = [*writers, *folders, Forgetter(hasty.url_of("thea_mover"), tenant, rng)]
        for session in sessions:
            stack.callback(session.connection.close)
        for _ in range(150):
            rng.choices(sessions, [4, 4, 4, 4, 4, 1])[0].step()
            reader.compare(window(rng))
        for session in sessions:
            if session.connection.info.transaction_status:
                session.connection.execute("commit")
        superuser.execute("select thea.fold_messages(%s)", [tenant])
        reader.compare(window(rng))

    assert reader.sums_were_used > 10


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
