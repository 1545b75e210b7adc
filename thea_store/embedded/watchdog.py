"""The process between a program and its server: it starts the server, and takes it down at the end.

It is run as a program of its own, `python -I -S watchdog.py PLAN`, on nothing but the standard
library. Its standard input is a pipe that nothing is ever written to: at its end, however the
program came to its own, the server is stopped and the temporary directories are removed. It says
`ready` on standard output, or why there is no server.
"""

from __future__ import annotations

import contextlib
import functools
import json
import locale
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypedDict

__all__ = ["Plan", "main", "remove"]


class Plan(TypedDict):
    """What to do, as JSON in the first argument."""

    parent: int  # the process we work for
    lock: int | None  # the inherited descriptor that holds the lock on kept data
    uid: int | None  # who runs the server, where that is somebody else
    gid: int | None
    runtime: str  # the private directory to make, and to remove at the end
    data: str
    log: str
    initdb: list[str] | None  # None: there is data
    server: list[str]
    stop: list[tuple[str, float]]  # signals, each with the seconds it is given
    seconds: float  # that each step of the start may take


class _StartError(Exception):
    """There is no server; the message says why."""


class _Over(Exception):  # noqa: N818 - this is no error
    """The program has ended or wants the server to end."""


def main() -> int:
    """Do what the plan in the first argument says, until the program ends."""
    plan: Plan = json.loads(sys.argv[1])
    _reset_signals()
    server: subprocess.Popen[bytes] | None = None
    try:
        log = _prepare(plan)
        if _is_over(plan, 0):
            return 0
        if plan["initdb"] is not None:
            _initialise(plan, plan["initdb"], log)
        server = _spawn(plan, plan["server"], plan["data"], log)
        _wait(plan, server, "postgres", functools.partial(_is_ready, plan, server.pid))
        _say("ready")
        while not _is_over(plan, 0.5):
            server.poll()
    except _Over:
        return 0
    except (_StartError, OSError, subprocess.SubprocessError) as error:
        _say(str(error))
        return 1
    finally:
        _clean_up(plan, server)
    return 0


def _reset_signals() -> None:
    # What the program ignores or blocks is inherited, and would keep us from hearing of a child's end.
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    signal.signal(signal.SIGTERM, _on_terminate)


def _on_terminate(*_: object) -> NoReturn:
    raise _Over


