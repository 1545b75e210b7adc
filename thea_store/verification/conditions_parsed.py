"""The tenant's conditions in a query: found by PostgreSQL's own parser, taken out, and judged."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from thea_store.queries.file import Query
from thea_store.queries.query import TENANT
from thea_store.verification.parse_tree import (
    LEVELS,
    Node,
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
    tree_of,
)

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["Catalog", "Condition", "called", "catalog_of", "conditions", "findings", "names", "without"]

# Functions of the library that read the server's catalogs, or what operators say of the session's tenant, and no row.
_OF_THE_CATALOG = frozenset(
    {"thea.limits_of_calls_of", "thea.other_user_ids", "thea.person_tables", "thea.tenant_keeps"}
)

_OPERAND = re.compile(r"\$\d+|[\w.]+")


@dataclass(frozen=True)
class Catalog:
    """What the schemas have for a query; all names are full ones, `thea.notes`."""

    tables: AbstractSet[str]
    """Tables and views that have a tenant."""
    shared: AbstractSet[str]
    """Tables that all tenants share, by the extension's own word."""
    functions: Mapping[str, str]
    """Functions that read as their owner and take the tenant first, and how the server would make each anew."""
    invokers: Mapping[str, str]
    """The same of functions that have the rights of their caller and take the tenant first."""
    readers: AbstractSet[str]
    """Of these, those that only read."""
    writers: AbstractSet[str]
    """Of the functions that read as their owner, those that also write, and give a report of it."""
    schemas: AbstractSet[str]
    """The library's, and the extensions'."""


@dataclass(frozen=True)
class Condition:
    """Where a `tenant_id = :tenant_id` stands in a query's text."""

    start: int
    end: int


_RELATIONS = """
select c.oid::regclass::text
from pg_catalog.pg_class c
join pg_catalog.pg_namespace n on n.oid = c.relnamespace
where n.nspname = any(%s) and c.relkind in ('r', 'p', 'v', 'm', 'f')
  and exists (select from pg_catalog.pg_attribute where attrelid = c.oid and attname = 'tenant_id')
"""
_FUNCTIONS = """
select n.nspname || '.' || p.proname, pg_catalog.pg_get_functiondef(p.oid), p.prosecdef, p.provolatile = 'v'
from pg_catalog.pg_proc p
join pg_catalog.pg_namespace n on n.oid = p.pronamespace
where n.nspname = any(%s) and p.proargnames[1] = 'p_tenant'
"""


def catalog_of(connection: Connection[Any], schemas: Sequence[str], shared_tables: Sequence[str] = ()) -> Catalog:
    """What these schemas have for a query."""
    relations = connection.execute(_RELATIONS, [list(schemas)]).fetchall()
    functions = connection.execute(_FUNCTIONS, [list(schemas)]).fetchall()
    return Catalog(
        tables=frozenset(name for (name,) in relations),
        shared=frozenset(shared_tables),
        functions={name: text for name, text, as_owner, _ in functions if as_owner},
        invokers={name: text for name, text, as_owner, _ in functions if not as_owner},
        readers=frozenset(name for name, _, as_owner, writes in functions if not as_owner and not writes),
        writers=frozenset(name for name, _, as_owner, writes in functions if as_owner and writes),
        schemas=frozenset(schemas),
    )


_SETTINGS = frozenset({"set_config"})
# They run a statement that is a text, or read what a text names.
_READ_MORE = frozenset(
    {
        *(f"{what}_to_xml{more}" for what in ("query", "table", "cursor") for more in ("", "schema")),
        *(f"{what}_to_xml_and_xmlschema" for what in ("query", "table", "schema", "database")),
        *(f"{what}_to_xml{more}" for what in ("schema", "database") for more in ("", "schema")),
        *("ts_stat", "dblink", "dblink_exec", "dblink_open", "dblink_fetch"),
    }
)


def called(query: Query[Any]) -> set[str]:
    """The functions that the statement calls, by name."""
    return {".".join(name_of(node)) for node in nodes(parsed(query)) if node.kind == "FuncCall"}


def conditions(query: Query[Any]) -> tuple[Condition, ...]:
    """The comparisons with the tenant."""
    return _conditions(query.text, tenant_parameter(query))


@lru_cache(maxsize=2048)
def _conditions(text: str, tenant: int) -> tuple[Condition, ...]:
    return tuple(_place(text, node) for node in nodes(tree_of(text)) if compared(node, tenant))


def without(query: Query[Any], taken: Sequence[Condition]) -> str:
    """The query's text with these conditions taken out, and all of its parameters still in."""
    text = query.text
    for condition in sorted(taken, key=lambda condition: -condition.start):
        text = f"{text[: condition.start]}${tenant_parameter(query)}::text is not null{text[condition.end :]}"
    return text


def names(query: Query[Any]) -> tuple[str, ...]:
    """The names of what the query reads, writes and calls."""
    return _names(query.text)


@lru_cache(maxsize=2048)
def _names(text: str) -> tuple[str, ...]:
    return tuple(".".join(name_of(node)) for node in nodes(tree_of(text)) if node.kind in {"RangeVar", "FuncCall"})


def _place(text: str, node: Node) -> Condition:
    first, last = sorted(_characters(text, node.get(side).location) for side in ("lexpr", "rexpr"))
    operand = _OPERAND.match(text, last)
    assert operand is not None, text  # noqa: S101 - the parser saw one there
    return Condition(first, operand.end())


def _characters(text: str, location: int) -> int:
    """The parser counts bytes."""
    return len(text.encode()[:location].decode(errors="ignore"))


# --- judging ------------------------------------------------------------------------------------


