"""The tenant's conditions in a query: found by PostgreSQL's own parser, taken out, and judged.

They are cut out of the text where the parser saw them. (pglast's printer has a bug: of two locking clauses it makes
something that nobody can parse.)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from pglast import ast

from tests.isolation.two_locks_tree import (
    LEVELS,
    Source,
    column,
    compared,
    conjuncts,
    is_parameter,
    name_of,
    nodes,
    parsed,
    sets,
    sources,
    targets,
    tenant_parameter,
)
from thea_store.queries.file import Query
from thea_store.queries.query import TENANT

__all__ = ["Catalog", "Condition", "called", "conditions", "findings", "names", "without"]

_OPERAND = re.compile(r"\$\d+|[\w.]+")


@dataclass(frozen=True)
class Catalog:
    """What the schema `thea` has for a query."""

    relations: Mapping[str, bool]
    """Tables and views, and whether they have a tenant."""
    functions: Mapping[str, str]
    """Functions that read as their owner and take the tenant first, and how the server would make each anew."""


@dataclass(frozen=True)
class Condition:
    """Where a `tenant_id = :tenant_id` stands in a query's text."""

    start: int
    end: int


def called(query: Query[Any]) -> set[str]:
    """The functions that the statement calls, by name."""
    calls = [node for node in nodes(parsed(query)) if isinstance(node, ast.FuncCall)]
    return {".".join(part.sval for part in call.funcname or ()) for call in calls}


@cache
def conditions(query: Query[Any]) -> tuple[Condition, ...]:
    """The comparisons with the tenant."""
    return tuple(_place(query.text, node) for node in nodes(parsed(query)) if compared(node, tenant_parameter(query)))


def without(query: Query[Any], taken: Sequence[Condition]) -> str:
    """The query's text with these conditions taken out, and all of its parameters still in."""
    text = query.text
    for condition in sorted(taken, key=lambda condition: -condition.start):
        text = f"{text[: condition.start]}${tenant_parameter(query)}::text is not null{text[condition.end :]}"
    return text


@cache
def names(query: Query[Any]) -> tuple[str, ...]:
    """The names, without their schemas, of what the query reads, writes and calls."""
    return tuple(name_of(node)[-1] for node in nodes(parsed(query)) if isinstance(node, (ast.RangeVar, ast.FuncCall)))


def _place(text: str, node: Any) -> Condition:
    first, last = sorted(side.location for side in (node.lexpr, node.rexpr))
    operand = _OPERAND.match(text, last)
    assert operand is not None
    return Condition(first, operand.end())


# --- judging ------------------------------------------------------------------------------------


def findings(query: Query[Any], catalog: Catalog) -> list[str]:
    """A sentence with `file:line` for each place where the query does not say which tenant's rows it means."""
    found = (f"{query.source_at(at + 1)}: {query.name}: {what}" for at, what in _judged(query, catalog))
    return list(dict.fromkeys(found))


_Finding = tuple[Any, str]
"""A place in the text, and what is wrong there."""


def _judged(query: Query[Any], catalog: Catalog) -> Iterator[_Finding]:
    tenant = tenant_parameter(query)
    found = list(nodes(parsed(query)))
    common = {node.ctename for node in found if isinstance(node, ast.CommonTableExpr)}
    seen: list[Any] = []
    for level in found:
        if isinstance(level, LEVELS):
            of_level = list(sources(level))
            seen += [item for item, _ in of_level]
            for source in of_level:
                yield from _judged_source(source, len(of_level) == 1, tenant, catalog, common)
            yield from _judged_conditions(level, tenant)
        elif type(level).__name__.endswith("Stmt"):
            yield 0, f"a {type(level).__name__} is nothing that this check understands"
        if isinstance(level, ast.InsertStmt):
            seen.append(level.relation)
            yield from _judged_insert(level, tenant, catalog)
        if isinstance(level, (ast.UpdateStmt, ast.OnConflictClause)) and TENANT in targets(level.targetList):
            yield 0, "it moves rows to another tenant"
        if isinstance(level, ast.FuncCall) and name_of(level)[0] == "thea":
            yield from _judged_call(level, tenant, catalog)
    for node in found:
        if isinstance(node, ast.RangeVar) and not any(node is one for one in seen):
            yield node.location, f"{'.'.join(name_of(node))} stands where this check does not look"


def _judged_source(source: Source, alone: bool, tenant: int, catalog: Catalog, common: set[Any]) -> Iterator[_Finding]:
    item, qualifiers = source
    if isinstance(item, ast.RangeVar):
        name, at = name_of(item), item.location
        if len(name) == 1 and name[0] in common:
            return
        if name[0] != "thea" or not catalog.relations.get(name[-1]):
            yield at, f"{'.'.join(name)} is no table or view of the schema `thea` that has a tenant"
            return
    elif isinstance(item, ast.RangeFunction):
        calls = [node for node in nodes(item) if isinstance(node, ast.FuncCall) and name_of(node)[0] == "thea"]
        if calls and alone:
            yield calls[0].location, f"{'.'.join(name_of(calls[0]))} gives ids: join the table that has them"
        return  # which tenant it is given is judged at the call
    else:
        return  # a sub-select is a level of its own
    called = [(item.alias.aliasname,)] if item.alias else [name, name[-1:]]
    wanted = [(*prefix, TENANT) for prefix in [*called, *([()] if alone else [])]]
    own = (node for qualifier in qualifiers for node in conjuncts(qualifier))
    if not any(compared(node, tenant) in wanted for node in own):
        yield at, f"{'.'.join(name)} has no `{'.'.join([*called[-1], TENANT])} = :{TENANT}` of its own"


def _judged_conditions(level: Any, tenant: int) -> Iterator[_Finding]:
    """Another comparison with a tenant would be a lock that `without` does not take out."""
    for _, qualifiers in sources(level):
        for qualifier in qualifiers:
            inner = list(nodes(qualifier, into_selects=False))
            fine = [side for node in inner if compared(node, tenant) for side in (node.lexpr, node.rexpr)]
            for node in inner:
                if column(node)[-1:] == (TENANT,) and not any(node is one for one in fine):
                    yield node.location, f"a tenant is compared in another way than `{TENANT} = :{TENANT}`"


def _judged_insert(level: Any, tenant: int, catalog: Catalog) -> Iterator[_Finding]:
    name, at, conflict = name_of(level.relation), level.relation.location, level.onConflictClause
    if name[0] != "thea" or not catalog.relations.get(name[-1]):
        yield at, f"{'.'.join(name)} is no table of the schema `thea` that has a tenant"
    columns = targets(level.cols)
    if TENANT not in columns or not sets(level.selectStmt, columns.index(TENANT), tenant):
        yield at, f"the new rows of {'.'.join(name)} do not get `:{TENANT}` as their {TENANT}"
    if conflict and (not conflict.infer or TENANT not in targets(conflict.infer.indexElems)):
        yield at, f"`on conflict` of {'.'.join(name)} does not name {TENANT}"


def _judged_call(call: Any, tenant: int, catalog: Catalog) -> Iterator[_Finding]:
    name = ".".join(name_of(call))
    if name_of(call)[-1] not in catalog.functions:
        yield call.location, f"{name} is no function that takes the tenant first and reads as its owner"
    elif not call.args or not is_parameter(call.args[0], tenant):
        yield call.location, f"{name} does not get `:{TENANT}`"
