"""Ways in which calls fail, each with marked values in all that it is given."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import psycopg

from tests.secrets import caught as secrets_caught
from tests.support.calls import Ground
from tests.support.exports import chat, said, written
from tests.support.wire import Wire
from thea_store import (
    ConflictError,
    DuplicateError,
    ExportFileError,
    InsufficientPrivilegeError,
    InvalidArgumentError,
    InvalidReferenceError,
    NotFoundError,
    OutcomeUnknownError,
    PoolTimeoutError,
    QueryTimeoutError,
    Settings,
    Store,
    StoreError,
    StoreUnavailableError,
    TenantMismatchError,
    UnsafeRoleError,
)
from thea_store.postgres.url import DatabaseUrl
from thea_store.telegram.importer import TelegramImport
from thea_store.testing import TestDatabase

Provoke = Callable[["Scene"], Awaitable[object]]

FAILURES: dict[str, tuple[type[StoreError], Provoke]] = {}
"""By name, the error that it becomes and the function that provokes it."""

# As an operator's or another team's trigger may do. The server then quotes the parameters in CONTEXT, too.
_TRIGGER = """
create function public.refusing() returns trigger language plpgsql as $$
begin
  if new.last_name = 'cast' then
    perform new.first_name::integer;
  elsif new.last_name = 'raise' then
    raise exception 'not %', new.first_name using detail = new.telegram_id, hint = new.preferences;
  end if;
  return new;
end;
$$;
create trigger refusing before insert on thea.users for each row execute function public.refusing();
alter table thea.users add constraint users_last_name_check check (last_name <> 'check');
"""


@dataclass
class Scene:
    """A database of its own, whose rows, ids, tenant and password are marked."""

    marks: secrets_caught.Marks
    database: TestDatabase
    superuser: psycopg.Connection[Any]
    store: Store
    ground: Ground
    directory: Path

    @property
    def tenant(self) -> str:
        return self.marks.tenant

    def url(self, **changes: Any) -> str:
        """The service's URL with the marked password, and with these changes."""
        return replace(DatabaseUrl.parse(self.database.app_url), password=self.marks.password, **changes).render()

    @asynccontextmanager
    async def opened(self, url: str | None = None, **settings: Any) -> AsyncIterator[Store]:
        """Another store, of one connection."""
        address = DatabaseUrl.parse(url or self.database.app_url).with_options(application_name=_OTHER)
        given: dict[str, Any] = {"url": address.render(), "pool_size": 1, "max_overflow": 0} | settings
        async with Store.open(Settings(**given)) as store:
            yield store

    @asynccontextmanager
    async def as_superuser(self) -> AsyncIterator[Store]:
        """A store whose login sees the server's DETAIL, which row security hides from others."""
        async with self.opened(self.database.superuser_url, allow_unsafe_role=True) as store:
            yield store

    @asynccontextmanager
    async def locked(self) -> AsyncIterator[None]:
        """The user is locked, so that its changes wait."""
        with psycopg.connect(self.database.superuser_url) as other:
            other.execute("select from thea.users where id = %s for update", [self.ground.live["users"]])
            yield

    async def create(self, store: Store, **fields: Any) -> object:
        new: dict[str, Any] = {"telegram_id": next(_numbers) + self.marks.first_number, "first_name": self.marks.text}
        return await store.users.create(self.tenant, preferences={self.marks.word: self.marks.text}, **new | fields)

    async def rename(self, store: Store) -> object:
        return await store.users.update(self.tenant, self.ground.live["users"], first_name=self.marks.text)

    def end_connections(self) -> None:
        """End those of the other stores."""
        self.superuser.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where datname = %s and application_name = %s",
            [self.database.name, _OTHER],
        )


_OTHER = "the other store"
_numbers = itertools.count(900)


def prepare_database(superuser: psycopg.Connection[Any], marks: secrets_caught.Marks) -> None:
    """Mark the ids, and let the server tell in its errors as much as it can."""
    superuser.execute(_TRIGGER)
    sequences = superuser.execute(
        "select format('%I.%I', schemaname, sequencename) from pg_sequences where schemaname = 'thea'"
    )
    for (name,) in sequences.fetchall():
        superuser.execute(f"alter sequence {name} restart with {marks.first_id}".encode())
    superuser.execute(f"alter database {superuser.info.dbname} set log_parameter_max_length_on_error = -1".encode())


