"""The command line. Exit status: 0 well, 1 failed, 2 misused.

What a command found goes to standard output, for a machine with `--json`; errors, warnings and the progress,
the last on a terminal only, go to standard error. What a command needs is imported when it runs.
"""

from __future__ import annotations

import asyncio
import io
import sys
import traceback
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from thea_store.cli.archives import check_export, end_tenant, export_tenant, import_tenant, move_tenant, restore
from thea_store.cli.compliance import audit, compliance
from thea_store.cli.conventions import FAILED, MISUSED, AsJson, say
from thea_store.cli.encryption import encryption
from thea_store.cli.imports import imports
from thea_store.cli.own_tables import broken_promises, differences, manifest, new, prove
from thea_store.cli.people import erase_user, export_user
from thea_store.cli.surroundings import embedded_server, find_extensions, read_settings, with_server
from thea_store.cli.watching import status, top
from thea_store.cli.work import work
from thea_store.errors import InvalidArgumentError, InvalidTenantError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from thea_store.admin.doctor import Finding
    from thea_store.admin.schema import Schema
    from thea_store.extensions import Extension
    from thea_store.postgres.url import DatabaseUrl
    from thea_store.verification.opening import Findings

__all__ = ["app", "main"]


class _Commands(TyperGroup):
    """Turns the library's errors into a sentence and an exit status."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        try:
            return super().invoke(ctx)
        except StoreError as error:
            say(str(error))
            misused = isinstance(error, (InvalidArgumentError, InvalidTenantError))
            raise typer.Exit(MISUSED if misused else FAILED) from error


app = typer.Typer(
    name="thea-store",
    cls=_Commands,
    help="The data layer of a multi-tenant assistant on PostgreSQL.",
    epilog="The database is DATABASE_URL, from the environment or .env.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
exports = typer.Typer(help="Give out what is in the store.", no_args_is_help=True)
exports.command("tenant")(export_tenant)
exports.command("user")(export_user)
exports.command("check")(check_export)
imports.command("tenant")(import_tenant)
moving = typer.Typer(help="Move a tenant to another database.", no_args_is_help=True)
moving.command("tenant")(move_tenant)
ending = typer.Typer(help="Remove all that a tenant has.", no_args_is_help=True)
ending.command("tenant")(end_tenant)
erase = typer.Typer(help="Remove for good what is in the store.", no_args_is_help=True)
erase.command("user")(erase_user)
app.add_typer(imports, name="import")
app.add_typer(exports, name="export")
app.add_typer(moving, name="move")
app.add_typer(ending, name="end")
app.add_typer(erase, name="erase")
app.add_typer(compliance, name="compliance")
app.add_typer(audit, name="audit")
app.add_typer(restore, name="restore")
app.add_typer(encryption, name="encryption")
app.add_typer(new, name="new")
app.add_typer(work, name="work")
app.command()(manifest)
app.command()(prove)
app.command()(status)
app.command()(top)


def _version(asked: bool) -> None:  # noqa: FBT001 - an option's callback
    if asked:
        from thea_store import __version__  # noqa: PLC0415

        typer.echo(f"thea-store {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    *,
    _asked: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """The data layer of a multi-tenant assistant on PostgreSQL."""
    # An extension, or a worker's handler, may stand in the current directory. That comes last, so that no file there
    # takes the place of an installed package in a command that has an operator's rights.
    if "" not in sys.path:
        sys.path.append("")


def main() -> None:
    """Run the command that the process was started with, and end with its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that knows no emoji shows something else
            stream.reconfigure(errors="replace")
    try:
        app()
    except Exception as error:  # noqa: BLE001 - ours to mend, but nobody's traceback
        say(_unexpected(error))
        sys.exit(FAILED)


# --- the commands -------------------------------------------------------------------------------


@app.command()
def demo(
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="Your own Telegram export instead of the sample.")
    ] = None,
) -> None:
    """Show what the store does, told as one conversation, on a PostgreSQL of its own."""
    from thea_store.cli.demo import run  # noqa: PLC0415

    asyncio.run(run(file))


