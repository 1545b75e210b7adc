"""Messages are counted on the node that has their tenant, and answers from the sums are exact there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from tests.citus.conftest import Cluster
from tests.support.counting import Connection, Reader, hastened_fold, random_steps
from thea_store import Store, User
from thea_store.assistant.work import statistics_worker

pytestmark = pytest.mark.timeout(300)


def _replace_triggers(superuser: Connection, old: str, new: str) -> None:
    """Have a row be old after another time, in each shard of the messages."""
    command = (
        "do $do$ declare made text; begin for made in select pg_get_triggerdef(oid) from pg_trigger"
        " where tgrelid = '%s'::regclass and tgfoid = 'thea.leave_difference()'::regprocedure loop"
        f" execute replace(replace(made, '''{old}''', '''{new}'''), 'CREATE TRIGGER', 'CREATE OR REPLACE TRIGGER');"
        " end loop; end $do$"
    )
    done = superuser.execute(
        "select bool_and(success), count(*) > 1 from run_command_on_shards('thea.message_history', %s)", [command]
    ).fetchone()
    assert done == (True, True)


@pytest.fixture
def hasty(cluster: Cluster) -> Iterator[Cluster]:
    """The cluster, in which a row is old after some milliseconds."""
    with psycopg.connect(cluster.superuser_url, autocommit=True) as superuser:
        [(fold,)] = superuser.execute(
            "select pg_get_functiondef('thea.fold_messages_here(text)'::regprocedure)"
        ).fetchall()
        superuser.execute(hastened_fold(superuser).encode())
        _replace_triggers(superuser, "01:00:00", "00:00:00.02")
        try:
            yield cluster
        finally:
            superuser.execute(fold.encode())
            _replace_triggers(superuser, "00:00:00.02", "01:00:00")


@pytest.mark.parametrize("seed", range(3))
def test_sums_are_exact_in_every_snapshot_whoever_writes_and_counts_meanwhile(
    seed: int, hasty: Cluster, tenant: str
) -> None:
    reader = Reader(hasty.url_of("thea_app"), tenant)
    try:
        random_steps(reader, seed, hasty)
    finally:
        reader.connection.close()


async def test_a_worker_counts_the_messages_of_a_tenant_that_has_many(
    cluster: Cluster, store: Store, tenant: str, user: User
) -> None:
    conversation = await store.conversations.create(tenant, user.id, "long")
    long_ago = datetime.now(UTC) - timedelta(days=3)
    row = {"user_id": user.id, "conversation_id": conversation.id, "user_message": "Hola", "created_at": long_ago}
    await store.messages.create_many(tenant, [row] * 5000)
    async with Store.open(cluster.settings("thea_worker")) as finder:
        assert tenant in await finder.work.tenants_with_uncounted_messages(limit=1000)
        await statistics_worker(finder.work).run_once()
        assert tenant not in await finder.work.tenants_with_uncounted_messages(limit=1000)

    with psycopg.connect(cluster.superuser_url) as superuser:
        sums = superuser.execute(
            "select messages from thea.message_counts where tenant_id = %s and folded", [tenant]
        ).fetchall()
    assert sums == [(5000,)]
    await store.messages.delete_old_messages(tenant, long_ago + timedelta(seconds=1))
    assert await store.messages.count(tenant) == 0
