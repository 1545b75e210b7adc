"""Counts and statistics of a tenant of millions of messages, and what the sums behind them cost those who write.

Both before and after a worker has counted the messages, in one run, on the server that the tests would take:

    python bench/message_statistics.py [MESSAGES] [DAYS]

Five million messages over 90 days, if not said otherwise. The times are those that the server's own process worked, so
that other work on the machine hardly counts; a cost is the median of the rounds' ratios to the same without triggers.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

import psycopg
import typer
from indexes import built_afterwards
from options import Smoke

from thea_store import Store
from thea_store.testing import start_server

ROUNDS, CALLS, ROWS, PEOPLE = 12, 60, 300, 500
BEFORE, AFTER = 5, 40
OLD = timedelta(days=3)

FILL = """
insert into thea.users (tenant_id, telegram_id) select 'large', u from generate_series(1, {people}) u;

insert into thea.conversations (tenant_id, user_id, session_id)
select tenant_id, id, 'session-' || telegram_id from thea.users;

insert into thea.message_history (
  tenant_id, user_id, conversation_id, user_message, bot_response, intent_detected, confidence_score,
  processing_time_ms, created_at
)
select
  'large', c.user_id, c.id, 'Remind me of the dentist tomorrow at ten, please, and of what to bring.',
  'Done: dentist, tomorrow at 10:00. I shall remind you an hour before.',
  case when m % 20 > 0 then 'intent_' || m % 19 end,
  case when m % 50 > 0 then round(random()::numeric, 3) end,
  case when m % 30 > 0 then (-ln(1 - random()) * 400)::integer end,
  now() - interval '1 day' * {days} * (1 - m / {messages}::double precision)
from generate_series(1, {messages}) m
join (select row_number() over (order by id) - 1 as n, id, user_id from thea.conversations) c on c.n = m % {people}
"""

# What was not chosen: each statement adds up its own rows in a trigger that sees all of them.
OF_STATEMENTS = """
create function thea.add_up() returns trigger
  language plpgsql security definer set search_path = pg_catalog, pg_temp
as $$
begin
  insert into thea.message_counts (
    tenant_id, at, folded, intent, messages, confidences, confidence_sum, times, time_sum
  )
  select a.tenant_id, date_trunc('day', a.created_at, 'UTC'), false, a.intent_detected, count(*),
    count(a.confidence_score), coalesce(sum((a.confidence_score * 1e11)::bigint), 0), count(a.processing_time_ms),
    coalesce(sum(a.processing_time_ms), 0)
  from added a
  group by 1, 2, 4;
  return null;
end
$$;

alter function thea.add_up() owner to thea_maintenance;

create trigger add_up after insert on thea.message_history referencing new table as added
  for each statement execute function thea.add_up();