@app.command()
def migrate(
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would be done, and do nothing.")] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="Take back the newest migration.")] = False,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="ID", help="With --rollback: take back all after this one; 0000 for all."),
    ] = None,
    extension: Annotated[
        str | None,
        typer.Option("--extension", metavar="NAME", help="With --rollback: take back this extension's migrations."),
    ] = None,
    discard_rows: Annotated[
        bool,
        typer.Option("--discard-rows", help="With --rollback: also drop tables and columns that hold something."),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring the schema to the newest version, with the login of DATABASE_MIGRATOR_URL or DATABASE_URL."""
    from thea_store.cli.output import print_json  # noqa: PLC0415

    if to is not None and not rollback:
        raise typer.BadParameter("goes with --rollback", param_hint="--to")
    if extension is not None and not rollback:
        raise typer.BadParameter("goes with --rollback", param_hint="--extension")
    if discard_rows and not rollback:
        raise typer.BadParameter("goes with --rollback", param_hint="--discard-rows")
    verb = "rolled back" if rollback else "applied"

    def tell(migration: str, seconds: float) -> None:
        if not as_json:
            typer.echo(f"{verb} {migration} ({seconds * 1000:.0f} ms)")

    back = {"to": to, "extension": extension, "discard_rows": discard_rows} if rollback else None
    done = asyncio.run(_migrate(tell, dry_run=dry_run, back=back))
    if as_json:
        print_json({"rollback": rollback, "dry_run": dry_run, "migrations": done})
    elif not done:
        typer.echo("nothing to roll back" if rollback else "the schema is up to date")
    elif dry_run:
        typer.echo("\n".join(f"would be {verb}: {migration}" for migration in done))


@app.command()
def check(
    *,
    offline: Annotated[
        bool, typer.Option("--offline", help="Compare the extensions with their manifests; asks no server.")
    ] = False,
    extension: Annotated[
        str | None, typer.Option("--extension", metavar="NAME", help="With --offline: this extension alone.")
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="FILE", help="Can processes of this old manifest go on with this schema?"),
    ] = None,
    citus: Annotated[
        bool, typer.Option("--citus", help="Would a Citus cluster take the extensions' statements? Needs no cluster.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Hold every query of the library and of the extensions against the live schema."""
    from thea_store.cli.output import check_as_json, print_check, print_json, print_problems  # noqa: PLC0415

    if offline and against:
        raise typer.BadParameter("asks a server, which --offline does not", param_hint="--against")
    if extension is not None and not offline:
        raise typer.BadParameter("goes with --offline", param_hint="--extension")
    if citus and (offline or against):
        raise typer.BadParameter("goes with neither --offline nor --against", param_hint="--citus")
    if offline or against is not None:
        problems = differences(extension) if against is None else asyncio.run(broken_promises(against))
        print_json({"problems": problems}) if as_json else print_problems(problems)
        if problems:
            say(f"{len(problems)} problem(s)")
            raise typer.Exit(FAILED)
        return
    from thea_store.verification.opening import mismatches  # noqa: PLC0415

    findings, read = asyncio.run(_check(citus=citus))
    problems = list(dict.fromkeys([*findings.lacks, *mismatches(findings), *read]))
    if as_json:
        print_json(check_as_json(findings, problems))
    else:
        print_check(findings, problems)
    if problems:
        say(f"{len(problems)} mismatch(es) between the SQL files and this database")
        raise typer.Exit(FAILED)


@app.command()
def doctor(*, as_json: AsJson = False) -> None:
    """Tell what is wrong with this database, and the fix; a warning fails, too. It changes nothing.

    DATABASE_MIGRATOR_URL and DATABASE_REPLICA_URL are looked at as well, where they are given.
    """
    from thea_store.cli.output import findings_as_json, print_findings, print_json  # noqa: PLC0415

    findings = asyncio.run(_examine())
    if as_json:
        print_json(findings_as_json(findings))
    else:
        print_findings(findings)
    states = [finding.state for finding in findings]
    if set(states) != {"ok"}:
        say(f"{states.count('problem')} problem(s) and {states.count('warning')} warning(s) with this database")
        raise typer.Exit(FAILED)


@app.command()
def schema(
    *,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Print the diagram alone.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print the live schema as Markdown: a Mermaid diagram, a table of the tables, and each table."""
    from thea_store.admin.schema import to_markdown, to_mermaid  # noqa: PLC0415
    from thea_store.cli.output import print_json  # noqa: PLC0415

    if mermaid and as_json:
        raise typer.BadParameter("is another form than --json", param_hint="--mermaid")
    found = asyncio.run(_read_schema())
    if as_json:
        print_json(found.as_json())
    else:
        typer.echo(to_mermaid(found) if mermaid else to_markdown(found), nl=False)


# --- their work ---------------------------------------------------------------------------------


async def _migrate(tell: Callable[[str, float], None], *, dry_run: bool, back: dict[str, Any] | None) -> list[str]:
    """The ids applied, or with `back`, the arguments of a rollback, those taken back."""
    from thea_store import migrator  # noqa: PLC0415

    settings = read_settings(migrating=True)
    extensions = find_extensions(settings.extensions, (back or {}).get("extension"))
    lineages = [extension.lineage for extension in extensions]
    async with AsyncExitStack() as resources:
        server = await embedded_server(settings.migrator_url or settings.url, resources)
        url = server.migrator_url if server else settings.address(settings.migrator_url).render()
        if back is not None:
            return await asyncio.to_thread(
                migrator.rollback, url, lineages=lineages, dry_run=dry_run, on_progress=tell, **back
            )
        superuser = server.superuser_url if server else None
        return await asyncio.to_thread(
            migrator.migrate, url, lineages=lineages, dry_run=dry_run, on_progress=tell, superuser_url=superuser
        )


async def _check(*, citus: bool) -> tuple[Findings, list[str]]:
    """What the server and the nodes of a cluster say of every query, and what the parser finds in the extensions'."""
    from thea_store import migrator  # noqa: PLC0415
    from thea_store.migrator.files import lineage_of  # noqa: PLC0415
    from thea_store.store import GROUP_FILES, SQL_FILES  # noqa: PLC0415
    from thea_store.verification.cluster import refused_by_nodes  # noqa: PLC0415
    from thea_store.verification.opening import inspect, require_migrated  # noqa: PLC0415

    settings = read_settings()
    extensions = find_extensions(settings.extensions)
    lineages = [extension.lineage for extension in extensions]
    async with AsyncExitStack() as resources:
        if server := await embedded_server(settings.url, resources):
            await asyncio.to_thread(
                migrator.migrate, server.migrator_url, lineages=lineages, superuser_url=server.superuser_url
            )
        address = settings.address(server.app_url if server else None)
        findings = await asyncio.to_thread(inspect, address, SQL_FILES, extensions, GROUP_FILES)
        require_migrated(findings.server, address, lineages)
        unread = any(described.failure for described in findings.described)
        read = [] if unread else await asyncio.to_thread(_read_statements, address, extensions, citus=citus)
        read += await asyncio.to_thread(refused_by_nodes, address, findings.described, GROUP_FILES)
    looked_at = {"", *(extension.name for extension in extensions)}
    for name in sorted({lineage_of(id_) or "" for id_ in findings.server.applied or ()} - looked_at):
        say(f"the database has the tables of {name}, which is not looked at: name it in DATABASE_EXTENSIONS")
    return findings, read


def _read_statements(address: DatabaseUrl, extensions: Sequence[Extension], *, citus: bool) -> list[str]:
    if not extensions:
        return []
    from thea_store.postgres.operator import connect  # noqa: PLC0415
    from thea_store.verification.conditions_parsed import catalog_of, findings  # noqa: PLC0415
    from thea_store.verification.distribution import refused_on_clusters  # noqa: PLC0415
    from thea_store.verification.left_out import sentences  # noqa: PLC0415
    from thea_store.verification.parse_tree import is_available  # noqa: PLC0415

    if not is_available():
        if citus:
            raise InvalidArgumentError("--citus", "needs a parser: pip install 'thea-store[prove]'")
        say("the statements' conditions are counted, not read: to have them read, pip install 'thea-store[prove]'")
        return []
    schemas = ["thea", *(extension.name for extension in extensions)]
    shared = [table for extension in extensions for table in extension.shared_tables]
    queries = [query for extension in extensions for file in extension.sql_files for query in file.claimed]
    with connect(address) as connection:
        connection.execute("set search_path = ''")
        catalog = catalog_of(connection, schemas, shared)
        forgotten = sentences(connection, queries)
    on_clusters = [sentence for query in queries for sentence in refused_on_clusters(query)] if citus else []
    return [*(sentence for query in queries for sentence in findings(query, catalog)), *forgotten, *on_clusters]


async def _examine() -> list[Finding]:
    from thea_store.admin.doctor import examine  # noqa: PLC0415

    async with AsyncExitStack() as resources:
        return await asyncio.to_thread(examine, await with_server(read_settings(), resources))


async def _read_schema() -> Schema:
    from thea_store.admin.schema import read  # noqa: PLC0415

    async with AsyncExitStack() as resources:
        settings = await with_server(read_settings(), resources)
        extensions = [extension.name for extension in find_extensions(settings.extensions)]
        return await asyncio.to_thread(read, settings.address(), extensions)


def _unexpected(error: Exception) -> str:
    # A file or a directory that the system keeps from us is nothing to report.
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename}: {error.strerror}: let this user read and write there, or work in another directory"
    # Not its message, which may quote data or a URL.
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"an unexpected {type(error).__name__}{place}: please report this"
