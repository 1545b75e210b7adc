"""Where `new` writes, and what it refuses: nothing that is there already is lost, and nothing is half written."""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from thea_store.cli.new import python_text, sql_text, tests_text
from thea_store.cli.new.columns import Aggregate, checked_name, column, parent, singular
from thea_store.errors import ExtensionError, InvalidArgumentError
from thea_store.extensions import Extension
from thea_store.migrator import available

__all__ = ["new_aggregate", "new_extension", "new_migration", "new_query"]

# Where pytest may be configured already; what it says there is its author's.
_CONFIGURATIONS = ("pytest.ini", ".pytest.ini", "pytest.toml", ".pytest.toml", "pyproject.toml", "tox.ini", "setup.cfg")
_NUMBER = re.compile(r"\.(\d{4})\.")


def new_extension(name: str) -> list[Path]:
    """Write the package of an extension into the current directory; the files that it consists of."""
    checked_name("NAME", name)
    try:
        Extension(name, migrations=Path(name))  # which knows the names that are reserved
    except ExtensionError as error:
        raise InvalidArgumentError("NAME", str(error)) from None
    package = Path(name)
    if package.exists():
        raise InvalidArgumentError("NAME", f"{package}/ is there already: choose another name, or add aggregates to it")
    up, back = sql_text.schema_migration(name, available()[-1].id)
    files = {
        package / "__init__.py": python_text.extension_module(name),
        package / "py.typed": "",
        package / "sql" / ".gitkeep": "",
        package / "migrations" / f"{name}.0001.schema.sql": up,
        package / "migrations" / f"{name}.0001.schema.rollback.sql": back,
        Path("tests") / f"test_{name}_isolation.py": tests_text.isolation_tests(name),
    }
    if not Path("conftest.py").exists():
        files[Path("conftest.py")] = tests_text.conftest(name)
    if not any(Path(each).exists() for each in _CONFIGURATIONS):
        files[Path("pytest.ini")] = tests_text.PYTEST_INI
    return _write(files)


def new_aggregate(name: str, extension: str, columns: Sequence[str], hangs_on: Sequence[str]) -> list[Path]:
    """Write an aggregate of an extension: its module, its queries, its migration and its tests."""
    checked_name("NAME", name)
    package = _package(extension)
    if not columns:
        raise InvalidArgumentError("--column", "give at least one, such as `--column title:text`")
    made = Aggregate(
        extension,
        name,
        tuple(column(text) for text in columns),
        tuple(parent(text, extension) for text in hangs_on),
    )
    _check_names(made)
    up, back = sql_text.aggregate_migration(made, _last(package, extension))
    stem = f"{extension}.{_next(package):04}.{name}"
    module = python_text.with_aggregate((package / "__init__.py").read_text("utf-8"), made)
    files = {
        package / f"{name}.py": python_text.aggregate_module(made),
        package / "sql" / f"{name}.sql": sql_text.query_file(made),
        package / "migrations" / f"{stem}.sql": up,
        package / "migrations" / f"{stem}.rollback.sql": back,
        Path("tests") / f"test_{name}.py": tests_text.aggregate_tests(made, _tests_of_parents(made)),
    }
    if module is None:
        raise ExtensionError(
            f"{package}/__init__.py no longer has the line `aggregates=[…]` as it was written: bring it back, or add "
            f'`Aggregate({made.repository}, table="{made.table}")` by hand'
        )
    return [*_write(files), *_rewrite({package / "__init__.py": module})]


def new_query(name: str, extension: str, aggregate: str) -> list[Path]:
    """Add a query to an aggregate: the statement, the claim and its method, and a test."""
    checked_name("NAME", name)
    package = _package(extension)
    found = _existing(package, extension, aggregate)
    files = {package / "sql" / f"{aggregate}.sql": sql_text.query(found, name)}
    module = package / f"{aggregate}.py"
    if f"-- name: {name}\n" in (package / "sql" / f"{aggregate}.sql").read_text("utf-8"):
        raise InvalidArgumentError("NAME", f"{aggregate} has a query {name} already: choose another name")
    text = python_text.with_query(module.read_text("utf-8"), found, name)
    if text is None:
        raise ExtensionError(f"{module} has no class {found.repository} as it was written: add the query by hand")
    tests = Path("tests") / f"test_{aggregate}.py"
    changed = {path: path.read_text("utf-8").rstrip("\n") + "\n" + more for path, more in files.items()}
    changed[module] = text
    if tests.exists():
        changed[tests] = tests.read_text("utf-8").rstrip("\n") + "\n" + tests_text.query_test(found, name)
    return _rewrite(changed)


