"""Named parameters to `$1`, `$2` …, and the rule that tells them from slices.

A colon directly followed by a name is a parameter, unless it is a slice's. A parameter may not directly
follow a word or a value: `limit:n` would become the identifier `limit$1`. In a subscript, outside of further
parentheses:

- `[1:n]`: directly after a word or a value the colon is the slice's, and `n` a column, which may not have
  the name of a parameter of the same statement;
- `[1: n]`, `[: n]`, `[:2]`, `[:]`: not directly followed by a name, the colon is the slice's;
- `[1: :n]`, `[1 + :n]`: after the slice's colon or an operator, `:n` is a parameter;
- `[:n]`, `[1 :n]`: could be read either way, hence an error; `[(:n)]` is an element, `[: :n]` a slice.

`array[:a, :b]` is no subscript. PostgreSQL itself reads `[1::n]` as a cast.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from thea_store.queries.lexer import SqlText, Token, spelling

__all__ = ["find_parameters", "number_parameters"]

_NAME = re.compile(r"[a-z_][a-z0-9_]*")
_VALUE_END = re.compile(r"""[A-Za-z0-9_$'")\]]|[^\x00-\x7f]""")
_VALUES = frozenset({"word", "number", "string", "quoted", "parameter"})
_COLONS = frozenset({"parameter", "colon", "cast", "bracket"})


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
    is_sliced: bool = False


@dataclass(slots=True)
class _Reader:
    """Reads the colons and brackets of one statement, in their order."""

    file: SqlText
    tokens: Sequence[Token]
    brackets: list[_Bracket] = field(default_factory=list)
    # The `n` of `[1:n]` and `[1::n]`, which may be meant as a parameter: name and offset.
    lookalikes: list[tuple[str, int]] = field(default_factory=list)

    def is_parameter(self, index: int) -> bool:
        """Whether the token, of one of the kinds in `_COLONS`, is a parameter."""
        token = self.tokens[index]
        if token.lastgroup == "parameter":
            return self._read_name(index)
        if token.lastgroup == "colon":
            self._slice(token)
        elif token.lastgroup == "cast":
            self._cast(index)
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
        for name, offset in self.lookalikes:
            if name in parameters:
                raise self.file.error(
                    offset,
                    f"`{name}` in this subscript is no parameter, but the statement has one of that name: write "
                    f"`[1: :{name}]` for the parameter, `[1: {name}]` for a column, `[(1::{name})]` for a type",
                )

    def _read_name(self, index: int) -> bool:
        token, before = self.tokens[index], self.tokens[index - 1] if index else None
        text = spelling(token)
        is_glued = _VALUE_END.match(self.file.text, token.start() - 1) is not None if before else False
        if self._in_subscript() and is_glued:
            self._slice(token)
            self.lookalikes.append((text[1:], token.start()))
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

    def _slice(self, token: Token) -> None:
        if not self._in_subscript() or self.brackets[-1].is_sliced:
            raise self.file.error(
                token.start(),
                "this colon is no parameter's (`:user_id`), cast's (`::`), argument's (`:=`) or slice's (`[1:2]`): "
                "remove it",
            )
        self.brackets[-1].is_sliced = True

    def _cast(self, index: int) -> None:
        to = self.tokens[index + 1] if index + 1 < len(self.tokens) else None
        if self._in_subscript() and to and to.lastgroup == "word" and to.start() == self.tokens[index].end("cast"):
            self.lookalikes.append((spelling(to), to.start()))

    def _open(self, index: int) -> None:
        token = self.tokens[index]
        before = [spelling(token).lower() for token in self.tokens[max(index - 2, 0) : index]]
        is_array = spelling(token) == "[" and (
            # A column may be called `array` after a dot alone.
            (before[-1:] == ["array"] and before[:1] != ["."])
            or (bool(self.brackets) and self.brackets[-1].is_array and before[-1] in {"[", ","})
        )
        self.brackets.append(_Bracket(token, is_array, is_subscript=spelling(token) == "[" and not is_array))

    def _in_subscript(self) -> bool:
        return bool(self.brackets) and self.brackets[-1].is_subscript
