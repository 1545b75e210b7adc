"""Real standbys of a primary: made by `pg_basebackup`, following by streaming, frozen and ended when a test says so."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from tests.support.pooler import until_it_answers
from tests.support.stopping import stopped
from thea_store.embedded import EmbeddedPostgres
from thea_store.embedded.account import Account, server_account
from thea_store.embedded.binaries import find_binaries
from thea_store.postgres.url import DatabaseUrl

__all__ = ["Standby", "servers_directory", "standbys"]


class Standby:
    """One standby; its socket's directory is its data's."""

    def __init__(self, primary: EmbeddedPostgres, directory: Path, account: Account) -> None:
        self._directory, self._account = directory, account
        self._programs = find_binaries(None, account).directory
        self._primary = DatabaseUrl.parse(primary.superuser_url)
        self._process: subprocess.Popen[bytes] | None = None
        self.superuser_url = self.at(primary.superuser_url)
        self.app_url = self.at(primary.app_url)

    def at(self, url: str) -> str:
        """A URL of the primary's, on this standby."""
        return replace(DatabaseUrl.parse(url), hosts=((str(self._directory), 5433),)).render()

    def copy(self) -> None:
        """Copy the primary's data."""
        [(sockets, _)] = self._primary.hosts
        backup = [str(self._programs / "pg_basebackup"), "-h", sockets, "-U", "postgres", "-c", "fast", "--no-sync"]
        made = self._account.run(*backup, "-R", "-D", f"{self._directory}/data")
        assert made.returncode == 0, made.stdout

    def start(self) -> None:
        """Start it, and wait until it answers."""
        command = [str(self._programs / "postgres"), "-D", f"{self._directory}/data", "-c", "port=5433"]
        command += ["-c", f"unix_socket_directories={self._directory}", "-c", "listen_addresses=", "-c", "fsync=off"]
        self._process = subprocess.Popen(
            command,
            user=self._account.uid,
            group=self._account.gid,
            extra_groups=[],
            stderr=subprocess.DEVNULL,
        )
        until_it_answers(DatabaseUrl.parse(self.superuser_url))

    def end(self) -> None:
        """End it at once, as a crash does."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()
            self._process = None

    @contextmanager
    def frozen(self, backend: int) -> Iterator[None]:
        """Stop all its processes, one of which is this backend."""
        with stopped(backend):
            yield


@contextmanager
def servers_directory() -> Iterator[Path]:
    """A directory that the servers' account may read, where nothing waits for a disk."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@contextmanager
def standbys(primary: EmbeddedPostgres, directory: Path, number: int) -> Iterator[list[Standby]]:
    """So many standbys of the primary, each in a directory of its own there."""
    account = server_account(None)
    made = []
    try:
        for position in range(number):
            place = directory / f"s{position}"
            place.mkdir()
            os.chown(place, account.uid or -1, account.gid or -1)
            made.append(Standby(primary, place, account))
            made[-1].copy()
            made[-1].start()
        yield made
    finally:
        for standby in made:
            standby.end()
