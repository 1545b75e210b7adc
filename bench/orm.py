"""SQLAlchemy's asyncio ORM over asyncpg, with row security: each call sets its tenant by `set_config`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Self

import asyncpg
from ground import Place
from peers import ENTITIES, POOL_SIZE
from sqlalchemy import BigInteger, DateTime, Identity, func, select, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession, async_sessionmaker, create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

__all__ = ["Orm"]

_SET_TENANT = text("select set_config('app.tenant_id', :tenant_id, true)")


class _Base(DeclarativeBase):
    __table_args__ = {"schema": "thea"}  # noqa: RUF012 - SQLAlchemy's own form
    type_annotation_map = {int: BigInteger, datetime: DateTime(timezone=True), dict[str, Any]: JSONB}  # noqa: RUF012

    tenant_id: Mapped[str] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    deleted_at: Mapped[datetime | None]


class _User(_Base):
    __tablename__ = "users"

    telegram_id: Mapped[int]
    username: Mapped[str | None]
    first_name: Mapped[str | None]
    last_name: Mapped[str | None]
    language_code: Mapped[str | None]
    timezone: Mapped[str]
    is_active: Mapped[bool]
    preferences: Mapped[dict[str, Any]]
    last_activity: Mapped[datetime | None]


class _Conversation(_Base):
    __tablename__ = "conversations"

    user_id: Mapped[int]
    session_id: Mapped[str]
    current_state: Mapped[str]
    context_data: Mapped[dict[str, Any]]
    last_message_id: Mapped[int | None]
    is_active: Mapped[bool]
    last_activity: Mapped[datetime]


class _Message(_Base):
    __tablename__ = "message_history"

    user_id: Mapped[int]
    conversation_id: Mapped[int]
    message_id: Mapped[int | None]
    user_message: Mapped[str]
    bot_response: Mapped[str | None]
    intent_detected: Mapped[str | None]
    entities_extracted: Mapped[dict[str, Any] | None] = mapped_column(JSONB)
    confidence_score: Mapped[float | None]
    processing_time_ms: Mapped[int | None]


class Orm:
    """A session for each call: begin, the tenant, the query, commit."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._sessions = async_sessionmaker(engine, expire_on_commit=False)

    @classmethod
    async def open(cls, url: str) -> Self:
        # asyncpg reads every form of URL itself, socket directories too.
        return cls(
            create_async_engine(
                "postgresql+asyncpg://",
                async_creator=lambda: asyncpg.connect(url),
                pool_size=POOL_SIZE,
                max_overflow=0,
            )
        )

    async def one_row(self, place: Place) -> Sequence[Any]:
        async with self._session(place) as session:
            query = select(_User).where(
                _User.tenant_id == place.tenant_id, _User.id == place.user_id, _User.deleted_at.is_(None)
            )
            return [(await session.scalars(query)).one()]

    async def twenty_rows(self, place: Place) -> Sequence[Any]:
        async with self._session(place) as session:
            query = (
                select(_Message)
                .where(_Message.tenant_id == place.tenant_id, _Message.deleted_at.is_(None))
                .order_by(_Message.created_at.desc(), _Message.id.desc())
                .limit(20)
            )
            return (await session.scalars(query)).all()

    async def insert(self, place: Place) -> Sequence[Any]:
        async with self._session(place) as session:
            query = select(_Conversation).where(
                _Conversation.tenant_id == place.tenant_id,
                _Conversation.session_id == place.session_id,
                _Conversation.deleted_at.is_(None),
            )
            conversation = (await session.scalars(query)).one()
            message = _Message(
                tenant_id=place.tenant_id,
                user_id=place.user_id,
                conversation_id=conversation.id,
                user_message="And the day after?",
                bot_response="Nothing so far.",
                intent_detected="get_events",
                entities_extracted=ENTITIES,
                confidence_score=0.9,
                processing_time_ms=80,
            )
            session.add(message)
            await session.flush()
            conversation.last_message_id = message.id
            conversation.last_activity = func.now()
            return [message]

    async def context_window(self, place: Place) -> Sequence[Any]:
        async with self._session(place) as session:
            query = (
                select(_Message)
                .join(
                    _Conversation,
                    (_Conversation.tenant_id == _Message.tenant_id) & (_Conversation.id == _Message.conversation_id),
                )
                .where(
                    _Conversation.tenant_id == place.tenant_id,
                    _Conversation.session_id == place.session_id,
                    _Conversation.deleted_at.is_(None),
                    _Message.deleted_at.is_(None),
                )
                .order_by(_Message.created_at.desc(), _Message.id.desc())
                .limit(50)
            )
            return (await session.scalars(query)).all()[::-1]

    async def close(self) -> None:
        await self._engine.dispose()

    @asynccontextmanager
    async def _session(self, place: Place) -> AsyncIterator[AsyncSession]:
        async with self._sessions() as session, session.begin():
            await session.execute(_SET_TENANT, {"tenant_id": place.tenant_id})
            yield session
