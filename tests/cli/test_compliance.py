"""`thea-store compliance report`, as who answers for personal data runs it."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.commands import Run
from thea_store import Store
from thea_store.testing import TestDatabase

pytestmark = pytest.mark.usefixtures("no_settings")

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
