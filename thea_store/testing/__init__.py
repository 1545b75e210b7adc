"""Servers and databases for tests, made in milliseconds; and `prove`, which proves an extension isolated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from thea_store.testing.server import TestDatabase, TestServer
from thea_store.testing.sources import start_server

if TYPE_CHECKING:
    from thea_store.testing.proving import Fault, Report, prove

__all__ = ["Fault", "Report", "TestDatabase", "TestServer", "prove", "start_server"]


def __getattr__(name: str) -> Any:
    """What proves is loaded when it is asked for: the plugin, which loads this in every run, needs none of it."""
    if name in {"Fault", "Report", "prove"}:
        from thea_store.testing import proving  # noqa: PLC0415

        return getattr(proving, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
