"""No public call becomes dearer unnoticed: what it costs is held against the figures of `costs.json`.

The figures do not depend on the machine: round trips, statements, the rows and pages that they look at, and in Python
the calls of functions and the bytes of objects. A change that raises one writes the file anew (`make costs`), and its
commit says why.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from tests.costs.figures import client_cost, committed, dearer, server_costs
from tests.costs.meter import Meter, opened
from tests.costs.tenants import SIZES, fill
from tests.support.calls import CALLS, Call, Ground
from thea_store.assistant.notes import Notes
from thea_store.testing import TestDatabase

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.xdist_group("costs")]

COMMITTED = committed()
GET_BY_ID, CREATE = Call("notes", "get_by_id"), Call("notes", "create")

_Database = tuple[TestDatabase, Mapping[str, Ground]]


@pytest_asyncio.fixture(scope="module")
async def filled(thea_new_database: Callable[..., TestDatabase]) -> _Database:
    database = thea_new_database()
    return database, await fill(database)


@pytest_asyncio.fixture(scope="module")
async def client(filled: _Database) -> AsyncIterator[Meter]:
    async with opened(filled[0], telling=False) as meter:
        yield meter


@pytest_asyncio.fixture(scope="module")
async def server(filled: _Database) -> AsyncIterator[Meter]:
    async with opened(filled[0], telling=True) as meter:
        version = (await meter.store.health()).server_version
        if version is None or not version.startswith("18"):
            pytest.skip("the figures are of the plans of PostgreSQL 18, which looks up lists of keys more often")
        yield meter


def test_every_public_call_has_figures() -> None:
    assert COMMITTED.keys() == {str(call) for call in CALLS}, "make costs"


@pytest.mark.parametrize("call", CALLS, ids=str)
async def test_a_call_costs_no_more_on_the_wire_and_in_python(client: Meter, call: Call) -> None:
    cost = await client_cost(client, call, f"client {call}")

    assert dearer(cost, COMMITTED[str(call)]["client"]) == []
    assert cost.round_trips == COMMITTED[str(call)]["client"]["round_trips"], "fewer: make costs"


@pytest.mark.parametrize("call", CALLS, ids=str)
async def test_a_call_costs_the_server_no_more_whatever_the_tenant_has(
    server: Meter, filled: _Database, call: Call
) -> None:
    found = await _dearer_on_the_server(server, filled, call)
    if any(found.values()):
        # What earlier calls wrote and undid is still met, and the statistics may be of it: the rows themselves count.
        await asyncio.to_thread(_clean_up, filled[0])
        found = await _dearer_on_the_server(server, filled, call)

    assert found == {size: [] for size in SIZES}


async def _dearer_on_the_server(server: Meter, filled: _Database, call: Call) -> dict[str, list[str]]:
    costs = await server_costs(server, call, filled[1])
    return {size: dearer(cost, COMMITTED[str(call)][size]) for size, cost in costs.items()}


def _clean_up(database: TestDatabase) -> None:
    with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
        superuser.execute("vacuum (analyze, index_cleanup on)")


# --- Each guard notices what it is there for -----------------------------------------------------------------------


async def test_a_second_statement_is_noticed(client: Meter, monkeypatch: pytest.MonkeyPatch) -> None:
    get_by_id = Notes.get_by_id

    async def twice(self: Notes, tenant_id: str, id: int) -> Any:  # noqa: A002
        await get_by_id(self, tenant_id, id)
        return await get_by_id(self, tenant_id, id)

    monkeypatch.setattr(Notes, "get_by_id", twice)
    cost = await client_cost(client, GET_BY_ID, "twice")
    noticed = {sentence.partition(":")[0] for sentence in dearer(cost, COMMITTED[str(GET_BY_ID)]["client"])}
    assert noticed >= {"round_trips", "python_calls"}


async def test_copies_of_a_row_are_noticed(client: Meter, monkeypatch: pytest.MonkeyPatch) -> None:
    get_by_id = Notes.get_by_id

    async def copied(self: Notes, tenant_id: str, id: int) -> Any:  # noqa: A002
        note = await get_by_id(self, tenant_id, id)
        assert note is not None
        return [note.model_copy() for _ in range(50)][-1]

    monkeypatch.setattr(Notes, "get_by_id", copied)
    cost = await client_cost(client, GET_BY_ID, "copied")
    noticed = {sentence.partition(":")[0] for sentence in dearer(cost, COMMITTED[str(GET_BY_ID)]["client"])}
    assert "python_bytes" in noticed


async def test_a_trigger_more_is_noticed(server: Meter, filled: _Database) -> None:
    spoilt = (
        "create function pg_temp.looks() returns trigger language plpgsql as"
        " $$ begin perform count(*) from thea.users; return null; end $$;"
        " create trigger looks after insert on thea.notes for each row execute function pg_temp.looks()"
    )
    with psycopg.connect(filled[0].superuser_url, autocommit=True) as superuser:
        superuser.execute(spoilt.encode())
        try:
            costs = await server_costs(server, CREATE, filled[1])
        finally:
            superuser.execute(b"drop trigger looks on thea.notes")
    noticed = {sentence.partition(":")[0] for sentence in dearer(costs["small"], COMMITTED[str(CREATE)]["small"])}
    assert "statements" in noticed


async def test_a_missing_index_is_noticed_in_the_large_tenant(server: Meter, filled: _Database) -> None:
    call, index = Call("events", "get_by_category"), "thea.events_category_idx"
    with psycopg.connect(filled[0].superuser_url, autocommit=True) as superuser:
        [definition] = superuser.execute("select pg_get_indexdef(%s::regclass)", [index]).fetchone() or [""]
        superuser.execute(f"drop index {index}".encode())
        try:
            costs = await server_costs(server, call, filled[1])
        finally:
            superuser.execute(definition.encode())
    noticed = {sentence.partition(":")[0] for sentence in dearer(costs["large"], COMMITTED[str(call)]["large"])}
    assert "rows" in noticed
