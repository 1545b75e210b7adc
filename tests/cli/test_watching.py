"""`thea-store status` and `thea-store top`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest
from typer.testing import Result

from tests.support.commands import Run
from tests.support.standby import servers_directory, standbys
from thea_store import Settings, Store
from thea_store.admin import activity
from thea_store.admin.activity import Activity, Statement, difference
from thea_store.admin.servers import ServerStatus, faults
from thea_store.embedded import EmbeddedPostgres
from thea_store.migrator import migrate
from thea_store.testing import TestDatabase

pytestmark = pytest.mark.usefixtures("no_settings")

DEAD = "postgresql://service:hunter2@127.0.0.1:1/thea"


def answer(result: Result) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(result.stdout)
    return found


# --- status -------------------------------------------------------------------------------------


def test_status_tells_of_a_primary(run: Run, thea_database: TestDatabase) -> None:
    result = run("status", "--json", DATABASE_URL=thea_database.app_url)

    assert result.exit_code == 0, result.output
    [server] = answer(result)["servers"]
    assert (server["state"], server["role"], server["named_in"]) == ("up", "primary", "DATABASE_URL")
    assert server["lag_bytes"] is None
    assert 0 < server["connections"] <= server["max_connections"]
    assert answer(result)["faults"] == []


def test_status_tells_of_each_server_and_why_one_is_down(run: Run, thea_database: TestDatabase) -> None:
    result = run("status", "--json", DATABASE_URL=thea_database.app_url, DATABASE_REPLICA_URL=DEAD)

    assert result.exit_code == 1
    live, dead = answer(result)["servers"]
    assert live["state"] == "up"
    assert (dead["state"], dead["role"], dead["named_in"]) == ("down", None, "DATABASE_REPLICA_URL")
    assert "no PostgreSQL answers" in dead["problem"]
    assert "hunter2" not in result.output
    assert "service" not in dead["place"]


def test_status_for_people_has_a_line_for_each_server(run: Run, thea_database: TestDatabase) -> None:
    result = run("status", DATABASE_URL=thea_database.app_url, DATABASE_REPLICA_URL=DEAD)

    assert result.exit_code == 1
    assert "primary" in result.stdout
    assert "down" in result.stdout
    assert "127.0.0.1:1/thea: no PostgreSQL answers: start it, or correct the URL" in result.stderr


def test_a_server_that_two_urls_name_is_asked_once(run: Run, thea_database: TestDatabase) -> None:
    result = run("status", "--json", DATABASE_URL=thea_database.app_url, DATABASE_REPLICA_URL=thea_database.app_url)

    assert len(answer(result)["servers"]) == 1


@pytest.mark.parametrize(
    ("roles", "sentence"),
    [
        (["standby"], "no server of DATABASE_URL is a primary"),
        (["primary", "primary"], "each take writes"),
        (["primary", "standby"], None),
    ],
)
def test_a_url_needs_exactly_one_primary(roles: list[Any], sentence: str | None) -> None:
    found = [ServerStatus(f"{n}/thea", "DATABASE_URL", "up", role=role) for n, role in enumerate(roles)]

    wrong = faults(found)
    assert len(wrong) == (sentence is not None)
    assert all(sentence and sentence in each for each in wrong)


# --- top ----------------------------------------------------------------------------------------


@contextmanager
def at_work(database: TestDatabase, *messages: str) -> Iterator[None]:
    """A session of the service that sits in a transaction after these messages."""
    with psycopg.connect(database.app_url, autocommit=True) as connection:
        for message in messages:
            connection.execute(message.encode())
        yield


def test_without_pg_stat_statements_top_shows_the_sessions_and_says_what_is_missing(
    run: Run, thea_database: TestDatabase, tenant: str
) -> None:
    with at_work(thea_database, f"begin; set local app.tenant_id = '{tenant}'"):
        result = run("top", "--json", DATABASE_URL=thea_database.app_url)
        people = run("top", "--once", DATABASE_URL=thea_database.app_url)

    assert (result.exit_code, people.exit_code) == (0, 0)
    found = answer(result)
    assert [(each["state"], each["query"]) for each in found["sessions"]] == [("idle in transaction", "(begin)")]
    assert found["statements"] == []
    assert "shared_preload_libraries" in found["notes"][0]
    assert "idle in" in people.stdout
    assert tenant not in result.output + people.output


def test_top_shows_the_tenant_of_a_session_where_that_is_asked_for(
    run: Run, thea_database: TestDatabase, tenant: str
) -> None:
    with at_work(thea_database, f"begin; set local app.tenant_id = '{tenant}'"):
        result = run("top", "--json", "--tenants", DATABASE_URL=thea_database.app_url)

    assert [each["tenant"] for each in answer(result)["sessions"]] == [tenant]


def test_top_on_a_server_that_is_down_is_one_sentence(run: Run) -> None:
    result = run("top", "--once", DATABASE_URL=DEAD)

    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1
    assert "hunter2" not in result.output


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("select 1 /* notes.search */", "notes.search"),
        ("select 1 /* notes.get_all+user_id */\n", "notes.get_all+user_id"),
        ("set app.tenant_id = 'acme'", "(set)"),
        ("BEGIN ISOLATION LEVEL read committed; set local app.tenant_id = 'acme'", "(begin)"),
        ("select 'acme' /* not a name: acme */", "(select)"),
        ("vacuum acme", "(other)"),
        ("", "(other)"),
        ("<insufficient privilege>", "(hidden)"),
    ],
)
def test_a_statement_is_shown_by_its_name_or_its_command_alone(text: str, name: str) -> None:
    assert activity.named(text) == name


def test_the_tenant_of_a_message_is_the_one_that_it_sets() -> None:
    assert activity.tenant_of("begin; set local app.tenant_id = 'o''neil'; set local app.actor = 'x'") == "o'neil"
    assert activity.tenant_of("select 1") is None


def test_between_two_looks_stand_the_calls_of_that_time() -> None:
    before = Activity((Statement("a", 10, 100.0, 10), Statement("b", 5, 5.0, 5), Statement("c", 9, 9.0, 9)), (), ())
    after = Activity((Statement("a", 12, 110.0, 14), Statement("b", 5, 5.0, 5), Statement("c", 2, 20.0, 2)), (), ())

    # The server counted c anew.
    assert difference(before, after).statements == (Statement("c", 2, 20.0, 2), Statement("a", 2, 10.0, 4))


@pytest.mark.slow
async def test_top_counts_calls_by_query_from_pg_stat_statements(run: Run, tmp_path: Any) -> None:
    """A server of its own, since it has to load the module when it starts."""
    async with EmbeddedPostgres(str(tmp_path / "data")) as server:
        migrate(server.migrator_url)
        with psycopg.connect(server.superuser_url, autocommit=True) as connection:
            connection.execute("alter system set shared_preload_libraries = 'pg_stat_statements'")
    async with EmbeddedPostgres(str(tmp_path / "data")) as server:
        with psycopg.connect(server.superuser_url, autocommit=True) as connection:
            connection.execute("create schema monitoring")
            connection.execute("grant usage on schema monitoring to public")
            connection.execute("create extension pg_stat_statements schema monitoring")
        async with Store.open(Settings(url=server.app_url, pool_size=1, max_overflow=0)) as store:
            for tenant in ("acme", "bravo"):
                user = await store.users.create(tenant, telegram_id=1)
                for _ in range(3):
                    await store.users.get_by_id(tenant, user.id)
        result = run("top", "--json", DATABASE_URL=server.app_url)
        people = run("top", "--once", "--limit", "3", DATABASE_URL=server.app_url)

    assert result.exit_code == 0, result.output
    counted = {each["query"]: each for each in answer(result)["statements"]}
    assert (counted["users.get_by_id"]["calls"], counted["users.get_by_id"]["rows"]) == (6, 6)
    assert counted["users.create_many"]["calls"] == 2
    assert counted["(set)"]["calls"] >= 2
    assert all(each["mean_ms"] >= 0 for each in counted.values())
    assert not any(word in result.output + people.output for word in ("acme", "bravo"))
    # Of what the migrator did, this login may not see the text.
    assert any("pg_read_all_stats" in note for note in answer(result)["notes"])


# --- a real standby -----------------------------------------------------------------------------


@pytest.mark.slow
async def test_status_measures_a_standby_by_position(run: Run) -> None:
    with servers_directory() as directory:
        async with EmbeddedPostgres(directory / "primary") as primary:
            with standbys(primary, directory, 1) as [standby]:
                urls = {"DATABASE_URL": primary.app_url, "DATABASE_REPLICA_URL": standby.app_url}
                with psycopg.connect(standby.superuser_url, autocommit=True) as connection:
                    connection.execute("select pg_wal_replay_pause()")
                with psycopg.connect(primary.superuser_url, autocommit=True) as connection:
                    connection.execute("create table written as select generate_series(1, 1000)")
                behind = run("status", "--json", **urls)
                with psycopg.connect(standby.superuser_url, autocommit=True) as connection:
                    connection.execute("select pg_wal_replay_resume()")
                    wait = "select pg_last_wal_replay_lsn() >= %s"
                    while connection.execute(wait, [answer(behind)["servers"][0]["position"]]).fetchone() != (True,):
                        pass
                followed = run("status", "--json", **urls)
                standby.end()
                alone = run("status", **urls)

    assert [(each["role"], each["state"]) for each in answer(behind)["servers"]] == [
        ("primary", "up"),
        ("standby", "up"),
    ]
    assert answer(behind)["servers"][1]["lag_bytes"] > 0
    assert (answer(followed)["servers"][1]["lag_bytes"], answer(followed)["servers"][1]["lag_seconds"]) == (0, None)
    assert (behind.exit_code, followed.exit_code, alone.exit_code) == (0, 0, 1)
    assert "no PostgreSQL answers" in alone.stderr
