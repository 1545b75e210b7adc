"""The file of an export: a row in each line, and a manifest by which the file can be checked.

As JSON Lines, the manifest is the last line:

    {"table": "users", "id": 12, …}
    {"table": "notes", "id": 7, …}
    {"table": "audit_log", …}
    {"manifest": {"format": "thea_store.person", "version": 1, "tenant_id": "acme", "user_id": 12,
      "exported_at": "…", "counts": {…}, "sha256_of_tables": {…}, "sha256": "…"}}

As a zip file, the same lines stand in a file for each table, `001.users.jsonl`, `002.notes.jsonl` …, and the same
manifest in `manifest.json`. `sha256` is of all lines in their order, each with its line break, and that of a table is
of its own. Both kinds are written as the rows come, and read line by line.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
import zlib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Protocol

from thea_store.errors import ExportFileError

__all__ = ["check_file", "write_person"]

_FORMAT, _VERSION = "thea_store.person", 1

_MANIFEST = "manifest.json"
_MEMBER = re.compile(r"\d{3}\.[A-Za-z0-9_.-]+\.jsonl")
_ODD = re.compile(r"[^A-Za-z0-9_.-]")


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


class _Writer(Protocol):
    def add(self, table: str, line: bytes) -> object: ...

    def finish(self, manifest: Mapping[str, Any]) -> object: ...

    def abandon(self) -> object: ...


class _JsonLines:
    def __init__(self, file: IO[bytes]) -> None:
        self._file = file

    def add(self, table: str, line: bytes) -> None:
        del table  # it stands in the line
        self._file.write(line)

    def finish(self, manifest: Mapping[str, Any]) -> None:
        self._file.write(_line({"manifest": manifest}))

    def abandon(self) -> None:
        """What was written stays without a manifest, and so is no export."""


class _Zip:
    def __init__(self, file: IO[bytes]) -> None:
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED)
        self._table, self._number = "", 0
        self._member: IO[bytes] | None = None

    def add(self, table: str, line: bytes) -> None:
        """Write the line into the table's file; a table that comes again has another one."""
        if self._member is None or table != self._table:
            self._end_member()
            self._table, self._number = table, self._number + 1
            name = f"{self._number:03d}.{_ODD.sub('_', table)}.jsonl"
            self._member = self._zip.open(name, "w", force_zip64=True)
        self._member.write(line)

    def finish(self, manifest: Mapping[str, Any]) -> None:
        self._end_member()
        self._zip.writestr(_MANIFEST, json.dumps(manifest, indent=2, ensure_ascii=False))
        self._zip.close()

    def abandon(self) -> None:
        """Close what is open, while the file below still is."""
        with suppress(OSError, ValueError):
            self._end_member()
            self._zip.close()

    def _end_member(self) -> None:
        if self._member is not None:
            self._member.close()


async def write_person(
    rows: AsyncIterator[dict[str, Any]], file: IO[bytes], *, tenant_id: str, user_id: int, as_zip: bool = False
) -> dict[str, Any]:
    """Write each row of an export as a line, then the manifest, which is returned."""
    writer: _Writer = _Zip(file) if as_zip else _JsonLines(file)
    sums = _Sums()
    try:
        async for row in rows:
            line = _line(row)
            sums.add(row["table"], line)
            writer.add(row["table"], line)
        manifest = {
            "format": _FORMAT,
            "version": _VERSION,
            "tenant_id": tenant_id,
            "user_id": user_id,
            "exported_at": datetime.now(UTC).isoformat(),
            **sums.as_json(),
        }
        writer.finish(manifest)
    except BaseException:
        writer.abandon()
        raise
    return manifest


def check_file(path: Path) -> dict[str, Any]:
    """The manifest of a file whose lines are those that were written; `ExportFileError` for any other file."""
    sums, manifest = _Sums(), None
    try:
        for line in _lines(path):
            if manifest is not None:
                raise ExportFileError(f"{path.name}: there are lines after the manifest: it was altered")
            row = json.loads(line)
            if "manifest" in row and "table" not in row:
                manifest = row["manifest"]
            else:
                sums.add(row["table"], line)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:  # the last: encrypted, or unknown there
        raise ExportFileError(f"{path.name}: the zip file is damaged: it was altered or cut off") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ExportFileError(f"{path.name}: a line is no row of an export: the file was altered or cut off") from error
    except OSError as error:
        raise ExportFileError(f"{path.name}: the file cannot be read: {error.strerror}") from error
    if not isinstance(manifest, dict):
        raise ExportFileError(f"{path.name}: the manifest at the end is missing: the file was cut off")
    if {key: manifest.get(key) for key in sums.as_json()} != sums.as_json():
        raise ExportFileError(f"{path.name}: the rows are not those of the manifest: the file was altered")
    return manifest


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of either kind of file, the manifest's last."""
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            file.seek(0)
            yield from file
            return
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()
            if names[-1:] != [_MANIFEST]:
                return
            for name in names[:-1]:
                if not _MEMBER.fullmatch(name):
                    raise ExportFileError(f"{path.name}: it has a file that is no part of an export: it was altered")
                with archive.open(name) as member:
                    yield from member
            yield _line({"manifest": json.loads(archive.read(_MANIFEST))})


def _line(row: Mapping[str, Any]) -> bytes:
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