def findings(query: Query[Any], catalog: Catalog) -> list[str]:
    """A sentence with `file:line` for each place where the query does not say which tenant's rows it means."""
    found = (
        f"{query.source_at(_characters(query.text, at) + 1)}: {query.name}: {what}"
        for at, what in _judged(query, catalog)
    )
    return list(dict.fromkeys(found))


_Finding = tuple[int, str]
"""A place in the text, and what is wrong there."""


def _forgets_plans(level: Node) -> bool:
    """Whether it is `discard plans`, which has to do with no rows; `discard all` ends the session's tenant, too."""
    return level.kind == "DiscardStmt" and level.get("target") == "DISCARD_PLANS"


def _judged(query: Query[Any], catalog: Catalog) -> Iterator[_Finding]:
    tenant = tenant_parameter(query)
    found = list(nodes(parsed(query)))
    common = {node.get("ctename") for node in found if node.kind == "CommonTableExpr"}
    seen: list[Any] = []
    for level in found:
        if level.kind in LEVELS:
            of_level = list(sources(level))
            seen += [item for item, _ in of_level]
            for source in of_level:
                yield from _judged_source(
                    source, alone=len(of_level) == 1, tenant=tenant, catalog=catalog, common=common
                )
            yield from _judged_conditions(level, tenant)
        elif level.kind.endswith("Stmt") and not _forgets_plans(level):
            yield 0, f"a {level.kind} is nothing that this check understands"
        if level.kind == "InsertStmt":
            seen.append(level.get("relation"))
            yield from _judged_insert(level, tenant, catalog)
        if level.kind in {"UpdateStmt", "OnConflictClause"} and TENANT in targets(level.get("targetList")):
            yield 0, "it moves rows to another tenant"
        if level.kind == "FuncCall":
            yield from _judged_call(level, tenant, catalog)
    for node in found:
        if node.kind == "RangeVar" and not any(node is one for one in seen):
            yield node.location, f"{'.'.join(name_of(node))} stands where this check does not look"


def _judged_source(
    source: Source, tenant: int, catalog: Catalog, common: set[Any], *, alone: bool
) -> Iterator[_Finding]:
    item, qualifiers = source
    if item.kind == "RangeVar":
        name, at = name_of(item), item.location
        if (len(name) == 1 and name[0] in common) or ".".join(name) in catalog.shared:
            return
        if ".".join(name) not in catalog.tables:
            yield at, f"{'.'.join(name)} is no table or view of these schemas that has a tenant: {_known(catalog)}"
            return
    elif item.kind == "RangeFunction":
        calls = [node for node in nodes(item) if node.kind == "FuncCall" and name_of(node)[0] in catalog.schemas]
        for call in calls:
            if alone and ".".join(name_of(call)) not in {*catalog.readers, *catalog.writers, *_OF_THE_CATALOG}:
                yield call.location, f"{'.'.join(name_of(call))} gives ids: join the table that has them"
        return  # which tenant it is given is judged at the call
    else:
        return  # a sub-select is a level of its own
    alias = item.get("alias")
    called_so = [(alias.get("aliasname"),)] if alias else [name, name[-1:]]
    wanted = [(*prefix, TENANT) for prefix in [*called_so, *([()] if alone else [])]]
    own = (node for qualifier in qualifiers for node in conjuncts(qualifier))
    if not any(compared(node, tenant) in wanted for node in own):
        yield at, f"{'.'.join(name)} has no `{'.'.join([*called_so[-1], TENANT])} = :{TENANT}` of its own"


def _known(catalog: Catalog) -> str:
    return ", ".join(sorted(catalog.schemas))


def _judged_conditions(level: Node, tenant: int) -> Iterator[_Finding]:
    """Another comparison with a tenant would be a lock that `without` does not take out."""
    for _, qualifiers in sources(level):
        for qualifier in qualifiers:
            inner = list(nodes(qualifier, into_selects=False))
            fine = [node.get(side) for node in inner if compared(node, tenant) for side in ("lexpr", "rexpr")]
            for node in inner:
                if column(node)[-1:] == (TENANT,) and not any(node is one for one in fine):
                    yield node.location, f"a tenant is compared in another way than `{TENANT} = :{TENANT}`"


def _judged_insert(level: Node, tenant: int, catalog: Catalog) -> Iterator[_Finding]:
    relation, conflict = level.get("relation"), level.get("onConflictClause")
    name, at = ".".join(name_of(relation)), relation.location
    if name in catalog.shared:
        return
    if name not in catalog.tables:
        yield at, f"{name} is no table of these schemas that has a tenant: {_known(catalog)}"
    columns = targets(level.get("cols"))
    if TENANT not in columns or not sets(level.get("selectStmt"), columns.index(TENANT), tenant):
        yield at, f"the new rows of {name} do not get `:{TENANT}` as their {TENANT}"
    if conflict and (not conflict.get("infer") or TENANT not in targets(conflict.get("infer").get("indexElems"))):
        yield at, f"`on conflict` of {name} does not name {TENANT}"


def _judged_call(call: Node, tenant: int, catalog: Catalog) -> Iterator[_Finding]:
    name, last = ".".join(name_of(call)), name_of(call)[-1]
    if last in _SETTINGS:
        yield call.location, f"{last} may say whose rows the session sees: do without it"
    if last in _READ_MORE:
        yield call.location, f"{last} reads rows of which no condition is asked: do without it"
    if name in _OF_THE_CATALOG or name_of(call)[0] not in catalog.schemas:
        return
    if name not in {*catalog.functions, *catalog.invokers}:
        yield call.location, f"{name} is no function that takes the tenant first"
    elif not is_parameter(next(iter(call.get("args") or ()), None), tenant):
        yield call.location, f"{name} does not get `:{TENANT}`"
