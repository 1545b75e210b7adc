"""The file of the events' queries, which the modules of this package claim."""

from __future__ import annotations

from thea_store.queries.file import SqlFile

__all__ = ["SQL"]

SQL = SqlFile("events")
