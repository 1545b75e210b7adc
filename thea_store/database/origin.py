"""Where a store may be used: in the process, and on the event loop, that opened it.

Connections cannot be shared. After `os.fork` the child has copies of the parent's sockets, and whatever it sent
there would be answered to either of the two, so that one tenant's rows could reach another tenant's call. A driver's
connection also belongs to one event loop, and therefore to the thread that runs this loop.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
import weakref
from dataclasses import dataclass
from typing import Any, Protocol

from thea_store.errors import StoreError

__all__ = ["Origin", "cut_off_in_children"]


class HasFileno(Protocol):
    """A socket of the event loop, of which only the descriptor is needed."""

    def fileno(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Origin:
    """The process, the thread and the event loop that opened a store."""

    process: int
    thread: int
    loop: asyncio.AbstractEventLoop

    @classmethod
    def here(cls) -> Origin:
        """That of the running coroutine."""
        return cls(os.getpid(), threading.get_ident(), asyncio.get_running_loop())

    def is_here(self) -> bool:
        """Whether the caller runs there."""
        return os.getpid() == self.process and _running_loop() is self.loop

    def check(self) -> None:
        """`StoreError` where the caller runs elsewhere; nothing is sent or closed."""
        if not self.is_here():
            raise StoreError(self._elsewhere())

    def _elsewhere(self) -> str:
        if os.getpid() != self.process:
            return (
                f"this store was opened in another process ({self.process}) and this one ({os.getpid()}) was forked "
                "from it: its connections belong to that process, so open a store in each process after the fork "
                "(Celery: on worker_process_init; gunicorn: without preload_app, or in post_fork)"
            )
        if threading.get_ident() != self.thread:
            return (
                "this store was opened on another event loop, in another thread: open it on the loop that uses it, for "
                "example in the application's lifespan, or hand the call to that loop with "
                "asyncio.run_coroutine_threadsafe"
            )
        return (
            "this store was opened on another event loop: open it on the loop that uses it, and close it there (within "
            "the same asyncio.run; in pytest, in a fixture of the same loop scope as the tests)"
        )


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


# --- sockets in forked children -----------------------------------------------------------------

# The socket of each open connection of this process. What a child inherits must not be used there even by garbage
# collection: the driver would say goodbye on the parent's connection, and the event loop would take the socket out of
# the selector that parent and child share.
_sockets: weakref.WeakKeyDictionary[Any, HasFileno] = weakref.WeakKeyDictionary()


def cut_off_in_children(connection: object, connected: HasFileno) -> None:
    """Let a process that is forked later have a dead socket in the place of this connection's."""
    _sockets[connection] = connected


def _cut_off() -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        for inherited in list(_sockets.values()):
            if inherited.fileno() >= 0:
                os.dup2(dead.fileno(), inherited.fileno(), inheritable=False)
    _sockets.clear()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_cut_off)
