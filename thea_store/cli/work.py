"""`thea-store work`: workers that do one kind of work for all tenants that have it.

Which tenants have work, the login of DATABASE_WORKER_URL asks, a member of thea_worker. What there is to do for one
tenant is done by the service's login of DATABASE_URL. Any number of these processes may run at once.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thea_store.cli.conventions import FAILED, AsJson, say
from thea_store.cli.surroundings import read_settings, with_server
from thea_store.errors import InvalidArgumentError, StoreError

if TYPE_CHECKING:
    from thea_store import Reminder, Store, StoreTransaction, Worker, WorkReport
    from thea_store.assistant.work import WorkerOptions

    Handler = Callable[[StoreTransaction, Reminder], Awaitable[None]]

__all__ = ["work"]

work = typer.Typer(help="Do one kind of work for all tenants that have it, until stopped.", no_args_is_help=True)

_Once = Annotated[bool, typer.Option("--once", help="Stop when nothing is left that can be done now.")]
_Concurrency = Annotated[int, typer.Option("--concurrency", metavar="N", min=1, help="Pieces at once.")]
_Pause = Annotated[
    float, typer.Option("--pause", metavar="S", min=0.1, help="Seconds until the next look where nothing is left.")
]


@work.command()
def reminders(
    *,
    handler: Annotated[
        str | None,
        typer.Option(
            "--handler",
            metavar="MODULE:NAME",
            help="A coroutine function that gets `(tx, reminder)`; else each reminder is a line of JSON.",
        ),
    ] = None,
    once: _Once = False,
    concurrency: _Concurrency = 4,
    pause: _Pause = 10.0,
    as_json: AsJson = False,
) -> None:
    """Hand out due reminders of events and notes, each once; what fails comes again later."""
    handle = _print_reminder if handler is None else _found(handler)

    def make(finder: Store, service: Store, options: WorkerOptions) -> Worker:
        from thea_store import reminder_worker  # noqa: PLC0415

        return reminder_worker(finder.work, service, handle, **options)

    # Where reminders are lines of standard output, the report is none of them.
    _tell(asyncio.run(_run(make, once, concurrency, pause)), as_json=as_json, err=handler is None)


@work.command()
def inactive(
    *, once: _Once = False, concurrency: _Concurrency = 4, pause: _Pause = 60.0, as_json: AsJson = False
) -> None:
    """Close conversations that were inactive for as long as the policy of their tenant says: a day, if not changed."""

    def make(finder: Store, service: Store, options: WorkerOptions) -> Worker:
        from thea_store import inactivity_worker  # noqa: PLC0415

        return inactivity_worker(finder.work, service, **options)

    _tell(asyncio.run(_run(make, once, concurrency, pause)), as_json=as_json)


@work.command()
def retention(
    *, once: _Once = False, concurrency: _Concurrency = 2, pause: _Pause = 600.0, as_json: AsJson = False
) -> None:
    """Remove rows, and entries of the logs, whose time is over by the policies of retention; chain noted reads."""

    def make(finder: Store, service: Store, options: WorkerOptions) -> Worker:
        from thea_store import retention_worker  # noqa: PLC0415

        del service
        return retention_worker(finder.work, **options)

    _tell(asyncio.run(_run(make, once, concurrency, pause)), as_json=as_json)


@work.command()
def statistics(
    *, once: _Once = False, concurrency: _Concurrency = 2, pause: _Pause = 600.0, as_json: AsJson = False
) -> None:
    """Count the messages of tenants that have many, so that their statistics need not read all of them."""

    def make(finder: Store, service: Store, options: WorkerOptions) -> Worker:
        from thea_store import statistics_worker  # noqa: PLC0415

        del service
        return statistics_worker(finder.work, **options)

    _tell(asyncio.run(_run(make, once, concurrency, pause)), as_json=as_json)


async def _run(
    make: Callable[[Store, Store, WorkerOptions], Worker],
    once: bool,  # noqa: FBT001 - the command's option
    concurrency: int,
    pause: float,
) -> WorkReport:
    async with _stores() as (finder, service):
        worker = make(finder, service, {"concurrency": concurrency, "pause": pause, "on_error": _say_error})
        with suppress(RuntimeError, NotImplementedError, ValueError):  # in no other thread than the main one
            for number in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(number, worker.stop)
        return await (worker.run_once() if once else worker.run())


@asynccontextmanager
async def _stores() -> AsyncIterator[tuple[Store, Store]]:
    """The store that finds tenants, and the service's; one where there is one login."""
    from thea_store import Store  # noqa: PLC0415

    async with AsyncExitStack() as resources:
        settings = await with_server(read_settings(), resources)
        service = await resources.enter_async_context(Store.open(settings))
        if settings.worker_url is None:
            yield service, service
            return
        of_worker = settings.model_copy(update={"url": settings.worker_url, "replica_url": None})
        yield await resources.enter_async_context(Store.open(of_worker)), service


def _say_error(tenant: str | None, error: Exception) -> None:
    # A message that is not the library's own may quote what a handler was given.
    reason = str(error) if isinstance(error, StoreError) else type(error).__name__
    say(f"{'the look for tenants' if tenant is None else f'tenant {tenant!r}'}: {reason}: tried again later")


def _tell(report: WorkReport, *, as_json: bool, err: bool = False) -> None:
    """Print what was done; the exit status is 1 where something failed."""
    if as_json:
        typer.echo(json.dumps(asdict(report)), err=err)
    else:
        typer.echo(f"{report.pieces:,} piece(s) of work done, {report.failures:,} failed", err=err)
    if report.failures:
        raise typer.Exit(FAILED)


async def _print_reminder(_tx: StoreTransaction, reminder: Reminder) -> None:
    kind = "note" if hasattr(reminder, "reminder_datetime") else "event"
    line = json.dumps({"kind": kind, **reminder.model_dump(mode="json")}, ensure_ascii=False)
    # Written before the claim is committed, so that none is lost.
    typer.echo(line)
    sys.stdout.flush()


def _found(place: str) -> Handler:
    """The function at `module:name`; `InvalidArgumentError` where there is none."""
    module, colon, name = place.partition(":")
    try:
        function: Any = getattr(importlib.import_module(module), name) if colon and module else None
    except (ImportError, AttributeError) as error:
        raise InvalidArgumentError("--handler", f"{place} cannot be imported: {error}") from error
    if not inspect.iscoroutinefunction(function):
        raise InvalidArgumentError("--handler", f"{place} is no coroutine function: write `package.module:name`")
    found: Handler = function
    return found
