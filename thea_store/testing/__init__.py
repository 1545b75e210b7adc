"""Servers and databases for tests: where they come from, and how each is made in milliseconds."""

from __future__ import annotations

from thea_store.testing.server import TestDatabase, TestServer
from thea_store.testing.sources import start_server

__all__ = ["TestDatabase", "TestServer", "start_server"]
