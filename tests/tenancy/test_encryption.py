"""Tenants whose texts the database cannot read: written, read, sealed later, moved, exported and forgotten."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from tests.support.aftermath import carries_what_its_pool_thinks, settled
from tests.support.commands import Run
from tests.support.stepping import Moment, Stepped, stepped_through, stopped
from tests.tenancy.places import Place
from thea_store import (
    ArchiveError,
    EncryptionKeyError,
    InvalidArgumentError,
    NotFoundError,
    SealedTextError,
    SearchUnavailableError,
    Settings,
    Store,
    User,
)
from thea_store.admin.doctor import examine
from thea_store.encryption import FileKeys, Keyring
from thea_store.tenancy.archive import export_tenant, import_tenant, move_tenant, restore_tenant
from thea_store.tenancy.encryption import Encrypted, encrypt_tenant, end_encryption
from thea_store.testing import TestDatabase

# What nobody may find in the database, and no other text has a part of.
SECRET = "quetzal"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("keys")


@asynccontextmanager
async def _opened(database: TestDatabase, keys: Path | None, **more: Any) -> AsyncIterator[Store]:
    setting = None if keys is None else f"file:{keys}"
    async with Store.open(Settings(url=database.app_url, encryption_keys=setting, pool_size=2, **more)) as store:
        yield store


@pytest_asyncio.fixture(scope="module")
async def vault(there: Place, keys: Path) -> AsyncIterator[Store]:
    """A store with keys, on a database where a tenant is encrypted already."""
    await encrypt(there, keys, "the-first")
    async with _opened(there.database, keys) as store:
        yield store


@pytest_asyncio.fixture(scope="module")
async def another(there: Place, keys: Path) -> AsyncIterator[Store]:
    """Another process with the same keys."""
    async with _opened(there.database, keys) as store:
        yield store


@pytest_asyncio.fixture(scope="module")
async def keyless(there: Place, vault: Store) -> AsyncIterator[Store]:  # noqa: ARG001 - it encrypts the first tenant
    """A process without keys."""
    async with _opened(there.database, None) as store:
        yield store


@pytest.fixture
def encrypted(there: Place, keys: Path, tenant: str) -> str:
    """A tenant that is encrypted before it writes."""
    encrypt_tenant(there.mover, FileKeys(keys), tenant)
    return tenant


@pytest_asyncio.fixture
async def ana(vault: Store, tenant: str) -> User:
    return await vault.users.create(tenant, telegram_id=1001, first_name="Ana")


async def encrypt(place: Place, keys: Path, tenant: str, *, rotate: bool = False) -> Encrypted:
    return await asyncio.to_thread(encrypt_tenant, place.mover, FileKeys(keys), tenant, rotate=rotate)


def shown(place: Place, tenant: str) -> str:
    """All that the database has of a tenant, as one text."""
    return json.dumps(place.rows(tenant))


# --- written and read ---------------------------------------------------------------------------


async def test_notes_are_what_they_were_and_the_database_has_no_word_of_them(
    vault: Store, there: Place, encrypted: str, ana: User
) -> None:
    notes = vault.notes
    first = await notes.create(encrypted, ana.id, f"el {SECRET}", title=f"título {SECRET}", tags=["aves"], category="c")
    plain = await notes.create(encrypted, ana.id, "", tags=["aves"])
    many = await notes.create_many(encrypted, [{"user_id": ana.id, "content": f"{SECRET} {n}"} for n in range(3)])

    assert (first.title, first.content, plain.content, plain.title) == (f"título {SECRET}", f"el {SECRET}", "", None)
    assert [note.content for note in many] == [f"{SECRET} {n}" for n in range(3)]
    assert await notes.get_by_id(encrypted, first.id) == first
    assert (await notes.get_all(encrypted, newest_first=False)).items == [first, plain, *many]
    assert [note async for note in notes.iterate(encrypted)] == [first, plain, *many]
    assert await notes.get_by_tags(encrypted, ana.id, ["aves"]) == [plain, first]
    assert await notes.get_by_category(encrypted, ana.id, "c") == [first]
    assert (await notes.add_tags(encrypted, first.id, ["otra"])).content == first.content
    assert (await notes.toggle_pin(encrypted, first.id)).title == first.title
    assert SECRET not in shown(there, encrypted)


async def test_an_update_seals_for_the_row_that_is_there(vault: Store, there: Place, encrypted: str, ana: User) -> None:
    note = await vault.notes.create(encrypted, ana.id, f"uno {SECRET}", title="título")
    changed = await vault.notes.update(encrypted, note.id, content=f"dos {SECRET}")
    emptied = await vault.notes.update(encrypted, note.id, title=None, priority=3)

    assert (changed.title, changed.content) == ("título", f"dos {SECRET}")
    assert (emptied.title, emptied.content, emptied.priority) == (None, f"dos {SECRET}", 3)
    assert await vault.notes.get_by_id(encrypted, note.id) == emptied
    with pytest.raises(NotFoundError):
        await vault.notes.update(encrypted, 10**15, content="x")
    with pytest.raises(InvalidArgumentError, match="^content: "):
        await vault.notes.update(encrypted, note.id, content=3)  # type: ignore[arg-type]
    async with vault.transaction(encrypted) as tx:
        assert (await tx.notes.update(encrypted, note.id, title=SECRET)).title == SECRET
    assert SECRET not in shown(there, encrypted)


async def test_messages_are_what_they_were_and_the_database_has_no_word_of_them(
    vault: Store, there: Place, encrypted: str, ana: User
) -> None:
    messages = vault.messages
    said = await messages.add_message(encrypted, ana.id, "s", user_message=SECRET, bot_response=f"sí {SECRET}")
    pruned = await messages.add_message_with_prune(encrypted, ana.id, "s", user_message=f"{SECRET}?", keep=5)
    made = await messages.create(encrypted, ana.id, said.conversation_id, f"{SECRET}!", bot_response=None)
    changed = await messages.update(encrypted, made.id, bot_response=SECRET)

    assert (said.user_message, said.bot_response, pruned.bot_response) == (SECRET, f"sí {SECRET}", None)
    assert (changed.user_message, changed.bot_response) == (f"{SECRET}!", SECRET)
    assert await messages.get_context_window(encrypted, "s") == [said, pruned, changed]
    assert SECRET not in shown(there, encrypted)


async def test_documents_are_sealed_with_the_texts_that_they_repeat(
    vault: Store, there: Place, encrypted: str, ana: User
) -> None:
    found: Any = {"ave": SECRET, "n": [1.5, None, {"ñ": True}]}
    said = await vault.messages.add_message(
        encrypted, ana.id, "s", user_message="x", entities_extracted=[SECRET, found]
    )
    note = await vault.notes.create(encrypted, ana.id, "x", extra_data=found)
    changed = await vault.notes.update(encrypted, note.id, extra_data={"ave": f"otro {SECRET}"})
    emptied = await vault.messages.update(encrypted, said.id, entities_extracted=None)
    exported = [row async for row in vault.people.export(encrypted, ana.id)]

    assert (said.entities_extracted, note.extra_data) == ([SECRET, found], found)
    assert (changed.content, changed.extra_data) == ("x", {"ave": f"otro {SECRET}"})
    assert (emptied.user_message, emptied.entities_extracted) == ("x", None)
    assert [row["extra_data"] for row in exported if row["table"] == "notes"] == [changed.extra_data]
    assert await vault.messages.get_context_window(encrypted, "s") == [emptied]
    assert SECRET not in shown(there, encrypted)


async def test_an_answer_that_was_missing_is_filled_in_and_a_repeated_delivery_changes_nothing(
    vault: Store, there: Place, encrypted: str, ana: User
) -> None:
    messages = vault.messages
    asked = await messages.add_message(encrypted, ana.id, "s", user_message=SECRET, message_id=7)
    answered = await messages.add_message(
        encrypted, ana.id, "s", user_message="otra", bot_response=f"a {SECRET}", message_id=7
    )
    again = await messages.add_message(encrypted, ana.id, "s", user_message="otra", bot_response="otra", message_id=7)

    assert (answered.id, answered.user_message, answered.bot_response) == (asked.id, SECRET, f"a {SECRET}")
    assert again == answered == await messages.get_by_message_id(encrypted, "s", 7)
    assert SECRET not in shown(there, encrypted)


async def test_an_import_continues_answers_that_it_cannot_compare_on_the_server(
    vault: Store, there: Place, encrypted: str, ana: User
) -> None:
    conversation = await vault.conversations.get_or_create(encrypted, ana.id, "s")
    begun = await vault.conversations.get_or_create(encrypted, ana.id, "t")

    def turn(number: int, answer: str | None, conversation_id: int = conversation.id) -> Any:
        return {
            "conversation_id": conversation_id,
            "message_id": number,
            "user_message": f"{SECRET} {number}",
            "bot_response": answer,
            "answer_ids": None if answer is None else [number + 100],
            "created_at": ana.created_at,
        }

    async def brought_in(*turns: Any) -> list[tuple[int, bool]]:
        async with vault.transaction(encrypted) as tx:
            return sorted((t.message_id, t.is_new) for t in await tx.messages.import_many(encrypted, turns))

    await vault.messages.add_message(encrypted, ana.id, "t", user_message="x", bot_response="sí", message_id=1)
    assert await brought_in(turn(1, None), turn(2, SECRET)) == [(1, True), (2, True)]
    assert await brought_in(turn(1, None), turn(2, SECRET)) == []
    # Filled in; more of it; another beginning; the numbers of what a bot stored itself.
    assert await brought_in(turn(1, "uno"), turn(2, f"{SECRET}\nmás"), turn(1, "sí", begun.id)) == [
        (1, False),
        (1, False),
        (2, False),
    ]
    assert await brought_in(turn(1, "otro"), turn(2, SECRET), turn(1, "sí", begun.id)) == []
    window = await vault.messages.get_context_window(encrypted, "s")
    assert sorted((each.user_message, each.bot_response) for each in window) == [
        (f"{SECRET} 1", "uno"),
        (f"{SECRET} 2", f"{SECRET}\nmás"),
    ]
    assert SECRET not in shown(there, encrypted)


async def test_what_is_read_in_one_document_is_opened_too(vault: Store, encrypted: str, ana: User) -> None:
    note = await vault.notes.create(encrypted, ana.id, SECRET, title="t")
    said = await vault.messages.add_message(encrypted, ana.id, "s", user_message=SECRET, bot_response="r")
    overview = await vault.users.get_with(encrypted, ana.id, notes=5, messages=5)
    exported = [row async for row in vault.people.export(encrypted, ana.id)]

    assert overview is not None
    assert (overview.notes, overview.messages) == ([note], [said])
    texts = [(row["table"], row.get("content"), row.get("user_message")) for row in exported]
    assert ("notes", SECRET, None) in texts
    assert ("message_history", None, SECRET) in texts
    assert not any("sealed" in row for row in exported)


async def test_encrypted_notes_are_not_searched(vault: Store, keyless: Store, encrypted: str, ana: User) -> None:
    await vault.notes.create(encrypted, ana.id, SECRET)

    with pytest.raises(SearchUnavailableError, match="by tags or categories"):
        await vault.notes.search(encrypted, ana.id, SECRET)
    with pytest.raises(SearchUnavailableError):
        await keyless.notes.search(encrypted, ana.id, SECRET)


async def test_other_tenants_write_search_and_read_as_ever(
    vault: Store, keyless: Store, there: Place, tenant: str, ana: User
) -> None:
    note = await vault.notes.create(tenant, ana.id, "comprar pan")
    hits = await keyless.notes.search(tenant, ana.id, "pan")
    await keyless.notes.update(tenant, note.id, content="comprar vino")

    assert [hit.id for hit in hits] == [note.id]
    assert "comprar vino" in shown(there, tenant)


# --- keys that are missing, and texts that are not what was sealed ------------------------------


async def test_a_process_without_keys_reads_and_writes_no_text(
    vault: Store, keyless: Store, encrypted: str, ana: User
) -> None:
    note = await vault.notes.create(encrypted, ana.id, SECRET)

    for call in (
        keyless.notes.get_by_id(encrypted, note.id),
        keyless.notes.create(encrypted, ana.id, "x"),
        keyless.notes.update(encrypted, note.id, content="x"),
        keyless.messages.add_message(encrypted, ana.id, "s", user_message="x"),
        keyless.users.get_with(encrypted, ana.id, notes=1),
    ):
        with pytest.raises(EncryptionKeyError, match="set DATABASE_ENCRYPTION_KEYS"):
            await call
    assert await vault.notes.count(encrypted) == 1
    assert await vault.messages.count(encrypted) == 0


async def test_a_lost_key_and_a_wrong_one_are_told(
    vault: Store, there: Place, encrypted: str, ana: User, tmp_path: Path
) -> None:
    note = await vault.notes.create(encrypted, ana.id, SECRET)

    async with _opened(there.database, tmp_path) as store:
        for sentence in ("cannot be read", "is not the one that wrapped"):
            with pytest.raises(EncryptionKeyError, match=sentence):
                await store.notes.get_by_id(encrypted, note.id)
            with pytest.raises(EncryptionKeyError, match=sentence):
                await store.notes.create(encrypted, ana.id, "x")
            await FileKeys(tmp_path).wrap(encrypted, bytes(32))  # makes a key, which is another one
    assert await vault.notes.count(encrypted) == 1


@pytest.mark.parametrize(
    "change",
    [
        # To another row, with its key or without.
        (
            "set sealed = (select o.sealed from thea.notes o where o.id = {other}) - 'row' || "
            "jsonb_build_object('row', sealed -> 'row')"
        ),
        "set sealed = sealed || jsonb_build_object('row', gen_random_uuid())",
        # To another column of the same row, or of another table's.
        "set sealed = sealed || jsonb_build_object('content', sealed -> 'title')",
        (
            "set sealed = sealed || jsonb_build_object('content', (select m.sealed -> 'user_message' from"
            " thea.message_history m where m.tenant_id = notes.tenant_id limit 1), 'row',"
            " (select m.sealed -> 'row' from thea.message_history m where m.tenant_id = notes.tenant_id limit 1))"
        ),
        # Altered, cut off, and no ciphertext at all.
        (
            "set sealed = jsonb_set(sealed, '{{content}}', to_jsonb(reverse(left(sealed ->> 'content', 4)) ||"
            " substr(sealed ->> 'content', 5)))"
        ),
        "set sealed = jsonb_set(sealed, '{{content}}', to_jsonb(overlay(sealed ->> 'content' placing 'AAAA' from 21)))",
        "set sealed = jsonb_set(sealed, '{{content}}', to_jsonb(left(sealed ->> 'content', 24)))",
        "set sealed = jsonb_set(sealed, '{{content}}', to_jsonb('ñ'::text))",
        "set sealed = jsonb_set(sealed, '{{content}}', '7')",
        "set sealed = sealed - 'row'",
    ],
)
async def test_a_text_that_was_moved_or_altered_does_not_open(
    vault: Store, there: Place, encrypted: str, ana: User, change: str
) -> None:
    note = await vault.notes.create(encrypted, ana.id, f"{SECRET} y mucho más", title="título")
    other = await vault.notes.create(encrypted, ana.id, "otra nota")
    await vault.messages.add_message(encrypted, ana.id, "s", user_message="x")
    # Past the triggers, as who owns the database may go.
    there.superuser.execute("set session_replication_role = replica")
    there.superuser.execute(f"update thea.notes {change.format(other=other.id)} where id = {note.id}".encode())
    there.superuser.execute("reset session_replication_role")

    with pytest.raises((SealedTextError, EncryptionKeyError), match="from a backup"):
        await vault.notes.get_by_id(encrypted, note.id)


async def test_a_row_of_another_tenant_does_not_open(
    vault: Store, there: Place, keys: Path, encrypted: str, ana: User
) -> None:
    other_tenant = f"{encrypted}-2"
    await encrypt(there, keys, other_tenant)
    note = await vault.notes.create(encrypted, ana.id, SECRET)
    eva = await vault.users.create(other_tenant, telegram_id=1)
    theirs = await vault.notes.create(other_tenant, eva.id, "x")
    there.superuser.execute("set session_replication_role = replica")
    there.superuser.execute(
        "update thea.notes n set sealed = o.sealed from thea.notes o where n.id = %s and o.id = %s",
        [theirs.id, note.id],
    )
    there.superuser.execute("reset session_replication_role")

    with pytest.raises(SealedTextError):
        await vault.notes.get_by_id(other_tenant, theirs.id)


async def test_free_sql_writes_no_plain_text_and_changes_no_key(
    vault: Store, there: Place, encrypted: str, ana: User
) -> None:
    note = await vault.notes.create(encrypted, ana.id, "x")
    said = await vault.messages.add_message(encrypted, ana.id, "s", user_message="x")
    with psycopg.connect(there.database.app_url, autocommit=True) as service:
        service.execute("select set_config('app.tenant_id', %s, false)", [encrypted])
        for statement in (
            f"insert into thea.notes (tenant_id, user_id, content) values ('{encrypted}', {ana.id}, 'x')",
            f"update thea.notes set content = 'x', sealed = null where id = {note.id}",
            f"update thea.notes set title = 'x' where id = {note.id}",
            f"update thea.notes set extra_data = '{{}}' where id = {note.id}",
            f"insert into thea.message_history (tenant_id, user_id, user_message) values ('{encrypted}', 1, 'x')",
            f"update thea.message_history set entities_extracted = '[]' where id = {said.id}",
            # What is sealed for one key of the row does not open for another.
            f"update thea.notes set sealed = sealed || jsonb_build_object('row', '') where id = {note.id}",
            f"update thea.notes set sealed = sealed - 'row' where id = {note.id}",
        ):
            with pytest.raises(psycopg.Error) as refused:
                service.execute(statement.encode())
            assert refused.value.sqlstate == "TH006"
        for statement in (
            f"insert into thea.encryption_keys (tenant_id, version, wrapped) values ('{encrypted}', 2, 'x')",
            "update thea.encryption_keys set deleted_at = now()",
            "delete from thea.encryption_keys",
            f"select thea.add_key('{encrypted}', 2, 'x')",
            f"select thea.seal_rows('{encrypted}', 'thea.notes', '[]')",
            f"select thea.open_rows('{encrypted}', 'thea.notes', '[]')",
            f"select thea.redact_texts('{encrypted}', 'thea.notes', 0, 1)",
            f"select thea.retire_keys('{encrypted}')",
            f"select thea.end_encryption('{encrypted}')",
            "select thea.encrypted_tenants()",
            "select thea.log_forgotten_key()",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                service.execute(statement.encode())
        service.execute("select set_config('app.tenant_id', 'another', false)")
        assert service.execute("select thea.is_encrypted(%s)", [encrypted]).fetchone() == (False,)


# --- encrypted later, and with another key ------------------------------------------------------


async def test_what_a_tenant_has_already_is_sealed_and_its_audit_entries_lose_it(
    vault: Store, there: Place, keys: Path, tenant: str, ana: User
) -> None:
    note = await vault.notes.create(tenant, ana.id, f"uno {SECRET}", title=SECRET, tags=["t"])
    note = await vault.notes.update(tenant, note.id, content=f"dos {SECRET}")
    gone = await vault.notes.create(tenant, ana.id, f"tres {SECRET}", extra_data={"x": SECRET})
    await vault.notes.purge(tenant, gone.id)
    said = await vault.messages.add_message(
        tenant, ana.id, "s", user_message=SECRET, bot_response=SECRET, entities_extracted={SECRET: 0.1}
    )
    assert SECRET in shown(there, tenant)

    sealed = await encrypt(there, keys, tenant)

    assert (sealed.version, sealed.tables) == (1, {"thea.message_history": 1, "thea.notes": 1})
    assert SECRET not in shown(there, tenant)
    assert await vault.notes.get_by_id(tenant, note.id) == note
    assert await vault.messages.get_by_id(tenant, said.id) == said
    # By tags it is still found, by words it is not in the index any more.
    assert await vault.notes.get_by_tags(tenant, ana.id, ["t"]) == [note]
    [(vector,)] = there.superuser.execute("select search_vector::text from thea.notes where id = %s", [note.id])
    assert SECRET not in str(vector)
    entries = await vault.audit.get_for(tenant, "notes", note.id)
    assert [entry.action for entry in entries] == ["insert", "update"]
    assert (await encrypt(there, keys, tenant)).tables == {"thea.message_history": 0, "thea.notes": 0}


async def test_a_process_that_takes_a_tenant_for_plain_learns_that_it_is_encrypted(
    *, vault: Store, another: Store, there: Place, keys: Path, tenant: str, ana: User
) -> None:
    note = await vault.notes.create(tenant, ana.id, "uno")
    await another.notes.create(tenant, ana.id, "dos")
    await encrypt(there, keys, tenant)
    # The one finds it out by writing, the other by reading.
    three = await vault.notes.create(tenant, ana.id, f"tres {SECRET}")
    assert await another.notes.get_by_id(tenant, note.id) == note
    assert await another.notes.get_by_id(tenant, three.id) == three

    assert SECRET not in shown(there, tenant)


async def test_a_process_that_takes_a_tenant_for_plain_changes_one_text_and_the_others_still_open(
    *, vault: Store, there: Place, keys: Path, tenant: str, ana: User
) -> None:
    note = await vault.notes.create(tenant, ana.id, f"uno {SECRET}", title="t", extra_data={"a": SECRET})
    await encrypt(there, keys, tenant)
    changed = await vault.notes.update(tenant, note.id, title=f"dos {SECRET}")

    assert (changed.title, changed.content, changed.extra_data) == (f"dos {SECRET}", note.content, note.extra_data)
    assert await vault.notes.get_by_id(tenant, note.id) == changed
    assert SECRET not in shown(there, tenant)


async def test_a_transaction_that_took_it_for_plain_is_run_again(
    vault: Store, there: Place, keys: Path, tenant: str, ana: User
) -> None:
    runs = 0
    await vault.notes.create(tenant, ana.id, "uno")

    async def work(tx: Any) -> None:
        nonlocal runs
        runs += 1
        await tx.notes.create(tenant, ana.id, f"{SECRET} {runs}")

    await encrypt(there, keys, tenant)
    await vault.run(tenant, work)

    assert runs == 2
    assert sorted([note.content async for note in vault.notes.iterate(tenant)]) == [f"{SECRET} 2", "uno"]
    assert SECRET not in shown(there, tenant)


async def test_a_new_key_seals_all_anew_while_services_work(
    vault: Store, there: Place, keys: Path, encrypted: str, ana: User
) -> None:
    notes = [await vault.notes.create(encrypted, ana.id, f"{SECRET} {n}", title=f"t{n}") for n in range(3)]
    done = asyncio.Event()

    async def write() -> int:
        written = 0
        while not done.is_set():
            await vault.notes.update(encrypted, notes[0].id, content=f"{SECRET} {written}")
            await vault.notes.create(encrypted, ana.id, f"{SECRET} nueva")
            written += 1
        return written

    writing = asyncio.create_task(write())
    rotated = await encrypt(there, keys, encrypted, rotate=True)
    done.set()
    written = await writing
    # What this process sealed with the key that it knew is taken by the next run.
    await encrypt(there, keys, encrypted)

    versions = there.superuser.execute(
        "select distinct left(e.value, 4) from thea.notes n, jsonb_each_text(n.sealed) e"
        " where n.tenant_id = %s and e.key <> 'row'",
        [encrypted],
    ).fetchall()
    assert (rotated.version, versions) == (2, [("AAAC",)])
    found = [note async for note in vault.notes.iterate(encrypted)]
    assert len(found) == 3 + written
    assert all(note.content.startswith(SECRET) for note in found)
    assert SECRET not in shown(there, encrypted)


async def test_a_tenant_without_a_key_has_none_to_replace(there: Place, keys: Path, tenant: str) -> None:
    with pytest.raises(NotFoundError, match="`thea-store encryption begin` first"):
        await encrypt(there, keys, tenant, rotate=True)


async def test_a_key_that_is_forgotten_is_gone_for_good(
    vault: Store, another: Store, keys: Path, encrypted: str, ana: User
) -> None:
    note = await vault.notes.create(encrypted, ana.id, SECRET)
    await FileKeys(keys).forget(encrypted)

    with pytest.raises(EncryptionKeyError):
        await another.notes.get_by_id(encrypted, note.id)
    # What is no text is still there, and can be removed.
    assert await another.notes.count(encrypted) == 1
    await another.notes.purge(encrypted, note.id)


# --- plain again --------------------------------------------------------------------------------


async def open_again(place: Place, keys: Path, tenant: str, patience: float = 0.0) -> Encrypted:
    return await asyncio.to_thread(end_encryption, place.mover, FileKeys(keys), tenant, patience=patience)


async def test_what_was_sealed_is_plain_again_found_by_words_and_as_it_was(
    vault: Store, there: Place, keys: Path, encrypted: str, ana: User
) -> None:
    note = await vault.notes.create(encrypted, ana.id, f"el {SECRET}", title="t", extra_data={"n": 0.5})
    said = await vault.messages.add_message(encrypted, ana.id, "s", user_message=SECRET, entities_extracted=[SECRET])
    asked = await vault.messages.add_message(encrypted, ana.id, "s", user_message="x", message_id=7)
    # A number that no float holds; past the triggers, since the library makes none.
    there.superuser.execute("set session_replication_role = replica")
    there.superuser.execute(
        "update thea.notes set sealed = null, content = 'y', extra_data = '{\"n\": 12345678901234567890.125}'"
        " where id = %s",
        [(exact := await vault.notes.create(encrypted, ana.id, "y")).id],
    )
    there.superuser.execute("reset session_replication_role")
    await encrypt(there, keys, encrypted)

    opened = await open_again(there, keys, encrypted)
    again = await open_again(there, keys, encrypted)

    assert (opened.version, opened.tables) == (1, {"thea.message_history": 2, "thea.notes": 2})
    assert again.tables == {"thea.message_history": 0, "thea.notes": 0}
    assert await vault.notes.get_by_id(encrypted, note.id) == note
    assert await vault.messages.get_by_id(encrypted, said.id) == said
    assert [hit.id for hit in await vault.notes.search(encrypted, ana.id, SECRET)] == [note.id]
    # The process that took the tenant for an encrypted one learns of it, and what it sealed meanwhile opens.
    answered = await vault.messages.add_message(
        encrypted, ana.id, "s", user_message="x", bot_response="r", message_id=7
    )
    assert (answered.id, answered.bot_response) == (asked.id, "r")
    [(number,)] = there.superuser.execute("select extra_data::text from thea.notes where id = %s", [exact.id])
    assert number == '{"n": 12345678901234567890.125}'


async def test_services_go_on_while_the_encryption_ends_and_one_that_knows_of_no_key_hides_nothing(
    *, vault: Store, there: Place, keys: Path, encrypted: str, ana: User
) -> None:
    note = await vault.notes.create(encrypted, ana.id, f"uno {SECRET}", title="t")
    asked = await vault.messages.add_message(encrypted, ana.id, "s", user_message=SECRET, message_id=1)
    with psycopg.connect(there.mover.render(), autocommit=True) as mover:
        mover.execute("select set_config('app.tenant_id', %s, false)", [encrypted])
        mover.execute("select thea.retire_keys(%s)", [encrypted])
    async with _opened(there.database, keys) as new:
        # It knows that the keys are retired, and changes rows that are sealed.
        changed = await new.notes.update(encrypted, note.id, content=f"dos {SECRET}")
        answered = await new.messages.add_message(
            encrypted, ana.id, "s", user_message="x", bot_response="r", message_id=1
        )
        added = await new.notes.create(encrypted, ana.id, f"tres {SECRET}")
        with pytest.raises(SearchUnavailableError):
            await new.notes.search(encrypted, ana.id, SECRET)
        # It takes the tenant for one that never had a key.
        new._database.keyring.doubt(encrypted)
        await new._database.keyring.of(encrypted, _none)
        other = await new.notes.update(encrypted, note.id, title="u")

        assert (changed.title, changed.content) == ("t", f"dos {SECRET}")
        assert (other.title, other.content) == ("u", f"dos {SECRET}")
        assert (answered.id, answered.user_message, answered.bot_response) == (asked.id, SECRET, "r")
        assert await vault.notes.get_by_id(encrypted, note.id) == other
        await open_again(there, keys, encrypted)
        hits = await new.notes.search(encrypted, ana.id, SECRET)

    assert {hit.id for hit in hits} == {note.id, added.id}


def files_of(keys: Path) -> set[str]:
    return {path.name for path in keys.iterdir()}


async def _none() -> list[Any]:
    return []


async def test_an_ended_encryption_begins_anew_with_another_key(
    vault: Store, there: Place, keys: Path, encrypted: str, ana: User
) -> None:
    note = await vault.notes.create(encrypted, ana.id, SECRET)
    await open_again(there, keys, encrypted)
    assert await vault.notes.get_by_id(encrypted, note.id) == note
    with pytest.raises(NotFoundError, match="is not encrypted"):
        await encrypt(there, keys, encrypted, rotate=True)
    begun = await encrypt(there, keys, encrypted)
    later = await vault.notes.create(encrypted, ana.id, f"otra {SECRET}")

    assert (begun.version, begun.tables["thea.notes"]) == (2, 1)
    assert SECRET not in shown(there, encrypted)
    assert await vault.notes.get_by_id(encrypted, later.id) == later
    assert [action for action, _ in keys_log(there, encrypted)] == ["add key", "retire key", "open texts", "add key"]
    assert [details for _, details in keys_log(there, encrypted)] == [{"version": v} for v in (1, 1, 1, 2)]


def keys_log(place: Place, tenant: str) -> list[tuple[str, Any]]:
    return place.superuser.execute(
        "select action, details from thea.activity_log where tenant = %s and kind = 'administration' order by place",
        [tenant],
    ).fetchall()


async def test_rows_are_opened_only_where_the_keys_are_retired_and_entries_redacted_only_where_there_are_keys(
    there: Place, encrypted: str, tenant: str
) -> None:
    plain = f"plain-{tenant}"
    with psycopg.connect(there.mover.render(), autocommit=True) as mover:
        for whose, statement in (
            (encrypted, "select thea.open_rows(%s, 'thea.notes', '[]')"),
            (plain, "select thea.open_rows(%s, 'thea.notes', '[]')"),
            (plain, "select thea.redact_texts(%s, 'thea.notes', 0, 1)"),
            (plain, "select thea.retire_keys(%s)"),
            (plain, "select thea.end_encryption(%s)"),
        ):
            mover.execute("select set_config('app.tenant_id', %s, false)", [whose])
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                mover.execute(statement.encode(), [whose])
            # Nor is it for another tenant than the one that is named.
            mover.execute("select set_config('app.tenant_id', 'another', false)")
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                mover.execute(statement.encode(), [whose])


async def test_a_call_that_asks_for_keys_and_is_cancelled_is_done_or_not_and_leaves_nothing(
    there: Place, keys: Path, encrypted: str, ana: User, request: pytest.FixtureRequest
) -> None:
    async with _opened(there.database, keys) as store:
        provider = Slow(keys)
        store._database.keyring = Keyring(provider)
        written = 0

        async def run(stops: dict[int, Moment]) -> Stepped:
            nonlocal written
            store._database.keyring.doubt(encrypted)
            stepped = await stopped(store.notes.create(encrypted, ana.id, SECRET), stops)
            await settled(store)
            await carries_what_its_pool_thinks(store)
            now = await store.notes.count(encrypted)
            assert now - written == 1 if not stepped.made else now - written in (0, 1)
            written = now
            return stepped

        points = await stepped_through(run)
        request.node.user_properties.append(("cancellation points", points))
        notes = [note async for note in store.notes.iterate(encrypted)]

    assert points >= provider.asked >= 4
    assert {note.content for note in notes} == {SECRET}
    assert SECRET not in shown(there, encrypted)


class Slow(FileKeys):
    """Keys that come from far away."""

    asked = 0

    async def unwrap(self, tenant_id: str, wrapped: bytes) -> bytes:
        self.asked += 1
        await asyncio.sleep(0)
        return await super().unwrap(tenant_id, wrapped)


@pytest.mark.slow
def test_the_doctor_knows_what_the_first_key_brings_and_misses_what_is_gone(there: Place, encrypted: str) -> None:
    settings = Settings(url=there.database.app_url, migrator_url=there.database.migrator_url)

    def problems() -> list[str]:
        return [finding.found for finding in examine(settings) if finding.state == "problem"]

    [(definition,)] = there.superuser.execute(
        "select pg_get_triggerdef(oid) from pg_trigger"
        " where tgname = 'refuse_plain_update' and tgrelid = 'thea.notes'::regclass"
    ).fetchall()
    assert encrypted
    assert problems() == []
    there.superuser.execute("drop trigger refuse_plain_update on thea.notes")
    try:
        assert problems() == ["thea.notes takes plain texts of encrypted tenants"]
    finally:
        there.superuser.execute(definition.encode())


# --- commands -----------------------------------------------------------------------------------


async def test_a_tenant_is_encrypted_gets_a_new_key_and_is_forgotten_by_commands(
    *, vault: Store, there: Place, keys: Path, tenant: str, ana: User, run: Run
) -> None:
    await vault.notes.create(tenant, ana.id, SECRET)
    surroundings = {"DATABASE_URL": there.mover.render(), "DATABASE_ENCRYPTION_KEYS": f"file:{keys}"}

    begun = await asyncio.to_thread(run, "encryption", "begin", tenant, **surroundings)
    rotated = await asyncio.to_thread(run, "encryption", "rotate", tenant, "--json", **surroundings)
    known = await asyncio.to_thread(run, "encryption", "status", tenant, "--json", **surroundings)
    listed = await asyncio.to_thread(run, "encryption", "status", **surroundings)
    kept = run("encryption", "forget", tenant, **surroundings)
    assert SECRET not in shown(there, tenant)
    assert await vault.notes.count(tenant) == 1
    forgotten = await asyncio.to_thread(run, "encryption", "forget", tenant, "--for-good", **surroundings)
    lost = await asyncio.to_thread(run, "encryption", "rotate", tenant, **surroundings)
    told = await asyncio.to_thread(run, "encryption", "status", tenant, **surroundings)
    without = await asyncio.to_thread(run, "encryption", "begin", tenant, DATABASE_ENCRYPTION_KEYS="")

    assert (begun.exit_code, begun.stdout.splitlines()[-1]) == (
        0,
        f"{tenant}: its texts are sealed by version 1 of its key",
    )
    assert json.loads(rotated.stdout) == {
        "tenant": tenant,
        "version": 2,
        "tables": {"thea.message_history": 0, "thea.notes": 1},
    }
    assert (kept.exit_code, forgotten.exit_code, lost.exit_code, without.exit_code) == (2, 0, 1, 2)
    assert "--for-good: is not given" in kept.stderr
    assert "the tenant's key cannot be read" in lost.stderr
    found = json.loads(known.stdout)
    assert (found["state"], found["advice"]) == ("encrypted", [])
    assert [(key["version"], key["opens"]) for key in found["keys"]] == [(1, True), (2, True)]
    assert found["tables"]["thea.notes"] == {"plain": 0, "sealed": 1, "of_an_older_key": 0}
    assert f"{tenant}\tencrypted\tversion 2 since" in listed.stdout
    assert "the provider does not open version 1, 2 of the key" in told.stderr
    assert [action for action, _ in keys_log(there, tenant)] == ["add key", "add key", "forget key"]
    assert "DATABASE_ENCRYPTION_KEYS: is not set" in without.stderr


async def test_an_encryption_is_ended_and_a_tenant_with_its_key_by_commands(
    *, vault: Store, there: Place, keys: Path, encrypted: str, ana: User, run: Run
) -> None:
    await vault.notes.create(encrypted, ana.id, SECRET)
    surroundings = {"DATABASE_URL": there.mover.render(), "DATABASE_ENCRYPTION_KEYS": f"file:{keys}"}
    await encrypt(there, keys, encrypted, rotate=True)
    await vault.notes.create(encrypted, ana.id, SECRET)  # by the older key, which this process still takes
    older = await asyncio.to_thread(run, "encryption", "status", encrypted, "--json", **surroundings)
    await open_again(there, keys, encrypted)
    there.superuser.execute(
        "update thea.encryption_keys set retired_at = now() - interval '1 hour' where tenant_id = %s", [encrypted]
    )
    ended = await asyncio.to_thread(run, "encryption", "end", encrypted, **surroundings)
    known = await asyncio.to_thread(run, "encryption", "status", encrypted, "--json", **surroundings)
    with_archive = await asyncio.to_thread(run, "end", "tenant", encrypted, "--forget-key", **surroundings)
    before = files_of(keys)
    gone = await asyncio.to_thread(run, "end", "tenant", encrypted, "--no-export", "--forget-key", **surroundings)

    found, plain = json.loads(older.stdout), json.loads(known.stdout)
    assert found["tables"]["thea.notes"] == {"plain": 0, "sealed": 1, "of_an_older_key": 1}
    assert any("encryption begin" in sentence for sentence in found["advice"])
    assert ended.stdout.splitlines()[-1] == f"{encrypted}: its texts are plain, and its notes can be searched"
    assert (plain["state"], plain["advice"]) == ("ended", [])
    assert plain["tables"]["thea.notes"] == {"plain": 2, "sealed": 0, "of_an_older_key": 0}
    assert (with_archive.exit_code, gone.exit_code) == (2, 0)
    assert len(before - files_of(keys)) == 1
    assert keys_log(there, encrypted)[-1][0] == "forget key"


# --- the tenant as a whole ----------------------------------------------------------------------


async def test_an_archive_has_the_wrapped_keys_and_no_text(
    *,
    vault: Store,
    there: Place,
    keys: Path,
    encrypted: str,
    ana: User,
    tmp_path: Path,
    thea_new_database: Callable[..., TestDatabase],
) -> None:
    note = await vault.notes.create(encrypted, ana.id, SECRET)
    export_tenant(there.mover, encrypted, tmp_path / "a.zip")
    elsewhere = thea_new_database()
    with psycopg.connect(elsewhere.superuser_url, autocommit=True) as superuser:
        place = Place(elsewhere, superuser)
        import_tenant(place.mover, tmp_path / "a.zip")
        async with _opened(elsewhere, keys) as store:
            assert await store.notes.get_by_id(encrypted, note.id) == note
            with pytest.raises(SearchUnavailableError):
                await store.notes.search(encrypted, ana.id, SECRET)
        assert SECRET not in shown(place, encrypted)

        with pytest.raises(ArchiveError, match="under its own name"):
            import_tenant(place.mover, tmp_path / "a.zip", name="otro")
        await encrypt(place, keys, "otro")


async def test_an_archive_that_other_keys_sealed_is_refused(
    vault: Store, there: Place, encrypted: str, ana: User, tmp_path: Path
) -> None:
    await vault.notes.create(encrypted, ana.id, SECRET)
    export_tenant(there.mover, encrypted, tmp_path / "a.zip")
    there.superuser.execute("delete from thea.encryption_keys where tenant_id = %s", [encrypted])
    added = there.superuser.execute(
        "insert into thea.encryption_keys (tenant_id, version, wrapped) values (%s, 1, 'x')", [encrypted]
    )

    assert added.rowcount == 1
    with pytest.raises(ArchiveError, match="sealed by another key"):
        import_tenant(there.mover, tmp_path / "a.zip")


@pytest.mark.slow
async def test_a_move_brings_the_keys_along_and_a_restore_needs_them_there(
    *, vault: Store, there: Place, keys: Path, encrypted: str, ana: User, thea_new_database: Callable[..., TestDatabase]
) -> None:
    note = await vault.notes.create(encrypted, ana.id, SECRET)
    target, empty = thea_new_database(), thea_new_database()
    with psycopg.connect(target.superuser_url) as one, psycopg.connect(empty.superuser_url) as other:
        move_tenant(there.mover, Place(target, one).mover, encrypted)
        async with _opened(target, keys) as store:
            assert await store.notes.get_by_id(encrypted, note.id) == note
            await store.notes.purge(encrypted, note.id)
            there.superuser.execute("delete from thea.tenants where id = %s", [encrypted])
            restored = restore_tenant(Place(target, one).service, there.service, encrypted)
            assert [n.content async for n in store.notes.iterate(encrypted)] == [SECRET]
        with pytest.raises(ArchiveError, match="import the archive here"):
            restore_tenant(Place(empty, other).service, there.service, encrypted)

    assert restored.tables["thea.notes"].loaded == 1
