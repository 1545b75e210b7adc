"""`export`, `import`, `end` and `restore tenant`: one tenant as a whole; and `restore check` after a full restore."""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from thea_store.cli.conventions import FAILED, AsJson, say
from thea_store.cli.surroundings import read_settings, with_server
from thea_store.errors import InvalidArgumentError

if TYPE_CHECKING:
    from thea_store.postgres.url import DatabaseUrl
    from thea_store.settings import Settings
    from thea_store.tenancy.archive import Ended, Progress
    from thea_store.tenancy.archive.loading import Tally

__all__ = [
    "MOVERS",
    "Tenant",
    "check_export",
    "end_tenant",
    "export_tenant",
    "import_tenant",
    "move_tenant",
    "print_counts",
    "restore",
    "run",
]

T = TypeVar("T")

restore = typer.Typer(
    help="Bring back what a backup has, and check a database that was restored.", no_args_is_help=True
)

MOVERS = "thea_mover"

Tenant = Annotated[str, typer.Argument(metavar="TENANT", help="The tenant's id.")]


def export_tenant(
    tenant: Tenant,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="The archive to write; it must not be there yet.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Write all that a tenant has into an archive, as it is at one moment."""
    from thea_store.cli.output import print_json  # noqa: PLC0415
    from thea_store.tenancy import archive  # noqa: PLC0415

    path = file or _default(tenant)
    found = run(lambda settings, tell: archive.export_tenant(settings.address(), tenant, path, on_progress=tell))
    if as_json:
        print_json({"tenant": tenant, "file": str(path), **found.manifest.as_json()})
    else:
        print_counts(found.manifest.rows, "rows")
        typer.echo(f"written to {path}")


def check_export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A tenant's archive, or the file of a person.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Tell whether a file that was exported is whole and unaltered; no database is asked."""
    from thea_store.cli.output import print_json  # noqa: PLC0415
    from thea_store.tenancy.archive.file import Archive, is_archive  # noqa: PLC0415
    from thea_store.tenancy.person_file import check_file  # noqa: PLC0415

    if is_archive(file):
        with Archive(file) as archive:
            archive.verify()
            manifest, rows = archive.manifest.as_json(), archive.manifest.rows
            whose = f"all that {archive.manifest.tenant} had"
    else:
        manifest = check_file(file)
        rows = manifest["counts"]
        whose = f"all that was kept of user {manifest['user_id']} of {manifest['tenant_id']}"
    if as_json:
        print_json(manifest)
    else:
        print_counts(rows, "rows")
        typer.echo(f"{file} is whole: {whose} at {manifest['exported_at']}")


def import_tenant(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The archive.")],
    tenant: Annotated[
        str | None, typer.Option("--tenant", metavar="T", help="The tenant that the archive must be of.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--as", metavar="T", help="Bring it in as this tenant instead of its own.")
    ] = None,
    *,
    as_json: AsJson = False,
) -> None:
    """Bring a tenant's archive in, with a login in thea_mover. Whatever stopped it, run it again: it goes on.

    Rows keep their ids in a tenant that has nothing yet, and get new ones elsewhere.
    """
    from thea_store.cli.output import print_json  # noqa: PLC0415
    from thea_store.tenancy import archive  # noqa: PLC0415

    found = run(
        lambda settings, tell: archive.import_tenant(
            settings.address(), file, tenant_id=tenant, name=name, on_progress=tell
        ),
        MOVERS,
    )
    if as_json:
        print_json({"tenant": found.tenant, "file": str(file), "ids": found.ids, "tables": _as_json(found.tables)})
    else:
        _print_tallies(found.tables, "loaded")
        typer.echo(f"{found.tenant}: the ids were {found.ids}")
    _warn(found.tables)


def end_tenant(
    tenant: Tenant,
    export: Annotated[
        Path | None,
        typer.Option("--export", metavar="FILE", help="The archive to write first; it must not be there yet."),
    ] = None,
    *,
    no_export: Annotated[bool, typer.Option("--no-export", help="Write no archive: the rows are lost.")] = False,
    forget_key: Annotated[
        bool,
        typer.Option(
            "--forget-key", help="With --no-export: destroy its key too, so that nobody reads its texts in a backup."
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remove all that a tenant has, for good, with a login in thea_mover. An archive is written first."""
    from thea_store.cli.encryption import forget_key as forget  # noqa: PLC0415 - it imports from here
    from thea_store.cli.encryption import key_provider  # noqa: PLC0415
    from thea_store.cli.output import print_json  # noqa: PLC0415
    from thea_store.tenancy import archive  # noqa: PLC0415
    from thea_store.tenancy.archive.importing import KEYS  # noqa: PLC0415

    if no_export and export is not None:
        raise typer.BadParameter("contradicts --export", param_hint="--no-export")
    if forget_key and not no_export:
        raise typer.BadParameter(
            "goes with --no-export: without the key nobody could read the archive", param_hint="--forget-key"
        )
    path = None if no_export else export or _default(tenant)

    def work(settings: Settings, tell: Progress) -> Ended:
        provider = key_provider(settings.encryption_keys) if forget_key else None
        ended = archive.end_tenant(settings.address(), tenant, path, on_progress=tell)
        if provider is not None:
            forget(settings.address(), provider, tenant)
        return ended

    found = run(work, MOVERS)
    if found.tables.get(KEYS) and not forget_key:
        say(
            f"the key of {tenant} is still with the provider, since archives and backups need it: when nobody is to "
            f"read them any more, `thea-store encryption forget {tenant} --for-good`"
        )
    if as_json:
        print_json({"tenant": tenant, "archive": path and str(path), "tables": found.tables})
    else:
        print_counts(found.tables, "removed")
        typer.echo(f"what it had is in {path}" if path else "no archive was written")


def move_tenant(
    tenant: Tenant,
    target: Annotated[str, typer.Option("--to", metavar="URL", help="The other database, by a login in thea_mover.")],
    *,
    as_json: AsJson = False,
) -> None:
    """Copy a tenant to another database and stop it in this one, with logins in thea_mover on both.

    Its service goes on until the last moment. The rows here stay until `end tenant`.
    """
    from thea_store.cli.output import print_json  # noqa: PLC0415
    from thea_store.tenancy import archive  # noqa: PLC0415

    found = run(
        lambda settings, tell: archive.move_tenant(
            settings.address(), _address(settings, target, "--to"), tenant, on_progress=tell
        ),
        MOVERS,
    )
    if as_json:
        print_json(
            {"tenant": tenant, "tables": found.tables, "rounds": found.rounds, "pause_seconds": round(found.pause, 3)}
        )
    else:
        print_counts(found.tables, "copied")
        typer.echo(f"its service was stopped for {found.pause:.2f} s, and stays suspended here")


@restore.command("tenant")
def restore_tenant(
    tenant: Tenant,
    source: Annotated[
        str,
        typer.Option("--from", metavar="URL", help="The server that was started on the backup, by an ordinary login."),
    ],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would come back, and write nothing.")] = False,
    as_json: AsJson = False,
) -> None:
    """Bring back what a backup has of one tenant and this database has not. Rows that are here stay as they are."""
    from thea_store.cli.output import print_json  # noqa: PLC0415
    from thea_store.tenancy import archive  # noqa: PLC0415

    found = run(
        lambda settings, tell: archive.restore_tenant(
            settings.address(), _address(settings, source, "--from"), tenant, dry_run=dry_run, on_progress=tell
        )
    )
    if as_json:
        print_json({"tenant": tenant, "dry_run": dry_run, "tables": _as_json(found.tables)})
    else:
        _print_tallies(found.tables, "would come back" if dry_run else "came back")
    _warn(found.tables)


@restore.command("check")
def restore_check(*, as_json: AsJson = False) -> None:
    """Tell what a full restore left wrong: sequences that lag behind, owners, roles and rights that are missing."""
    from thea_store.admin.doctor import examine  # noqa: PLC0415
    from thea_store.cli.output import findings_as_json, print_findings, print_json  # noqa: PLC0415

    findings = run(lambda settings, _tell: examine(settings))
    if as_json:
        print_json(findings_as_json(findings))
    else:
        print_findings(findings)
    if wrong := [finding for finding in findings if finding.state == "problem"]:
        say(f"{len(wrong)} problem(s) with this database: restore is not complete until they are mended")
        raise typer.Exit(FAILED)


# --- their work ---------------------------------------------------------------------------------


def run(work: Callable[[Settings, Progress], T], group: str = "thea_app") -> T:
    """What the work of a login in this group returns, with its progress on a terminal.

    It runs in the main thread and outside the event loop, so that Ctrl-C ends it at once.
    """
    with asyncio.Runner() as runner:
        resources = AsyncExitStack()
        try:
            settings = runner.run(with_server(read_settings(), resources, group))
            with _progress() as tell:
                return work(settings, tell)
        finally:
            runner.run(resources.aclose())


def _address(settings: Settings, url: str, option: str) -> DatabaseUrl:
    """Where a URL leads that an option gives; `InvalidArgumentError` for one that is malformed or names no server."""
    from thea_store.settings import EMBEDDED  # noqa: PLC0415

    if url.startswith(EMBEDDED):
        raise InvalidArgumentError(option, "`embedded:` names no server that runs: give the URL of one that does")
    try:
        return settings.address(url)
    except ValueError as error:
        raise InvalidArgumentError(option, str(error)) from None


@contextmanager
def _progress() -> Iterator[Progress]:
    from rich.console import Console  # noqa: PLC0415
    from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (SpinnerColumn(), TextColumn("{task.description}"), TextColumn("{task.completed:,}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as shown:
        tasks: dict[str, TaskID] = {}

        def tell(table: str, rows: int) -> None:
            if table not in tasks:
                tasks[table] = shown.add_task(table, total=None)
            shown.advance(tasks[table], rows)

        yield tell


def _default(tenant: str) -> Path:
    from thea_store.queries.arguments import check_tenant  # noqa: PLC0415

    name = re.sub(r"[^A-Za-z0-9_-]", "_", check_tenant(tenant))
    return Path(f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.zip")


def _as_json(tables: dict[str, Tally]) -> dict[str, object]:
    return {name: tally.as_json() for name, tally in tables.items()}


def print_counts(counts: dict[str, int], what: str) -> None:
    """A line for each table, with what was done to so many of its rows."""
    for name, rows in counts.items():
        typer.echo(f"{name:<30}{rows:>12,} {what}")


def _print_tallies(tables: dict[str, Tally], done: str) -> None:
    for name, tally in tables.items():
        parts = [f"{tally.loaded:>12,} {done}"]
        parts += [
            f"{count:,} {what}"
            for count, what in (
                (tally.present, "there already"),
                (len(tally.matched), "there under another id"),
                (len(tally.differing), "there and different"),
                (len(tally.left_out), "left out"),
            )
            if count
        ]
        typer.echo(f"{name:<30}{', '.join(parts)}")


def _warn(tables: dict[str, Tally]) -> None:
    for name, tally in tables.items():
        if tally.differing:
            say(
                f"{name}: {len(tally.differing):,} row(s) that are here already differ, and stay as they are"
                f"{_ids(tally.differing)}"
            )
        if tally.left_out:
            say(
                f"{name}: {len(tally.left_out):,} row(s) were left out, because what they refer to is not here, or a "
                f"key keeps them out{_ids(tally.left_out)}"
            )


def _ids(ids: list[int]) -> str:
    shown = ", ".join(map(str, ids[:10]))
    return f": ids {shown}{' …' if len(ids) > 10 else ''}"  # noqa: PLR2004
