"""Reads a chat export of Telegram Desktop (`result.json`) as a stream: in a few megabytes, however large it is.

This module knows the levels of the file, `thea_store.telegram.message` one message, `message_text` the text of a
field, and `json_stream` the bytes.

Both shapes are read, the export of one chat (the bare chat object) and of an account (`chats.list`,
`left_chats.list`). Four rules are ours, not Telegram's:

- The time of a message is its `date_unixtime`. Old exports lack it and have only `date`, the exporter's
  wall clock without a zone: that is taken for `zone` (UTC unless told) and counted in `notes["local_time"]`.
- A chat's `id` stands before its `messages`, as Telegram Desktop writes it, else the chat is not read.
  A `name` or `type` after them is not seen.
- What PostgreSQL's text cannot hold, NUL and lone surrogates, becomes U+FFFD.
- A string of more than 128 KiB or a number of more than 100 digits is refused, before it fills the memory
  (a message has at most 4,096 characters).
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, tzinfo
from itertools import chain
from pathlib import Path
from stat import S_ISREG
from typing import Any, BinaryIO

from thea_store.errors import ExportFileError
from thea_store.telegram.json_stream import BrokenFileError, parse, skip_to_json
from thea_store.telegram.message import (
    ExportedMessage,
    Fields,
    fields_of,
    is_id,
    kind_word,
    message_of,
    name_of,
    named_chat,
)
from thea_store.telegram.message_text import OPENING, Events, skip
from thea_store.telegram.skipped import Place, Skipped

__all__ = ["ExportReader"]

# So many chats are named in an error.
_NAMED_CHATS = 20

_ADVICE = (
    "Export the chat again in Telegram Desktop (Export chat history, format: Machine-readable JSON) "
    "and name the new result.json."
)


class ExportReader:
    """The messages of one export file in the file's order; each iteration reads the file anew, one at a time."""

    def __init__(
        self, path: str | os.PathLike[str], *, zone: tzinfo = UTC, chats: Iterable[tuple[str | None, int]] = ()
    ) -> None:
        """`chats` are those to read, each as its `type` (None for any) and `id` in the file; without any, all.

        Raises `ExportFileError` where there is no such file.
        """
        self.path = Path(path)
        self.size = _size(self.path)
        self.bytes_read = 0
        """How far the iteration is, of `size` bytes."""
        self.skipped = Skipped()
        """Messages left out: `service`, `unsupported` (by Telegram's exporter), `empty`, `malformed`.

        With the name of what is not known behind it, where there is one: `unsupported:hologram` for a message of
        that type, `empty:hologram` for one without text that has such a field.
        """
        self.notes: Counter[str] = Counter()
        """Messages given out on an assumption: `local_time`."""
        self.broken_chats: list[str] = []
        """The chats that could not be read, and why: the first of them."""
        self._zone = zone
        self._chosen = frozenset(chats)
        self._missing = set(self._chosen)
        self._chats: list[str] = []
        self._broken = 0
        self._read = 0  # with those left out

    def __iter__(self) -> Iterator[ExportedMessage]:
        """Every message; where the file breaks, all messages before that place and then `ExportFileError`.

        Of a chat that has no id or no list of messages none is read; the others are, and then the error names it.
        So it does with chats that were asked for and are not there.
        """
        self.bytes_read = self._read = self._broken = 0
        self._missing = set(self._chosen)
        for each in (self.skipped, self.notes, self.broken_chats, self._chats):
            each.clear()
        try:
            with self.path.open("rb") as file:
                skip_to_json(file)
                yield from self._export(chain.from_iterable(self._batches(file)))
        except OSError as error:
            raise ExportFileError(f"{self.path}: cannot be read ({error.strerror}). {self._progress()}") from error
        except BrokenFileError as broken:
            # Without a cause: the parser's own message quotes the text around the place.
            raise ExportFileError(f"{self.path}: {broken}. {self._progress()} {_ADVICE}") from None
        self._complain()

    def _complain(self) -> None:
        if self._broken:
            more = self._broken - len(self.broken_chats)
            named = "; ".join([*self.broken_chats, *([f"and {more:,} more"] if more else [])])
            rest = "All other chats were read." if self._read else "No message was read."
            raise ExportFileError(f"{self.path}: {named}. {rest} {_ADVICE}")
        if self._missing:
            missing = ", ".join(sorted(named_chat(*each) for each in self._missing))
            raise ExportFileError(
                f"{self.path}: has no {missing}. Choose among its chats: {', '.join(self._chats) or 'it has none'}."
            )

    def _progress(self) -> str:
        # Counted: the ids of chats are those of people.
        return f"Everything up to its message number {self._read:,} was read." if self._read else "No message was read."

    def _batches(self, file: BinaryIO) -> Iterator[list[tuple[str, Any]]]:
        for self.bytes_read, batch in parse(file):
            yield batch

    # One method for each level of the file. They share `events`; each takes what belongs to its level.

    def _export(self, events: Events) -> Iterator[ExportedMessage]:
        if next(events)[0] != "start_map":
            raise BrokenFileError("it is no chat export: its outermost value is not an object")
        yield from self._chat(events, "the chat", outermost=True)
        for _ in events:  # there are none, but what follows the object is refused only when it is read
            pass

    def _chat(self, events: Events, place: str, *, outermost: bool = False) -> Iterator[ExportedMessage]:
        chat: Fields = {}
        known = not outermost
        for key, event, value in _entries(events):
            if key == "messages":
                known = True
                yield from self._messages(chat, place, event, events)
            elif outermost and key in ("chats", "left_chats"):
                known = True
                yield from self._chats_of(key, event, events)
            elif event in OPENING:
                skip(events)
            elif key in ("id", "name", "type"):
                chat[key] = value
        if not known:
            raise BrokenFileError("it is no chat export: it has neither `messages` nor `chats`")

    def _chats_of(self, key: str, event: str, events: Events) -> Iterator[ExportedMessage]:
        if event != "start_map":
            self._breaks(f"`{key}`", "is not an object", event, events)
            return
        for inner_key, inner, _ in _entries(events):
            if inner_key != "list":
                if inner in OPENING:
                    skip(events)
            elif inner != "start_array":
                self._breaks(f"the `list` of `{key}`", "is not a list", inner, events)
            else:
                for number, _ in enumerate(self._objects(None, events), 1):
                    yield from self._chat(events, f"the chat at place {number} of `{key}`")

    def _messages(self, chat: Fields, place: str, event: str, events: Events) -> Iterator[ExportedMessage]:
        kind, chat_id = name_of(chat.get("type")), chat.get("id")
        if not is_id(chat_id):
            self._breaks(f"{place} ({kind_word(kind)})", "has no valid `id` before its `messages`", event, events)
            return
        name = named_chat(kind, chat_id)
        if len(self._chats) < _NAMED_CHATS and name not in self._chats:
            self._chats.append(name)
        if self._chosen and not self._choose(kind, chat_id):
            if event in OPENING:
                skip(events)
            return
        if event != "start_array":
            self._breaks(name, "has `messages` that are not a list", event, events)
            return
        for _ in self._objects(chat, events):
            fields = fields_of(events)
            message = message_of(chat, fields, self._zone)
            self._read += 1
            if isinstance(message, str):
                self.skipped.add(message, _place(chat, fields))
            else:
                if message.is_local_time:
                    self.notes["local_time"] += 1
                yield message

    def _choose(self, kind: str | None, chat_id: int) -> bool:
        fitting = {(kind, chat_id), (None, chat_id)} & self._chosen
        self._missing -= fitting
        return bool(fitting)

    def _breaks(self, what: str, how: str, event: str, events: Events) -> None:
        """Pass over what cannot be read, and remember it for the error at the end."""
        if event in OPENING:
            skip(events)
        self._broken += 1
        if len(self.broken_chats) < _NAMED_CHATS:
            self.broken_chats.append(f"{what} {how}")

    def _objects(self, chat: Fields | None, events: Events) -> Iterator[None]:
        """One None for each object of a list that has started, right after the object's start."""
        for start, _ in events:
            if start == "start_map":
                yield
            elif start == "end_array":
                return
            else:
                self.skipped.add("malformed", _place(chat or {}, {}))
                if start in OPENING:
                    skip(events)


def _entries(events: Events) -> Iterator[tuple[str, str, Any]]:
    """Key, event and value of each entry of the object that has just started; the caller reads what is nested."""
    for event, key in events:
        if event == "end_map":
            return
        yield (key, *next(events))


def _size(path: Path) -> int:
    try:
        status = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise ExportFileError(f"{path}: cannot be read ({reason}). Name the result.json of an export.") from error
    if not S_ISREG(status.st_mode):
        raise ExportFileError(f"{path}: is not a file. Name the result.json inside an export's directory.")
    return status.st_size


def _place(chat: Fields, fields: Fields) -> Place:
    chat_id, message_id = chat.get("id"), fields.get("id")
    kind = kind_word(name_of(chat.get("type"))) if chat else None
    return Place(kind, chat_id, message_id if is_id(message_id) else None)
