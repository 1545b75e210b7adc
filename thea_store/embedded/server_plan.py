"""What the watchdog is told to do: commands, settings, and how hard to stop."""

from __future__ import annotations

import os

from thea_store.embedded.account import PORT, Account
from thea_store.embedded.binaries import Binaries
from thea_store.embedded.data_directory import ServerPaths
from thea_store.embedded.roles import SUPERUSER
from thea_store.embedded.watchdog import Plan

__all__ = ["START_SECONDS", "make_plan"]

START_SECONDS = 30.0  # for each of initdb and postgres
_SETTINGS = {
    "listen_addresses": "",
    "port": str(PORT),
    "max_connections": "100",
    "jit": "off",
    "cluster_name": "thea_store",
    "logging_collector": "off",
    "log_checkpoints": "off",
    # Without clients' errors: their messages hold values, which an erased tenant's must not outlive.
    "log_min_messages": "log",
    # Bounds the journal, and with it the time that recovery after a crash takes.
    "max_wal_size": "256MB",
}
_THROWAWAY_SETTINGS = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "min_wal_size": "32MB",
    # Shared memory as files of the data directory, so that it goes when that goes.
    "dynamic_shared_memory_type": "mmap",
}
_KEPT_SETTINGS = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}
_STOP_THROWAWAY = [("SIGQUIT", 10.0), ("SIGKILL", 10.0)]  # immediate
_STOP_KEPT = [("SIGINT", 30.0), *_STOP_THROWAWAY]  # fast, which writes a checkpoint


def make_plan(binaries: Binaries, account: Account, paths: ServerPaths, *, initialised: bool) -> Plan:
    """The plan for a server on the data of `place`, which are there already if `initialised`."""
    kept = paths.home is not None
    settings = _SETTINGS | (_KEPT_SETTINGS if kept else _THROWAWAY_SETTINGS)
    settings["unix_socket_directories"] = str(paths.runtime)
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    initdb = [str(binaries.directory / "initdb"), "--username", SUPERUSER, "--auth", "trust"]
    initdb += ["--encoding", "UTF8", *([] if kept else ["--no-sync"])]
    return {
        "parent": os.getpid(),
        "lock": paths.lock,
        "uid": account.uid,
        "gid": account.gid,
        "runtime": str(paths.runtime),
        "data": str(paths.data),
        "log": str(paths.data.with_name("server.log")),
        "initdb": None if initialised else initdb,
        "server": [str(binaries.directory / "postgres"), *options],
        "stop": _STOP_KEPT if kept else _STOP_THROWAWAY,
        "seconds": START_SECONDS,
    }
