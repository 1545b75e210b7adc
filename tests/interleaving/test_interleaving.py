"""Many tenants interleave their work on one small pool, and each sees what it alone did (see `interleaving.py`)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from contextvars import copy_context
from typing import Any
from unittest.mock import AsyncMock

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.interleaving.calls import END, Next, Read, ReadAll, RenameUser
from tests.interleaving.crew import Scope
from tests.interleaving.history import CUT, Event, explain
from tests.interleaving.machine import Interleaving
from tests.interleaving.model import Row, Rows, State
from tests.interleaving.server import Server
from tests.interleaving.witness import Cut, seen
from thea_store import QueryTimeoutError, Settings, Store, StoreError, User
from thea_store.assistant.notes import COMMON
from thea_store.database import Transaction, wire
from thea_store.database import database as database_module
from thea_store.database.connection import Connection
from thea_store.queries.query import Query
from thea_store.testing import TestDatabase

# How the server's answers interleave differs on every run, and so does the time that they take.
QUICK = settings(
    max_examples=8,
    stateful_step_count=25,
    suppress_health_check=list(HealthCheck),
)


@pytest.fixture(scope="module")
def impatient_database(thea_new_database: Callable[..., TestDatabase]) -> TestDatabase:
    """One in which no statement waits long for a lock."""
    database = thea_new_database()
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        connection.execute(f"alter database {database.name} set lock_timeout = '50ms'")
    return database


def run(database: TestDatabase, scope: Scope, extent: settings) -> Counter[tuple[str, bool, str]]:
    """Let the machine look for an interleaving that goes wrong; what happened on the way."""
    met: Counter[tuple[str, bool, str]] = Counter()
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        setting = {"scope": scope, "database": database, "server": Server(connection), "met": met}
        run_state_machine_as_test(type("Machine", (Interleaving,), setting), settings=extent)
    return met


@pytest.mark.timeout(420)  # as long as Hypothesis may take to shrink a failure
@pytest.mark.parametrize("scope", ["session", "transaction"])
def test_each_tenant_sees_what_it_did_whatever_the_others_do(impatient_database: TestDatabase, scope: Scope) -> None:
    met = run(impatient_database, scope, QUICK)

    # It went into transactions and out of them, and calls were cut short there and outside.
    assert {(doing, outcome) for doing, _, outcome in met} >= {
        ("begin", "done"),
        ("savepoint", "done"),
        ("undo", "done"),
        ("commit", "done"),
        ("roll back", "done"),
    }
    assert {inside for _, inside, outcome in met if outcome == CUT} == {True, False}


@pytest.mark.parametrize("scope", ["session", "transaction"])
def test_a_connection_that_is_not_told_its_tenant_is_noticed(
    impatient_database: TestDatabase, scope: Scope, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def carry(connection: Connection, tenant_id: str) -> None:
        connection.tenant = tenant_id

    monkeypatch.setattr(Connection, "carry", carry)
    monkeypatch.setattr(database_module, "set_local", lambda **_: [])
    monkeypatch.setattr(wire, "set_tenant", lambda _: b"")

    with pytest.raises(AssertionError, match="no order explains what .* saw"):
        run(impatient_database, scope, settings(QUICK, phases=[Phase.generate]))


# --- the model itself ---------------------------------------------------------------------------------

OLD, NEW = (Row("users", "1", (name, None), id=7) for name in ("Ana", "Eva"))
RENAME, READ = RenameUser(7, "Eva", last=False), Read("users", 7)
BEGIN, UNDO = ("begin", None, 1, 2, 1), ("undo", None, 8, 9, 1)
RENAMED_INSIDE = [BEGIN, (RENAME, NEW, 3, 4, 1)]
LEFT = [BEGIN, ("savepoint", None, 3, 4, 1), ("release", None, 5, 6, 1)]
CUT_LATER, COMMIT = (RENAME, CUT, 20, 21, 1), ("commit", None, 22, 23, 1)

History = Sequence[tuple[Any, ...]]


def ends(history: History) -> set[Rows]:
    """The rows that the history may leave, of what was done and seen, from when to when, in which transaction."""
    events = [
        Event(doing, seen, started, ended, transaction=number[0] if number else None)
        for doing, seen, started, ended, *number in history
    ]
    return {state.rows for state in explain({State(frozenset({OLD}))}, events)}


@pytest.mark.parametrize(
    "history",
    [
        pytest.param([(READ, None, 1, 2)], id="a row that is not seen"),
        pytest.param([(ReadAll("users"), frozenset({OLD, NEW}), 1, 2)], id="a row too many"),
        pytest.param([(RENAME, NEW, 1, 2), (READ, OLD, 3, 4)], id="a change that is not seen later"),
        pytest.param([(RENAME, CUT, 1, 9), (READ, NEW, 2, 3), (READ, OLD, 4, 5)], id="a change that is seen no more"),
        pytest.param([(RENAME, StoreError, 1, 2)], id="an error without a reason"),
        pytest.param([*RENAMED_INSIDE, (READ, OLD, 5, 6, 1)], id="a change not seen within its transaction"),
        pytest.param([*RENAMED_INSIDE, (READ, NEW, 5, 6)], id="a change seen before its commit"),
        pytest.param([*RENAMED_INSIDE, (RENAME, NEW, 5, 6)], id="a row changed by two at once"),
        pytest.param([BEGIN, (RENAME, CUT, 3, 4, 1), (READ, OLD, 5, 6, 1)], id="a call after one that was cut short"),
        pytest.param([BEGIN, (RENAME, CUT, 3, 4, 1), ("commit", None, 5, 6, 1)], id="a commit after one that was"),
        pytest.param(
            [BEGIN, ("savepoint", None, 3, 4, 1), (RENAME, NEW, 5, 6, 1), UNDO, (READ, NEW, 10, 11, 1)],
            id="a change seen after its savepoint was undone",
        ),
        pytest.param([*LEFT, (RENAME, NEW, 7, 8, 1), CUT_LATER, COMMIT], id="one that was sent after a savepoint"),
        pytest.param(
            [*LEFT, ("savepoint", None, 7, 8, 1), CUT_LATER, ("release", None, 22, 23, 1)], id="in another savepoint"
        ),
    ],
)
def test_what_cannot_have_been_is_not_explained(history: History) -> None:
    assert not ends(history)


@pytest.mark.parametrize(
    ("history", "left"),
    [
        pytest.param([(RENAME, NEW, 1, 4), (READ, OLD, 2, 3)], [NEW], id="at once"),
        pytest.param([(RENAME, CUT, 1, 9), (READ, OLD, 2, 3)], [OLD, NEW], id="cut short"),
        pytest.param([(RENAME, CUT, 1, 9), (READ, OLD, 2, 3), (READ, NEW, 4, 5)], [NEW], id="cut short and done"),
        pytest.param([*RENAMED_INSIDE, (READ, OLD, 5, 6), ("commit", None, 7, 8, 1)], [NEW], id="committed"),
        pytest.param([*RENAMED_INSIDE, ("commit", CUT, 5, 9, 1)], [OLD, NEW], id="a commit cut short"),
        pytest.param([*RENAMED_INSIDE, (RENAME, QueryTimeoutError, 5, 6)], [OLD], id="a wait for a lock"),
        pytest.param([*RENAMED_INSIDE, ("roll back", None, 5, 6, 1), (READ, OLD, 7, 8)], [OLD], id="rolled back"),
        pytest.param(
            [*RENAMED_INSIDE, ("savepoint", CUT, 5, 6, 1), (READ, NEW, 7, 8, 1), ("commit", None, 9, 10, 1)],
            [NEW],
            id="a savepoint that was cut short, in a transaction that goes on",
        ),
        pytest.param([*LEFT, CUT_LATER, COMMIT], [OLD], id="cut short while a savepoint was released"),
        pytest.param(
            [BEGIN, ("commit", None, 3, 4, 1), (Next(AsyncMock()), END, 5, 6, 1)], [OLD], id="an iterator's end, later"
        ),
    ],
)
def test_what_may_have_been_leaves_what_it_says(history: History, left: Sequence[Row]) -> None:
    assert ends(history) == {frozenset({row}) for row in left}


# --- what the machine found -----------------------------------------------------------------------------


async def test_a_call_that_is_cut_short_while_a_savepoint_is_released_was_not_sent_and_the_rest_is_kept(
    store: Store, tenant: str
) -> None:
    async with store.transaction(tenant) as tx:
        async with tx.savepoint():
            await tx.users.create(tenant, telegram_id=1)
        _, error = await seen(tx.users.create(tenant, telegram_id=2), Cut(1, "before"), copy_context())

    assert isinstance(error, asyncio.CancelledError)
    assert [user.telegram_id for user in (await store.users.get_all(tenant)).items] == [1]


async def test_a_transaction_that_was_cut_short_before_it_began_keeps_nothing_after_its_block(
    thea_new_database: Callable[..., TestDatabase], tenant: str
) -> None:
    database = thea_new_database()
    with psycopg.connect(database.superuser_url, autocommit=True) as connection:
        server = Server(connection)
        async with Store.open(Settings(url=database.app_url, pool_size=1, max_overflow=0)) as store:
            with pytest.raises(StoreError, match="was cut short"):
                async with store.transaction(tenant) as tx:
                    _, error = await seen(tx.users.exists(tenant, 1), Cut(1, "with"), copy_context())
                    assert isinstance(error, asyncio.CancelledError)
                    assert server.backends()[:2] == (1, 1)  # the description of its statement has no end yet
            pool = store._database._pool
            pool.release(await pool.acquire(tenant))  # once it is settled, and without a message

            assert server.backends() == (1, 0, 0)


async def test_a_restore_that_meets_a_delete_half_way_brings_the_row_back(
    store: Store, tenant: str, user: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = await store.notes.create(tenant, user.id, "Comprar pan")
    look = Transaction.fetch_optional

    async def deleted_between_the_looks(tx: Transaction, query: Query[Any], tenant_id: str, /, **values: object) -> Any:
        found = await look(tx, query, tenant_id, **values)
        if query is COMMON.restore and found is None:
            await store.notes.delete(tenant, note.id)
        return found

    async with store.transaction(tenant) as tx:
        with monkeypatch.context() as patch:
            patch.setattr(Transaction, "fetch_optional", deleted_between_the_looks)
            restored = await tx.notes.restore(tenant, note.id)

    assert restored.content == "Comprar pan"
    assert await store.notes.exists(tenant, note.id)