def _prepare(plan: Plan) -> int:
    """Make the directories, say who holds the lock, and open the log, whose descriptor is returned."""
    if plan["lock"] is not None:
        os.ftruncate(plan["lock"], 0)
        os.pwrite(plan["lock"], f"{plan['parent']} {os.getpid()}".encode(), 0)
    _make_directory(plan, plan["runtime"])
    with contextlib.suppress(FileNotFoundError):
        Path(plan["log"]).replace(plan["log"] + ".1")
    # The log is new for certain: root may be working in a directory of somebody else.
    return os.open(plan["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)


def _make_directory(plan: Plan, path: str) -> None:
    Path(path).mkdir(mode=0o700)
    if plan["uid"] is not None and plan["gid"] is not None:
        os.chown(path, plan["uid"], plan["gid"], follow_symlinks=False)


def _initialise(plan: Plan, command: list[str], log: int) -> None:
    """Make the data directory, under another name until it is whole."""
    partial = plan["data"] + ".partial"
    remove(partial)
    _make_directory(plan, partial)
    initdb = _spawn(plan, [*command, "--locale", _locale()], partial, log)
    try:
        _wait(plan, initdb, "initdb", lambda: initdb.poll() == 0)
    except BaseException as error:
        # Killed at its work it would leave shared memory behind, so it may finish that.
        with contextlib.suppress(subprocess.TimeoutExpired):
            initdb.wait(plan["seconds"] if isinstance(error, _Over) else 0)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(initdb.pid, signal.SIGKILL)
        initdb.wait()
        remove(partial)
        raise
    Path(partial).rename(plan["data"])
    home = os.open(Path(partial).parent, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(home)
    os.close(home)


def _locale() -> str:
    try:
        locale.setlocale(locale.LC_ALL, "C.UTF-8")
    except locale.Error:
        return "C"
    return "C.UTF-8"


def _spawn(plan: Plan, command: list[str], data: str, log: int) -> subprocess.Popen[bytes]:
    """Start a command on a data directory, in a process group of its own, to end should we be killed."""
    directory = os.open(data, os.O_RDONLY | os.O_DIRECTORY)
    if plan["uid"] is not None and Path("/proc/self/fd").is_dir():
        data = f"/proc/self/fd/{directory}"  # this way it may be below a directory that is closed to that account
    try:
        return subprocess.Popen(  # noqa: S603 - initdb or postgres
            [*command, "-D", data],
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            # With the lock, nobody else gets the data as long as one process of the server lives.
            pass_fds=(directory,) if plan["lock"] is None else (directory, plan["lock"]),
            user=plan["uid"],
            group=plan["gid"],
            extra_groups=None if plan["uid"] is None else [],
            process_group=0,
            preexec_fn=_die_with_us(plan),  # noqa: PLW1509 - there is one thread
        )
    finally:
        os.close(directory)


def _die_with_us(plan: Plan) -> Callable[[], None] | None:
    """What has Linux send a new process our first stop signal should we be killed; see prctl(2)."""
    try:
        import ctypes  # noqa: PLC0415 - not every Python was built with it

        prctl = ctypes.CDLL(None).prctl
    except (ImportError, OSError, AttributeError):
        return None
    set_parent_death_signal = 1
    return functools.partial(prctl, set_parent_death_signal, int(_signal(plan["stop"][0][0])), 0, 0, 0)


def _wait(plan: Plan, process: subprocess.Popen[bytes], name: str, done: Callable[[], bool]) -> None:
    deadline = time.monotonic() + plan["seconds"]
    while not done():
        if process.poll() is not None and not done():
            raise _StartError(f"{name} ended with status {process.returncode}{_last_lines(plan)}")
        if time.monotonic() > deadline:
            seconds = f"{plan['seconds']:g} seconds"
            raise _StartError(f"{name} was not ready within {seconds}{_last_lines(plan)}")
        if _is_over(plan, 0.01):
            raise _Over


def _is_ready(plan: Plan, pid: int) -> bool:
    """Whether postmaster.pid is of this server and says `ready` (line 8; see miscadmin.h)."""
    try:
        lines = Path(plan["data"], "postmaster.pid").read_text("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return False
    return lines[:1] == [str(pid)] and "".join(lines[7:8]).strip() == "ready"


def _is_over(plan: Plan, seconds: float) -> bool:
    """Whether the program has ended or let go of us; waits as long for that."""
    ended = bool(select.select([0], [], [], seconds)[0])
    # A forked child of the program may have the pipe open after the program's own end.
    return ended or os.getppid() != plan["parent"]


def _last_lines(plan: Plan) -> str:
    lines = Path(plan["log"]).read_text("utf-8", "replace").splitlines()[-10:]
    return "".join(f"\n  {line}" for line in lines)


def _say(text: str) -> None:
    with contextlib.suppress(BrokenPipeError):
        os.write(1, f"{text}\n".encode("utf-8", "replace"))


def _clean_up(plan: Plan, server: subprocess.Popen[bytes] | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if plan["lock"] is not None:
        os.ftruncate(plan["lock"], 0)  # whoever asks for the lock now will wait for it
    if server is not None:
        _stop(server, plan["stop"])
    remove(plan["runtime"])


def _stop(server: subprocess.Popen[bytes], signals: list[tuple[str, float]]) -> None:
    for name, seconds in signals:
        server.send_signal(_signal(name))  # nothing for a server that has ended already
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(seconds)
            return


def _signal(name: str) -> signal.Signals:
    return signal.Signals[name]


def remove(path: str) -> None:
    """Remove a directory that a last process may be writing to."""
    for _ in range(50):
        shutil.rmtree(path, ignore_errors=True)
        if not os.path.lexists(path):
            return
        time.sleep(0.1)


if __name__ == "__main__":
    sys.exit(main())
