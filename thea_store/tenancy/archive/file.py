"""The archive's file: a zip with one JSON Lines file for each table, and a manifest with counts and hashes.

Each line is one row as PostgreSQL writes it as JSON, without its tenant. `manifest.json` is written last, so a file
that was cut off has none.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import uuid
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from thea_store.errors import ArchiveError, InvalidArgumentError

__all__ = ["Archive", "ArchiveWriter", "Manifest", "Part", "batches", "is_archive"]

FORMAT = "thea-store tenant archive, version 1"
_MANIFEST = "manifest.json"
_NAMES = re.compile(r"[^A-Za-z0-9_.-]")

# Of one statement: so many rows, or the first that make so many bytes.
_ROWS = 2_000
_BYTES = 4_000_000
_READ = 1 << 20


@dataclass(frozen=True, slots=True)
class Part:
    """What the archive has of one table."""

    table: str
    file: str
    columns: tuple[str, ...]
    rows: int = 0
    size: int = 0
    """Bytes, before they are compressed."""
    sha256: str = ""
    lowest: int | None = None
    highest: int | None = None
    """The ids that its rows have, and those that the audit log's entries speak of; `None` where there are none."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an archive says of itself."""

    id: str
    tenant: str
    exported_at: str
    server_version: int
    """The major version of the PostgreSQL that it comes from."""
    migrations: tuple[str, ...]
    parts: tuple[Part, ...]

    def part(self, table: str) -> Part | None:
        """What there is of a table; `None` where the archive does not know it."""
        return next((part for part in self.parts if part.table == table), None)

    @property
    def rows(self) -> dict[str, int]:
        """How many rows there are, by their table."""
        return {part.table: part.rows for part in self.parts}

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values, with the hash over all of it."""
        told = {"format": FORMAT, **asdict(self)}
        return {**told, "sha256": _hash_of(told)}


def _hash_of(told: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(told, sort_keys=True, ensure_ascii=True).encode()).hexdigest()


class ArchiveWriter:
    """Writes an archive; it stands under its name only when all of it is written."""

    def __init__(self, path: Path, tenant: str, server_version: int, migrations: Iterable[str]) -> None:
        """`InvalidArgumentError` where the file is there already, or cannot be written."""
        self._path = path
        self._unfinished = path.with_name(path.name + ".part")
        self._parts: list[Part] = []
        now = datetime.now(UTC).isoformat(timespec="seconds")
        self._manifest = Manifest(str(uuid.uuid4()), tenant, now, server_version, tuple(migrations), ())
        if path.exists():
            raise InvalidArgumentError("file", f"{path} is there already: give another name, or remove it first")

    def __enter__(self) -> Self:
        try:
            # It holds all that the tenant has, so nobody else may read it.
            descriptor = os.open(self._unfinished, os.O_CREAT | os.O_TRUNC | os.O_RDWR, 0o600)
        except OSError as error:
            raise InvalidArgumentError("file", f"{self._path} cannot be written ({error.strerror})") from None
        self._file = os.fdopen(descriptor, "w+b")
        self._zip = zipfile.ZipFile(self._file, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if error is None:
                self._finish()
            self._zip.close()
        if error is None:
            self._unfinished.replace(self._path)
        else:
            self._unfinished.unlink(missing_ok=True)

    def _finish(self) -> None:
        text = json.dumps(self.manifest.as_json(), indent=2, ensure_ascii=False)
        self._zip.writestr(_MANIFEST, text)
        self._zip.close()
        self._file.flush()
        os.fsync(self._file.fileno())

    @property
    def manifest(self) -> Manifest:
        """What is written so far."""
        return replace(self._manifest, parts=tuple(self._parts))

    def add(self, table: str, columns: tuple[str, ...], rows: Iterable[bytes]) -> None:
        """Write the rows of a table: each a JSON object in one line, with its newline."""
        file = f"{len(self._parts) + 1:03d}.{_NAMES.sub('_', table)}.jsonl"
        digest, count, size = hashlib.sha256(), 0, 0
        with self._zip.open(file, "w", force_zip64=True) as member:
            for row in rows:
                digest.update(row)
                member.write(row)
                count += 1
                size += len(row)
        self._parts.append(Part(table, file, columns, count, size, digest.hexdigest()))

    def set_ids(self, table: str, lowest: int, highest: int) -> None:
        """Say which ids a table's rows have; a wider range counts where this is called again."""
        for place, part in enumerate(self._parts):
            if part.table == table:
                known = [id_ for id_ in (part.lowest, part.highest, lowest, highest) if id_ is not None]
                self._parts[place] = replace(part, lowest=min(known), highest=max(known))


