"""The shapes of a statement that a switch decides, found in its tokens.

A variant of `thea_store.queries.variants` has these decided:

- `(:a::type is null or C)` and `(:flag or C)` become `(C)`, or nothing where the first half is true;
- `case when :flag then A else B end`, also with `:a::type is null`, becomes `(A)` or `(B)`;
- a key of an `order by` that is a `case` without `else` becomes its branch or no key. A branch `(a, b)`
  becomes one key for each column, all in the direction that is written after the `case`.

`is not null`, `not :flag`, `cast(:a as type)` and more brackets are read as well. All else stays as it is written, so
the whole statement also runs as it stands in psql. Nothing is folded that holds a condition on the tenant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import NamedTuple, TypeAlias

from thea_store.queries.lexer import SqlText, Token, spelling
from thea_store.queries.parameters import TENANT

__all__ = ["Fold", "Folder", "Gap", "Parameter", "Piece"]

# A bracket after another word belongs to a function, a type or a list.
_BEFORE_CONDITION = frozenset({"where", "and", "or", "not", "on", "having", "when", "then", "else", "select"})
_AFTER_CONDITION = frozenset(
    {"", ")", "and", "or", "group", "having", "order", "limit", "offset", "for", "returning", "union", "then"}
)
_AFTER_TYPE = frozenset({")", "is", "or", "and", "then"})
_DIRECTIONS = frozenset({"asc", "desc", "nulls", "first", "last"})
_AFTER_ORDER = frozenset({"limit", "offset", "fetch", "for", "rows", "range", "groups"})


@dataclass(frozen=True, slots=True)
class Fold:
    """A piece that is one or the other, by a switch."""

    name: str
    on: Sequence[Piece]
    off: Sequence[Piece]


class Parameter(NamedTuple):
    """The place of a parameter, which gets its number when the variant is written."""

    name: str


class Gap(NamedTuple):
    """What is left out between two pieces: so many line breaks, and the blanks that stand for it."""

    breaks: int
    blanks: str


Piece: TypeAlias = "str | Parameter | Gap | Fold"


class _Condition(NamedTuple):
    """`:flag` or `:a is null`, and what may stand around it."""

    name: str
    off: bool | None
    """The value that switches it off."""
    if_on: bool
    """What the condition is where the switch is on."""
    end: int
    """The index of the token after it."""


@dataclass(slots=True)
class Folder:
    """Finds the shapes in the tokens of one statement."""

    file: SqlText
    tokens: Sequence[Token]
    parameters: Mapping[int, str]
    switches: frozenset[str]
    off: dict[str, bool | None] = field(default_factory=dict)
    """The switches that were found, with the value that switches each off."""
    _words: list[str] = field(init=False)
    _closing: dict[int, int] = field(init=False)

    def __post_init__(self) -> None:
        self._words = [_word(token) for token in self.tokens]
        self._closing = dict(_pairs(self._words))

    def pieces(self, start: int, end: int) -> list[Piece]:
        """What stands from the one token to before the other."""
        found: list[Piece] = []
        is_order = [False]  # for each open bracket
        index = start
        while index < end:
            word = self._words[index]
            if fold := self._condition_after_and(index) or self._condition_fold(index):
                piece, index = fold
                found.append(piece)
                continue
            if fold := self._case_fold(index, is_key=is_order[-1] and self._word(index - 1) in {"by", ","}):
                piece, index = fold
                found.append(piece)
                continue
            if word in {"(", "["}:
                is_order.append(False)
            elif word in {")", "]"}:
                is_order.pop()
            elif word == "by":
                is_order[-1] = self._word(index - 1) == "order"
            elif word in _AFTER_ORDER:
                is_order[-1] = False
            found += self._token(index)
            index += 1
        return _joined(found)

    # --- conditions

    def _condition_after_and(self, index: int) -> tuple[Fold, int] | None:
        """`and (… or C)`, which leaves nothing behind where it does not apply."""
        if self._words[index] != "and" or not (group := self._group(index + 1)):
            return None
        condition, end = group
        if self._word(end) not in _AFTER_CONDITION or self._is_between(index):
            return None
        kept = [*self._token(index), *self._kept(index + 1, condition)]
        return self._fold(condition, index, end, if_true=self._left_out(index, end), if_false=kept), end

    def _condition_fold(self, index: int) -> tuple[Fold, int] | None:
        if not (group := self._group(index)):
            return None
        condition, end = group
        kept = self._kept(index, condition)
        return self._fold(condition, index, end, if_true=["true", *self._tail(index, end)], if_false=kept), end

    def _group(self, index: int) -> tuple[_Condition, int] | None:
        """The condition that `(… or C)` starts with, and the index after the bracket."""
        if self._word(index) != "(" or self._is_call(index):
            return None
        condition, end = self._condition(index + 1), self._closing[index]
        if not condition or self._word(condition.end) != "or" or "," in self._top_level(condition.end, end):
            return None
        return condition, end + 1

    def _kept(self, index: int, condition: _Condition) -> list[Piece]:
        start, end = condition.end + 1, self._closing[index]
        kept, after = self._trimmed(start, end)
        return [
            "(",
            self._dropped(self._end(index), self._start(start)),
            *kept,
            self._dropped(after, self._start(end)),
            *self._token(end),
        ]

    def _is_call(self, index: int) -> bool:
        before = self.tokens[index - 1] if index else None
        if before is None or before.lastgroup == "word":
            return before is not None and self._words[index - 1] not in _BEFORE_CONDITION
        return before.lastgroup == "quoted" or self._words[index - 1] in {")", "]"}

    def _is_between(self, index: int) -> bool:
        """Whether this `and` is the one of `between … and`."""
        depth = 0
        for word in reversed(self._words[:index]):
            depth += (word == ")") - (word == "(")
            if depth < 0 or (depth == 0 and word in _BEFORE_CONDITION - {"not"}):
                return False
            if depth == 0 and word == "between":
                return True
        return False

    def _condition(self, index: int) -> _Condition | None:
        if self._word(index) == "not":
            inner = self._condition(index + 1)
            return inner._replace(if_on=not inner.if_on) if inner else None
        if operand := self._operand(index):
            name, end = operand
            match self._words[end : end + 3]:
                case ["is", "null", *_]:
                    return _Condition(name, None, if_on=False, end=end + 2)
                case ["is", "not", "null"]:
                    return _Condition(name, None, if_on=True, end=end + 3)
            return _Condition(name, off=False, if_on=True, end=end)
        if self._word(index) == "(" and (inner := self._condition(index + 1)) and self._word(inner.end) == ")":
            return inner._replace(end=inner.end + 1)
        return None

    def _operand(self, index: int) -> tuple[str, int] | None:
        """A switch, with a cast or without, and the index after it."""
        if self._is_switch(index):
            end = index + 1
            return self.parameters[index], self._after_type(end + 1) if self._word(end) == "::" else end
        match self._words[index : index + 4]:
            case ["cast", "(", _, "as"] if self._is_switch(index + 2):
                return self.parameters[index + 2], self._closing[index + 1] + 1
            case ["(", *_]:
                inner = self._operand(index + 1)
                return (inner[0], inner[1] + 1) if inner and self._word(inner[1]) == ")" else None
        return None

    def _after_type(self, index: int) -> int:
        while (word := self._word(index)) and word not in _AFTER_TYPE:
            index = self._closing.get(index, index) + 1
        return index

    def _is_switch(self, index: int) -> bool:
        return self.parameters.get(index) in self.switches

    # --- cases

    def _case_fold(self, index: int, *, is_key: bool) -> tuple[Fold, int] | None:
        if self._words[index] != "case" or self._word(index + 1) != "when" or self._word(index - 1) in {".", "as"}:
            return None
        condition = self._condition(index + 2)
        if not condition or self._word(condition.end) != "then" or not (ends := self._ends(condition.end + 1)):
            return None
        otherwise, end = ends
        branches = (condition.end + 1, otherwise), (otherwise + 1, end)
        if is_key and otherwise == end:
            return self._key(index, condition, branches[0], end + 1)
        texts = [self._branch(index, branch, end + 1) for branch in branches]
        return self._fold(condition, index, end + 1, if_true=texts[0], if_false=texts[1]), end + 1

    def _ends(self, start: int) -> tuple[int, int] | None:
        """The indexes of `else` and `end` of the case whose first branch starts here; of `end` twice without `else`."""
        depth, otherwise, index = 0, None, start
        while word := self._word(index):
            is_name = self._word(index - 1) in {".", "as"}
            if word == "end" and depth == 0 and not is_name:
                return (index if otherwise is None else otherwise), index
            if word == "when" and depth == 0:  # a case with several conditions
                return None
            if word == "else" and depth == 0:
                otherwise = index
            depth += (word == "case" and not is_name) - (word == "end" and not is_name)
            index = self._closing.get(index, index) + 1
        return None

    def _branch(self, index: int, branch: tuple[int, int], end: int) -> list[Piece]:
        """The branch in place of the whole case; in brackets, unless it is a single word or value."""
        start, stop = branch
        if start > stop:  # no `else`
            return ["null", *self._tail(index, end)]
        # Nothing binds looser than what stands in a bracket alone, or after its last `or`.
        is_alone = stop - start == 1 or (self._word(index - 1) in {"(", "or"} and self._word(end) == ")")
        left, right = ("", "") if is_alone else ("(", ")")
        if self._is_position(index, start, stop):
            left, right = "(+", ")"
        kept, after = self._trimmed(start, stop)
        before = self._dropped(self._start(index), self._start(start))
        return [left, before, *kept, right, *self._tail_from(after, end)]

    def _key(self, index: int, condition: _Condition, branch: tuple[int, int], end: int) -> tuple[Fold, int]:
        """A key of an `order by`, with its direction and the comma after it."""
        direction = end
        while self._word(end) in _DIRECTIONS:
            end += 1
        if self._word(end) != ",":
            raise self.file.error(
                self.tokens[index].start(), "another key must follow this one, which is not in every variant"
            )
        start, stop = branch
        suffix = " ".join(["", *self._words[direction:end]])
        key: list[Piece] = []
        before = self._start(index)
        for first, last in self._columns(start, stop):
            kept, after = self._trimmed(first, last)
            sign = "+" if self._is_position(index, first, last) else ""
            key += [", " if key else "", self._dropped(before, self._start(first)), sign, *kept, suffix]
            before = after
        key += [self._dropped(before, self._start(end)), *self._token(end)]
        return self._fold(condition, index, end + 1, if_true=key, if_false=self._left_out(index, end + 1)), end + 1

    def _is_position(self, index: int, start: int, stop: int) -> bool:
        """Whether the branch would be read as the number of a column in an `order by` or `group by`."""
        return stop - start == 1 and self.tokens[start].lastgroup == "number" and self._word(index - 1) in {"by", ","}

    def _columns(self, start: int, stop: int) -> list[tuple[int, int]]:
        """The columns of `(a, b)`, or all of another expression."""
        if self._words[start] != "(" or self._closing[start] != stop - 1:
            return [(start, stop)]
        edges = [start]
        index = start + 1
        while index < stop:
            if self._words[index] == "," or index == stop - 1:
                edges.append(index)
            index = self._closing.get(index, index) + 1
        return [(first + 1, last) for first, last in pairwise(edges)]

    # --- pieces

    def _fold(
        self, condition: _Condition, start: int, end: int, *, if_true: Sequence[Piece], if_false: Sequence[Piece]
    ) -> Fold:
        name = condition.name
        if self.off.setdefault(name, condition.off) is not condition.off:
            raise self.file.error(
                self.tokens[start].start(),
                f"`:{name}` is a flag here and compared with null elsewhere: use two parameters",
            )
        for index in range(start, end):
            if _is_tenant(self._words[index]):
                raise self.file.error(
                    self.tokens[index].start(),
                    f"a variant by `{name}` would touch this condition on the tenant, which belongs to every variant: "
                    f"move it out, or drop `{name}` from `variants`",
                )
        on, off = (if_true, if_false) if condition.if_on else (if_false, if_true)
        return Fold(name, on, off)

    def _token(self, index: int) -> list[Piece]:
        """A token and what stands between it and the next one."""
        text = spelling(self.tokens[index])
        return [Parameter(text[1:]) if index in self.parameters else text, self._gap(index + 1)]

    def _trimmed(self, start: int, end: int) -> tuple[list[Piece], int]:
        """Tokens without the blanks after the last one, and the offset where they end."""
        found, gap = self.pieces(start, end), self._gap(end)
        if gap.isspace() and found and isinstance(found[-1], str):
            found[-1] = found[-1].removesuffix(gap)
            return found, self._end(end - 1)
        return found, self._start(end)

    def _tail(self, start: int, end: int) -> list[Piece]:
        """What stands after tokens that are left out, with the line breaks between them."""
        return self._tail_from(self._start(start), end)

    def _tail_from(self, offset: int, end: int) -> list[Piece]:
        gap = self._gap(end)
        if gap.strip():  # a comment
            return [self._dropped(offset, self._end(end - 1)), gap]
        dropped = self._dropped(offset, self._start(end))
        return [dropped if dropped.breaks else gap]

    def _left_out(self, start: int, end: int) -> list[Piece]:
        """What stands for these tokens where they leave nothing behind: the comment after them, if any."""
        comment = self._gap(end).lstrip()
        first, last = self._start(start), self._start(end)
        return [self._dropped(first, last - len(comment)), comment]

    def _gap(self, index: int) -> str:
        """The blanks and comments before a token."""
        return self.file.text[self._end(index - 1) : self._start(index)]

    def _dropped(self, start: int, end: int) -> Gap:
        """What stands for the text between two offsets, which is left out."""
        breaks = self.file.text.count("\n", start, end)
        line = self.file.text[self.file.text.rfind("\n", 0, end) + 1 : end]
        return Gap(breaks, line[: len(line) - len(line.lstrip())] if breaks else "")

    def _start(self, index: int) -> int:
        return self.tokens[index].start() if index < len(self.tokens) else self._end(index - 1)

    def _end(self, index: int) -> int:
        token = self.tokens[index]
        return token.end(token.lastindex or 0)

    def _word(self, index: int) -> str:
        return self._words[index] if 0 <= index < len(self._words) else ""

    def _top_level(self, start: int, end: int) -> list[str]:
        """The words that stand in no further bracket."""
        found, index = [], start
        while index < end:
            found.append(self._words[index])
            index = self._closing.get(index, index) + 1
        return found


def _word(token: Token) -> str:
    return spelling(token) if token.lastgroup in {"string", "quoted"} else spelling(token).lower()


def _pairs(words: Sequence[str]) -> Iterator[tuple[int, int]]:
    opened: list[int] = []
    for index, word in enumerate(words):
        if word in {"(", "["}:
            opened.append(index)
        elif word in {")", "]"}:
            yield opened.pop(), index


def _is_tenant(word: str) -> bool:
    # An escaped identifier could spell any name.
    return word.strip('":') == TENANT or word[:3].lower() == 'u&"'


def _joined(pieces: Sequence[Piece]) -> list[Piece]:
    """The same, with neighbouring texts in one piece."""
    found: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, str) and found and isinstance(found[-1], str):
            found[-1] += piece
        else:
            found.append(piece)
    return found
