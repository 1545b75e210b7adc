"""A service's own tables: what an extension consists of, and where extensions are found."""

from __future__ import annotations

from thea_store.extensions.discovery import ENTRY_POINTS, discover
from thea_store.extensions.extension import Aggregate, Extension

__all__ = ["ENTRY_POINTS", "Aggregate", "Extension", "discover"]
