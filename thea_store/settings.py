"""The settings of a store, from arguments, the environment and `.env`."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, ModelWrapValidatorHandler, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from thea_store.errors import SettingsError
from thea_store.postgres.url import DatabaseUrl
from thea_store.postgres.url_options import conflict

__all__ = ["EMBEDDED", "Settings", "extensions_setting", "key_provider_setting"]

EMBEDDED = "embedded:"

_log = logging.getLogger("thea_store")

SslMode = Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]


class _FromSurroundings(BaseSettings):
    """Reads `DATABASE_…` and `.env`; a `.env` that cannot be read does not count, and one that is no text is named."""

    model_config = SettingsConfigDict(
        env_prefix="DATABASE_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        validate_default=True,
    )

    if not TYPE_CHECKING:  # type checkers take the arguments from the fields

        def __init__(self, **values: Any) -> None:
            try:
                super().__init__(**values)
            except UnicodeDecodeError:
                raise SettingsError(".env", "is not UTF-8: save it as that, or remove it") from None
            except OSError as error:
                # A service that gets everything from its environment may run where it can read nothing.
                _log.warning(
                    "the file .env cannot be read (%s) and does not count: let this user read it, or remove it",
                    type(error).__name__,
                )
                super().__init__(**{**values, "_env_file": None})


class Settings(_FromSurroundings):
    """What a store needs to know, each field from `DATABASE_` and its name in capitals.

    Arguments win over the environment, the environment over `.env`. A missing or malformed value is
    a `SettingsError` of one line that names the variable. Passwords appear in no `repr` and no error.
    """

    url: str = Field(default="", repr=False)
    """Where the database is: `postgresql://…`, `embedded:` or `embedded:/path`."""
    replica_url: str | None = Field(default=None, repr=False)
    """Read replicas, for read-only transactions and, with `reads`, for single reads."""
    reads: Literal["primary", "replica"] = "primary"
    """Where a single call reads: with `replica`, on one that is fit for it."""
    replica_max_lag: float = Field(default=10, ge=0, le=86_400, allow_inf_nan=False)
    """Seconds that a replica may be behind and still serve reads."""
    migrator_url: str | None = Field(default=None, repr=False)
    """The login that migrates; `url` where it is not given."""
    worker_url: str | None = Field(default=None, repr=False)
    """The login in `thea_worker`, which tells workers what there is to do; `url` where it is not given."""
    pool_size: int = Field(default=5, ge=1, le=10_000)
    """Connections held."""
    max_overflow: int = Field(default=10, ge=0, le=10_000)
    """Connections beyond those, while they are needed."""
    pool_recycle: float = Field(default=3600, gt=0, allow_inf_nan=False)
    """Seconds after which a connection is replaced."""
    pool_timeout: float = Field(default=30, gt=0, allow_inf_nan=False)
    """Seconds to wait for a connection."""
    command_timeout: float = Field(default=30, gt=0, le=86_400, allow_inf_nan=False)
    """Seconds a statement may take."""
    tenant_scope: Literal["session", "transaction"] = "session"
    """How the tenant reaches the server: `transaction` behind PgBouncer's transaction mode."""
    tenants: Literal["any", "registered"] = "any"
    """Which tenants may work: `any` that is not suspended, or only those that the directory has."""
    extensions: str | None = None
    """Extensions to open with, as `package.module:NAME`, separated by commas."""
    encryption_keys: str | None = None
    """What holds the keys of encrypted tenants: `file:/directory`, `environment`, or `package.module:NAME`."""
    echo: bool = False
    """Log each query by name with its time."""
    ssl_mode: SslMode = "prefer"
    """libpq's meanings; a URL's own `sslmode` wins."""
    ssl_ca: Path | None = None
    """The file of the certificate authority, for `verify-ca` and `verify-full`."""
    slow_query_ms: float = Field(default=500, ge=0, allow_inf_nan=False)
    """Slower queries are logged at warning."""
    log_format: Literal["text", "json"] = "text"
    """`json`: write the library's log to standard error, a line of JSON for each record; `text`: leave it to Python."""
    allow_unsafe_role: bool = False
    """For development only: warn of a login that can bypass row security, instead of refusing it."""

    @field_validator("url", "replica_url", "migrator_url", "worker_url")
    @classmethod
    def _is_database(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(EMBEDDED):
            if not value.strip():
                raise ValueError("is not set: give postgresql://user@host/database, or embedded: for a throwaway one")
            DatabaseUrl.parse(value)
        return value

    @field_validator("ssl_ca")
    @classmethod
    def _is_file(cls, value: Path | None) -> Path | None:
        if value is not None and not os.path.isfile(value):  # noqa: PTH113 - unlike Path's, false for a closed directory
            raise ValueError("names no file")
        return value

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        for name in ("url", "replica_url", "migrator_url", "worker_url"):
            url = getattr(self, name)
            if url and not url.startswith(EMBEDDED) and (problem := conflict(self.address(url).options)):
                raise SettingsError(f"DATABASE_{name.upper()}", problem)
        return self

    @model_validator(mode="wrap")
    @classmethod
    def _one_clear_line(cls, values: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        try:
            return handler(values)
        except ValidationError as error:
            raise _settings_error(error) from None

    def address(self, url: str | None = None) -> DatabaseUrl:
        """The database's address with the TLS settings applied: of `url`, or of `self.url`."""
        address = DatabaseUrl.parse(url or self.url)
        options: dict[str, str] = {"sslmode": self.ssl_mode}
        if address.options.get("sslrootcert") == "system" and "ssl_mode" not in self.model_fields_set:
            options["sslmode"] = "verify-full"  # as libpq does
        if self.ssl_ca is not None:
            options["sslrootcert"] = str(self.ssl_ca)
        return address.with_options(**options)


class _Extensions(_FromSurroundings):
    """The one setting that counts where no database is named yet."""

    extensions: str | None = None


def extensions_setting() -> str:
    """`DATABASE_EXTENSIONS` of the environment or `.env`; empty where it is not set."""
    return _Extensions().extensions or ""


class _Keys(_FromSurroundings):
    """The setting that counts where only keys are worked on."""

    encryption_keys: str | None = None


def key_provider_setting() -> str | None:
    """`DATABASE_ENCRYPTION_KEYS` of the environment or `.env`; `None` where it is not set."""
    return _Keys().encryption_keys


def _settings_error(error: ValidationError) -> SettingsError:
    first = error.errors(include_url=False, include_input=False)[0]
    field = str(first["loc"][0]) if first["loc"] else "url"
    if first["type"] == "value_error":
        return SettingsError(f"DATABASE_{field.upper()}", str(first.get("ctx", {}).get("error")))
    return SettingsError(f"DATABASE_{field.upper()}", first["msg"].replace("Input should", "must"))
