"""Where a cluster's nodes may live, and what they need."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backup.installation import PROGRAMS
from tests.support.standby import servers_directory


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory of the servers' account, with Patroni in it."""
    for program in ("etcd", "ip", "setpriv", "/usr/bin/python3", str(PROGRAMS / "postgres")):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is missing: `apt-get install etcd-server iproute2 python3 postgresql-15`")
    if os.geteuid() != 0:
        pytest.skip("only root makes the nodes' networks and disks")
    if (patroni := os.environ.get("THEA_PATRONI")) is None:
        pytest.skip("Patroni is missing: `make test-cluster` installs it")
    with servers_directory() as directory:
        (directory / "all").mkdir()
        shutil.copytree(patroni, directory / "patroni")  # where the servers' account may read it
        yield directory
