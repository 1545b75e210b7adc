"""PostgreSQL's own parse of a query (libpg_query, by pgparse), as far as it concerns tenants."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

from thea_store.errors import StoreError
from thea_store.queries.file import Query
from thea_store.queries.query import TENANT

__all__ = [
    "LEVELS",
    "Node",
    "Source",
    "column",
    "compared",
    "conjuncts",
    "is_available",
    "is_parameter",
    "name_of",
    "nodes",
    "parsed",
    "sets",
    "sources",
    "targets",
    "tenant_parameter",
    "tree_of",
]

LEVELS = frozenset({"SelectStmt", "InsertStmt", "UpdateStmt", "DeleteStmt"})

# Where the parser leaves a node's kind out, because the place has only one.
_KINDS = {"relation": "RangeVar", "alias": "Alias", "onConflictClause": "OnConflictClause", "infer": "InferClause"}
_OF_SELECT = {"larg": "SelectStmt", "rarg": "SelectStmt"}

# An outer join keeps the rows of its preserved side, whatever its condition says.
_BINDS_LEFT, _BINDS_RIGHT = {"JOIN_INNER", "JOIN_RIGHT"}, {"JOIN_INNER", "JOIN_LEFT"}


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """A part of a statement: its kind as the parser calls it, and its parts by name."""

    kind: str
    parts: dict[str, Any]

    def get(self, name: str) -> Any:
        """A part, or `None`."""
        return self.parts.get(name)

    @property
    def location(self) -> int:
        """Where it begins in the text, in bytes."""
        return int(self.parts.get("location", 0))


Source = tuple[Any, Sequence[Any]]
"""What stands in a `from`, and the conditions that are AND-ed over its rows."""


def is_available() -> bool:
    """Whether the parser is installed, which is an extra."""
    return find_spec("pgparse") is not None


def parsed(query: Query[Any]) -> Node:
    """The statement's tree."""
    return tree_of(query.text)


@lru_cache(maxsize=2048)
def tree_of(text: str) -> Node:
    """The tree of a statement."""
    try:
        import pgparse  # noqa: PLC0415 - an extra
    except ImportError:
        raise StoreError("to prove needs the extra: pip install 'thea-store[prove]'") from None
    try:
        (statement,) = pgparse.parse(text)
    except pgparse.PGQueryError as error:
        raise StoreError(f"this is no statement that PostgreSQL can read: {error}: {text}") from None
    tree = _node(statement["stmt"], "", "")
    assert isinstance(tree, Node)  # noqa: S101 - a statement is one
    return tree


def _node(value: Any, field: str, within: str) -> Any:
    if isinstance(value, list):
        return tuple(_node(one, field, within) for one in value)
    if not isinstance(value, dict):
        return value
    kind = next(iter(value), "")
    if len(value) == 1 and kind[:1].isupper():
        value = value[kind]
    else:
        kind = (_OF_SELECT if within == "SelectStmt" else {}).get(field) or _KINDS.get(field, field)
    return Node(kind, {name: _node(part, name, kind) for name, part in value.items()})


def tenant_parameter(query: Query[Any]) -> int:
    """The number of the tenant's parameter, or one that no parameter has."""
    return query.parameters.index(TENANT) + 1 if TENANT in query.parameters else -1


def nodes(tree: Any, *, into_selects: bool = True) -> Iterator[Node]:
    """All nodes of a tree, or those that are not of an inner statement."""
    if isinstance(tree, tuple):
        for part in tree:
            yield from nodes(part, into_selects=into_selects)
    # A locking clause names aliases, not tables.
    elif isinstance(tree, Node) and tree.kind != "LockingClause" and (into_selects or tree.kind not in LEVELS):
        yield tree
        for part in tree.parts.values():
            yield from nodes(part, into_selects=into_selects)


def sources(level: Node) -> Iterator[Source]:
    """What a statement reads from, and what it updates or deletes; not what its inner statements do."""
    items = level.get("fromClause") or level.get("usingClause") or ()
    written = (level.get("relation"),) if level.kind in {"UpdateStmt", "DeleteStmt"} else ()
    for item in (*written, *items):
        yield from _joined(item, [level.get("whereClause")])


def _joined(item: Node, qualifiers: Sequence[Any]) -> Iterator[Source]:
    if item.kind != "JoinExpr":
        yield item, qualifiers
        return
    for side, bound in (("larg", _BINDS_LEFT), ("rarg", _BINDS_RIGHT)):
        held = [*qualifiers, item.get("quals")] if item.get("jointype") in bound else qualifiers
        yield from _joined(item.get(side), held)


def conjuncts(qualifier: Any) -> Iterator[Any]:
    """The parts of a condition that must each be true."""
    if isinstance(qualifier, Node) and qualifier.kind == "BoolExpr" and qualifier.get("boolop") == "AND_EXPR":
        for part in qualifier.get("args") or ():
            yield from conjuncts(part)
    else:
        yield qualifier


def compared(node: Any, tenant: int) -> tuple[str, ...]:
    """The column's name where this is `<tenant's column> = :tenant_id`, else nothing."""
    if not isinstance(node, Node) or (node.kind, node.get("kind")) != ("A_Expr", "AEXPR_OP"):
        return ()
    if _words(node.get("name")) == ("=",):
        for one, other in (("lexpr", "rexpr"), ("rexpr", "lexpr")):
            if column(node.get(one))[-1:] == (TENANT,) and is_parameter(node.get(other), tenant):
                return column(node.get(one))
    return ()


def column(node: Any) -> tuple[str, ...]:
    """The parts of a column's name; nothing where this is no column."""
    return _words(node.get("fields")) if isinstance(node, Node) and node.kind == "ColumnRef" else ()


def is_parameter(node: Any, number: int) -> bool:
    """Whether this is `$number`."""
    return isinstance(node, Node) and node.kind == "ParamRef" and node.get("number") == number


def name_of(node: Node) -> tuple[str, ...]:
    """The parts of the name of a table or a function."""
    if node.kind == "FuncCall":
        return _words(node.get("funcname"))
    return tuple(name for name in (node.get("schemaname"), node.get("relname")) if name)


def _words(name: Any) -> tuple[str, ...]:
    return tuple(str(part.get("sval") or "*") for part in name or ())


def targets(named: Sequence[Node] | None) -> list[str]:
    """The columns that are set, or that conflict."""
    return [str(target.get("name")) for target in named or ()]


def sets(select: Node | None, place: int, tenant: int) -> bool:
    """Whether the column at this place gets the tenant in every row."""
    if select is None:
        return False
    if rows := select.get("valuesLists"):
        return all(is_parameter(row.get("items")[place], tenant) for row in rows)
    if select.get("larg"):
        return sets(select.get("larg"), place, tenant) and sets(select.get("rarg"), place, tenant)
    return is_parameter(select.get("targetList")[place].get("val"), tenant)
