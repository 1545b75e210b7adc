"""A PostgreSQL that the library starts itself, for tests, demonstrations and small installations.

    async with EmbeddedPostgres() as server:        # thrown away at the end
        await asyncpg.connect(server.app_url)

The binaries come from the `embedded` extra or from any PostgreSQL 15 or newer on the machine. The
server listens on a unix socket in a private directory and on nothing else. A watchdog process takes
it down, and removes what is temporary, however the program ends.
"""

from __future__ import annotations

import sys

if sys.platform == "win32":
    raise ImportError(
        "the embedded PostgreSQL runs on Linux and macOS only: use WSL, or a server of your own "
        "through DATABASE_URL=postgresql://…"
    )

from thea_store.embedded.server import EmbeddedPostgres

__all__ = ["EmbeddedPostgres"]
