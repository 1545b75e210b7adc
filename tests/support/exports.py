"""Chat exports for the tests, as Telegram Desktop writes them, and what became of one."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg

BOT, ANA, BEN = 7000, 501, 502
NOON = datetime(2026, 3, 9, 12, 0, tzinfo=UTC)


def said(
    number: int, sender: int | str | None, text: str, *, reply_to: int | None = None, **fields: Any
) -> dict[str, Any]:
    """A message, sent `number` minutes after noon."""
    sent = NOON + timedelta(minutes=number)
    names = {BOT: "THEA", ANA: "Ana", BEN: "Ben"}
    message = {
        "id": number,
        "type": "message",
        "date": f"{sent:%Y-%m-%dT%H:%M:%S}",
        "date_unixtime": str(int(sent.timestamp())),
        "from": names.get(sender) if isinstance(sender, int) else None,
        "from_id": f"user{sender}" if isinstance(sender, int) else sender,
        "text": text,
        **fields,
    }
    return message if reply_to is None else message | {"reply_to_message_id": reply_to}


def chat(*messages: dict[str, Any], id_: int = BOT, kind: str = "bot_chat") -> dict[str, Any]:
    """A chat with its messages."""
    return {"name": "THEA", "type": kind, "id": id_, "messages": list(messages)}


def account(*chats: dict[str, Any]) -> dict[str, Any]:
    """A full account."""
    return {"about": "…", "chats": {"about": "…", "list": list(chats)}}


def written(path: Path, export: dict[str, Any]) -> Path:
    """The file with this export."""
    path.write_text(json.dumps(export, ensure_ascii=False, indent=1), encoding="utf-8")
    return path


def brought_in(superuser: psycopg.Connection[Any], tenant: str) -> list[Any]:
    """What the tenant has of all that an import decides, whatever the ids."""
    return superuser.execute(
        "select u.telegram_id, u.first_name, c.session_id, c.started_at, c.last_activity, c.last_message_id,"
        " c.is_active, m.message_id, m.user_message, m.bot_response, m.created_at from thea.users u"
        " left join thea.conversations c on c.tenant_id = u.tenant_id and c.user_id = u.id"
        " left join thea.message_history m on m.tenant_id = u.tenant_id and m.conversation_id = c.id"
        " where u.tenant_id = %s order by u.telegram_id, c.session_id, m.created_at, m.message_id, m.user_message",
        [tenant],
    ).fetchall()
