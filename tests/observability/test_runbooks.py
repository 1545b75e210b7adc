"""The commands of the runbooks, as an operator would type them."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from tests.support.commands import Run
from tests.support.standby import servers_directory, standbys
from thea_store import Settings, Store, User
from thea_store.embedded import EmbeddedPostgres
from thea_store.migrator import migrate
from thea_store.postgres.url import DatabaseUrl
from thea_store.testing import TestDatabase

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "runbooks.md").read_text()
COMMANDS = sorted({line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()})
IN_PROSE = set(re.findall(r"`(thea-store [^`]+)`", PAGE))
TERMINATE, PROMOTE = "select pg_terminate_backend(pid)", "select pg_promote()"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_runbooks_runs(
    run: Run, thea_database: TestDatabase, thea_new_database: Callable[..., TestDatabase], command: str
) -> None:
    program, *arguments = command.split()
    is_audit = arguments[0] == "audit"  # for another login, and silent where the log has no entry
    # In the database of all tests, some break chains of the logs.
    url = thea_new_database().url_of("thea_auditor") if is_audit else thea_database.app_url
    result = run(*arguments, DATABASE_URL=url)

    assert program == "thea-store"
    # `doctor` may find something to warn of on whatever server the tests have.
    assert result.exit_code == 0 or (arguments == ["doctor"] and "warning(s)" in result.stderr), result.output
    assert result.stdout or is_audit


def test_every_command_in_the_prose_runs_or_is_one_to_be_stopped(
    run: Run, thea_database: TestDatabase, user: User
) -> None:
    report = "thea-store compliance report --tenant T"
    _, *arguments = report.replace(" T", f" {user.tenant_id}").split()
    result = run(*arguments, DATABASE_URL=thea_database.url_of("thea_auditor"))

    assert {*COMMANDS, report, "thea-store work retention"} >= IN_PROSE
    assert result.exit_code == 0, result.output
    assert "thea_owner" in result.stdout


def test_every_statement_of_the_runbooks_is_tried_below() -> None:
    assert set(re.findall(r"`(select [^`]+)`", PAGE)) == {TERMINATE, PROMOTE}


def test_a_session_that_is_stuck_is_seen_and_ended(run: Run, thea_database: TestDatabase) -> None:
    with psycopg.connect(thea_database.app_url) as stuck:
        stuck.execute("select 1")
        pid = stuck.info.backend_pid
        top = run("top", "--once", "--json", DATABASE_URL=thea_database.app_url)
        with psycopg.connect(thea_database.app_url, autocommit=True) as login:
            ended = login.execute(TERMINATE.replace("pid", str(pid)).encode()).fetchone()
        with pytest.raises(psycopg.OperationalError):
            stuck.execute("select 1")

    assert (pid, "idle in transaction") in [(each["pid"], each["state"]) for each in json.loads(top.stdout)["sessions"]]
    assert ended == (True,)


@pytest.mark.slow
async def test_the_page_of_a_failover_leads_from_no_primary_to_one_that_a_running_service_uses(run: Run) -> None:
    with servers_directory() as directory:
        async with EmbeddedPostgres(directory / "primary") as primary:
            await asyncio.to_thread(migrate, primary.migrator_url)
            with standbys(primary, directory, 1) as [standby]:
                both = [host for url in (primary.app_url, standby.app_url) for host in DatabaseUrl.parse(url).hosts]
                url = replace(DatabaseUrl.parse(primary.app_url), hosts=tuple(both)).render()
                async with Store.open(Settings(url=url)) as store:
                    await store.users.create("acme", telegram_id=1)
                    before = run("status", DATABASE_URL=url)
                    await primary.stop()
                    without = run("status", DATABASE_URL=url)
                    with psycopg.connect(standby.superuser_url, autocommit=True) as superuser:
                        superuser.execute(PROMOTE.encode())
                    promoted = run("status", "--json", DATABASE_URL=url)
                    await store.users.create("acme", telegram_id=2)
                    assert await store.users.count("acme") == 2

    assert before.exit_code == 0, before.output
    assert without.exit_code == 1
    assert "no server of DATABASE_URL is a primary" in without.stderr
    assert [each["role"] for each in json.loads(promoted.stdout)["servers"]] == [None, "primary"]
