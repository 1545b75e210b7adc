"""Where the shipped SQL and migration files are: inside the wheel, or beside the package in a checkout."""

from __future__ import annotations

from pathlib import Path

from thea_store.errors import StoreError

__all__ = ["migrations_dir", "sample_export", "sql_dir"]

_PACKAGE = Path(__file__).resolve().parent


def sql_dir() -> Path:
    """The directory of the SQL files."""
    return _find("sql")


def migrations_dir() -> Path:
    """The directory of the migrations."""
    return _find("migrations")


def sample_export() -> Path:
    """The small Telegram export that the demonstration imports."""
    return _PACKAGE / "telegram" / "samples" / "result.json"


def _find(name: str) -> Path:
    # The wheel carries the files as thea_store/sql and thea_store/migrations; an editable install
    # does not see what the build includes, so the checkout's own directories stand in.
    for directory in (_PACKAGE / "_data" / name, _PACKAGE.parent / name):
        if directory.is_dir():
            return directory
    raise StoreError(f"the directory {name}/ is missing from this installation: install thea_store anew")
