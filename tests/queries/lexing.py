"""The loader's reading of an SQL text held against PostgreSQL's own scanner (libpg_query, by pglast).

Both have to find the same strings, comments and names and refuse the same texts as without end, and what is sent
differs from the text by its parameters alone. Two differences are meant: the loader refuses `$1`, and a vertical
tab, which is a blank from PostgreSQL 16 on. What a number is, and what an escape, it leaves to the server.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pglast.parser import ParseError, scan

from thea_store.errors import QueryFileError
from thea_store.queries.lexer import SqlText, Token, spelling, tokenize
from thea_store.queries.parameters import number_parameters

__all__ = ["DisagreementError", "agreed", "is_open"]

PATH = Path("sql/fuzz.sql")
Span = tuple[str, int, int]

# What the grammar has no use for, and the scanner's names for it.
_STRAY = frozenset("$\\{}\x7f") | {chr(code) for code in range(1, 32)}
_STRAY_TOKENS = {None, "PARAM", "UNKNOWN", "ASCII_36", "ASCII_92"}
_STRINGS = {"SCONST", "USCONST", "BCONST", "XCONST"}
_COMMENTS = {"SQL_COMMENT", "C_COMMENT"}
_IN_TWO = re.compile("[NnBbXx]'")
_COLON, _BRACKETS = "ASCII_58", {"ASCII_40": 1, "ASCII_91": 1, "ASCII_41": -1, "ASCII_93": -1}


class DisagreementError(AssertionError):
    """The loader and PostgreSQL read a text differently."""


@dataclass(slots=True)
class _Reading:
    """What was found in a text, up to the place where it cannot be read further."""

    end: int
    fault: str = ""
    tokens: Sequence[Any] = ()
    spans: list[Span] = field(default_factory=list)

    @property
    def is_open(self) -> bool:
        return "has no end" in self.fault or self.fault.startswith("unterminated")

    def before(self, place: int) -> list[Span]:
        # Where operators end, and whether B'1''0' is one string or two, is without consequence.
        joined: list[Span] = []
        for kind, start, end in self.spans:
            if end <= place:
                last = joined[-1] if joined and kind in {"other", "string"} else None
                follows = last is not None and (last[0], last[2]) == (kind, start)
                joined.append((kind, joined.pop()[1] if follows else start, end))
        return joined


def agreed(text: str) -> str:
    """How the loader and PostgreSQL agree on the text; `DisagreementError` where they do not."""
    ours = _by_the_loader(text)
    if ours.fault and text[ours.end] == "\v":
        return agreed(text[: ours.end])
    theirs = _by_postgresql(text)
    stop = min(ours.end, theirs.end)
    # PostgreSQL takes the N of N'…' for a word, and B'1''0' for two strings: a fault may be between the two.
    stop = next((t.start() for t in ours.tokens if t.start() < stop < t.end() and _IN_TWO.match(t[0])), stop)
    if ours.is_open != theirs.is_open and not _is_other_fault(ours, theirs):
        raise DisagreementError(f"{ours.fault or 'taken'}; PostgreSQL: {theirs.fault or 'taken'}")
    if theirs.fault and not (theirs := _by_postgresql(text[:stop])).fault:
        theirs.end = stop
    if theirs.fault:
        return "refused inside of a token"
    if ours.before(stop) != theirs.before(stop):
        raise DisagreementError(f"{ours.before(stop)} instead of {theirs.before(stop)}")
    if ours.fault:
        _check_stray(text, ours, theirs)
        return "refused"
    return _parameters_agreed(text, ours.tokens, theirs.tokens) if stop == len(text) else "refused as no SQL"


def is_open(text: str) -> bool:
    """Whether the loader refuses the text as without end."""
    return _by_the_loader(text).is_open


def _is_other_fault(ours: _Reading, theirs: _Reading) -> bool:
    """Whether one has another fault to tell, before the end that is missing or, PostgreSQL alone, behind its start."""
    return bool(theirs.fault) if ours.is_open else bool(ours.fault) and ours.end < theirs.end


def _by_the_loader(text: str) -> _Reading:
    tokens: list[Token] = []
    reading = _Reading(len(text), tokens=tokens)
    try:
        for token in tokenize(SqlText(PATH, text)):
            tokens.append(token)
            reading.spans += _spans(token)
    except QueryFileError as error:
        reading.fault, reading.end = str(error), tokens[-1].end() if tokens else 0
    return reading


def _spans(token: Token) -> list[Span]:
    start, end = token.start(), token.start() + len(spelling(token))
    match token.lastgroup:
        case "parameter":
            return [("other", start, start + 1), ("name", start + 1, end)]
        case "string" | "comment" as kind:
            return [(kind, start, end)]
        case "word" | "quoted":
            return [("name", start, end)]
        case "blanks":
            return []
    return [("other", start, end)]


def _by_postgresql(text: str) -> _Reading:
    try:
        tokens = scan(text)
    except ParseError as error:
        return _Reading(int(error.args[1] or 0), str(error.args[0]))
    return _Reading(len(text), "", tokens, [(_kind(token, text), token.start, token.end + 1) for token in tokens])


def _kind(token: Any, text: str) -> str:
    is_national = token.name == "NCHAR" and text[token.start + 1 : token.end + 2] == "'"
    if is_national or token.name in _STRINGS:
        return "string"
    if token.name in _COMMENTS:
        return "comment"
    return "name" if token.name in {"IDENT", "UIDENT"} or token.kind != "NO_KEYWORD" else "other"


def _check_stray(text: str, ours: _Reading, theirs: _Reading) -> None:
    name = next((token.name for token in theirs.tokens if token.start == ours.end), None)
    if not ours.is_open and (text[ours.end] not in _STRAY or name not in _STRAY_TOKENS):
        raise DisagreementError(f"{ours.fault}; PostgreSQL: {name}")


# --- parameters ---------------------------------------------------------------------------------


def _parameters_agreed(text: str, ours: Sequence[Token], theirs: Sequence[Any]) -> str:
    statement = [token for token in ours if token.lastgroup not in {"comment", "blanks"}]
    if not statement:
        return "nothing in it"
    given = [token for token in theirs if token.name not in _COMMENTS]
    try:
        sent, uses = number_parameters(SqlText(PATH, text), statement)
    except QueryFileError as error:
        if _is_clear(text, given):
            raise DisagreementError(f"{error}: though it can be read one way alone") from error
        return "a colon is refused"
    found = list(_named(sent, list(uses)))
    if found != [text[token.start : token.end + 1] for token in given]:
        raise DisagreementError(f"{sent!r} is sent")
    _check_colons(sent)
    return "taken with parameters" if uses else "taken"


def _named(sent: str, names: Sequence[str]) -> Iterator[str]:
    """The pieces of what is sent, each `$n` as the two pieces that PostgreSQL sees in its `:name`."""
    for token in scan(sent):
        piece = sent[token.start : token.end + 1]
        if token.name == "PARAM":
            yield from (":", names[int(piece[1:]) - 1])
        elif token.name not in _COMMENTS:
            yield piece


def _check_colons(sent: str) -> None:
    depth = 0
    tokens = [token for token in scan(sent) if token.name not in _COMMENTS]
    for token in tokens:
        depth += _BRACKETS.get(token.name, 0)
        if token.name == _COLON and depth < 1:
            raise DisagreementError(f"{sent!r} is sent, with a colon outside of a subscript")


def _is_clear(text: str, tokens: Sequence[Any]) -> bool:
    """Whether there is no bracket, and each colon stands after a blank or an operator and before a plain name."""
    for token, after in zip(tokens, [*tokens[1:], None], strict=True):
        if token.name in _BRACKETS:
            return False
        if token.name == _COLON:
            name = text[after.start : after.end + 1] if after and after.start == token.end + 1 else ""
            before, behind = text[: token.start][-1:], text[after.end + 1 : after.end + 2] if after else ""
            if before not in set("\n\r\f\t ,=+*<>~/-") | {""} or behind in {"'", '"'} or not _PLAIN.fullmatch(name):
                return False
    return True


_PLAIN = re.compile("[a-z_][a-z0-9_]*")
