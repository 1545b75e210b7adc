"""What small tenants wait while one tenant floods the pool.

    python bench/fairness.py

Fifty tenants make one call after another over a pool of ten connections: alone, and while another tenant has a thousand
calls in line. Printed are the 95th percentiles of their waits, as times of what they wait alone.
"""

from __future__ import annotations

import asyncio
import statistics
import time

import typer
from ground import Ground, prepared_ground
from options import Server, Smoke

from thea_store import Settings, Store

POOL_SIZE, SMALL, CALLS, FLOOD = 10, 50, 12, 1000


async def waits(store: Store, ground: Ground, calls: int) -> dict[str, list[float]]:
    """Seconds that each call of each small tenant takes."""
    taken: dict[str, list[float]] = {}

    async def one(number: int) -> None:
        place = ground.places[number][0]
        for _ in range(calls):
            started = time.perf_counter()
            await store.users.get_by_id(place.tenant_id, place.user_id)
            taken.setdefault(place.tenant_id, []).append(time.perf_counter() - started)
            await asyncio.sleep(0.02)

    await asyncio.gather(*(one(number) for number in range(1, SMALL + 1)))
    return taken


async def flooded(store: Store, ground: Ground, calls: int) -> dict[str, list[float]]:
    """The same while another tenant has a thousand calls in line."""
    place, is_over = ground.places[0][0], False

    async def flood() -> None:
        while not is_over:
            await store.messages.get_all(place.tenant_id, limit=20)

    tasks = [asyncio.create_task(flood()) for _ in range(FLOOD)]
    await asyncio.sleep(0.5)
    try:
        return await waits(store, ground, calls)
    finally:
        is_over = True
        await asyncio.gather(*tasks)


def slowest(taken: dict[str, list[float]]) -> float:
    """The 95th percentile of the tenant that waits longest."""
    return max(statistics.quantiles(times, n=20)[-1] for times in taken.values())


def together(taken: dict[str, list[float]]) -> float:
    """The 95th percentile of all their calls."""
    return statistics.quantiles([each for times in taken.values() for each in times], n=20)[-1]


async def measure(server: str | None, calls: int) -> None:
    """Measure both and print the ratios."""
    async with prepared_ground(server) as ground:
        settings = Settings(url=ground.app_url, pool_size=POOL_SIZE, max_overflow=0, slow_query_ms=60_000)
        async with Store.open(settings) as store:
            await waits(store, ground, calls)
            alone = await waits(store, ground, calls)
            beside = await flooded(store, ground, calls)
    print(f"all small tenants, p95: {together(beside) / together(alone):.1f} times what it is alone")
    print(f"the slowest of them, p95: {slowest(beside) / slowest(alone):.1f} times")
    print(f"({together(alone) * 1000:.1f} ms alone, {together(beside) * 1000:.1f} ms beside the flood)")


def main(server: Server = None, *, smoke: Smoke = False) -> None:
    """What small tenants wait while one tenant floods the pool."""
    asyncio.run(measure(server, 2 if smoke else CALLS))


if __name__ == "__main__":
    typer.run(main)
