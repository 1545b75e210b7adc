"""Broken chat exports: imported as far as they are sound, or refused with the place; never half, never twice.

`test_export.py` cuts files off at every byte and damages their bytes; here it is their values, and what an import
leaves in the database.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import psycopg
import pytest

from tests.hostile.texts import put, rows_of
from tests.support.exports import ANA, BEN, BOT, account, brought_in, chat, said, written
from tests.support.fuzzing import ODD_VALUES, broken_export, paths
from thea_store import ExportFileError, Store
from thea_store.telegram.export import ExportReader
from thea_store.telegram.importer import TelegramImport
from thea_store.telegram.message import ExportedMessage

SEED, EXPORTS, IMPORTS = 20260309, 1_000, 25

SMALL = account(
    chat(
        said(1, ANA, "hola 😀"),
        said(2, BOT, "buenas", reply_to=1),
        said(3, ANA, "", photo="p.jpg", media_type="sticker", sticker_emoji="😂"),
        said(4, BOT, "adiós") | {"text": ["a ", {"type": "bold", "text": "ñ\\ \" '"}, ""]},
    ),
    chat(said(1, BEN, "uno"), said(5, BOT, "dos"), said(-7, ANA, "tres"), id_=99, kind="private_group"),
)

Superuser = psycopg.Connection[Any]
_tenants = (f"broken-{number}" for number in itertools.count())


def read(path: Path) -> tuple[list[ExportedMessage], str]:
    """The messages that can be stored, and the complaint at the place where the file breaks."""
    messages: list[ExportedMessage] = []
    complaint = ""
    try:
        for message in ExportReader(path):
            messages.append(message)  # noqa: PERF402 - those before the error count
    except ExportFileError as error:
        complaint = str(error)

        assert complaint.startswith(f"{path}: ")
        assert re.search("Everything up to|All other chats were read" if messages else r"was read\.", complaint)
    for message in messages:
        for text in (message.text, message.chat_name or "", message.sender_name or "", message.sender_id or ""):
            assert "\0" not in text
            text.encode()  # no half of a pair
        assert all(-(2**63) <= number < 2**63 for number in (message.chat_id, message.message_id))
        assert datetime(1971, 1, 1, tzinfo=UTC) <= message.sent_at.astimezone(UTC)
    return messages, complaint


# --- the reader ---------------------------------------------------------------------------------


def test_a_wrong_value_in_a_message_costs_that_message_alone(tmp_path: Path) -> None:
    path = tmp_path / "result.json"
    whole, _ = read(written(path, SMALL))
    for place in [place for place in paths(SMALL) if len(place) > 4]:
        spoilt = (SMALL["chats"]["list"][place[2]]["id"], SMALL["chats"]["list"][place[2]]["messages"][place[4]]["id"])
        others = [message for message in whole if (message.chat_id, message.message_id) != spoilt]
        for value in ODD_VALUES:
            path.write_text(json.dumps(put(SMALL, place, value)))
            found, complaint = read(path)
            left = [message for message in found if message in others]

            assert left == others[: len(left)]
            assert len(found) - len(left) <= 1
            assert "not JSON" in complaint if complaint else len(left) == len(others)


def test_random_exports_are_read_or_refused_with_the_place(tmp_path: Path) -> None:
    random = Random(SEED)
    path = tmp_path / "result.json"
    refused = 0
    for _ in range(EXPORTS):
        path.write_bytes(broken_export(random, SMALL))
        refused += bool(read(path)[1])

    assert EXPORTS / 5 < refused < EXPORTS * 4 / 5


@pytest.mark.parametrize("change", ["it ends", "it is cut", "it goes on", "it is another"])
def test_a_file_that_changes_while_it_is_read_is_read_up_to_there(tmp_path: Path, change: str) -> None:
    path = written(tmp_path / "result.json", chat(*(said(number, ANA, "x" * 500) for number in range(1, 200))))
    size = path.stat().st_size
    reader = iter(ExportReader(path))
    messages = [next(reader)]
    match change:
        case "it ends":
            os.truncate(path, 0)
        case "it is cut":
            os.truncate(path, size // 2)
        case "it goes on":
            with path.open("a") as file:
                file.write("\n{}")
        case "it is another":
            path.write_text("<html>" * size)
    with pytest.raises(ExportFileError, match="Everything up to") as refused:
        messages.extend(reader)

    assert str(path) in str(refused.value)
    assert [message.message_id for message in messages] == list(range(1, len(messages) + 1))


@pytest.mark.parametrize("kind", ["a pipe", "a directory", "a link to nowhere", "a link to itself", "a device"])
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "result.json"
    match kind:
        case "a pipe":
            os.mkfifo(path)
        case "a directory":
            path.mkdir()
        case "a link to nowhere":
            path.symlink_to(tmp_path / "none")
        case "a link to itself":
            path.symlink_to(path)
        case "a device":
            path = Path("/dev/zero")

    with pytest.raises(ExportFileError, match=r"result\.json"):
        ExportReader(path)


# --- the database -------------------------------------------------------------------------------


async def imported(store: Store, tenant: str, path: Path) -> tuple[TelegramImport, bool]:
    """The import, and whether the file was sound."""
    run = TelegramImport(store, tenant, path, assistant=BOT, batch_size=2)
    try:
        await run.run()
    except ExportFileError:
        return run, False
    return run, True


async def test_a_mended_export_brings_what_it_would_have_brought_alone(
    store: Store, tenant: str, superuser: Superuser, tmp_path: Path
) -> None:
    path = written(tmp_path / "result.json", SMALL)
    whole = path.read_bytes()
    await imported(store, tenant, path)
    expected = brought_in(superuser, tenant)
    assert len(expected) == 4
    random = Random(SEED)
    for _ in range(IMPORTS):
        resumed = next(_tenants)
        for place in sorted(random.choices(range(1, len(whole)), k=random.randint(1, 3))):
            # Neither of them can stand anywhere in a file of JSON.
            path.write_bytes(whole[:place] + random.choice([b"", b"\xff", b"\x00\xff{"]) + b"\xff" + whole[place:])
            _, is_sound = await imported(store, resumed, path)
            assert not is_sound
            assert {row[2:3] + row[7:9] for row in brought_in(superuser, resumed)} <= {
                row[2:3] + row[7:9] for row in expected
            }
        path.write_bytes(whole)
        await imported(store, resumed, path)

        assert brought_in(superuser, resumed) == expected


async def test_messages_that_are_there_twice_count_once(
    store: Store, tenant: str, other_tenant: str, superuser: Superuser, tmp_path: Path
) -> None:
    chats = [{**one, "messages": one["messages"] * 2} for one in SMALL["chats"]["list"]]
    await imported(store, tenant, written(tmp_path / "result.json", SMALL))
    await imported(store, other_tenant, written(tmp_path / "twice.json", account(*chats)))

    assert brought_in(superuser, other_tenant) == brought_in(superuser, tenant)


async def test_a_random_export_is_imported_as_far_as_it_is_sound_and_once(
    store: Store, tenant: str, superuser: Superuser, tmp_path: Path
) -> None:
    """The same file again writes nothing, and it is the tenant's alone."""
    await imported(store, tenant, written(tmp_path / "result.json", SMALL))
    before = rows_of(superuser, tenant)
    random = Random(SEED)
    path = tmp_path / "broken.json"
    written_rows = 0
    for _ in range(IMPORTS):
        path.write_bytes(broken_export(random, SMALL))
        own = next(_tenants)
        first, is_sound = await imported(store, own, path)
        rows = rows_of(superuser, own)
        again, is_sound_again = await imported(store, own, path)
        written_rows += sum(map(len, rows))

        assert rows_of(superuser, own) == rows
        assert is_sound_again == is_sound
        assert (again.report.new_users, again.report.new_conversations, again.report.turns["new"]) == (0, 0, 0)
        assert first.report.turns["new"] == await store.messages.count(own)

    assert written_rows > IMPORTS * 5
    assert rows_of(superuser, tenant) == before
