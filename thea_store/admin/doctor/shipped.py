"""The schema held against what the shipped migrations make: what is missing, what is another, what is too much."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from thea_store.admin.doctor.findings import CheckContext, Finding, Verdict, ok, problem, quoted, warning
from thea_store.admin.doctor.manifest import Thing, leakproof, objects, shipped, shipped_leakproof
from thea_store.admin.doctor.on_cluster import is_cluster, is_made_there
from thea_store.migrator import available, listed, pending
from thea_store.migrator.files import lineage_of

__all__ = ["compare_with_shipped"]

_APPLIED = "select migration_id from public._yoyo_migration"
_VERSION = "select current_setting('server_version_num')::int / 10000"
_NEWEST = 18
_TABLES = """
select n.nspname || '.' || c.relname
from pg_class c
join pg_namespace n on n.oid = c.relnamespace
where c.relkind in ('r', 'p')
"""
_CASCADE = re.compile(r"EXECUTE FUNCTION thea\.cascade_deletion\('([\w.]+)'", re.IGNORECASE)

_MAY_BE_ADDED = {
    "table": "a table of an operator's own; other checks look at its row security and its keys",
    "column": "a column more, which no query of the library names",
    "index": "an index for an operator's own query; another check looks at unique ones",
    "sequence": "of a table of an operator's own",
    "owner of sequence": "of a table of an operator's own",
    "view": "another check looks at views",
    "text search configuration": "an operator's own",
    "text search dictionary": "an operator's own",
    "owner of function": "told with the function",
}
"""The kinds of objects that may stand beside the shipped ones, and why."""


class _Difference(NamedTuple):
    thing: Thing
    live: str | None
    """`None`: it is missing."""
    wanted: str | None
    """`None`: it is too much."""


def compare_with_shipped(context: CheckContext, told: Sequence[Finding]) -> Sequence[Verdict]:
    """What differs from the shipped schema; what `told` says already, of the same object, is not said again."""
    applied = {id_ for (id_,) in context.ask(_APPLIED)}
    if pending(applied):
        return []  # another check names those
    ours = {migration.id for migration in listed()}
    newer = sorted(id_ for id_ in applied - ours if lineage_of(id_) == "")
    if newer:
        return [ok(f"not compared, since the schema is newer than this version (it has {newer[-1]})")]
    said = [f"{finding.found} {finding.fix}" for finding in told if finding.state != "ok"]
    if any("there is no role" in sentence for sentence in said):
        return []  # every right and policy of it would be told
    wanted = shipped()
    found = [
        _verdict(difference)
        for difference in _differences(context)
        if not any(_tells(sentence, difference) for sentence in said)
    ]
    found += _marks(context)
    return found or [ok(f"the {len(wanted)} objects of the migrations are there, and as they made them")]


def _differences(context: CheckContext) -> Iterator[_Difference]:
    live, wanted = objects(context.ask), shipped()
    if is_cluster(context):
        live = {thing: text for thing, text in live.items() if not is_made_there(thing)}
        wanted = {thing: text for thing, text in wanted.items() if not is_made_there(thing)}
    missing = {thing.table for thing in wanted if thing.kind == "table"} - {
        thing.table for thing in live if thing.kind == "table"
    }
    children = {name for (name,) in context.ask(_TABLES)}
    for thing in sorted(live.keys() | wanted.keys()):
        difference = _Difference(thing, live.get(thing), wanted.get(thing))
        if _form(difference.live) == _form(difference.wanted):
            continue
        if thing.table in missing and thing.kind != "table":
            continue  # gone with its table
        if difference.wanted is None and (_may_be_added(thing) or _hides_children(difference, children)):
            continue
        yield difference


def _hides_children(difference: _Difference, tables: Collection[str]) -> bool:
    """Whether this is the trigger by which the rows of an extension's table are deleted with their parent."""
    called = _CASCADE.search(difference.live or "")
    return difference.thing.kind == "trigger" and called is not None and called[1] in tables


def _form(definition: str | None) -> str | None:
    """A definition without its parentheses: a database that was restored from a dump has others."""
    return None if definition is None else " ".join(definition.replace("(", " ").replace(")", " ").split())


def _may_be_added(thing: Thing) -> bool:
    if thing.kind == "right" and " on function " in thing.name:
        function = thing.name.partition(" on function ")[2].rpartition(" to ")[0]
        return Thing("function", "", function) not in shipped()  # told with the function
    # What is on a table or a view of an operator's own is the matter of other checks.
    return thing.kind in _MAY_BE_ADDED or (thing.table != "" and thing.table not in _shipped_tables())


