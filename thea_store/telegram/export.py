"""Reads a chat export of Telegram Desktop (`result.json`) as a stream: in a few megabytes, however large it is.

Both shapes are read, the export of one chat (the bare chat object) and of an account (`chats.list`,
`left_chats.list`). Four rules are ours, not Telegram's:

- The time of a message is its `date_unixtime`. Old exports lack it and have only `date`, the exporter's
  wall clock without a zone: that is taken for `zone` (UTC unless told) and counted in `notes["local_time"]`.
- A chat's `id` stands before its `messages`, as Telegram Desktop writes it, else the file is refused.
  A `name` or `type` after them is not seen.
- What PostgreSQL's text cannot hold, NUL and lone surrogates, becomes U+FFFD.
- A string of more than 128 KiB or a number of more than 100 digits is refused, before it fills the memory
  (a message has at most 4,096 characters).
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from itertools import chain
from pathlib import Path
from stat import S_ISREG
from typing import Any, BinaryIO, TypeGuard

from thea_store.errors import ExportFileError
from thea_store.telegram.json_stream import LONGEST_STRING, BrokenFileError, parse, skip_to_json

__all__ = ["ExportReader", "ExportedMessage"]

_Events = Iterator[tuple[str, Any]]
_Fields = dict[str, Any]

_ADVICE = (
    "Export the chat again in Telegram Desktop (Export chat history, format: Machine-readable JSON) "
    "and name the new result.json."
)


@dataclass(frozen=True, slots=True)
class ExportedMessage:
    """One message that a person or a bot sent; `message_id` is unique within its chat only."""

    chat_id: int
    chat_name: str | None
    chat_type: str | None
    message_id: int
    sent_at: datetime
    """Aware, in UTC."""
    sender_id: str | None
    """`user123`, `chat123` or `channel123`; None where the export names no sender."""
    sender_name: str | None
    """None for a deleted account."""
    text: str
    """Plain text without its markup; for media without a caption a placeholder such as `[photo]`."""
    reply_to_message_id: int | None
    """None, too, for a reply to a message of another chat."""


class ExportReader:
    """The messages of one export file in the file's order; each iteration reads the file anew, one at a time."""

    def __init__(self, path: str | os.PathLike[str], *, zone: tzinfo = UTC) -> None:
        """Raises `ExportFileError` where there is no such file."""
        self.path = Path(path)
        self.size = _size(self.path)
        self.bytes_read = 0
        """How far the iteration is, of `size` bytes."""
        self.skipped: Counter[str] = Counter()
        """Messages left out: `service`, `unsupported` (by Telegram's exporter), `empty`, `malformed`."""
        self.notes: Counter[str] = Counter()
        """Messages given out on an assumption: `local_time`."""
        self._zone = zone
        self._read = 0  # with those left out

    def __iter__(self) -> Iterator[ExportedMessage]:
        """Every message; where the file breaks, all messages before that place and then `ExportFileError`."""
        self.bytes_read = self._read = 0
        self.skipped.clear()
        self.notes.clear()
        try:
            with self.path.open("rb") as file:
                skip_to_json(file)
                yield from self._export(chain.from_iterable(self._batches(file)))
        except OSError as error:
            raise ExportFileError(f"{self.path}: cannot be read ({error.strerror}). {self._progress()}") from error
        except BrokenFileError as broken:
            # Without a cause: the parser's own message quotes the text around the place.
            raise ExportFileError(f"{self.path}: {broken}. {self._progress()} {_ADVICE}") from None

    def _progress(self) -> str:
        # Counted: the ids of chats are those of people.
        return f"Everything up to its message number {self._read:,} was read." if self._read else "No message was read."

    def _batches(self, file: BinaryIO) -> Iterator[list[tuple[str, Any]]]:
        for self.bytes_read, batch in parse(file):
            yield batch

    # One method for each level of the file. They share `events`; each takes what belongs to its level.

    def _export(self, events: _Events) -> Iterator[ExportedMessage]:
        if next(events)[0] != "start_map":
            raise BrokenFileError("it is no chat export: its outermost value is not an object")
        yield from self._chat(events, outermost=True)
        for _ in events:  # there are none, but what follows the object is refused only when it is read
            pass

    def _chat(self, events: _Events, *, outermost: bool = False) -> Iterator[ExportedMessage]:
        chat: _Fields = {}
        known = not outermost
        for key, event, value in _entries(events):
            if key == "messages":
                known = True
                yield from self._messages(chat, event, events)
            elif outermost and key in ("chats", "left_chats"):
                known = True
                yield from self._chats(event, events)
            elif event in _OPENING:
                _skip(events)
            elif key in ("id", "name", "type"):
                chat[key] = value
        if not known:
            raise BrokenFileError("it is no chat export: it has neither `messages` nor `chats`")

    def _chats(self, event: str, events: _Events) -> Iterator[ExportedMessage]:
        if event != "start_map":
            raise BrokenFileError("it is no chat export: its `chats` are not an object")
        for key, inner, _ in _entries(events):
            if key == "list":
                for _ in self._objects(inner, events):
                    yield from self._chat(events)
            elif inner in _OPENING:
                _skip(events)

    def _messages(self, chat: _Fields, event: str, events: _Events) -> Iterator[ExportedMessage]:
        if not _is_id(chat.get("id")):
            raise BrokenFileError("a chat has no valid `id` before its `messages`")
        for _ in self._objects(event, events):
            message = self._message(chat, _fields(events))
            self._read += 1
            if isinstance(message, str):
                self.skipped[message] += 1
            else:
                yield message

    def _objects(self, event: str, events: _Events) -> Iterator[None]:
        """One None for each object of a list, right after its start."""
        if event != "start_array":
            raise BrokenFileError("it is no chat export: what should be a list is none")
        for start, _ in events:
            if start == "start_map":
                yield
            elif start == "end_array":
                return
            else:
                self.skipped["malformed"] += 1
                if start in _OPENING:
                    _skip(events)

    def _message(self, chat: _Fields, fields: _Fields) -> ExportedMessage | str:
        """The message, or the reason to skip it."""
        kind, message_id, text = fields.get("type"), fields.get("id"), fields.get("text")
        if kind == "service":
            return "service"
        if not _is_id(message_id) or not isinstance(kind, str):
            return "malformed"
        if kind != "message":
            return "unsupported"
        if text is None or text == "" or (isinstance(text, str) and text.isspace()):
            text = _placeholder(fields)
            if not text:
                return "empty"
        sent_at = self._sent_at(fields)
        if sent_at is None or not isinstance(text, str):
            return "malformed"
        reply_to = fields.get("reply_to_message_id")
        return ExportedMessage(
            chat_id=chat["id"],
            chat_name=_name(chat.get("name")),
            chat_type=_name(chat.get("type")),
            message_id=message_id,
            sent_at=sent_at,
            sender_id=_sender_id(fields.get("from_id")),
            sender_name=_name(fields.get("from")),
            text=text,
            reply_to_message_id=reply_to if _is_id(reply_to) and "reply_to_peer_id" not in fields else None,
        )

    def _sent_at(self, fields: _Fields) -> datetime | None:
        try:
            if "date_unixtime" in fields:
                moment = datetime.fromtimestamp(_seconds(fields["date_unixtime"]), UTC)
            else:
                moment = datetime.fromisoformat(fields["date"])
            local = moment.tzinfo is None
            moment = (moment.replace(tzinfo=self._zone) if local else moment).astimezone(UTC)
        except (KeyError, TypeError, ValueError, OverflowError, OSError):
            return None
        if moment < _EARLIEST:
            return None
        if local:
            self.notes["local_time"] += 1
        return moment


