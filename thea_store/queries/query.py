"""What a query is, and how the text of an SQL file is read into queries."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Generic, NamedTuple, TypeVar

from thea_store.queries.lexer import Source, SqlText, Token, spelling, tokenize
from thea_store.queries.parameters import TENANT, find_parameters, number_parameters
from thea_store.queries.variants import Key, Switches, expand

__all__ = ["TENANT", "Entry", "Query", "read_queries"]

R_co = TypeVar("R_co", covariant=True)

_NAME = re.compile(r"-- name: ([a-z][a-z0-9_]*)")
_NEARLY_NAME = re.compile(r"--\s*name\s*:", re.IGNORECASE)
_LINE_START = re.compile(r"^", re.MULTILINE)
_PLANNED = ("delete", "insert", "merge", "select", "update", "values", "with")
_HINT = re.compile(r"-- (not null|nullable|tenant|writes|one plan|variants): *(.*)")
_COLUMN = re.compile(r"[a-z_][a-z0-9_]*")
_OPAQUE = frozenset({"comment", "string", "quoted"})
# These two look at the statement's words and symbols alone, in lower case, one blank between any two.
_WRITE = re.compile(r"(?<!\S)(?<!\. )(?<!as )(?:insert|delete|merge|(?<!for )(?<!key )update)(?!\S)")
_OUTER = re.compile(r"(?<!\S)(?:(?:left|right|full) (?:outer )?join|rollup|cube|grouping sets)(?!\S)")


@dataclass(frozen=True, slots=True, eq=False)
class Query(Generic[R_co]):
    """A statement, bound to the record that its rows become; `SqlFile.query` makes it."""

    name: str
    """Aggregate and name: `notes.search`."""
    source: Source
    """The line of its name."""
    text: str = field(repr=False)
    """What is sent to the server: a comment with the name, and the statement with `$1`, `$2` …"""
    first_line: int = field(repr=False)
    """The line of the file that `text` starts on."""
    parameters: tuple[str, ...] = field(repr=False)
    """The names of `$1`, `$2` …"""
    summary: str = field(repr=False)
    """What it returns, in the file's words."""
    not_null: frozenset[str] = field(repr=False)
    """Result columns that are never null, which the catalog cannot know."""
    nullable: frozenset[str] = field(repr=False)
    """Result columns that may be null, which the catalog cannot know."""
    writes: bool = field(repr=False)
    """Whether it may change rows, so that a lost connection leaves the outcome unknown."""
    outer_join: bool = field(repr=False)
    """Whether an outer join or a grouping set may null what the catalog declares `not null`."""
    one_plan: frozenset[str] | None = field(default=None, repr=False)
    """The optional parameters with which one plan serves all values (a generic plan); `None` where the server plans."""
    lines: tuple[int, ...] = field(default=(), repr=False)
    """The line of the file that each line of `text` comes from; empty where they follow each other."""
    record: type[R_co] | None = field(default=None, repr=False)
    """What a row becomes; None for a statement that returns nothing."""
    types: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The declared type of each parameter, in their order."""
    switches: Switches = field(default_factory=dict, repr=False)
    """The names of `-- variants:`, each with the value that switches it off; empty where there are none."""
    variants: Mapping[Key, Query[R_co]] = field(default_factory=dict, repr=False)
    """The query for each case of the switches. Where there are any, `text` itself is never sent to a server."""

    @property
    def has_plan(self) -> bool:
        """Whether the server makes a plan for it: for none of those that set or discard something."""
        return self.text.lower().startswith(_PLANNED)

    @property
    def each(self) -> tuple[Query[R_co], ...]:
        """The queries that are sent: the variants, or the query itself."""
        return tuple(self.variants.values()) or (self,)

    def variant(self, values: Mapping[str, object]) -> Query[R_co]:
        """The query to send for these values of all parameters: a variant, or the query itself."""
        if not self.switches:
            return self
        return self.variants[tuple([values[name] is not off for name, off in self.switches.items()])]

    def source_at(self, position: int) -> Source:
        """The line of character `position` of `text`, counted from 1 as servers do in their errors."""
        line = self.text.count("\n", 0, position - 1)
        return Source(self.source.path, self.lines[line] if line < len(self.lines) else self.first_line + line)


class Entry(NamedTuple):
    """A query that is not claimed yet, and the offset in its file of each parameter's first use."""

    query: Query[Any]
    uses: Mapping[str, int]


class _Hint(NamedTuple):
    value: str
    offset: int


@dataclass(slots=True)
class _Block:
    """A `-- name:` line, and all up to the next one."""

    head: Token
    comments: list[Token] = field(default_factory=list)
    tokens: list[Token] = field(default_factory=list)


def read_queries(file: SqlText, aggregate: str) -> dict[str, Entry]:
    """The queries of a file by name, in its order; QueryFileError at the first defect."""
    entries: dict[str, Entry] = {}
    for block in _blocks(file):
        name = _name(file, block.head)
        if name in entries:
            first = entries[name].query.source
            raise file.error(block.head.start(), f"the name `{name}` is taken by {first}: choose another")
        entries[name] = _read_query(file, f"{aggregate}.{name}", block)
    return entries


def _blocks(file: SqlText) -> Iterator[_Block]:
    block: _Block | None = None
    for token in tokenize(file):
        kind = token.lastgroup
        if kind in _OPAQUE and "\n-- name:" in spelling(token):
            raise file.error(token.start(), "this contains a line `-- name:`: its end seems to be missing")
        if kind == "comment" and _NEARLY_NAME.match(token[0]):
            if block:
                yield block
            block = _Block(token)
        elif block and kind != "blanks":
            (block.comments if kind == "comment" else block.tokens).append(token)
        elif kind not in {"comment", "blanks"}:
            raise file.error(token.start(), "this stands before the first name: write `-- name: <name>` above it")
    if block:
        yield block


