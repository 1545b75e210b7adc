"""A Bot API server on loopback, with people who write to its bots; as https://core.telegram.org/bots/api says."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import parse_qsl

__all__ = ["FakeBot", "FakeTelegram", "Person"]

_PATIENCE = 8.0


@dataclass(frozen=True)
class Failure(Exception):  # noqa: N818
    """What the API answers instead of a result."""

    code: int
    description: str
    parameters: dict[str, int] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        body = {"ok": False, "error_code": self.code, "description": self.description}
        return body | ({"parameters": self.parameters} if self.parameters else {})


class FakeTelegram:
    """The server, with a bot for each token that was asked for."""

    def __init__(self) -> None:
        self.api_url = ""
        self._bots: dict[str, FakeBot] = {}
        self._connections: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.api_url = f"http://{host}:{port}/bot"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for connection in self._connections:
            connection.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()

    def bot(self, token: str) -> FakeBot:
        return self._bots.setdefault(token, FakeBot(int(token.partition(":")[0])))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        with suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while True:
                writer.write(await self._exchange(reader))
                await writer.drain()
        self._connections.discard(task)
        writer.close()

    async def _exchange(self, reader: asyncio.StreamReader) -> bytes:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        request, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", 0)))
        token, _, method = request.split()[1].removeprefix("/bot").partition("/")
        try:
            if token not in self._bots:
                raise Failure(401, "Unauthorized")
            result = await self._bots[token].call(method, dict(parse_qsl(body.decode())))
            code, answer = 200, {"ok": True, "result": result}
        except Failure as failure:
            code, answer = failure.code, failure.body()
        content = json.dumps(answer).encode()
        return (
            f"HTTP/1.1 {code} -\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n".encode()
            + content
        )


class FakeBot:
    """What the server knows of one bot: updates that are not confirmed yet, and the chats."""

    def __init__(self, bot_id: int) -> None:
        self.bot_id = bot_id
        self.methods: list[str] = []
        self.failures: list[tuple[str, Failure]] = []
        self.keeps_updates = False
        """The server dies before it writes down a confirmation."""
        self._updates: list[dict[str, Any]] = []
        self._people: dict[int, Person] = {}
        self._update_id = 700_000_000
        self._message_id = 0
        self._news = asyncio.Condition()
        self._polls = 0

    def person(self, telegram_id: int, first_name: str) -> Person:
        return self._people.setdefault(telegram_id, Person(self, telegram_id, first_name))

    def fail_next(self, method: str, code: int, description: str, **parameters: int) -> None:
        self.failures.append((method, Failure(code, description, parameters)))

    async def deliver(
        self, chat: dict[str, Any], sender: dict[str, Any], kind: str = "message", **content: Any
    ) -> None:
        self._update_id += 1
        message = {"message_id": self.next_message_id(), "date": int(time.time()), "chat": chat, "from": sender}
        self._updates.append({"update_id": self._update_id, kind: message | content})
        async with self._news:
            self._news.notify_all()

    def next_message_id(self) -> int:
        self._message_id += 1
        return self._message_id

    async def call(self, method: str, parameters: dict[str, str]) -> Any:
        self.methods.append(method)
        for place, (name, failure) in enumerate(self.failures):
            if name == method:
                del self.failures[place]
                raise failure
        match method:
            case "getMe":
                return {"id": self.bot_id, "is_bot": True, "first_name": "THEA", "username": "thea_bot"}
            case "deleteWebhook":
                return True
            case "getUpdates":
                return await self._get_updates(int(parameters.get("offset", 0)), float(parameters.get("timeout", 0)))
            case "sendMessage":
                return self._send_message(int(parameters["chat_id"]), parameters["text"])
        raise Failure(404, "Not Found")

    async def _get_updates(self, offset: int, patience: float) -> list[dict[str, Any]]:
        """What is from `offset` on, which confirms all before; a second poll ends the first."""
        self._polls += 1
        mine = self._polls
        if not self.keeps_updates:
            self._updates = [update for update in self._updates if update["update_id"] >= offset]
        async with self._news:
            self._news.notify_all()
            with suppress(TimeoutError):
                async with asyncio.timeout(patience):
                    await self._news.wait_for(lambda: mine != self._polls or self._from(offset))
        if mine != self._polls:
            raise Failure(409, "Conflict: terminated by other getUpdates request")
        return self._from(offset)

    def _from(self, offset: int) -> list[dict[str, Any]]:
        return [update for update in self._updates if update["update_id"] >= offset][:100]

    def _send_message(self, chat_id: int, text: str) -> dict[str, Any]:
        if not 1 <= len(text) <= 4096:
            raise Failure(400, "Bad Request: message text is empty" if not text else "Bad Request: message is too long")
        if chat_id not in self._people:
            raise Failure(403, "Forbidden: bot can't initiate conversation with a user")
        person = self._people[chat_id]
        person.received.append(text)
        person.inbox.put_nowait(text)
        return {"message_id": self.next_message_id(), "date": int(time.time()), "chat": person.chat, "text": text}


@dataclass
class Person:
    """Somebody with a private chat with the bot."""

    bot: FakeBot
    telegram_id: int
    first_name: str
    received: list[str] = field(default_factory=list)
    inbox: asyncio.Queue[str] = field(default_factory=asyncio.Queue)

    @property
    def chat(self) -> dict[str, Any]:
        return {"id": self.telegram_id, "type": "private", "first_name": self.first_name}

    @property
    def account(self) -> dict[str, Any]:
        return {"id": self.telegram_id, "is_bot": False, "first_name": self.first_name, "language_code": "es"}

    async def write(self, text: str) -> None:
        """Send a text, and go on with something else."""
        await self.bot.deliver(self.chat, self.account, text=text)

    async def says(self, text: str) -> str:
        """What the bot answers to the text."""
        await self.write(text)
        return await self.hears()

    async def hears(self) -> str:
        """The next message of the bot."""
        async with asyncio.timeout(_PATIENCE):
            return await self.inbox.get()
