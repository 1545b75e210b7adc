"""Why there is no connection, and what to do: each of the operator's commands says it in the same words."""

from __future__ import annotations

import socket
import threading
import uuid
from dataclasses import replace

import psycopg
import pytest

from tests.support.commands import Run
from thea_store.postgres.url import DatabaseUrl
from thea_store.testing import TestDatabase

pytestmark = pytest.mark.usefixtures("no_settings")

SECRET = "hunter2"


def told(run: Run, command: str, address: DatabaseUrl, **variables: str) -> str:
    result = run(command, DATABASE_URL=replace(address, password=address.password or SECRET).render(), **variables)

    assert result.exit_code == 1
    assert "Traceback" not in result.output
    assert SECRET not in result.output
    return result.output


@pytest.mark.parametrize("command", ["migrate", "doctor"])
def test_a_missing_database_is_no_wrong_url(run: Run, thea_database: TestDatabase, command: str) -> None:
    address = replace(DatabaseUrl.parse(thea_database.migrator_url), database="nothing_there")

    assert "there is no such database" in told(run, command, address)
    assert "correct its name in the URL, or create it" in told(run, command, address)


@pytest.mark.parametrize("command", ["migrate", "doctor"])
def test_a_url_without_a_database_is_told(run: Run, thea_database: TestDatabase, command: str) -> None:
    name = f"lonely_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(thea_database.superuser_url, autocommit=True) as superuser:
        superuser.execute(f"create role {name} login password '{SECRET}'".encode())
        try:
            address = replace(DatabaseUrl.parse(thea_database.app_url), user=name, password=SECRET, database=None)
            shown = told(run, command, address)
        finally:
            superuser.execute(f"drop role {name}".encode())

    assert "the URL names no database" in shown
    assert "write the database's name behind the host" in shown


@pytest.mark.parametrize("command", ["migrate", "doctor"])
def test_a_server_without_tls_is_told(run: Run, command: str) -> None:
    # The embedded server has a socket alone, where nobody asks for TLS.
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def refuse() -> None:
            for _ in range(4):
                try:
                    client, _ = listening.accept()
                except OSError:
                    return
                with client:
                    client.recv(8)  # SSLRequest
                    client.sendall(b"N")

        thread = threading.Thread(target=refuse, daemon=True)
        thread.start()
        port = listening.getsockname()[1]
        address = DatabaseUrl.parse(f"postgresql://service@127.0.0.1:{port}/thea")
        shown = told(run, command, address, DATABASE_SSL_MODE="require")
    thread.join(2)

    assert "the server speaks no TLS" in shown
    assert "start it" not in shown


def test_a_wrong_replica_is_told_as_the_replica(run: Run, thea_database: TestDatabase) -> None:
    dead = f"postgresql://service:{SECRET}@127.0.0.1:1/thea"
    shown = run("doctor", DATABASE_URL=thea_database.app_url, DATABASE_REPLICA_URL=dead).stdout

    [line] = [line for line in shown.splitlines() if line.startswith("problem")]
    assert line.split()[1] == "replica"


def test_memberships_that_are_none_are_not_told(run: Run, thea_database: TestDatabase) -> None:
    shown = run("doctor", DATABASE_URL=thea_database.superuser_url).stdout

    assert "is a superuser" in shown
    assert "membership" not in shown
    assert "may become" not in shown
