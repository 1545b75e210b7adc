"""Named parameters to `$1`, `$2` …, and the rules that tell them from slices and from the keys of `json_object`.

A colon directly followed by a name is a parameter, unless it is one of those. A parameter may not directly
follow a word or a value: `limit:n` would become the identifier `limit$1`. In a subscript, outside of further
parentheses:

- `[1:n]`: directly after a word or a value the colon is the slice's, and `n` a column, which may not have
  the name of a parameter of the same statement;
- `[1: n]`, `[: n]`, `[:2]`, `[:]`: not directly followed by a name, the colon is the slice's;
- `[1: :n]`, `[1 + :n]`: after the slice's colon or an operator, `:n` is a parameter;
- `[:n]`, `[1 :n]`: could be read either way, hence an error; `[(:n)]` is an element, `[: :n]` a slice.

`array[:a, :b]` is no subscript. PostgreSQL itself reads `[1::n]` as a cast.

In `json_object(…)` and `json_objectagg(…)` of PostgreSQL 16 and newer (the manual's chapter on JSON functions), outside
of further parentheses, one colon stands between each key and its value:

- `('a': 1)`, `('a': :v)`: the first colon is the key's, `:v` a parameter;
- `(k :v)`, `('a':v)`: directly behind a key the colon is the key's, and `v` a column, which may not have the name of a
  parameter of the same statement;
- `(:keys, :values)`, `('a' value :v)`, `(case when :a then 'b' end: 1)`: all others are parameters.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from thea_store.queries.lexer import SqlText, Token, spelling

__all__ = ["TENANT", "find_parameters", "number_parameters"]

TENANT = "tenant_id"
"""The parameter of every query that reads or writes rows of a tenant."""

_NAME = re.compile(r"[a-z_][a-z0-9_]*")
_VALUE_END = re.compile(r"""[A-Za-z0-9_$'")\]]|[^\x00-\x7f]""")
_VALUES = frozenset({"word", "number", "string", "quoted", "parameter"})
_COLONS = frozenset({"parameter", "colon", "cast", "bracket", "symbol"})
_OBJECTS = frozenset({"json_object", "json_objectagg"})
# The words, in an expression, that another expression follows: a value ends with none of them.
_BEFORE_VALUES = frozenset(
    {"and", "or", "not", "when", "then", "else", "case", "like", "ilike", "to", "escape", "between", "symmetric"}
    | {"asymmetric", "from", "zone", "in"}
)
_LOOKALIKE = "`{{0}}` in this {place} is no parameter, but the statement has one of that name: write "
_SLICED = _LOOKALIKE.format(place="subscript") + (
    "`[1: :{0}]` for the parameter, `[1: {0}]` for a column, `[(1::{0})]` for a type"
)
_KEYED = _LOOKALIKE.format(place="json_object") + "`k: :{0}` for the parameter, `k: {0}` for a column"


def number_parameters(file: SqlText, tokens: Sequence[Token]) -> tuple[str, dict[str, int]]:
    """The text of a statement with `$1` … for its parameters, and where each of them is first used.

    The tokens are the statement's, without comments and blanks. The same name has the same number, and the
    names come in the order of their numbers. QueryFileError for a colon that can be read two ways or none,
    and for brackets that do not match.
    """
    numbers: dict[str, int] = {}
    uses: dict[str, int] = {}
    parts: list[str] = []
    position = tokens[0].start()
    for index, name in find_parameters(file, tokens).items():
        token = tokens[index]
        uses.setdefault(name, token.start())
        parts += file.text[position : token.start()], f"${numbers.setdefault(name, len(numbers) + 1)}"
        position = token.end("parameter")
    parts.append(file.text[position : tokens[-1].end(tokens[-1].lastindex or 0)])
    return "".join(parts), uses


def find_parameters(file: SqlText, tokens: Sequence[Token]) -> dict[int, str]:
    """The names of the parameters by their tokens' indexes, in order; QueryFileError as `number_parameters`."""
    reader = _Reader(file, tokens)
    found = {
        index: spelling(token)[1:]
        for index, token in enumerate(tokens)
        if token.lastgroup in _COLONS and reader.is_parameter(index)
    }
    reader.finish(frozenset(found.values()))
    return found


@dataclass(slots=True)
class _Bracket:
    token: Token
    is_array: bool
    is_subscript: bool
    is_object: bool
    is_divided: bool = False
    """Whether the slice, or the key and value at hand, have had their colon."""


@dataclass(slots=True)
class _Reader:
    """Reads the colons and brackets of one statement, in their order."""

    file: SqlText
    tokens: Sequence[Token]
    brackets: list[_Bracket] = field(default_factory=list)
    # The `n` of `[1:n]`, `[1::n]` and `json_object(k :n)`, which may be meant as a parameter: name, offset, complaint.
    lookalikes: list[tuple[str, int, str]] = field(default_factory=list)

    def is_parameter(self, index: int) -> bool:
        """Whether the token, of one of the kinds in `_COLONS`, is a parameter."""
        token = self.tokens[index]
        if token.lastgroup == "parameter":
            return self._read_name(index)
        if token.lastgroup == "colon":
            self._divide(token)
        elif token.lastgroup == "cast":
            self._cast(index)
        elif token.lastgroup == "symbol":
            self._next_key(token)
        elif spelling(token) in {"(", "["}:
            self._open(index)
        elif not self.brackets or spelling(self.brackets.pop().token) + spelling(token) not in {"()", "[]"}:
            raise self.file.error(token.start(), f"this `{spelling(token)}` closes no bracket of its kind")
        return False

    def finish(self, parameters: Collection[str]) -> None:
        """QueryFileError for a bracket left open, and for a slice's column with the name of a parameter."""
        if self.brackets:
            token = self.brackets[-1].token
            raise self.file.error(token.start(), f"this `{spelling(token)}` is never closed")
        for name, offset, complaint in self.lookalikes:
            if name in parameters:
                raise self.file.error(offset, complaint)

    def _read_name(self, index: int) -> bool:
        token, before = self.tokens[index], self.tokens[index - 1] if index else None
        text = spelling(token)
        is_glued = _VALUE_END.match(self.file.text, token.start() - 1) is not None if before else False
        if self._in_subscript() and is_glued:
            self._divide(token)
            self._note(text[1:], token, _SLICED)
            return False
        if self._is_behind_key(index):
            self._divide(token)
            self._note(text[1:], token, _KEYED)
            return False
        if self._in_subscript() and before and (before.lastgroup in _VALUES or spelling(before) in {"[", ")", "]"}):
            raise self.file.error(
                token.start(),
                f"`{text}` here could be a parameter or the end of a slice: write `[({text})]` for an element, "
                f"`[: {text}]` or `[1: {text}]` for a slice to the parameter, `[: {text[1:]}]` or `[1: {text[1:]}]` "
                "for one to a column",
            )
        if is_glued:
            raise self.file.error(token.start(), f"`{text}` needs a blank or an operator before it")
        if not _NAME.fullmatch(text, 1):
            raise self.file.error(token.start(), f"`{text}` is no parameter: its name takes a to z, digits and _")
        return True

    def _divide(self, token: Token) -> None:
        bracket = self.brackets[-1] if self.brackets else None
        if bracket is None or not (bracket.is_subscript or bracket.is_object) or bracket.is_divided:
            raise self.file.error(
                token.start(),
                "this colon is no parameter's (`:user_id`), cast's (`::`), argument's (`:=`) or slice's (`[1:2]`), nor "
                "that of a key in `json_object('a': 1)`: remove it",
            )
        bracket.is_divided = True

    def _next_key(self, token: Token) -> None:
        if self.brackets and self.brackets[-1].is_object and spelling(token) == ",":
            self.brackets[-1].is_divided = False

    def _is_behind_key(self, index: int) -> bool:
        """Whether the token stands directly behind a key of `json_object`, where the key's colon is still to come."""
        if not self.brackets or not self.brackets[-1].is_object or self.brackets[-1].is_divided:
            return False
        before = self.tokens[index - 1]
        word = spelling(before).lower()
        if before.lastgroup == "word" and word == "value":  # the keyword in the colon's place, or a column
            return not self._ends_value(self.tokens[index - 2])
        return self._ends_value(before)

    def _ends_value(self, token: Token) -> bool:
        word = spelling(token).lower()
        return word in {")", "]"} or (token.lastgroup in _VALUES and word not in _BEFORE_VALUES)

    def _note(self, name: str, token: Token, complaint: str) -> None:
        self.lookalikes.append((name, token.start(), complaint.format(name)))

    def _cast(self, index: int) -> None:
        to = self.tokens[index + 1] if index + 1 < len(self.tokens) else None
        if self._in_subscript() and to and to.lastgroup == "word" and to.start() == self.tokens[index].end("cast"):
            self._note(spelling(to), to, _SLICED)

    def _open(self, index: int) -> None:
        token = self.tokens[index]
        before = [spelling(token).lower() for token in self.tokens[max(index - 2, 0) : index]]
        is_array = spelling(token) == "[" and (
            # A column may be called `array` after a dot alone.
            (before[-1:] == ["array"] and before[:1] != ["."])
            or (bool(self.brackets) and self.brackets[-1].is_array and before[-1] in {"[", ","})
        )
        is_object = (
            spelling(token) == "(" and bool(before) and before[-1].removeprefix(":") in _OBJECTS and before[:1] != ["."]
        )
        is_subscript = spelling(token) == "[" and not is_array
        self.brackets.append(_Bracket(token, is_array, is_subscript, is_object))

    def _in_subscript(self) -> bool:
        return bool(self.brackets) and self.brackets[-1].is_subscript
