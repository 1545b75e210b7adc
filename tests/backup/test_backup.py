"""pgBackRest for real: the page's commands from setting up to a full restore, on Debian's PostgreSQL 15."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from configparser import ConfigParser
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.backup.installation import DEPLOY, PROGRAMS, Installation, blocks_of, options_in_prose
from tests.support.standby import servers_directory
from tests.tenancy.places import Place
from thea_store import Settings, Store
from thea_store.embedded.account import server_account
from thea_store.postgres.url import DatabaseUrl
from thea_store.testing import TestDatabase, TestServer

pytestmark = [pytest.mark.nightly, pytest.mark.timeout(300)]

NOW = "select now()::text"


@pytest.fixture
def installation() -> Iterator[Installation]:
    for program in ("pgbackrest", str(PROGRAMS / "postgres")):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is missing: `apt-get install pgbackrest postgresql-15`")
    with servers_directory() as directory:
        (directory / "all").mkdir()
        made = Installation(directory / "all", server_account(None))
        made.make()
        try:
            yield made
        finally:
            for data in (made.data, made.directory / "side/data"):
                if (data / "postmaster.pid").exists():
                    made.stop(data)


async def write(url: str, tenant: str, texts: list[str]) -> None:
    async with Store.open(Settings(url=url, pool_size=1)) as store:
        user = await store.users.get_or_create_from_telegram(tenant, 1)
        for text in texts:
            await store.notes.create(tenant, user.id, text)


def kinds_of_backups(installation: Installation) -> list[str]:
    """The kinds for which there is a timer, the one of each night first."""
    found = []
    for name in ("full", "incr"):
        timer, service = ConfigParser(), ConfigParser(interpolation=None)
        timer.read(DEPLOY / f"systemd/thea-backup-{name}.timer")
        unit = timer["Timer"]["Unit"]
        service.read(DEPLOY / "systemd/thea-backup@.service")
        command = service["Service"]["ExecStart"].replace("%i", unit.removesuffix(".service").split("@")[1])
        assert installation.run(*command.split()) == ""
        found.append(name)
    return found


def use_a_tablespace(installation: Installation, superuser: psycopg.Connection) -> None:
    elsewhere = installation.make_directory("elsewhere")
    superuser.execute("create tablespace elsewhere location %s", [str(elsewhere)])
    superuser.execute("alter index thea.notes_search_vector_idx set tablespace elsewhere")


@contextmanager
def recovered(database: TestDatabase) -> Iterator[psycopg.Connection[Any]]:
    """A superuser's connection, when the server has replayed all and takes writes."""
    with closing(psycopg.connect(database.superuser_url, autocommit=True)) as superuser:
        for _ in range(100):
            if superuser.execute("select pg_is_in_recovery()").fetchone() == (False,):
                break
            time.sleep(0.05)
        yield superuser


def go_back(installation: Installation, restore: str, moment: str) -> None:
    """Everything back to this moment, by the options that the page adds to its command."""
    installation.stop()
    [options] = options_in_prose("Everything back")
    installation.shell(f"{restore.strip()} {options}", moment=moment)
    installation.start()


