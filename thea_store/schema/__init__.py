"""The schema of a live database: its tables, columns, keys, indexes and row security."""

from __future__ import annotations

from thea_store.schema.reading import read
from thea_store.schema.records import Schema, Table
from thea_store.schema.rendering import to_markdown, to_mermaid

__all__ = ["Schema", "Table", "read", "to_markdown", "to_mermaid"]
