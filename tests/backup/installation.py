"""Debian's PostgreSQL 15 with `deploy/backup/`, and the commands of its page, in the places of a test."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from thea_store.embedded.account import Account, clean_environment

__all__ = ["DEPLOY", "Installation", "blocks_of", "free_port", "options_in_prose"]

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy" / "backup"
PROGRAMS = Path("/usr/lib/postgresql/15/bin")
PASSWORD = "guarded"


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def blocks_of(title: str) -> list[str]:
    """The shell's blocks under this title of the page."""
    return re.findall(r"^```sh\n(.*?)^```", _section(title), re.DOTALL | re.MULTILINE)


def options_in_prose(title: str) -> list[str]:
    """The options that the text under this title adds to a command."""
    return re.findall(r"`(--[^`]+)`", _section(title))


def _section(title: str) -> str:
    page = (ROOT / "docs" / "backups.md").read_text()
    [section] = re.findall(rf"^## {title}\n(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
    return str(section)


@dataclass
class Installation:
    """A server of the account's, everything of which is in one directory."""

    directory: Path
    account: Account
    port: int = field(default_factory=free_port)
    side_port: int = field(default_factory=free_port)

    @property
    def url(self) -> str:
        return f"postgresql://postgres:{PASSWORD}@127.0.0.1:{self.port}/postgres"

    @property
    def data(self) -> Path:
        return self.directory / "main"

    def make(self) -> None:
        """A new server's data and configuration, and a directory for each of pgBackRest's."""
        for name in ("etc", "repository", "log", "lock", "bin"):
            (self.directory / name).mkdir()
        (self.directory / "password").write_text(PASSWORD)
        (self.directory / "etc/pgbackrest.conf").write_bytes((DEPLOY / "pgbackrest.conf").read_bytes())
        (self.directory / "bin/thea-side-restore").symlink_to(DEPLOY / "side-restore")
        for each in (self.directory, *self.directory.rglob("*")):
            os.chown(each, self.account.uid or -1, self.account.gid or -1, follow_symlinks=False)
        made = [str(PROGRAMS / "initdb"), "--pgdata", str(self.data), "--username", "postgres", "--no-sync"]
        made += ["--encoding", "UTF8", "--auth-local", "trust", "--auth-host", "scram-sha-256"]
        self.run(*made, "--pwfile", str(self.directory / "password"))
        settings = f"include '{DEPLOY / 'thea-backup.conf'}'\nport = {self.port}\nlisten_addresses = '127.0.0.1'\n"
        settings += f"unix_socket_directories = '{self.directory}'\nfsync = off\n"
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(settings)

    def make_directory(self, name: str) -> Path:
        """An empty directory of the account's."""
        made = self.directory / name
        made.mkdir()
        os.chown(made, self.account.uid or -1, self.account.gid or -1)
        return made

    def start(self) -> None:
        log = str(self.directory / "log/server")
        self.run(str(PROGRAMS / "pg_ctl"), "--pgdata", str(self.data), "--log", log, "--silent", "start")

    def stop(self, directory: Path | None = None) -> None:
        self.run(
            str(PROGRAMS / "pg_ctl"), "--pgdata", str(directory or self.data), "--mode", "fast", "--silent", "stop"
        )

    def shell(self, block: str, *, moment: str = "", tenant: str = "", side: str = "", **environment: str) -> str:
        """What the block of the page printed, with the places and names of this test instead of the page's."""
        names = {
            "/etc/pgbackrest": f"{self.directory}/etc",
            "-o postgres ": f"-o {os.geteuid() if self.account.uid is None else self.account.uid} ",
            "/var/lib/postgresql/side": f"{self.directory}/side",
            "2026-03-01 14:30:00+00": moment,
            " acme ": f" {tenant} ",
            "postgresql://service@127.0.0.1:5433/thea": side,
            "side 5433 ": f"side {self.side_port} ",
        }
        for theirs, ours in names.items():
            block = block.replace(theirs, ours)
        # Only root gives a file to another account; and what our own command needs may not be readable by the server's.
        is_ours = "thea-store" in block or "install -d" in block
        account = Account("the current user") if is_ours else self.account
        done = self.attempt("/bin/sh", "-euc", block, account=account, environment=environment)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def run(self, *command: str) -> str:
        done = self.attempt(*command)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def attempt(
        self, *command: str, account: Account | None = None, environment: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """The command, by the server's account unless another is given, with what pgBackRest must know."""
        account = account or self.account
        places = {
            "CONFIG": f"{self.directory}/etc/pgbackrest.conf",
            "CONFIG_INCLUDE_PATH": f"{self.directory}/etc/conf.d",
            "REPO1_PATH": f"{self.directory}/repository",
            "LOG_PATH": f"{self.directory}/log",
            "LOCK_PATH": f"{self.directory}/lock",
            "SPOOL_PATH": f"{self.directory}/lock",
            "PG1_PATH": str(self.data),
            "PG1_PORT": str(self.port),
            "PG1_SOCKET_PATH": str(self.directory),
            "PG1_USER": "postgres",
        }
        ours = {f"PGBACKREST_{name}": value for name, value in places.items()}
        inherited = clean_environment()
        inherited["PATH"] = f"{self.directory}/bin:{Path(sys.executable).parent}:{inherited['PATH']}"
        with (self.directory.parent / "output").open(
            "w+", errors="replace"
        ) as output:  # a pipe would be kept open by the server
            done = subprocess.run(
                command,
                user=account.uid,
                group=account.gid,
                extra_groups=None if account.uid is None else [],
                cwd="/",
                env=inherited | ours | dict(environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
                timeout=120,
            )
            output.seek(0)
            return subprocess.CompletedProcess(command, done.returncode, output.read(), None)
