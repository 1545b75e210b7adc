"""Random steps of sessions that write and count messages meanwhile, and a reader that compares sums with all rows.

They work on a server of its own and on a Citus cluster alike, where a transaction learns its settings by `set local`.
"""

from __future__ import annotations

import random
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import psycopg
import pytest

from thea_store.assistant.messages import COUNT_BY_DAY, GET_STATISTICS
from thea_store.postgres.session import literal
from thea_store.queries.query import Query

__all__ = ["Connection", "Reader", "hastened_fold", "hastened_trigger", "populate", "random_steps", "window"]

Connection = psycopg.Connection[Any]
Window = tuple[str | None, datetime | None, datetime | None]
"""An intent, and between which moments."""

PLAIN = """
with chosen as (
  select intent_detected, confidence_score, processing_time_ms
  from thea.message_history
  where tenant_id = $1 and deleted_at is null
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
where tenant_id = $1 and deleted_at is null
  and ($2::text is null or intent_detected = $2)
  and ($3::timestamptz is null or created_at >= $3) and ($4::timestamptz is null or created_at < $4)
"""
INTENTS = (None, "greet", "remind")


class Urls(Protocol):
    """Where the sessions log in."""

    @property
    def superuser_url(self) -> str: ...

    def url_of(self, group: str) -> str: ...


def _for_tenant(tenant: str) -> bytes:
    return f"set local app.tenant_id = {literal(tenant)}".encode()


def hastened_fold(superuser: Connection) -> str:
    """The function that counts, made anew so that a row is old after some milliseconds."""
    [(fold,)] = superuser.execute("select pg_get_functiondef('thea.fold_messages_here(text)'::regprocedure)").fetchall()
    hasty = str(fold).replace("2 hours 1 minute", "40 milliseconds").replace("2 hours", "40 milliseconds")
    assert hasty != fold
    return hasty


def hastened_trigger(trigger: str) -> str:
    """A trigger that leaves differences, made anew in the same manner."""
    hasty = trigger.replace("'01:00:00'", "'00:00:00.02'")
    assert hasty != trigger
    return hasty.replace("CREATE TRIGGER", "CREATE OR REPLACE TRIGGER")


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
            ask(_for_tenant(self.tenant))
            [(*whole, confidence, time)] = ask(GET_STATISTICS.text, [self.tenant]).fetchall()
            [(*plain, plain_confidence, plain_time)] = ask(PLAIN, [self.tenant]).fetchall()
            counts = list[int]()
            plain_counts = list[int]()
            for window in ((None, None, None), *windows):
                counts.append(self._count(*window))
                plain_counts += ask(PLAIN_COUNT, [self.tenant, *window]).fetchone() or ()
            [(used,)] = ask(
                "select exists (select from thea.message_counts c join thea.message_folds f using (tenant_id)"
                " where c.tenant_id = $1 and f.tenant_id = $1 and c.at < f.until)",
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


class Writer:
    """A service's session, which leaves its transaction open between its steps."""

    def __init__(self, url: str, tenant: str, rng: random.Random) -> None:
        self.rng, self.tenant = rng, tenant
        self.connection = psycopg.connect(url, autocommit=True)

    def begin(self, isolation: str = "read committed") -> None:
        self.connection.execute(f"begin isolation level {isolation}".encode())
        # One thread has all sessions: none may wait for another.
        self.connection.execute("set local lock_timeout = '10ms'")

    def step(self) -> None:
        ask, rng = self.connection.execute, self.rng
        if not self.connection.info.transaction_status:
            self.begin(rng.choice(["read committed", "repeatable read"]))
            ask(_for_tenant(self.tenant))
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
                " and deleted_at is null order by id offset %s limit 1 returning id",
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
        self.begin()
        self.connection.execute("select thea.fold_messages(%s)", [self.tenant])
        if self.rng.random() < 0.5:
            self.connection.execute("commit")


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
            self.begin()
            self.connection.execute(_for_tenant(self.tenant))
            with suppress(psycopg.errors.LockNotAvailable):
                self.connection.execute("select thea.forget_message_counts(%s)", [self.tenant])


def random_steps(reader: Reader, seed: int, urls: Urls) -> None:
    """Steps of sessions in any order, after each of which the reader compares."""
    rng, tenant = random.Random(seed), reader.tenant
    with ExitStack() as stack:
        superuser = stack.enter_context(psycopg.connect(urls.superuser_url, autocommit=True))
        populate(superuser, tenant)
        writers = [Writer(urls.url_of("thea_app"), tenant, rng) for _ in range(3)]
        folders = [Folder(urls.url_of("thea_worker"), tenant, rng) for _ in range(2)]
        sessions = [*writers, *folders, Forgetter(urls.url_of("thea_mover"), tenant, rng)]
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
