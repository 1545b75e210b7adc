"""Texts of tenants are sealed on every node, by services and by the operator's commands."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio

from tests.citus.conftest import Cluster
from tests.citus.nodes import down, tenants_of_both
from tests.support.twins import snapshot
from thea_store import EncryptionKeyError, SearchUnavailableError, Settings, Store, StoreUnavailableError
from thea_store.assistant.message_import import NewTurn
from thea_store.database.connection import set_local
from thea_store.encryption import FileKeys
from thea_store.postgres.url import DatabaseUrl
from thea_store.tenancy.encryption import Encrypted, encrypt_tenant, end_encryption
from thea_store.tenancy.encryption_status import encrypted_tenants, encryption_of

pytestmark = pytest.mark.timeout(300)

SECRET = "quetzal"


@pytest.fixture
def keys(tmp_path: Path) -> FileKeys:
    return FileKeys(tmp_path)


@pytest.fixture
def mover(cluster: Cluster) -> DatabaseUrl:
    return DatabaseUrl.parse(cluster.url_of("thea_mover"))


@pytest_asyncio.fixture
async def vault(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Store]:
    """A store with keys."""
    settings: Settings = cluster.settings().model_copy(update={"encryption_keys": f"file:{tmp_path}"})
    async with Store.open(settings) as store:
        yield store


def shown(cluster: Cluster, tenant: str) -> str:
    """All that the database has of a tenant, as one text."""
    with psycopg.connect(cluster.superuser_url) as connection:
        return json.dumps(snapshot(connection, tenant))


async def encrypt(mover: DatabaseUrl, keys: FileKeys, tenant: str, *, rotate: bool = False) -> Encrypted:
    return await asyncio.to_thread(encrypt_tenant, mover, keys, tenant, rotate=rotate)


async def rows_of(mover: DatabaseUrl, keys: FileKeys, tenant: str) -> Mapping[str, tuple[int, int, int]]:
    """How many rows of each table are plain, sealed, and sealed by an older key."""
    known = await asyncio.to_thread(encryption_of, mover, tenant, keys)
    return {name: (rows.plain, rows.sealed, rows.of_an_older_key) for name, rows in known.tables.items()}


async def test_texts_are_sealed_on_either_node_get_a_new_key_and_are_opened_again(
    *, cluster: Cluster, vault: Store, keys: FileKeys, mover: DatabaseUrl, worker: str
) -> None:
    for tenant in tenants_of_both(cluster, worker):
        user = await vault.users.create(tenant, telegram_id=1)
        note = await vault.notes.create(tenant, user.id, f"uno {SECRET}", title=SECRET, tags=["aves"])
        await vault.messages.add_message(tenant, user.id, "s", user_message=SECRET)
        begun = await encrypt(mover, keys, tenant)
        changed = await vault.notes.update(tenant, note.id, content=f"dos {SECRET}")
        many = await vault.notes.create_many(tenant, [{"user_id": user.id, "content": SECRET} for _ in range(3)])
        said = await vault.messages.add_message(tenant, user.id, "s", user_message=SECRET, message_id=7)
        turn = NewTurn(
            conversation_id=said.conversation_id,
            message_id=8,
            user_message=SECRET,
            bot_response=SECRET,
            answer_ids=None,
            created_at=user.created_at,
        )
        imported = await vault.messages.import_many(tenant, [turn])
        answered = await vault.messages.add_message(
            tenant, user.id, "s", user_message=SECRET, message_id=7, bot_response=f"sí {SECRET}"
        )

        assert len(imported) == 1
        assert begun.tables == {"thea.message_history": 1, "thea.notes": 1}
        assert (answered.id, answered.bot_response) == (said.id, f"sí {SECRET}")
        assert (changed.title, changed.content) == (SECRET, f"dos {SECRET}")
        assert {each.id for each in await vault.notes.get_by_tags(tenant, user.id, ["aves"])} == {note.id}
        assert [each.content for each in many] == [SECRET] * 3
        with pytest.raises(SearchUnavailableError):
            await vault.notes.search(tenant, user.id, SECRET)
        assert SECRET not in shown(cluster, tenant)

        rotated = await encrypt(mover, keys, tenant, rotate=True)

        assert (rotated.version, rotated.tables) == (2, {"thea.message_history": 3, "thea.notes": 4})
        assert await rows_of(mover, keys, tenant) == {"thea.message_history": (0, 3, 0), "thea.notes": (0, 4, 0)}
        assert SECRET not in shown(cluster, tenant)

        ended = await asyncio.to_thread(end_encryption, mover, keys, tenant, patience=0)

        assert ended.tables == {"thea.message_history": 3, "thea.notes": 4}
        assert await rows_of(mover, keys, tenant) == {"thea.message_history": (3, 0, 0), "thea.notes": (4, 0, 0)}
        assert {each.tenant: each.state for each in encrypted_tenants(mover)}[tenant] == "ended"
        assert [hit.id for hit in await vault.notes.search(tenant, user.id, f"dos {SECRET}")] == [note.id]


async def test_a_plain_text_of_an_encrypted_tenant_is_refused_on_either_node(
    *, cluster: Cluster, store: Store, vault: Store, keys: FileKeys, mover: DatabaseUrl, worker: str
) -> None:
    for tenant in tenants_of_both(cluster, worker):
        user = await vault.users.create(tenant, telegram_id=1)
        await encrypt(mover, keys, tenant)

        with pytest.raises(EncryptionKeyError):
            await store.notes.create(tenant, user.id, SECRET)
        with pytest.raises(EncryptionKeyError):
            await store.messages.add_message(tenant, user.id, "s", user_message=SECRET)
        note = await vault.notes.create(tenant, user.id, SECRET)
        with psycopg.connect(cluster.url_of("thea_app")) as service:
            service.execute("; ".join(set_local(tenant_id=tenant)).encode())
            with pytest.raises(psycopg.Error) as refused:
                service.execute(
                    "update thea.notes set content = 'x' where tenant_id = %s and id = %s", [tenant, note.id]
                )

        assert refused.value.sqlstate == "TH006"
        assert await vault.notes.count(tenant) == 1


async def test_with_a_worker_down_the_tenants_of_the_other_are_sealed(
    *, cluster: Cluster, vault: Store, keys: FileKeys, mover: DatabaseUrl, worker: str
) -> None:
    lost, there = tenants_of_both(cluster, worker)
    users = {tenant: await vault.users.create(tenant, telegram_id=1) for tenant in (lost, there)}
    for tenant in (lost, there):
        await encrypt(mover, keys, tenant)
        await vault.notes.create(tenant, users[tenant].id, SECRET)

    with down(worker):
        rotated = await encrypt(mover, keys, there, rotate=True)
        await vault.notes.create(there, users[there].id, SECRET)
        with pytest.raises(StoreUnavailableError):
            await encrypt(mover, keys, lost, rotate=True)
        with pytest.raises(StoreUnavailableError):
            await vault.notes.create(lost, users[lost].id, SECRET)
    again = await encrypt(mover, keys, lost, rotate=True)

    assert (rotated.version, rotated.tables) == (2, {"thea.message_history": 0, "thea.notes": 1})
    assert (again.version, again.tables) == (2, {"thea.message_history": 0, "thea.notes": 1})
    assert SECRET not in shown(cluster, lost) + shown(cluster, there)
