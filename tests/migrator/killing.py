"""The real migrator as a process of its own, behind a wire that kills it (-9) at the statement of one's choice.

The wire speaks enough of PostgreSQL's protocol to know where a request ends, so the product is not changed and
does not know. Processes are forked from a server that has imported everything, which makes each cost some 30 ms.
"""

from __future__ import annotations

import multiprocessing
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from multiprocessing.process import BaseProcess
from pathlib import Path
from tempfile import TemporaryDirectory

from thea_store.postgres.url import DatabaseUrl

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    ["pytest", "thea_store.cli.commands", "thea_store.cli.output", "thea_store.migrator.backend"]
)

_PATIENCE = 60.0
_REQUEST_ENDS = b"QS"  # a simple query; the Sync behind parse, bind and execute
_SENT_WITH_IT = b"PBDECH"


@dataclass(frozen=True, slots=True)
class Kill:
    """Where the migrator dies: at its request number `at`, counted from 1."""

    at: int
    sent: bool
    """Whether the server still gets that request; its answer reaches nobody."""


def migrator(url: str, *arguments: str) -> None:
    """`thea-store migrate …`, run to its end and to the end of this process."""
    os.environ["DATABASE_URL"] = os.environ["DATABASE_MIGRATOR_URL"] = url
    sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - to the end of the process
    sys.argv = ["thea-store", "migrate", *arguments]
    from thea_store.cli.commands import main  # noqa: PLC0415 - in the child, where it is loaded already

    main()


def run(url: str, *arguments: str, kill: Kill | None = None, program: Callable[..., None] = migrator) -> list[str]:
    """The requests that the process sent, as SQL; it has ended when this returns, well or by the kill."""
    target = DatabaseUrl.parse(url)
    with TemporaryDirectory() as directory, closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(f"{directory}/.s.PGSQL.5432")
        listener.listen()
        listener.settimeout(_PATIENCE)
        here = replace(target, hosts=((directory, 5432),)).render()
        process: BaseProcess = _FORKS.Process(target=program, args=(here, *arguments))
        process.start()
        with closing(listener.accept()[0]) as client, closing(_connected(target)) as server:
            requests = _passed_on(client, server, kill, process)
        process.join(_PATIENCE)
    assert process.exitcode == (-signal.SIGKILL if kill else 0), (process.exitcode, requests[-1:])
    process.close()
    return requests


def _passed_on(client: socket.socket, server: socket.socket, kill: Kill | None, process: BaseProcess) -> list[str]:
    requests: list[str] = []
    for request in _requests(client, server):
        requests.append(request.text)
        is_the_one = kill is not None and len(requests) == kill.at
        if kill is None or not is_the_one or kill.sent:
            server.sendall(request.message)
        if is_the_one:
            process.kill()
            process.join(_PATIENCE)
            break
    return requests


def _connected(target: DatabaseUrl) -> socket.socket:
    host, port = target.hosts[0]
    if not host.startswith("/"):
        return socket.create_connection((host, port or 5432))
    server = socket.socket(socket.AF_UNIX)
    server.connect(f"{host}/.s.PGSQL.{port or 5432}")
    return server


@dataclass(frozen=True, slots=True)
class _Request:
    message: bytes
    text: str


def _requests(client: socket.socket, server: socket.socket) -> Iterator[_Request]:
    """Each request of the client, which the caller passes on or not; all else that is said is passed on here."""
    unread, held, letter = b"", b"", 0  # the very first message has no letter
    for speaker, data in _said(client, server):
        if speaker is server:
            client.sendall(data)
            continue
        unread += data
        while len(unread) >= (end := letter + int.from_bytes(unread[letter : letter + 4], "big")) > letter:
            message, unread, letter = unread[:end], unread[end:], 1
            if message[:1] in _REQUEST_ENDS:
                yield _Request(held + message, _sql(held or message))
                held = b""
            elif message[:1] in _SENT_WITH_IT:
                held += message
            else:
                server.sendall(message)


def _said(*sockets: socket.socket) -> Iterator[tuple[socket.socket, bytes]]:
    """Who says what, until one of them hangs up."""
    with selectors.DefaultSelector() as selector:
        for each in sockets:
            selector.register(each, selectors.EVENT_READ, each)
        while ready := selector.select(_PATIENCE):
            for key, _ in ready:
                if not (data := key.data.recv(65536)):
                    return
                yield key.data, data
    raise AssertionError(f"nobody said anything for {_PATIENCE:g} s")


def _sql(message: bytes) -> str:
    """The statement in a simple query, or in a parse message, behind the name that it prepares."""
    parts = message[5:].split(b"\0")
    return parts[1 if message[:1] == b"P" else 0].decode()
