"""PostgreSQL's lexical structure: text to tokens that add up to that text.

The rules are those of the manual, chapter 4.1, with `standard_conforming_strings` on, as servers 15 to 18
agree on them, and `:name` besides. What does not bear on where a string, a comment or a name ends (is `1e`
a number? is `=-` one operator or two?) is the server's to say.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from thea_store.errors import QueryFileError

__all__ = ["Source", "SqlText", "Token", "spelling", "tokenize"]

# Letters, digits and $, each class by the ASCII characters that are not in it: PostgreSQL takes all above 127
# for letters, a no-break space too (unlike Python's \w), and `\x80-\U0010ffff` takes milliseconds to compile.
_START = r"[^\x00-@\[-^`{-\x7f]"
_WORD = rf"{_START}[^\x00-#%-/:-@\[-^`{{-\x7f]*+"
_TAG = rf"(?:{_START}[^\x00-/:-@\[-^`{{-\x7f]*+)?"
_DIGITS = r"[0-9][0-9_]*+"
_BLANKS = r"[ \t\n\r\f]*+"
# Possessive sets (`*+`) keep the time linear; possessive groups are wrong before Python 3.11.5 (gh-106052), so
# it is the look ahead that keeps a string from ending at the first half of a `''`.
_PLAIN = r"'[^']*+(?:''[^']*+)*'(?!')"
_ESCAPED = r"'[^'\\]*+(?:(?:''|\\.)[^'\\]*+)*'(?!')"
# Strings are one string if there are only blanks and `--` comments between them, a line break among these. So an
# escape string that goes on in one without end has none either: the server would not take them for two.
_NEXT = r"(?:[ \t\f]|--[^\n\r]*+)*[\n\r](?:[ \t\n\r\f]|--[^\n\r]*+[\n\r])*"

_TOKEN = re.compile(
    rf"""
    (?: (?P<word>      (?![EeBbXxNn]' | [Uu]&['"]) {_WORD} )
      | (?P<symbol>    , | \.\. | \.(?![0-9]) | := )
      | (?P<semicolon> ; )
      | (?P<bracket>   [()\[\]] )
      | (?P<cast>      :: )
      | (?P<parameter> :(?![Uu]&['"]) {_WORD} (?!['"]) )
      | (?P<colon>     : )
      | (?P<number>    (?:{_DIGITS} (?:\.(?!\.)[0-9_]*+)? | \.{_DIGITS}) (?:[Ee][-+]?{_DIGITS})? (?:{_WORD})? )
      | (?P<comment>   --[^\n\r]*+ )
      | (?P<nestable>  /\* )
      | (?P<operator>  (?:(?!--|/\*) [-+*/<>=~!@\#%^&|`?])+ )
      | (?P<string>    [Ee]{_ESCAPED} (?:{_NEXT}{_ESCAPED})* (?!{_NEXT}')
                     | (?:[BbXxNn]|[Uu]&)? {_PLAIN} (?:{_NEXT}{_PLAIN})*
                     | \$(?P<tag>{_TAG})\$ .*? \$(?P=tag)\$ )
      | (?P<quoted>    (?:[Uu]&)? "[^"]*+(?:""[^"]*+)*"(?!") )
      | (?P<blanks>    (?=[ \t\n\r\f]) )
      | (?P<open>      (?:[EeBbXxNn]|[Uu]&)? ['"] | \${_TAG}\$ )
      | (?P<positional> \$[0-9]++ )
      | (?P<bad>       . )
    ) {_BLANKS}
    """,
    re.DOTALL | re.VERBOSE,
)
_COMMENT = re.compile(r"(?P<comment>.*)", re.DOTALL)
_COMMENT_EDGE = re.compile(r"/\*|\*/")
_POSITIONAL = "positional"
_FAULTY = frozenset({"open", "bad", _POSITIONAL})

Token: TypeAlias = re.Match[str]
"""A piece of an SQL text, with the blanks after it; a match, for an own object would double the loading time.

`lastgroup` is its kind: word, quoted (identifier), string, number, operator, symbol, semicolon, bracket, cast,
parameter, colon, positional (`$1`), comment, or blanks that no token takes along. A `parameter` is a colon directly
followed by a name, be it a parameter, the end of a slice or a value in `json_object`.
"""


@dataclass(frozen=True, slots=True)
class Source:
    """A line of an SQL file; as text `sql/notes.sql:12`."""

    path: Path
    line: int

    def __str__(self) -> str:
        return f"{self.path.as_posix()}:{self.line}"


@dataclass(frozen=True, slots=True)
class SqlText:
    """The content of an SQL file, with the path to name in errors."""

    path: Path
    text: str

    def source(self, offset: int) -> Source:
        """The line of the character at `offset`."""
        return Source(self.path, self.text.count("\n", 0, offset) + 1)

    def error(self, offset: int, message: str) -> QueryFileError:
        """The error to raise for what stands at `offset`."""
        return QueryFileError(f"{self.source(offset)}: {message}")


def spelling(token: Token) -> str:
    """The token without the blanks after it."""
    return token[token.lastindex or 0]


def tokenize(file: SqlText, *, positional: bool = False) -> Iterator[Token]:
    """All tokens; they add up to the text. QueryFileError at what has no end or is no SQL.

    It is also raised at a `$1`, unless these are wanted: a migration has them in functions and in `prepare`.
    """
    position: int | None = 0
    faulty = _FAULTY - {_POSITIONAL} if positional else _FAULTY
    while position is not None:
        scan, position = _TOKEN.finditer(file.text, position), None
        for token in scan:
            if token.lastgroup in faulty:
                raise file.error(token.start(), _complaint(token))
            if token.lastgroup == "nestable":
                comment = _comment(file, token.start())
                yield comment
                position = comment.end()
                break
            yield token


def _comment(file: SqlText, start: int) -> Token:
    depth = 0  # these comments nest, which a regular expression cannot count
    for edge in _COMMENT_EDGE.finditer(file.text, start):
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0 and (comment := _COMMENT.match(file.text, start, edge.end())):
            return comment
    raise file.error(start, "this comment has no end: every `/*` needs its `*/`")


def _complaint(token: Token) -> str:
    text = spelling(token)
    if token.lastgroup == "open":
        what = "quoted identifier" if text.endswith('"') else "string"
        end = text if text.startswith("$") else text[-1]
        return f"the {what} that starts with `{text}` has no end: close it with `{end}`"
    if token.lastgroup == _POSITIONAL:
        return f"`{text}` is a positional parameter: give it a name, as in `:user_id`"
    return f"{text!r} is no part of SQL here: remove it"
