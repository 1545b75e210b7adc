"""The bot: python-telegram-bot brings the messages, the assistant answers them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from telegram import Update
from telegram.ext import Application, ContextTypes, MessageHandler, filters
from thea_store import OutcomeUnknownError, Store, StoreError

from telegram_bot.assistant import Assistant, Clock, Incoming, utc_now
from telegram_bot.reminders import Reminders
from telegram_bot.settings import BotSettings

__all__ = ["running"]

_log = logging.getLogger("telegram_bot")

# No groups, and no notices that something was pinned.
_MESSAGES = filters.ChatType.PRIVATE & ~filters.StatusUpdate.ALL


@asynccontextmanager
async def running(settings: BotSettings, store: Store, clock: Clock = utc_now) -> AsyncIterator[None]:
    """A bot that answers and reminds until the block ends, and then finishes what it has begun.

    `TelegramError` when the server does not answer, or does not know the token.
    """
    builder = Application.builder().token(settings.token.get_secret_value()).base_url(settings.api_url)
    application = builder.job_queue(None).build()
    bot = application.bot
    async with AsyncExitStack() as ending:
        # The application, when it cannot start, leaves its bot's connections open.
        ending.push_async_callback(bot.shutdown)
        await ending.enter_async_context(application)
        assistant = Assistant(store, settings.tenant, bot.id, clock)
        application.add_handler(MessageHandler(_MESSAGES, _handler(assistant)))
        application.add_error_handler(_report)
        await application.start()
        ending.push_async_callback(application.stop)
        assert application.updater is not None  # noqa: S101 - this builder always makes one
        await application.updater.start_polling(allowed_updates=[Update.MESSAGE])
        ending.push_async_callback(application.updater.stop)
        stopping = asyncio.Event()
        reminders = Reminders(store, settings.tenant, bot, clock)
        task = asyncio.create_task(reminders.run(stopping, settings.reminder_seconds))
        ending.push_async_callback(_end, stopping, task)
        yield


def _handler(assistant: Assistant) -> Callable[[Update, ContextTypes.DEFAULT_TYPE], Coroutine[Any, Any, None]]:
    async def answer(update: Update, _context: ContextTypes.DEFAULT_TYPE) -> None:
        message, person = update.message, update.effective_user
        if message is None or person is None:  # an edited message is another field
            return
        incoming = Incoming(
            update.update_id,
            message.message_id,
            person.id,
            message.text or message.caption or "",
            username=person.username,
            first_name=person.first_name,
            last_name=person.last_name,
            language_code=person.language_code,
        )
        try:
            reply = await assistant.answer(incoming)
        except StoreError as error:
            await message.reply_text(_apology(error))
            raise
        await message.reply_text(reply)

    return answer


def _apology(error: StoreError) -> str:
    if isinstance(error, OutcomeUnknownError):
        return "No sé si lo he apuntado. Míralo antes de repetirlo: /notas, /agenda"
    return "Ahora no puedo, y no he apuntado nada. Inténtalo dentro de un momento."


async def _report(update: object, context: ContextTypes.DEFAULT_TYPE) -> None:
    # Never the update itself, which is what somebody wrote.
    number = update.update_id if isinstance(update, Update) else 0
    _log.error("update %d failed", number, exc_info=context.error)


async def _end(stopping: asyncio.Event, task: asyncio.Task[None]) -> None:
    stopping.set()
    await task
