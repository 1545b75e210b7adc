"""Bulk writes: `create_many` of the store against a superuser's COPY, in one run.

COPY writes into the same table, whose triggers it fires, and into a bare one with the same columns and indexes and
without triggers and foreign keys. The store checks each row, sends one statement under row security, and returns
records; COPY gets rows that are ready and returns nothing.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from typing import Annotated

import psycopg
import typer
from ground import prepared_ground
from options import Server, Smoke

from thea_store import Settings, Store

ROWS = 5000
BAR = 2.5
TABLE, BARE = "thea.message_history", "public.bare"
TENANT = "bulk"
COLUMNS = ("tenant_id", "user_id", "conversation_id", "message_id", "user_message", "bot_response", "intent_detected")


def texts(n: int) -> tuple[int, str, str, str]:
    """The values of one message, alike for both."""
    return n, f"¿Qué tengo mañana? {n}", f"Mañana tienes el dentista a las {n % 24}:00.", "agenda"


async def by_store(store: Store, user_id: int, conversation_id: int) -> float:
    """Seconds that `create_many` takes."""
    names = ("message_id", "user_message", "bot_response", "intent_detected")
    parents = {"user_id": user_id, "conversation_id": conversation_id}
    rows = [{**parents, **dict(zip(names, texts(n), strict=True))} for n in range(ROWS)]
    started = time.perf_counter()
    created = await store.messages.create_many(TENANT, rows)
    took = time.perf_counter() - started
    assert len(created) == ROWS
    return took


def by_copy(url: str, table: str, user_id: int, conversation_id: int) -> float:
    """Seconds that a superuser's COPY into this table takes, its commit included."""
    rows = [(TENANT, user_id, conversation_id, *texts(n)) for n in range(ROWS)]
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        connection.execute("select")
        started = time.perf_counter()
        with cursor.copy(f"copy {table} ({', '.join(COLUMNS)}) from stdin".encode()) as copy:
            for row in rows:
                copy.write_row(row)
        connection.commit()
        return time.perf_counter() - started


def main(
    rounds: Annotated[int, typer.Option(min=1)] = 12,
    server: Server = None,
    *,
    smoke: Smoke = False,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 when the bar is missed.")] = False,
) -> None:
    """Bulk writes of the store against a superuser's COPY."""
    rounds = 1 if smoke else rounds
    taken = asyncio.run(_measured(server, rounds + 1))
    ratio, lowest, highest = _ratio(taken, TABLE)
    bare, _, _ = _ratio(taken, BARE)
    per_second = ROWS / statistics.median(each["store"] for each in taken[1:])
    print(
        f"create_many of {ROWS} rows: {ratio:.2f} times a superuser's COPY ({lowest:.2f} to {highest:.2f}, "
        f"{rounds} rounds), {per_second:,.0f} rows a second; at most {BAR}: "
        f"{'cleared' if ratio <= BAR else 'MISSED'}; {bare:.2f} times a COPY into a table without triggers"
    )
    if check and ratio > BAR:
        raise typer.Exit(1)


def _ratio(taken: list[dict[str, float]], table: str) -> tuple[float, float, float]:
    """The median, the least and the greatest of the rounds, without the first."""
    ratios = [each["store"] / each[table] for each in taken[1:]]
    return statistics.median(ratios), min(ratios), max(ratios)


async def _measured(server: str | None, rounds: int) -> list[dict[str, float]]:
    async with prepared_ground(server) as ground, Store.open(Settings(url=ground.app_url)) as store:
        with psycopg.connect(ground.superuser_url) as superuser:
            superuser.execute(f"create table {BARE} (like {TABLE} including all)".encode())
        user = await store.users.create(TENANT, telegram_id=1)
        taken = []
        for turn in range(rounds):
            times: dict[str, float] = {}
            for name in random.sample(["store", TABLE, BARE], 3):
                # A message's number comes once in a conversation.
                conversation = await store.conversations.create(TENANT, user.id, f"{name} {turn}")
                if name == "store":
                    times[name] = await by_store(store, user.id, conversation.id)
                else:
                    times[name] = by_copy(ground.superuser_url, name, user.id, conversation.id)
            taken.append(times)
        return taken


if __name__ == "__main__":
    typer.run(main)
