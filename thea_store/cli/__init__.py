"""The command line, `thea-store`."""

from thea_store.cli.commands import main

__all__ = ["main"]
