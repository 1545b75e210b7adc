import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from conftest import TOKEN, Start
from fake_telegram import FakeBot, FakeTelegram, Person
from telegram.error import InvalidToken
from thea_store import Store
from thea_store.testing import TestDatabase

from telegram_bot import __main__ as program
from telegram_bot.settings import BotSettings


async def test_after_a_restart_the_conversation_goes_on_where_it_was(ana: Person, start: Start) -> None:
    async with start():
        await ana.says("nota Compra")
    async with start():
        assert await ana.says("leche") == "Apuntado en «Compra»."


async def test_what_is_said_while_the_bot_is_away_is_answered_when_it_is_back(ana: Person, start: Start) -> None:
    async with start():
        await ana.says("nota Compra")
    await ana.write("leche")
    async with start():
        assert await ana.hears() == "Apuntado en «Compra»."


async def test_an_update_that_is_delivered_again_does_nothing_and_gets_the_same_reply(
    ana: Person, fake_bot: FakeBot, start: Start, thea_store: Store, thea_tenant: str
) -> None:
    fake_bot.keeps_updates = True
    async with start():
        first = [await ana.says(text) for text in ("nota Compra", "leche", "apunta pan")]
    fake_bot.keeps_updates = False
    async with start():
        again = [await ana.hears() for _ in first]
        listed = await ana.says("notas")

    assert again == first
    assert listed == "Tus notas:\n• pan\n• Compra: leche"
    assert await thea_store.messages.count(thea_tenant) == 4


async def test_the_process_can_be_killed_or_terminated_between_two_turns(
    ana: Person, telegram: FakeTelegram, thea_database: TestDatabase, thea_tenant: str, thea_store: Store
) -> None:
    async with process(telegram, thea_database, thea_tenant, signal.SIGKILL):
        assert await ana.says("nota Compra") == "«Compra»: ¿qué apunto?"
    async with process(telegram, thea_database, thea_tenant, signal.SIGTERM):
        assert await ana.says("leche") == "Apuntado en «Compra»."

    assert await thea_store.notes.count(thea_tenant) == 1


def test_a_rejected_token_ends_the_program_and_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    async def reject(_settings: BotSettings) -> None:
        raise InvalidToken("The token `1001:secret` was rejected by the server.")

    monkeypatch.setattr(program, "_run", reject)
    monkeypatch.setenv("TELEGRAM_TOKEN", "1001:secret")
    monkeypatch.setenv("TELEGRAM_TENANT", "nobody")

    with pytest.raises(SystemExit, match="TELEGRAM_TOKEN was rejected") as end:
        program.main()

    assert "secret" not in str(end.value)


@pytest.mark.parametrize("name", ["TELEGRAM_TOKEN", "TELEGRAM_TENANT", "DATABASE_URL"])
def test_a_missing_setting_is_named(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    for other in ("TELEGRAM_TOKEN", "TELEGRAM_TENANT"):
        monkeypatch.setenv(other, "1001:something")
    monkeypatch.delenv(name, raising=False)

    with pytest.raises(SystemExit) as end:
        program.main()

    assert name in f"{end.value} {capfd.readouterr().err}"


@asynccontextmanager
async def process(
    telegram: FakeTelegram, database: TestDatabase, tenant: str, end: signal.Signals
) -> AsyncIterator[None]:
    """`python -m telegram_bot`, ended by a signal, which it must obey."""
    running = await spawn(environment_of(telegram, database, tenant))
    try:
        yield
    finally:
        running.send_signal(end)
        _, errors = await asyncio.wait_for(running.communicate(), 10)
    assert running.returncode == (-signal.SIGKILL if end is signal.SIGKILL else 0), errors.decode()
    assert TOKEN not in errors.decode()


async def spawn(environment: dict[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "telegram_bot"),
        cwd=Path(__file__).parents[1],
        env=environment,
        stderr=asyncio.subprocess.PIPE,
    )


def environment_of(telegram: FakeTelegram, database: TestDatabase, tenant: str) -> dict[str, str]:
    telegram.bot(TOKEN)
    return {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": database.app_url,
        "TELEGRAM_TOKEN": TOKEN,
        "TELEGRAM_TENANT": tenant,
        "TELEGRAM_API_URL": telegram.api_url,
    }
