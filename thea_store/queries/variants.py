"""A statement that depends on what a call gives, made into one statement for each case when its file is read.

    -- variants: user_id, newest_first
    …
    where tenant_id = :tenant_id
      and (:user_id::bigint is null or user_id = :user_id)
    order by case when :newest_first then (created_at, id) end desc, created_at, id

Each name of the header is a switch. A name that is compared with null is on where a call gives a value; any other
is a flag, which is on where it is true. Two names give four variants. Which shapes a variant has decided stands in
`thea_store.queries.folding`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import NamedTuple, TypeAlias

from thea_store.queries.folding import Fold, Folder, Gap, Parameter, Piece
from thea_store.queries.lexer import SqlText, Token
from thea_store.queries.parameters import TENANT

__all__ = ["MOST", "Key", "Switches", "Variant", "expand"]

MOST = 64
"""How many variants a statement may have: six names."""

Key: TypeAlias = tuple[bool, ...]
"""Which switches are on, in the header's order."""

Switches: TypeAlias = Mapping[str, bool | None]
"""The names of the header, each with the value that switches it off: `None`, or `False` for a flag."""

_NAME = re.compile(r"[a-z_][a-z0-9_]*")
_SHAPES = (
    "`(:{0}::type is null or …)`, `(:{0} or …)`, `case when :{0} then … else … end`, or `case when :{0} then … end` "
    "as a key of `order by`"
)


class Variant(NamedTuple):
    """One case of a statement."""

    on: tuple[str, ...]
    """The switches that are on."""
    text: str
    """With `$1` … for its parameters."""
    parameters: tuple[str, ...]
    """Their names, in the order of their numbers."""
    lines: tuple[int, ...]
    """The line of the file that each line of the text comes from."""


def expand(
    file: SqlText, tokens: Sequence[Token], parameters: Mapping[int, str], names: str, offset: int
) -> tuple[Switches, dict[Key, Variant]]:
    """All variants of a statement by the header's names; QueryFileError for a header that does not fit it.

    `parameters` are the names by their tokens' indexes, and `offset` is where the header stands.
    """
    switches = _names(file, names, offset, frozenset(parameters.values()))
    folder = Folder(file, tokens, parameters, frozenset(switches))
    pieces = folder.pieces(0, len(tokens))
    for name in switches:
        if name not in folder.off:
            shapes = _SHAPES.format(name)
            raise file.error(
                offset, f"the statement has nothing to fold for `{name}`: write {shapes}, or drop the name"
            )
    line = file.source(tokens[0].start()).line
    keys = product([False, True], repeat=len(switches))
    return {name: folder.off[name] for name in switches}, {key: _variant(switches, key, pieces, line) for key in keys}


def _names(file: SqlText, names: str, offset: int, parameters: frozenset[str]) -> tuple[str, ...]:
    found = names.split(", ")
    for name in found:
        if not _NAME.fullmatch(name) or found.count(name) > 1:
            raise file.error(offset, f"`{name}` is no name, or stands here twice: write the names as `a, b`")
        if name == TENANT:
            raise file.error(offset, f"`{TENANT}` is part of every variant: drop it")
        if name not in parameters:
            raise file.error(offset, f"the statement has no parameter `:{name}`: correct the name, or drop it")
    if 2 ** len(found) > MOST:
        raise file.error(
            offset,
            f"{len(found)} names make {2 ** len(found)} variants, and {MOST} are the most: keep the names that decide "
            "which index serves, and leave the other conditions as they are written",
        )
    return tuple(found)


# --- writing ------------------------------------------------------------------------------------


def _variant(switches: Sequence[str], key: Key, pieces: Sequence[Piece], first_line: int) -> Variant:
    on = tuple(name for name, is_on in zip(switches, key, strict=True) if is_on)
    numbers: dict[str, int] = {}
    parts, line, lines = [""], first_line, [first_line]  # the parts of the present line, from the last line break on
    text: list[str] = []
    for piece in _chosen(pieces, frozenset(on)):
        if isinstance(piece, Gap):
            line += piece.breaks
            if not "".join(parts).strip():
                parts = [piece.blanks if piece.breaks else "".join(parts)]
                lines[-1] = line
            elif piece.breaks:
                text += [*parts, "\n"]
                parts = [piece.blanks]
                lines.append(line)
            else:
                parts.append(piece.blanks)
            continue
        if isinstance(piece, Parameter):
            parts.append(f"${numbers.setdefault(piece.name, len(numbers) + 1)}")
            continue
        head, *tails = piece.split("\n")
        parts.append(head)
        for tail in tails:
            line += 1
            lines.append(line)
            text += [*parts, "\n"]
            parts = [tail]
    whole = "".join([*text, *parts]).rstrip()
    if "--" in whole.rpartition("\n")[2]:  # what is put after the statement must not become part of a comment
        whole += "\n"
    return Variant(on, whole, tuple(numbers), tuple(lines))


def _chosen(pieces: Sequence[Piece], on: frozenset[str]) -> Iterator[str | Parameter | Gap]:
    for piece in pieces:
        if isinstance(piece, Fold):
            yield from _chosen(piece.on if piece.name in on else piece.off, on)
        else:
            yield piece
