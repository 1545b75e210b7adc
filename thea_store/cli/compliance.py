"""`thea-store compliance report` and `thea-store audit verify`, for those who answer for personal data."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thea_store.cli.conventions import FAILED, AsJson, say
from thea_store.cli.surroundings import find_extensions, read_settings, with_server
from thea_store.errors import InvalidArgumentError

if TYPE_CHECKING:
    from thea_store.admin.compliance import Head, Report, Verified

__all__ = ["audit", "compliance"]

compliance = typer.Typer(help="Answer for what is kept.", no_args_is_help=True)


audit = typer.Typer(help="Show that a log is what was written.", no_args_is_help=True)


@compliance.callback()
@audit.callback()
def _group() -> None:
    """Keep a command's name, though it is the only one of its group."""


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


@audit.command()
def verify(
    *,
    tenant: Annotated[str, typer.Option("--tenant", metavar="T", help="The tenant whose compliance log it is.")],
    expect: Annotated[
        str | None,
        typer.Option("--expect", metavar="PLACE:HASH", help="What this command printed earlier."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell whether an entry of the compliance log was altered or removed; the exit status is 1 then.

    It prints the place and the hash of the last entry. Keep them where nobody who has the database can write.
    """
    from thea_store.admin.compliance import Head  # noqa: PLC0415
    from thea_store.cli.output import print_json  # noqa: PLC0415

    found = asyncio.run(_verify(tenant, Head.parse(expect) if expect is not None else None))
    head = str(found.head) if found.head else None
    if as_json:
        print_json({"head": head, "faults": list(found.faults)})
    elif head:
        typer.echo(head)
    for fault in found.faults:
        say(fault)
    if found.faults:
        say("look in the server's log, and in a backup, who changed the log and what it said")
        raise typer.Exit(FAILED)
    if head is None and not as_json:
        say("the log of this tenant has no entry")


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


async def _verify(tenant: str, expected: Head | None) -> Verified:
    from thea_store.admin.compliance import verify  # noqa: PLC0415

    async with AsyncExitStack() as resources:
        settings = await with_server(read_settings(), resources)
        return await asyncio.to_thread(verify, settings.address(), tenant, expected)
