"""What a Citus cluster refuses in a statement, read by the parser, so that no cluster is needed to find it.

Each rule was seen to be refused by Citus 13.2 on PostgreSQL 15, and `tests/citus` asks a cluster for each again. What
depends on the type of a column (`created_at::text`) is found by `thea_store.verification.cluster` alone. That every
table has its own `tenant_id = :tenant_id`, by which a cluster finds the node, is what `conditions_parsed` reads.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from thea_store.queries.file import Query
from thea_store.verification.parse_tree import Node, name_of, nodes, parsed

__all__ = ["refused_on_clusters"]

_VOLATILE = frozenset({"clock_timestamp", "gen_random_uuid", "nextval", "random", "set_config", "statement_timestamp"})
_CHANGING = _VOLATILE | {"now", "transaction_timestamp", "current_setting"}
# What they say depends on settings, as the timezone, or on casts that may.
_STABLE = frozenset(
    {
        *("age", "concat", "concat_ws", "date_part", "date_trunc", "extract", "format", "make_timestamptz"),
        *("json_build_array", "json_build_object", "jsonb_build_array", "jsonb_build_object", "row_to_json"),
        *("quote_literal", "quote_nullable", "to_char", "to_date", "to_json", "to_jsonb", "to_number"),
        *("plainto_tsquery", "phraseto_tsquery", "to_timestamp", "to_tsquery", "to_tsvector", "websearch_to_tsquery"),
    }
)
# Of these, those that do not with two arguments, or with one.
_IMMUTABLE_WITH = {
    **dict.fromkeys(("plainto_tsquery", "phraseto_tsquery", "to_tsquery", "to_tsvector", "websearch_to_tsquery"), 2),
    "to_timestamp": 1,
}
_TIMES = frozenset({"date", "time", "timetz", "timestamp", "timestamptz"})
# What is within has rules of its own.
_INNER = frozenset({"SubLink", "SelectStmt"})


def refused_on_clusters(query: Query[Any]) -> list[str]:
    """A sentence with `file:line` for each thing that a cluster would refuse; empty where there is none."""
    tree = parsed(query)
    return list(dict.fromkeys(f"{query.source}: {query.name}: {what}" for node in nodes(tree) for what in _of(node)))


def _of(node: Node) -> Iterator[str]:
    if node.kind == "UpdateStmt":
        yield from _of_expression(node.get("targetList"), "set")
    if node.kind in {"UpdateStmt", "DeleteStmt"}:
        yield from _of_expression(node.get("whereClause"), "where")
    elif node.kind == "InsertStmt":
        yield from _of_insert(node)
    elif node.kind == "MergeStmt":
        yield "a cluster takes no `merge` where row security asks for the tenant: write insert … on conflict"
    returned = node.get("returningList") if node.kind in {"UpdateStmt", "DeleteStmt", "InsertStmt"} else ()
    if any(_calls(part, _CHANGING) or _is_stable(part) for part in _outermost(returned)):
        yield "a cluster takes nothing in `returning` that depends on the clock or a setting: leave it to the caller"


def _of_expression(expression: Any, place: str) -> Iterator[str]:
    """Of what an update or a delete works out of its rows."""
    for part in _outermost(expression):
        if _calls(part, _VOLATILE):
            yield f"a cluster takes no volatile function in `{place}`: compute it in a subquery of `from`"
        if part.kind in {"CoalesceExpr", "CaseExpr"} and any(_calls(each, _CHANGING) for each in _outermost(part)):
            yield "a cluster takes no function of the clock in `coalesce` or `case`: compute it in a subquery of `from`"
        if _moves_a_column(part):
            yield (
                f"a cluster takes no time of a column moved by an interval in `{place}`: that depends on a timezone; "
                "write `(… at time zone 'UTC' + interval '…') at time zone 'UTC'`"
            )
        if _is_stable(part) and any(each.kind == "ColumnRef" for each in _outermost(part)):
            yield (
                f"a cluster takes no function of a column in `{place}` that depends on a setting, as the timezone: "
                "compute it in a subquery of `from`, or of the column `at time zone 'UTC'`"
            )


def _of_insert(insert: Node) -> Iterator[str]:
    select, conflict = insert.get("selectStmt"), insert.get("onConflictClause")
    changed = (conflict.get("targetList"), conflict.get("whereClause")) if conflict else ()
    yield from _of_conflict(changed)
    if select is None:
        return
    if rows := select.get("valuesLists"):
        if any(part.kind == "SubLink" for part in nodes(rows)):
            yield "a cluster takes no subquery in `values`: write insert … select"
        return
    if any(part.kind == "ParamRef" for part in nodes(changed)):
        yield "a cluster passes no parameter to `on conflict` of an insert … select: use `excluded.…`, or `values`"
    if not insert.get("returningList"):
        yield "a cluster copies the rows of an insert … select without `returning`, which row security refuses: add it"
    for part in nodes(select.get("fromClause")):
        if part.kind == "SelectStmt" and part.get("lockingClause"):
            yield "a cluster locks no rows in a subquery of an insert … select: lock them in a `with` before it"
        if part.kind == "RangeSubselect" and part.get("lateral") and part.get("subquery").get("limitOffset"):
            yield "a cluster takes no `offset` in a lateral subquery of an insert … select: join a `with` instead"


def _of_conflict(changed: Any) -> Iterator[str]:
    outermost = list(_outermost(changed))
    if any(_calls(part, _CHANGING) for part in outermost):
        yield "a cluster takes no function of the clock in `on conflict`: use `excluded.…`"
    if any(_is_stable(part) or _moves_a_column(part) for part in outermost):
        yield "a cluster takes nothing in `on conflict` that depends on a setting: work it out before, use `excluded.…`"
    if any(part.kind == "SubLink" for part in nodes(changed)):
        yield "a cluster takes no subquery in `on conflict`, where row security asks for the tenant: use `excluded.…`"


def _is_stable(part: Node) -> bool:
    """Whether it depends on a setting, as far as its text tells: the types of columns are not known here."""
    if part.kind == "TypeCast":
        names = {name.get("sval") for name in part.get("typeName").get("names") or ()}
        return not names.isdisjoint(_TIMES) and not _is_in_zone(part.get("arg"))
    if part.kind != "FuncCall" or (name := name_of(part)[-1]) not in _STABLE:
        return False
    arguments: tuple[Any, ...] = part.get("args") or ()
    if _IMMUTABLE_WITH.get(name) == len(arguments):
        return False
    if name in {"date_part", "date_trunc", "extract"}:
        return not (_is_in_zone(arguments[-1]) or _is_difference(arguments[-1]))
    return True


def _is_in_zone(part: Any) -> bool:
    """Whether it is `… at time zone …`, which leaves nothing to the session's."""
    return isinstance(part, Node) and part.kind == "FuncCall" and name_of(part)[-1] == "timezone"


def _is_difference(part: Any) -> bool:
    """Whether it is one time less another, which is a span of time."""
    return _is_signed(part, "-") and not _is_interval(part.get("rexpr"))


def _is_signed(part: Any, *signs: str) -> bool:
    if not isinstance(part, Node) or part.kind != "A_Expr":
        return False
    return [sign.get("sval") for sign in part.get("name") or ()] in [[sign] for sign in signs]


def _moves_a_column(part: Node) -> bool:
    if not _is_signed(part, "+", "-") or not isinstance(part.get("lexpr"), Node):
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
