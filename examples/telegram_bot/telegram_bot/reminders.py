"""Sends the reminders of a tenant when they are due."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from datetime import timedelta
from zoneinfo import ZoneInfo

from telegram import Bot
from telegram.error import BadRequest, Forbidden, RetryAfter, TelegramError
from thea_store import EventOccurrence, Store, StoreError, StoreTransaction, User

from telegram_bot.assistant import Clock, session_of, utc_now
from telegram_bot.when import tell

__all__ = ["Reminders"]

_log = logging.getLogger("telegram_bot.reminders")


class Reminders:
    """A worker; of several for one tenant, each takes other reminders."""

    def __init__(self, store: Store, tenant: str, bot: Bot, clock: Clock = utc_now) -> None:
        self._store, self._tenant, self._bot, self._clock = store, tenant, bot, clock

    async def run(self, stopping: asyncio.Event, seconds: float) -> None:
        """Look every so many seconds, until `stopping` is set; what cannot be sent now waits for the next time."""
        while not stopping.is_set():
            pause = seconds
            try:
                while not stopping.is_set() and await self.send_next():
                    pass
            except (StoreError, TelegramError) as error:
                _log.warning("a reminder has to wait: %s", type(error).__name__)
                pause = max(seconds, _asked_for(error))
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), pause)

    async def send_next(self) -> bool:
        """Send the next reminder that is due; whether there was one.

        It is claimed in the transaction in which it is sent: where Telegram does not take it, the claim is undone
        and the reminder still due. So none is lost, and one is sent twice only when its commit fails.
        """
        async with self._store.transaction(self._tenant, actor="reminders") as tx:
            for event in await tx.events.claim_due_reminders(self._tenant, now=self._clock(), limit=1):
                user = await tx.users.get_by_id(self._tenant, event.user_id)
                if user is not None:
                    await self._send(tx, user, event)
                return True
        return False

    async def _send(self, tx: StoreTransaction, user: User, event: EventOccurrence) -> None:
        now = self._clock().astimezone(ZoneInfo(user.timezone))
        text = f"⏰ {event.title} ({tell(event.start_datetime, now)})"
        try:
            sent = await self._bot.send_message(user.telegram_id, text)
        except (BadRequest, Forbidden) as error:  # they have blocked the bot, or never wrote to it
            _log.warning("a reminder of user %d cannot be delivered: %s", user.id, type(error).__name__)
            return
        await tx.messages.add_message(
            self._tenant,
            user.id,
            session_of(self._bot.id, user.telegram_id),
            user_message="",
            bot_response=text,
            message_id=sent.message_id,
            intent_detected="reminder",
        )


def _asked_for(error: Exception) -> float:
    """The seconds for which Telegram wants to be left alone."""
    if not isinstance(error, RetryAfter):
        return 0
    wait = error.retry_after
    return wait.total_seconds() if isinstance(wait, timedelta) else wait
