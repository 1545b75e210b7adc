"""The text of a value in an export, whatever it is nested in: entities of a text, blocks of a rich message, a poll.

Telegram Desktop gets new keys with each version, so this does not list the keys that have text. Every string counts,
unless its key says that it is something else: an address, a file, a type, an id.

Lines and cells are told apart by shape, since the names differ from version to version: the parts of a text are
joined as they are, the cells of a table's row by ` | `, and everything else stands on a line of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from thea_store.telegram.json_stream import LONGEST_STRING

__all__ = ["OPENING", "Events", "TextTooLongError", "has_content", "is_text", "skip", "text_of"]

Events = Iterator[tuple[str, Any]]

OPENING = frozenset({"start_map", "start_array"})
_CLOSING = frozenset({"end_map", "end_array"})

# Deeper containers count as part of the one at this depth, and more parts than this as too long a text: so
# neither nesting nor a huge number of tiny strings fills the memory.
_DEEPEST = 64
_MOST_PARTS = 20_000

_NO_CONTENT = frozenset({"reactions", "inline_bot_buttons", "reply_markup", "members"})
_NO_TEXT = _NO_CONTENT | (
    {"type", "id", "href", "url", "link", "src", "path", "anchor", "language", "lang", "align", "valign", "style"}
    | {"photo", "file", "thumbnail", "video", "audio", "document", "mime", "contact_vcard", "currency", "date"}
    | {"edited", "author", "via_bot", "from", "actor", "action", "sticker_emoji"}
)
# What somebody else wrote, who or where it was, and what says of itself that it is no text. Whole names and endings
# alone: a beginning tells nothing, since `photo_caption` is a text and `photo_file_size` is none.
_NO_TEXT_NAME = re.compile(
    r"reply_to(?:_.*)?|(?:forwarded|saved)_from(?:_.*)?|(?:from|actor|via)_(?:.*_)?(?:bot|name|username)"
    r"|(?:.*_)?file_(?:name|reference|hash)"
    r"|.*_(?:id|ids|type|link|url|href|size|name_id|date|unixtime|seconds|path|vcard)"
)

_INLINE_KEYS = frozenset({"text", "texts", "text_entities", "children", "content", "spans", "rich_text"})
_LINE_KEYS = frozenset({"blocks", "items", "rows", "answers", "options", "lines", "paragraphs", "list"})
_INLINE_TYPES = frozenset(
    {"plain", "text", "bold", "italic", "underline", "strikethrough", "strike", "spoiler", "code", "fixed", "concat"}
    | {"link", "text_link", "text_url", "url", "email", "phone", "mention", "mention_name", "text_mention", "hashtag"}
    | {"cashtag", "bot_command", "bank_card", "custom_emoji", "marked", "highlight", "subscript", "superscript"}
    | {"math", "formula", "anchor", "reference", "date", "icon", "image"}
)


class TextTooLongError(Exception):
    """The text is longer than any message's."""


@dataclass(slots=True, eq=False)
class _Container:
    """An object or a list, and what is known of its entries so far."""

    parent: _Container | None
    depth: int
    key: str
    """That it stands under; for an entry of a list, that of the list."""
    is_list: bool
    has_strings: bool = False
    has_objects: bool = False
    has_lists: bool = False
    has_inline_entries: bool = False

    def is_inline(self) -> bool:
        if self.key in _LINE_KEYS:
            return False
        is_one_text = self.is_list and (self.has_inline_entries or (self.has_strings and self.has_objects))
        return is_one_text or self.key in _INLINE_KEYS or (self.parent is not None and self.parent.is_inline())

    def separator(self) -> str:
        """What stands between the texts of two of its entries."""
        if self.is_inline():
            return "" if self.is_list else " "
        is_row = self.is_list and not self.has_lists and (self.parent is not None and self.parent.is_list)
        return " | " if is_row or (self.key == "cells" and self.is_list and not self.has_lists) else "\n"


def is_text(key: str) -> bool:
    """Whether a string under this key is something that a person reads."""
    return key not in _NO_TEXT and not _NO_TEXT_NAME.fullmatch(key)


def has_content(key: str) -> bool:
    """Whether an object or a list under this key belongs to what somebody wrote."""
    return key not in _NO_CONTENT and not _NO_TEXT_NAME.fullmatch(key)


def skip(events: Events) -> None:
    """Read to the end of the object or list that has just started."""
    depth = 1
    for event, _ in events:
        if event in OPENING:
            depth += 1
        elif event in _CLOSING:
            depth -= 1
            if not depth:
                return


def text_of(key: str, event: str, events: Events) -> str:
    """The text of the object or list that has just started under `key`, to whose end this reads; empty where none is.

    `TextTooLongError` when it is more than 128 KiB of characters, then too at the end of the value.
    """
    found: list[tuple[str, list[str]]] = []
    before: _Container | None = None
    for container, part in _Parts(key, event).read(events):
        between = _common(before, container).separator() if before is not None else "\n"
        if between:
            found.append((between, []))
        found[-1][1].append(part)
        before = container
    text = ""
    for between, parts in found:
        joined = "".join(parts)
        if not joined.isspace():
            text = f"{text}{between}{joined}" if text else joined
    return text


class _Parts:
    """Collects each string that is text, with what it stands in, in the order of the file."""

    def __init__(self, key: str, event: str) -> None:
        self._parts: list[tuple[_Container, str]] = []
        self._container = _Container(None, 0, key, event == "start_array")
        self._key = key
        self._below = 0  # how many containers deeper than the deepest
        self._length = self._count = 0

    def read(self, events: Events) -> list[tuple[_Container, str]]:
        """All of them, as it takes the end of a list to know how its first entries are joined."""
        for event, value in events:
            if event == "string":
                self._take(value)
            elif event == "map_key":
                self._key = value
            elif event in OPENING:
                self._open(event, events)
            elif event in _CLOSING and not self._close():
                break
        if self._length > LONGEST_STRING or self._count > _MOST_PARTS:
            raise TextTooLongError
        return self._parts

    def _open(self, event: str, events: Events) -> None:
        outer, is_list = self._container, event == "start_array"
        if not outer.is_list and not has_content(self._key):
            skip(events)
        elif outer.depth == _DEEPEST:
            self._below += 1
        else:
            outer.has_lists |= is_list
            outer.has_objects |= not is_list
            key = outer.key if outer.is_list else self._key
            self._container = _Container(outer, outer.depth + 1, key, is_list)

    def _close(self) -> bool:
        """Whether the value goes on."""
        if self._below:
            self._below -= 1
            return True
        if self._container.parent is None:
            return False
        self._container = self._container.parent
        return True

    def _take(self, text: str) -> None:
        container = self._container
        if container.is_list:
            container.has_strings = True
        elif not is_text(self._key):
            if self._key == "type" and container.parent is not None:
                container.parent.has_inline_entries |= text in _INLINE_TYPES
            return
        self._length, self._count = self._length + len(text), self._count + 1
        if text and self._length <= LONGEST_STRING and self._count <= _MOST_PARTS:
            self._parts.append((container, text))


def _common(one: _Container, other: _Container) -> _Container:
    """The innermost container of both."""
    while one is not other:
        if one.depth >= other.depth and one.parent is not None:
            one = one.parent
        elif other.parent is not None:
            other = other.parent
    return one
