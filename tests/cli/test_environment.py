"""The command line where little can be read: another user's directory and home, a user id without a name."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import psycopg
import pytest

import thea_store

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can run a command as somebody else")

CHECKOUT = Path(thea_store.__file__).parents[1]
NOBODY, NAMELESS = 65534, 54321


@cache
def _python(user: int) -> str:
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        try:
            if _run([python, "-c", "import thea_store.cli"], user).returncode == 0:
                return python
        except OSError:
            continue
    pytest.skip(f"the user {user} can reach no Python with these packages")


def _run(command: list[str], user: int, **environment: str) -> subprocess.CompletedProcess[str]:
    packages = Path(psycopg.__file__).parents[1]
    ordinary: dict[str, Any] = {"user": user, "group": user, "extra_groups": []}
    paths = {"PATH": os.defpath, "PYTHONPATH": f"{CHECKOUT}:{packages}", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        command, env={**paths, **environment}, capture_output=True, text=True, check=False, timeout=60, **ordinary
    )


@pytest.fixture(params=["a closed directory", "an unreadable .env", "a directory that is gone"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A working directory in which the command may not read what is there."""
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        path = Path(directory) / "here"
        path.mkdir()
        monkeypatch.chdir(path)
        (path / ".env").write_text("DATABASE_URL=postgresql://nowhere.invalid/d")
        (path / ".env").chmod(0o600)
        Path(directory).chmod(0o755)
        if request.param == "an unreadable .env":
            path.chmod(0o755)
        elif request.param == "a directory that is gone":
            (path / ".env").unlink()
            path.rmdir()
        else:
            path.chmod(0o700)
        yield request.param


@pytest.mark.slow
def test_the_demonstration_runs_anywhere(place: str) -> None:
    # The home is another user's, as for a service that was started with its caller's environment.
    result = _run([_python(NOBODY), "-m", "thea_store", "demo"], NOBODY, HOME="/root")

    assert result.returncode == 0, result.stderr
    assert "please report this" not in result.stderr
    assert ("cannot be read (PermissionError)" in result.stderr) == (place != "a directory that is gone")


@pytest.mark.slow
@pytest.mark.usefixtures("place")
@pytest.mark.parametrize(
    ("environment", "told"),
    [
        ({}, "because the system has no name for it: add an entry to /etc/passwd"),
        ({"DATABASE_URL": "postgresql://127.0.0.1:1/d"}, "write the user into the URL"),
        ({"DATABASE_URL": "postgresql://ana@127.0.0.1:1/d"}, "no PostgreSQL answers"),
    ],
)
def test_a_user_id_without_a_name_is_told_what_to_do(environment: dict[str, str], told: str) -> None:
    result = _run([_python(NAMELESS), "-m", "thea_store", "check"], NAMELESS, **environment)

    assert result.returncode == 1
    assert told in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize("command", [["manifest"], ["new", "extension", "planner"]], ids=" ".join)
def test_a_command_of_extensions_tells_what_it_may_not_read_or_write(place: str, command: list[str]) -> None:
    result = _run([_python(NOBODY), "-m", "thea_store", *command], NOBODY)

    assert "please report this" not in result.stderr
    if command[0] == "new":
        assert result.returncode == 1
        assert re.search(r"planner.*: (Permission denied|No such file or directory): let this user", result.stderr)
    else:
        assert result.returncode == 2
        assert "no extension is found" in result.stderr
        assert ("cannot be read (PermissionError)" in result.stderr) == (place != "a directory that is gone")
