"""What a command works with: the settings, the extensions, and a PostgreSQL where none is named."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from importlib.util import find_spec
from typing import TYPE_CHECKING

from thea_store.cli.conventions import say
from thea_store.errors import InvalidArgumentError, SettingsError

if TYPE_CHECKING:
    from thea_store.embedded import EmbeddedPostgres
    from thea_store.extensions import Extension
    from thea_store.settings import Settings

__all__ = ["chosen_extensions", "embedded_server", "find_extensions", "migrated_url", "read_settings", "with_server"]


def read_settings(*, migrating: bool = False) -> Settings:
    """The settings of the environment and `.env`; without a DATABASE_URL an embedded server, which is told."""
    from pydantic import Field  # noqa: PLC0415

    from thea_store.settings import EMBEDDED, Settings  # noqa: PLC0415

    class CommandLine(Settings):
        url: str = Field(default=EMBEDDED, repr=False)

    settings = CommandLine()
    if "url" not in settings.model_fields_set and not (migrating and settings.migrator_url):
        if settings.migrator_url:
            raise SettingsError("DATABASE_URL", "is not set, while DATABASE_MIGRATOR_URL is: give the service's too")
        say("DATABASE_URL is not set: on an embedded PostgreSQL, which is thrown away at the end")
    return settings


def find_extensions(setting: str | None, name: str | None = None) -> list[Extension]:
    """The extensions that are named by the setting or installed, and that of this name in the current directory.

    `InvalidArgumentError` where there is none of this name.
    """
    from thea_store.extensions import discover  # noqa: PLC0415

    found = {extension.name: extension for extension in discover((), setting or "")}
    if name is not None and name not in found and name.isidentifier() and find_spec(name) is not None:
        found |= {extension.name: extension for extension in discover((), f"{name}:{name.upper()}")}
    if name is not None and name not in found:
        raise InvalidArgumentError("--extension", f"there is no extension {name}; found: {', '.join(found) or 'none'}")
    return list(found.values())


def chosen_extensions(name: str | None) -> Sequence[Extension]:
    """The extension of this name, or all that are found; `InvalidArgumentError` where none is."""
    from thea_store.settings import extensions_setting  # noqa: PLC0415

    found = find_extensions(extensions_setting(), name)
    if not found:
        raise InvalidArgumentError(
            "--extension", "no extension is found: name one, set DATABASE_EXTENSIONS, or install its distribution"
        )
    return [extension for extension in found if name in {None, extension.name}]


async def with_server(settings: Settings, resources: AsyncExitStack, group: str = "thea_app") -> Settings:
    """The same settings; where they name an embedded server, with the URLs of it, started, for a login in this group.

    A throwaway one is migrated, since it has nothing else to show; a kept one is left as it is.
    """
    from thea_store import migrator  # noqa: PLC0415
    from thea_store.settings import EMBEDDED  # noqa: PLC0415

    server = await embedded_server(settings.url, resources)
    if server is None:
        return settings
    if settings.url == EMBEDDED:
        lineages = [extension.lineage for extension in find_extensions(settings.extensions)]
        await asyncio.to_thread(
            migrator.migrate, server.migrator_url, lineages=lineages, superuser_url=server.superuser_url
        )
    urls = {"url": server.url_of(group), "migrator_url": server.migrator_url, "worker_url": server.worker_url}
    return settings.model_copy(update=urls)


async def embedded_server(url: str, resources: AsyncExitStack) -> EmbeddedPostgres | None:
    """The running server that `embedded:` or `embedded:/path` stands for; `None` for another URL."""
    from thea_store.settings import EMBEDDED  # noqa: PLC0415

    if not url.startswith(EMBEDDED):
        return None
    from thea_store.embedded import EmbeddedPostgres  # noqa: PLC0415 - on Windows there is none

    return await resources.enter_async_context(EmbeddedPostgres(url.removeprefix(EMBEDDED) or None))


async def migrated_url(extensions: Sequence[Extension], resources: AsyncExitStack) -> str:
    """The service's URL of a throwaway server that has all migrations."""
    from thea_store import migrator  # noqa: PLC0415
    from thea_store.embedded import EmbeddedPostgres  # noqa: PLC0415

    server = await resources.enter_async_context(EmbeddedPostgres())
    lineages = [extension.lineage for extension in extensions]
    await asyncio.to_thread(
        migrator.migrate, server.migrator_url, lineages=lineages, superuser_url=server.superuser_url
    )
    return server.app_url
