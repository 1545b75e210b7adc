"""The migration files of each lineage, read once, checked before a database is touched.

A lineage is one directory of migrations, numbered by itself: the library's own (`0001.tenancy`), and one for each
extension, whose name its ids begin with (`planner.0001.tasks`). A line `-- depends:` at a file's top names what must be
applied before it, in its own lineage and in others.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from yoyo.migrations import get_migration_hash, parse_metadata_from_sql_comments

from thea_store.errors import MigrationError
from thea_store.migrator.splitting import Statement, split
from thea_store.resources import migrations_dir

__all__ = ["ID", "Lineage", "Migration", "available", "lineage_of", "listed", "position_of"]

ID = re.compile(r"(?:(?P<lineage>[a-z][a-z0-9_]*)\.)?(?P<number>(?!0000)[0-9]{4})\.[a-z0-9][a-z0-9_-]*")
"""What the id of a migration looks like: `0001.tenancy`, and an extension's `planner.0001.tasks`."""

_ROLLBACK = ".rollback.sql"
_TRANSACTION_CONTROL = {"abort", "begin", "commit", "end", "rollback", "start"}


class Lineage(NamedTuple):
    """Migrations that are numbered by themselves: an extension's name, and the directory of its files."""

    name: str
    """Empty for the library's own."""
    directory: Path


def lineage_of(migration_id: str) -> str | None:
    """The name of the lineage that an id belongs to, empty for the library's own; `None` for an id of another form."""
    match = ID.fullmatch(migration_id)
    return None if match is None else match["lineage"] or ""


def position_of(migration_id: str) -> str:
    """The four digits of an id."""
    match = ID.fullmatch(migration_id)
    return "" if match is None else match["number"]


@dataclass(frozen=True, slots=True)
class Migration:
    """One migration: its file's name without `.sql`, and its text's SHA-256 (line ends made the same)."""

    id: str
    checksum: str
    path: Path
    depends: frozenset[str]
    """The ids that must be applied before it."""
    text: str = field(repr=False, compare=False)
    rollback_text: str | None = field(repr=False, compare=False)

    @property
    def statements(self) -> tuple[Statement, ...]:
        """What it does; `MigrationError` where the file could not be applied as a whole."""
        return _statements(self.path, self.text)

    @property
    def rollback(self) -> tuple[Statement, ...] | None:
        """The way back, as `statements`; `None` where there is no rollback file."""
        return None if self.rollback_text is None else _statements(self.rollback_path, self.rollback_text)

    @property
    def hash(self) -> str:
        """The key under which yoyo's tables know this migration."""
        return str(get_migration_hash(self.id))

    @property
    def lineage(self) -> str:
        """The extension that it belongs to; empty for the library's own."""
        return lineage_of(self.id) or ""

    @property
    def rollback_path(self) -> Path:
        """Where the rollback file is, or would be."""
        return self.path.with_name(self.id + _ROLLBACK)


def available(directory: Path | None = None, *, lineages: Sequence[Lineage] = ()) -> list[Migration]:
    """The migrations of `directory` (by default the shipped ones) and of the extensions' lineages, in their order.

    Within a lineage the order is that of the numbers. Among lineages `-- depends:` decides; where it leaves a choice,
    the library's own come first, then the extensions by name. `MigrationError`, with `file:line`, for a directory
    that is missing or empty, for dependencies that are unknown or go in a circle, and for any file that could not be
    applied as a whole, or that plain yoyo would take for something else.
    """
    migrations = listed(directory, lineages=lineages)
    for migration in migrations:
        _ = migration.statements, migration.rollback
    return migrations


def listed(directory: Path | None = None, *, lineages: Sequence[Lineage] = ()) -> list[Migration]:
    """As `available`, but no file is taken apart into its statements.

    That is most of the work, and whoever asks which migrations there are has no need of it.
    """
    own = Lineage("", migrations_dir() if directory is None else directory)
    each = [_of_lineage(lineage) for lineage in (own, *sorted(lineages))]
    _check_dependencies(each)
    return list(_in_order(each))


def _of_lineage(lineage: Lineage) -> list[Migration]:
    directory = lineage.directory
    form = f"{_prefix(lineage)}NNNN.name.sql"
    if not directory.is_dir():
        raise MigrationError(f"{directory}: there is no such directory; give one that holds {form}")
    files = sorted(path for path in directory.iterdir() if path.suffix in {".sql", ".py"} and path.is_file())
    # A module is no migration where Python wants one: an extension's directory may be a package.
    files = [path for path in files if not (lineage.name and path.name == "__init__.py")]
    ups = [path for path in files if not path.name.endswith(_ROLLBACK)]
    if not ups:
        raise MigrationError(f"{directory}: holds no migrations; give a directory that holds {form}")
    _check_names(ups, lineage)
    _check_rollbacks(ups, set(files) - set(ups))
    return [_read(path) for path in ups]


