"""Has a statement a condition on the tenant for each table? Counted on its tokens, so without a parser.

It is the quick half of the rule, for every opening: a statement with too few conditions is surely wrong. Whether each
condition stands at its own table, and not beside an `or`, is what `thea-store check` and `prove` look at.
"""

from __future__ import annotations

import re
from collections.abc import Set as AbstractSet
from typing import Any

from thea_store.queries.file import Query
from thea_store.queries.lexer import SqlText, spelling, tokenize
from thea_store.queries.query import TENANT

__all__ = ["too_few_conditions"]

_SILENT = frozenset({"comment", "blanks"})


def too_few_conditions(query: Query[Any], tables: AbstractSet[str]) -> str | None:
    """A sentence where the query names more of the tenants' tables than it has conditions; else `None`."""
    words = _words(query)
    named = sum(_is_read(words, place, tables) for place in range(len(words)))
    conditions = sum(_is_condition(words, place) for place in range(len(words)))
    if named <= conditions:
        return None
    return (
        f"it names tables of tenants {named} times, but has {conditions} condition(s) `{TENANT} = :{TENANT}`: "
        "each table needs its own"
    )


def _words(query: Query[Any]) -> list[str]:
    """The statement's tokens in lower case, with its parameters by name again."""
    named = re.sub(r"\$(\d+)", lambda match: f":{query.parameters[int(match[1]) - 1]}", query.text)
    tokens = tokenize(SqlText(query.source.path, named))
    return [
        "''" if token.lastgroup == "string" else spelling(token).strip('"').lower()
        for token in tokens
        if token.lastgroup not in _SILENT
    ]


def _is_read(words: list[str], place: int, tables: AbstractSet[str]) -> bool:
    """Whether a table of tenants is named here, other than as what an insert writes to or as a column's."""
    if words[place + 1 : place + 2] != ["."] or ".".join(words[place : place + 3 : 2]) not in tables:
        return False
    is_column = words[place + 3 : place + 4] == ["."]
    return not is_column and words[max(place - 2, 0) : place] != ["insert", "into"]


def _is_condition(words: list[str], place: int) -> bool:
    three = words[place : place + 3]
    if three == [TENANT, "=", f":{TENANT}"]:
        return True
    # The other way round, where the column may have its table's name before it.
    return three[:2] == [f":{TENANT}", "="] and TENANT in (words[place + 2 : place + 3] + words[place + 4 : place + 5])
