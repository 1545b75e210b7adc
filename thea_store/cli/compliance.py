"""`thea-store compliance report` and `thea-store audit verify`, for those who answer for personal data."""

from __future__ import annotations

import asyncio
import json
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

    A login in thea_auditor is told of every tenant. A service's is refused for one that is suspended or has ended;
    for how long rows are kept is then read with DATABASE_MIGRATOR_URL, where it is given.
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
    tenant: Annotated[
        str | None,
        typer.Option(
            "--tenant", metavar="T", help="The tenant whose log it is; else those of all, by a login in thea_auditor."
        ),
    ] = None,
    expect: Annotated[
        list[str] | None,
        typer.Option(
            "--expect",
            metavar="LOG:PLACE:HASH",
            help="What this command printed earlier of the tenant; may be repeated.",
        ),
    ] = None,
    expect_file: Annotated[
        Path | None,
        typer.Option("--expect-file", metavar="FILE", help="What this command printed earlier of all, with --json."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Tell whether an entry of the compliance logs was altered or removed; the exit status is 1 then.

    It prints of each log the place and the hash of the last entry. Keep them where nobody who has the database can
    write. A service's login sees the certificates of erasures alone, one in thea_auditor all logs.
    """
    from thea_store.cli.output import print_json  # noqa: PLC0415

    if tenant is not None:
        if expect_file is not None:
            raise typer.BadParameter("is for all tenants: with --tenant give --expect", param_hint="--expect-file")
        found = {tenant: asyncio.run(_verify(tenant, expect))}
    elif expect:
        raise typer.BadParameter("is of one tenant: name it with --tenant", param_hint="--expect")
    else:
        found = asyncio.run(_verify_all(expect_file))
    if as_json:
        each = {whose: _as_json(verified) for whose, verified in found.items()}
        print_json({"tenants": each} if tenant is None else each[tenant])
    for whose, verified in found.items():
        _tell(f"{whose or 'all tenants together'}\t" if tenant is None else "", verified, heads=not as_json)
    if any(verified.faults for verified in found.values()):
        say(
            "look in the server's log, and in a backup, who changed the log and what it said: docs/runbooks.md says how"
        )
        raise typer.Exit(FAILED)
    if not as_json and not any(verified.heads for verified in found.values()):
        say("the log has no entry" if tenant is None else "the log of this tenant has no entry")


def _as_json(verified: Verified) -> dict[str, object]:
    return {
        "heads": [str(head) for head in verified.heads],
        "faults": list(verified.faults),
        "expired": list(verified.expired),
    }


def _tell(whose: str, verified: Verified, *, heads: bool) -> None:
    for head in verified.heads if heads else ():
        typer.echo(f"{whose}{head}")
    for sentence in verified.expired:
        say(f"{whose}{sentence}")
    for fault in verified.faults:
        say(f"{whose}{fault}")


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


async def _verify(tenant: str, expect: list[str] | None) -> Verified:
    from thea_store.admin.compliance import Head, verify  # noqa: PLC0415

    expected = [Head.parse(each) for each in expect or ()]
    async with AsyncExitStack() as resources:
        settings = await with_server(read_settings(), resources)
        return await asyncio.to_thread(verify, settings.address(), tenant, expected)


async def _verify_all(noted: Path | None) -> dict[str, Verified]:
    from thea_store.admin.compliance import verify_all  # noqa: PLC0415

    expected = _heads(noted) if noted is not None else {}
    async with AsyncExitStack() as resources:
        settings = await with_server(read_settings(), resources, "thea_auditor")
        return await asyncio.to_thread(verify_all, settings.address(), expected)


def _heads(noted: Path) -> dict[str, list[Head]]:
    """The heads that an earlier run printed; `InvalidArgumentError` for another file."""
    from thea_store.admin.compliance import Head  # noqa: PLC0415

    try:
        heads = {whose: list(each["heads"]) for whose, each in json.loads(noted.read_bytes())["tenants"].items()}
        return {whose: [Head.parse(head, "--expect-file") for head in each] for whose, each in heads.items()}
    except OSError as error:
        raise InvalidArgumentError("--expect-file", f"{noted.name} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise InvalidArgumentError(
            "--expect-file", f"{noted.name} is not what `thea-store audit verify --json` prints of all tenants"
        ) from error
