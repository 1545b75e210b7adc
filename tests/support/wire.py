"""A proxy between a store and its server that counts round trips on the wire."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Self

from thea_store.postgres.url import DatabaseUrl


class Wire:
    """Counts how often the client speaks after the server did; can hold back or cut what passes."""

    def __init__(self, url: str) -> None:
        self._target = DatabaseUrl.parse(url)
        self.round_trips = 0
        self._heard = asyncio.Event()
        self.url = ""
        self._server_spoke = True
        self._writers: set[asyncio.StreamWriter] = set()
        self._forgotten: set[asyncio.StreamWriter] = set()
        self.answers = asyncio.Event()
        self.answers.set()

    def reset(self) -> None:
        self.round_trips = 0
        self._heard.clear()

    async def until_sent(self) -> None:
        """Wait until the client has spoken since the last `reset`."""
        await self._heard.wait()

    def cut(self) -> None:
        """Break every connection without a word."""
        for writer in list(self._writers):
            writer.transport.abort()

    def forget(self) -> None:
        """Swallow all that passes through the connections of now, as a firewall does that has forgotten them."""
        self._forgotten |= self._writers

    @asynccontextmanager
    async def listening(self, port: int = 0) -> AsyncIterator[Self]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", port)
        port = server.sockets[0].getsockname()[1]
        self.url = replace(self._target, hosts=(("127.0.0.1", port),)).render()
        try:
            yield self
        finally:
            server.close()
            self.answers.set()
            self.cut()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = self._target.hosts[0]
        if host.startswith("/"):
            upstream = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port or 5432}")
        else:
            upstream = await asyncio.open_connection(host, port or 5432)
        self._writers |= {writer, upstream[1]}
        try:
            await asyncio.gather(self._forward(reader, upstream[1]), self._answer(upstream[0], writer))
        except OSError:
            pass
        finally:
            for one in (writer, upstream[1]):
                self._writers.discard(one)
                one.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if self._server_spoke:
                self.round_trips += 1
                self._server_spoke = False
            self._heard.set()
            if writer in self._forgotten:
                continue
            writer.write(data)
            await writer.drain()
        writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            await self.answers.wait()
            self._server_spoke = True
            writer.write(data)
            await writer.drain()
        writer.transport.abort()
