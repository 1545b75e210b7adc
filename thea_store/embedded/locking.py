"""A lock between processes that no crash leaves behind."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

__all__ = ["take_lock"]


def take_lock(path: Path, keep_waiting: Callable[[int], bool]) -> int:
    """The descriptor of the file at `path`, created if missing, that holds the lock until it is closed.

    While another descriptor holds it, `keep_waiting` is called again and again with ours; it
    waits a little, and ends the attempt by returning False (`BlockingIOError`) or by raising.
    """
    # A link is not followed: root may be working in a directory of somebody else.
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not keep_waiting(descriptor):
                    raise
            else:
                return descriptor
    except BaseException:
        os.close(descriptor)
        raise