# Values.

_EARLIEST = datetime(1971, 1, 1, tzinfo=UTC)
_SECONDS = re.compile(r"[0-9]{1,12}")
_PEER = re.compile(r"(?:user|chat|channel)[0-9]{1,20}")
# Exports before 2021 have numbers for senders: bare ids of users, later with the kind in bits 32 and up.
_PEER_KINDS = {0: "user", 1: "user", 2: "channel"}
_EMOJI_LENGTHS = range(1, 17)

# What stands for a message without text, by its `media_type` or else by the first of these keys that it has.
_MEDIA_TYPES = {
    "animation": "[animation]",
    "audio_file": "[audio]",
    "sticker": "[sticker]",
    "video_file": "[video]",
    "video_message": "[video message]",
    "voice_message": "[voice message]",
}
_MEDIA_KEYS = {
    "photo": "[photo]",
    "contact_information": "[contact]",
    "place_name": "[place]",
    "location_information": "[location]",
    "poll": "[poll]",
    "todo_list": "[to-do list]",
    "game_title": "[game]",
    "invoice_information": "[invoice]",
    "giveaway_information": "[giveaway]",
    "giveaway_results": "[giveaway results]",
    "story_id": "[story]",
    "story_information": "[story]",
    "paid_media_information": "[paid media]",
    "dice_emoji": "[dice]",
    "file": "[file]",
}


