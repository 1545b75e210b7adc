"""A tenant as a whole: exported, brought in, ended, and brought back from a backup, with weak logins."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.support.twins import make_twin
from tests.tenancy.places import Place
from thea_store import (
    ArchiveError,
    InsufficientPrivilegeError,
    InvalidArgumentError,
    NotFoundError,
    Store,
    TenantEndedError,
    TenantSuspendedError,
    User,
)
from thea_store.postgres.url import DatabaseUrl
from thea_store.tenancy.archive import end_tenant, export_tenant, import_tenant, restore_tenant
from thea_store.tenancy.archive.file import Archive, batches
from thea_store.tenancy.archive.importing import _begun
from thea_store.tenancy.archive.session import connected


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tenant.zip"


async def test_a_tenant_is_in_another_database_what_it_was(
    *, store: Store, here: Place, there: Place, there_store: Store, tenant: str, file: Path
) -> None:
    twin = await make_twin(store, tenant)
    exported = export_tenant(here.mover, tenant, file)
    imported = import_tenant(there.mover, file)

    assert exported.manifest.rows["thea.notes"] == len(twin.ids["notes"])
    assert imported.ids == "kept"
    assert {name: tally.loaded for name, tally in imported.tables.items()} == exported.manifest.rows
    assert there.rows(tenant) == here.rows(tenant)
    [(actor, action, told)] = there.entries(tenant)
    assert (actor, action, told["archive"]) == ("import", "insert", exported.manifest.id)
    # New rows come after those that were brought in.
    user = await there_store.users.create(tenant, telegram_id=77)
    assert user.id > max(twin.ids["users"])
    hits = await there_store.notes.search(tenant, twin.ids["users"][0], "pan")
    assert [hit.id for hit in hits] == [hit.id for hit in await store.notes.search(tenant, twin.ids["users"][0], "pan")]


async def test_an_import_that_was_stopped_goes_on(
    store: Store, here: Place, there: Place, tenant: str, file: Path
) -> None:
    await make_twin(store, tenant)
    export_tenant(here.mover, tenant, file)

    class StoppedError(Exception):
        pass

    def stop(table: str, rows: int) -> None:  # noqa: ARG001
        if table == "thea.events":
            raise StoppedError

    with pytest.raises(StoppedError):
        import_tenant(there.mover, file, on_progress=stop)
    assert there.rows(tenant)["notes"] == []

    assert import_tenant(there.mover, file).ids == "kept"
    assert there.rows(tenant) == here.rows(tenant)
    again = import_tenant(there.mover, file)
    assert sum(tally.loaded for tally in again.tables.values()) == 0
    assert len(there.entries(tenant)) == 1


async def test_sequences_are_advanced_and_never_lowered(
    store: Store, here: Place, there: Place, tenant: str, file: Path
) -> None:
    await store.users.create(tenant, telegram_id=1)
    export_tenant(here.mover, tenant, file)
    there.superuser.execute("select setval('thea.users_id_seq', 5000000000)")
    import_tenant(there.mover, file)

    assert there.superuser.execute("select last_value from thea.users_id_seq").fetchone() == (5000000000,)


async def test_a_tenant_under_another_name_has_its_words_made_anew(
    *, store: Store, here: Place, there: Place, there_store: Store, tenant: str, other_tenant: str, file: Path
) -> None:
    twin = await make_twin(store, tenant)
    export_tenant(here.mover, tenant, file)
    import_tenant(there.mover, file, name=other_tenant)

    user = twin.ids["users"][0]
    found = [hit.id for hit in await there_store.notes.search(other_tenant, user, "pan")]
    assert found == [hit.id for hit in await store.notes.search(tenant, user, "pan")] != []
    assert there.rows(tenant)["notes"] == []


def test_what_another_version_of_postgresql_computed_is_computed_anew(there: Place, archive: Path, tenant: str) -> None:
    with Archive(archive) as opened, connected(there.mover) as connection:
        same, older = opened.manifest, replace(opened.manifest, server_version=opened.manifest.server_version - 1)

        assert _begun(connection, same, tenant)[1].given is None
        assert _begun(connection, older, tenant)[1].given == {"offsets": {}, "anew": True}


async def test_ids_are_mapped_in_a_tenant_that_has_rows(
    *, store: Store, here: Place, there: Place, there_store: Store, tenant: str, file: Path
) -> None:
    twin = await make_twin(store, tenant)
    export_tenant(here.mover, tenant, file)
    somebody = await there_store.users.create(tenant, telegram_id=4711)
    known = await there_store.users.create(tenant, telegram_id=1001, first_name="Ana from before")
    imported = import_tenant(there.mover, file)

    assert imported.ids == "mapped"
    ana, luis, _ = twin.ids["users"]
    assert imported.tables["thea.users"].matched == {ana: known.id}
    moved = await there_store.users.get_by_telegram_id(tenant, 1002)
    assert moved is not None
    assert moved.id not in {luis, somebody.id, known.id}
    for old, new in ((ana, known.id), (luis, moved.id)):
        before = [note.content async for note in store.notes.iterate(tenant, user_id=old)]
        after = [note.content async for note in there_store.notes.iterate(tenant, user_id=new)]
        assert after == before != []
        hits = [hit.content for hit in await there_store.notes.search(tenant, new, "pan")]
        assert hits == [hit.content for hit in await store.notes.search(tenant, old, "pan")]
    # What is no foreign key, and what the audit log says, speak of the new ids as well.
    dangling = there.superuser.execute(
        "select count(*) from thea.conversations c where tenant_id = %s and last_message_id is not null and not exists"
        " (select from thea.message_history m where m.tenant_id = c.tenant_id and m.id = c.last_message_id)",
        [tenant],
    ).fetchone()
    assert dangling == (0,)
    [entry] = [e for e in await there_store.audit.get_for(tenant, "users", moved.id) if e.action == "insert"]
    assert entry.after is not None
    assert (entry.after["telegram_id"], entry.after["id"]) == (1002, moved.id)
    again = import_tenant(there.mover, file)
    assert sum(tally.loaded for tally in again.tables.values()) == 0


async def test_a_service_may_neither_import_nor_end(
    *, store: Store, here: Place, there: Place, tenant: str, user: User, file: Path
) -> None:
    export_tenant(here.service, tenant, file)
    with pytest.raises(InsufficientPrivilegeError, match="thea_mover"):
        import_tenant(there.service, file)
    with pytest.raises(InsufficientPrivilegeError, match="thea_mover"):
        end_tenant(here.service, tenant, None)

    assert await store.users.exists(tenant, user.id)


# --- bad archives -------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def archive(store: Store, here: Place, tenant: str, file: Path) -> Path:
    user = await store.users.create(tenant, telegram_id=1, first_name="Secreta")
    await store.notes.create(tenant, user.id, content="Secreta")
    export_tenant(here.mover, tenant, file)
    return file


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def no_archive(path: Path) -> None:
    path.write_text("users")


def another_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as other:
        other.writestr("users.jsonl", "{}")


def _rewritten(path: Path, change: Callable[[str, bytes], bytes | None], more: dict[str, bytes] | None = None) -> None:
    with zipfile.ZipFile(path) as old:
        members = {name: old.read(name) for name in old.namelist()}
    changed = {name: change(name, text) for name, text in members.items()}
    with zipfile.ZipFile(path, "w") as new:
        for name, text in (changed | (more or {})).items():
            if text is not None:
                new.writestr(name, text)


def a_value_altered(path: Path) -> None:
    _rewritten(path, lambda _, text: text.replace(b"Secreta", b"Segreta"))


def a_row_removed(path: Path) -> None:
    _rewritten(path, lambda name, text: b"" if "notes" in name else text)


def a_table_removed(path: Path) -> None:
    _rewritten(path, lambda name, text: None if "notes" in name else text)


def a_table_added(path: Path) -> None:
    _rewritten(path, lambda _, text: text, {"099.thea.more.jsonl": b"{}\n"})


def the_tenant_altered(path: Path) -> None:
    def change(name: str, text: bytes) -> bytes:
        return json.dumps(json.loads(text) | {"tenant": "another"}).encode() if name == "manifest.json" else text

    _rewritten(path, change)


def bytes_damaged(path: Path) -> None:
    text = bytearray(path.read_bytes())
    text[120:130] = b"\0" * 10
    path.write_bytes(text)


@pytest.mark.parametrize(
    "harm",
    [
        cut_off,
        no_archive,
        another_zip,
        a_value_altered,
        a_row_removed,
        a_table_removed,
        a_table_added,
        the_tenant_altered,
        bytes_damaged,
    ],
)
def test_an_archive_that_is_not_what_was_exported_is_refused_before_a_row_is_written(
    there: Place, archive: Path, tenant: str, harm: Callable[[Path], None]
) -> None:
    harm(archive)
    with pytest.raises(ArchiveError) as refusal:
        import_tenant(there.mover, archive)

    assert "Se" not in str(refusal.value).replace(str(archive), "")
    assert there.rows(tenant)["users"] == []
    assert there.entries(tenant) == []


def test_an_archive_of_another_tenant_is_refused(there: Place, archive: Path, other_tenant: str) -> None:
    with pytest.raises(ArchiveError, match="of another tenant"):
        import_tenant(there.mover, archive, tenant_id=other_tenant)


def test_an_archive_of_another_version_is_refused(there: Place, archive: Path) -> None:
    there.superuser.execute("update _yoyo_migration set migration_id = '9999.next' where migration_id like '0009%'")
    try:
        with pytest.raises(ArchiveError, match=r"another version.*lacks 0009.note_search"):
            import_tenant(there.mover, archive)
    finally:
        there.superuser.execute(
            "update _yoyo_migration set migration_id = '0009.note_search' where migration_id = '9999.next'"
        )


def test_no_file_is_overwritten_and_none_is_left_of_a_failed_export(here: Place, archive: Path, tenant: str) -> None:
    with pytest.raises(InvalidArgumentError, match="is there already"):
        export_tenant(here.mover, tenant, archive)
    with pytest.raises(NotFoundError, match="no row of this tenant"):
        export_tenant(here.mover, "nobody", archive.with_name("other.zip"))

    assert [path.name for path in archive.parent.iterdir()] == [archive.name]


def test_nobody_else_may_read_the_archive(archive: Path) -> None:
    assert archive.stat().st_mode & 0o077 == 0


# --- the end ------------------------------------------------------------------------------------


async def test_a_tenant_that_ends_has_nothing_left_but_who_ended_it(
    store: Store, here: Place, tenant: str, other_tenant: str, file: Path
) -> None:
    await make_twin(store, tenant)
    await make_twin(store, other_tenant)
    before, theirs = here.rows(tenant), here.rows(other_tenant)
    ended = end_tenant(here.mover, tenant, file)

    # Certificates and sums are kept about a tenant, and are no part of it.
    assert ended.tables == {
        f"thea.{name}": len(rows)
        for name, rows in before.items()
        if name not in {"compliance_log", "message_counts", "message_folds"}
    }
    assert set(map(len, here.rows(tenant).values())) == {0}
    [(actor, action, told)] = here.entries(tenant)
    assert (actor, action, told["rows"]["thea.notes"]) == ("end", "purge", len(before["notes"]))
    assert here.rows(other_tenant) == theirs
    # It can be brought back.
    import_tenant(here.mover, file)
    assert here.rows(tenant) == before


async def test_an_end_that_was_stopped_goes_on(store: Store, here: Place, tenant: str, user: User) -> None:
    await store.notes.create(tenant, user.id, content="pan")

    def stop(table: str, rows: int) -> None:  # noqa: ARG001
        if table == "thea.notes":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        end_tenant(here.mover, tenant, None, on_progress=stop)
    assert await store.users.exists(tenant, user.id)

    end_tenant(here.mover, tenant, None)
    assert set(map(len, here.rows(tenant).values())) == {0}
    assert len(here.entries(tenant)) == 1


async def test_a_tenant_that_the_server_refuses_is_exported_and_ended_all_the_same(
    *, store: Store, admin: Store, here: Place, tenant: str, user: User, file: Path
) -> None:
    await admin.tenants.create(tenant)
    await admin.tenants.suspend(tenant, "unpaid")
    with pytest.raises(TenantSuspendedError):
        export_tenant(here.service, tenant, file)
    assert export_tenant(here.mover, tenant, file).manifest.rows["thea.users"] == 1

    end_tenant(here.mover, tenant, None)
    standing = await admin.tenants.get(tenant)
    assert standing is not None
    assert standing.status == "ended"
    with pytest.raises(TenantEndedError):
        await store.users.get_by_id(tenant, user.id)
    assert set(map(len, here.rows(tenant).values())) == {0}


def test_who_is_not_there_cannot_end(here: Place, tenant: str) -> None:
    with pytest.raises(NotFoundError, match="no row of this tenant"):
        end_tenant(here.mover, tenant, None)


# --- back from a backup -------------------------------------------------------------------------


@pytest_asyncio.fixture
async def lost(store: Store, here: Place, there: Place, tenant: str, file: Path) -> dict[str, list[tuple[Any, ...]]]:
    """A tenant of which the other database is the backup; what it had."""
    await make_twin(store, tenant)
    export_tenant(here.mover, tenant, file)
    import_tenant(there.mover, file)
    return here.rows(tenant, with_log=False)


async def test_what_is_lost_comes_back_as_it_was(
    store: Store, here: Place, there: Place, tenant: str, lost: dict[str, list[tuple[Any, ...]]]
) -> None:
    [gone, *_] = [user.id async for user in store.users.iterate(tenant)]
    await store.users.purge(tenant, gone)
    would = restore_tenant(here.service, there.service, tenant, dry_run=True)
    assert here.rows(tenant, with_log=False) != lost

    restored = restore_tenant(here.service, there.service, tenant)
    assert here.rows(tenant, with_log=False) == lost
    assert {name: tally.loaded for name, tally in would.tables.items()} == {
        name: tally.loaded for name, tally in restored.tables.items()
    }
    assert restored.tables["thea.users"].loaded == 1
    newest = (await store.audit.get_for(tenant, "users", gone))[-1]
    assert (newest.actor, newest.action) == ("restore", "insert")
    again = restore_tenant(here.service, there.service, tenant)
    assert sum(tally.loaded for tally in again.tables.values()) == 0


async def test_newer_rows_stay_and_are_told(
    store: Store, here: Place, there: Place, tenant: str, lost: dict[str, list[tuple[Any, ...]]]
) -> None:
    [note, *_] = [note.id async for note in store.notes.iterate(tenant)]
    await store.notes.update(tenant, note, content="written since")
    restored = restore_tenant(here.service, there.service, tenant)

    assert restored.tables["thea.notes"].differing == [note]
    assert restored.tables["thea.notes"].present == len(lost["notes"]) - 1
    changed = await store.notes.get_by_id(tenant, note)
    assert changed is not None
    assert changed.content == "written since"


async def test_who_came_back_meanwhile_gets_their_rows_under_the_new_id(
    store: Store, here: Place, there: Place, tenant: str, lost: dict[str, list[tuple[Any, ...]]]
) -> None:
    assert lost["users"]
    before = await store.users.get_by_telegram_id(tenant, 1001)
    assert before is not None
    contents = [note.content async for note in store.notes.iterate(tenant, user_id=before.id)]
    await store.users.purge(tenant, before.id)
    anew = await store.users.create(tenant, telegram_id=1001)
    restored = restore_tenant(here.service, there.service, tenant)

    assert restored.tables["thea.users"].matched == {before.id: anew.id}
    assert [note.content async for note in store.notes.iterate(tenant, user_id=anew.id)] == contents
    again = restore_tenant(here.service, there.service, tenant)
    assert sum(tally.loaded for tally in again.tables.values()) == 0


async def test_what_hangs_on_a_deleted_row_comes_back_deleted_with_it(
    *, store: Store, here: Place, there: Place, tenant: str, lost: dict[str, list[tuple[Any, ...]]]
) -> None:
    assert lost["notes"]
    user = await store.users.get_by_telegram_id(tenant, 1001)
    assert user is not None
    note, *_ = [note.id async for note in store.notes.iterate(tenant, user_id=user.id)]
    await store.notes.purge(tenant, note)
    await store.users.delete(tenant, user.id)
    assert restore_tenant(here.service, there.service, tenant).tables["thea.notes"].loaded == 1

    assert await store.notes.get_by_id(tenant, note) is None
    await store.users.restore(tenant, user.id)
    assert await store.notes.exists(tenant, note)


def test_a_tenant_that_the_backup_has_not_is_told(here: Place, there: Place, tenant: str) -> None:
    with pytest.raises(NotFoundError, match="the backup has no row of this tenant"):
        restore_tenant(here.service, there.service, tenant)


def test_a_login_that_reads_no_tenant_is_told_so_and_not_that_the_tenant_is_missing(
    here: Place, there: Place, tenant: str
) -> None:
    with pytest.raises(InsufficientPrivilegeError, match="reads no tenant's rows there"):
        restore_tenant(here.service, DatabaseUrl.parse(there.database.migrator_url), tenant)


def test_the_live_database_is_no_backup_of_itself(here: Place, tenant: str) -> None:
    with pytest.raises(InvalidArgumentError, match="is the live database itself"):
        restore_tenant(here.service, here.service, tenant, dry_run=True)


def test_a_backup_of_an_older_version_is_to_be_migrated(here: Place, there: Place, tenant: str) -> None:
    here.superuser.execute("insert into _yoyo_migration (migration_hash, migration_id) values ('next', '9999.next')")
    try:
        with pytest.raises(ArchiveError, match=r"it lacks 9999.next, which .*`thea-store migrate` on the backup's"):
            restore_tenant(here.service, there.service, tenant)
    finally:
        here.superuser.execute("delete from _yoyo_migration where migration_hash = 'next'")


def test_rows_go_in_batches_of_a_number_and_a_size() -> None:
    small, large = [b"x"] * 4_001, [b"x" * 3_000_000] * 3

    assert [len(batch) for batch in batches(small)] == [2_000, 2_000, 1]
    assert [len(batch) for batch in batches(large)] == [2, 1]
