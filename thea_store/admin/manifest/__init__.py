"""What a version asks of the schema, written down, and held against code and databases."""

from __future__ import annotations

from thea_store.admin.manifest.promises import broken, differences, edited
from thea_store.admin.manifest.records import Manifest, Promise, manifest_of, path_of, read

__all__ = ["Manifest", "Promise", "broken", "differences", "edited", "manifest_of", "path_of", "read"]