def new_migration(name: str, extension: str) -> list[Path]:
    """Write the next migration of an extension, and its way back, to be filled in."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name):
        raise InvalidArgumentError("NAME", f"{name!r}: write lower-case letters, digits, _ and -")
    package = _package(extension)
    stem = f"{extension}.{_next(package):04}.{name}"
    up = f"-- depends: {_last(package, extension)}\n\n-- Why: say it here.\n\nselect 1;\n"
    return _write(
        {
            package / "migrations" / f"{stem}.sql": up,
            package / "migrations" / f"{stem}.rollback.sql": "select 1;\n",
        }
    )


def _tests_of_parents(made: Aggregate) -> dict[str, str]:
    found: dict[str, str] = {}
    for each in made.parents:
        if each.table.startswith("thea."):
            continue
        tests = Path("tests") / f"test_{each.name}.py"
        if not tests.exists():
            raise InvalidArgumentError("--hangs-on", f"there is no {tests} that makes a row of {each.table}: write it")
        found[each.name] = tests.read_text("utf-8")
    return found


# --- what is there -------------------------------------------------------------------------------


def _package(extension: str) -> Path:
    package = Path(checked_name("--extension", extension))
    if not (package / "migrations").is_dir():
        raise InvalidArgumentError(
            "--extension", f"there is no {package}/migrations here: run `thea-store new extension {extension}` first"
        )
    return package


def _migrations(package: Path) -> list[str]:
    return sorted(
        path.stem for path in (package / "migrations").glob("*.sql") if not path.name.endswith(".rollback.sql")
    )


def _last(package: Path, extension: str) -> str:
    found = _migrations(package)
    if not found:
        raise InvalidArgumentError("--extension", f"{extension} has no migration yet: bring its first one back")
    return found[-1]


def _next(package: Path) -> int:
    return 1 + max((int(match[1]) for stem in _migrations(package) if (match := _NUMBER.search(stem))), default=0)


def _check_names(made: Aggregate) -> None:
    names = [column.name for column in made.columns] + [parent.reference for parent in made.parents]
    for name in names:
        if names.count(name) > 1:
            raise InvalidArgumentError("--column", f"{name} is there twice: rename one")


def _existing(package: Path, extension: str, name: str) -> Aggregate:
    """An aggregate that was written before, as far as a new query needs to know it."""
    try:
        module = importlib.import_module(f"{extension}.{name}")
        record = next(
            thing
            for thing in vars(module).values()
            if isinstance(thing, type) and thing.__module__ == module.__name__ and hasattr(thing, "model_fields")
        )
    except (ImportError, StopIteration) as error:
        raise InvalidArgumentError("--aggregate", f"{package}/{name}.py has no record: {error}") from error
    kept = {"tenant_id", "id", "created_at", "updated_at", "deleted_at"}
    columns = tuple(column(f"{field}:text") for field in record.model_fields if field not in kept)
    found = Aggregate(extension, name, columns, ())
    if found.record != record.__name__:
        raise InvalidArgumentError(
            "--aggregate", f"the record of {singular(name)} is {record.__name__}, not {found.record}: add it by hand"
        )
    return found


# --- writing -------------------------------------------------------------------------------------


def _write(files: Mapping[Path, str]) -> list[Path]:
    """Write new files, all or none."""
    for path in files:
        if path.exists():
            raise InvalidArgumentError("NAME", f"{path} is there already: choose another name, or move it away")
    return _rewrite(files)


def _rewrite(files: Mapping[Path, str]) -> list[Path]:
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return list(files)
