"""Three PostgreSQL nodes under Patroni, synchronous, with etcd, by the servers' account.

Each node has a network namespace and a small disk of its own, so that a test can cut the one and fill the other.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import yaml

from tests.backup.installation import PASSWORD, PROGRAMS
from tests.cluster.network import Network
from thea_store.embedded.account import Account, clean_environment, server_account

__all__ = ["Cluster", "Node", "running"]

_PORT, _REST, _ETCD, _PEER = 5432, 8008, 2379, 2380
_DISK = "1536m"


class Node:
    """One node: its Patroni, and the server that it starts."""

    def __init__(self, cluster: Cluster, number: int) -> None:
        self.cluster, self.number, self.name = cluster, number, f"n{number}"
        self.directory = cluster.directory / self.name
        self.disk = self.directory / "disk"
        self.address = cluster.network.address(number)
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """A superuser's URL."""
        return f"postgresql://postgres:{PASSWORD}@{self.address}:{_PORT}/postgres"

    def configure(self) -> None:
        self.directory.mkdir()
        self.disk.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK}", self.name, str(self.disk)], check=True)
        login = {"password": PASSWORD}
        configuration = {
            "scope": "thea",
            "name": self.name,
            "restapi": {"listen": f"0.0.0.0:{_REST}", "connect_address": f"{self.address}:{_REST}"},
            "etcd3": {"host": f"{self.cluster.network.here}:{_ETCD}"},
            "bootstrap": {
                "dcs": {
                    "ttl": 20,
                    "loop_wait": 2,
                    "retry_timeout": 5,
                    "synchronous_mode": self.cluster.synchronous,
                    "synchronous_mode_strict": False,
                    "maximum_lag_on_failover": 1 << 30,
                    "primary_start_timeout": 0,
                    "postgresql": {
                        "use_pg_rewind": True,
                        "parameters": {"wal_log_hints": "on", "fsync": "off", "max_wal_size": "128MB"},
                    },
                },
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}],
                "pg_hba": [
                    "local all all trust",
                    "host replication replicator all scram-sha-256",
                    "host all all all scram-sha-256",
                ],
            },
            "postgresql": {
                "listen": f"0.0.0.0:{_PORT}",
                "connect_address": f"{self.address}:{_PORT}",
                "data_dir": f"{self.disk}/data",
                "bin_dir": str(PROGRAMS),
                "pgpass": f"{self.directory}/pgpass",
                "parameters": {"unix_socket_directories": str(self.directory), "max_connections": 100},
                "authentication": {
                    "superuser": {"username": "postgres", **login},
                    "replication": {"username": "replicator", **login},
                },
            },
            "watchdog": {"mode": "off"},
        }
        (self.directory / "patroni.yml").write_text(yaml.safe_dump(configuration))
        for each in (self.directory, self.disk, self.directory / "patroni.yml"):
            os.chown(each, self.cluster.account.uid or -1, self.cluster.account.gid or -1)

    def start(self) -> None:
        command = ["/usr/bin/python3", "-m", "patroni", str(self.directory / "patroni.yml")]
        inside = self.cluster.network.inside(self.number)
        self.process = self.cluster.spawn(self.directory / "log", command, inside)

    def state(self) -> dict[str, Any]:
        """What its Patroni says of it; empty where it does not answer."""
        url = f"http://{self.address}:{_REST}/patroni"
        with suppress(OSError, ValueError), urllib.request.urlopen(url, timeout=1) as answer:
            return dict(json.load(answer))
        return {}

    def story(self) -> str:
        """What is to be known of it where a test fails."""
        log = (self.directory / "log").read_text(errors="replace").splitlines()
        return "\n".join([f"{self.name}: {self.state()}", *log[-40:]])

    def server(self) -> list[int]:
        """The server's processes, its postmaster first."""
        with suppress(OSError, ValueError, IndexError):
            postmaster = int((self.disk / "data/postmaster.pid").read_text().split()[0])
            children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
            return [postmaster, *map(int, children)]
        return []

    def signal(self, number: int, *, with_patroni: bool) -> None:
        """Send it to the server's processes, and before them to Patroni's where the whole node is meant."""
        if with_patroni and self.process is not None:
            self.process.send_signal(number)
        for process in self.server():
            with suppress(ProcessLookupError):
                os.kill(process, number)

    def fill(self) -> None:
        """Leave no room on its disk, and have the server ask for some."""
        with suppress(OSError), (self.disk / "filler").open("wb", buffering=0) as filler:
            while filler.write(bytes(1 << 20)):
                pass
        with suppress(psycopg.Error), psycopg.connect(self.url, autocommit=True, connect_timeout=2) as connection:
            for _ in range(100):
                connection.execute("select pg_switch_wal(), txid_current()")

    def make_room(self) -> None:
        (self.disk / "filler").unlink(missing_ok=True)

    def end(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None
        self.signal(signal.SIGCONT, with_patroni=False)
        self.signal(signal.SIGKILL, with_patroni=False)

    def remove(self) -> None:
        self.end()
        subprocess.run(["umount", "--lazy", str(self.disk)], check=False)


class Cluster:
    """The nodes, and the etcd that they ask who leads."""

    def __init__(self, directory: Path, account: Account, patroni: Path, *, synchronous: bool = True) -> None:
        self.directory, self.account, self.patroni, self.synchronous = directory, account, patroni, synchronous
        self.network = Network(3)
        self.nodes = [Node(self, number) for number in range(3)]

    def spawn(self, log: Path, command: list[str], inside: list[str]) -> subprocess.Popen[bytes]:
        """Run it by the servers' account; `inside` goes before it, by root."""
        by = ["setpriv", f"--reuid={self.account.uid}", f"--regid={self.account.gid}", "--clear-groups"]
        with log.open("ab") as output:
            return subprocess.Popen(
                [*inside, *by, *command],
                cwd="/",
                env=clean_environment() | {"PYTHONPATH": str(self.patroni)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @contextmanager
    def running(self) -> Iterator[Cluster]:
        os.chown(self.directory, self.account.uid or -1, self.account.gid or -1)
        with self.network.made():
            client, peer = f"http://{self.network.here}:{_ETCD}", f"http://{self.network.here}:{_PEER}"
            command = [str(shutil.which("etcd")), "--data-dir", f"{self.directory}/etcd", "--name", "e"]
            command += ["--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer]
            command += ["--initial-advertise-peer-urls", peer, "--initial-cluster", f"e={peer}"]
            etcd = self.spawn(self.directory / "etcd.log", command, [])
            try:
                for node in self.nodes:
                    node.configure()
                    node.start()
                    if node is self.nodes[0]:
                        self.until(lambda: self.leader() is not None)
                self.until(self.whole)
                yield self
            finally:
                for node in self.nodes:
                    node.remove()
                etcd.kill()
                etcd.wait()

    def leader(self) -> Node | None:
        for node in self.nodes:
            state = node.state()
            if state.get("role") in {"primary", "master"} and state.get("state") == "running":
                return node
        return None

    def whole(self) -> bool:
        """Whether there are a primary and two that follow, one of them synchronous where that is asked for."""
        states = [node.state() for node in self.nodes]
        leads = [each for each in states if each.get("role") in {"primary", "master"}]
        follow = [each for each in states if each.get("replication_state") == "streaming"]
        waits = not self.synchronous or any(each.get("sync_standby") for each in follow)
        return len(leads) == 1 and len(follow) == 2 and waits

    def until(self, what: Any, seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < end, "\n".join(map(Node.story, self.nodes))
            time.sleep(0.05)

    def writable(self, besides: Node | None) -> bool:
        """Whether a write of a plain client is committed now by some node, and replicated; one of them is not asked."""
        for node in self.nodes:
            if node is besides:
                continue
            with suppress(psycopg.Error), psycopg.connect(node.url, autocommit=True, connect_timeout=2) as connection:
                connection.execute("set statement_timeout = '1s'")
                if connection.execute("select pg_is_in_recovery()").fetchone() == (False,):
                    # Unlike a transaction that only has a number, it waits for a standby as a row does.
                    connection.execute("select pg_logical_emit_message(true, 'thea', '')")
                    return True
        return False


@contextmanager
def running(place: Path, *, synchronous: bool = True) -> Iterator[Cluster]:
    """A cluster in this directory, which has Patroni in it."""
    account = server_account(None)
    with Cluster(place / "all", account, place / "patroni", synchronous=synchronous).running() as made:
        yield made