def _name(file: SqlText, head: Token) -> str:
    match = _NAME.fullmatch(spelling(head).rstrip())
    if match is None or not _LINE_START.match(file.text, head.start()):
        raise file.error(
            head.start(),
            "this is no name: write `-- name: <name>` on a line of its own, in lower-case letters, digits and _",
        )
    return match[1]


def _read_query(file: SqlText, name: str, block: _Block) -> Entry:
    head, statement = block.head, _statement(file, block)
    text, uses = number_parameters(file, statement)
    above = [comment for comment in block.comments if comment.start() < statement[0].start()]
    summary, hints = _header(file, head, above)
    _check_tenant(file, head, hints.get("tenant"), uses)
    not_null, nullable = _columns(file, hints.get("not null")), _columns(file, hints.get("nullable"))
    if both := sorted(not_null & nullable):
        raise file.error(hints["nullable"].offset, f"`{both[0]}` is in `not null` too: drop it from one of them")
    words = " ".join([token["word"] or token["symbol"] or "?" for token in statement]).lower()
    query: Query[Any] = Query(
        name=name,
        source=file.source(head.start()),
        # A constant comment names the query in pg_stat_statements, and stays one entry in statement caches. It
        # stands at the end, because PostgreSQL 18 drops what stands before a statement.
        text=f"{text} /* {name} */",
        first_line=file.source(statement[0].start()).line,
        parameters=tuple(uses),
        summary=summary,
        not_null=not_null,
        nullable=nullable,
        writes="writes" in hints or _WRITE.search(words) is not None,
        outer_join=_OUTER.search(words) is not None,
        one_plan=_one_plan(file, hints.get("one plan"), uses),
    )
    if varied := hints.get("variants"):
        query = _varied(file, query, statement, varied)
    return Entry(query, uses)


def _varied(file: SqlText, query: Query[Any], statement: Sequence[Token], hint: _Hint) -> Query[Any]:
    """The query with its variants, each named after what is on: `notes.get_all+user_id`."""
    switches, variants = expand(file, statement, find_parameters(file, statement), hint.value, hint.offset)
    made: dict[Key, Query[Any]] = {}
    for key, variant in variants.items():
        name = "+".join([query.name, *variant.on])
        made[key] = replace(
            query,
            name=name,
            text=f"{variant.text} /* {name} */",
            parameters=variant.parameters,
            lines=variant.lines,
            one_plan=_one_plan_of(query, [name for name in variant.on if switches[name] is None]),
        )
    return replace(query, switches=switches, variants=made)


def _one_plan_of(query: Query[Any], given: Sequence[str]) -> frozenset[str] | None:
    """As the query's, for the variant that serves calls which give these."""
    return query.one_plan if query.one_plan is not None and query.one_plan.issuperset(given) else None


def _statement(file: SqlText, block: _Block) -> list[Token]:
    """The tokens of the one statement, without its semicolon."""
    kinds = [token.lastgroup for token in block.tokens]
    end = kinds.index("semicolon") if "semicolon" in kinds else len(kinds)
    if not end:
        raise file.error(block.head.start(), "the statement is missing: write it under the comments")
    for token in block.tokens[end + 1 :]:
        raise file.error(token.start(), "a second statement starts here: give it a `-- name:` of its own")
    return block.tokens[:end]


def _header(file: SqlText, head: Token, comments: Sequence[Token]) -> tuple[str, dict[str, _Hint]]:
    lines: list[str] = []
    hints: dict[str, _Hint] = {}
    for comment in comments:
        text = spelling(comment).rstrip()
        hint = _HINT.fullmatch(text)
        if hint and (hint[1] in hints or not hint[2]):
            raise file.error(comment.start(), f"the hint `{hint[1]}` is empty or a repetition: keep one with a value")
        if hint:
            hints[hint[1]] = _Hint(hint[2], comment.start())
        elif hints or not text.startswith("-- "):
            raise file.error(
                comment.start(), "here stand lines `-- <sentence>`, then hints: move other comments into the statement"
            )
        else:
            lines.append(text[3:].strip())
    summary = " ".join(lines)
    if not summary.endswith("."):
        raise file.error(head.start(), "the sentence on what the query returns is missing or lacks its full stop")
    return summary, hints


def _check_tenant(file: SqlText, head: Token, exempt: _Hint | None, uses: Mapping[str, int]) -> None:
    if exempt and not re.fullmatch(r"none, .+", exempt.value):
        raise file.error(exempt.offset, "the reason is missing: write `-- tenant: none, <reason>`, or drop the line")
    if exempt and TENANT in uses:
        raise file.error(exempt.offset, f"the statement uses `:{TENANT}`: drop this line")
    if not exempt and TENANT not in uses:
        raise file.error(
            head.start(),
            f"the statement lacks `:{TENANT}`, which each of a tenant's tables needs; only one that reads none of them "
            "says why: `-- tenant: none, <reason>`",
        )


def _one_plan(file: SqlText, hint: _Hint | None, uses: Mapping[str, int]) -> frozenset[str] | None:
    if hint is None:
        return None
    names = hint.value.split(", ")
    for name in names:
        if name not in uses or names.count(name) > 1:
            raise file.error(
                hint.offset, f"`{name}` is no parameter, or stands here twice: write the optional ones as `a, b`"
            )
    return frozenset(names)


def _columns(file: SqlText, hint: _Hint | None) -> frozenset[str]:
    names = hint.value.split(", ") if hint else []
    for name in names:
        if hint and (not _COLUMN.fullmatch(name) or names.count(name) > 1):
            raise file.error(hint.offset, f"`{name}` is no column, or stands here twice: write columns as `a, b`")
    return frozenset(names)