def _prefix(lineage: Lineage) -> str:
    return f"{lineage.name}." if lineage.name else ""


def _check_names(paths: Iterable[Path], lineage: Lineage) -> None:
    numbers: dict[str, Path] = {}
    for path in paths:
        if path.suffix != ".sql" or lineage_of(path.stem) != lineage.name:
            raise MigrationError(
                f"{path}: is not named like a migration; rename it to {_prefix(lineage)}NNNN.name.sql (four digits, "
                "lower case), or move it out of the directory, for plain yoyo would run it"
            )
        twin = numbers.setdefault(position_of(path.stem), path)
        if twin is not path:
            raise MigrationError(f"{path}: has the same number as {twin.name}; give the newer one the next free number")


def _check_dependencies(lineages: Sequence[Sequence[Migration]]) -> None:
    known = {migration.id: migration for lineage in lineages for migration in lineage}
    for lineage in lineages:
        for place, migration in enumerate(lineage):
            for needed in sorted(migration.depends):
                if needed not in known:
                    raise _wrong_dependency(
                        migration, f"depends on {needed}, which is no earlier migration{_hint(needed)}"
                    )
                if known[needed].lineage == migration.lineage and needed >= migration.id:
                    raise _wrong_dependency(
                        migration,
                        f"depends on {needed}, which is no earlier migration; the order is that of the numbers",
                    )
            if migration.lineage and place and lineage[place - 1].id not in migration.depends:
                # Plain yoyo knows no order but this, and would apply it before a predecessor that has to wait.
                raise _wrong_dependency(
                    migration,
                    f"does not depend on {lineage[place - 1].id}, the one before it; name it in `-- depends:`",
                )


def _hint(needed: str) -> str:
    lineage = lineage_of(needed)
    if lineage is None:
        return "; give its full id"
    return f" of the extension {lineage}; is it installed?" if lineage else "; the order is that of the numbers"


def _wrong_dependency(migration: Migration, problem: str) -> MigrationError:
    text = migration.path.read_text("utf-8")
    return MigrationError(f"{migration.path}:{_directive_line(text, 'depends')}: {problem}")


def _in_order(lineages: Sequence[Sequence[Migration]]) -> Iterator[Migration]:
    """Each lineage by its numbers, and each migration after those that it depends on; `MigrationError` for a circle."""
    waiting = [list(lineage) for lineage in lineages if lineage]
    done: set[str] = set()
    while waiting:
        ready = next((lineage for lineage in waiting if lineage[0].depends <= done), None)
        if ready is None:
            ids = ", ".join(lineage[0].id for lineage in waiting)
            raise MigrationError(
                f"{waiting[0][0].path}: {ids} wait for each other: take one out of a `-- depends:` line"
            )
        migration = ready.pop(0)
        done.add(migration.id)
        yield migration
        waiting = [lineage for lineage in waiting if lineage]


def _check_rollbacks(ups: Iterable[Path], rollbacks: Iterable[Path]) -> None:
    names = {path.stem + _ROLLBACK for path in ups}
    for path in sorted(rollbacks):
        if path.name not in names:
            raise MigrationError(f"{path}: belongs to no migration; name it as its migration, or remove it")


def _read(path: Path) -> Migration:
    text = _text(path)
    depends = _directives(path, text)
    back = path.with_name(path.stem + _ROLLBACK)
    return Migration(
        id=path.stem,
        checksum=hashlib.sha256(text.encode()).hexdigest(),
        path=path,
        depends=depends,
        text=text,
        rollback_text=_text(back) if back.is_file() else None,
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


def _directives(path: Path, text: str) -> frozenset[str]:
    """What the file depends on; `MigrationError` for a directive that the runner cannot follow."""
    directives: dict[str, str] = parse_metadata_from_sql_comments(text)[0]
    if directives.get("transactional", "true").strip().lower() != "true":
        raise MigrationError(
            f"{path}:{_directive_line(text, 'transactional')}: a migration outside a transaction could be left half "
            "done; to build an index concurrently, do so by hand first and let the migration say "
            "`create index if not exists`"
        )
    return frozenset(directives.get("depends", "").split())


def _directive_line(text: str, name: str) -> int:
    match = re.search(rf"^\s*?--\s*{name}\s*:", text, re.MULTILINE)
    return text.count("\n", 0, match.start()) + 1 if match else 1


# A migrator asks for the same statements again and again.
@lru_cache(maxsize=256)
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
