from __future__ import annotations

import json
import re
import tracemalloc
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import ijson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.profiles import scaled
from thea_store.errors import ExportFileError
from thea_store.resources import sample_export
from thea_store.telegram import json_stream
from thea_store.telegram.export import ExportReader
from thea_store.telegram.message import ExportedMessage
from thea_store.telegram.message_text import has_content, is_text

Read = tuple[list[ExportedMessage], ExportFileError | None, ExportReader]
ReadBytes = Callable[[bytes], Read]

NOON = datetime(2026, 3, 9, 12, 0, tzinfo=UTC)

thorough = settings(
    max_examples=scaled(100), suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture(params=["yajl2_c", "python"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each of the parsers that users may have: C where there is a wheel, else pure Python."""
    try:
        parser = ijson.get_backend(request.param)
    except ImportError:
        pytest.skip("ijson has no C parser on this machine")
    monkeypatch.setattr(json_stream, "basic_parse_coro", parser.basic_parse_coro)
    return str(request.param)


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> ReadBytes:
    """What a reader makes of a file with these bytes."""
    path = tmp_path_factory.mktemp("export") / "result.json"

    def run(content: bytes) -> Read:
        path.unlink(missing_ok=True)  # to write into a file that exists makes ext4 wait for the disk
        path.write_bytes(content)
        reader = ExportReader(path)
        messages = []
        try:
            for message in reader:
                messages.append(message)  # noqa: PERF402 - those before the error count
        except ExportFileError as error:
            return messages, error, reader
        return messages, None, reader

    return run


def message(**fields: Any) -> dict[str, Any]:
    """A message of 2026 by Ana; a field of `...` is left out."""
    usual = {
        "id": 1,
        "type": "message",
        "date": "2026-03-09T13:00:00",
        "date_unixtime": str(int(NOON.timestamp())),
        "from": "Ana",
        "from_id": "user123",
        "text": "hola",
    }
    return {key: value for key, value in (usual | fields).items() if value is not ...}


def chat(*messages: Any, **fields: Any) -> dict[str, Any]:
    return {"name": "THEA IA", "type": "bot_chat", "id": 42, **fields, "messages": list(messages)}


def dumped(export: Any, **options: Any) -> bytes:
    return json.dumps(export, ensure_ascii=False, indent=1, **options).encode()


def around(middle: bytes) -> bytes:
    """An export of three messages with the text of the second in raw JSON."""
    first, second, third = (dumped(message(id=number)) for number in (1, 2, 3))
    messages = b",".join([first, second.replace(b'"hola"', middle), third])
    return b'{"name": "THEA IA", "type": "bot_chat", "id": 42, "messages": [' + messages + b"]}"


# What a message becomes


def test_the_shipped_sample_reads_without_loss() -> None:
    reader = ExportReader(sample_export())
    messages = list(reader)

    assert len(messages) == 51
    assert reader.skipped == {"service": 1}
    assert reader.notes == {}
    assert {one.chat_name for one in messages} == {"THEA IA"}
    assert {one.sender_name for one in messages} == {"Ana", "THEA IA"}
    assert {"[photo]", "[sticker 😂]", "[voice message]"} <= {one.text for one in messages}
    assert [one.sent_at for one in messages] == sorted(one.sent_at for one in messages)
    by_id = {one.message_id: one for one in messages}
    [reply] = [one for one in messages if one.reply_to_message_id]
    assert by_id[reply.reply_to_message_id or 0].text.startswith("⏰")


@pytest.mark.usefixtures("backend")
def test_the_export_of_one_chat_is_the_chat_itself(read: ReadBytes) -> None:
    messages, error, reader = read(dumped(chat(message(id=7, reply_to_message_id=5))))

    assert error is None
    assert reader.skipped == {}
    assert messages == [
        ExportedMessage(
            chat_id=42,
            chat_name="THEA IA",
            chat_type="bot_chat",
            message_id=7,
            sent_at=NOON,
            sender_id="user123",
            sender_name="Ana",
            text="hola",
            reply_to_message_id=5,
        )
    ]


@pytest.mark.usefixtures("backend")
def test_the_export_of_an_account_has_many_chats_and_those_left(read: ReadBytes) -> None:
    export = {
        "about": "Here is the data you requested.",
        "personal_information": {"user_id": 123, "first_name": "Ana", "bio": None},
        "contacts": {"about": "…", "list": [{"user_id": 5, "messages": [{"id": 1}]}]},
        "chats": {
            "about": "…",
            "list": [
                chat(message(id=1), message(id=2)),
                chat(),
                {"type": "saved_messages", "id": 123, "messages": [message(id=1)]},
                chat(message(id=1), id=43, name=None, type="private_group"),
            ],
        },
        "left_chats": {"list": [chat(message(id=9), id=44)]},
    }

    messages, error, _ = read(dumped(export))

    assert error is None
    assert [(one.chat_id, one.chat_name, one.chat_type, one.message_id) for one in messages] == [
        (42, "THEA IA", "bot_chat", 1),
        (42, "THEA IA", "bot_chat", 2),
        (123, None, "saved_messages", 1),
        (43, None, "private_group", 1),
        (44, "THEA IA", "bot_chat", 9),
    ]


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("hola", "hola"),
        ("  dos\nlíneas\t", "  dos\nlíneas\t"),
        ("😀 mañana", "😀 mañana"),
        (["hola"], "hola"),
        (["ve a ", {"type": "link", "text": "https://a.example"}, ""], "ve a https://a.example"),
        ([{"type": "text_link", "text": "aquí", "href": "https://a.example"}, "."], "aquí."),
        (
            [{"type": "bold", "text": "a"}, {"type": "mention", "text": "@b"}, {"type": "hashtag", "text": "#c"}],
            "a@b#c",
        ),
        ([{"text": "a", "type": "custom_emoji", "document_id": {"x": [1, [2]]}}], "a"),
    ],
)
@pytest.mark.usefixtures("backend")
def test_text_comes_out_plain(read: ReadBytes, text: Any, plain: str) -> None:
    [one], error, _ = read(dumped(chat(message(text=text))))

    assert error is None
    assert one.text == plain


@pytest.mark.parametrize(
    ("media", "placeholder"),
    [
        ({"photo": "(File not included.)", "width": 1}, "[photo]"),
        ({"media_type": "sticker", "sticker_emoji": "😂", "file": "s.webp"}, "[sticker 😂]"),
        ({"media_type": "sticker", "file": "s.webp"}, "[sticker]"),
        ({"media_type": "sticker", "sticker_emoji": "x" * 99}, "[sticker]"),
        ({"media_type": "voice_message", "file": "v.ogg"}, "[voice message]"),
        ({"media_type": "video_message", "file": "v.mp4"}, "[video message]"),
        ({"media_type": "video_file", "file": "v.mp4"}, "[video]"),
        ({"media_type": "audio_file", "file": "a.mp3"}, "[audio]"),
        ({"media_type": "animation", "file": "a.mp4"}, "[animation]"),
        ({"media_type": "yet unknown", "file": "a.bin"}, "[file]"),
        ({"file": "a.pdf"}, "[file]"),
        ({"contact_information": {"first_name": "Marta"}}, "[contact] Marta"),
        ({"location_information": {"latitude": 40.4, "longitude": -3.7}}, "[location]"),
        ({"location_information": None}, "[location]"),
        ({"place_name": "La Tasquita", "location_information": {"latitude": 1.5}}, "[place] La Tasquita"),
        ({"poll": {"question": "¿?", "answers": [{"text": "a"}, {"text": "b"}]}}, "[poll] ¿?\na\nb"),
        ({"game_title": "Tetris"}, "[game] Tetris"),
        ({"invoice_information": {"title": "x", "amount": 500, "currency": "EUR"}}, "[invoice] x"),
        (
            {"todo_list": {"title": "x", "items": [{"id": 1, "text": ["a", {"type": "bold", "text": "b"}]}]}},
            "[to-do list] x\nab",
        ),
        (
            {"media_type": "audio_file", "file": "a.mp3", "performer": "Lole", "title": "Nuevo día"},
            "[audio] Lole\nNuevo día",
        ),
        ({"paid_stars_amount": 25}, "[paid media]"),
        ({"paid_stars_amount": 25, "photo": "p.jpg"}, "[photo]"),
        ({"rich_message": {"blocks": [{"type": "divider"}]}}, "[rich message]"),
    ],
)
def test_media_without_a_caption_leave_a_placeholder(read: ReadBytes, media: dict[str, Any], placeholder: str) -> None:
    blanks: list[Any] = ["", [], " \n", None, ...]
    without = [message(text=blank, **media) for blank in blanks]

    messages, error, _ = read(dumped(chat(*without)))

    assert error is None
    assert [one.text for one in messages] == [placeholder] * 5


# Formatted answers of newer versions: blocks of nested nodes beside an empty text or none.
PARAGRAPH = {"type": "paragraph", "text": ["Hola ", {"type": "bold", "text": "Ana"}, "."]}
RICH = [
    ([PARAGRAPH], "Hola Ana."),
    ([{"type": "heading", "size": 2, "text": "Plan"}, PARAGRAPH], "Plan\nHola Ana."),
    (
        [{"type": "paragraph", "text": {"type": "concat", "texts": ["a ", {"type": "link", "text": "b", "url": "u"}]}}],
        "a b",
    ),
    ([{"type": "paragraph", "nodes": ["a", {"type": "italic", "nodes": [{"type": "bold", "nodes": ["b"]}]}]}], "ab"),
    ([{"type": "list", "items": ["uno", "dos"]}], "uno\ndos"),
    (
        [
            {
                "type": "list",
                "items": [{"blocks": [PARAGRAPH]}, {"checked": True, "text": ["dos ", {"type": "code", "text": "x"}]}],
            }
        ],
        "Hola Ana.\ndos x",
    ),
    (
        [{"type": "blockquote", "blocks": [PARAGRAPH, {"type": "pre", "language": "python", "text": "a\n b"}]}],
        "Hola Ana.\na\n b",
    ),
    ([{"type": "quote", "caption": {"text": "Lorca"}, "text": {"text": "Verde"}}], "Lorca\nVerde"),
    (
        [
            {
                "type": "table",
                "rows": [{"cells": [{"text": "a"}, {"text": "b"}]}, {"cells": [{"text": "1"}, {"text": "2"}]}],
            }
        ],
        "a | b\n1 | 2",
    ),
    (
        [
            {
                "type": "table",
                "cells": [[{"text": ["a", {"type": "bold", "text": "b"}]}, {"value": "c"}], [{"text": "1"}, {}]],
            }
        ],
        "ab | c\n1",
    ),
    ([{"type": "photo", "photo": "photos/1.jpg", "caption": {"text": "el gato"}}], "el gato"),
    ([{"type": "details", "is_open": False, "summary": "Más", "blocks": [[PARAGRAPH]]}], "Más\nHola Ana."),
]


@pytest.mark.parametrize(("blocks", "plain"), RICH)
@pytest.mark.parametrize("key", ["rich_message", "some_message_of_the_future"])
@pytest.mark.usefixtures("backend")
def test_text_is_found_in_blocks_of_nested_nodes(read: ReadBytes, key: str, blocks: list[Any], plain: str) -> None:
    rich = {key: {"rtl": False, "blocks": blocks}}

    messages, error, reader = read(dumped(chat(message(text=..., **rich), message(text="", **rich))))

    assert error is None
    assert [one.text for one in messages] == [plain, plain]
    assert reader.skipped == {}


@pytest.mark.parametrize(
    ("fields", "plain"),
    [
        ({"text": ..., "caption": "hola"}, "hola"),
        ({"text": "", "caption": ["ho", {"type": "bold", "text": "la"}]}, "hola"),
        ({"text": ..., "text_entities": [{"type": "plain", "text": "ho"}, {"type": "bold", "text": "la"}]}, "hola"),
        ({"text": {"type": "bold", "text": "hola"}}, "hola"),
        ({"text": [{"type": "bold", "text": ["ho", {"text": "la"}]}]}, "hola"),
        ({"text": "hola", "rich_message": {"blocks": [{"text": "hola y más"}]}}, "hola y más"),
        ({"text": "hola y más", "rich_message": {"blocks": [{"text": "hola"}]}}, "hola y más"),
        ({"text": "hola", "rich_message": {"blocks": [{"text": "adiós"}]}}, "hola\nadiós"),
        ({"text": "hola", "hologram": {"text": "otro"}}, "hola"),
        ({"text": "", "hologram": {"title": "hola", "hologram_id": "7", "mime_type": "a/b"}}, "hola"),
        ({"text": "", "photo": "p.jpg", "hologram": {"title": "hola"}}, "[photo] hola"),
        ({"text": "", "photo": "p.jpg", "photo_caption": "hola"}, "[photo] hola"),
        ({"text": ..., "edited_text": "hola"}, "hola"),
        ({"text": "", "forwarded_message": {"saved_text": ["ho", {"text": "la"}]}}, "hola"),
        ({"text": ..., "video_transcription": {"reply_text": "hola"}}, "hola"),
    ],
)
@pytest.mark.usefixtures("backend")
def test_text_is_kept_whatever_its_key(read: ReadBytes, fields: dict[str, Any], plain: str) -> None:
    [one], error, _ = read(dumped(chat(message(**fields))))

    assert error is None
    assert one.text == plain


def test_names_files_and_what_others_wrote_are_no_text(read: ReadBytes) -> None:
    others = {
        "reply_to_story": {"text": "otro"},
        "reply_markup": {"rows": [[{"text": "botón"}]]},
        "forwarded_from": "Marta",
        "saved_from_name": "Marta",
        "via_bot_username": "@gif",
        "file_name": "a.bin",
        "mime_type": "a/b",
        "thumbnail_file_size": 3,
        "edited_date": "2026-03-09",
    }

    messages, error, reader = read(dumped(chat(message(text="", **others))))

    assert error is None
    assert messages == []
    assert reader.skipped == {"empty": 1}


def test_a_caption_stands_for_its_media(read: ReadBytes) -> None:
    [one], _, _ = read(dumped(chat(message(photo="p.jpg", text="el gato"))))

    assert one.text == "el gato"


@pytest.mark.parametrize(
    ("from_id", "sender_id"),
    [
        ("user123", "user123"),
        ("channel1", "channel1"),
        ("chat77", "chat77"),
        (123, "user123"),
        ((1 << 32) + 123, "user123"),
        ((2 << 32) + 123, "channel123"),
        ((3 << 32) + 123, None),
        (0, None),
        (-5, None),
        (True, None),
        (1.5, None),
        ("", None),
        ("user", None),
        ("user12x", None),
        ("123", None),
        ({"id": 1}, None),
        (None, None),
        (..., None),
    ],
)
def test_senders_of_all_versions_have_one_form(read: ReadBytes, from_id: Any, sender_id: str | None) -> None:
    [one], error, reader = read(dumped(chat(message(from_id=from_id))))

    assert error is None
    assert reader.skipped == {}
    assert one.sender_id == sender_id


def test_a_deleted_account_has_an_id_and_no_name(read: ReadBytes) -> None:
    messages, _, _ = read(dumped(chat(message(**{"from": None}), message(**{"from": ""}), message(**{"from": ...}))))

    assert [(one.sender_id, one.sender_name) for one in messages] == [("user123", None)] * 3


def test_what_else_real_messages_have_changes_nothing(read: ReadBytes) -> None:
    extras = {
        "edited": "2026-03-09T14:00:00",
        "edited_unixtime": "1773064800",
        "forwarded_from": "Marta",
        "via_bot": "@gif",
        "author": "Redacción",
        "text_entities": [{"type": "plain", "text": "hola"}],
        "reactions": [{"type": "emoji", "count": 1, "emoji": "❤", "recent": [{"from": "Ana", "text": "otro"}]}],
        "inline_bot_buttons": [[{"type": "url", "text": "ver", "data": "x"}]],
    }

    [one], _, _ = read(dumped(chat(message())))
    [extended], _, _ = read(dumped(chat(message(**extras))))

    assert extended == one


def test_a_reply_to_another_chat_points_nowhere_in_this_one(read: ReadBytes) -> None:
    [one], _, _ = read(dumped(chat(message(reply_to_message_id=3, reply_to_peer_id="channel9"))))

    assert one.reply_to_message_id is None


@pytest.mark.parametrize("reply_to", [None, "3", 2.5, [3], 2**70])
def test_a_malformed_reply_is_no_reply(read: ReadBytes, reply_to: Any) -> None:
    [one], _, _ = read(dumped(chat(message(reply_to_message_id=reply_to))))

    assert one.reply_to_message_id is None


def test_a_time_without_a_zone_is_utc_and_noted(read: ReadBytes) -> None:
    messages, _, reader = read(dumped(chat(message(), message(date_unixtime=...))))

    assert [one.sent_at for one in messages] == [NOON, NOON + timedelta(hours=1)]
    assert reader.notes == {"local_time": 1}


def test_a_time_without_a_zone_is_of_the_zone_that_the_caller_knows(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(dumped(chat(message(date_unixtime=...))))

    [one] = ExportReader(path, zone=ZoneInfo("Europe/Madrid"))

    assert one.sent_at == NOON
    assert one.sent_at.tzinfo is UTC


def test_a_date_with_a_zone_needs_no_assumption(read: ReadBytes) -> None:
    [one], _, reader = read(dumped(chat(message(date_unixtime=..., date="2026-03-09T14:00:00+02:00"))))

    assert one.sent_at == NOON
    assert reader.notes == {}


# What is left out, and counted


@pytest.mark.parametrize(
    ("reason", "fields"),
    [
        ("service", {"type": "service", "action": "pin_message", "text": ""}),
        ("service", {"type": "service", "id": ...}),
        ("unsupported", {"type": "unsupported", "date": ..., "date_unixtime": ..., "text": ...}),
        ("unsupported", {"type": "of the future"}),
        ("unsupported:hologram", {"type": "hologram"}),
        ("empty:hologram", {"text": "", "width": 5, "hologram": {"depth": 3}}),
        ("empty", {"text": "", "Not a name": {"depth": 3}}),
        ("empty", {"text": [5, None, {"type": "bold"}, [[]]]}),
        ("empty", {"text": ""}),
        ("empty", {"text": []}),
        ("empty", {"text": [{"type": "bold", "text": " "}]}),
        ("empty", {"text": ...}),
        ("empty", {"text": None}),
        ("malformed", {"type": ...}),
        ("malformed", {"type": 5}),
        ("malformed", {"type": {"a": 1}}),
        ("malformed", {"id": ...}),
        ("malformed", {"id": None}),
        ("malformed", {"id": "17"}),
        ("malformed", {"id": 1.0}),
        ("malformed", {"id": True}),
        ("malformed", {"id": [1]}),
        ("malformed", {"id": 2**63}),
        ("malformed", {"id": 10**99}),
        ("malformed", {"text": 5}),
        ("malformed", {"text": 0}),
        ("malformed", {"text": False}),
        ("malformed", {"text": ["a" * 1000] * 1000}),
        ("malformed", {"text": ["a"] * 30_000}),
        ("malformed", {"text": "", "rich_message": {"blocks": [{"text": "a" * 1000}] * 1000}}),
        ("malformed", {"rich_message": 5}),
        ("malformed", {"date_unixtime": ..., "date": ...}),
        ("malformed", {"date_unixtime": ..., "date": "yesterday"}),
        ("malformed", {"date_unixtime": ..., "date": "0001-01-01T00:00:00+14:00"}),
        ("malformed", {"date_unixtime": ..., "date": 5}),
        ("malformed", {"date_unixtime": "0"}),
        ("malformed", {"date_unixtime": "-1"}),
        ("malformed", {"date_unixtime": "999999999999"}),
        ("malformed", {"date_unixtime": "9" * 5000}),
        ("malformed", {"date_unixtime": 2**62}),
        ("malformed", {"date_unixtime": "١٢٣٤٥٦٧٨٩"}),
        ("malformed", {"date_unixtime": "soon"}),
        ("malformed", {"date_unixtime": None}),
        ("malformed", {"date_unixtime": {}}),
    ],
)
@pytest.mark.usefixtures("backend")
def test_a_message_that_is_none_is_counted_and_its_neighbours_stay(
    read: ReadBytes, reason: str, fields: dict[str, Any]
) -> None:
    messages, error, reader = read(dumped(chat(message(id=1), message(**{"id": 2, **fields}), message(id=3))))

    assert error is None
    assert [one.message_id for one in messages] == [1, 3]
    assert reader.skipped == {reason: 1}
    assert reader.notes == {}


@pytest.mark.parametrize("entry", [None, 5, "text", True, [message()], []])
@pytest.mark.usefixtures("backend")
def test_an_entry_that_is_no_object_is_malformed(read: ReadBytes, entry: Any) -> None:
    messages, error, reader = read(dumped({"chats": {"list": [entry, chat(message(id=1), entry, message(id=3))]}}))

    assert error is None
    assert [one.message_id for one in messages] == [1, 3]
    assert reader.skipped == {"malformed": 2}


@pytest.mark.usefixtures("backend")
def test_a_number_that_no_integer_type_holds_is_bounded(read: ReadBytes) -> None:
    export = dumped(chat(message(id=1), message(id=2, date_unixtime="#"))).replace(b'"#"', b"1e999999")

    messages, error, reader = read(export)

    assert error is None
    assert [one.message_id for one in messages] == [1]
    assert reader.skipped == {"malformed": 1}


# What is mended


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (rb'"a\x0Bb"', "a\vb"),
        (rb'"a\x0bb\x1F"', "a\vb\x1f"),
        (rb'"\x0B"', "\v!"),
        (rb'"a\\x0Bb"', r"a\x0Bb"),
        (rb'"a\\\x0Bb"', "a\\\vb"),
        (rb'"a\\\\x0Bb"', r"a\\x0Bb"),
        (rb'"a\"\x0B\"b"', 'a"\v"b'),
        (b'"a\x01b\tc\nd\re"', "a\x01b\tc\nd\re"),
        (b'"a\x00b"', "a\ufffdb"),
        (rb'"a\x00b"', "a\ufffdb"),
        (rb'"a\u0000b"', "a\ufffdb"),
        (rb'"a\ud83db"', "a\ufffdb"),
        (rb'"a\uD83D"', "a\ufffd"),
        (rb'"a\ude00b"', "a\ufffdb"),
        (rb'"\ud83d\u0041"', "\ufffdA"),
        (rb'"\ud83d\ud83d\ude00"', "\ufffd😀"),
        (rb'"\ude00\ud83d"', "\ufffd\ufffd"),
        (rb'"\ud83d\x0B\ude00"', "\ufffd\v\ufffd"),
        (rb'"\uD83D\uDE00 \u00e1\/\b\f"', "😀 á/\b\f"),
        (rb'"\\ud83d"', r"\ud83d"),
        ('"\u2028\x7f\x85"'.encode(), "\u2028\x7f\x85!"),
        (rb'["a\x0B", {"type": "bold", "text": "\x0C\ud83d"}]', "a\v\f\ufffd"),
    ],
)
@pytest.mark.usefixtures("backend")
def test_what_json_or_postgresql_cannot_hold_is_mended_wherever_the_file_is_cut(
    read: ReadBytes, monkeypatch: pytest.MonkeyPatch, raw: bytes, text: str
) -> None:
    if text.endswith("!"):  # blanks alone are no text
        raw = raw[:-1] + b'!"'
    content = around(raw)

    for size in [*range(1, 40), len(content)]:
        monkeypatch.setattr(json_stream, "_CHUNK", size)
        messages, error, _ = read(content)

        assert error is None
        assert [one.text for one in messages] == ["hola", text, "hola"]


def test_names_are_mended_too(read: ReadBytes) -> None:
    content = dumped(chat(message(**{"from": "#"}), name="#")).replace(b'"#"', rb'"A\x0B\u0000\ud83d"')

    [one], _, _ = read(content)

    assert one.sender_name == one.chat_name == "A\v\ufffd\ufffd"


@pytest.mark.usefixtures("backend")
def test_a_byte_order_mark_is_no_harm(read: ReadBytes) -> None:
    messages, error, reader = read(b"\xef\xbb\xbf" + dumped(chat(message())))

    assert error is None
    assert len(messages) == 1
    assert reader.bytes_read == reader.size


@pytest.mark.usefixtures("backend")
def test_other_tools_may_have_sorted_the_keys_or_escaped_the_letters(read: ReadBytes) -> None:
    export = chat(message(id=1, text="mañana 😀"), message(id=2))

    messages, error, _ = read(json.dumps(export, sort_keys=True).encode())

    assert error is None
    assert [one.text for one in messages] == ["mañana 😀", "hola"]
    assert {(one.chat_id, one.chat_name) for one in messages} == {(42, None)}


# Files that break


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "it is empty"),
        (b" \n", "it ends too early, at byte 2"),
        (b"\xef\xbb\xbf", "it ends too early, at byte 3"),
        (b"<!DOCTYPE html>\n<html>", "it is an HTML export"),
        (b"PK\x03\x04", "it is an archive"),
        (b"\x1f\x8b\x08", "it is an archive"),
        ('{"id": 1}'.encode("utf-16"), "it is not in UTF-8"),
        (b"hello, here", "it is not JSON (or not UTF-8) between byte 0 and 11"),
        (b"{'id': 1}", "it is not JSON"),
        (b"nul", "it "),
        (b"[]", "its outermost value is not an object"),
        (b'"text"', "its outermost value is not an object"),
        (b"12", "its outermost value is not an object"),
        (b"{}", "it has neither `messages` nor `chats`"),
        (b'{"about": "contacts alone", "contacts": {"list": []}}', "it has neither `messages` nor `chats`"),
        (b'{"id": 1, "messages": {}}', "chat:1 has `messages` that are not a list"),
        (b'{"id": 1, "messages": "none"}', "chat:1 has `messages` that are not a list"),
        (b'{"chats": []}', "`chats` is not an object"),
        (b'{"chats": {"list": {}}}', "the `list` of `chats` is not a list"),
        (dumped({"messages": [message()], "id": 1}), "no valid `id` before its `messages`"),
        (dumped({"id": "1", "messages": [message()]}), "no valid `id` before its `messages`"),
        (b"9" * 5000, "the number at byte 0 has more than 100 digits"),
        (b"[" * 100_000, "its outermost value is not an object"),
    ],
)
@pytest.mark.usefixtures("backend")
def test_a_file_that_is_no_export_is_refused_with_its_fault(read: ReadBytes, content: bytes, what: str) -> None:
    messages, error, reader = read(content)

    assert messages == []
    assert what in str(error)
    assert str(error).startswith(f"{reader.path}: ")
    assert "No message was read. Export the chat again in Telegram Desktop" in str(error)


@pytest.mark.parametrize("name", ["absent.json", "", "a\0b"])
def test_a_missing_file_and_a_directory_are_refused_at_once(tmp_path: Path, name: str) -> None:
    with pytest.raises(ExportFileError, match=r"(cannot be read|is not a file).*result\.json"):
        ExportReader(tmp_path / name)


def test_a_file_that_goes_away_is_refused_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(dumped(chat(message())))
    reader = ExportReader(path)
    path.unlink()

    with pytest.raises(ExportFileError, match="cannot be read"):
        list(reader)


@pytest.mark.parametrize(
    "damage",
    [
        b"",
        b"\0\0\0\0",
        b'{"id": 9, "text": "my PIN is 4711"',
        b'{"id": 9, "text": "my PIN is 4711',
        b'{"id": 9, "text": "my PIN is 4711" 5}]}',
        rb'{"id": 9, "text": "my PIN is 4711 \q"}]}',
        rb'{"id": 9, "text": "my PIN is 4711 \u12"}]}',
        b'{"id": 9, "text": "my PIN is 4711 \xff"}]}',
        b'{"id": 9, "text": "my PIN is 4711 \xed\xa0\xbd"}]}',
        b'{"id": 9, "text": my PIN is 4711}]}',
        b'{"id": 9, "text": "my PIN is 4711", "z": 1e99999999999999999999}]}',
        b'{"id": 9, "text": "my PIN is 4711", "z": ' + b"9" * 5000 + b"}]}",
        b'{"id": 9, "text": "my PIN is 4711 ' + b"x" * 200_000 + b'"}]}',
        b'{"id": 9, "text": "my PIN is 4711 ' + b"\\" * 200_000 + b'"}]}',
        b'{"id": 9, "text": "my PIN is 4711"}]} {',
        b'{"id": 9, "text": "my PIN is 4711"}]} "',
    ],
)
@pytest.mark.usefixtures("backend")
def test_where_a_file_breaks_what_came_before_is_kept_and_the_place_named(read: ReadBytes, damage: bytes) -> None:
    padding = " " * 20_000  # the pure Python parser gives up what stands close before a byte that is not UTF-8
    whole = dumped(chat(message(id=1), message(id=2))).removesuffix(b"\n ]\n}")

    messages, error, reader = read(whole + b"," + padding.encode() + damage)

    assert [one.message_id for one in messages] == [1, 2]
    assert str(reader.path) in str(error)
    assert "byte " in str(error)
    assert re.search(r"Everything up to its message number [23] was read\. Export the chat again", str(error))
    assert "PIN" not in str(error)
    assert error is not None
    assert error.__suppress_context__
    assert error.__cause__ is None


@pytest.mark.usefixtures("backend")
def test_the_place_is_named_to_half_a_kibibyte(read: ReadBytes) -> None:
    content = bytearray(dumped(chat(*(message(id=number) for number in range(1, 201)))))
    place = content.index(b'"id": 150,')
    content[place - 1 : place - 1] = b"!"

    messages, error, _ = read(bytes(content))

    low, high = (int(part.strip(".").replace(",", "")) for part in str(error).split("between byte ")[1].split()[:3:2])
    assert low <= place <= high <= low + 512
    assert [one.message_id for one in messages] == list(range(1, 150))
    assert "up to its message number 149 was read" in str(error)


@pytest.mark.parametrize("size", [7, 16 * 1024])
@pytest.mark.usefixtures("backend")
def test_cut_off_anywhere_the_messages_before_are_kept(
    read: ReadBytes, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr(json_stream, "_CHUNK", size)
    second = message(id=2, text=["a", {"text": "ñ😀"}], date=...)
    content = dumped({"chats": {"list": [chat(message(), second), chat(message(text="adiós", date=...))]}})
    content = content.replace(b'"hola"', rb'"a\\\x0B\ud83d\ude00"', 1)
    whole, error, _ = read(content)
    assert error is None
    assert len(whole) == 3

    for end in range(len(content)):
        messages, error, reader = read(content[:end])

        assert messages == whole[: len(messages)]
        assert error is not None
        assert reader.bytes_read <= end


@pytest.mark.parametrize(
    "nested",
    [
        b"[" * 100_000 + b"]" * 100_000,
        b'[{"text":' * 50_000 + b"1" + b"}]" * 50_000,
        b'{"text":' * 50_000 + b'"x"' + b"}" * 50_000,
    ],
)
def test_deep_nesting_costs_its_message_at_most(read: ReadBytes, nested: bytes) -> None:
    messages, error, reader = read(around(nested))

    assert error is None
    assert [one.text for one in messages if one.message_id != 2] == ["hola", "hola"]
    assert reader.skipped == ({} if b'"x"' in nested else {"empty": 1})


def test_deep_nesting_in_a_field_that_nobody_wants_costs_nothing(read: ReadBytes) -> None:
    messages, error, _ = read(around(b'"hola", "z": ' + b"[" * 100_000 + b"]" * 100_000))

    assert error is None
    assert [one.text for one in messages] == ["hola"] * 3


def test_an_account_within_an_account_is_none(read: ReadBytes) -> None:
    depth = 10_000
    nested = b'{"chats": {"list": [' * depth + dumped(chat(message())) + b"]}}" * depth

    messages, error, _ = read(nested)

    assert error is None
    assert messages == []


# Broken chats, and chosen ones


BROKEN: list[tuple[dict[str, Any], str]] = [
    (
        {"name": "A", "type": "private_group", "messages": [message(text="PIN")]},
        "the chat at place 2 of `chats` (private_group)",
    ),
    ({"type": "bot_chat", "id": "7", "messages": [message(text="PIN")]}, "the chat at place 2 of `chats` (bot_chat)"),
    ({"type": "PIN 4711", "id": None, "messages": []}, "the chat at place 2 of `chats` (chat)"),
    ({"type": "bot_chat", "id": 7, "messages": {"id": 1, "text": "PIN"}}, "bot_chat:7 has `messages`"),
    ({"type": "bot_chat", "id": 7, "messages": None}, "bot_chat:7 has `messages`"),
    ({"type": "bot_chat", "id": 7, "messages": "PIN"}, "bot_chat:7 has `messages`"),
    ({"messages": [message(text="PIN")], "id": 7, "type": "bot_chat"}, "the chat at place 2 of `chats` (chat)"),
]


@pytest.mark.parametrize(("broken", "named"), BROKEN)
@pytest.mark.usefixtures("backend")
def test_a_broken_chat_is_named_and_costs_those_after_it_nothing(
    read: ReadBytes, broken: dict[str, Any], named: str
) -> None:
    chats = [chat(message(id=1)), broken, chat(message(id=2), id=43)]

    messages, error, reader = read(dumped({"chats": {"list": chats}, "left_chats": {"list": [chat(message(id=3))]}}))

    assert [one.message_id for one in messages] == [1, 2, 3]
    assert len(reader.broken_chats) == 1
    assert f": {named}" in str(error)
    assert "All other chats were read. Export the chat again" in str(error)
    assert "PIN" not in str(error)


def test_of_many_broken_chats_the_first_are_named(read: ReadBytes) -> None:
    _, error, _ = read(dumped({"chats": {"list": [{"id": number, "messages": 0} for number in range(1, 100)]}}))

    assert "chat:20 has `messages` that are not a list; and 79 more. No message was read." in str(error)
    assert "chat:21" not in str(error)


@pytest.mark.parametrize(
    ("chosen", "numbers"),
    [([], [1, 2, 3]), ([(None, 42)], [1, 2]), ([("private_group", 42)], [2]), ([(None, 43), ("bot_chat", 42)], [1, 3])],
)
def test_some_chats_alone_are_read(tmp_path: Path, chosen: list[tuple[str | None, int]], numbers: list[int]) -> None:
    chats = [chat(message(id=1)), chat(message(id=2), type="private_group"), chat(message(id=3), id=43)]
    path = tmp_path / "result.json"
    path.write_bytes(dumped({"chats": {"list": chats}}))

    assert [one.message_id for one in ExportReader(path, chats=chosen)] == numbers


def test_a_chosen_chat_that_is_not_there_is_named_beside_those_that_are(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(dumped({"chats": {"list": [chat(message()), chat(message(), id=43, type="private_group")]}}))
    reader = iter(ExportReader(path, chats=[(None, 42), ("bot_chat", 43), (None, 9)]))

    assert next(reader).chat_id == 42
    with pytest.raises(ExportFileError, match=r"has no bot_chat:43, chat:9. .* bot_chat:42, private_group:43\.$"):
        next(reader)


def test_the_first_of_what_is_skipped_are_named_by_id(read: ReadBytes) -> None:
    skipped = [message(id=number, text="") for number in range(10, 17)]

    _, _, reader = read(dumped(chat(*skipped, message(type="service", id=20), 5, message(id="PIN"))))

    assert reader.skipped == {"empty": 7, "service": 1, "malformed": 2}
    assert reader.skipped.first == {
        "empty": [("bot_chat", 42, number) for number in range(10, 15)],
        "service": [("bot_chat", 42, 20)],
        "malformed": [("bot_chat", 42, None)] * 2,
    }


def test_the_kinds_of_what_is_skipped_are_bounded(read: ReadBytes) -> None:
    _, _, reader = read(dumped(chat(*(message(type=f"kind_{number}") for number in range(1000)))))

    assert len(reader.skipped) <= 51
    assert reader.skipped.total() == 1000


# Iterating


def test_every_iteration_starts_anew(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(dumped(chat(message(), message(type="service"), message(id=3, date_unixtime=...))))
    reader = ExportReader(path)

    assert list(reader) == list(reader)
    assert reader.skipped == {"service": 1}
    assert reader.notes == {"local_time": 1}


def test_a_later_iteration_says_nothing_of_an_earlier_one(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(dumped(chat(message())))
    reader = ExportReader(path)
    assert len(list(reader)) == 1
    path.write_bytes(b"")

    with pytest.raises(ExportFileError, match="No message was read"):
        list(reader)

    assert reader.bytes_read == 0


def test_progress_grows_to_the_size_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(dumped(chat(*(message(id=number) for number in range(1, 1000)))))
    reader = ExportReader(path)

    seen = [reader.bytes_read for _ in reader]

    assert reader.size == path.stat().st_size == reader.bytes_read
    assert seen == sorted(seen)
    assert len(set(seen)) > 100


@pytest.mark.filterwarnings("error")
@pytest.mark.usefixtures("backend")
def test_an_iteration_may_be_abandoned(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    path.write_bytes(dumped(chat(*(message(id=number) for number in range(1, 1000)))))

    iteration = iter(ExportReader(path))
    next(iteration)
    del iteration


@pytest.mark.slow
def test_a_large_file_takes_little_memory(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    entry = dumped(
        message(text=["mañana " * 50, {"type": "bold", "text": "😀" * 50}], text_entities=[{"text": "x" * 500}])
    )
    with path.open("wb") as file:
        file.write(b'{"name": "THEA IA", "type": "bot_chat", "id": 42, "messages": [')
        for _ in range(30_000_000 // len(entry)):
            file.write(entry + b",\n")
        file.write(entry + b"]}")

    tracemalloc.start()
    count = sum(1 for _ in ExportReader(path))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert count == 30_000_000 // len(entry) + 1
    assert peak < 1_000_000


# Any export, against a reader that holds everything in memory

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
ids = st.integers(-(2**63), 2**63 - 1)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
entities = st.fixed_dictionaries({"type": st.sampled_from(["bold", "link", "plain"]), "text": texts})
seconds = st.integers(31_536_000, 4_102_444_800)
message_fields: dict[str, st.SearchStrategy[Any]] = {
    "id": ids,
    "type": st.sampled_from(["message"] * 6 + ["service", "unsupported"]),
    "date_unixtime": seconds.map(str),
    "from": texts | st.none(),
    "from_id": st.sampled_from(["user1", "channel22", 123]),
    "text": texts | st.lists(texts | entities, max_size=4),
}
optional_fields: dict[str, st.SearchStrategy[Any]] = {
    "date": seconds.map(lambda value: datetime.fromtimestamp(value, UTC).strftime("%Y-%m-%dT%H:%M:%S")),
    "reply_to_message_id": ids,
    "reply_to_peer_id": st.just("user9"),
    "photo": texts,
    "poll": json_values,
    "text_entities": json_values,
    "reactions": json_values,
}
messages_strategy = st.lists(
    st.fixed_dictionaries(message_fields, optional=optional_fields)
    | st.fixed_dictionaries({}, optional={key: json_values | value for key, value in message_fields.items()})
    | json_values,
    max_size=6,
)
chats = st.builds(
    lambda head, messages, tail: {**head, "messages": messages, **tail},
    st.fixed_dictionaries({"id": ids}, optional={"name": texts | st.none(), "type": texts, "z": json_values}),
    messages_strategy,
    st.dictionaries(st.just("tail"), json_values),
)
accounts = st.fixed_dictionaries(
    {"chats": st.fixed_dictionaries({"about": texts, "list": st.lists(chats, max_size=3)})},
    optional={"left_chats": st.fixed_dictionaries({"list": st.lists(chats, max_size=2)}), "contacts": json_values},
)


def expected(export: dict[str, Any]) -> tuple[list[ExportedMessage], Counter[str]]:
    """What the reader should say of an export that is wholly in memory."""
    found: list[ExportedMessage] = []
    skipped: Counter[str] = Counter()
    lists = [value["list"] for key, value in export.items() if key in ("chats", "left_chats")]
    for one_chat in sum(lists, []) if "messages" not in export else [export]:  # noqa: RUF017
        for one in one_chat["messages"]:
            result = expected_message(one_chat, one) if isinstance(one, dict) else "malformed"
            if isinstance(result, str):
                skipped[result] += 1
            else:
                found.append(result)
    return found, skipped


def expected_message(chat: dict[str, Any], one: dict[str, Any]) -> ExportedMessage | str:
    if one.get("type") == "service":
        return "service"
    number = one.get("id")
    if type(number) is not int or number not in range(-(2**63), 2**63) or not isinstance(one.get("type"), str):
        return "malformed"
    if one["type"] != "message":
        return "unsupported"
    text = one.get("text")
    if not isinstance(text, (str, list, dict, type(None))):
        return "malformed"
    text = squeezed(strings(text, "text")) or squeezed(strings(one.get("text_entities"), "text_entities"))
    if not text:
        text = next((f"[{key}]" for key in ("photo", "poll") if key in one), "")
        text += squeezed(strings(one.get("poll"), "poll"))
    moment = str(one.get("date_unixtime"))
    if not text or not moment.isdecimal() or int(moment) not in range(31_536_000, 253_402_300_800):
        return "malformed" if text else "empty"
    sender, reply = one.get("from_id"), one.get("reply_to_message_id")
    if type(sender) is int:
        sender = f"user{sender}" if sender in range(1, 2**32) else "?"
    return ExportedMessage(
        chat_id=chat["id"],
        chat_name=chat.get("name") or None,
        chat_type=chat.get("type") or None,
        message_id=number,
        sent_at=datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=int(moment)),
        sender_id=sender if isinstance(sender, str) and sender.startswith(("user", "channel")) else None,
        sender_name=one["from"] if isinstance(one.get("from"), str) and one["from"] else None,
        text=text,
        reply_to_message_id=None if "reply_to_peer_id" in one else reply,
    )


def strings(value: Any, key: str) -> str:
    """All strings in a value that a person would read."""
    if isinstance(value, str):
        return value if is_text(key) else ""
    if isinstance(value, list):
        return "".join(part if isinstance(part, str) else strings(part, key) for part in value)
    if isinstance(value, dict):
        return "".join(
            strings(part, name) for name, part in value.items() if isinstance(part, str) or has_content(name)
        )
    return ""


def squeezed(text: str) -> str:
    """The text without what may stand between its parts."""
    return "".join(text.replace("|", "").split())


@given(
    export=chats | accounts,
    indent=st.sampled_from([None, 0, 1]),
    ascii_only=st.booleans(),
    size=st.integers(1, 300) | st.just(16 * 1024),
)
@thorough
@pytest.mark.usefixtures("backend")
def test_any_export_cut_into_any_pieces_reads_as_by_the_oracle(
    read: ReadBytes, export: dict[str, Any], *, indent: int | None, ascii_only: bool, size: int
) -> None:
    content = json.dumps(export, indent=indent, ensure_ascii=ascii_only).encode()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_CHUNK", size)
        messages, error, reader = read(content)

    assert error is None
    assert ([replace(one, text=squeezed(one.text)) for one in messages], reader.skipped) == expected(export)
    assert reader.notes == {}


SMALL = dumped(
    {
        "chats": {
            "about": "…",
            "list": [
                chat(message(text=["a ", {"type": "bold", "text": 'ñ\\ " 😀'}, ""]), message(id=2, type="service")),
                chat(message(id=3, photo="p.jpg", text=""), id=43, type="private_group"),
            ],
        }
    }
)


@given(
    changes=st.lists(
        st.tuples(
            st.integers(0, len(SMALL) - 1),
            st.integers(0, 3),
            st.binary(max_size=3) | st.sampled_from([b'"', b"\\", b"{", b"}", b"[", b"]", b",", rb"\x0", b"9" * 200]),
        ),
        max_size=4,
    ),
    size=st.integers(1, 200) | st.just(16 * 1024),
)
@thorough
@pytest.mark.usefixtures("backend")
def test_no_damage_raises_anything_but_the_one_error(
    read: ReadBytes, changes: list[tuple[int, int, bytes]], size: int
) -> None:
    content = SMALL
    for place, length, replacement in changes:
        content = content[:place] + replacement + content[place + length :]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_stream, "_CHUNK", size)
        messages, error, reader = read(content)

    assert all("\0" not in one.text and one.text.encode() for one in messages)
    assert error is not None or reader.bytes_read == len(content)
    assert "ñ" not in str(error)


@given(content=st.binary(max_size=200))
@thorough
@pytest.mark.usefixtures("backend")
def test_no_file_at_all_raises_anything_but_the_one_error(read: ReadBytes, content: bytes) -> None:
    messages, error, _ = read(content)

    assert messages == []
    assert error is not None


@given(
    st.lists(
        st.sampled_from(
            [b'"', b"\\", b"u", b"d83d", b"de00", b"0000", b"00e1", b"x0B", b"x0", b"1", b" ", b"a", b"\n", b"\xc3\xb1"]
        ),
        max_size=16,
    ).map(b"".join)
)
@settings(max_examples=scaled(500))
def test_the_mender_takes_whole_strings_and_numbers_only(data: bytes) -> None:
    ready, taken = json_stream._mended(data)

    assert json_stream._mended(ready + b'"') == (ready, len(ready))
    assert data[taken : taken + 1] in (b"", b'"', *(b"%d" % digit for digit in range(10)))
    for cut in range(len(data)):  # taking it in two goes is taking it in one
        first, start = json_stream._mended(data[:cut])
        second, end = json_stream._mended(data[start:])
        assert (first + second, start + end) == (ready, taken)
