"""How fast a chat export of Telegram is imported, and imported again, and how much memory that takes.

`python bench/importing.py [MESSAGES] [--chats 1]`: an export of so many messages, every second one the assistant's
answer. A memory peak is that of a process which does nothing else. The server is the one that the tests would take.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer
from apart import measure
from options import Smoke

from thea_store import Store
from thea_store.telegram.importer import ImportReport, TelegramImport
from thea_store.testing import start_server

ASSISTANT, FIRST_PERSON = 7_700_700_700, 1_000_000
BEGIN, BETWEEN = 1_600_000_000, 60


def write_export(file: Path, messages: int, chats: int) -> None:
    """Chats of one person each with the assistant, one after the other."""
    with file.open("w", encoding="utf-8") as to:
        to.write('{"chats": {"list": [')
        for chat in range(chats):
            head = {"name": "THEA IA", "type": "personal_chat", "id": FIRST_PERSON + chat}
            to.write((", " if chat else "") + json.dumps(head)[:-1] + ', "messages": [')
            for number in range(messages // chats):
                to.write((", " if number else "") + json.dumps(_message(chat, number), ensure_ascii=False))
            to.write("]}")
        to.write("]}}")


def _message(chat: int, number: int) -> dict[str, object]:
    at = BEGIN + number * BETWEEN
    is_answer = number % 2
    who = ASSISTANT if is_answer else FIRST_PERSON + chat
    text = f"Mañana tienes el dentista a las {number % 24}:00." if is_answer else f"¿Qué tengo mañana? {number}"
    return {
        "id": number + 1,
        "type": "message",
        "date": "2020-09-13T12:26:40",
        "date_unixtime": str(at),
        "from": "THEA IA" if is_answer else f"Ana {chat}",
        "from_id": f"user{who}",
        "text": text,
        "text_entities": [{"type": "plain", "text": text}],
    }


def bring_in(url: str, file: Path) -> ImportReport:
    """All of the file, into one tenant."""

    async def run() -> ImportReport:
        async with Store.open(url) as store:
            return await TelegramImport(store, "acme", file, assistant=ASSISTANT).run()

    report = asyncio.run(run())
    assert sum(report.turns.values()) * 2 == report.messages, report
    return report


def main(
    messages: Annotated[int, typer.Argument(min=10)] = 1_000_000,
    chats: Annotated[int, typer.Option(min=1, help="Over which they are spread.")] = 1,
    *,
    smoke: Smoke = False,
) -> None:
    """Import an export twice."""
    messages = 100 if smoke else messages
    with ExitStack() as resources, tempfile.TemporaryDirectory() as folder:
        database = start_server(resources).new_database(resources)
        file = Path(folder) / "result.json"
        write_export(file, messages, chats)
        print(f"{messages:,} messages in {chats:,} chats, {file.stat().st_size / 1e6:,.0f} MB of export")
        measure("import", messages, bring_in, database.app_url, file)
        measure("import again", messages, bring_in, database.app_url, file)


if __name__ == "__main__":
    typer.run(main)
