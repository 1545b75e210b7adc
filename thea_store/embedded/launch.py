"""One run of a server, from the first check to the last directory removed, in blocking calls."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

from thea_store.embedded import watchdog
from thea_store.embedded.account import clean_environment, server_account
from thea_store.embedded.binaries import find_binaries
from thea_store.embedded.data_checks import check_data
from thea_store.embedded.data_directory import DATA, ServerPaths, claim, runtime_directory
from thea_store.embedded.roles import create_roles, require_driver
from thea_store.embedded.server_plan import START_SECONDS, make_plan
from thea_store.errors import EmbeddedServerError

__all__ = ["ServerRun"]

_ANSWER_SECONDS = 3 * START_SECONDS  # the watchdog keeps time itself; this is for one that hangs
_STOP_SECONDS = 60.0  # more than its signals to the server are given


class ServerRun:
    """A server that is started once, released and waited for.

    Its calls may come from different threads; `release` may come while another is at work.
    """

    socket_dir: Path

    def __init__(self, home: Path | None, bin_dir: Path | None) -> None:
        self._home = home
        self._bin_dir = bin_dir
        self._released = threading.Event()
        self._watchdog: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Return when the server is ready and has its roles; `EmbeddedServerError` when it cannot be."""
        try:
            self._watchdog = self._launch()
            if self._released.is_set():  # while there was no watchdog to release yet
                self.release()
            require_driver()  # takes as long as half of the server's start, which goes on meanwhile
            self._wait_until_ready(self._watchdog.stdout)
            create_roles(self.socket_dir)
        except BaseException:
            self.release()
            self.wait()
            raise

    def release(self) -> None:
        """Let the server go down, at once; the watchdog sees to it, even if nobody waits."""
        self._released.set()
        if self._watchdog is not None and self._watchdog.stdin is not None:
            self._watchdog.stdin.close()

    def wait(self) -> None:
        """Return when the server is down and what was temporary is gone, after `release`."""
        if self._watchdog is None:
            return
        try:
            status = self._watchdog.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise EmbeddedServerError(
                f"the embedded PostgreSQL does not stop: look at process {self._watchdog.pid} and its child"
            ) from None
        finally:
            if self._watchdog.stdout is not None:
                self._watchdog.stdout.close()
        if status < 0:  # somebody killed it; the system has told its server to end
            watchdog.remove(str(self.socket_dir))

    def _launch(self) -> subprocess.Popen[bytes]:
        account = server_account(None if self._home is None else self._home / DATA)
        binaries = find_binaries(self._bin_dir, account)
        lock = None if self._home is None else claim(self._home, self._released)
        try:
            paths = ServerPaths(runtime_directory(account, for_data=self._home is None), self._home, lock)
            initialised = self._home is not None and check_data(paths.data, binaries.major)
            if not initialised:
                account.require_name()
            self.socket_dir = paths.runtime
            return _spawn(make_plan(binaries, account, paths, initialised=initialised))
        finally:
            if lock is not None:
                os.close(lock)  # the watchdog has it now

    def _wait_until_ready(self, output: IO[bytes] | None) -> None:
        answer = _answer(output) if output is not None else b""
        if answer.strip() == b"ready":
            return
        if self._released.is_set():
            raise EmbeddedServerError("the embedded PostgreSQL was stopped while it was starting")
        reason = answer.decode("utf-8", "replace").strip() or "its watchdog was ended or does not answer"
        raise EmbeddedServerError(f"the embedded PostgreSQL did not start: {reason}")


def _spawn(plan: watchdog.Plan) -> subprocess.Popen[bytes]:
    if not sys.executable:
        raise EmbeddedServerError(
            "the embedded PostgreSQL needs a Python to run its watchdog, and `sys.executable` is empty: "
            "set it, or use a server of your own"
        )
    return subprocess.Popen(  # noqa: S603 - our own watchdog
        [sys.executable, "-I", "-S", watchdog.__file__, json.dumps(plan)],
        cwd="/",
        env=clean_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
        start_new_session=True,  # Ctrl-C in the terminal is for the program alone
        pass_fds=() if plan["lock"] is None else (plan["lock"],),
    )


def _answer(output: IO[bytes]) -> bytes:
    """The watchdog's word `ready`, or all that it had to say before its end; empty when it hangs."""
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        if not selector.select(_ANSWER_SECONDS):
            return b""
    line = output.readline()
    return line if line.strip() == b"ready" else line + output.read()
