"""Reads a page as somebody would who tries all that it shows, from top to bottom.

- Python blocks of a page share their names, may `await`, and find an open `store` on a database of the page's own. A
  line `# → text` is what the block prints. Its `test_…` functions are called, with the fixtures that they name.
- A block that begins with `# file.py` is that file. A test file is run by pytest, a script by Python.
- SQL blocks run as a superuser, or as the role `sql_role`, and are undone. One that begins with `-- name:` is a query.
- `<!--- invisible-code-block: python … --->` prepares; `<!--- skip: next --->` is for what cannot run here.
"""

from __future__ import annotations

import ast
import asyncio
import builtins
import inspect
import os
import re
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import psycopg
from sybil import Document, Example
from sybil.parsers.markdown import CodeBlockParser, SkipParser
from sybil.typing import Parser

from thea_store import Settings, Store
from thea_store.postgres.url import DatabaseUrl
from thea_store.queries.file import SqlFile
from thea_store.resources import sql_dir
from thea_store.testing import TestDatabase
from thea_store.verification import opening

__all__ = ["examples_of", "try_page"]


def examples_of(page: Path, reader: Reader | None = None) -> list[Example]:
    """The blocks of a page that can be tried, in its order."""
    reader = reader or Reader(None, None)
    parsers: list[Parser] = [
        CodeBlockParser("python", reader.python),
        CodeBlockParser("toml", reader.toml),
        CodeBlockParser("sql", reader.sql),
        SkipParser(),
    ]
    return list(Document.parse(str(page), *parsers).examples())


def try_page(page: Path, database: TestDatabase, directory: Path) -> None:
    """Run every example of the page, on this database and in this empty directory."""
    reader = Reader(database, directory)
    with asyncio.Runner() as reader.runner:
        reader.store = reader.runner.run(_opened(database))
        try:
            for example in examples_of(page, reader):
                example.evaluate()
        finally:
            reader.runner.run(reader.store.close())


async def _opened(database: TestDatabase) -> Store:
    return await Store.open(Settings(url=database.app_url, replica_url=None, migrator_url=None, pool_size=2))


class Reader:
    """What somebody has in front of them while they read."""

    runner: asyncio.Runner
    store: Store
    query: str

    def __init__(self, database: TestDatabase | None, directory: Path | None) -> None:
        self._database, self._directory = database, directory

    @property
    def database(self) -> TestDatabase:
        assert self._database
        return self._database

    @property
    def directory(self) -> Path:
        assert self._directory
        return self._directory

    # --- Python ---------------------------------------------------------------------------------

    def python(self, example: Example) -> None:
        if named := re.match(r"# (\w+\.py)\n", example.parsed):
            self.run_file(named[1], example.parsed)
            return
        printed = StringIO()
        names = {
            "__name__": "page",
            "store": self.store,
            "database": self.database,
            "sql_file": self.sql_file,
            "check_claims": self.check_claims,
            "print": lambda *words: builtins.print(*words, file=printed),
        }
        before = example.namespace.keys() | names
        example.namespace.update(names)
        self.execute(example)
        if promised := re.findall(r"# → (.*)", example.parsed):
            assert printed.getvalue().splitlines() == promised, f"{example.path}:{example.line}"
        for name in sorted(example.namespace.keys() - before):
            if name.startswith("test_"):
                self.run_test(example.namespace[name])

    def execute(self, example: Example) -> None:
        # Padded, so that a traceback names the page's own line.
        source = "\n" * (example.line + example.parsed.line_offset) + example.parsed
        code = compile(source, example.path, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        result = eval(code, example.namespace)
        if inspect.iscoroutine(result):
            self.runner.run(result)

    def run_test(self, test: Callable[..., Any]) -> None:
        fixtures = {
            "store": self.store,
            "thea_store": self.store,
            "tenant": "tenant",
            "thea_tenant": "tenant",
            "other_tenant": "other",
        }
        self.runner.run(test(**{name: fixtures[name] for name in inspect.signature(test).parameters}))

    def run_file(self, name: str, text: str) -> None:
        self.directory.joinpath(name).write_text(text)
        if name.startswith("test_"):
            command = ["-m", "pytest", "-q", "-p", "no:cacheprovider", name]
        elif "asyncio.run(" in text:
            command = [name]
        else:
            return
        urls = {"DATABASE_URL": self.database.app_url, "THEA_TEST_DATABASE_URL": self.database.superuser_url}
        done = subprocess.run(
            [sys.executable, *command],
            cwd=self.directory,
            env={**os.environ, **urls},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout

    def toml(self, example: Example) -> None:
        self.directory.joinpath("pyproject.toml").write_text(example.parsed)

    # --- SQL ------------------------------------------------------------------------------------

    def sql(self, example: Example) -> None:
        if example.parsed.startswith("-- name:"):
            self.query = example.parsed
            return
        # A page's own transaction is undone with ours.
        statements = re.sub(r"^(begin|commit);$", "", example.parsed, flags=re.MULTILINE)
        with psycopg.connect(self.database.superuser_url) as connection:
            if role := example.namespace.get("sql_role"):
                connection.execute(f"set local role {role}".encode())
            connection.execute(statements.encode())
            connection.rollback()

    def sql_file(self, aggregate: str) -> SqlFile:
        """A file with the page's query; one that the library has, too, must be the same."""
        shipped = sql_dir().joinpath(f"{aggregate}.sql").read_text()
        if self.query.splitlines()[0] in shipped.splitlines():
            assert self.query.strip() in shipped, "the page shows another query than the file has"
        directory = self.directory / "sql"
        directory.mkdir()
        directory.joinpath(f"{aggregate}.sql").write_text(self.query)
        return SqlFile(aggregate, directory)

    def check_claims(self, file: SqlFile) -> None:
        """Hold what the page claimed against the live schema."""
        findings = opening.inspect(DatabaseUrl.parse(self.database.app_url), [file])
        assert findings.described
        assert opening.mismatches(findings) == []
