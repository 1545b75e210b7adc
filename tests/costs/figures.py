"""The committed figures, how they are measured, and what is too far from them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.costs.meter import Meter, ServerCost
from tests.costs.tenants import SIZES
from tests.support.calls import Call, Ground, prepare

__all__ = ["COSTS", "ClientCost", "client_cost", "committed", "dearer", "server_costs", "write"]

COSTS = Path(__file__).with_name("costs.json")

# What may be more than the committed figure: a part of it, and so many. Plans differ a little between the versions of
# PostgreSQL, pages with the hour of the last vacuum, and Python's figures with its version.
_SLACK: Mapping[str, tuple[float, int]] = {
    "round_trips": (0, 0),
    "statements": (0, 0),
    "rows": (0.1, 5),
    "pages": (0.5, 20),
    "python_calls": (0.4, 20),
    "python_bytes": (0.4, 4000),
}


@dataclass(frozen=True, slots=True)
class ClientCost:
    """What a call costs on the wire and in Python, for a tenant with few rows."""

    round_trips: int
    python_calls: int
    python_bytes: int


async def server_costs(meter: Meter, call: Call, grounds: Mapping[str, Ground]) -> dict[str, ServerCost]:
    """The cost of a call for a tenant of each size."""
    return {size: await meter.server_cost(call, grounds[size]) for size in SIZES}


async def client_cost(meter: Meter, call: Call, tenant: str) -> ClientCost:
    """Each figure of a call of its own, on rows that are made anew, because it may change or remove them."""
    grounds = [await prepare(meter.store, tenant, f"pan {place}") for place in range(6)]
    # The first time, statements are prepared and caches filled.
    await meter.round_trips(call, grounds[0])
    await meter.python_calls(call, grounds[1])
    return ClientCost(
        await meter.round_trips(call, grounds[2]),
        # The pool's own tasks may come in between once.
        min(await meter.python_calls(call, grounds[3]), await meter.python_calls(call, grounds[4])),
        await meter.python_bytes(call, grounds[5]),
    )


def committed() -> dict[str, dict[str, dict[str, Any]]]:
    """The figures by call: those of the client, and those of the server for each size of a tenant."""
    found: dict[str, dict[str, dict[str, Any]]] = json.loads(COSTS.read_text())
    return found


def dearer(measured: ClientCost | ServerCost, figures: Mapping[str, int]) -> list[str]:
    """A sentence for each figure that is more than the committed one allows."""
    found = []
    for name, value in asdict(measured).items():
        part, number = _SLACK[name]
        if value > figures[name] * (1 + part) + number:
            found.append(f"{name}: {value}, where {figures[name]} are committed: make it cheaper, or say why not")
    return found


def write(figures: Mapping[str, Mapping[str, ClientCost | ServerCost]]) -> None:
    """Write the file anew, one call a line."""
    lines = [
        f"  {json.dumps(call)}: {json.dumps({of: asdict(cost) for of, cost in costs.items()})}"
        for call, costs in sorted(figures.items())
    ]
    COSTS.write_text("{\n" + ",\n".join(lines) + "\n}\n")
