"""What a Citus cluster refuses in a statement, read by the parser, so that no cluster is needed to find it.

Each rule was seen to be refused by Citus 13.2 on PostgreSQL 15, and `tests/citus` asks a cluster for each again. That
every table has its own `tenant_id = :tenant_id`, by which a cluster finds the node, is what `conditions_parsed` reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from thea_store.queries.file import Query
from thea_store.verification.parse_tree import Node, name_of, nodes, parsed

__all__ = ["refused_on_clusters"]

_VOLATILE = frozenset({"clock_timestamp", "gen_random_uuid", "nextval", "random", "set_config", "statement_timestamp"})
_CHANGING = _VOLATILE | {"now", "transaction_timestamp", "current_setting"}
# What is within has rules of its own.
_INNER = frozenset({"SubLink", "SelectStmt"})


def refused_on_clusters(query: Query[Any]) -> list[str]:
    """A sentence with `file:line` for each thing that a cluster would refuse; empty where there is none."""
    tree = parsed(query)
    return list(dict.fromkeys(f"{query.source}: {query.name}: {what}" for node in nodes(tree) for what in _of(node)))


def _of(node: Node) -> Iterator[str]:
    if node.kind == "UpdateStmt":
        yield from _of_update(node)
    elif node.kind == "InsertStmt":
        yield from _of_insert(node)


def _of_update(update: Node) -> Iterator[str]:
    for part in _outermost(update.get("targetList")):
        if _calls(part, _VOLATILE):
            yield "a cluster takes no volatile function in `set`: compute it in a subquery of `from`"
        if part.kind in {"CoalesceExpr", "CaseExpr"} and any(_calls(each, _CHANGING) for each in _outermost(part)):
            yield "a cluster takes no function of the clock in `coalesce` or `case`: compute it in a subquery of `from`"
        if _moves_a_column(part):
            yield (
                "a cluster takes no time of a column moved by an interval in `set`: that depends on a timezone; write "
                "`(… at time zone 'UTC' + interval '…') at time zone 'UTC'`"
            )


def _of_insert(insert: Node) -> Iterator[str]:
    select, conflict = insert.get("selectStmt"), insert.get("onConflictClause")
    if select is None:
        return
    if rows := select.get("valuesLists"):
        if any(part.kind == "SubLink" for part in nodes(rows)):
            yield "a cluster takes no subquery in `values`: write insert … select"
        return
    if not insert.get("returningList"):
        yield "a cluster copies the rows of an insert … select without `returning`, which row security refuses: add it"
    for part in nodes(select.get("fromClause")):
        if part.kind == "SelectStmt" and part.get("lockingClause"):
            yield "a cluster locks no rows in a subquery of an insert … select: lock them in a `with` before it"
        if part.kind == "RangeSubselect" and part.get("lateral") and part.get("subquery").get("limitOffset"):
            yield "a cluster takes no `offset` in a lateral subquery of an insert … select: join a `with` instead"
    changed = (conflict.get("targetList"), conflict.get("whereClause")) if conflict else ()
    if any(part.kind == "ParamRef" for part in nodes(changed)):
        yield "a cluster passes no parameter to `on conflict` of an insert … select: use `excluded.…`, or `values`"
    if any(_calls(part, _CHANGING) for part in nodes(changed)):
        yield "a cluster takes no function of the clock in `on conflict`: use `excluded.…`"


def _moves_a_column(part: Node) -> bool:
    if part.kind != "A_Expr" or [sign.get("sval") for sign in part.get("name") or ()] not in (["+"], ["-"]):
        return False
    return part.get("lexpr").kind == "ColumnRef" and _is_interval(part.get("rexpr"))


def _is_interval(part: Any) -> bool:
    if not isinstance(part, Node) or part.kind != "TypeCast":
        return False
    return [name.get("sval") for name in part.get("typeName").get("names") or ()][-1:] == ["interval"]


def _calls(part: Node, functions: frozenset[str]) -> bool:
    if part.kind == "SQLValueFunction":
        return functions is _CHANGING
    return part.kind == "FuncCall" and name_of(part)[-1] in functions


def _outermost(tree: Any) -> Iterator[Node]:
    """All nodes, without those of subqueries."""
    if isinstance(tree, tuple):
        for part in tree:
            yield from _outermost(part)
    elif isinstance(tree, Node) and tree.kind not in _INNER:
        yield tree
        for part in tree.parts.values():
            yield from _outermost(part)
