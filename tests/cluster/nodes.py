"""Three PostgreSQL nodes under Patroni, synchronous, with etcd; all of it on loopback, by the servers' account."""

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

from tests.backup.installation import PASSWORD, PROGRAMS, free_port
from thea_store.embedded.account import Account, clean_environment

__all__ = ["Cluster", "Node"]


class Node:
    """One node: its Patroni, and the server that it starts."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster, self.name = cluster, name
        self.directory = cluster.directory / name
        self.port, self.rest = free_port(), free_port()
        self.process: subprocess.Popen[bytes] | None = None

    def configure(self) -> None:
        self.directory.mkdir()
        login = {"password": PASSWORD}
        configuration = {
            "scope": "thea",
            "name": self.name,
            "restapi": {"listen": f"127.0.0.1:{self.rest}", "connect_address": f"127.0.0.1:{self.rest}"},
            "etcd3": {"host": f"127.0.0.1:{self.cluster.etcd_port}"},
            "bootstrap": {
                "dcs": {
                    "ttl": 20,
                    "loop_wait": 2,
                    "retry_timeout": 5,
                    "synchronous_mode": True,
                    "synchronous_mode_strict": False,
                    "maximum_lag_on_failover": 1 << 30,
                    "primary_start_timeout": 0,
                    "postgresql": {"use_pg_rewind": True, "parameters": {"wal_log_hints": "on", "fsync": "off"}},
                },
                "initdb": [{"encoding": "UTF8"}, {"locale": "C"}],
                "pg_hba": [
                    "local all all trust",
                    "host replication replicator 127.0.0.1/32 scram-sha-256",
                    "host all all 127.0.0.1/32 scram-sha-256",
                ],
            },
            "postgresql": {
                "listen": f"127.0.0.1:{self.port}",
                "connect_address": f"127.0.0.1:{self.port}",
                "data_dir": f"{self.directory}/data",
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
        for each in (self.directory, self.directory / "patroni.yml"):
            os.chown(each, self.cluster.account.uid or -1, self.cluster.account.gid or -1)

    def start(self) -> None:
        self.process = self.cluster.spawn(
            self.directory / "log", "/usr/bin/python3", "-m", "patroni", str(self.directory / "patroni.yml")
        )

    def state(self) -> dict[str, Any]:
        """What its Patroni says of it; empty where it does not answer."""
        url = f"http://127.0.0.1:{self.rest}/patroni"
        with suppress(OSError, ValueError), urllib.request.urlopen(url, timeout=1) as answer:
            return dict(json.load(answer))
        return {}

    def server(self) -> list[int]:
        """The server's processes, its postmaster first."""
        with suppress(OSError, ValueError, IndexError):
            postmaster = int((self.directory / "data/postmaster.pid").read_text().split()[0])
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

    def end(self) -> None:
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None
        self.signal(signal.SIGCONT, with_patroni=False)
        self.signal(signal.SIGKILL, with_patroni=False)


class Cluster:
    """The nodes, and the etcd that they ask who leads."""

    def __init__(self, directory: Path, account: Account, patroni: Path) -> None:
        self.directory, self.account, self.patroni = directory, account, patroni
        self.etcd_port, self.peer_port = free_port(), free_port()
        self.nodes = [Node(self, f"n{number}") for number in range(3)]

    def spawn(self, log: Path, *command: str) -> subprocess.Popen[bytes]:
        with log.open("ab") as output:
            return subprocess.Popen(
                command,
                user=self.account.uid,
                group=self.account.gid,
                extra_groups=None if self.account.uid is None else [],
                cwd="/",
                env=clean_environment() | {"PYTHONPATH": str(self.patroni)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @contextmanager
    def running(self) -> Iterator[Cluster]:
        os.chown(self.directory, self.account.uid or -1, self.account.gid or -1)
        client, peer = f"http://127.0.0.1:{self.etcd_port}", f"http://127.0.0.1:{self.peer_port}"
        command = [str(shutil.which("etcd")), "--data-dir", f"{self.directory}/etcd", "--name", "e"]
        command += ["--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer]
        command += ["--initial-advertise-peer-urls", peer, "--initial-cluster", f"e={peer}"]
        etcd = self.spawn(self.directory / "etcd.log", *command)
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
                node.end()
            etcd.kill()
            etcd.wait()

    def leader(self) -> Node | None:
        for node in self.nodes:
            state = node.state()
            if state.get("role") in {"primary", "master"} and state.get("state") == "running":
                return node
        return None

    def whole(self) -> bool:
        """Whether there are a primary, two that follow, and one of these is synchronous."""
        states = [node.state() for node in self.nodes]
        leads = [each for each in states if each.get("role") in {"primary", "master"}]
        follow = [each for each in states if each.get("replication_state") == "streaming"]
        return len(leads) == 1 and len(follow) == 2 and any(each.get("sync_standby") for each in follow)

    def until(self, what: Any, seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        while not what():
            assert time.monotonic() < end, [(node.name, node.state()) for node in self.nodes]
            time.sleep(0.05)

    def writable(self) -> bool:
        """Whether some node takes a write now, as a plain client sees it."""
        for node in self.nodes:
            url = f"postgresql://postgres:{PASSWORD}@127.0.0.1:{node.port}/postgres?connect_timeout=2"
            with suppress(psycopg.Error), psycopg.connect(url, autocommit=True) as connection:
                connection.execute("set statement_timeout = '1s'")
                if connection.execute("select pg_is_in_recovery()").fetchone() == (False,):
                    connection.execute("select txid_current()")
                    return True
        return False