async def test_a_tenant_and_a_server_come_back(installation: Installation) -> None:
    installation.start()
    for block in blocks_of("Setting up"):
        last = installation.shell(block)
    assert "cipher: aes-256-cbc" in last

    with ExitStack() as resources:
        database = TestServer(installation.url).new_database(resources)
        superuser = resources.enter_context(
            closing(psycopg.connect(database.superuser_url, autocommit=True, cursor_factory=psycopg.ClientCursor))
        )
        place = Place(database, superuser)
        use_a_tablespace(installation, superuser)
        await write(database.app_url, "acme-1", ["in the full backup"])
        await write(database.app_url, "other", ["another's"])
        assert kinds_of_backups(installation) == ["full", "incr"]
        await write(database.app_url, "acme-1", [f"in the WAL alone {n}" for n in range(50)])
        before = place.rows("acme-1", with_log=False)
        [[moment]] = superuser.execute(NOW).fetchall()
        # The accident, and what goes on meanwhile.
        superuser.execute("delete from thea.notes where tenant_id = 'acme-1'")
        await write(database.app_url, "other", ["written after the accident"])

        side = replace(DatabaseUrl.parse(database.app_url), hosts=(("127.0.0.1", installation.side_port),)).render()
        start, bring, end = blocks_of("One tenant back")
        assert "it answers" in installation.shell(start, moment=moment)
        refused = installation.attempt("thea-side-restore", f"{installation.directory}/side", "1")
        assert (refused.returncode, "is there already" in refused.stdout) == (1, True)
        assert list((installation.directory / "side/tablespaces").iterdir())
        live = {"DATABASE_URL": database.app_url}
        told = installation.shell(bring, tenant="acme-1", side=side, **live)
        assert "51 would come back" in told
        assert "51 came back" in told
        assert place.rows("acme-1", with_log=False) == before
        assert len(place.rows("other")["notes"]) == 2
        installation.shell(end)
        assert not (installation.directory / "side").exists()

        # Everything: the disk is lost.
        rows = {tenant: place.rows(tenant) for tenant in ("acme-1", "other")}
        superuser.close()
        installation.stop()
        shutil.rmtree(installation.data / "base")
        [restore, check] = blocks_of("Everything back")
        installation.shell(restore)
        installation.start()
        told = installation.shell(check, DATABASE_MIGRATOR_URL=database.migrator_url, **live)
        with recovered(database) as superuser:
            assert {tenant: Place(database, superuser).rows(tenant) for tenant in rows} == rows

        go_back(installation, restore, moment)
        with recovered(database) as superuser:  # as it was before the accident
            assert Place(database, superuser).rows("acme-1", with_log=False) == before
            assert len(Place(database, superuser).rows("other")["notes"]) == 1

    # Nothing in the repository is in clear, and another passphrase opens none of it.
    files = [path for path in (installation.directory / "repository").rglob("*") if path.is_file()]
    assert len(files) > 10
    assert [path for path in files if not path.is_symlink() and not path.read_bytes().startswith(b"Salted__")] == []
    wrong = installation.attempt(
        "pgbackrest", "--stanza=thea", "info", environment={"PGBACKREST_REPO1_CIPHER_PASS": "another"}
    )
    assert "unable to load info file" in wrong.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ([], "side-restore DIRECTORY PORT [TIME]"),
        (["side", "5433"], "by its whole path"),
        (["/tmp/a b", "5433"], "by its whole path"),
        (["/tmp/side", "soon"], "is no port"),
    ],
)
def test_a_side_server_that_cannot_be_is_refused(arguments: list[str], complaint: str) -> None:
    done = subprocess.run([DEPLOY / "side-restore", *arguments], capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr


def test_a_moment_before_the_oldest_backup_is_refused(installation: Installation) -> None:
    installation.start()
    for block in blocks_of("Setting up"):
        installation.shell(block)
    command = ["thea-side-restore", f"{installation.directory}/side", str(installation.side_port)]
    refused = installation.attempt(*command, "2020-01-01 00:00:00+00")

    assert refused.returncode != 0
    assert not Path(installation.directory / "side").exists()
    assert "unable to find backup set" in refused.stdout, refused.stdout


def test_a_side_server_that_does_not_come_up_is_told_and_leaves_nothing(installation: Installation) -> None:
    installation.start()
    for block in blocks_of("Setting up"):
        installation.shell(block)
    command = ["thea-side-restore", f"{installation.directory}/side"]
    in_an_hour = (datetime.now(UTC) + timedelta(hours=1)).isoformat(" ", "seconds")
    unarchived = installation.attempt(*command, str(installation.side_port), in_an_hour)
    taken = installation.attempt(*command, str(installation.port))

    for refused, reason in ((unarchived, "ended before configured recovery target"), (taken, "Address already in use")):
        assert refused.returncode == 1, refused.stdout
        assert reason in refused.stdout
        assert "it answers" not in refused.stdout
    assert not Path(installation.directory / "side").exists()
