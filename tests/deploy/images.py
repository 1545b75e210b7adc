"""The images of the compose file: pulled, or made of Debian's packages where no registry of images is reached."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

__all__ = ["built", "provide"]

ROOT = Path(__file__).resolve().parents[2]

# Debian's program, started as the image of its makers starts theirs.
_PROMETHEUS = """
FROM debian:12-slim
RUN apt-get update && apt-get install -y --no-install-recommends prometheus && install -d -o nobody /prometheus
USER nobody
WORKDIR /prometheus
ENTRYPOINT ["prometheus"]
CMD ["--config.file=/etc/prometheus/prometheus.yml", "--storage.tsdb.path=/prometheus"]
"""

# What the images of PostgreSQL 18 have, and a replica needs, which is started without their entry point.
_NEWER = r"""
ENV PGDATA=/var/lib/postgresql/18/docker
RUN mkdir -p /run/postgresql && chown postgres /var/lib/postgresql /run/postgresql \
  && sed -i "s/^#listen_addresses = .*/listen_addresses = '*'/" /usr/share/postgresql/*/postgresql.conf.sample
"""


def provide(image: str) -> None:
    """Have the engine hold the image; the test is skipped where it can neither be pulled nor made."""
    if not _done("docker", "image", "inspect", image) and not _done("docker", "pull", "--quiet", image):
        match image.partition(":")[0]:
            case "debian":
                _debian(image)
            case "postgres":
                _postgres(image)
            case "prom/prometheus":
                provide("debian:12-slim")
                _build(image, _PROMETHEUS)
            case _:
                pytest.skip(f"{image} cannot be pulled, and Debian has no package of it")


def built(image: str, dockerfile: Path) -> None:
    """Have the engine build the image as compose would, with this machine's own network."""
    provide("debian:12-slim")
    _build(image, dockerfile.read_text(), dockerfile.parent)


def _done(*command: str) -> bool:
    return not subprocess.run(command, capture_output=True, check=False, timeout=300).returncode


def _build(image: str, dockerfile: str, directory: Path | None = None) -> None:
    with tempfile.TemporaryDirectory() as empty:
        command = ["docker", "build", "--quiet", "--network", "host", "--tag", image, "--file", "-"]
        done = subprocess.run(
            [*command, str(directory or empty)], input=dockerfile, capture_output=True, text=True, check=False
        )
    assert done.returncode == 0, done.stdout + done.stderr


def _debian(image: str) -> None:
    """A minimal Debian 12, which debootstrap unpacks."""
    if shutil.which("debootstrap") is None or os.geteuid() != 0:
        pytest.skip(f"{image} cannot be pulled, and debootstrap, which would make it as root, is missing")
    with tempfile.TemporaryDirectory() as directory:
        root = Path(directory) / "root"
        subprocess.run(["debootstrap", "--variant=minbase", "bookworm", root], check=True, capture_output=True)
        with subprocess.Popen(["tar", "-C", root, "-c", "."], stdout=subprocess.PIPE) as packed:
            subprocess.run(["docker", "import", "-", image], stdin=packed.stdout, check=True, capture_output=True)


def _postgres(image: str) -> None:
    """The one that the other tests take, whatever its version, with the directories of the newer ones."""
    ours = os.environ.get("THEA_TEST_POSTGRES_IMAGE", "postgres:15")
    if not _done("docker", "image", "inspect", ours):
        pytest.skip(f"{image} cannot be pulled, and the engine has no {ours}")
    _build(image, f"FROM {ours}\n{_NEWER}")
