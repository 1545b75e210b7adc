"""What the command line shows: results on standard output, progress on standard error."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import tzinfo
from itertools import chain, groupby, repeat
from typing import TYPE_CHECKING, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from thea_store.migrator.files import lineage_of
from thea_store.queries.query import TENANT
from thea_store.telegram.importer import ImportReport, TelegramImport
from thea_store.telegram.message import named_chat
from thea_store.telegram.skipped import Place
from thea_store.testing.proving.report import Report
from thea_store.verification.describing import Described
from thea_store.verification.opening import Findings

if TYPE_CHECKING:
    from thea_store.admin.doctor import Finding

__all__ = [
    "check_as_json",
    "findings_as_json",
    "print_check",
    "print_findings",
    "print_import",
    "print_json",
    "print_problems",
    "progress_of",
]

_REFRESH = 0.1

_SKIPPED = {
    "service": "service messages",
    "unsupported": "messages that Telegram's export does not support",
    "empty": "without text",
    "malformed": "malformed",
    "no_person": "not by a person",
    "unaddressed": "answers where nobody wrote",
    "repeated": "repeated in the file",
}


def print_json(result: object) -> None:
    """Print a result for a machine."""
    typer.echo(json.dumps(result, ensure_ascii=False, indent=2))


# --- import -------------------------------------------------------------------------------------


async def progress_of(job: TelegramImport) -> ImportReport:
    """The report of the job, run here, with a progress bar where standard error is a terminal."""
    columns = (
        TextColumn("importing"),
        BarColumn(),
        TaskProgressColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[messages]:,} messages"),
        TimeRemainingColumn(),
    )
    shown = sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), disable=not shown, transient=True) as progress:
        bar = progress.add_task("", messages=0)
        work = asyncio.create_task(job.run())
        try:
            while not work.done():
                done, size = job.progress
                progress.update(bar, completed=done, total=size, messages=job.report.messages)
                await asyncio.wait([work], timeout=_REFRESH)
        finally:
            work.cancel()
        return await work


def print_import(report: ImportReport, zone: tzinfo | None = None) -> None:
    """Print what was imported, a line for each kind of thing, and which messages were not."""
    exchanges = report.turns
    lines = {
        "messages": f"{report.messages:,}, {report.answers:,} of them by the assistant",
        "exchanges": f"{exchanges['new']:,} new, {exchanges['completed']:,} completed, "
        f"{exchanges['unchanged']:,} already there",
        "users": f"{report.new_users:,} new",
        "conversations": f"{report.new_conversations:,} new",
    }
    if exchanges["deleted"]:
        lines["left out"] = f"{exchanges['deleted']:,} exchanges, as their user or conversation was deleted"
    if report.notes["local_time"]:
        lines["assumed"] = f"{report.notes['local_time']:,} without a timezone, taken for {zone or 'UTC: see --zone'}"
    skipped = [_skipped(reason, count, report.skipped.first[reason]) for reason, count in report.skipped.items()]
    for name, text in [*lines.items(), *zip(chain(["skipped"], repeat("")), skipped, strict=False)]:
        typer.echo(f"{name:<15}{text}")


def _skipped(reason: str, count: int, first: Sequence[Place]) -> str:
    """The count of a reason, and where the first of them stand; service messages are of no interest to anybody."""
    kind, _, name = reason.partition(":")
    words = f"{_SKIPPED.get(kind, kind)}{name and ': '}{name} ({count:,})"
    if kind == "service":
        return words
    places = [f"{place.message_id or '?'} in {named_chat(place.chat_type, place.chat_id)}" for place in first]
    return f"{words}: message {', '.join(places)}{' …' if count > len(first) else ''}"


# --- check --------------------------------------------------------------------------------------


def check_as_json(findings: Findings, problems: Sequence[str]) -> dict[str, Any]:
    """What was checked and what does not fit, as JSON values."""
    return {
        "server": findings.server.version,
        "schema": _newest(findings),
        "queries": [
            {
                "name": described.query.name,
                "source": str(described.query.source),
                "parameters": _parameters(described),
                "columns": {column.name: column.type for column in described.columns},
                "record": _record(described),
            }
            for described in findings.described
        ],
        "mismatches": list(problems),
    }


def print_check(findings: Findings, problems: Sequence[str]) -> None:
    """Print the queries as the server sees them, and then what does not fit."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, highlight=False)
    table.add_column("query", no_wrap=True)
    table.add_column("parameters", style="cyan", min_width=19)
    table.add_column("columns → record", no_wrap=True)
    for aggregate, group in groupby(findings.described, key=lambda one: one.query.name.partition(".")[0]):
        table.add_row(f"[bold]{aggregate}")
        for name, variants in groupby(group, key=lambda one: one.query.name.partition(".")[2].partition("+")[0]):
            each = list(variants)
            parameters = dict.fromkeys(name for one in each for name in one.query.parameters if name != TENANT)
            many = f" ({len(each)} variants)" if len(each) > 1 else ""
            table.add_row(f"  {name}{many}", ", ".join(parameters), _returns(each[0]))
        table.add_section()
    console = Console(highlight=False)
    console.print(table)
    for problem in problems:
        console.print(problem, style="red", markup=False, soft_wrap=True)
    console.print(_verdict(findings, problems), soft_wrap=True)


