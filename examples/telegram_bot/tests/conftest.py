"""A store from the wheel's plugin, a Bot API server on loopback, and a bot between them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from fake_telegram import FakeBot, FakeTelegram, Person
from thea_store import Store

from telegram_bot.bot import running
from telegram_bot.settings import BotSettings

TOKEN = "1001:AAH-of-the-fake-server"

Start = Callable[[], AbstractAsyncContextManager[None]]


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 23, 17, 0, tzinfo=UTC)  # a Monday

    def __call__(self) -> datetime:
        return self.now

    def forward(self, **span: float) -> None:
        self.now += timedelta(**span)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture
async def telegram() -> AsyncIterator[FakeTelegram]:
    async with FakeTelegram() as server:
        yield server


@pytest.fixture
def fake_bot(telegram: FakeTelegram) -> FakeBot:
    return telegram.bot(TOKEN)


@pytest.fixture
def ana(fake_bot: FakeBot) -> Person:
    return fake_bot.person(1987654321, "Ana")


@pytest.fixture
def start(telegram: FakeTelegram, thea_store: Store, thea_tenant: str, clock: Clock) -> Start:
    """Starts the bot, as often as it is called."""
    return lambda: running(settings_of(telegram, thea_tenant), thea_store, clock)


@pytest_asyncio.fixture
async def bot(start: Start) -> AsyncIterator[None]:
    """The bot, running."""
    async with start():
        yield


def settings_of(telegram: FakeTelegram, tenant: str, token: str = TOKEN) -> BotSettings:
    telegram.bot(token)
    return BotSettings.model_validate(
        {"token": token, "tenant": tenant, "api_url": telegram.api_url, "reminder_seconds": 0.02}
    )
