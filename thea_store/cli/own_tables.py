"""What a service's own tables are written and proven with: `new`, `manifest`, `prove`, and `check` by a manifest."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from thea_store.cli.conventions import FAILED, AsJson, say
from thea_store.cli.surroundings import chosen_extensions, find_extensions, migrated_url, read_settings

if TYPE_CHECKING:
    from thea_store.testing import Report

__all__ = ["broken_promises", "differences", "manifest", "new", "prove"]

new = typer.Typer(help="Write an extension, an aggregate, a query or a migration here.", no_args_is_help=True)

_OfExtension = Annotated[str, typer.Option("--extension", metavar="E", help="The extension that it belongs to.")]
_OneExtension = Annotated[
    str | None, typer.Option("--extension", metavar="NAME", help="This one alone, of all that are found.")
]


@new.command("extension")
def new_extension(name: Annotated[str, typer.Argument(help="The package, and the PostgreSQL schema.")]) -> None:
    """Write the package of an extension into the current directory."""
    from thea_store.cli.new import new_extension as write  # noqa: PLC0415

    _tell_files(write(name))
    typer.echo(f"Next: thea-store new aggregate NAME --extension {name} --column title:text --hangs-on users")


@new.command("aggregate")
def new_aggregate(
    name: Annotated[str, typer.Argument(help="The table, the module and the file of its queries: tasks.")],
    extension: _OfExtension,
    column: Annotated[
        list[str],
        typer.Option("--column", metavar="NAME:TYPE", help="A column, as title:text or 'due_at:timestamptz?'."),
    ],
    hangs_on: Annotated[
        list[str] | None,
        typer.Option("--hangs-on", metavar="TABLE", help="What its rows are deleted with: users, or one of its own."),
    ] = None,
) -> None:
    """Add an aggregate to an extension: its table, queries, repository and tests."""
    from thea_store.cli.new import new_aggregate as write  # noqa: PLC0415

    _tell_files(write(name, extension, column, hangs_on or []))


@new.command("query")
def new_query(
    name: Annotated[str, typer.Argument(help="The query and the method: overdue.")],
    extension: _OfExtension,
    aggregate: Annotated[str, typer.Option("--aggregate", metavar="A", help="The aggregate that it belongs to.")],
) -> None:
    """Add a query to an aggregate: the statement, its method and a test, to be changed."""
    from thea_store.cli.new import new_query as write  # noqa: PLC0415

    _tell_files(write(name, extension, aggregate))


@new.command("migration")
def new_migration(
    name: Annotated[str, typer.Argument(help="What it does: add_priority.")], extension: _OfExtension
) -> None:
    """Write the next migration of an extension, and its way back, to be filled in."""
    from thea_store.cli.new import new_migration as write  # noqa: PLC0415

    _tell_files(write(name, extension))


def _tell_files(files: Sequence[Path]) -> None:
    for path in files:
        typer.echo(path)


def manifest(extension: _OneExtension = None) -> None:
    """Write down what each query of the extensions asks of the schema, for `check --offline`."""
    for path, text in asyncio.run(_manifests(extension)).items():
        path.write_text(text, "utf-8")
        typer.echo(path)


def prove(
    extension: _OneExtension = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Prove that each query and table of the extensions keeps tenants apart, on a throwaway server."""
    from thea_store.cli.output import print_json, print_proof  # noqa: PLC0415

    reports = _reports(extension)
    if as_json:
        print_json({"proofs": [report.as_json() for report in reports]})
    else:
        for report in reports:
            print_proof(report)
    if faults := sum(len(report.faults) for report in reports):
        say(f"{faults} fault(s) of isolation")
        raise typer.Exit(FAILED)


def _reports(name: str | None) -> list[Report]:
    from thea_store.errors import IsolationError  # noqa: PLC0415
    from thea_store.testing import prove as proof_of  # noqa: PLC0415

    reports = []
    for extension in chosen_extensions(name):
        try:
            reports.append(proof_of(extension))
        except IsolationError as error:
            reports.append(error.report)
    return reports


async def _manifests(name: str | None) -> dict[Path, str]:
    from thea_store.admin.manifest import manifest_of, path_of  # noqa: PLC0415
    from thea_store.migrator import available  # noqa: PLC0415

    written = {}
    async with AsyncExitStack() as resources:
        extensions = chosen_extensions(name)
        url = await migrated_url(extensions, resources)
        for extension in extensions:
            own = [each for each in available(lineages=[extension.lineage]) if each.lineage == extension.name]
            made = await asyncio.to_thread(manifest_of, url, extension.sql_files, own, own[-1].id)
            written[path_of(extension)] = made.as_text()
    return written


def differences(name: str | None) -> list[str]:
    """A sentence for each thing in which an extension, or each that is found, differs from its manifest."""
    from thea_store.admin.manifest import differences as differences_of  # noqa: PLC0415
    from thea_store.admin.manifest import path_of, read  # noqa: PLC0415
    from thea_store.migrator import available  # noqa: PLC0415

    found = []
    for extension in chosen_extensions(name):
        migrations = {each.id: each.checksum for each in available(lineages=[extension.lineage])}
        queries = [query for file in extension.sql_files for query in file.claimed]
        found += differences_of(read(path_of(extension)), queries, migrations)
        found += [sentence for file in extension.sql_files for sentence in file.unclaimed()]
    return found


async def broken_promises(path: Path) -> list[str]:
    """A sentence for each promise of an old manifest that the live schema does not keep."""
    from thea_store.admin.manifest import broken, edited, read  # noqa: PLC0415
    from thea_store.migrator import available  # noqa: PLC0415

    old = read(path)
    settings = read_settings()
    extensions = find_extensions(settings.extensions)
    async with AsyncExitStack() as resources:
        if settings.url.startswith("embedded:"):
            url = await migrated_url(extensions, resources)
        else:
            url = settings.address().render()
        lineages = [extension.lineage for extension in extensions]
        migrations = {each.id: each.checksum for each in available(lineages=lineages)}
        return [*await asyncio.to_thread(broken, old, url), *edited(old, migrations)]
