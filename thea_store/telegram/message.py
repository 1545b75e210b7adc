"""One message of an export: its fields as they come from the parser, and what becomes of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import lru_cache
from typing import Any, TypeGuard

from thea_store.telegram.message_text import OPENING, Events, TextTooLongError, has_content, is_text, skip, text_of

__all__ = ["ExportedMessage", "Fields", "fields_of", "is_id", "kind_word", "message_of", "name_of", "named_chat"]

Fields = dict[str, Any]

_FIRST_SUPERGROUP = -1_000_000_000_000


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
    """Plain text without its markup; for media without a caption a placeholder such as `[photo]`, with what can be
    read in it behind: `[poll] Dinner?`."""
    reply_to_message_id: int | None
    """None, too, for a reply to a message of another chat."""
    is_local_time: bool = False
    """Whether the file tells the time without a zone, so that it was taken for the one that the reader was given."""

    @property
    def chat(self) -> str:
        """What names the chat among those of all kinds, which may share an id.

        Where bots can be, it is the Bot API's id of the chat (https://core.telegram.org/api/bots/ids): a bot's own
        id, `-7` for the group 7, `-1000000000007` for the supergroup 7. Else it is `personal_chat:7` and the like.
        """
        return _chat(self.chat_type, self.chat_id)


@lru_cache(maxsize=1024)  # asked for each message
def _chat(chat_type: str | None, chat_id: int) -> str:
    kind = (chat_type or "").removeprefix("private_").removeprefix("public_")  # which a chat may change
    match kind:
        case "bot_chat":
            return str(chat_id)
        case "group":
            return str(-chat_id)
        case "supergroup":
            return str(_FIRST_SUPERGROUP - chat_id)
        case _:
            return named_chat(kind, chat_id)


def message_of(chat: Fields, fields: Fields, zone: tzinfo) -> ExportedMessage | str:
    """The message, or the reason to skip it. A time without a zone is taken for `zone`."""
    kind, message_id, text = fields.get("type"), fields.get("id"), _text(fields)
    if kind == "service":
        return "service"
    if not is_id(message_id) or not isinstance(kind, str):
        return "malformed"
    if kind != "message":
        return _reason("unsupported", None if kind == "unsupported" else kind)
    if text == "":
        return _reason("empty", fields.get(_UNKNOWN))
    sent_at = _sent_at(fields, zone)
    if sent_at is None or text is None:
        return "malformed"
    reply_to = fields.get("reply_to_message_id")
    return ExportedMessage(
        chat_id=chat["id"],
        chat_name=name_of(chat.get("name")),
        chat_type=name_of(chat.get("type")),
        message_id=message_id,
        sent_at=sent_at[0],
        sender_id=_sender_id(fields.get("from_id")),
        sender_name=name_of(fields.get("from")),
        text=text,
        reply_to_message_id=reply_to if is_id(reply_to) and "reply_to_peer_id" not in fields else None,
        is_local_time=sent_at[1],
    )


def _sent_at(fields: Fields, zone: tzinfo) -> tuple[datetime, bool] | None:
    """The moment, and whether `zone` was needed to know it."""
    try:
        if "date_unixtime" in fields:
            moment = datetime.fromtimestamp(_seconds(fields["date_unixtime"]), UTC)
        else:
            moment = datetime.fromisoformat(fields["date"])
        is_local = moment.tzinfo is None
        moment = (moment.replace(tzinfo=zone) if is_local else moment).astimezone(UTC)
    except (KeyError, TypeError, ValueError, OverflowError, OSError):
        return None
    return None if moment < _EARLIEST else (moment, is_local)


# Values.

_EARLIEST = datetime(1971, 1, 1, tzinfo=UTC)
_SECONDS = re.compile(r"[0-9]{1,12}")
_PEER = re.compile(r"(?:user|chat|channel)[0-9]{1,20}")
# Exports before 2021 have numbers for senders: bare ids of users, later with the kind in bits 32 and up.
_PEER_KINDS = {0: "user", 1: "user", 2: "channel"}
_EMOJI_LENGTHS = range(1, 17)
_PLAIN_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")

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
    "paid_stars_amount": "[paid media]",
    "dice_emoji": "[dice]",
    "file": "[file]",
    "rich_message": "[rich message]",
}


# Taking values out of the events. Nothing here recurses, and what is not wanted is never built: neither deep
# nesting nor a huge field of a message costs memory.

_WANTED = frozenset(
    {"id", "type", "date", "date_unixtime", "from", "from_id", "reply_to_message_id", "reply_to_peer_id"}
    | {"media_type", "sticker_emoji"}
)
_TEXTS = frozenset({"text", "rich_message", "text_entities"})
_IGNORED = frozenset({"edited", "edited_unixtime", "width", "height", "duration_seconds", "media_spoiler"})
_NOT_TEXT = object()
"""The value of a field that should have text and has something else, or too much of it."""
_OTHERS, _UNKNOWN = "(texts of other fields)", "(the first field that is not known)"


def fields_of(events: Events) -> Fields:
    """The wanted fields of the message that has just started, and the texts of all that may have some."""
    fields: Fields = {}
    for end, key in events:
        if end == "end_map":
            break
        event, value = next(events)
        if key in _WANTED:
            if event in OPENING:
                skip(events)
                value = _NOT_TEXT
            fields[key] = value
        elif key == "text_entities" and isinstance(text := fields.get("text"), str) and text and not text.isspace():
            if event in OPENING:  # they say the same again
                skip(events)
        elif key in _TEXTS:
            fields[key] = _value(key, event, value, events)
        else:
            _take_other(fields, key, event, value, events)
    return fields


def _value(key: str, event: str, value: Any, events: Events) -> Any:
    """The text of a field that has some; None for null."""
    if event in OPENING:
        try:
            return text_of(key, event, events)
        except TextTooLongError:
            return _NOT_TEXT
    return value if value is None or isinstance(value, str) else _NOT_TEXT


def _take_other(fields: Fields, key: str, event: str, value: Any, events: Events) -> None:
    """Keep that a message has such a field, and its text."""
    if event in OPENING and not has_content(key):
        skip(events)
        return
    if key in _MEDIA_KEYS:
        fields[key] = True
    elif key not in _IGNORED and is_text(key):
        fields.setdefault(_UNKNOWN, key)
    if event in OPENING:
        found = _value(key, event, value, events)
    else:
        found = value if isinstance(value, str) and is_text(key) else ""
    if found is _NOT_TEXT or (found and not found.isspace()):
        fields.setdefault(_OTHERS, []).append(found)


def _text(fields: Fields) -> str | None:
    """The text of a message, wherever it has it; empty where it has none, None where it is longer than can be."""
    own, rich = fields.get("text") or "", fields.get("rich_message") or ""
    if _NOT_TEXT in (own, rich, *fields.get(_OTHERS, ())):
        return None
    if not own or own.isspace():
        entities = fields.get("text_entities")
        own = entities if isinstance(entities, str) else ""
    if own and rich:
        # What is given as text beside a rich message stands for it on older devices, in full or in part.
        return own if rich in own else rich if own in rich else f"{own}\n{rich}"
    return own or rich or " ".join(filter(None, [_placeholder(fields), "\n".join(fields.get(_OTHERS, ()))]))


def _placeholder(fields: Fields) -> str:
    """What stands for the media of a message without text; empty where it has none either."""
    media_type, emoji = fields.get("media_type"), fields.get("sticker_emoji")
    if media_type == "sticker" and isinstance(emoji, str) and len(emoji) in _EMOJI_LENGTHS:
        return f"[sticker {emoji}]"
    if isinstance(media_type, str) and media_type in _MEDIA_TYPES:
        return _MEDIA_TYPES[media_type]
    return next((words for key, words in _MEDIA_KEYS.items() if key in fields), "")


def _reason(reason: str, what: object) -> str:
    """The reason, with the exporter's name for what this version does not know."""
    return f"{reason}:{what}" if isinstance(what, str) and _PLAIN_NAME.fullmatch(what) else reason


