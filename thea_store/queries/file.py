"""The SQL files: `sql/<aggregate>.sql` holds queries, which the code claims by name.

    -- name: search
    -- Notes whose text matches the query, best first; no row when none does.
    -- not null: rank, snippet
    select ...

Under the name stand sentences on what comes back, then hints: `not null: a, b` and `nullable: a, b` for result
columns of which the catalog cannot know it; `tenant: none, <reason>` for a query that needs no `:tenant_id`;
`writes: <what>` for one that writes through a function; `variants: a, b` for one that depends on whether a call
gives these parameters (see `thea_store.queries.variants`). Then comes one statement, whose own comments are
sent with it, so that an error's position in it leads to a line of the file.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar, overload

from thea_store.errors import QueryFileError
from thea_store.postgres.types import is_optional, without_none
from thea_store.queries.lexer import Source, SqlText
from thea_store.queries.query import TENANT, Entry, Query, read_queries
from thea_store.queries.variants import Key
from thea_store.resources import sql_dir

__all__ = ["Query", "Source", "SqlFile"]

R = TypeVar("R")


class SqlFile:
    """The queries of one SQL file, and which of them the code has claimed."""

    def __init__(self, aggregate: str, directory: Path | None = None) -> None:
        """Read the whole file; QueryFileError names the line of the first defect."""
        self.aggregate = aggregate
        self._file = _read(directory or sql_dir(), aggregate)
        self._entries = read_queries(self._file, aggregate)
        self._claimed: dict[str, Query[object]] = {}

    @overload
    def query(self, name: str, record: None, /, **types: object) -> Query[None]: ...
    @overload
    def query(self, name: str, record: type[R], /, **types: object) -> Query[R]: ...
    def query(self, name: str, record: type[Any] | None, /, **types: object) -> Query[Any]:
        """Claim a query for its record and its parameters' types; `tenant_id: str` is understood.

        QueryFileError if there is no such query, if it is claimed already or if it has other parameters.
        """
        entry = self._entries.get(name)
        if entry is None:
            raise self._file.error(0, f"there is no query `{name}`{self._suggestion(name)}")
        if name in self._claimed:
            raise QueryFileError(f"{entry.query.source}: `{entry.query.name}` is claimed twice: share one constant")
        self._check_types(entry, types)
        declared = {parameter: types.get(parameter, str) for parameter in entry.query.parameters}
        query = _claimed(entry.query, record, declared)
        self._claimed[name] = query
        return query

    @property
    def claimed(self) -> tuple[Query[object], ...]:
        """The queries claimed so far, in the order of the claims; of one with variants, all these in its place."""
        return tuple(variant for query in self._claimed.values() for variant in query.each)

    @property
    def written(self) -> tuple[Query[object], ...]:
        """The queries claimed so far as they are written, those with variants unfolded."""
        return tuple(self._claimed.values())

    def unclaimed(self) -> list[str]:
        """A sentence with `file:line` for each query that the code does not claim; empty when it claims all."""
        return [
            f"{entry.query.source}: no code claims `{entry.query.name}`: bind it to a constant, or delete it"
            for name, entry in self._entries.items()
            if name not in self._claimed
        ]

    def _check_types(self, entry: Entry, types: Mapping[str, object]) -> None:
        claim = f"the claim of `{entry.query.name}`"
        if TENANT in types:
            raise QueryFileError(f"{entry.query.source}: {claim} declares `{TENANT}`, which every query has: drop it")
        for name, offset in entry.uses.items():
            if name not in types and name != TENANT:
                raise self._file.error(offset, f"{claim} does not declare the type of `:{name}`: add it")
        for name in types:
            if name not in entry.uses:
                raise QueryFileError(
                    f"{entry.query.source}: {claim} declares `{name}`, but the statement has no `:{name}`: "
                    "use it, or drop it"
                )

        for name, off in entry.query.switches.items():
            if off is False and types[name] is not bool:
                raise self._file.error(
                    entry.uses[name],
                    f"{claim} declares `:{name}`, a flag of `variants`, as no `bool`: correct the type",
                )
            if off is None and not is_optional(types[name]):
                raise self._file.error(
                    entry.uses[name],
                    f"{claim} declares a type for `:{name}` that is never None, so half of the `variants` cannot be "
                    "asked for: let the type be `… | None`, or drop the name from `variants`",
                )

    def _suggestion(self, name: str) -> str:
        for close in difflib.get_close_matches(name, self._entries, n=1):
            return f": did you mean `{close}` ({self._entries[close].query.source})?"
        return ": write it, or correct the name"


def _claimed(query: Query[Any], record: type[Any] | None, types: Mapping[str, object]) -> Query[Any]:
    """The query, and its variants, in which what is switched on is never None."""
    variants = {
        key: _claimed(variant, record, {**types, **{name: without_none(types[name]) for name in _on(query, key)}})
        for key, variant in query.variants.items()
    }
    own = MappingProxyType({name: types[name] for name in query.parameters})
    return replace(query, record=record, types=own, variants=variants)


def _on(query: Query[Any], key: Key) -> list[str]:
    return [name for name, is_on in zip(query.switches, key, strict=True) if is_on]


def _read(directory: Path, aggregate: str) -> SqlText:
    path = directory / f"{aggregate}.sql"
    shown = Path(directory.name, path.name)  # never a path of the machine
    try:
        content = path.read_bytes()
    except OSError as error:
        raise QueryFileError(f"{Source(shown, 1)}: the file cannot be read: {error.strerror}") from error
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise QueryFileError(f"{Source(shown, line)}: this is not UTF-8: save the file as UTF-8") from error
    # A checkout with \r\n sends the same statements as one with \n.
    file = SqlText(shown, text.replace("\r\n", "\n").replace("\r", "\n"))
    if "\0" in text:
        raise file.error(file.text.index("\0"), "there is a NUL character, which no server takes: remove it")
    return file
