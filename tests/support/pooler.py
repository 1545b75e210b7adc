"""A real PgBouncer in transaction mode, in front of a test database."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from thea_store.embedded.account import server_account
from thea_store.postgres.operator import UnreachableError, connect
from thea_store.postgres.session import start_up_settings
from thea_store.postgres.url import DatabaseUrl

STARTUP = ", ".join([*start_up_settings(jit="off", statement_timeout="1"), "options"])
"""The settings that a store sends when it connects."""


@contextmanager
def pgbouncer(url: str, **options: str) -> Iterator[str]:
    """The URL through a PgBouncer with these options; skips the test where none is installed."""
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        pytest.skip("PgBouncer is not installed")
    target = DatabaseUrl.parse(url)
    with tempfile.TemporaryDirectory() as directory, socket.socket() as free:
        Path(directory).chmod(0o755)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        settings = _settings(target, Path(directory), port) | options
        configuration = Path(directory, "pgbouncer.ini")
        configuration.write_text(
            f"[databases]\n{target.database} = {_server(target)}\n[pgbouncer]\n"
            + "".join(f"{name} = {value}\n" for name, value in settings.items())
        )
        account = server_account(None)
        command = [program, "-q", str(configuration)]
        with subprocess.Popen(command, user=account.uid, group=account.gid, stderr=subprocess.DEVNULL) as process:
            try:
                place = replace(target, hosts=(("127.0.0.1", port),))
                until_it_answers(place)
                yield place.render()
            finally:
                process.kill()


def _server(target: DatabaseUrl) -> str:
    [(host, port)] = target.hosts
    return f"host={host} port={port or 5432}"


def _settings(target: DatabaseUrl, directory: Path, port: int) -> dict[str, str]:
    users = directory / "users"
    users.write_text(f'"{target.user}" "{target.password}"\n')
    return {
        "listen_addr": "127.0.0.1",
        "listen_port": str(port),
        "unix_socket_dir": "",
        "auth_type": "plain",
        "auth_file": str(users),
        "pool_mode": "transaction",
    }


def until_it_answers(address: DatabaseUrl) -> None:
    for _ in range(200):
        with suppress(UnreachableError):
            connect(address).close()
            return
        time.sleep(0.05)
    pytest.fail(f"{address} does not answer")