def named_chat(kind: str | None, chat_id: int | None) -> str:
    """How a chat is named in errors and reports, and chosen with `--chat`."""
    return f"{kind_word(kind)}:{'?' if chat_id is None else chat_id}"


def kind_word(kind: str | None) -> str:
    """The kind of a chat as an error names it, which repeats nothing that is not a plain word."""
    return kind if kind and _PLAIN_NAME.fullmatch(kind) else "chat"


def is_id(value: object) -> TypeGuard[int]:
    """Whether it is a number that the database can hold."""
    # Negative ids are real: messages from before a group became a supergroup. JSON's true is not an id.
    return type(value) is int and -(2**63) <= value < 2**63


def name_of(value: object) -> str | None:
    """A name; None where there is none, or an empty one."""
    return value if isinstance(value, str) and value else None


def _sender_id(value: object) -> str | None:
    if isinstance(value, str):
        return value if _PEER.fullmatch(value) else None
    if not is_id(value) or value <= 0:
        return None
    kind, bare = divmod(value, 2**32)
    return f"{_PEER_KINDS[kind]}{bare}" if kind in _PEER_KINDS else None


def _seconds(value: object) -> int:
    if isinstance(value, str) and _SECONDS.fullmatch(value):
        return int(value)
    if is_id(value):
        return value
    raise ValueError
