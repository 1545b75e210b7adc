"""What a call costs: the store beside asyncpg's own pool and SQLAlchemy's ORM.

In one process, on one server, on the same rows, in rounds: each round, every contender makes the same calls, in
random order. A number is the median of the rounds' ratios, so that a noisy machine disturbs all alike.
"""

from __future__ import annotations

import asyncio
import json
import platform
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Annotated

import typer
from ground import TENANTS, Ground, one_tenant, prepared_ground, zipf
from options import Server, Smoke
from orm import Orm
from peers import POOL_SIZE, AsyncpgPool, Peer, StorePeer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rounds import OPERATIONS, Contender, Operation, Times, run

POOL = "asyncpg pool"
POOL_ZIPF = f"asyncpg pool, {TENANTS} tenants"
SESSION = "store, session scope"
SESSION_ZIPF = f"store, session scope, {TENANTS} tenants"
TRANSACTION = "store, transaction scope"
ORM = "SQLAlchemy ORM, set_config"

# At most these times asyncpg's pool; the one row, and the twenty.
AT_MOST = {SESSION: (0.85, 0.95), SESSION_ZIPF: (1.15, 1.15), TRANSACTION: (1.7, 1.7)}
# SQLAlchemy takes at least this many times the store's time.
ORM_AT_LEAST = 3.5


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar that the store has to clear."""

    what: str
    operation: str
    measured: float
    at_most: float | None = None
    at_least: float | None = None

    @property
    def cleared(self) -> bool:
        """Whether it is."""
        return self.measured <= (self.at_most or self.measured) and self.measured >= (self.at_least or 0)


@dataclass(frozen=True, slots=True)
class Figures:
    """All that was measured, and with what."""

    versions: str
    contenders: Sequence[Contender]
    times: Times

    def bars(self) -> list[Bar]:
        """The bars of the first two operations."""
        bars = []
        for place, operation in enumerate(OPERATIONS[:2]):
            for who in self.contenders:
                if who.name in AT_MOST and who.baseline:
                    ratio = self.times.ratio(operation, who.name, who.baseline.name)
                    bars.append(Bar(who.name, operation.name, ratio.median, at_most=AT_MOST[who.name][place]))
            ratio = self.times.ratio(operation, ORM, SESSION)
            bars.append(Bar("SQLAlchemy ORM / store", operation.name, ratio.median, at_least=ORM_AT_LEAST))
        return bars


async def measure(server_url: str | None, rounds: int, seed: int) -> Figures:
    """The figures of a whole run."""
    async with prepared_ground(server_url) as ground, AsyncExitStack() as resources:
        contenders = await _contenders(ground, resources)
        with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as progress:
            task = progress.add_task("rounds", total=rounds)
            times = await run(contenders, rounds, seed, lambda: progress.advance(task))
        return Figures(_versions(ground), contenders, times)


async def _contenders(ground: Ground, resources: AsyncExitStack) -> list[Contender]:
    def kept(peer: Peer) -> Peer:
        resources.push_async_callback(peer.close)
        return peer

    alone, many = one_tenant(ground), zipf(ground)
    pool = Contender(POOL, kept(await AsyncpgPool.open(ground.plain_url)), alone)
    pool_zipf = Contender(POOL_ZIPF, kept(await AsyncpgPool.open(ground.plain_url)), many)
    return [
        pool,
        Contender(SESSION, kept(await StorePeer.open(ground.app_url, "session")), alone, pool),
        Contender(TRANSACTION, kept(await StorePeer.open(ground.app_url, "transaction")), alone, pool),
        Contender(ORM, kept(await Orm.open(ground.app_url)), alone, pool),
        pool_zipf,
        Contender(SESSION_ZIPF, kept(await StorePeer.open(ground.app_url, "session")), many, pool_zipf),
    ]


def _versions(ground: Ground) -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("asyncpg", "pydantic", "SQLAlchemy"))
    return f"{ground.server}; Python {platform.python_version()}, {packages}"


def show(figures: Figures) -> None:
    """The table for people."""
    title = f"Times what asyncpg's pool takes: median and quartiles of {figures.times.rounds} rounds"
    table = Table(title=title, show_lines=True)
    table.add_column("")
    for operation in OPERATIONS:
        table.add_column(operation.name, justify="right")
    for who in figures.contenders:
        table.add_row(who.name, *(_cell(figures.times, operation, who) for operation in OPERATIONS))
    compared = [figures.times.ratio(operation, ORM, SESSION) for operation in OPERATIONS]
    table.add_row("SQLAlchemy ORM / store", *(f"{ratio.median:.2f}" for ratio in compared))
    console = Console(width=max(Console().width, 120))
    console.print(table)
    console.print(
        f"{figures.versions}; pools of {POOL_SIZE} connections. asyncpg's pool runs without row security (a role with "
        "bypassrls, same tables, same triggers) and returns plain records; all others have row security.",
        highlight=False,
    )
    for bar in figures.bars():
        limit = f"at most {bar.at_most}" if bar.at_most else f"at least {bar.at_least}"
        verdict = "[green]cleared[/]" if bar.cleared else "[red]missed[/]"
        console.print(f"{bar.what}, {bar.operation}: {bar.measured:.2f}, {limit}: {verdict}", highlight=False)


def _cell(times: Times, operation: Operation, who: Contender) -> str:
    took = f"[dim]{times.microseconds(operation, who.name):.0f} µs[/]"
    if who.baseline is None:
        return f"1\n\n{took}"
    ratio = times.ratio(operation, who.name, who.baseline.name)
    return f"[bold]{ratio.median:.2f}[/]\n[dim]{ratio.low:.2f} to {ratio.high:.2f}[/]\n{took}"


def as_json(figures: Figures) -> str:
    """The same for machines."""
    return json.dumps(
        {
            "versions": figures.versions,
            "rounds": figures.times.rounds,
            "calls": [
                {
                    "operation": operation.name,
                    "contender": who.name,
                    "microseconds": round(figures.times.microseconds(operation, who.name), 1),
                    "baseline": who.baseline and who.baseline.name,
                    "ratio": who.baseline and asdict(figures.times.ratio(operation, who.name, who.baseline.name)),
                }
                for operation in OPERATIONS
                for who in figures.contenders
            ],
            "bars": [{**asdict(bar), "cleared": bar.cleared} for bar in figures.bars()],
        },
        indent=2,
    )


def main(
    rounds: Annotated[int, typer.Option(min=2, help="How many rounds.")] = 300,
    seed: Annotated[int, typer.Option(help="Of the order and of the places.")] = 1,
    server: Server = None,
    *,
    smoke: Smoke = False,
    quick: Annotated[bool, typer.Option("--quick", help="50 rounds.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 when a bar is missed.")] = False,
) -> None:
    """What a call costs, beside asyncpg's pool and SQLAlchemy's ORM."""
    figures = asyncio.run(measure(server, 2 if smoke else 50 if quick else rounds, seed))
    if json_:
        print(as_json(figures))
    else:
        show(figures)
    if check and not all(bar.cleared for bar in figures.bars()):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
