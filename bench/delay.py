"""A proxy that makes the way to the server longer: each message arrives half of the given time later, both ways.

    python bench/delay.py HOST PORT MILLISECONDS

Prints the port of loopback on which it listens, and serves until its standard input ends. A HOST that begins with a
slash is the directory of a Unix socket.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace

from thea_store.postgres.url import DatabaseUrl

__all__ = ["delayed"]


@asynccontextmanager
async def delayed(url: str, milliseconds: float) -> AsyncIterator[str]:
    """The URL of the same database behind such a proxy, in a process of its own; without a delay, the URL itself."""
    if not milliseconds:
        yield url
        return
    address = DatabaseUrl.parse(url)
    host, port = address.hosts[0]
    command = [sys.executable, __file__, host, str(port or 5432), str(milliseconds)]
    pipe = asyncio.subprocess.PIPE
    proxy = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    assert proxy.stdin is not None
    assert proxy.stdout is not None
    try:
        listens = int(await proxy.stdout.readline())
        yield replace(address, hosts=(("127.0.0.1", listens),)).render()
    finally:
        proxy.stdin.close()
        await proxy.wait()


async def _serve(host: str, port: int, seconds: float) -> None:
    async def both(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if host.startswith("/"):
            far_reader, far_writer = await asyncio.open_unix_connection(f"{host}/.s.PGSQL.{port}")
        else:
            far_reader, far_writer = await asyncio.open_connection(host, port)
        await asyncio.gather(_carry(reader, far_writer, seconds), _carry(far_reader, writer, seconds))

    server = await asyncio.start_server(both, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    with suppress(ConnectionError):
        while data := await reader.read(1 << 16):
            # In order, since timers that are set one after the other for the same span go off so.
            loop.call_later(seconds, writer.write, data)
    loop.call_later(seconds, writer.close)


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]) / 2000))
