"""A migration under processes that are at work: what they prepared, and what they call meanwhile, goes on."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

import asyncpg
import asyncpg.prepared_stmt
import pytest
import pytest_asyncio

from thea_store import Settings, Store, StoreTransaction, __version__
from thea_store.admin.manifest import Manifest
from thea_store.migrator import available, migrate
from thea_store.testing import TestDatabase
from tools.manifest import known, still_served

MANIFESTS = {manifest.version: manifest for manifest in known()}
SERVED = [*still_served(MANIFESTS, __version__), __version__]

EXPANDING = """
alter table thea.users add column nickname text, add column rank bigint not null default 0;
alter table thea.conversations alter column session_id set default '';
alter table thea.events add constraint events_title_check check (char_length(title) < 1000000) not valid;
create index users_nickname_idx on thea.users (tenant_id, nickname);
create table thea.more (tenant_id text not null, id bigint not null);
"""
WIDENING = "alter table thea.message_history alter column processing_time_ms type bigint;"


@pytest.fixture
def with_next(tmp_path: Path) -> Callable[[str], Path]:
    """A directory of the shipped migrations and one more."""

    def directory(sql: str) -> Path:
        made = only((migration.id for migration in available()), tmp_path)
        (made / "9999.next.sql").write_text(sql)
        return made

    return directory


def only(ids: Iterable[str], parent: Path) -> Path:
    """A directory of these of the shipped migrations."""
    directory = parent / "migrations"
    directory.mkdir()
    paths = {migration.id: migration.path for migration in available()}
    for id_ in ids:
        shutil.copy(paths[id_], directory)
    return directory


# --- what a released version prepared -----------------------------------------------------------


async def outcome(
    connection: asyncpg.Connection[asyncpg.Record],
    statement: asyncpg.prepared_stmt.PreparedStatement[asyncpg.Record],
) -> str:
    """What a prepared statement answers, with nulls for its parameters; what it writes is rolled back."""
    values = [None] * len(statement.get_parameters())
    transaction = connection.transaction()
    await transaction.start()
    try:
        rows = await statement.fetch(*values)
    except asyncpg.PostgresError as error:
        return f"SQLSTATE {error.sqlstate}"
    else:
        return f"{len(rows)} rows"
    finally:
        await transaction.rollback()


async def unlike_after(
    database: TestDatabase, tenant: str, manifest: Manifest, directory: Path
) -> tuple[list[str], list[str]]:
    """What each statement of a manifest answers before the migrations, and those that answer otherwise after them."""
    connection = await asyncpg.connect(database.app_url)
    try:
        await connection.execute(f"set app.tenant_id = '{tenant}'")
        prepared = {name: await connection.prepare(each.text) for name, each in manifest.queries.items()}
        before = {name: await outcome(connection, each) for name, each in prepared.items()}
        assert await asyncio.to_thread(migrate, database.migrator_url, directory) != []
        after = {name: await outcome(connection, each) for name, each in prepared.items()}
    finally:
        await connection.close()
    return list(before.values()), [f"{name}: {after[name]}" for name in before if after[name] != before[name]]


@pytest.mark.parametrize("version", SERVED)
async def test_statements_that_a_released_version_prepared_answer_alike_after_an_update(
    thea_new_database: Callable[..., TestDatabase],
    tmp_path: Path,
    with_next: Callable[[str], Path],
    tenant: str,
    version: str,
) -> None:
    database, manifest = thea_new_database(migrated=False), MANIFESTS[version]
    earlier = tmp_path / "then"
    earlier.mkdir()
    migrate(database.migrator_url, only(manifest.migrations, earlier))
    before, unlike = await unlike_after(database, tenant, manifest, with_next(EXPANDING))

    assert len([answer for answer in before if answer.endswith(" rows")]) > 50
    assert unlike == []


async def test_a_column_that_changes_its_type_under_prepared_statements_is_noticed(
    thea_new_database: Callable[..., TestDatabase], with_next: Callable[[str], Path], tenant: str
) -> None:
    _, unlike = await unlike_after(thea_new_database(), tenant, MANIFESTS[__version__], with_next(WIDENING))

    assert "messages.get_by_id: SQLSTATE 0A000" in unlike


# --- a store at work ----------------------------------------------------------------------------


@pytest.fixture
def database(thea_new_database: Callable[..., TestDatabase]) -> TestDatabase:
    return thea_new_database()


@pytest_asyncio.fixture
async def at_work(database: TestDatabase) -> AsyncIterator[Store]:
    """A store over three connections on a database of its own."""
    async with Store.open(Settings(url=database.app_url, pool_size=3, max_overflow=0)) as store:
        yield store


async def use(store: Store, tenant: str, number: int) -> None:
    """A bit of everything, plain and in a transaction."""

    async def talk(tx: StoreTransaction) -> None:
        user = await tx.users.get_or_create_from_telegram(tenant, telegram_id=number, first_name="Ana")
        await tx.messages.add_message(tenant, user.id, f"s{number}", user_message="hola", processing_time_ms=1)
        assert await tx.messages.get_context_window(tenant, f"s{number}") != []

    await store.run(tenant, talk)
    user = await store.users.get_by_telegram_id(tenant, number)
    assert user is not None
    note = await store.notes.create(tenant, user.id, "Comprar pan", tags=["casa"])
    assert note in await store.notes.get_by_tags(tenant, user.id, ["casa"])
    assert (await store.notes.search(tenant, user.id, "pan"))[0].id
    assert (await store.messages.get_all(tenant)).items
    await store.users.delete(tenant, user.id)


# The migration does not end before a call waits for the table that it has changed.
MEET = """
do $$
begin
  while not exists (select from pg_locks where not granted and locktype = 'relation' and pid <> pg_backend_pid()) loop
    perform pg_sleep(0.01);
  end loop;
end $$;
"""


@pytest.mark.parametrize("change", [EXPANDING, WIDENING], ids=["expanding", "widening"])
async def test_a_store_at_work_goes_on_through_a_migration(
    database: TestDatabase, at_work: Store, with_next: Callable[[str], Path], tenant: str, change: str
) -> None:
    warm, over = asyncio.Event(), asyncio.Event()
    rounds = [0] * 6

    async def work(number: int) -> None:
        while not over.is_set():
            await use(at_work, tenant, number)
            rounds[number] += 1
            if min(rounds) > 1:
                warm.set()
        await use(at_work, tenant, number)

    async with asyncio.TaskGroup() as tasks:
        for number in range(len(rounds)):
            tasks.create_task(work(number))
        await warm.wait()
        done = await asyncio.to_thread(migrate, database.migrator_url, with_next(change + MEET))
        over.set()

    assert done == ["9999.next"]
    assert (await at_work.health()).pool.size <= 3


@pytest.mark.parametrize("read_only", [False, True], ids=["writing", "read_only"])
async def test_a_transaction_whose_statements_changed_their_types_is_run_again(
    database: TestDatabase, at_work: Store, with_next: Callable[[str], Path], tenant: str, read_only: bool
) -> None:
    user = await at_work.users.create(tenant, telegram_id=1)
    message = await at_work.messages.add_message(tenant, user.id, "s", user_message="hola", processing_time_ms=7)
    runs = 0

    async def read(tx: StoreTransaction) -> int | None:
        nonlocal runs
        runs += 1
        found = await tx.messages.get_by_id(tenant, message.id)
        return found.processing_time_ms if found else None

    await at_work.run(tenant, read, read_only=read_only)
    await asyncio.to_thread(migrate, database.migrator_url, with_next(WIDENING))

    assert await at_work.run(tenant, read, read_only=read_only) == 7
    assert runs == 3
