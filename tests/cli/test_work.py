"""`thea-store work`, as an operator runs it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.commands import Run
from thea_store import Settings, Store
from thea_store.testing import TestDatabase

pytestmark = pytest.mark.usefixtures("no_settings")

PAST = datetime(2024, 5, 1, tzinfo=UTC)


@pytest.fixture
def urls(thea_database: TestDatabase) -> dict[str, str]:
    return {"DATABASE_URL": thea_database.app_url, "DATABASE_WORKER_URL": thea_database.url_of("thea_worker")}


async def test_due_reminders_are_lines_of_json_each_once(
    run: Run, store: Store, tenant: str, urls: dict[str, str]
) -> None:
    user = await store.users.create(tenant, telegram_id=1)
    await store.events.create(tenant, user.id, "Cita", PAST, reminder_minutes=5)
    await store.notes.create(tenant, user.id, "Llamar a Ñandú", reminder_datetime=PAST)

    first = run("work", "reminders", "--once", **urls)
    second = run("work", "reminders", "--once", **urls)

    told = [json.loads(line) for line in first.stdout.rstrip("\n").split("\n")]
    mine = {(one["kind"], one.get("content") or one["title"]) for one in told if one["tenant_id"] == tenant}
    assert mine == {("event", "Cita"), ("note", "Llamar a Ñandú")}
    assert first.exit_code == 0
    assert "0 failed" in first.stderr
    assert (second.exit_code, second.stdout) == (0, "")


async def test_a_handler_of_ones_own_gets_them_and_an_error_leaves_them_due(
    run: Run, store: Store, tenant: str, urls: dict[str, str], tmp_path: Path
) -> None:
    user = await store.users.create(tenant, telegram_id=1)
    note = await store.notes.create(tenant, user.id, "Llamar", reminder_datetime=PAST)
    (tmp_path / "sending.py").write_text(
        "async def send(tx, reminder):\n"
        "    await tx.notes.update(reminder.tenant_id, reminder.id, category='sent')\n"
        "async def fail(tx, reminder):\n"
        "    raise ValueError('a secret')\n"
        "def no_coroutine(tx, reminder): ...\n"
    )

    failed = run("work", "reminders", "--once", "--handler", "sending:fail", **urls)
    sent = run("work", "reminders", "--once", "--handler", "sending:send", "--json", **urls)

    assert failed.exit_code == 1
    assert "ValueError: tried again later" in failed.stderr
    assert "secret" not in failed.output
    assert sent.exit_code == 0
    assert json.loads(sent.stdout)["failures"] == 0
    after = await store.notes.get_by_id(tenant, note.id)
    assert after is not None
    assert after.category == "sent"
    for wrong in ("sending:nothing", "nowhere:send", "sending", "sending:no_coroutine"):
        refused = run("work", "reminders", "--handler", wrong, **urls)
        assert (refused.exit_code, "--handler" in refused.stderr) == (2, True), wrong


async def test_retention_and_inactivity_are_done_by_their_policies(
    run: Run, store: Store, thea_database: TestDatabase, tenant: str, urls: dict[str, str]
) -> None:
    user = await store.users.create(tenant, telegram_id=1)
    conversation = await store.conversations.create(tenant, user.id, "s")
    await store.conversations.update(tenant, conversation.id, last_activity=PAST)
    note = await store.notes.create(tenant, user.id, "Vieja")
    await store.notes.delete(tenant, note.id)
    async with Store.open(Settings(url=thea_database.url_of("thea_admin"), pool_size=1)) as admin:
        await admin.retention.keep("notes", "deleted", timedelta(0), tenant_id=tenant)
        removed = run("work", "retention", "--once", **urls)
        await admin.retention.remove("notes", "deleted", tenant_id=tenant)
    closed = run("work", "inactive", "--once", **urls)

    assert (removed.exit_code, closed.exit_code) == (0, 0)
    assert "0 failed" in removed.stdout
    assert (await store.notes.get_all(tenant, include_deleted=True)).items == []
    after = await store.conversations.get_by_id(tenant, conversation.id)
    assert after is not None
    assert not after.is_active


def test_a_service_alone_learns_no_names(run: Run, thea_database: TestDatabase) -> None:
    result = run("work", "reminders", "--once", DATABASE_URL=thea_database.app_url)

    assert result.exit_code == 1
    assert "only a login in the group thea_worker" in result.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_it_after_its_piece_with_a_report(
    store: Store, tenant: str, urls: dict[str, str], number: signal.Signals
) -> None:
    user = await store.users.create(tenant, telegram_id=1)
    await store.notes.create(tenant, user.id, "Llamar", reminder_datetime=PAST)

    line, told, status = await asyncio.to_thread(_stopped, urls, number)

    assert json.loads(line)["tenant_id"]
    assert status == 0
    assert "0 failed" in told
    assert await store.notes.claim_due_reminders(tenant) == []


def _stopped(urls: dict[str, str], number: signal.Signals) -> tuple[str, str, int]:
    """The first line, the report and the exit status of a worker that gets this signal after the line."""
    command = [sys.executable, "-m", "thea_store", "work", "reminders", "--pause", "3600"]
    with subprocess.Popen(
        command, env={**os.environ, **urls}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.send_signal(number)
        _, told = process.communicate(timeout=60)
        return line, told, process.returncode
