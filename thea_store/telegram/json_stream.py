"""A file of JSON as a stream of parser events, mended where Telegram Desktop and PostgreSQL differ from JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from ijson import JSONError, basic_parse_coro, sendable_list

__all__ = ["LONGEST_STRING", "BrokenFileError", "parse", "skip_to_json"]

_CHUNK = 16 * 1024
_SLICE = 512
"""Bytes that the parser gets at a time, and so how exactly the place of an error is known."""
LONGEST_STRING = 128 * 1024
_REFUSALS = (JSONError, ValueError, ArithmeticError)

_OTHER_FORMATS = {
    b"<": "it is an HTML export",
    b"PK": "it is an archive to be unpacked",
    b"\x1f\x8b": "it is an archive to be unpacked",
    b"\xff\xfe": "it is not in UTF-8",
    b"\xfe\xff": "it is not in UTF-8",
}

# Telegram Desktop writes a control character as `\x0B`, which JSON does not know, and a parser may end the process
# on a number of thousands of digits. So the parser gets whole strings and numbers only, each of them in order.
# Possessive groups would be wrong here before Python 3.11.5 (gh-106052); possessive sets are right everywhere.
_SOUND = re.compile(
    rb"""(?: [^"0-9]++
           | [0-9]{1,100}+ (?=[^0-9])
           | " (?: [^"\\\x00-\x1f]++
                 | \\ (?: ["\\/bfnrt]
                        | u (?: (?! 0000 | [dD][89a-fA-F] ) [0-9a-fA-F]{4}
                              | [dD][89abAB][0-9a-fA-F]{2} \\u [dD][c-fC-F][0-9a-fA-F]{2} ) ) )* "
         )*""",
    re.VERBOSE,
)
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*"', re.DOTALL)
_ENDLESS_NUMBER = re.compile(rb"[0-9]{101}")
_CANDIDATE = re.compile(
    rb"""(?P<right> \\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2} )
       | (?P<wrong> \\u(?:0000 | [dD][89a-fA-F][0-9a-fA-F]{2}) | \\x00 | \x00 )
       | \\x (?P<code> [0-9a-fA-F]{2} )
       | (?P<raw> [\x01-\x1f] )
       | \\.""",
    re.VERBOSE | re.DOTALL,
)


class BrokenFileError(Exception):
    """The file cannot be read further, for the reason that the text tells."""


def skip_to_json(file: BinaryIO) -> None:
    """Leaves `file` at the start of its JSON, after a byte order mark."""
    start = file.read(3)
    if start == b"\xef\xbb\xbf":
        return
    file.seek(0)
    if not start:
        raise BrokenFileError("it is empty")
    for magic, what in _OTHER_FORMATS.items():
        if start.startswith(magic):
            raise BrokenFileError(what)


def parse(file: BinaryIO) -> Iterator[tuple[int, list[tuple[str, Any]]]]:
    """The parser's events in batches, each with the offset in the file that it begins at or after."""
    batch: list[tuple[str, Any]] = sendable_list()
    parser = basic_parse_coro(batch)
    try:
        for offset, piece in _pieces(file):
            # The parser takes a time that is quadratic in the parts of a string.
            size = max(_SLICE, len(piece) // 32)
            for start in range(0, len(piece), size):
                part = piece[start : start + size]
                refused = _refused(parser.send, part)
                yield offset + start, batch
                batch.clear()
                if refused:
                    place = f"between byte {offset + start:,} and {offset + start + len(part):,}"
                    raise BrokenFileError(f"it is not JSON (or not UTF-8) {place}")
        refused = _refused(parser.close)
        yield file.tell(), batch
        if refused:
            raise BrokenFileError(f"it ends too early, at byte {file.tell():,}")
    finally:
        _refused(parser.close)


def _refused(step: Callable[..., object], *arguments: bytes) -> bool:
    try:
        step(*arguments)
    except _REFUSALS:
        return True
    return False


def _pieces(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The file mended and cut outside of strings and numbers, each piece with the offset that it begins at."""
    offset, held = file.tell(), b""
    while chunk := file.read(_CHUNK):
        data = held + chunk
        ready, taken = _mended(data)
        yield offset, ready
        offset, held = offset + taken, data[taken:]
        if len(held) > LONGEST_STRING:
            raise BrokenFileError(f"the string at byte {offset:,} is longer than {LONGEST_STRING:,} bytes")
        if _ENDLESS_NUMBER.match(held):
            raise BrokenFileError(f"the number at byte {offset:,} has more than 100 digits")
    if held.startswith(b'"'):
        raise BrokenFileError(f"it ends too early, at byte {file.tell():,}")
    yield offset, held


def _mended(data: bytes) -> tuple[bytes, int]:
    """What of `data` can be parsed, as JSON and PostgreSQL have it, and how many bytes of `data` that is."""
    parts: list[bytes] = []
    start = 0
    while True:
        sound = _SOUND.match(data, start)
        end = sound.end() if sound else start
        parts.append(data[start:end])
        flawed = _STRING.match(data, end)
        if not flawed:
            return b"".join(parts), end
        parts.append(_CANDIDATE.sub(_rewritten, flawed[0]))
        start = flawed.end()


def _rewritten(match: re.Match[bytes]) -> bytes:
    if match["wrong"]:
        return rb"\ufffd"
    if match["code"]:
        return rb"\u00" + match["code"]
    if match["raw"]:
        return b"\\u%04x" % ord(match["raw"])
    return match[0]
