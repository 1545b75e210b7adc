"""How much one primary, a Citus cluster and several regions carry: a model, from the measured costs of a turn.

    python bench/turn.py --json > turn.json && python bench/capacity.py turn.json [--cores 16] [--turns-a-day 12] …

A turn is what `bench/turn.py` measures: a message of a person, its answer, and the conversation's new state, in one
transaction. The model multiplies and divides; what it leaves out is said in docs/capacity.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

# Of a process of the service, at the busiest time.
USED_OF_A_PROCESS = 0.7
# Round trips of a turn: three statements and the commit.
ROUND_TRIPS = 4
DAY = 86_400
# The statements of a turn on a cluster, in times of a plain server's: docs/citus.md, "What it costs".
ON_CITUS = 4.0


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn costs."""

    client_us: float
    server_us: float
    wal_bytes: float
    stored_bytes: float

    @property
    def held_ms(self) -> float:
        """For how long a turn holds a connection, without the way to the server."""
        return (self.client_us + self.server_us) / 1000


@dataclass(frozen=True, slots=True)
class Machine:
    """What a server of the database has, and how much of it may be used at the busiest time."""

    cores: int
    used: float
    disk_tb: float
    wal_mb: float
    """Of the log, written and sent to standbys each second."""


@dataclass(frozen=True, slots=True)
class People:
    """How much people write."""

    turns_a_day: float
    peak: float
    """The turns of the busiest second, in times of the average."""
    days: float
    """For how long messages are kept."""
    in_a_tenant: float

    def count(self, turns_per_second: float) -> float:
        """The people whose busiest second has so many turns."""
        return turns_per_second / self.peak * DAY / self.turns_a_day

    def stored(self, turn: Turn) -> float:
        """The bytes that one of them has."""
        return turn.stored_bytes * self.turns_a_day * self.days


@dataclass(frozen=True, slots=True)
class Answer:
    """What a way to run it carries."""

    way: str
    turns_per_second: float
    """At the busiest time."""
    people: float
    tenants: float
    first: str
    """What gives first."""
    then: str
    """What gives next."""
    people_then: float
    """How many people that carries."""
    processes: float
    """Of the service, each on one core."""
    connections: float
    """In use at the busiest time, by the time that a turn holds one."""


def carried(way: str, turn: Turn, limits: dict[str, float], people: People, round_trip_ms: float) -> Answer:
    """The answer for a way to run it of which each part carries so many people."""
    (most, first), (next_most, then), *_ = sorted((most, name) for name, most in limits.items())
    rate = most * people.turns_a_day / DAY * people.peak
    held = (turn.held_ms + ROUND_TRIPS * round_trip_ms) / 1000
    processes = math.ceil(rate * turn.client_us / 1e6 / USED_OF_A_PROCESS)
    tenants = most / people.in_a_tenant
    return Answer(way, rate, most, tenants, first, then, next_most, processes, rate * held)


def plain(turn: Turn, machine: Machine, people: People, servers: int = 1) -> dict[str, float]:
    """How many people each part of so many primaries carries, none of which knows of the others."""
    return {
        "processor": servers * people.count(machine.cores * machine.used / turn.server_us * 1e6),
        "log": servers * people.count(machine.wal_mb * 1e6 / turn.wal_bytes),
        "disk": servers * machine.disk_tb * 1e12 * machine.used / people.stored(turn),
    }


def citus(turn: Turn, machine: Machine, people: People, workers: int) -> dict[str, float]:
    """The same of a cluster whose coordinator does all that a turn costs there beyond the statements themselves."""
    on_workers = plain(turn, machine, people, workers)
    coordinator = turn.server_us * (ON_CITUS - 1)
    return {
        "coordinator": people.count(machine.cores * machine.used / coordinator * 1e6),
        **{f"workers' {name}": most for name, most in on_workers.items()},
    }


def every_node_asked(turn: Turn, machine: Machine, people: People, workers: int) -> dict[str, float]:
    """The same where services ask every node, each of which knows where a tenant is."""
    dearer = Turn(turn.client_us, turn.server_us * ON_CITUS, turn.wal_bytes, turn.stored_bytes)
    return plain(dearer, machine, people, workers)


def answers(turn: Turn, machine: Machine, people: People, round_trip_ms: float) -> list[Answer]:
    """One primary, clusters and regions."""
    ways = {
        "one primary": plain(turn, machine, people),
        "Citus, 4 workers": citus(turn, machine, people, 4),
        "Citus, 32 workers": citus(turn, machine, people, 32),
        "Citus, 32 workers, each asked": every_node_asked(turn, machine, people, 32),
        "3 regions, a primary each": plain(turn, machine, people, 3),
        "32 primaries, tenants spread by the service": plain(turn, machine, people, 32),
    }
    return [carried(way, turn, limits, people, round_trip_ms) for way, limits in ways.items()]


def read_turn(path: Path) -> Turn:
    """The store's turn in transaction scope, with no delay, of a file that `bench/turn.py --json` wrote."""
    told: Sequence[dict[str, Any]] = json.loads(path.read_text())["turns"]
    for each in told:
        if (each["loop"], each["delay_ms"], each["contender"]) == ("asyncio", 0, "store, transaction scope"):
            return Turn(**{name: each[name] for name in Turn.__slots__})
    raise typer.BadParameter(f"{path} has no turn of the store without a delay: write it with bench/turn.py --json")


def _rounded(number: float) -> str:
    """Two digits say what a model knows."""
    return f"{float(f'{number:.2g}'):,.0f}"


def command(
    path: Annotated[Path, typer.Argument(exists=True, dir_okay=False)],
    *,
    cores: Annotated[int, typer.Option(min=1)] = 16,
    used: Annotated[float, typer.Option(min=0.01, max=1, help="Of processor and disk, at the busiest time.")] = 0.6,
    disk_tb: Annotated[float, typer.Option(min=0.001)] = 8,
    wal_mb: Annotated[float, typer.Option(min=0.1, help="The log's megabytes a second, disk and network.")] = 100,
    turns_a_day: Annotated[float, typer.Option(min=0.001, help="Of one person.")] = 12,
    peak: Annotated[float, typer.Option(min=1, help="The busiest second, in times of the average.")] = 5,
    days: Annotated[float, typer.Option(min=1, help="For which messages are kept.")] = 365,
    people_in_a_tenant: Annotated[float, typer.Option(min=1)] = 200,
    round_trip_ms: Annotated[float, typer.Option(min=0)] = 0.5,
) -> None:
    """How many people and tenants each way to run the store carries, and what gives first."""
    turn = read_turn(path)
    people = People(turns_a_day, peak, days, people_in_a_tenant)
    found = answers(turn, Machine(cores, used, disk_tb, wal_mb), people, round_trip_ms)
    print("| | turns a second | people | tenants | gives first | then, with people | processes | connections in use |")
    print("|---|---|---|---|---|---|---|---|")
    for each in found:
        figures = (each.turns_per_second, each.people, each.tenants)
        told = " | ".join(map(_rounded, figures))
        knobs = f"{each.first} | {each.then}, {_rounded(each.people_then)}"
        print(f"| {each.way} | {told} | {knobs} | {_rounded(each.processes)} | {_rounded(each.connections)} |")


if __name__ == "__main__":
    typer.run(command)
