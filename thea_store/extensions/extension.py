"""What an extension consists of: its aggregates, its migrations, and the tables that all tenants share."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from thea_store.errors import ExtensionError
from thea_store.migrator import Lineage
from thea_store.queries.file import SqlFile
from thea_store.repositories.base import Common, Repository

__all__ = ["Aggregate", "Extension"]

_NAME = re.compile(r"[a-z][a-z0-9_]{0,47}")
_TABLE = re.compile(r"([a-z][a-z0-9_]*)\.([a-z][a-z0-9_]*)")
_RESERVED = frozenset({"thea", "public", "information_schema"})


class Aggregate:
    """A repository and the table that it is about."""

    def __init__(self, repository: type[Repository[Any, Any]], *, table: str) -> None:
        """`table` is the full name, `planner.tasks`; `ExtensionError` where it is none."""
        if not _TABLE.fullmatch(str(table)):
            raise ExtensionError(f"{table!r} is no table's full name: write `planner.tasks`, in lower case")
        if not hasattr(repository, "common"):
            raise ExtensionError(
                f"{repository.__name__} has no common queries: give it `common = common(SQL, …)` in its class body"
            )
        self.repository, self.table = repository, table

    @property
    def sql(self) -> SqlFile:
        """The file of its queries."""
        repository: Any = self.repository
        queries: Common[Any] = repository.common
        return queries.sql

    def __repr__(self) -> str:
        """As it is written."""
        return f"Aggregate({self.repository.__name__}, table={self.table!r})"


class Extension:
    """Tables of a service, beside the library's own and with every guarantee of them.

        PLANNER = Extension(
            "planner",
            aggregates=[Aggregate(Tasks, table="planner.tasks")],
            migrations=Path(__file__).parent / "migrations",
        )

    Its name is its PostgreSQL schema, and what its migrations' ids begin with.
    """

    def __init__(
        self,
        name: str,
        *,
        migrations: Path,
        aggregates: Iterable[Aggregate] = (),
        shared_tables: Iterable[str] = (),
        sql: Iterable[SqlFile] = (),
    ) -> None:
        """`sql` are files with queries of no aggregate; `shared_tables` are those that have no tenant.

        `ExtensionError` for a name that is taken or none, and for a table of another schema.
        """
        if not _NAME.fullmatch(str(name)) or name in _RESERVED or name.startswith("pg_"):
            raise ExtensionError(
                f"{name!r} cannot be an extension's name: it is a schema of its own, so lower-case letters, digits "
                "and _, up to 48, not thea, public, information_schema or pg_…"
            )
        self.name = name
        self.migrations = Path(migrations)
        self.aggregates = tuple(aggregates)
        self.shared_tables = tuple(table if "." in table else f"{name}.{table}" for table in shared_tables)
        self._sql = tuple(sql)
        for table in (*(aggregate.table for aggregate in self.aggregates), *self.shared_tables):
            if table.partition(".")[0] != name:
                raise ExtensionError(
                    f"the table {table} is not in the schema of the extension {name}: name it {name}.…"
                )

    @property
    def lineage(self) -> Lineage:
        """Its migrations."""
        return Lineage(self.name, self.migrations)

    @property
    def sql_files(self) -> Sequence[SqlFile]:
        """Each file of its queries once."""
        return tuple(dict.fromkeys([*(aggregate.sql for aggregate in self.aggregates), *self._sql]))

    def __repr__(self) -> str:
        """Its name."""
        return f"Extension({self.name!r})"
