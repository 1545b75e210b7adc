"""Users: a note or reminder belongs to one, so this comes first."""

from __future__ import annotations

from fastapi import APIRouter, status
from pydantic import BaseModel
from thea_store import User

from notes_service.dependencies import CurrentStore, Tenant

__all__ = ["router"]

router = APIRouter(prefix="/users", tags=["users"])


class NewUser(BaseModel, extra="forbid"):
    """Somebody who writes notes."""

    telegram_id: int
    first_name: str | None = None
    timezone: str = "UTC"


@router.post("", status_code=status.HTTP_201_CREATED)
async def create_user(store: CurrentStore, tenant: Tenant, new: NewUser) -> User:
    """Make a user; a Telegram id that the tenant has already is a conflict."""
    return await store.users.create(
        tenant, telegram_id=new.telegram_id, first_name=new.first_name, timezone=new.timezone
    )