def _placeholder(fields: _Fields) -> str:
    """What stands for a message without text; empty where it has no media either."""
    media_type, emoji = fields.get("media_type"), fields.get("sticker_emoji")
    if media_type == "sticker" and isinstance(emoji, str) and len(emoji) in _EMOJI_LENGTHS:
        return f"[sticker {emoji}]"
    if isinstance(media_type, str) and media_type in _MEDIA_TYPES:
        return _MEDIA_TYPES[media_type]
    return next((words for key, words in _MEDIA_KEYS.items() if key in fields), "")


def _is_id(value: object) -> TypeGuard[int]:
    # Negative ids are real: messages from before a group became a supergroup. JSON's true is not an id.
    return type(value) is int and -(2**63) <= value < 2**63


def _name(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _sender_id(value: object) -> str | None:
    if isinstance(value, str):
        return value if _PEER.fullmatch(value) else None
    if not _is_id(value) or value <= 0:
        return None
    kind, bare = divmod(value, 2**32)
    return f"{_PEER_KINDS[kind]}{bare}" if kind in _PEER_KINDS else None


def _seconds(value: object) -> int:
    if isinstance(value, str) and _SECONDS.fullmatch(value):
        return int(value)
    if _is_id(value):
        return value
    raise ValueError


# Taking values out of the events. Nothing here recurses, and what is not wanted is never built: neither deep
# nesting nor a huge field of a message costs memory.

_OPENING = frozenset({"start_map", "start_array"})
_CLOSING = frozenset({"end_map", "end_array"})
_WANTED = frozenset(
    {"id", "type", "date", "date_unixtime", "from", "from_id", "text", "reply_to_message_id", "reply_to_peer_id"}
    | {"media_type", "sticker_emoji"}
    | _MEDIA_KEYS.keys()
)
_NESTED = object()
"""The value of a field that holds an object or a list."""


def _skip(events: _Events) -> object:
    """Reads to the end of the object or list that has just started; its value is `_NESTED`."""
    depth = 1
    for event, _ in events:
        if event in _OPENING:
            depth += 1
        elif event in _CLOSING:
            depth -= 1
            if not depth:
                break
    return _NESTED


def _entries(events: _Events) -> Iterator[tuple[str, str, Any]]:
    """Key, event and value of each entry of the object that has just started; the caller reads what is nested."""
    for event, key in events:
        if event == "end_map":
            return
        yield (key, *next(events))


def _fields(events: _Events) -> _Fields:
    """The wanted fields of the message that has just started, its text without markup."""
    fields: _Fields = {}
    for end, key in events:
        if end == "end_map":
            break
        event, value = next(events)
        if event in _OPENING:
            value = _joined(events) if key == "text" and event == "start_array" else _skip(events)
        if key in _WANTED:
            fields[key] = value
    return fields


def _joined(events: _Events) -> object:
    """The text of a list of strings and entities (`{"type": "bold", "text": …}`); `_NESTED` where it is none."""
    parts: list[str] = []
    length, sound = 0, True
    for event, value in events:
        if event == "end_array":
            break
        part = _entity_text(events) if event == "start_map" else _skip(events) if event == "start_array" else value
        if isinstance(part, str) and length <= LONGEST_STRING:
            parts.append(part)
            length += len(part)
        else:
            sound = False
    return "".join(parts) if sound else _NESTED


def _entity_text(events: _Events) -> object:
    text: object = None
    for key, event, value in _entries(events):
        if event in _OPENING:
            _skip(events)
        if key == "text":
            text = value
    return text


def _size(path: Path) -> int:
    try:
        status = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise ExportFileError(f"{path}: cannot be read ({reason}). Name the result.json of an export.") from error
    if not S_ISREG(status.st_mode):
        raise ExportFileError(f"{path}: is not a file. Name the result.json inside an export's directory.")
    return status.st_size
