"""PostgreSQL's own parse of a query, as far as it concerns tenants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pglast import ast, parse_sql
from pglast.enums import A_Expr_Kind, BoolExprType, JoinType

from thea_store.queries.file import Query
from thea_store.queries.query import TENANT

LEVELS = (ast.SelectStmt, ast.InsertStmt, ast.UpdateStmt, ast.DeleteStmt)

Source = tuple[Any, Sequence[Any]]
"""What stands in a `from`, and the conditions that are AND-ed over its rows."""


def parsed(query: Query[Any]) -> Any:
    """The statement's tree."""
    (statement,) = parse_sql(query.text)
    return statement.stmt


def tenant_parameter(query: Query[Any]) -> int:
    """The number of the parameter, or one that no parameter has."""
    return query.parameters.index(TENANT) + 1 if TENANT in query.parameters else -1


def nodes(tree: Any, *, into_selects: bool = True) -> Iterator[Any]:
    """All nodes of a tree, or those that are not of an inner statement."""
    if isinstance(tree, tuple):
        for part in tree:
            yield from nodes(part, into_selects=into_selects)
    # A locking clause names aliases, not tables.
    elif isinstance(tree, ast.Node) and not isinstance(tree, (ast.LockingClause, *(() if into_selects else LEVELS))):
        yield tree
        for name in tree:
            yield from nodes(getattr(tree, name), into_selects=into_selects)


def sources(level: Any) -> Iterator[Source]:
    """What a statement reads from, and what it updates or deletes; not what its inner statements do."""
    items = getattr(level, "fromClause", None) or getattr(level, "usingClause", None) or ()
    written = (level.relation,) if isinstance(level, (ast.UpdateStmt, ast.DeleteStmt)) else ()
    for item in (*written, *items):
        yield from _joined(item, [getattr(level, "whereClause", None)])


def _joined(item: Any, qualifiers: Sequence[Any]) -> Iterator[Source]:
    if not isinstance(item, ast.JoinExpr):
        yield item, qualifiers
        return
    # An outer join keeps rows of its preserved side whatever its condition says.
    for side, bound in (
        (item.larg, (JoinType.JOIN_INNER, JoinType.JOIN_RIGHT)),
        (item.rarg, (JoinType.JOIN_INNER, JoinType.JOIN_LEFT)),
    ):
        yield from _joined(side, [*qualifiers, item.quals] if item.jointype in bound else qualifiers)


def conjuncts(qualifier: Any) -> Iterator[Any]:
    """The parts of a condition that must each be true."""
    if isinstance(qualifier, ast.BoolExpr) and qualifier.boolop == BoolExprType.AND_EXPR:
        for part in qualifier.args or ():
            yield from conjuncts(part)
    else:
        yield qualifier


def compared(node: Any, tenant: int) -> tuple[str, ...]:
    """The column's name where this is `<tenant's column> = :tenant_id`, else nothing."""
    if isinstance(node, ast.A_Expr) and node.kind == A_Expr_Kind.AEXPR_OP and _parts(node.name) == ("=",):
        for one, other in ((node.lexpr, node.rexpr), (node.rexpr, node.lexpr)):
            if column(one)[-1:] == (TENANT,) and is_parameter(other, tenant):
                return column(one)
    return ()


def column(node: Any) -> tuple[str, ...]:
    """The parts of a column's name; nothing where this is no column."""
    return _parts(node.fields) if isinstance(node, ast.ColumnRef) else ()


def is_parameter(node: Any, number: int) -> bool:
    """Whether this is `$number`."""
    return isinstance(node, ast.ParamRef) and node.number == number


def name_of(node: Any) -> tuple[str, ...]:
    """The parts of the name of a table or a function."""
    if isinstance(node, ast.FuncCall):
        return _parts(node.funcname)
    return tuple(name for name in (node.schemaname, node.relname) if name)


def _parts(name: Any) -> tuple[str, ...]:
    return tuple(getattr(part, "sval", "*") for part in name)


def targets(named: Sequence[Any] | None) -> list[str]:
    """The columns that are set, or that conflict."""
    return [target.name for target in named or ()]


def sets(select: Any, place: int, tenant: int) -> bool:
    """Whether the column at this place gets the tenant in every row."""
    if select.valuesLists:
        return all(is_parameter(row[place], tenant) for row in select.valuesLists)
    if select.larg:
        return sets(select.larg, place, tenant) and sets(select.rarg, place, tenant)
    return is_parameter(select.targetList[place].val, tenant)
