"""The commands that work on a tenant as a whole: what they say, and with which exit status."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from tests.support.commands import Run
from tests.support.twins import make_twin
from tests.tenancy.places import Place
from thea_store import Store

REFUSED, MISUSED = 1, 2


async def test_a_tenant_is_exported_brought_in_moved_and_ended_by_commands(
    *, store: Store, here: Place, there: Place, tenant: str, run: Run, tmp_path: Path
) -> None:
    await make_twin(store, tenant)
    before = here.rows(tenant)
    file = tmp_path / "acme.zip"
    ours, theirs = here.mover.render(), there.mover.render()

    exported = run("export", "tenant", tenant, "--file", str(file), "--json", DATABASE_URL=ours)
    assert exported.exit_code == 0
    told = json.loads(exported.stdout)
    assert {part["table"]: part["rows"] for part in told["parts"]}["thea.users"] == len(before["users"])

    whole = run("export", "check", str(file), DATABASE_URL="")
    assert (whole.exit_code, f"all that {tenant} had at" in whole.stdout) == (0, True)

    ended = run("end", "tenant", tenant, "--export", str(tmp_path / "end.zip"), DATABASE_URL=ours)
    assert ended.exit_code == 0
    assert f"what it had is in {tmp_path / 'end.zip'}" in ended.stdout
    assert set(map(len, here.rows(tenant).values())) == {0}

    imported = run("import", "tenant", str(file), "--tenant", tenant, "--json", DATABASE_URL=ours)
    assert imported.exit_code == 0
    assert json.loads(imported.stdout)["ids"] == "kept"
    assert here.rows(tenant) == before

    moved = run("move", "tenant", tenant, "--to", theirs, "--json", DATABASE_URL=ours)
    assert moved.exit_code == 0
    assert json.loads(moved.stdout)["pause_seconds"] >= 0
    assert there.rows(tenant) == before
    assert moved.stderr == ""


async def test_a_file_that_is_no_export_any_more_is_told(
    store: Store, here: Place, tenant: str, run: Run, tmp_path: Path
) -> None:
    await make_twin(store, tenant)
    file = tmp_path / "acme.zip"
    run("export", "tenant", tenant, "--file", str(file), DATABASE_URL=here.database.app_url)
    with zipfile.ZipFile(file) as whole, zipfile.ZipFile(tmp_path / "altered.zip", "w") as altered:
        for name in whole.namelist():
            altered.writestr(name, whole.read(name) + (b"{}\n" if "users" in name else b""))
    (tmp_path / "cut.zip").write_bytes(file.read_bytes()[:-100])

    for name, sentence in (
        ("altered.zip", "what it has of thea.users is not what was exported"),
        ("cut.zip", "altered or cut off"),
        ("none.zip", "cannot be read"),
    ):
        found = run("export", "check", str(tmp_path / name), "--json")
        assert (found.exit_code, found.stdout) == (REFUSED, "")
        assert sentence in found.stderr


async def test_a_tenant_is_restored_by_a_command(
    *, store: Store, here: Place, there: Place, tenant: str, run: Run, tmp_path: Path
) -> None:
    twin = await make_twin(store, tenant)
    file = str(tmp_path / "acme.zip")
    run("export", "tenant", tenant, "--file", file, DATABASE_URL=here.database.app_url)
    run("import", "tenant", file, DATABASE_URL=there.mover.render())
    await store.users.purge(tenant, twin.ids["users"][0])
    await store.notes.update(tenant, twin.ids["notes"][3], title="changed since")
    urls = {"DATABASE_URL": here.database.app_url}

    would = run("restore", "tenant", tenant, "--from", there.database.app_url, "--dry-run", **urls)
    did = run("restore", "tenant", tenant, "--from", there.database.app_url, "--json", **urls)

    assert (would.exit_code, did.exit_code) == (0, 0)
    assert "1 would come back" in would.stdout
    users = json.loads(did.stdout)["tables"]["thea.users"]
    assert (users["loaded"], users["present"]) == (1, len(twin.ids["users"]) - 1)
    assert "row(s) that are here already differ, and stay as they are" in did.stderr


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("export", "tenant", "nobody-at-all", "--file", "new.zip"), REFUSED, "there is no row of this tenant"),
        (("export", "tenant", " x", "--file", "new.zip"), MISUSED, "tenant"),
        (("import", "tenant", "nowhere.zip"), MISUSED, "there is no file nowhere.zip"),
        (("end", "tenant", "x", "--no-export", "--export", "y.zip"), MISUSED, "contradicts --export"),
        (("end", "tenant", "nobody-at-all", "--no-export"), REFUSED, "there is no row of this tenant"),
        (("restore", "tenant", "x", "--from", "http://x"), MISUSED, "--from: must start with postgresql://"),
        (("move", "tenant", "x", "--to", "embedded:"), MISUSED, "--to: `embedded:` names no server that runs"),
        (("move", "tenant", "x", "--to", "postgresql://nobody@127.0.0.1:1/x"), REFUSED, "no PostgreSQL answers"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    here: Place, run: Run, arguments: tuple[str, ...], status: int, said: str
) -> None:
    result = run(*arguments, DATABASE_URL=here.mover.render())

    assert result.exit_code == status
    assert said in result.stderr
    assert "Traceback" not in result.stderr
    assert not Path("new.zip").exists()


def test_a_service_is_told_which_group_may(here: Place, run: Run) -> None:
    result = run("end", "tenant", "anybody", "--no-export", DATABASE_URL=here.database.app_url)

    assert result.exit_code == REFUSED
    assert "log in as a member of thea_mover" in result.stderr


def test_what_a_full_restore_left_wrong_is_told(here: Place, run: Run) -> None:
    result = run("restore", "check", "--json", DATABASE_URL=here.database.app_url)

    checks = {finding["check"] for finding in json.loads(result.stdout)["findings"]}
    assert {"roles", "owners", "sequences", "missing rights"} <= checks
