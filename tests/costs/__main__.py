"""Writes `costs.json` anew, from the server that the tests would take: `make costs`."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack

from tests.costs.figures import client_cost, server_costs, write
from tests.costs.meter import opened
from tests.costs.tenants import fill
from tests.support.calls import CALLS
from thea_store.testing import start_server


async def main() -> None:
    """Measure every public call."""
    with ExitStack() as resources:
        database = start_server(resources).new_database(resources)
        grounds = await fill(database)
        async with opened(database, telling=False) as meter:
            clients = {str(call): await client_cost(meter, call, f"client {call}") for call in CALLS}
        async with opened(database, telling=True) as meter:
            servers = {str(call): await server_costs(meter, call, grounds) for call in CALLS}
    write({call: {"client": clients[call], **servers[call]} for call in clients})


if __name__ == "__main__":
    asyncio.run(main())
