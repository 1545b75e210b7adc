"""Texts and bytes made to break what reads them. All come from a `Random`, so that a seed makes them again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from random import Random
from typing import Any, TypeVar

from thea_store.resources import sql_dir

T = TypeVar("T", str, bytes)

# --- SQL ----------------------------------------------------------------------------------------

NASTY = "':\"\\$-/*;?[]{}()@#%_ab1EeBbXxNnUu& \t\n\r\f\v\u00a0\u200b\ufeffé漢🙂\x01\x7f"
TAGS = ["", "a", "A", "_b1", "é", "漢", "a1", "\u00a0"]
WORDS = ["a", "e", "x", "u", "n", "b", "_1", "a$b$c", "año", "漢字", "no\u00a0break", "\ufeffbom", "select", "limit"]
NUMBERS = ["0", "1", "12", "1.5", "1.", ".5", "1e5", "1E-3", "1_000", "0x1F", "0o7", "1..2", "1e", "1a", "00"]
OPERATORS = [
    *"+-*/<>=~!@#%^&|`?",
    "->>",
    "#>>",
    "@>",
    "?|",
    "<->",
    "=-",
    "@-",
    "+/",
    "-/",
    "*/",
    "<*",
    "::",
    ":=",
    "..",
]
NAMES = [":a", ":b", ":user_id", ":a1", ":_x", ":A", ":año", ":e", ":x", ":u", ":n"]
PIECES = [
    *("'", '"', "\\", "$", ":", "/", "*", "-", "?", "[", "]", "(", ")", "{", "}", ",", ".", ";", " ", "\t", "\n", "\r"),
    *("''", "\\'", '""', "$$", "$a$", "$A$", "$a", "$1", "$12", "--", "/*", "*/", "/**/", "\f", "\v", "\x01", "\ufeff"),
    *(prefix + quote for prefix in ("E", "e", "B", "x", "N", "U&", "u&") for quote in "'\""),
    *("u&", "U", *WORDS, *NUMBERS, *OPERATORS, *NAMES),
]
SLICES = ["1:2", ":2", "1:", ":", "1:n", "a:b", "1: :a", "(:a)", ": :b", "1 + :a", ":a", "1 :b", "1::a", "f(:a):n"]


def sql_text(random: Random) -> str:
    """A text that is SQL, nearly SQL, or none; without NUL, which no file may have."""
    text = random.choices([_pieces, _built, _cut_out], weights=[3, 4, 2])[0](random)
    return _damaged(text, random, PIECES) if random.random() < 0.3 else text


def _pieces(random: Random) -> str:
    return "".join(random.choices(PIECES, k=random.randint(1, 16)))


def _built(random: Random) -> str:
    return "".join(random.choice(LEXICAL)(random) + random.choice(GAPS)(random) for _ in range(random.randint(1, 8)))


def _cut_out(random: Random) -> str:
    text = random.choice(real_sql())
    start = random.randrange(len(text))
    return text[start : start + random.randint(20, 300)]


def _damaged(text: T, random: Random, pieces: Sequence[T]) -> T:
    for _ in range(random.randint(1, 3)):
        place, length = random.randint(0, len(text)), random.randint(0, 3)
        text = text[:place] + random.choice([random.choice(pieces), text[:0]]) + text[place + length :]
    return text


@cache
def real_sql() -> list[str]:
    """The project's own files of queries."""
    return [path.read_text(encoding="utf-8") for path in sorted(sql_dir().glob("*.sql"))]


def _content(random: Random, without: str = "") -> str:
    text = "".join(random.choices(NASTY, k=random.randint(0, 10)))
    return text.translate(dict.fromkeys(map(ord, without)))


def _plain(random: Random) -> str:
    return random.choice(["", "", "N", "U&", "u&"]) + _quoted(_content(random), "'")


def _quoted(text: str, mark: str) -> str:
    return mark + text.replace(mark, mark * 2) + mark


def _escaped(random: Random) -> str:
    parts = ["\\'", "''", "\\\\", "\\n", "\\x41", "\\u00e9", ":a", "\\:", "$$", "--", "é", '"', "\n", "/*", "\\\n"]
    return f"{random.choice('Ee')}'{''.join(random.choices(parts, k=random.randint(0, 6)))}'"


def _continued(random: Random) -> str:
    gap = random.choice(["\n", " \n ", " -- it's :a\n", "\r", "\n--\n", " ", "/*\n*/", "\n/**/\n", "\v\n"])
    return random.choice([_plain, _escaped])(random) + gap + _quoted(_content(random), "'")


def _dollars(random: Random) -> str:
    tag, other = random.choices(TAGS, k=2)
    return f"${tag}${_content(random)}{random.choice(['', f'${other}$', '$'])}${tag}$"


def _bits(random: Random) -> str:
    return random.choice("BbXx") + f"'{''.join(random.choices('01F', k=random.randint(0, 3)))}'"


def _name_in_quotes(random: Random) -> str:
    return random.choice(["", "", "U&"]) + _quoted(_content(random, without="\\") or "a", '"')


def _comment(random: Random, depth: int = 3) -> str:
    inner = [_content(random, without="/*")]
    while depth and random.random() < 0.5:
        inner += [_comment(random, depth - 1), _content(random, without="/*")]
    return f"/*{random.choice(['', ' ', '* '])}{''.join(inner)}*/"


