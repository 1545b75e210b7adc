"""Run the bot until it is interrupted or terminated."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys

from pydantic import ValidationError
from telegram.error import InvalidToken, TelegramError
from thea_store import Store, StoreError

from telegram_bot.bot import running
from telegram_bot.settings import BotSettings

__all__ = ["main"]


def main() -> None:
    """End with status 0 when told to stop, 1 when it cannot start, 2 when a setting is wrong."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)  # its lines have the token in them
    try:
        asyncio.run(_run(_settings()))
    except InvalidToken:  # its message has the token in it
        sys.exit("TELEGRAM_TOKEN was rejected by the server: ask @BotFather for it")
    except (StoreError, TelegramError) as error:
        sys.exit(f"{type(error).__name__}: {error}")


def _settings() -> BotSettings:
    try:
        return BotSettings()
    except ValidationError as error:
        wrong = ", ".join(f"TELEGRAM_{fault['loc'][0]}".upper() for fault in error.errors())
        print(f"Missing or malformed: {wrong}", file=sys.stderr)  # noqa: T201
        sys.exit(2)


async def _run(settings: BotSettings) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with Store.open() as store, running(settings, store):
        logging.getLogger("telegram_bot").info("ready, for tenant %s", settings.tenant)
        await stop.wait()


if __name__ == "__main__":
    main()
