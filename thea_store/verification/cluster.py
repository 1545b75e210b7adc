"""Whether the nodes of a Citus cluster take the queries: each is explained, for which a coordinator asks the node.

Preparing a statement, as at open, is the coordinator's work alone: it finds neither what cannot be distributed, nor a
function or a grant that a node lacks. Explaining it runs nothing and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from thea_store.postgres.session import literal
from thea_store.postgres.url import DatabaseUrl
from thea_store.queries.file import SqlFile
from thea_store.queries.lexer import SqlText, spelling, tokenize
from thea_store.queries.query import TENANT

if TYPE_CHECKING:
    from psycopg import Connection

    from thea_store.verification.describing import Described

__all__ = ["refused_by_nodes"]

_IS_CLUSTER = "select exists (select from pg_catalog.pg_extension where extname = 'citus')"
_IS_SPREAD = "select exists (select from pg_dist_partition where logicalrelid = 'thea.users'::regclass)"

# A tenant for each node, of which there need be no row.
_TENANTS = """
select distinct on (p.groupid) t.id, n.nodename || ':' || n.nodeport
from (select 'thea-check-' || number as id from generate_series(1, 1000) number) t
join pg_dist_placement p on p.shardid = get_shard_id_for_distribution_column('thea.users', t.id)
join pg_dist_node n on n.groupid = p.groupid and n.noderole = 'primary'
order by p.groupid, t.id
"""

# Of any other type null does. It does not of these: the planner would take a statement for one that does nothing.
_SAMPLES = {"boolean": "true", "jsonb": "'[]'", "text": "'x'", "uuid": f"'{'0' * 32}'"}
_SAMPLES |= dict.fromkeys(("bigint", "integer", "smallint", "numeric", "real", "double precision"), "1")
_SAMPLES |= dict.fromkeys(("timestamp with time zone", "date"), "'2026-03-02'")


_NO_PLAN = "Could not get remote plan"


def refused_by_nodes(
    address: DatabaseUrl,
    described: Sequence[Described],
    of_groups: Mapping[str, Sequence[SqlFile]],
) -> list[str]:
    """A sentence for each query that a node refuses; empty where none does, and on a server that is no cluster.

    `described` are queries as the server described them to this login, a service's. Those `of_groups` are other
    logins'. `UnreachableError` where there is no connection. Blocks.
    """
    from thea_store.postgres.operator import connect  # noqa: PLC0415 - heavy, as in `opening`

    others = {query.name for files in of_groups.values() for file in files for query in file.claimed}
    with connect(address) as connection:
        connection.autocommit = True
        if connection.execute(_IS_CLUSTER).fetchone() != (True,):
            return []
        if connection.execute(_IS_SPREAD).fetchone() != (True,):
            return ["this database has Citus, and its tables are not spread over it: run deploy/citus/distribute.sql"]
        return [
            sentence
            for tenant, node in connection.execute(_TENANTS).fetchall()
            for one in described
            if TENANT in one.query.parameters and one.query.name not in others and one.failure is None
            for sentence in _refusal(connection, one, tenant, node)
        ]


def _refusal(connection: Connection[Any], one: Described, tenant: str, node: str) -> Iterator[str]:
    import psycopg  # noqa: PLC0415 - as above

    query = one.query
    if not query.has_plan:
        return
    place = f"{query.source}: {query.name}: the node {node} refuses it"
    try:
        # One by one: of a message with several, a coordinator would send the whole of it on with each `set`.
        connection.execute("begin")
        connection.execute(f"set local app.tenant_id = {literal(tenant)}".encode())
        plan = connection.execute(f"explain {_with_values(one, tenant)}".encode()).fetchall()
        # What a node says is told in its own log alone.
        if any(_NO_PLAN in line for (line,) in plan):
            yield f"{place}: its log says why, at this time"
    except psycopg.Error as error:
        yield f"{place}: {error.diag.message_primary}"
    finally:
        connection.execute("rollback")


def _with_values(one: Described, tenant: str) -> str:
    """The statement with constants, since a cluster does not explain every statement with parameters."""
    types = dict(zip(one.query.parameters, one.parameters, strict=True))

    def value(name: str) -> str:
        array = "'{}'" if types[name].endswith("[]") else "null"
        return f"({literal(tenant) if name == TENANT else _SAMPLES.get(types[name], array)})::{types[name]}"

    tokens = tokenize(SqlText(one.query.source.path, one.query.text), positional=True)
    return "".join(
        f"{value(one.query.parameters[int(spelling(token)[1:]) - 1])} " if token.lastgroup == "positional" else token[0]
        for token in tokens
    )
