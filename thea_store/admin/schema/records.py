"""What a schema consists of."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["Check", "Column", "Index", "Policy", "Reference", "Schema", "Table"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column; `default` is an expression, or `identity`."""

    name: str
    type: str
    nullable: bool
    default: str | None


@dataclass(frozen=True, slots=True)
class Reference:
    """A foreign key."""

    name: str
    columns: tuple[str, ...]
    table: str
    """The table that it refers to, with its schema where that is an extension's."""
    target: tuple[str, ...]
    on_delete: str


@dataclass(frozen=True, slots=True)
class Index:
    """An index, a key's own included."""

    name: str
    columns: tuple[str, ...]
    """Columns, or expressions."""
    method: str
    condition: str | None
    """Of a partial index."""
    primary: bool
    unique: bool
    serves: str | None
    """Its comment, which names the queries that it is for."""


@dataclass(frozen=True, slots=True)
class Check:
    """A condition that every row fulfils."""

    name: str
    condition: str


@dataclass(frozen=True, slots=True)
class Policy:
    """A row policy."""

    name: str
    kind: str
    command: str
    roles: tuple[str, ...]
    using: str | None
    check: str | None


@dataclass(frozen=True, slots=True)
class Table:
    """A table, with what hangs on it."""

    name: str
    """With its schema where that is an extension's."""
    row_security: str
    """`forced`, `enabled` or `off`."""
    columns: tuple[Column, ...]
    indexes: tuple[Index, ...]
    references: tuple[Reference, ...]
    checks: tuple[Check, ...]
    policies: tuple[Policy, ...]


@dataclass(frozen=True, slots=True)
class Schema:
    """All tables, by name, those of extensions last, and the newest migration, where the login may know it."""

    migration: str | None
    tables: tuple[Table, ...]

    def as_json(self) -> dict[str, Any]:
        """The same as JSON values."""
        return asdict(self)
