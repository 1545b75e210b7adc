"""`thea-store compliance report` and `audit verify`, as who answers for personal data runs them."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeAlias

import psycopg
import pytest
from typer.testing import Result

from tests.support.commands import Run
from thea_store import Store
from thea_store.testing import TestDatabase

pytestmark = pytest.mark.usefixtures("no_settings")

Verify: TypeAlias = Callable[..., Result]

REASON = "<script>alert('carta del 3 de mayo')</script>"


@pytest.fixture
def urls(thea_database: TestDatabase) -> dict[str, str]:
    return {"DATABASE_URL": thea_database.app_url, "DATABASE_MIGRATOR_URL": thea_database.migrator_url}


@pytest.fixture
async def erased(store: Store, tenant: str, other_tenant: str, thea_database: TestDatabase) -> int:
    """A person of the tenant who was erased, beside one who was not, and one of another tenant."""
    users = [await store.users.create(tenant, telegram_id=1), await store.users.create(tenant, telegram_id=2)]
    await store.notes.create(tenant, users[1].id, "Comprar pan")
    stranger = await store.users.create(other_tenant, telegram_id=3)
    await store.notes.create(other_tenant, stranger.id, "Vender pan")
    await store.notes.create(other_tenant, stranger.id, "Vender pan")
    async with Store.open(thea_database.url_of("thea_privacy")) as privacy:
        await privacy.people.erase(tenant, users[0].id, reason=REASON)
    return users[0].id


@pytest.fixture
async def policies(tenant: str, other_tenant: str, thea_database: TestDatabase) -> AsyncIterator[None]:
    """What is kept for how long, of the tenant and of another one."""
    async with Store.open(thea_database.url_of("thea_admin")) as admin:
        await admin.retention.keep("notes", "deleted", timedelta(days=30), tenant_id=tenant)
        await admin.retention.keep("users", "deleted", timedelta(days=7), tenant_id=other_tenant)
        yield
        await admin.retention.remove("notes", "deleted", tenant_id=tenant)
        await admin.retention.remove("users", "deleted", tenant_id=other_tenant)


@pytest.mark.usefixtures("policies")
async def test_it_says_what_is_kept_for_how_long_who_may_see_it_and_who_was_erased(
    run: Run, erased: int, tenant: str, urls: dict[str, str]
) -> None:
    done = run("compliance", "report", "--tenant", tenant, "--json", **urls)

    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    stored = {each["table"]: each for each in found["stored"]}
    assert {name: stored[name]["rows"] for name in ("users", "notes", "events")} == {
        "users": 1,
        "notes": 1,
        "events": 0,
    }
    assert "content" in stored["notes"]["columns"]
    assert stored["notes"]["oldest"] is not None
    assert stored["notes"]["kept"] == [{"rule": "deleted", "keep": 30 * 86_400.0, "of_tenant": True}]
    assert stored["users"]["kept"] == []
    readers = {each["role"]: each for each in found["readers"]}
    assert "notes" in readers["thea_app"]["changes"]
    assert "audit_log" not in readers["thea_app"]["changes"]
    assert (readers["thea_privacy"]["changes"], readers["thea_privacy"]["logs_in"]) == ([], False)
    assert not readers["thea_app"]["unbound"]
    assert any(each["unbound"] and each["logs_in"] for each in found["readers"])  # the server's superuser
    assert "thea_admin" not in readers
    assert [(each["user_id"], each["reason"]) for each in found["erased"]] == [(erased, REASON)]


async def test_the_page_stands_for_itself_and_quotes_what_people_wrote(
    run: Run, erased: int, tenant: str, urls: dict[str, str], tmp_path: Path
) -> None:
    del urls["DATABASE_MIGRATOR_URL"]
    file = tmp_path / "report.html"

    done = run("compliance", "report", "--tenant", tenant, "--file", str(file), **urls)
    again = run("compliance", "report", "--tenant", tenant, "--file", str(file), **urls)

    page = file.read_text("utf-8")
    assert (done.exit_code, done.stdout) == (0, "")
    assert f"<td>{erased}</td>" in page
    assert "&lt;script&gt;" in page
    assert not re.search(r"<script|<link|src=|https?:", page)
    assert "DATABASE_MIGRATOR_URL is not set" in page
    assert (again.exit_code, "is there already" in again.stderr) == (2, True)
    assert file.read_text("utf-8") == page


async def test_a_tenant_of_whom_nothing_is_kept_is_told(run: Run, tenant: str, urls: dict[str, str]) -> None:
    nothing = run("compliance", "report", "--tenant", tenant, **urls)
    wrong = run("compliance", "report", "--tenant", " ", **urls)

    assert (nothing.exit_code, "nothing is kept of a tenant" in nothing.stderr) == (1, True)
    assert (wrong.exit_code, nothing.stdout) == (2, "")


# --- the chain ----------------------------------------------------------------------------------

ALTER = "update thea.compliance_log set reason = 'nothing' where tenant_id = %s and place = 2"
REMOVE = "delete from thea.compliance_log where tenant_id = %s and place = 2"
CUT = "delete from thea.compliance_log where tenant_id = %s and place = 3"
RENAME = "update thea.compliance_log set id = gen_random_uuid() where tenant_id = %s and place = 2"
CLAIM = "update thea.compliance_log set actor = 'somebody else' where tenant_id = %s and place = 1"
REDATE = "update thea.compliance_log set at = at - interval '1 microsecond' where tenant_id = %s and place = 1"


@pytest.fixture
def verify(run: Run, tenant: str, urls: dict[str, str]) -> Verify:
    return lambda *arguments: run("audit", "verify", "--tenant", tenant, *arguments, **urls)


@pytest.fixture
async def head(verify: Verify, store: Store, tenant: str, thea_database: TestDatabase) -> str:
    """The head of a chain of three certificates."""
    users = [await store.users.create(tenant, telegram_id=number) for number in range(3)]
    async with Store.open(thea_database.url_of("thea_privacy")) as privacy:
        for user in users:
            await privacy.people.erase(tenant, user.id, reason="carta")
    done = verify()
    assert (done.exit_code, done.stderr) == (0, "")
    assert done.stdout.startswith("3:")
    return done.stdout.strip()


@pytest.fixture
def tamper(superuser: psycopg.Connection[Any], tenant: str) -> Callable[[str], None]:
    """Changes the log as somebody can who owns the database."""

    def change(statement: str) -> None:
        with superuser.transaction():
            superuser.execute("alter table thea.compliance_log disable trigger append_only")
            superuser.execute(statement.encode(), [tenant])
            superuser.execute("alter table thea.compliance_log enable trigger append_only")

    return change


@pytest.mark.usefixtures("head")
@pytest.mark.parametrize(
    ("change", "told"),
    [
        (ALTER, "the entry 2 of"),
        (REMOVE, "1 are missing"),
        (RENAME, "the entry 2 of"),
        (CLAIM, "the entry 1 of"),
        (REDATE, "the entry 1 of"),
    ],
    ids=["altered", "removed", "another entry", "of another", "of another time"],
)
async def test_what_was_changed_past_the_trigger_is_found(
    verify: Verify, tamper: Callable[[str], None], change: str, told: str
) -> None:
    tamper(change)

    found = verify("--json")

    assert found.exit_code == 1
    assert any(told in fault for fault in json.loads(found.stdout)["faults"])
    assert told in found.stderr


async def test_what_is_missing_at_the_end_is_found_by_what_was_noted(
    verify: Verify, tamper: Callable[[str], None], head: str
) -> None:
    before = verify("--expect", head)
    tamper(CUT)
    unnoticed = verify()
    found = verify("--expect", head)
    other = verify("--expect", f"2:{head[2:]}")
    wrong = verify("--expect", "3")

    assert (before.exit_code, before.stdout.strip()) == (0, head)
    assert unnoticed.exit_code == 0
    assert (found.exit_code, "its end was cut off" in found.stderr) == (1, True)
    assert (other.exit_code, "another than the one that was noted" in other.stderr) == (1, True)
    assert (wrong.exit_code, "PLACE:HASH" in wrong.stderr) == (2, True)


async def test_a_log_without_an_entry_is_told(verify: Verify) -> None:
    found = verify()

    assert (found.exit_code, found.stdout, "has no entry" in found.stderr) == (0, "", True)
