"""The file of an export: JSON Lines, a row in each line, and last a manifest by which the file can be checked.

    {"table": "users", "id": 12, …}
    {"table": "notes", "id": 7, …}
    {"table": "audit_log", …}
    {"manifest": {"format": "thea_store.person", "version": 1, "tenant_id": "acme", "user_id": 12,
      "exported_at": "…", "counts": {…}, "sha256_of_tables": {…}, "sha256": "…"}}

`sha256` is of all bytes before the manifest's line. That of a table is of its lines, each with its line break.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from thea_store.errors import ExportFileError

__all__ = ["check_file", "write_person"]

_FORMAT, _VERSION = "thea_store.person", 1


class _Sums:
    """Counts and hashes of the lines that went by."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self._whole = hashlib.sha256()
        self._of_tables: dict[str, Any] = {}

    def add(self, table: str, line: bytes) -> None:
        self.counts[table] = self.counts.get(table, 0) + 1
        self._of_tables.setdefault(table, hashlib.sha256()).update(line)
        self._whole.update(line)

    def as_json(self) -> dict[str, Any]:
        hashes = {table: one.hexdigest() for table, one in self._of_tables.items()}
        return {"counts": self.counts, "sha256_of_tables": hashes, "sha256": self._whole.hexdigest()}


async def write_person(
    rows: AsyncIterator[dict[str, Any]], write: Callable[[bytes], object], *, tenant_id: str, user_id: int
) -> dict[str, Any]:
    """Write each row of an export as a line, then the manifest, which is returned."""
    sums = _Sums()
    async for row in rows:
        line = _line(row)
        sums.add(row["table"], line)
        write(line)
    manifest = {
        "format": _FORMAT,
        "version": _VERSION,
        "tenant_id": tenant_id,
        "user_id": user_id,
        "exported_at": datetime.now(UTC).isoformat(),
        **sums.as_json(),
    }
    write(_line({"manifest": manifest}))
    return manifest


def check_file(path: Path) -> dict[str, Any]:
    """The manifest of a file whose lines are those that were written; `ExportFileError` for any other file."""
    sums, manifest = _Sums(), None
    try:
        with path.open("rb") as lines:
            for line in lines:
                if manifest is not None:
                    raise ExportFileError(f"{path.name}: there are lines after the manifest: it was altered")
                row = json.loads(line)
                if "manifest" in row and "table" not in row:
                    manifest = row["manifest"]
                else:
                    sums.add(row["table"], line)
    except (ValueError, TypeError, KeyError) as error:
        raise ExportFileError(f"{path.name}: a line is no row of an export: the file was altered or cut off") from error
    except OSError as error:
        raise ExportFileError(f"{path.name}: the file cannot be read: {error.strerror}") from error
    if not isinstance(manifest, dict):
        raise ExportFileError(f"{path.name}: the manifest at the end is missing: the file was cut off")
    if {key: manifest.get(key) for key in sums.as_json()} != sums.as_json():
        raise ExportFileError(f"{path.name}: the rows are not those of the manifest: the file was altered")
    return manifest


def _line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
