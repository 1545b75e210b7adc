"""`thea-store compliance report`: what is kept of a tenant, for those who answer for personal data."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thea_store.cli.conventions import AsJson
from thea_store.cli.surroundings import find_extensions, read_settings, with_server
from thea_store.errors import InvalidArgumentError

if TYPE_CHECKING:
    from thea_store.admin.compliance import Report

__all__ = ["compliance"]

compliance = typer.Typer(help="Answer for what is kept.", no_args_is_help=True)


@compliance.callback()
def _group() -> None:
    """Keep `report` a command of its own, though it is the only one."""


@compliance.command()
def report(
    *,
    tenant: Annotated[str, typer.Option("--tenant", metavar="T", help="The tenant that it is about.")],
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="A new file; else standard output.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say as an HTML page what is kept of a tenant, for how long, who may see it, and who was erased.

    How long rows are kept is read with DATABASE_MIGRATOR_URL, where it is given.
    """
    from thea_store.admin.compliance import to_html  # noqa: PLC0415
    from thea_store.cli.output import print_json  # noqa: PLC0415

    if file is not None and file.exists():
        raise InvalidArgumentError("--file", f"{file.name} is there already: name a new file, or remove it")
    found = asyncio.run(_read(tenant))
    if as_json and file is None:
        print_json(found.as_json())
    elif file is None:
        typer.echo(to_html(found), nl=False)
    else:
        _write(file, to_html(found))
        if as_json:
            print_json(found.as_json())


def _write(file: Path, page: str) -> None:
    try:
        file.write_text(page, "utf-8")
    except OSError as error:
        raise InvalidArgumentError("--file", f"{file.name} cannot be written: {error.strerror}") from error


async def _read(tenant: str) -> Report:
    from thea_store.admin.compliance import read  # noqa: PLC0415

    async with AsyncExitStack() as resources:
        settings = await with_server(read_settings(), resources)
        extensions = [extension.name for extension in find_extensions(settings.extensions)]
        operator = settings.address(settings.migrator_url) if settings.migrator_url else None
        return await asyncio.to_thread(read, settings.address(), tenant, extensions, operator=operator)
