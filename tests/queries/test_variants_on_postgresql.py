"""A folded statement answers as the whole one does: random rows, random calls, every query that has variants.

The whole statement is what stands in the file. The library never sends it; here it says what a variant has to return.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from psycopg.types.json import Jsonb

from tests.support.profiles import scaled
from thea_store.database.connection import Connection
from thea_store.database.connector import Connector
from thea_store.postgres.types import is_optional
from thea_store.postgres.url import DatabaseUrl
from thea_store.queries.binding import bind, check_values
from thea_store.queries.file import Query
from thea_store.queries.query import TENANT
from thea_store.store import SQL_FILES
from thea_store.testing import TestDatabase

# What is kept of a person is of all tables, so it has a test of its own: tests/tenancy/test_people.py.
QUERIES = [query for file in SQL_FILES if file.aggregate != "people" for query in file.written if query.variants]

DAY = datetime(2026, 3, 1, tzinfo=UTC)
# Few values of each kind, so that rows share them: times too, where the key alone decides the order.
MOMENTS = [DAY + timedelta(days=day) for day in range(4)]
WORDS = ["a", "b", "c"]
TAGS = [["a"], ["b"], ["a", "c"], []]

_times = st.sampled_from(MOMENTS)
_deleted = st.sampled_from([None, None, None, DAY])
_word = st.sampled_from([*WORDS, None])


@dataclass
class Scene:
    """A server with one tenant's rows, and a login of the service."""

    superuser: psycopg.Connection[Any]
    service: Connection
    tenant: str = ""

    def fill(self, aggregate: str, rows: list[dict[str, Any]]) -> None:
        """A new tenant with these rows."""
        self.tenant = f"folded-{uuid4().hex[:12]}"
        table, columns = TABLES[aggregate][0], ", ".join(["tenant_id", *rows[0]])
        whole = [{name: _plain(value) for name, value in {"tenant_id": self.tenant, **row}.items()} for row in rows]
        self.superuser.execute(
            f"insert into thea.{table} ({columns}) overriding system value"
            f" select {columns} from jsonb_populate_recordset(null::thea.{table}, %s)".encode(),
            [Jsonb(whole)],
        )

    async def same(self, query: Query[Any], values: dict[str, Any]) -> int:
        """Run both; how many rows they return."""
        if self.service.tenant != self.tenant:
            await self.service.carry(self.tenant)
        folded = bind(query, self.tenant, values)
        checked = check_values(query, values)
        whole = [self.tenant if name == TENANT else checked[name] for name in query.parameters]
        expected = await self.service.raw.fetch(query.text, *whole)
        found = await self.service.raw.fetch(folded.query.text, *folded.arguments)

        assert [dict(row) for row in found] == [dict(row) for row in expected], folded.query.name
        return len(found)


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else str(value) if isinstance(value, UUID) else value


@pytest.fixture(scope="module")
def superuser(thea_database: TestDatabase) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(thea_database.superuser_url, autocommit=True) as connection:
        connection.execute("set session_replication_role = replica")
        yield connection


# --- rows and calls -----------------------------------------------------------------------------


_user = st.sampled_from([1, 2, 3])
_common = {"created_at": _times, "deleted_at": _deleted, "updated_at": _times}

# The columns that are asked for; of the others, those that have no default.
TABLES: dict[str, tuple[str, dict[str, st.SearchStrategy[Any]], dict[str, Any]]] = {
    "users": (
        "users",
        {"language_code": _word, "is_active": st.booleans(), "last_activity": _times | st.none(), **_common},
        {"timezone": "UTC", "preferences": {}},
    ),
    "conversations": (
        "conversations",
        {"user_id": _user, "current_state": st.sampled_from(WORDS), "is_active": st.booleans(), **_common},
        {"context_data": {}, "started_at": DAY, "last_activity": DAY},
    ),
    "messages": (
        "message_history",
        {
            "user_id": _user,
            "conversation_id": _user,
            "intent_detected": _word,
            "confidence_score": st.sampled_from([0.25, 0.5]),
            **_common,
        },
        {"user_message": "a"},
    ),
    "events": (
        "events",
        {
            "user_id": _user,
            "start_datetime": _times,
            "category": _word,
            "event_type": st.sampled_from(WORDS),
            "status": st.sampled_from(["scheduled", "completed"]),
            **_common,
        },
        {"title": "a"},
    ),
    "notes": (
        "notes",
        {"user_id": _user, "category": _word, "tags": st.sampled_from(TAGS), "is_pinned": st.booleans(), **_common},
        {"content": "a", "priority": 0, "search_vector": ""},
    ),
    "audit": (
        "audit_log",
        {"at": _times, "actor": _word, "table_name": st.sampled_from(WORDS)},
        {"row_id": 1, "action": "insert"},
    ),
}
# Columns whose values must differ, by table.
UNIQUE = {"users": "telegram_id", "conversations": "session_id", "messages": "message_id"}


