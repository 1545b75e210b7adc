"""Which node has a tenant, and a node that is lost for a while."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import psycopg.sql

from tests.citus.conftest import Cluster

__all__ = ["down", "tenants_of_both"]


def tenants_of_both(cluster: Cluster, worker: str) -> tuple[str, str]:
    """A tenant that this worker has, and one that the other has."""
    port = psycopg.conninfo.conninfo_to_dict(worker)["port"]
    with psycopg.connect(cluster.superuser_url) as connection:
        found = connection.execute(
            "select max(t.id) filter (where n.nodeport = %(port)s), max(t.id) filter (where n.nodeport <> %(port)s)"
            " from (select %(prefix)s || number as id from generate_series(1, 100) number) t"
            " join pg_dist_placement p on p.shardid = get_shard_id_for_distribution_column('thea.users', t.id)"
            " join pg_dist_node n on n.groupid = p.groupid and n.noderole = 'primary'",
            {"port": int(str(port)), "prefix": f"down-{uuid.uuid4().hex[:8]}-"},
        ).fetchone()
    assert found is not None
    return found


@contextmanager
def down(worker: str) -> Iterator[None]:
    """The worker is as good as dead for its database: it ends all connections, and takes no new one."""
    database = psycopg.conninfo.conninfo_to_dict(worker)["dbname"]
    with psycopg.connect(psycopg.conninfo.make_conninfo(worker, dbname="postgres"), autocommit=True) as node:
        named = psycopg.sql.Identifier(str(database))
        node.execute(psycopg.sql.SQL("alter database {} allow_connections false").format(named))
        try:
            node.execute("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s", [database])
            yield
        finally:
            node.execute(psycopg.sql.SQL("alter database {} allow_connections true").format(named))
