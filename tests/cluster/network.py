"""A network of the nodes' own, in which a node's cable can be pulled; only root makes one, on Linux."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["Network"]


class Network:
    """A bridge on this machine, and a network namespace for each node, joined to it by a pair of `veth`."""

    def __init__(self, nodes: int) -> None:
        self._mark = f"thea{os.getpid()}"
        self._prefix = f"10.77.{os.getpid() % 256}"
        self._nodes = range(nodes)
        self.here = f"{self._prefix}.1"
        """This machine's own address in it."""

    def address(self, node: int) -> str:
        return f"{self._prefix}.{node + 10}"

    def inside(self, node: int) -> list[str]:
        """What goes before a command that is to run in the node's namespace."""
        return ["ip", "netns", "exec", self._name(node)]

    def cut(self, node: int) -> None:
        """Let nothing pass to the node or from it, and tell nobody."""
        _ip("link", "set", self._cable(node), "down")

    def join(self, node: int) -> None:
        _ip("link", "set", self._cable(node), "up")

    @contextmanager
    def made(self) -> Iterator[None]:
        try:
            _ip("link", "add", self._mark, "type", "bridge")
            _ip("addr", "add", f"{self.here}/24", "dev", self._mark)
            _ip("link", "set", self._mark, "up")
            for node in self._nodes:
                self._make(node)
            yield
        finally:
            # By name, because a namespace itself lives until its last process is gone.
            for device in [*map(self._cable, self._nodes), self._mark]:
                with suppress(subprocess.CalledProcessError):
                    _ip("link", "del", device)
            for node in self._nodes:
                with suppress(subprocess.CalledProcessError):
                    _ip("netns", "del", self._name(node))

    def _make(self, node: int) -> None:
        name = self._name(node)
        _ip("netns", "add", name)
        _ip("link", "add", self._cable(node), "type", "veth", "peer", "name", "eth0", "netns", name)
        _ip("link", "set", self._cable(node), "master", self._mark, "up")
        _ip("-n", name, "addr", "add", f"{self.address(node)}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            _ip("-n", name, "link", "set", device, "up")

    def _name(self, node: int) -> str:
        return f"{self._mark}-{node}"

    def _cable(self, node: int) -> str:
        return f"{self._mark}-{node}"


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
