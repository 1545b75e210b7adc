"""`thea-store import`: what brings data into the store."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import typer

from thea_store.cli.conventions import AsJson, say
from thea_store.cli.surroundings import read_settings
from thea_store.errors import InvalidArgumentError, StoreError

if TYPE_CHECKING:
    from thea_store.telegram.importer import ImportReport

__all__ = ["imports"]

imports = typer.Typer(help="Bring data into the store.", no_args_is_help=True)


def _telegram_id(text: str) -> int:
    found = re.fullmatch(r"(?:user)?([1-9][0-9]{0,18})", text)
    if found is None:
        raise typer.BadParameter("must be a Telegram id, such as 123456789 or user123456789")
    return int(found[1])


def _chat(text: str) -> tuple[str | None, int]:
    found = re.fullmatch(r"(?:([a-z_]+):)?(-?[0-9]{1,19})", text)
    if found is None:
        raise typer.BadParameter("must be a chat's id, such as 123456789 or private_group:123456789")
    kind = found[1]
    return None if kind == "chat" else kind, int(found[2])


def _zone(text: str) -> tzinfo:
    from thea_store.queries.arguments import Timezone, check  # noqa: PLC0415

    try:
        return ZoneInfo(check("--zone", text, Timezone))
    except InvalidArgumentError:
        raise typer.BadParameter("must be a timezone's name, such as Europe/Madrid") from None


@imports.command()
def telegram(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The result.json of a chat or of a full account.")],
    tenant: Annotated[str, typer.Option("--tenant", metavar="T", help="The tenant to import into.")],
    assistant: Annotated[
        int | None,
        typer.Option(
            "--assistant",
            metavar="ID",
            parser=_telegram_id,
            help="The assistant's Telegram id, for chats that are not a bot's.",
        ),
    ] = None,
    chats: Annotated[
        list[Any] | None,
        typer.Option(
            "--chat",
            metavar="ID",
            parser=_chat,
            help="Import this chat alone, by its id in the file, or KIND:ID. Can be given more than once.",
        ),
    ] = None,
    zone: Annotated[
        Any,
        typer.Option(
            "--zone",
            metavar="ZONE",
            parser=_zone,
            help="The timezone of the computer that made an old export, which has local times alone. UTC if not given.",
        ),
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Import a chat export of Telegram Desktop. Whatever stopped it, run it again: nothing comes in twice."""
    from thea_store.cli.output import print_import, print_json  # noqa: PLC0415

    report, error = asyncio.run(
        _import(file, tenant, {"assistant": assistant, "chats": chats or (), "zone": zone or UTC})
    )
    if as_json:
        print_json({"tenant": tenant, "file": str(file), **report.as_json(), "error": error and str(error)})
    elif report.messages or error is None:
        print_import(report, zone)
    if error is not None:
        raise error
    if assistant is not None and not report.answers and not report.skipped["unaddressed"]:
        say(f"{file} has no message of user{assistant}, so none counts as an answer: check --assistant")


async def _import(file: Path, tenant: str, options: dict[str, Any]) -> tuple[ImportReport, StoreError | None]:
    """What was imported, and what ended it early."""
    from thea_store.cli.output import progress_of  # noqa: PLC0415
    from thea_store.queries.arguments import check_tenant  # noqa: PLC0415
    from thea_store.store import Store  # noqa: PLC0415
    from thea_store.telegram.export import ExportReader  # noqa: PLC0415
    from thea_store.telegram.importer import TelegramImport  # noqa: PLC0415

    check_tenant(tenant)
    ExportReader(file)  # a missing file is told before a server starts
    # Statements of an import are large: only those over 10 s are logged as slow.
    settings = read_settings().model_copy(update={"slow_query_ms": 10_000})
    async with Store.open(settings) as store:
        job = TelegramImport(store, tenant, file, **options)
        try:
            await progress_of(job)
        except StoreError as error:
            return job.report, error
        return job.report, None
