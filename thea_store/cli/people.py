"""`thea-store export user` and `thea-store erase user`: what the law gives a person a right to."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from thea_store.cli.conventions import AsJson, say
from thea_store.cli.surroundings import read_settings, with_server
from thea_store.errors import InvalidArgumentError, NotFoundError

if TYPE_CHECKING:
    from thea_store.settings import Settings
    from thea_store.store import Store
    from thea_store.tenancy.erasure import Erasure

__all__ = ["erase_user", "export_user"]

# Seconds: a person may have very many rows, and all of them go in one statement.
_PATIENCE = 3600.0

_UserId = Annotated[int | None, typer.Argument(metavar="ID", help="The user's id in the store.")]
_UserOption = Annotated[int | None, typer.Option("--user", metavar="ID", help="The same, by name.")]
_Tenant = Annotated[str, typer.Option("--tenant", metavar="T", help="The user's tenant.")]


def export_user(
    user_id: _UserId = None,
    *,
    tenant: _Tenant,
    user: _UserOption = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            metavar="FILE",
            help="A new file, as a zip where it ends with .zip; else lines to standard output.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Give out all that is kept of a person, as JSON Lines or a zip of them, with a manifest of counts and hashes."""
    from thea_store.cli.output import print_json  # noqa: PLC0415

    if as_json and file is None:
        raise typer.BadParameter("goes with --file: without one the rows go to standard output", param_hint="--json")
    manifest = asyncio.run(_export(tenant, _chosen(user_id, user), file))
    if as_json:
        print_json(manifest)
        return
    for table, count in manifest["counts"].items():
        typer.echo(f"{table:<20}{count:,}", err=file is None)


def erase_user(
    user_id: _UserId = None,
    *,
    tenant: _Tenant,
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="Why; it stands in the certificate.")],
    user: _UserOption = None,
    actor: Annotated[str | None, typer.Option("--actor", metavar="WHO", help="On whose behalf.")] = None,
    with_others: Annotated[
        bool, typer.Option("--with-others", help="Also remove rows of other people that hang on this person's.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remove a person and all that hangs on them, for good; the login must be a member of thea_privacy."""
    from thea_store.cli.output import print_json  # noqa: PLC0415

    options = {"reason": reason, "with_others": with_others}
    erasure = asyncio.run(_erase(tenant, _chosen(user_id, user), actor, options))
    if as_json:
        print_json(erasure.model_dump(mode="json"))
        return
    typer.echo(f"erased user {erasure.user_id} of {tenant}: certificate {erasure.id} of {erasure.at.isoformat()}")
    for table, count in erasure.counts.items():
        typer.echo(f"{table:<20}{count:,}")
    for table, count in erasure.counts_of_others.items():
        typer.echo(f"{table:<20}{count:,} of other people")
    typer.echo(f"{'audit entries':<20}{erasure.redacted:,} redacted")


def _chosen(argument: int | None, option: int | None) -> int:
    if (argument is None) == (option is None):
        raise InvalidArgumentError("ID", "give the user's id once: as an argument, or with --user")
    return argument if argument is not None else option  # type: ignore[return-value]  # one of them is given


def _settings() -> Settings:
    settings = read_settings()
    longer = {"command_timeout": max(settings.command_timeout, _PATIENCE), "slow_query_ms": 60_000, "pool_size": 1}
    return settings.model_copy(update=longer)


@asynccontextmanager
async def _opened(group: str) -> AsyncIterator[Store]:
    """A store, on an embedded server for a login in this group."""
    from thea_store.store import Store  # noqa: PLC0415

    async with AsyncExitStack() as resources:
        settings = await with_server(_settings(), resources, group)
        yield await resources.enter_async_context(Store.open(settings))


async def _export(tenant: str, user_id: int, file: Path | None) -> dict[str, Any]:
    from thea_store.tenancy.person_file import write_person  # noqa: PLC0415

    async with _opened("thea_app") as store:
        with _written(file) as out:
            manifest = await write_person(
                store.people.export(tenant, user_id),
                out,
                tenant_id=tenant,
                user_id=user_id,
                as_zip=file is not None and file.suffix.lower() == ".zip",
            )
            if not manifest["counts"]:
                raise NotFoundError(f"nothing is kept of a user {user_id} of this tenant")
    return manifest


@contextmanager
def _written(file: Path | None) -> Iterator[IO[bytes]]:
    """A new file, for its owner's eyes alone, which is there only when it is complete; or standard output."""
    if file is None:
        yield sys.stdout.buffer
        return
    if file.exists():
        raise InvalidArgumentError("--file", f"{file.name} is there already: name a new file, or remove it")
    part = file.with_name(f"{file.name}.part")
    try:
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            yield out
        part.replace(file)
    except OSError as error:
        raise InvalidArgumentError("--file", f"{file.name} cannot be written: {error.strerror}") from error
    finally:
        part.unlink(missing_ok=True)


async def _erase(tenant: str, user_id: int, actor: str | None, options: dict[str, Any]) -> Erasure:
    async with (
        _opened("thea_privacy") as store,
        store.transaction(tenant, actor=actor) as transaction,
    ):
        erasure = await transaction.people.erase(tenant, user_id, **options)
    if erasure.counts_of_others:
        say("rows of other people went with this person's, as --with-others asked")
    return erasure