"""
SWITCHES = {
    "without": ("disable trigger count_insert", "disable trigger add_up"),
    "with sums": ("enable trigger count_insert", "disable trigger add_up"),
    "a statement's trigger instead": ("disable trigger count_insert", "enable trigger add_up"),
}

Connection = psycopg.Connection[tuple[object, ...]]
Calls = dict[str, Callable[[], Awaitable[object]]]


async def measure(messages: int, days: int, rounds: int) -> None:
    with ExitStack() as resources:
        database = start_server(resources).new_database(resources)
        with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
            superuser.execute("set session_replication_role = replica")
            with built_afterwards(superuser, ["message_history"]):
                for statement in FILL.format(messages=messages, days=days, people=PEOPLE).split(";\n\n"):
                    superuser.execute(statement.encode())
            superuser.execute("vacuum analyze")
            superuser.execute("reset session_replication_role")
            # What a process has worked does not tell of its helpers.
            [(name,)] = superuser.execute("select current_database()").fetchall()
            superuser.execute(f"alter database {name} set max_parallel_workers_per_gather = 0".encode())
            print(f"{messages:,} messages over {days} days, milliseconds of the server's work: median, p95")
            async with Store.open(database.app_url) as store:
                before = await measured(superuser, reads(store), BEFORE)
                pieces = fold(superuser)
                superuser.execute("vacuum analyze thea.message_counts")
                after = await measured(superuser, reads(store), AFTER)
                for name, (median, p95) in after.items():
                    was = before[name]
                    print(f"  {name}: {was[0]:.1f}, {was[1]:.1f} → {median:.1f}, {p95:.1f}: {median / was[0]:.4f}")
                print(f"  counting all of them: {pieces[0]} pieces, {pieces[1]:.1f} s")
                superuser.execute(OF_STATEMENTS.encode())
                await compare_writes(superuser, store, rounds)


def reads(store: Store) -> Calls:
    now = datetime.now(UTC)
    first, until = now - timedelta(days=33), now - timedelta(days=3)
    return {
        "count": lambda: store.messages.count("large"),
        "count of an intent": lambda: store.messages.count("large", intent="intent_3"),
        "count of a month": lambda: store.messages.count("large", created_from=first, created_before=until),
        "get_statistics": lambda: store.messages.get_statistics("large"),
        "analyze_performance, 24 hours": lambda: store.messages.analyze_performance("large"),
    }


async def measured(superuser: Connection, calls: Calls, rounds: int) -> dict[str, tuple[float, float]]:
    """The median and the 95th percentile of each call, in milliseconds."""
    found: dict[str, tuple[float, float]] = {}
    for name, call in calls.items():
        await call()
        times = []
        for _ in range(rounds):
            before = worked(superuser)
            await call()
            times.append((worked(superuser) - before) / 1000)
        found[name] = statistics.median(times), sorted(times)[int(len(times) * 0.95)]
    return found


def fold(superuser: Connection) -> tuple[int, float]:
    """Count all messages; how many pieces that took, and how many seconds."""
    begin, pieces = datetime.now(UTC), 0
    while superuser.execute("select thea.fold_messages('large')").fetchone() == (True,):
        pieces += 1
    return pieces, (datetime.now(UTC) - begin).total_seconds()


async def compare_writes(superuser: Connection, store: Store, rounds: int) -> None:
    """What a row's insert costs, in turns with and without the triggers."""
    print("inserts, microseconds of the server's work for a row, and the ratio to that without the triggers")
    [user] = (await store.users.get_all("large", limit=1)).items
    [conversation] = (await store.conversations.get_all("large", user_id=user.id, limit=1)).items

    async def single(at: datetime | None) -> None:
        for _ in range(CALLS):
            await store.messages.create("large", user.id, conversation.id, "Hello", created_at=at)

    async def bulk(at: datetime | None) -> None:
        row = {"user_id": user.id, "conversation_id": conversation.id, "user_message": "Hello", "created_at": at}
        await store.messages.create_many("large", [row] * ROWS)

    writes: dict[str, tuple[int, Callable[[], Awaitable[object]]]] = {
        "one new message": (CALLS, lambda: single(None)),
        "one of 300 new ones": (ROWS, lambda: bulk(None)),
        "one old message": (CALLS, lambda: single(datetime.now(UTC) - OLD)),
        "one of 300 old ones": (ROWS, lambda: bulk(datetime.now(UTC) - OLD)),
    }
    for name, (rows, write) in writes.items():
        times: dict[str, list[float]] = {way: [] for way in SWITCHES}
        for _ in range(rounds):
            for way, switches in SWITCHES.items():
                for switch in switches:
                    superuser.execute(f"alter table thea.message_history {switch}".encode())
                await write()  # plans are made anew
                before = worked(superuser)
                await write()
                times[way].append((worked(superuser) - before) / rows)
        plain = times["without"]
        told = [f"{statistics.median(plain):.1f}"]
        for way in list(SWITCHES)[1:]:
            ratio = statistics.median(a / b for a, b in zip(times[way], plain, strict=True))
            told.append(f"{way} {statistics.median(times[way]):.1f} ({ratio:.2f})")
        print(f"  {name}: {', '.join(told)}")


def worked(superuser: Connection) -> float:
    """Microseconds that the processes of the database's other sessions have worked on this machine."""
    rows = superuser.execute(
        "select pid from pg_stat_activity"
        " where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()"
    ).fetchall()
    return sum(int(Path(f"/proc/{pid}/schedstat").read_text().split()[0]) for (pid,) in rows) / 1000


def main(
    messages: Annotated[int, typer.Argument(min=1000)] = 5_000_000,
    days: Annotated[int, typer.Argument(min=1)] = 90,
    *,
    smoke: Smoke = False,
) -> None:
    """Counts and statistics of many messages, and what their sums cost who writes."""
    asyncio.run(measure(10_000, days, 1) if smoke else measure(messages, days, ROUNDS))


if __name__ == "__main__":
    typer.run(main)
