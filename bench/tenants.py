"""What the directory of tenants costs: each case against a database without a tenant in it, on an embedded server.

    python bench/tenants.py

The times are those that the server's own process worked, so that other work on the machine hardly counts.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path

import psycopg
import typer
from options import Smoke

from thea_store import Store, User
from thea_store.database import limits as limits_of_calls
from thea_store.embedded import EmbeddedPostgres
from thea_store.migrator import migrate

ROUNDS, CALLS, ROWS = 8, 100, 300
# The limits and the settings of each; the last one is beside one whose reads are noted.
TENANTS = {
    "without an entry": None,
    "with an entry": ("{}", "{}"),
    "with a limit of rows": ('{"rows": 1000000000}', "{}"),
    "with a limit of text": ('{"text_bytes": 1000000000000}', "{}"),
    "with a limit of calls in flight": ('{"calls_in_flight": 1000}', "{}"),
    "with a limit of a statement's time": ('{"statement_ms": 20000}', "{}"),
    "with its reads noted": ("{}", '{"log_reads": true}'),
    "with another's reads noted": ("{}", "{}"),
}

numbers = itertools.count(1)


async def measure_all(rounds: int) -> None:
    limits_of_calls.EVERY = 0.05
    async with EmbeddedPostgres() as server:
        await asyncio.to_thread(migrate, server.migrator_url)
        async with Store.open(server.app_url) as store:
            users = {tenant: await store.users.create(tenant, telegram_id=next(numbers)) for tenant in TENANTS}
            for user in users.values():
                await store.notes.create_many(
                    user.tenant_id, [{"user_id": user.id, "content": "Comprar pan"} for _ in range(50)]
                )
            await store.users.create_many("crowd", [{"telegram_id": next(numbers)} for _ in range(5000)])
            with psycopg.connect(server.superuser_url) as superuser:
                superuser.execute("analyze")  # else the first plans are for a small table, and are kept
            await measure(store, server.superuser_url, users["without an entry"], rounds)  # the caches are filled
            plain = await measure(store, server.superuser_url, users["without an entry"], rounds)
            for step, said in TENANTS.items():
                with psycopg.connect(server.superuser_url) as superuser:
                    if said is not None:
                        superuser.execute(
                            "insert into thea.tenants (id, limits, settings) values (%s, %s, %s)", [step, *said]
                        )
                await store.users.count(users[step].tenant_id)
                await asyncio.sleep(0.5)  # the process has asked for its limits by then
                found = await measure(store, server.superuser_url, users[step], rounds)
                told = (f"{name} {took:.1f} µs ({took / plain[name]:.2f})" for name, took in found.items())
                print(f"{step}: {', '.join(told)}")


async def measure(store: Store, url: str, user: User, rounds: int) -> dict[str, float]:
    """Microseconds of the server's work for a call, or for a row of a bulk call: the least of some rounds."""
    tenant = user.tenant_id

    async def read() -> int:
        for _ in range(CALLS):
            await store.users.get_by_id(tenant, user.id)
        return CALLS

    async def read_page() -> int:
        for _ in range(CALLS):
            await store.notes.get_all(tenant, user_id=user.id)
        return CALLS

    async def insert() -> int:
        for _ in range(CALLS):
            await store.users.create(tenant, telegram_id=next(numbers))
        return CALLS

    async def insert_many() -> int:
        await store.users.create_many(tenant, [{"telegram_id": next(numbers)} for _ in range(ROWS)])
        return ROWS

    work: dict[str, Callable[[], Awaitable[int]]] = {
        "read": read,
        "page": read_page,
        "insert": insert,
        "row of many": insert_many,
    }
    found = dict.fromkeys(work, float("inf"))
    for _ in range(rounds):
        for name, calls in work.items():
            before = worked(url)
            count = await calls()
            found[name] = min(found[name], (worked(url) - before) / count)
    return found


def worked(url: str) -> float:
    """Microseconds that the processes of the service's sessions have worked on this machine."""
    with psycopg.connect(url) as superuser:
        rows = superuser.execute("select pid from pg_stat_activity where usename = 'thea_service'").fetchall()
    return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for (pid,) in rows) / 1000


def main(*, smoke: Smoke = False) -> None:
    """What the directory of tenants costs."""
    asyncio.run(measure_all(1 if smoke else ROUNDS))


if __name__ == "__main__":
    typer.run(main)
