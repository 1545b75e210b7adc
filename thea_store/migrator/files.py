"""The migration files of a directory, read once, checked before a database is touched."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from yoyo.migrations import get_migration_hash, parse_metadata_from_sql_comments

from thea_store.errors import MigrationError
from thea_store.migrator.splitting import Statement, split
from thea_store.resources import migrations_dir

__all__ = ["ID", "Migration", "available"]

ID = re.compile(r"(?!0000)[0-9]{4}\.[a-z0-9][a-z0-9_-]*")
"""What the id of one of our migrations looks like: `0001.tenants`."""

_ROLLBACK = ".rollback.sql"
_TRANSACTION_CONTROL = {"abort", "begin", "commit", "end", "rollback", "start"}


@dataclass(frozen=True, slots=True)
class Migration:
    """One migration: its file's name without `.sql`, and its text's SHA-256 (line ends made the same)."""

    id: str
    checksum: str
    path: Path
    statements: tuple[Statement, ...] = field(repr=False, compare=False)
    rollback: tuple[Statement, ...] | None = field(repr=False, compare=False)
    """The way back; `None` where there is no rollback file."""

    @property
    def hash(self) -> str:
        """The key under which yoyo's tables know this migration."""
        return str(get_migration_hash(self.id))

    @property
    def rollback_path(self) -> Path:
        """Where the rollback file is, or would be."""
        return self.path.with_name(self.id + _ROLLBACK)


def available(directory: Path | None = None) -> list[Migration]:
    """The migrations of `directory` (by default the shipped ones), in the order in which they apply.

    `MigrationError`, with `file:line`, for a directory that is missing or empty and for any file that
    could not be applied as a whole, or that plain yoyo would take for something else.
    """
    directory = migrations_dir() if directory is None else directory
    if not directory.is_dir():
        raise MigrationError(f"{directory}: there is no such directory; give one that holds NNNN.name.sql")
    files = sorted(path for path in directory.iterdir() if path.suffix in {".sql", ".py"} and path.is_file())
    ups = [path for path in files if not path.name.endswith(_ROLLBACK)]
    if not ups:
        raise MigrationError(f"{directory}: holds no migrations; give a directory that holds NNNN.name.sql")
    _check_names(ups)
    _check_rollbacks(ups, set(files) - set(ups))
    earlier: set[str] = set()
    migrations = []
    for path in ups:
        migrations.append(_read(path, earlier))
        earlier.add(path.stem)
    return migrations


def _check_names(paths: Iterable[Path]) -> None:
    numbers: dict[str, Path] = {}
    for path in paths:
        if path.suffix != ".sql" or not ID.fullmatch(path.stem):
            raise MigrationError(
                f"{path}: is not named like a migration; rename it to NNNN.name.sql (four digits, lower case), "
                "or move it out of the directory, for plain yoyo would run it"
            )
        twin = numbers.setdefault(path.name[:4], path)
        if twin is not path:
            raise MigrationError(f"{path}: has the same number as {twin.name}; give the newer one the next free number")


def _check_rollbacks(ups: Iterable[Path], rollbacks: Iterable[Path]) -> None:
    names = {path.stem + _ROLLBACK for path in ups}
    for path in sorted(rollbacks):
        if path.name not in names:
            raise MigrationError(f"{path}: belongs to no migration; name it as its migration, or remove it")


def _read(path: Path, earlier: set[str]) -> Migration:
    text = _text(path)
    _check_directives(path, text, earlier)
    back = path.with_name(path.stem + _ROLLBACK)
    return Migration(
        id=path.stem,
        checksum=hashlib.sha256(text.encode()).hexdigest(),
        path=path,
        statements=_statements(path, text),
        rollback=_statements(back, _text(back)) if back.is_file() else None,
    )


def _text(path: Path) -> str:
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise MigrationError(f"{path}: is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    if text.startswith("\ufeff"):
        raise MigrationError(f"{path}:1: begins with a byte order mark; save it as UTF-8 without one")
    # A checkout on Windows is no edit.
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _check_directives(path: Path, text: str, earlier: set[str]) -> None:
    directives: dict[str, str] = parse_metadata_from_sql_comments(text)[0]
    if directives.get("transactional", "true").strip().lower() != "true":
        raise MigrationError(
            f"{path}:{_directive_line(text, 'transactional')}: a migration outside a transaction could be left half "
            "done; to build an index concurrently, do so by hand first and let the migration say "
            "`create index if not exists`"
        )
    unknown = set(directives.get("depends", "").split()) - earlier
    if unknown:
        raise MigrationError(
            f"{path}:{_directive_line(text, 'depends')}: depends on {min(unknown)}, which is no earlier migration; "
            "the order is that of the numbers"
        )


def _directive_line(text: str, name: str) -> int:
    match = re.search(rf"^\s*?--\s*{name}\s*:", text, re.MULTILINE)
    return text.count("\n", 0, match.start()) + 1 if match else 1


def _statements(path: Path, text: str) -> tuple[Statement, ...]:
    statements = tuple(split(path, text))
    if not statements:
        raise MigrationError(f"{path}: holds no statement; write one, or remove the file")
    for statement in statements:
        if statement.command.split(" ")[0] in _TRANSACTION_CONTROL or statement.command == "prepare transaction":
            raise MigrationError(
                f"{path}:{statement.line}: `{statement.command}` would end the migration's own transaction; "
                "take it out, for the whole file is one transaction already"
            )
    return statements
