"""Bulk writes: `create_many` of the store against a superuser's COPY into the same table, in one run.

Both fire the same triggers. The store checks each row, sends one statement under row security, and
returns records; COPY gets rows that are ready and returns nothing.
"""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from contextlib import ExitStack
from typing import Annotated

import psycopg
import typer
from smoke import Smoke

from thea_store import Settings, Store
from thea_store.embedded import EmbeddedPostgres
from thea_store.testing import TestServer

ROWS = 5000
BAR = 2.5
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


def by_copy(url: str, user_id: int, conversation_id: int) -> float:
    """Seconds that a superuser's COPY takes, its commit included."""
    rows = [(TENANT, user_id, conversation_id, *texts(n)) for n in range(ROWS)]
    with psycopg.connect(url) as connection, connection.cursor() as cursor:
        connection.execute("select")
        started = time.perf_counter()
        with cursor.copy(f"copy thea.message_history ({', '.join(COLUMNS)}) from stdin".encode()) as copy:
            for row in rows:
                copy.write_row(row)
        connection.commit()
        return time.perf_counter() - started


def main(
    rounds: Annotated[int, typer.Option(min=1)] = 12,
    *,
    smoke: Smoke = False,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 when the bar is missed.")] = False,
) -> None:
    """Bulk writes of the store against a superuser's COPY."""
    rounds = 1 if smoke else rounds
    pairs = asyncio.run(_measured(rounds + 1))
    ratios = [pair["store"] / pair["copy"] for pair in pairs[1:]]
    ratio = statistics.median(ratios)
    per_second = ROWS / statistics.median(pair["store"] for pair in pairs[1:])
    print(
        f"create_many of {ROWS} rows: {ratio:.2f} times a superuser's COPY ({min(ratios):.2f} to {max(ratios):.2f}, "
        f"{rounds} rounds), {per_second:,.0f} rows a second; at most {BAR}: "
        f"{'cleared' if ratio <= BAR else 'MISSED'}"
    )
    if check and ratio > BAR:
        raise typer.Exit(1)


async def _measured(rounds: int) -> list[dict[str, float]]:
    async with EmbeddedPostgres() as server:
        with ExitStack() as resources:
            database = TestServer(server.superuser_url).new_database(resources)
            async with Store.open(Settings(url=database.app_url)) as store:
                user = await store.users.create(TENANT, telegram_id=1)
                pairs = []
                for turn in range(rounds):
                    times: dict[str, float] = {}
                    for name in random.sample(["store", "copy"], 2):
                        # A message's number comes once in a conversation.
                        conversation = await store.conversations.create(TENANT, user.id, f"{name} {turn}")
                        if name == "store":
                            times[name] = await by_store(store, user.id, conversation.id)
                        else:
                            times[name] = by_copy(database.superuser_url, user.id, conversation.id)
                    pairs.append(times)
                return pairs


if __name__ == "__main__":
    typer.run(main)
