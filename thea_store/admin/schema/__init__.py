"""The schema of a live database: its tables, columns, keys, indexes and row security."""

from __future__ import annotations

from thea_store.admin.schema.reading import read
from thea_store.admin.schema.records import Schema, Table
from thea_store.admin.schema.rendering import to_markdown, to_mermaid

__all__ = ["Schema", "Table", "read", "to_markdown", "to_mermaid"]