def print_problems(problems: Sequence[str]) -> None:
    """Print a line for each problem, or that there is none."""
    typer.echo("\n".join(problems) or "all fit")


def _verdict(findings: Findings, problems: Sequence[str]) -> str:
    newest = _newest(findings) or "no migration"
    fit = f"{len(problems)} mismatches" if problems else "all fit"
    return f"{len(findings.described)} queries on PostgreSQL {findings.server.version}, schema at {newest}: {fit}"


def _newest(findings: Findings) -> str | None:
    """The newest of the library's own migrations; an extension's are numbered by themselves."""
    return max((id_ for id_ in findings.server.applied or () if lineage_of(id_) == ""), default=None)


def _parameters(described: Described) -> dict[str, str | None]:
    """The type of each on the server, which tells none of a query that it refuses."""
    names, types = described.query.parameters, described.parameters
    return {name: types[place] if types else None for place, name in enumerate(names)}


def _returns(described: Described) -> str:
    names = [column.name for column in described.columns]
    record = _record(described)
    return f"{names[0] if len(names) == 1 else len(names)} → {record}" if record and names else ""


def _record(described: Described) -> str | None:
    record = described.query.record
    return None if record is None else getattr(record, "__name__", str(record))


# --- doctor -------------------------------------------------------------------------------------

_COLOURS = {"ok": "green", "warning": "yellow", "problem": "red"}


def findings_as_json(findings: Sequence[Finding]) -> dict[str, Any]:
    """The findings, and whether all is well, as JSON values."""
    return {
        "well": all(finding.state == "ok" for finding in findings),
        "findings": [asdict(finding) for finding in findings],
    }


def print_findings(findings: Sequence[Finding]) -> None:
    """Print a line for each finding, with its fix below it."""
    console = Console(highlight=False)
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        state = f"[{_COLOURS[finding.state]}]{finding.state:<8}[/]"
        console.print(f"{state} {finding.check:<{width}}  {escape(finding.found)}", soft_wrap=True)
        if finding.fix is not None:
            console.print(f"{'fix:':>{width + 9}}  {escape(finding.fix)}", soft_wrap=True)


def print_proof(report: Report) -> None:
    """Print what was proven of an extension, and each fault."""
    name = ", ".join(report.extensions)
    verdict = "isolated" if report.is_isolated else f"{len(report.faults)} fault(s)"
    typer.echo(f"{name:<15}{verdict}")
    typer.echo(f"{'looked at':<15}{report.queries} queries, {report.tables} tables")
    typer.echo(f"{'tried':<15}{report.calls} calls with a lock taken away, {report.attacks} attacks with free SQL")
    typer.echo(f"{'controls':<15}{report.controls} proofs failed where their subject was broken on purpose")
    for name in report.unshown:
        typer.echo(
            f"  {name} reaches no other tenant without its locks either: rows of your own may show that it could"
        )
    for sentence in report.sentences():
        typer.echo(f"  {sentence}")