def becomes(kind: type[StoreError]) -> Callable[[Provoke], Provoke]:
    def register(provoke: Provoke) -> Provoke:
        FAILURES[provoke.__name__] = (kind, provoke)
        return provoke

    return register


# --- the server refuses a statement -------------------------------------------------------------


@becomes(DuplicateError)
async def a_duplicate(scene: Scene) -> None:
    await scene.create(scene.store, telegram_id=scene.ground.telegram_id)


@becomes(DuplicateError)
async def a_duplicate_seen_by_a_superuser(scene: Scene) -> None:
    async with scene.as_superuser() as store:
        await scene.create(store, telegram_id=scene.ground.telegram_id)


@becomes(DuplicateError)
async def a_duplicate_in_a_transaction(scene: Scene) -> None:
    async with scene.store.transaction(scene.tenant, actor=scene.marks.text, request_id=scene.marks.text) as tx:
        await tx.users.create(scene.tenant, telegram_id=scene.ground.telegram_id, first_name=scene.marks.text)


@becomes(InvalidReferenceError)
async def no_parent(scene: Scene) -> None:
    await scene.store.notes.create(scene.tenant, scene.marks.first_number, scene.marks.text)


@becomes(InvalidReferenceError)
async def no_parent_seen_by_a_superuser(scene: Scene) -> None:
    async with scene.as_superuser() as store:
        await store.notes.create(scene.tenant, scene.marks.first_number, scene.marks.text)


@becomes(InvalidArgumentError)
async def a_check(scene: Scene) -> None:
    await scene.create(scene.store, last_name="check")


@becomes(InvalidArgumentError)
async def a_check_seen_by_a_superuser(scene: Scene) -> None:
    async with scene.as_superuser() as store:
        await scene.create(store, last_name="check")


@becomes(InvalidArgumentError)
async def a_value_that_cannot_be_cast(scene: Scene) -> None:
    await scene.create(scene.store, last_name="cast")


@becomes(StoreError)
async def a_trigger_that_tells(scene: Scene) -> None:
    await scene.create(scene.store, last_name="raise")


@becomes(NotFoundError)
async def no_row(scene: Scene) -> None:
    await scene.store.users.update(scene.tenant, scene.marks.first_number, first_name=scene.marks.text)


@becomes(InsufficientPrivilegeError)
async def a_privilege_that_is_missing(scene: Scene) -> None:
    scene.superuser.execute("revoke update (first_name) on thea.users from thea_app")
    try:
        await scene.rename(scene.store)
    finally:
        scene.superuser.execute("grant update (first_name) on thea.users to thea_app")


@becomes(StoreError)
async def a_row_that_no_record_takes(scene: Scene) -> None:
    # In a thread, because the store may be looking at the plan of a slow query, and the lock waits for that.
    await asyncio.to_thread(scene.superuser.execute, "alter table thea.users drop constraint users_preferences_check")
    try:
        scene.superuser.execute(
            "update thea.users set preferences = to_jsonb(%s::text) where id = %s",
            [scene.marks.text, scene.ground.live["users"]],
        )
        await scene.store.users.get_by_id(scene.tenant, scene.ground.live["users"])
    finally:
        scene.superuser.execute("update thea.users set preferences = '{}'")
        await asyncio.to_thread(
            scene.superuser.execute,
            "alter table thea.users add constraint users_preferences_check"
            " check (jsonb_typeof(preferences) = 'object')",
        )


# --- time, and other transactions ---------------------------------------------------------------


@becomes(QueryTimeoutError)
async def a_statement_that_takes_too_long(scene: Scene) -> None:
    async with scene.locked(), scene.opened(command_timeout=0.2) as store:
        await scene.rename(store)


@becomes(ConflictError)
async def a_serialization_failure(scene: Scene) -> None:
    async with scene.store.transaction(scene.tenant, isolation="repeatable read", actor=scene.marks.text) as tx:
        await tx.users.get_by_id(scene.tenant, scene.ground.live["users"])
        await scene.rename(scene.store)
        await tx.users.update(scene.tenant, scene.ground.live["users"], last_name=scene.marks.text)


@becomes(PoolTimeoutError)
async def no_free_connection(scene: Scene) -> None:
    async with scene.opened(pool_timeout=1) as store, store.transaction(scene.tenant):
        await scene.rename(store)


