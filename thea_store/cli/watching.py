"""`thea-store top` and `thea-store status`: what the servers do now."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from contextlib import AsyncExitStack
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from thea_store.cli.conventions import FAILED, AsJson, say
from thea_store.cli.surroundings import read_settings, with_server

if TYPE_CHECKING:
    from rich.console import RenderableType

    from thea_store.admin.activity import Activity
    from thea_store.admin.servers import ServerStatus
    from thea_store.settings import Settings

__all__ = ["status", "top"]


def status(*, as_json: AsJson = False) -> None:
    """Tell of each server of DATABASE_URL and DATABASE_REPLICA_URL: its state, its role, and how far it is behind.

    Fails where one does not answer, or where there is not exactly one primary.
    """
    from thea_store.admin.servers import faults  # noqa: PLC0415
    from thea_store.cli.output import print_json  # noqa: PLC0415

    found = asyncio.run(_statuses())
    wrong = faults(found)
    if as_json:
        print_json({"servers": [asdict(each) for each in found], "faults": wrong})
    else:
        _print_servers(found)
    for sentence in wrong:
        say(sentence)
    if wrong:
        raise typer.Exit(FAILED)


def top(
    *,
    interval: Annotated[
        float, typer.Option("--interval", min=0.2, max=3600, metavar="SECONDS", help="How often to look.")
    ] = 2.0,
    limit: Annotated[int, typer.Option("--limit", min=1, max=1000, help="How many queries to show.")] = 20,
    once: Annotated[bool, typer.Option("--once", help="Look once: all calls since the server counts them.")] = False,
    tenants: Annotated[
        bool, typer.Option("--tenants", help="Show the tenant of a session, where it is known.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show the calls by query, and the sessions that are at work, until Ctrl-C.

    The calls come from pg_stat_statements; without it the sessions alone are shown. With --json, or where the output
    is no terminal, it looks once.
    """
    asyncio.run(
        _top(interval=interval, limit=limit, once=once or not sys.stdout.isatty(), tenants=tenants, as_json=as_json)
    )


async def _statuses() -> list[ServerStatus]:
    from thea_store.admin.servers import statuses  # noqa: PLC0415

    async with AsyncExitStack() as resources:
        return await asyncio.to_thread(statuses, await with_server(read_settings(), resources))


async def _top(*, interval: float, limit: int, once: bool, tenants: bool, as_json: bool) -> None:
    async with AsyncExitStack() as resources:
        settings = await with_server(read_settings(), resources)
        if once or as_json:
            await asyncio.to_thread(_look_once, settings, limit=limit, tenants=tenants, as_json=as_json)
        else:
            with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
                await asyncio.to_thread(_go_on, settings, interval, limit=limit, tenants=tenants)


def _look_once(settings: Settings, *, limit: int, tenants: bool, as_json: bool) -> None:
    from rich.console import Console  # noqa: PLC0415

    from thea_store.admin.activity import Watcher, as_dictionary  # noqa: PLC0415
    from thea_store.cli.output import print_json  # noqa: PLC0415

    with Watcher(settings.address()) as watcher:
        found = watcher.look()
    if as_json:
        print_json(as_dictionary(found, tenants=tenants))
        return
    Console(highlight=False).print(_tables(found, None, limit=limit, tenants=tenants))
    for note in found.notes:
        say(note)


def _go_on(settings: Settings, interval: float, *, limit: int, tenants: bool) -> None:
    from rich.live import Live  # noqa: PLC0415

    from thea_store.admin.activity import Watcher, difference  # noqa: PLC0415

    with Watcher(settings.address()) as watcher, Live(screen=True, auto_refresh=False) as live:
        before, since = watcher.look(), time.monotonic()
        while True:
            time.sleep(interval)
            found, now = watcher.look(), time.monotonic()
            live.update(_tables(difference(before, found), now - since, limit=limit, tenants=tenants), refresh=True)
            before, since = found, now


# --- showing ------------------------------------------------------------------------------------


def _tables(found: Activity, seconds: float | None, *, limit: int, tenants: bool) -> RenderableType:
    from rich import box  # noqa: PLC0415
    from rich.console import Group  # noqa: PLC0415
    from rich.markup import escape  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    calls = Table(box=box.SIMPLE, title="Calls", title_justify="left")
    calls.add_column("query")
    for column in ("calls" if seconds is None else "calls/s", "mean ms", "time", "rows"):
        calls.add_column(column, justify="right")
    all_ms = sum(each.total_ms for each in found.statements) or 1.0
    for each in found.statements[:limit]:
        number = f"{each.calls:,}" if seconds is None else f"{each.calls / seconds:,.1f}"
        calls.add_row(
            escape(each.query), number, f"{each.mean_ms:.2f}", f"{each.total_ms / all_ms:.0%}", f"{each.rows:,}"
        )
    sessions = Table(box=box.SIMPLE, title="Sessions at work", title_justify="left")
    for column in ("pid", "application", "state", "s", "waits for", "query", *(["tenant"] if tenants else [])):
        sessions.add_column(column, justify="right" if column in {"pid", "s"} else "left")
    for session in found.sessions:
        cells = [str(session.pid), session.application, session.state, f"{session.seconds:.1f}"]
        cells += [session.waits_for or "", session.query, *([session.tenant or ""] if tenants else [])]
        sessions.add_row(*[escape(cell) for cell in cells])
    return Group(calls, sessions, *(found.notes if seconds is not None else ()))


def _print_servers(found: list[ServerStatus]) -> None:
    from rich import box  # noqa: PLC0415
    from rich.console import Console  # noqa: PLC0415
    from rich.table import Table  # noqa: PLC0415

    table = Table(box=box.SIMPLE)
    for column in ("server", "state", "role", "version", "connections", "position", "behind"):
        table.add_column(column, overflow="fold")
    for each in found:
        connections = "" if each.connections is None else f"{each.connections} of {each.max_connections}"
        table.add_row(
            each.place,
            each.state,
            each.role or "",
            (each.version or "").partition(" ")[0],
            connections,
            each.position or "",
            _behind(each),
        )
    Console(highlight=False).print(table)


def _behind(server: ServerStatus) -> str:
    if server.role != "standby":
        return ""
    if server.lag_bytes is None:
        return "unknown, without a primary"
    seconds = "" if server.lag_seconds is None else f", {server.lag_seconds:.1f} s"
    return f"{server.lag_bytes:,} bytes{seconds}"
