"""The Python that `new` writes of a package: an extension, and the module of an aggregate."""

from __future__ import annotations

from thea_store.cli.new.columns import Aggregate
from thea_store.cli.new.layout import body, imports_of, in_order, wrapped
from thea_store.cli.new.sql_text import filtered

__all__ = ["aggregate_module", "extension_module", "with_aggregate", "with_query"]


def extension_module(name: str) -> str:
    """The package of an extension."""
    return f'''"""The extension {name}: its tables stand in the PostgreSQL schema `{name}`."""

from __future__ import annotations

from pathlib import Path

from thea_store import Extension

{name.upper()} = Extension(
    "{name}",
    aggregates=[],
    migrations=Path(__file__).parent / "migrations",
)
'''


def with_aggregate(module: str, aggregate: Aggregate) -> str | None:
    """The extension's module with one aggregate more; `None` where it no longer looks as it was written."""
    repository, package = aggregate.repository, aggregate.extension
    entry = f'Aggregate({repository}, table="{aggregate.table}")'
    imported = f"from {package}.{aggregate.name} import {repository}\n"
    if "    aggregates=[]," in module:
        module = module.replace("    aggregates=[],", f"    aggregates=[{entry}],")
    elif "    aggregates=[Aggregate(" in module and "],\n" in module:
        line = next(line for line in module.splitlines() if line.startswith("    aggregates=[Aggregate("))
        first = line.strip().removeprefix("aggregates=[").removesuffix("],")
        module = module.replace(line, f"    aggregates=[\n        {first},\n        {entry},\n    ],")
    elif "    aggregates=[\n" in module:
        head, rest = module.split("    aggregates=[\n", 1)
        inside, tail = rest.split("    ],\n", 1)
        module = f"{head}    aggregates=[\n{inside}        {entry},\n    ],\n{tail}"
    else:
        return None
    module = module.replace("from thea_store import Extension\n", "from thea_store import Aggregate, Extension\n")
    own = sorted(
        [*(line for line in module.splitlines(keepends=True) if line.startswith(f"from {package}.")), imported]
    )
    lines = [line for line in module.splitlines(keepends=True) if not line.startswith(f"from {package}.")]
    after = next(i for i, line in enumerate(lines) if line.startswith("from thea_store import")) + 1
    while lines[after] == "\n":
        lines.pop(after)
    return "".join([*lines[:after], "\n", *own, "\n", *lines[after:]])


