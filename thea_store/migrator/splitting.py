"""A migration file taken apart into its statements, each with the line on which it begins.

Sent whole, a file would need no splitting; but Citus passes the text of DDL on to its nodes and so wants
one statement a message, and an error needs its line. yoyo's splitter, sqlparse, does not know that
comments nest; this one stands on the library's own tokens, and on psql's rule for `begin atomic` bodies.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from thea_store.errors import MigrationError, QueryFileError
from thea_store.queries.lexer import SqlText, Token, spelling, tokenize

__all__ = ["Statement", "split"]

_IGNORED = frozenset({"blanks", "comment"})
_ROUTINE = re.compile(r"create (or replace )?(function|procedure)\b")


class Statement(NamedTuple):
    """One statement without its semicolon, the line it begins on, and its first words in lower case."""

    sql: str
    line: int
    command: str


def split(path: Path, text: str) -> Iterator[Statement]:
    """The statements of a file in order, none for comments alone; `MigrationError` for what has no end."""
    file = SqlText(path, text)
    statement: list[Token] = []
    scope = _Scope()
    for token in _tokens(file):
        if token.lastgroup == "semicolon" and scope.is_outermost:
            yield from _joined(file, statement)
            statement, scope = [], _Scope()
        elif token.lastgroup not in _IGNORED:
            statement.append(token)
            scope.enter(token)
    if scope.blocks:
        raise MigrationError(f"{file.source(statement[0].start())}: the `begin atomic` of this statement has no `end`")
    yield from _joined(file, statement)


class _Scope:
    """Whether a semicolon ends the statement: not within parentheses, nor in an SQL routine's body."""

    def __init__(self) -> None:
        self.brackets = self.blocks = 0
        self.words: list[str] = []

    @property
    def is_outermost(self) -> bool:
        return not self.brackets and not self.blocks

    def enter(self, token: Token) -> None:
        text = spelling(token).lower()
        if token.lastgroup == "bracket":
            self.brackets = max(0, self.brackets + (1 if text in "([" else -1))
        elif token.lastgroup == "word" and not self.brackets:
            self.words.append(text)
            if self.blocks:  # `case … end` nests in a body
                self.blocks += {"case": 1, "end": -1}.get(text, 0)
            elif self.words[-2:] == ["begin", "atomic"] and _ROUTINE.match(" ".join(self.words[:4])):
                self.blocks = 1


def _tokens(file: SqlText) -> Iterator[Token]:
    try:
        yield from tokenize(file, positional=True)
    except QueryFileError as error:
        raise MigrationError(str(error)) from None


def _joined(file: SqlText, tokens: list[Token]) -> Iterator[Statement]:
    if tokens:
        first, last = tokens[0], tokens[-1]
        sql = file.text[first.start() : last.start() + len(spelling(last))]
        command = " ".join(spelling(token).lower() for token in tokens[:2])
        yield Statement(sql, file.source(first.start()).line, command)