def is_archive(path: Path) -> bool:
    """Whether this is a tenant's archive by the word of its manifest, whole or not."""
    try:
        with zipfile.ZipFile(path) as file:
            told = json.loads(file.read(_MANIFEST))
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, RuntimeError, ValueError, KeyError):
        return False
    return isinstance(told, dict) and str(told.get("format", "")).startswith("thea-store tenant archive")


class Archive:
    """An archive that can be read; `ArchiveError` says what is wrong with one that cannot."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise InvalidArgumentError("file", f"there is no file {path}")
        self._path = path
        with self._readable():
            self._zip = zipfile.ZipFile(path)
            if _MANIFEST not in self._zip.namelist():
                raise ArchiveError(f"{path}: it is no archive of a tenant, since it has no {_MANIFEST}")
            self.manifest = self._parsed(self._zip.read(_MANIFEST))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._zip.close()

    def verify(self) -> None:
        """Read all of it, and compare counts and hashes; `ArchiveError` where anything differs."""
        files = [part.file for part in self.manifest.parts]
        if sorted([*files, _MANIFEST]) != sorted(self._zip.namelist()):
            raise self._altered("it has other files than its manifest names")
        for part in self.manifest.parts:
            digest, rows, size = hashlib.sha256(), 0, 0
            for line in self.lines(part):
                digest.update(line)
                rows += 1
                size += len(line)
            if (digest.hexdigest(), rows, size) != (part.sha256, part.rows, part.size):
                raise self._altered(f"what it has of {part.table} is not what was exported")

    def lines(self, part: Part) -> Iterator[bytes]:
        """The rows of a table, each a JSON object in one line."""
        with self._readable(), self._zip.open(part.file) as member:
            yield from io.BufferedReader(cast(io.RawIOBase, member), _READ)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except zipfile.BadZipFile:
            raise ArchiveError(
                f"{self._path}: it is no archive, or was cut off or damaged: copy or export it again"
            ) from None
        except (zlib.error, EOFError, NotImplementedError, RuntimeError, KeyError):
            raise self._altered("it cannot be unpacked") from None
        except OSError as error:
            raise ArchiveError(f"{self._path}: it cannot be read ({error.strerror})") from None

    def _altered(self, why: str) -> ArchiveError:
        return ArchiveError(f"{self._path}: it was altered or damaged after it was exported ({why}): export it again")

    def _parsed(self, text: bytes) -> Manifest:
        try:
            told = json.loads(text)
            if told["format"] != FORMAT:
                raise ArchiveError(
                    f"{self._path}: it has another format than this version of the library reads ({FORMAT})"
                )
            claimed = told.pop("sha256")
            parts = tuple(Part(**{**part, "columns": tuple(part["columns"])}) for part in told["parts"])
            given = {name: value for name, value in told.items() if name not in {"format", "parts", "migrations"}}
            manifest = Manifest(**given, migrations=tuple(told["migrations"]), parts=parts)
        except (ValueError, TypeError, KeyError, AttributeError):
            raise self._altered("its manifest cannot be read") from None
        if claimed != _hash_of(told):
            raise self._altered("its manifest is not what was written")
        return manifest


def batches(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    """The rows in lists, each for one statement."""
    batch: list[bytes] = []
    size = 0
    for line in lines:
        batch.append(line)
        size += len(line)
        if len(batch) >= _ROWS or size >= _BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
