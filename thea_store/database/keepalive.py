"""How a dead connection is noticed: by the kernel's probes, and by data that nobody acknowledges."""

from __future__ import annotations

import socket
from collections.abc import Mapping

__all__ = ["probe_when_idle"]

# Seconds: a connection on which nothing comes is probed this early, then this often, also while a statement runs. One
# whose data or probes nobody acknowledges for so long is dead: its host is gone, or a firewall has forgotten it. The
# last of these bounds data that were sent, and the others the wait for an answer; only both together find every case.
_PROBE_AFTER = 2
_PROBE_EVERY = 1
_PROBES = 3
_UNACKNOWLEDGED = 5.0


def probe_when_idle(connected: socket.socket, longest: float, given: Mapping[str, str]) -> None:
    """Let the kernel notice a dead connection, also while nobody uses it; RFC 1122, 4.2.3.6, and RFC 5482.

    It is dead where nobody acknowledges for a few seconds what was sent, at most for `longest`. What the URL says goes
    first, in libpq's keys.
    """
    if connected.family not in {socket.AF_INET, socket.AF_INET6}:
        return
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, int(given.get("keepalives", "1")))
    idle = int(given.get("keepalives_idle", "0")) or _PROBE_AFTER
    options = {
        "TCP_KEEPIDLE": idle,
        "TCP_KEEPALIVE": idle,  # its name on macOS
        "TCP_KEEPINTVL": int(given.get("keepalives_interval", "0")) or _PROBE_EVERY,
        "TCP_KEEPCNT": int(given.get("keepalives_count", "0")) or _PROBES,
        "TCP_USER_TIMEOUT": int(given.get("tcp_user_timeout", "0")) or round(min(_UNACKNOWLEDGED, longest) * 1000),
    }
    for name, value in options.items():
        if hasattr(socket, name):
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
