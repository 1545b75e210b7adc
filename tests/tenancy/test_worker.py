"""A worker: fair among tenants, each piece once, and what it does when something fails or it is stopped."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from datetime import UTC, datetime

import pytest

from thea_store import (
    EventOccurrence,
    InsufficientPrivilegeError,
    InvalidArgumentError,
    Reminder,
    Store,
    StoreTransaction,
    StoreUnavailableError,
    Worker,
    inactivity_worker,
    reminder_worker,
)

PAST = datetime(2024, 5, 1, tzinfo=UTC)


class Pile:
    """The pieces of work of some tenants, and the order in which they were done."""

    def __init__(self, **pieces: int) -> None:
        self.left = Counter(pieces)
        self.done: list[str] = []

    async def find(self, *, limit: int, after: str | None) -> list[str]:
        names = sorted(name for name, left in self.left.items() if left and (after is None or name > after))
        return names[:limit]

    async def do(self, tenant: str) -> bool:
        if not self.left[tenant]:
            return False
        self.left[tenant] -= 1
        await asyncio.sleep(0)
        self.done.append(tenant)
        return True


async def test_each_tenant_gets_its_turn_before_another_gets_two_more() -> None:
    pile = Pile(large=1000, small=3, tiny=1)
    await Worker(pile.find, pile.do, concurrency=1).run_once()

    assert Counter(pile.done) == {"large": 1000, "small": 3, "tiny": 1}
    assert set(pile.done[:3]) == {"large", "small", "tiny"}
    assert max(place for place, tenant in enumerate(pile.done) if tenant == "small") < 8


async def test_who_comes_while_another_has_much_to_do_does_not_wait_for_its_end() -> None:
    pile = Pile(large=200)

    async def do(tenant: str) -> bool:
        if len(pile.done) == 5:
            pile.left["late"] = 1
        return await pile.do(tenant)

    await Worker(pile.find, do, concurrency=1).run_once()

    assert pile.done.index("late") < 50


async def test_all_pages_of_tenants_are_worked_on() -> None:
    pile = Pile(**{f"t{number:04}": 1 for number in range(2001)})
    report = await Worker(pile.find, pile.do, concurrency=8).run_once()

    assert (report.pieces, report.tenants, report.failures) == (2001, 2001, 0)
    assert pile.done != sorted(pile.done), "workers in one order would all begin with the same tenant"


async def test_a_stopped_worker_ends_its_pieces_and_begins_none() -> None:
    pile = Pile(a=1000)
    begun: list[str] = []

    async def do(tenant: str) -> bool:
        begun.append(tenant)
        worker.stop()
        await asyncio.sleep(0)
        return await pile.do(tenant)

    worker = Worker(pile.find, do, concurrency=1, pause=3600)
    report = await worker.run()

    assert len(begun) == len(pile.done) == report.pieces == 1


async def test_a_worker_that_waits_is_stopped_at_once() -> None:
    pile = Pile()
    looked = asyncio.Event()

    async def find(*, limit: int, after: str | None) -> list[str]:
        looked.set()
        return await pile.find(limit=limit, after=after)

    worker = Worker(find, pile.do, pause=3600)
    running = asyncio.create_task(worker.run())
    await looked.wait()
    worker.stop()

    assert (await running).pieces == 0


async def test_a_cancelled_worker_leaves_nothing_running() -> None:
    pile, ended = Pile(a=1, b=1), list[str]()

    async def do(tenant: str) -> bool:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(tenant)
        return True

    running = asyncio.create_task(Worker(pile.find, do).run())
    for _ in range(10):
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running

    assert sorted(ended) == ["a", "b"]


async def test_a_tenant_whose_piece_fails_is_left_alone_while_the_others_go_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pile, tries = Pile(bad=1, good=30), list[str]()

    async def do(tenant: str) -> bool:
        if tenant == "bad":
            tries.append(tenant)
            raise ValueError("the secret text")
        return await pile.do(tenant)

    with caplog.at_level(logging.WARNING, "thea_store.work"):
        report = await Worker(pile.find, do, pause=3600).run_once()

    assert (report.pieces, report.failures, len(tries)) == (30, 1, 1)
    assert "'bad' failed and is tried again later: ValueError" in caplog.text
    assert "secret" not in caplog.text


async def test_an_error_is_told_to_who_wants_to_know_it() -> None:
    pile, told = Pile(bad=1), list[tuple[str | None, str]]()

    async def do(_tenant: str) -> bool:
        raise KeyError("x")

    await Worker(pile.find, do, on_error=lambda tenant, error: told.append((tenant, type(error).__name__))).run_once()

    assert told == [("bad", "KeyError")]


async def test_a_server_that_is_away_is_asked_again_and_a_missing_right_ends_the_worker() -> None:
    pile, answers = Pile(a=1), [StoreUnavailableError("gone"), StoreUnavailableError("gone"), None]

    async def find(*, limit: int, after: str | None) -> list[str]:
        if answers and (error := answers.pop(0)) is not None:
            raise error
        return await pile.find(limit=limit, after=after)

    async def do(tenant: str) -> bool:
        worker.stop()
        return await pile.do(tenant)

    worker = Worker(find, do, pause=0.001, on_error=lambda *_: None)
    report = await worker.run()
    assert (report.pieces, report.failures) == (1, 2)

    async def forbidden(*, limit: int, after: str | None) -> list[str]:
        del limit, after
        raise InsufficientPrivilegeError("only a worker")

    with pytest.raises(InsufficientPrivilegeError):
        await Worker(forbidden, pile.do).run()


@pytest.mark.parametrize(("option", "value"), [("concurrency", 0), ("concurrency", 1001), ("pause", 0.0)])
def test_options_that_make_no_sense_are_refused(option: str, value: float) -> None:
    pile = Pile()

    with pytest.raises(InvalidArgumentError, match=f"^{option}"):
        Worker(pile.find, pile.do, **{option: value})  # type: ignore[arg-type]


# --- on a database ------------------------------------------------------------------------------


async def remind(store: Store, tenant: str, titles: list[str]) -> int:
    user = await store.users.create(tenant, telegram_id=1)
    half = len(titles) // 2
    for title in titles[:half]:
        await store.events.create(tenant, user.id, title, PAST, reminder_minutes=5)
    rows = [{"user_id": user.id, "content": title, "reminder_datetime": PAST} for title in titles[half:]]
    await store.notes.create_many(tenant, rows)
    return user.id


def title_of(reminder: Reminder) -> str:
    return reminder.title if isinstance(reminder, EventOccurrence) else reminder.content


async def test_many_workers_hand_out_each_reminder_once(store: Store, finder: Store, tenant: str) -> None:
    tenants = [tenant, f"{tenant[:40]}-b", f"{tenant[:40]}-c"]
    for name in tenants:
        await remind(store, name, [f"{name} {number}" for number in range(10)])
    handed: list[str] = []

    async def handle(_tx: StoreTransaction, reminder: Reminder) -> None:
        await asyncio.sleep(0)
        if reminder.tenant_id in tenants:
            handed.append(title_of(reminder))

    workers = [reminder_worker(finder.work, store, handle, concurrency=2) for _ in range(3)]
    await asyncio.gather(*(worker.run_once() for worker in workers))
    # What another worker held while it looked is done by now, or still there.
    await reminder_worker(finder.work, store, handle).run_once()

    assert sorted(handed) == sorted(f"{name} {number}" for name in tenants for number in range(10))


async def test_a_reminder_whose_handling_fails_comes_again_with_what_it_wrote_undone(
    store: Store, finder: Store, tenant: str
) -> None:
    user = await remind(store, tenant, ["event", "note"])
    failing = True

    async def handle(tx: StoreTransaction, reminder: Reminder) -> None:
        if reminder.tenant_id != tenant:
            return
        await tx.notes.create(tenant, user, f"told of {title_of(reminder)}")
        if failing:
            raise ConnectionError

    failed = await reminder_worker(finder.work, store, handle, on_error=lambda *_: None).run_once()
    assert await store.notes.count(tenant) == 1
    failing = False
    await reminder_worker(finder.work, store, handle).run_once()

    assert failed.failures == 1
    told = {note.content async for note in store.notes.iterate(tenant)}
    assert told == {"note", "told of event", "told of note"}
    entries = (await store.audit.get_all(tenant, actor="reminders")).items
    assert len(entries) == 2


async def test_inactive_conversations_are_closed_in_all_tenants(store: Store, finder: Store, tenant: str) -> None:
    user = await store.users.create(tenant, telegram_id=1)
    made = await store.conversations.create(tenant, user.id, "s")
    await store.conversations.update(tenant, made.id, last_activity=PAST)

    await inactivity_worker(finder.work, store).run_once()

    closed = await store.conversations.get_by_id(tenant, made.id)
    assert closed is not None
    assert not closed.is_active
