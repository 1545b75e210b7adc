"""What happens with a message, whatever library it came by: one transaction, then one answer."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from zoneinfo import ZoneInfo

from thea_store import Conversation, Store, StoreTransaction, User

from telegram_bot.dialogue import respond
from telegram_bot.effects import perform
from telegram_bot.turns import Said

__all__ = ["Assistant", "Clock", "Incoming", "session_of", "utc_now"]

Clock = Callable[[], datetime]

# Telegram delivers a batch again when its confirmation was lost, and a batch has up to so many updates.
_REDELIVERED = 100


def utc_now() -> datetime:
    """The present moment."""
    return datetime.now(UTC)


def session_of(bot_id: int, telegram_id: int) -> str:
    """The session of a person's private chat with a bot; another bot's numbers its messages anew."""
    return f"telegram-bot:{bot_id}:{telegram_id}"


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message in a private chat; `text` is empty for a picture and the like."""

    update_id: int
    message_id: int
    telegram_id: int
    text: str
    username: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    language_code: str | None = None


class Assistant:
    """Answers the messages to one bot, for one tenant."""

    def __init__(self, store: Store, tenant: str, bot_id: int, clock: Clock = utc_now) -> None:
        self._store, self._tenant, self._bot_id, self._clock = store, tenant, bot_id, clock

    async def answer(self, message: Incoming) -> str:
        """The reply; by then, what the message asked for is committed together with the exchange.

        A message that was answered before gets the same reply, and does nothing. On a `StoreError` nothing was
        written, unless it is an `OutcomeUnknownError`.
        """
        return await self._store.run(
            self._tenant,
            partial(self._exchange, message),
            actor=f"user:{message.telegram_id}",
            request_id=f"update:{message.update_id}",
        )

    async def _exchange(self, message: Incoming, tx: StoreTransaction) -> str:
        began = time.perf_counter()
        user = await self._user(message, tx)
        session = session_of(self._bot_id, message.telegram_id)
        # This locks the conversation: of two messages at once, one sees what the other has left.
        conversation = await tx.conversations.get_or_create(self._tenant, user.id, session)
        if (earlier := await self._earlier_reply(message, tx, conversation)) is not None:
            return earlier
        now = self._clock().astimezone(ZoneInfo(user.timezone))
        answer = respond(Said(message.text, conversation.current_state, conversation.context_data, now))
        found = await perform(tx, user, answer.effect, now) if answer.effect else ""
        await tx.conversations.update_state(
            self._tenant, conversation.id, answer.state, answer.context, expected_state=conversation.current_state
        )
        exchange = await tx.messages.add_message(
            self._tenant,
            user.id,
            session,
            user_message=message.text,
            bot_response=found or answer.reply,
            message_id=message.message_id,
            intent_detected=answer.intent,
            entities_extracted=dict(answer.entities) or None,
            confidence_score=answer.confidence,
            processing_time_ms=round((time.perf_counter() - began) * 1000),
        )
        return exchange.bot_response or ""

    async def _user(self, message: Incoming, tx: StoreTransaction) -> User:
        user = await tx.users.get_or_create_from_telegram(
            self._tenant,
            message.telegram_id,
            username=message.username,
            first_name=message.first_name,
            last_name=message.last_name,
            language_code=message.language_code,
        )
        return await tx.users.update_last_activity(self._tenant, user.id)

    async def _earlier_reply(self, message: Incoming, tx: StoreTransaction, conversation: Conversation) -> str | None:
        newest = conversation.last_message_id
        if newest is None or message.message_id > newest:
            return None
        window = await tx.messages.get_context_window(self._tenant, conversation.session_id, limit=_REDELIVERED)
        replies = [exchange.bot_response for exchange in window if exchange.message_id == message.message_id]
        return replies[-1] if replies else None