def _shipped_tables() -> set[str]:
    return {thing.table for thing in shipped()}


def _tells(sentence: str, difference: _Difference) -> bool:
    """Whether a finding is about this very difference."""
    kind, table, name = difference.thing
    if kind == "function":  # whatever else is wrong with it
        return False
    words = [table, *(name.split(" ") if kind == "right" else [name])]
    return all(word in sentence for word in words if word != "to")


def _verdict(difference: _Difference) -> Verdict:
    thing, live, wanted = difference
    what = _phrase(thing)
    if wanted is None:
        found = f"{what} is not one that the migrations made"
        if thing.kind == "constraint":
            return warning(found, _removal(thing))
        return problem(found, _removal(thing))
    if live is None:
        return problem(f"{what} is missing", _making(thing, wanted))
    if thing.kind == "constraint" and _form(live) == f"{_form(wanted)} NOT VALID":
        fix = f"`alter table {thing.table} validate constraint {quoted(thing.name)}`"
        return problem(f"{what} is not validated, so rows may break it", fix)
    return problem(f"{what} is not as the migrations made it", _making(thing, wanted))


def _phrase(thing: Thing) -> str:
    if thing.kind == "right":
        return f"the right to {thing.name}"
    if thing.kind == "member":
        return f"the membership {thing.name.replace(' of ', ' in ')}"
    if not thing.table:
        return f"the {thing.kind} {thing.name}"
    return f"the {thing.kind} {thing.name} of {thing.table}" if thing.name else f"the {thing.kind} {thing.table}"


def _removal(thing: Thing) -> str:
    name, table = quoted(thing.name), thing.table
    match thing.kind:
        case "trigger" | "policy" | "rule":
            return f"`drop {thing.kind} if exists {name} on {table}`"
        case "constraint":
            return f"`alter table {table} drop constraint if exists {name}`"
        case "function":
            return f"`drop function if exists {thing.name}`, or move it into a schema of your own"
        case "right":
            return f"`revoke {thing.name.replace(' to ', ' from ')}`"
        case "member":
            member, _, role = thing.name.partition(" of ")
            return f"`revoke {role} from {member}`"
        case _:
            return "undo it"


def _making(thing: Thing, wanted: str) -> str:  # noqa: PLR0911 - a line for each kind
    name, table = quoted(thing.name), thing.table
    match thing.kind:
        case "trigger" | "rule":
            return f"`drop {thing.kind} if exists {name} on {table}; {wanted}`"
        case "policy":
            return f"`drop policy if exists {name} on {table}; create policy {name} on {table} {wanted}`"
        case "index":
            return f"`drop index if exists thea.{name}; {wanted}`"
        case "constraint":
            drop = f"alter table {table} drop constraint if exists {name}"
            return f"`{drop}; alter table {table} add constraint {name} {wanted}`"
        case "right":
            return f"`grant {thing.name}`"
        case "member":
            member, _, role = thing.name.partition(" of ")
            return f"`grant {role} to {member}`"
        case "owner of function" | "owner of sequence" | "owner of schema":
            return f"`alter {thing.kind.removeprefix('owner of ')} {thing.name} owner to {wanted}`"
        case "function":
            return f"make it anew with the statement at {_place(thing)}, as `create or replace function …`"
        case "column":
            return f"undo the change of the table: the column was made as `{wanted} …`"
        case _:
            return "make it anew as the migrations do"


def _place(thing: Thing) -> str:
    """Where the migrations make this function last, as `file:line`."""
    name = f"function {thing.name.partition('(')[0]}("
    places = [
        f"{migration.path.name}:{statement.line}"
        for migration in available()
        for statement in migration.statements
        if statement.sql.startswith((f"create {name}", f"create or replace {name}"))
    ]
    return f"migrations/{places[-1]}" if places else "its migration"


def _marks(context: CheckContext) -> list[Verdict]:
    [(major,)] = context.ask(_VERSION)
    if major > _NEWEST:
        return []
    return [
        problem(
            f"{name} is marked as leakproof, which the server itself does not do: a condition with it could be "
            "answered about foreign rows",
            f"`alter function {name} not leakproof`",
        )
        for name in sorted(leakproof(context.ask) - shipped_leakproof())
    ]