def _line_comment(random: Random) -> str:
    return f"--{_content(random, without=chr(10) + chr(13))}{random.choice([chr(10), chr(13)])}"


def _any_of(texts: Sequence[str]) -> Callable[[Random], str]:
    return lambda random: random.choice(texts)


LEXICAL: list[Callable[[Random], str]] = [
    *(_plain, _escaped, _continued, _dollars, _bits, _name_in_quotes, _comment, _line_comment),
    *(_any_of(WORDS), _any_of(NUMBERS), _any_of(OPERATORS), _any_of(NAMES), _any_of(NAMES), _any_of("()[],;.")),
    _any_of([f"a[{inner}]" for inner in SLICES]),
]
GAPS: list[Callable[[Random], str]] = [_any_of(["", " ", " ", "\n", "\t", "\r\n"]), _comment, _line_comment]


def constant(random: Random) -> str:
    """A string or a quoted name of any kind, perhaps after a comment."""
    comment = random.choice(["", _comment(random), _line_comment(random)])
    return comment + random.choice([_plain, _escaped, _dollars, _name_in_quotes])(random)


def gap(random: Random) -> str:
    """What may stand between any two tokens and means nothing."""
    return random.choice([" ", "\n", "\t\f ", " /* :a ' */ ", " -- it's $1 :b\n", " /*/**/'*/", " --\n"])


# --- cursors ------------------------------------------------------------------------------------

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
_ODD = [*"=+/ \n\t.%,~", "==", "\0", "é", "\u00a0", "\ud800", "A" * 1000, "\u0661", "%3D", "null"]


def cursor_text(random: Random, valid: Sequence[str]) -> str:
    """What may come for a cursor: a valid one, damaged, or nothing like it."""
    if random.random() < 0.2:
        return "".join(random.choices([*_ALPHABET, *_ODD], k=random.randint(0, 60)))
    text = random.choice(valid)
    if random.random() < 0.3:  # parts of two
        place, other = random.randint(0, len(text)), random.choice(valid)
        text = text[:place] + other[place:]
    return _damaged(text, random, [*_ALPHABET, *_ODD]) if random.random() < 0.9 else text


# --- chat exports -------------------------------------------------------------------------------

ODD_VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1.5, -0.0, 1e300, 2**31, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 10**90),
    *("", " ", "0", "null", "user0", "user99999999999999999999", "channel1", "message", "service", "a\0b", "\x0b"),
    *("2026-13-45", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "253402300799", "999999999999", "-1"),
    *([], {}, [None], [[]], ["a", 5], [{"text": {"text": "a"}}], [{"type": "bold"}], {"text": "a"}, {"list": []}),
    *("x" * 300, "é😀\u200b\ufeff", "\ud83d", [{"type": "bold", "text": "a"}, "b"], float("nan"), float("inf")),
]
_BYTES = [
    b'"',
    b"\\",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\xff",
    b"\x00",
    b"\\x0B",
    b"\\ud83d",
    b"9" * 120,
    b"-",
    b"e5",
]
Path_ = tuple[str | int, ...]


class Twice(dict[str, Any]):
    """An object that has one of its keys twice."""

    def __init__(self, fields: dict[str, Any], key: str, value: object) -> None:
        super().__init__(fields)
        self.again = (key, value)

    def items(self) -> Any:
        return [*super().items(), self.again]


def paths(value: object, path: Path_ = ()) -> Iterator[Path_]:
    """The way to every value of a document, itself first."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, each in inner:
        yield from paths(each, (*path, key))


def changed(value: Any, path: Path_, change: Callable[[Any], Any]) -> Any:
    """The document with what stands there changed."""
    match value:
        case _ if not path:
            return change(value)
        case list():
            return [changed(each, path[1:], change) if n == path[0] else each for n, each in enumerate(value)]
        case dict():
            return {key: changed(each, path[1:], change) if key == path[0] else each for key, each in value.items()}
    return value


def broken_export(random: Random, export: dict[str, Any]) -> bytes:
    """The export with some of it changed, left out or there twice, and with bytes of it damaged."""
    for _ in range(random.randint(0, 3)):
        export = changed(export, random.choice(list(paths(export))[1:]), partial(_broken, random))
    content = json.dumps(export, ensure_ascii=random.random() < 0.3, indent=random.choice([None, 1])).encode(
        errors="surrogatepass"
    )
    if random.random() < 0.3:
        content = content[: random.randrange(len(content))]
    return _damaged(content, random, _BYTES) if random.random() < 0.3 else content


def _broken(random: Random, value: Any) -> Any:
    match value:
        case dict() if value and random.random() < 0.7:
            key = random.choice(list(value))
            without = {name: each for name, each in value.items() if name != key}
            return random.choice([without, {**without, key: value[key]}, Twice(value, key, random.choice(ODD_VALUES))])
        case list() if value and random.random() < 0.7:
            return random.choice([value[1:], value + value[:1], value[::-1], [*value, random.choice(ODD_VALUES)]])
    return random.choice(ODD_VALUES)


# --- smaller ------------------------------------------------------------------------------------


def minimised(text: T, fails: Callable[[T], bool]) -> T:
    """The shortest text that taking pieces away leads to and that fails still."""
    size = len(text) // 2
    while size:
        start = 0
        while start < len(text):
            shorter = text[:start] + text[start + size :]
            if fails(shorter):
                text = shorter
            else:
                start += size
        size //= 2
    return text