def aggregate_module(aggregate: Aggregate) -> str:
    """The record, the typed dictionaries and the repository."""
    record, many = aggregate.record, aggregate.name.replace("_", " ")
    references = [parent.reference for parent in aggregate.parents]
    imports = {"collections.abc AsyncIterator", "pathlib Path"}
    imports |= {need for column in aggregate.columns for need in column.kind.imports}
    imports |= {
        f"thea_store {name}" for name in ("Batches", "Page", "Paging", "Repository", "SqlFile", "Stored", "common")
    }
    imports |= {"thea_store Id"} if references else set()
    imports |= {"typing_extensions TypedDict", "typing_extensions Unpack"}
    imports |= {"typing Required"} if references or any(column.is_required for column in aggregate.columns) else set()
    fields = [
        *(f"{name}: int" for name in references),
        *(f"{c.name}: {c.annotated(c.kind.record)}" for c in aggregate.columns),
    ]
    new = [
        *(f"{name}: Required[Id]" for name in references),
        *(
            f"{c.name}: {f'Required[{c.kind.argument}]' if c.is_required else c.annotated(c.kind.argument)}"
            for c in aggregate.columns
        ),
    ]
    changes = [f"{c.name}: {c.annotated(c.kind.argument)}" for c in aggregate.columns]
    filters = [
        *(f"{name}: Id | None" for name in references),
        *(f"{column.name}: bool | None" for column in filtered(aggregate.columns)),
    ]
    claimed = [f"rows=New{record}", f"changes={record}Changes", f"filters={record}Filters"]
    claims = wrapped("    ", "common = common(", ["SQL", record, *claimed], ")")
    first = ["self", "tenant_id: str"]
    signatures = {
        "create": wrapped(
            "    ", "async def create(", [*first, "/", f"**fields: Unpack[New{record}]"], f") -> {record}:"
        ),
        "update": wrapped(
            "    ",
            "async def update(",
            [*first, "id: int", "/", f"**changes: Unpack[{record}Changes]"],
            f") -> {record}:",
        ),
        "get_all": wrapped(
            "    ", "async def get_all(", [*first, "/", f"**asked: Unpack[{record}Pages]"], f") -> Page[{record}]:"
        ),
        "iterate": wrapped(
            "    ",
            "def iterate(",
            [*first, "/", f"**asked: Unpack[{record}Batches]"],
            f") -> AsyncIterator[{record}]:",
        ),
        "count": wrapped("    ", "async def count(", [*first, "/", f"**filters: Unpack[{record}Filters]"], ") -> int:"),
    }
    return f'''"""The {many} of a tenant."""

from __future__ import annotations

{imports_of(imports)}

SQL = SqlFile("{aggregate.name}", Path(__file__).parent / "sql")


class {record}(Stored, frozen=True):
    """One {aggregate.one.replace("_", " ")}."""{body(fields)}


class New{record}(TypedDict, total=False):
    """What a new {aggregate.one.replace("_", " ")} consists of."""{body(new)}


class {record}Changes(TypedDict, total=False):
    """What `update` may change."""{body(changes)}


class {record}Filters(TypedDict, total=False):
    """What `get_all`, `iterate` and `count` may ask for; `None` asks for nothing."""{body(filters)}


class {record}Pages({record}Filters, Paging, total=False):
    """What `get_all` takes."""


class {record}Batches({record}Filters, Batches, total=False):
    """What `iterate` takes."""


class {aggregate.repository}(Repository[{record}, New{record}]):
    """The {many}, over a store or within a transaction."""

{claims}

{signatures["create"]}
        """Make a new one. `InvalidReferenceError` when what it hangs on does not exist."""
        return await self._create(tenant_id, fields)

{signatures["update"]}
        """Change the given fields; `None` is a value. `NotFoundError` when there is none."""
        return await self._update(tenant_id, id, changes)

{signatures["get_all"]}
        """Give a page by the time they were made, from after `cursor`; empty past the end."""
        return await self._get_all(tenant_id, asked)

{signatures["iterate"]}
        """Go through all, the oldest first; no connection is held between batches."""
        return self._iterate_all(tenant_id, asked)

{signatures["count"]}
        """Say how many there are."""
        return await self._count(tenant_id, filters)
'''


def with_query(module: str, aggregate: Aggregate, name: str) -> str | None:
    """The aggregate's module with one query more; `None` where it no longer looks as it was written."""
    head = f"\n\nclass {aggregate.repository}(Repository["
    if head not in module:
        return None
    constant = f'{name.upper()} = SQL.query("{name}", {aggregate.record}, limit=Limit)\n'
    module = module.replace(head, f"\n\n{constant}{head}", 1).rstrip("\n")
    if "    Limit,\n" not in module and " Limit" not in module.split(head)[0].split("SQL = ")[0]:
        module = _with_import(module, "Limit")
    signature = wrapped(
        "    ",
        f"async def {name}(",
        ["self", "tenant_id: str", "*", "limit: int = 50"],
        f") -> list[{aggregate.record}]:",
    )
    return f'''{module}

{signature}
        """Give the newest, up to `limit`; empty when there are none."""
        return await self._db.fetch_all({name.upper()}, tenant_id, limit=limit)
'''


def _with_import(module: str, name: str) -> str:
    start = module.index("from thea_store import (\n") + len("from thea_store import (\n")
    end = module.index(")\n", start)
    names = {line.strip().rstrip(",") for line in module[start:end].splitlines()} | {name}
    return module[:start] + "".join(f"    {each},\n" for each in in_order(names)) + module[end:]
