"""A tenant as a whole is taken out of a cluster, brought in, and ended."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.citus.conftest import Cluster
from tests.citus.nodes import tenants_of_both
from thea_store import Message, Store, migrator
from thea_store.postgres.url import DatabaseUrl
from thea_store.tenancy.archive import end_tenant, export_tenant, import_tenant, move_tenant, restore_tenant

pytestmark = pytest.mark.timeout(300)

_SEQUENCE = "thea.message_history_id_seq"


@pytest.fixture
def mover(cluster: Cluster) -> DatabaseUrl:
    return DatabaseUrl.parse(cluster.url_of("thea_mover"))


@pytest.fixture
def plain(cluster: Cluster) -> Iterator[Cluster]:
    """A migrated database of the same server without Citus."""
    name = f"thea_plain_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(cluster.superuser_url, autocommit=True) as connection:
        connection.execute(f"create database {name}".encode())
        try:
            address = replace(DatabaseUrl.parse(cluster.superuser_url), database=name)
            made = Cluster(address.render(), cluster.password)
            migrator.migrate(made.superuser_url)
            yield made
        finally:
            connection.execute(f"drop database {name} with (force)".encode())


@contextmanager
def ids_of_another_cluster(cluster: Cluster) -> Iterator[None]:
    """Meanwhile each node draws ids of messages that it would only draw much later."""
    with ExitStack() as resources:
        nodes = [resources.enter_context(psycopg.connect(url, autocommit=True)) for url in _nodes(cluster)]
        values = [_number(node, f"select nextval('{_SEQUENCE}')") for node in nodes]
        for node, value in zip(nodes, values, strict=True):
            node.execute("select setval(%s, %s)", [_SEQUENCE, value + 5_000_000])
        yield
        for node, value in zip(nodes, values, strict=True):
            node.execute("select setval(%s, %s)", [_SEQUENCE, value])


def _nodes(cluster: Cluster) -> list[str]:
    with psycopg.connect(cluster.superuser_url) as connection:
        nodes = connection.execute("select nodename, nodeport from pg_dist_node").fetchall()
    return [psycopg.conninfo.make_conninfo(cluster.superuser_url, host=name, port=port) for name, port in nodes]


def _number(connection: psycopg.Connection[Any], query: str) -> int:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return int(row[0])


async def test_new_rows_come_after_those_that_were_brought_in_from_another_cluster(
    cluster: Cluster, store: Store, mover: DatabaseUrl, worker: str, tmp_path: Path
) -> None:
    for tenant in tenants_of_both(cluster, worker):
        file = tmp_path / f"{tenant}.zip"
        with ids_of_another_cluster(cluster):
            user = await store.users.create(tenant, telegram_id=1)
            first = await store.messages.add_message(tenant, user.id, "s", user_message="Hola")
            await store.messages.create_many(tenant, [_message(first)])
        by_their_ids = {message.id: message async for message in store.messages.iterate(tenant)}
        assert {id_ >> 48 > 0 for id_ in by_their_ids} == {True, False}  # of the worker, and of the coordinator

        await asyncio.to_thread(export_tenant, mover, tenant, file)
        ended = await asyncio.to_thread(end_tenant, mover, tenant, None)
        brought = await asyncio.to_thread(import_tenant, mover, file)
        again = await asyncio.to_thread(import_tenant, mover, file)
        second = await store.messages.add_message(tenant, user.id, "s", user_message="Hola")
        await store.messages.create_many(tenant, [_message(first)])

        assert ended.tables["thea.message_history"] == 2
        assert (brought.ids, brought.tables["thea.message_history"].loaded) == ("kept", 2)
        assert {name: tally.loaded for name, tally in again.tables.items()} == dict.fromkeys(again.tables, 0)
        now = {message.id: message async for message in store.messages.iterate(tenant)}
        assert now.items() >= by_their_ids.items()
        [later] = now.keys() - by_their_ids.keys() - {second.id}
        assert second.id > max(by_their_ids)
        assert min(by_their_ids) < later < 2**48


async def test_a_tenant_moves_to_a_cluster_and_from_one_and_comes_back_from_a_backup(
    cluster: Cluster, plain: Cluster, store: Store, tenant: str
) -> None:
    on_cluster, elsewhere = (
        {group: DatabaseUrl.parse(each.url_of(group)) for group in ("thea_mover", "thea_app")}
        for each in (cluster, plain)
    )
    async with Store.open(plain.settings()) as other:
        user = await other.users.create(tenant, telegram_id=1)
        note = await other.notes.create(tenant, user.id, "comprar pan")
        await asyncio.to_thread(move_tenant, elsewhere["thea_mover"], on_cluster["thea_mover"], tenant)
        assert [hit.id for hit in await store.notes.search(tenant, user.id, "pan")] == [note.id]
        await store.notes.purge(tenant, note.id)
        with psycopg.connect(plain.superuser_url) as side:
            side.execute("update thea.tenants set status = 'active', reason = null, suspended_at = null")
        restored = await asyncio.to_thread(restore_tenant, on_cluster["thea_app"], elsewhere["thea_app"], tenant)
        assert restored.tables["thea.notes"].loaded == 1
        assert await store.notes.get_by_id(tenant, note.id) is not None

        later = await store.users.create(f"{tenant}-2", telegram_id=1)
        said = await store.messages.add_message(f"{tenant}-2", later.id, "s", user_message="Hola")
        await asyncio.to_thread(move_tenant, on_cluster["thea_mover"], elsewhere["thea_mover"], f"{tenant}-2")
        assert await other.messages.get_by_id(f"{tenant}-2", said.id) == said


def _message(like: Message) -> dict[str, Any]:
    """One whose id the coordinator draws."""
    return {"user_id": like.user_id, "conversation_id": like.conversation_id, "user_message": "Hola"}