@st.composite
def _rows(draw: st.DrawFn, aggregate: str) -> list[dict[str, Any]]:
    """Some rows; their ids are far apart and in another order than the times."""
    _, columns, others = TABLES[aggregate]
    unique = {UNIQUE[aggregate]} if aggregate in UNIQUE else set()
    ids = draw(st.lists(st.integers(1, 9999), min_size=4, max_size=25, unique=True))
    drawn = draw(st.lists(st.fixed_dictionaries(columns), min_size=len(ids), max_size=len(ids)))
    return [
        {"id": UUID(int=key) if aggregate == "audit" else key, **row, **others, **dict.fromkeys(unique, key)}
        for key, row in zip(ids, drawn, strict=True)
    ]


def _call(query: Query[Any], rows: list[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Arguments that rows have, each given or not; a place to start after has both its parts."""
    return st.fixed_dictionaries({name: _argument(query, name, rows) for name in query.types if name != TENANT}).map(
        _with_place
    )


def _argument(query: Query[Any], name: str, rows: list[dict[str, Any]]) -> st.SearchStrategy[Any]:
    kind = query.types[name]
    kinds: list[tuple[bool, st.SearchStrategy[Any]]] = [
        (name == "limit", st.integers(1, 30)),
        (kind in (bool, bool | None), st.booleans()),
        (name == "after_id", st.sampled_from([row["id"] for row in rows])),
        (name == "message_id", st.sampled_from([row.get(name) for row in rows])),
        (name.endswith("_id"), _user),
        (name == "status", st.sampled_from(["scheduled", "completed"])),
        (name == "tags", st.sampled_from(TAGS)),
        (name.endswith(("_at", "_from", "_before", "_since")), _times),
    ]
    values = next((values for fits, values in kinds if fits), st.sampled_from(WORDS))
    return st.none() | values if is_optional(kind) else values


def _with_place(values: dict[str, Any]) -> dict[str, Any]:
    if "after_at" in values and (values["after_at"] is None or values["after_id"] is None):
        values |= {"after_at": None, "after_id": None}
    return values


# --- the property -------------------------------------------------------------------------------


def test_the_property_is_about_every_query_that_has_variants() -> None:
    assert {query.name for query in QUERIES} >= {
        f"{aggregate}.{name}"
        for aggregate in ("users", "conversations", "messages", "events", "notes")
        for name in ("get_all", "count")
    } | {"audit.get_all", "messages.count_by_day"}


@pytest.mark.slow
@pytest.mark.parametrize("query", QUERIES, ids=lambda query: query.name)
def test_folded_equals_unfolded(
    superuser: psycopg.Connection[Any], thea_database: TestDatabase, query: Query[Any]
) -> None:
    _hold(superuser, thea_database, query, settings().phases)


def _hold(
    superuser: psycopg.Connection[Any], database: TestDatabase, query: Query[Any], phases: Collection[Phase]
) -> None:
    aggregate, seen, found = query.name.partition(".")[0], set[str](), 0

    with asyncio.Runner() as runner:
        connect = Connector(DatabaseUrl.parse(database.app_url), 60.0, direct_only=True)
        scene = Scene(superuser, runner.run(connect()))

        @given(st.data())
        @settings(max_examples=scaled(8), phases=phases, suppress_health_check=list(HealthCheck))
        def holds(data: st.DataObject) -> None:
            nonlocal found
            rows = data.draw(_rows(aggregate))
            scene.fill(aggregate, rows)
            for _ in range(20):
                values = data.draw(_call(query, rows))
                found += runner.run(scene.same(query, values))
                seen.add(bind(query, scene.tenant, values).query.name)

        try:
            holds()
        finally:
            runner.run(scene.service.raw.close())

    assert len(seen) > len(query.each) / 2
    assert found > 0


def test_a_variant_that_is_folded_wrongly_is_noticed(
    superuser: psycopg.Connection[Any], thea_database: TestDatabase
) -> None:
    [query] = [query for query in QUERIES if query.name == "notes.get_all"]
    wrong = dict(zip(query.variants, reversed(list(query.variants.values())), strict=True))

    with pytest.raises((AssertionError, asyncpg.PostgresError)):
        _hold(superuser, thea_database, replace(query, variants=wrong), [Phase.generate])
