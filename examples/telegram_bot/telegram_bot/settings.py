"""The settings of the bot; those of the store are the store's own (`DATABASE_URL` …)."""

from __future__ import annotations

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["BotSettings"]


class BotSettings(BaseSettings):
    """From arguments, the environment (`TELEGRAM_` and the name in capitals) and `.env`."""

    model_config = SettingsConfigDict(
        env_prefix="TELEGRAM_", env_file=".env", extra="ignore", hide_input_in_errors=True
    )

    token: SecretStr
    """What @BotFather gave."""
    tenant: str
    """Whose bot it is; a tenant has one."""
    api_url: str = "https://api.telegram.org/bot"
    """The Bot API server, up to where the token follows."""
    reminder_seconds: float = Field(default=5, gt=0)
    """How often to look for reminders that are due."""
