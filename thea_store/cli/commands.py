"""The command line. Exit status: 0 well, 1 failed, 2 misused.

What a command found goes to standard output, for a machine with `--json`; errors, warnings and the progress,
the last on a terminal only, go to standard error. What a command needs is imported when it runs.
"""

from __future__ import annotations

import asyncio
import io
import re
import sys
import traceback
from contextlib import AsyncExitStack
from datetime import UTC, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from zoneinfo import ZoneInfo

import typer
from typer.core import TyperGroup

from thea_store.errors import (
    InvalidArgumentError,
    InvalidTenantError,
    SettingsError,
    StoreError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from thea_store.admin.doctor import Finding
    from thea_store.admin.schema import Schema
    from thea_store.embedded import EmbeddedPostgres
    from thea_store.extensions import Extension
    from thea_store.migrator import Lineage
    from thea_store.postgres.url import DatabaseUrl
    from thea_store.settings import Settings
    from thea_store.telegram.importer import ImportReport
    from thea_store.testing import Report
    from thea_store.verification.opening import Findings

__all__ = ["app", "main"]

_FAILED, _MISUSED = 1, 2


class _Commands(TyperGroup):
    """Turns the library's errors into a sentence and an exit status."""

    def invoke(self, ctx: typer.Context) -> Any:  # type: ignore[override]
        try:
            return super().invoke(ctx)
        except StoreError as error:
            _say(str(error))
            misused = isinstance(error, (InvalidArgumentError, InvalidTenantError))
            raise typer.Exit(_MISUSED if misused else _FAILED) from error


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
imports = typer.Typer(help="Bring data into the store.", no_args_is_help=True)
app.add_typer(imports, name="import")
new = typer.Typer(help="Write an extension, an aggregate, a query or a migration here.", no_args_is_help=True)
app.add_typer(new, name="new")


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


AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def main() -> None:
    """Run the command that the process was started with, and end with its exit status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal that knows no emoji shows something else
            stream.reconfigure(errors="replace")
    try:
        app()
    except Exception as error:  # noqa: BLE001 - ours to mend, but nobody's traceback
        _say(_unexpected(error))
        sys.exit(_FAILED)


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
            help="The timezone of the computer that made an old export, which has no other times. UTC if not given.",
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
        _say(f"{file} has no message of user{assistant}, so none counts as an answer: check --assistant")


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
def manifest(
    extension: Annotated[
        str | None, typer.Option("--extension", metavar="NAME", help="This one alone, of all that are found.")
    ] = None,
) -> None:
    """Write down what each query of the extensions asks of the schema, for `check --offline`."""
    for path, text in asyncio.run(_manifests(extension)).items():
        path.write_text(text, "utf-8")
        typer.echo(path)


@app.command()
def check(
    *,
    offline: Annotated[
        bool, typer.Option("--offline", help="Compare the extensions with their manifests; asks no server.")
    ] = False,
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="FILE", help="Can processes of this old manifest go on with this schema?"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Hold every query of the library and of the extensions against the live schema."""
    if offline and against:
        raise typer.BadParameter("asks a server, which --offline does not", param_hint="--against")
    if offline or against is not None:
        sentences = _differences() if against is None else asyncio.run(_broken(against))
        _tell_sentences(sentences, as_json=as_json)
        return
    from thea_store.cli.output import check_as_json, print_check, print_json  # noqa: PLC0415
    from thea_store.verification.opening import mismatches  # noqa: PLC0415

    findings, unbound = asyncio.run(_check())
    problems = list(dict.fromkeys([*findings.lacks, *mismatches(findings), *unbound]))
    if as_json:
        print_json(check_as_json(findings, problems))
    else:
        print_check(findings, problems)
    if problems:
        _say(f"{len(problems)} mismatch(es) between the SQL files and this database")
        raise typer.Exit(_FAILED)


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
        _say(f"{states.count('problem')} problem(s) and {states.count('warning')} warning(s) with this database")
        raise typer.Exit(_FAILED)


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


_OfExtension = Annotated[str, typer.Option("--extension", metavar="E", help="The extension that it belongs to.")]


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


@app.command()
def prove(
    extension: Annotated[
        str | None, typer.Option("--extension", metavar="NAME", help="This one alone, of all that are found.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Prove that each query and table of the extensions keeps tenants apart, on a throwaway server."""
    from thea_store.cli.output import print_json, print_proof  # noqa: PLC0415

    reports = _prove(extension)
    if as_json:
        print_json({"proofs": [report.as_json() for report in reports]})
    else:
        for report in reports:
            print_proof(report)
    if faults := sum(len(report.faults) for report in reports):
        _say(f"{faults} fault(s) of isolation")
        raise typer.Exit(_FAILED)


# --- their work ---------------------------------------------------------------------------------


async def _import(file: Path, tenant: str, options: dict[str, Any]) -> tuple[ImportReport, StoreError | None]:
    """What was imported, and what ended it early."""
    from thea_store.cli.output import progress_of  # noqa: PLC0415
    from thea_store.queries.arguments import check_tenant  # noqa: PLC0415
    from thea_store.store import Store  # noqa: PLC0415
    from thea_store.telegram.export import ExportReader  # noqa: PLC0415
    from thea_store.telegram.importer import TelegramImport  # noqa: PLC0415

    check_tenant(tenant)
    ExportReader(file)  # a missing file is told before a server starts
    # In bulk a second is not slow.
    settings = _settings().model_copy(update={"slow_query_ms": 10_000})
    async with Store.open(settings) as store:
        job = TelegramImport(store, tenant, file, **options)
        try:
            await progress_of(job)
        except StoreError as error:
            return job.report, error
        return job.report, None


async def _migrate(tell: Callable[[str, float], None], *, dry_run: bool, back: dict[str, Any] | None) -> list[str]:
    """The ids applied, or with `back`, the arguments of a rollback, those taken back."""
    from thea_store import migrator  # noqa: PLC0415

    settings = _settings(migrating=True)
    lineages = _lineages(settings)
    async with AsyncExitStack() as resources:
        server = await _embedded(settings.migrator_url or settings.url, resources)
        url = server.migrator_url if server else settings.address(settings.migrator_url).render()
        if back is not None:
            return await asyncio.to_thread(
                migrator.rollback, url, lineages=lineages, dry_run=dry_run, on_progress=tell, **back
            )
        return await asyncio.to_thread(migrator.migrate, url, lineages=lineages, dry_run=dry_run, on_progress=tell)


async def _check() -> tuple[Findings, list[str]]:
    """What the server says of every query, and where queries of extensions do not say which tenant they mean."""
    from thea_store import migrator  # noqa: PLC0415
    from thea_store.store import SQL_FILES  # noqa: PLC0415
    from thea_store.verification.opening import inspect, require_migrated  # noqa: PLC0415

    settings = _settings()
    extensions, lineages = _extensions(settings), _lineages(settings)
    async with AsyncExitStack() as resources:
        if server := await _embedded(settings.url, resources):
            await asyncio.to_thread(migrator.migrate, server.migrator_url, lineages=lineages)
        address = settings.address(server.app_url if server else None)
        findings = await asyncio.to_thread(inspect, address, SQL_FILES, extensions)
        unread = any(described.failure for described in findings.described)
        unbound = [] if unread else await asyncio.to_thread(_unbound, address, extensions)
    require_migrated(findings.server, address, lineages)
    return findings, unbound


def _unbound(address: DatabaseUrl, extensions: Sequence[Extension]) -> list[str]:
    if not extensions:
        return []
    from thea_store.postgres.operator import connect  # noqa: PLC0415
    from thea_store.verification.tenant_rule import catalog_of, findings  # noqa: PLC0415
    from thea_store.verification.tree import is_available  # noqa: PLC0415

    if not is_available():
        _say("the conditions of each statement are counted, not read: for that, pip install 'thea-store[prove]'")
        return []
    schemas = ["thea", *(extension.name for extension in extensions)]
    shared = [table for extension in extensions for table in extension.shared_tables]
    with connect(address) as connection:
        connection.execute("set search_path = ''")
        catalog = catalog_of(connection, schemas, shared)
    queries = [query for extension in extensions for file in extension.sql_files for query in file.claimed]
    return [sentence for query in queries for sentence in findings(query, catalog)]


def _tell_sentences(sentences: Sequence[str], *, as_json: bool) -> None:
    from thea_store.cli.output import print_json  # noqa: PLC0415

    if as_json:
        print_json({"problems": list(sentences)})
    else:
        typer.echo("\n".join(sentences) or "all fit")
    if sentences:
        _say(f"{len(sentences)} problem(s)")
        raise typer.Exit(_FAILED)


async def _manifests(name: str | None) -> dict[Path, str]:
    from thea_store.admin.manifest import manifest_of, path_of  # noqa: PLC0415
    from thea_store.migrator import available  # noqa: PLC0415
    from thea_store.settings import extensions_setting  # noqa: PLC0415

    written = {}
    async with AsyncExitStack() as resources:
        chosen = _chosen(name, extensions_setting())
        url = await _migrated(chosen, resources)
        for extension in chosen:
            own = [each for each in available(lineages=[extension.lineage]) if each.lineage == extension.name]
            made = await asyncio.to_thread(manifest_of, url, extension.sql_files, own, own[-1].id)
            written[path_of(extension)] = made.as_text()
    return written


async def _migrated(extensions: Sequence[Extension], resources: AsyncExitStack) -> str:
    """The service's URL of a throwaway server that has all migrations."""
    from thea_store import migrator  # noqa: PLC0415
    from thea_store.embedded import EmbeddedPostgres  # noqa: PLC0415

    server = await resources.enter_async_context(EmbeddedPostgres())
    lineages = [extension.lineage for extension in extensions]
    await asyncio.to_thread(migrator.migrate, server.migrator_url, lineages=lineages)
    return server.app_url


def _differences() -> list[str]:
    from thea_store.admin.manifest import differences, path_of, read  # noqa: PLC0415
    from thea_store.migrator import available  # noqa: PLC0415
    from thea_store.settings import extensions_setting  # noqa: PLC0415

    found = []
    for extension in _chosen(None, extensions_setting()):
        migrations = {each.id: each.checksum for each in available(lineages=[extension.lineage])}
        queries = [query for file in extension.sql_files for query in file.claimed]
        found += differences(read(path_of(extension)), queries, migrations)
        found += [sentence for file in extension.sql_files for sentence in file.unclaimed()]
    return found


async def _broken(path: Path) -> list[str]:
    from thea_store.admin.manifest import broken, edited, read  # noqa: PLC0415
    from thea_store.migrator import available  # noqa: PLC0415

    old = read(path)
    settings = _settings()
    lineages = _lineages(settings)
    async with AsyncExitStack() as resources:
        if settings.url.startswith("embedded:"):
            url = await _migrated(_extensions(settings), resources)
        else:
            url = settings.address().render()
        migrations = {each.id: each.checksum for each in available(lineages=lineages)}
        return [*await asyncio.to_thread(broken, old, url), *edited(old, migrations)]


async def _examine() -> list[Finding]:
    from thea_store.admin.doctor import examine  # noqa: PLC0415

    async with AsyncExitStack() as resources:
        return await asyncio.to_thread(examine, await _running(_settings(), resources))


async def _read_schema() -> Schema:
    from thea_store.admin.schema import read  # noqa: PLC0415

    async with AsyncExitStack() as resources:
        settings = await _running(_settings(), resources)
        return await asyncio.to_thread(read, settings.address())


async def _running(settings: Settings, resources: AsyncExitStack) -> Settings:
    """The same settings; where they name an embedded server, with the URLs of it, started.

    A throwaway one is migrated, since it has nothing else to show; a kept one is left as it is.
    """
    from thea_store import migrator  # noqa: PLC0415
    from thea_store.settings import EMBEDDED  # noqa: PLC0415

    server = await _embedded(settings.url, resources)
    if server is None:
        return settings
    if settings.url == EMBEDDED:
        await asyncio.to_thread(migrator.migrate, server.migrator_url, lineages=_lineages(settings))
    return settings.model_copy(update={"url": server.app_url, "migrator_url": server.migrator_url})


async def _embedded(url: str, resources: AsyncExitStack) -> EmbeddedPostgres | None:
    """The running server that `embedded:` or `embedded:/path` stands for; `None` for another URL."""
    from thea_store.settings import EMBEDDED  # noqa: PLC0415

    if not url.startswith(EMBEDDED):
        return None
    from thea_store.embedded import EmbeddedPostgres  # noqa: PLC0415 - on Windows there is none

    return await resources.enter_async_context(EmbeddedPostgres(url.removeprefix(EMBEDDED) or None))


def _prove(name: str | None) -> list[Report]:
    from thea_store.errors import IsolationError  # noqa: PLC0415
    from thea_store.settings import extensions_setting  # noqa: PLC0415
    from thea_store.testing import prove  # noqa: PLC0415

    reports = []
    for extension in _chosen(name, extensions_setting()):
        try:
            reports.append(prove(extension))
        except IsolationError as error:
            reports.append(error.report)
    return reports


def _chosen(name: str | None, setting: str) -> Sequence[Extension]:
    """The extensions that are found, or the one of this name, which may also be a package of this directory."""
    found = {extension.name: extension for extension in _found(setting)}
    if name is not None and name not in found:
        found |= {extension.name: extension for extension in _found(f"{name}:{name.upper()}")}
    if name is not None and name not in found:
        raise InvalidArgumentError("--extension", f"there is no extension {name}; found: {', '.join(found) or 'none'}")
    if not found:
        raise InvalidArgumentError(
            "--extension", "no extension is found: name one, set DATABASE_EXTENSIONS, or install its distribution"
        )
    return [found[name]] if name is not None else list(found.values())


def _found(setting: str) -> Sequence[Extension]:
    from thea_store.extensions import discover  # noqa: PLC0415

    if "" not in sys.path:  # as with `python -m`: an extension may stand in the current directory
        sys.path.insert(0, "")
    return discover((), setting)


def _extensions(settings: Settings) -> Sequence[Extension]:
    return _found(settings.extensions or "")


def _lineages(settings: Settings) -> list[Lineage]:
    return [extension.lineage for extension in _extensions(settings)]


def _settings(*, migrating: bool = False) -> Settings:
    """The settings of the environment and `.env`; without a DATABASE_URL an embedded server, which is told."""
    from pydantic import Field  # noqa: PLC0415

    from thea_store.settings import EMBEDDED, Settings  # noqa: PLC0415

    class CommandLine(Settings):
        url: str = Field(default=EMBEDDED, repr=False)

    settings = CommandLine()
    if "url" not in settings.model_fields_set and not (migrating and settings.migrator_url):
        if settings.migrator_url:
            raise SettingsError("DATABASE_URL", "is not set, while DATABASE_MIGRATOR_URL is: give the service's too")
        _say("DATABASE_URL is not set: on an embedded PostgreSQL, which is thrown away at the end")
    return settings


def _say(sentence: str) -> None:
    typer.echo(f"thea-store: {sentence}", err=True)


def _unexpected(error: Exception) -> str:
    # Not its message, which may quote data or a URL.
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"an unexpected {type(error).__name__}{place}: please report this"