@becomes(StoreError)
async def a_failed_transaction(scene: Scene) -> None:
    async with scene.store.transaction(scene.tenant) as tx:
        try:
            await tx.users.create(scene.tenant, telegram_id=scene.ground.telegram_id)
        except DuplicateError:
            await tx.users.create(scene.tenant, telegram_id=scene.marks.first_number, first_name=scene.marks.text)


@becomes(TenantMismatchError)
async def another_tenant(scene: Scene) -> None:
    async with scene.store.transaction(scene.tenant) as tx:
        await tx.users.create(f"{scene.tenant}2", telegram_id=scene.marks.first_number)


# --- the connection ends ------------------------------------------------------------------------


@becomes(StoreUnavailableError)
async def a_connection_that_is_ended(scene: Scene) -> None:
    async with scene.opened() as store, store.transaction(scene.tenant, actor=scene.marks.text) as tx:
        await tx.users.count(scene.tenant)
        scene.end_connections()
        await tx.users.create(scene.tenant, telegram_id=scene.marks.first_number, first_name=scene.marks.text)


@becomes(OutcomeUnknownError)
async def a_connection_that_is_ended_while_it_writes(scene: Scene) -> None:
    async with scene.locked(), scene.opened() as store:
        writing = asyncio.create_task(scene.rename(store))
        waits = "select count(*) from pg_stat_activity where datname = %s and wait_event_type = 'Lock'"
        while scene.superuser.execute(waits, [scene.database.name]).fetchone() == (0,):  # noqa: ASYNC110 - the server's
            await asyncio.sleep(0.01)
        scene.end_connections()
        await writing


@becomes(StoreError)
async def a_store_that_is_closed(scene: Scene) -> None:
    async with scene.opened() as store:
        pass
    await scene.rename(store)


# --- there is no connection ---------------------------------------------------------------------


@becomes(StoreUnavailableError)
async def nobody_at_the_port(scene: Scene) -> None:
    await Store.open(scene.url(hosts=(("127.0.0.1", 1),)))


@becomes(StoreUnavailableError)
async def no_such_socket(scene: Scene) -> None:
    await Store.open(scene.url(hosts=(("/nowhere", 5432), ("/nowhere/else", 5432))))


@becomes(StoreUnavailableError)
async def no_such_database(scene: Scene) -> None:
    await Store.open(scene.url(database="thea_nowhere"))


@becomes(StoreUnavailableError)
async def no_such_login(scene: Scene) -> None:
    await Store.open(scene.url(user="thea_nobody"))


@becomes(StoreUnavailableError)
async def a_server_without_tls(scene: Scene) -> None:
    async with Wire(scene.url()).listening() as wire:  # a socket's directory needs no TLS
        await Store.open(Settings(url=wire.url, ssl_mode="require"))


@becomes(StoreUnavailableError)
async def no_such_certificate(scene: Scene) -> None:
    # Over a socket no certificate is asked for; nothing listens at that port.
    missing = {"sslmode": "verify-full", "sslrootcert": "/nowhere/ca.pem"}
    await Store.open(scene.url(hosts=(("127.0.0.1", 1),), options=missing))


@becomes(UnsafeRoleError)
async def a_superuser(scene: Scene) -> None:
    superuser = DatabaseUrl.parse(scene.database.superuser_url)
    await Store.open(superuser.render() if scene.marks.is_given else scene.url(user=superuser.user))


# --- an import ----------------------------------------------------------------------------------


@becomes(ExportFileError)
async def an_export_that_is_cut_off(scene: Scene) -> None:
    export = exported(scene)
    export.write_bytes(export.read_bytes()[:-60])
    await TelegramImport(scene.store, scene.tenant, export).run()


@becomes(ExportFileError)
async def an_export_that_is_no_json(scene: Scene) -> None:
    export = exported(scene)
    export.write_bytes(export.read_bytes().replace(b'"text"', b"text"))
    await TelegramImport(scene.store, scene.tenant, export).run()


def exported(scene: Scene) -> Path:
    """A chat of marked ids and texts."""
    number = scene.marks.first_number
    messages = [said(n, number, scene.marks.text) | {"id": number + n} for n in range(4)]
    return written(scene.directory / "result.json", chat(*messages, id_=number))
