"""Where a server keeps its socket and its data, and the claim to a directory that keeps data."""

from __future__ import annotations

import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from thea_store.embedded.account import Account
from thea_store.embedded.locking import take_lock
from thea_store.errors import EmbeddedServerError

__all__ = ["DATA", "ServerPaths", "claim", "runtime_directory"]

DATA = "pgdata"  # inside of `home`, so that the lock and the log have a place beside it
_LOCK = "thea_store.lock"
_FOREIGN_BUT_FINE = "lost+found"  # what an empty disk has
_TEMPORARY = Path("/tmp")  # noqa: S108 - for a name that nobody can guess, of mode 0700
_MEMORY = Path("/dev/shm")  # noqa: S108 - as above
_MEMORY_NEEDED = 512 * 2**20  # a fresh server takes 40 MB, its journal up to 256 MB more
_LONGEST_BASE = 64  # bytes; a socket's whole path may have 103 (macOS) or 107 (Linux)
_PATIENCE = 30.0  # seconds that an earlier run may take to end


@dataclass(frozen=True, slots=True)
class ServerPaths:
    """The directories of one run: `runtime` goes with it, `home` is of kept data and stays."""

    runtime: Path
    home: Path | None = None
    lock: int | None = None  # the descriptor that makes `home` ours

    @property
    def data(self) -> Path:
        """The data directory of PostgreSQL."""
        return (self.home or self.runtime) / DATA


def runtime_directory(account: Account, *, for_data: bool) -> Path:
    """A free name for the private directory of one run, short enough for a socket; not made yet."""
    bases = [_TEMPORARY]
    with suppress(OSError):  # there is none that this user may write to
        bases.insert(0, Path(tempfile.gettempdir()))
    if for_data and _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _MEMORY_NEEDED:
        bases.insert(0, _MEMORY)
    for base in bases:
        # In the URL of a database, a comma would begin another host.
        fits = len(os.fsencode(base)) <= _LONGEST_BASE and "," not in str(base)
        if fits and os.access(base, os.W_OK | os.X_OK) and account.may_enter(base):
            return base / f"thea-postgres-{os.urandom(6).hex()}"
    raise EmbeddedServerError(
        f"none of {', '.join(map(str, bases))} can hold the server's socket: set TMPDIR to a directory with "
        f"a short name without commas that you may write to and {account.name} may enter"
    )


def claim(home: Path, cancelled: threading.Event) -> int:
    """Make `home` if it is missing; the descriptor of the lock that makes it ours is returned.

    Raises `EmbeddedServerError`, and leaves it as it is, when it is neither a directory of ours
    nor an empty one, cannot be used, or is in use.
    """
    try:
        if home.exists() and not home.is_dir():
            raise EmbeddedServerError(f"{home} is a file: give the path of a directory")
        home.mkdir(parents=True, exist_ok=True)
        if not _is_ours_or_empty(home):
            raise EmbeddedServerError(
                f"{home} is not empty and was not made by thea_store, so it was left as it is: "
                "give the path of a new or an empty directory"
            )
        return take_lock(home / _LOCK, _waiting_for(home, cancelled))
    except BlockingIOError:
        raise EmbeddedServerError(f"the server of an earlier run on {home} does not end: stop it first") from None
    except OSError as error:
        raise EmbeddedServerError(f"{home} cannot be used ({error.strerror}): give another path") from error


def _is_ours_or_empty(home: Path) -> bool:
    names = {entry.name for entry in home.iterdir()}
    return _LOCK in names or names <= {_FOREIGN_BUT_FINE}


def _waiting_for(home: Path, cancelled: threading.Event) -> Callable[[int], bool]:
    """What waits for a lock's holder while that is ending, and refuses while it is at work."""
    deadline = time.monotonic() + _PATIENCE

    def keep_waiting(descriptor: int) -> bool:
        # The program and its watchdog; the latter empties the file when it begins to stop the server.
        holders = [int(number) for number in os.pread(descriptor, 50, 0).split() if number.isdigit()]
        if holders and all(map(_is_alive, holders)):
            program = "this process" if holders[0] == os.getpid() else f"process {holders[0]}"
            raise EmbeddedServerError(
                f"{home} is in use by {program}, and one server at a time may have it: "
                "close that one first, or give another path"
            )
        if cancelled.wait(0.05):
            raise EmbeddedServerError("the embedded PostgreSQL was stopped while it was starting")
        return time.monotonic() < deadline

    return keep_waiting


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
