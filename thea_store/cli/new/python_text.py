"""The Python that `new` writes: an extension, an aggregate's module, and tests."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from thea_store.cli.new.columns import Aggregate, Column
from thea_store.cli.new.sql_text import filtered

__all__ = [
    "aggregate_module",
    "aggregate_tests",
    "conftest",
    "extension_module",
    "isolation_tests",
    "query_test",
    "with_aggregate",
    "with_query",
]

_WIDTH = 88
"""Of a line, as formatters have it by default."""


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
    claims = _wrapped("    ", "common = common(", ["SQL", record, *claimed], ")")
    first = ["self", "tenant_id: str"]
    signatures = {
        "create": _wrapped(
            "    ", "async def create(", [*first, "/", f"**fields: Unpack[New{record}]"], f") -> {record}:"
        ),
        "update": _wrapped(
            "    ",
            "async def update(",
            [*first, "id: int", "/", f"**changes: Unpack[{record}Changes]"],
            f") -> {record}:",
        ),
        "get_all": _wrapped(
            "    ", "async def get_all(", [*first, "/", f"**asked: Unpack[{record}Pages]"], f") -> Page[{record}]:"
        ),
        "iterate": _wrapped(
            "    ",
            "def iterate(",
            [*first, "/", f"**asked: Unpack[{record}Batches]"],
            f") -> AsyncIterator[{record}]:",
        ),
        "count": _wrapped(
            "    ", "async def count(", [*first, "/", f"**filters: Unpack[{record}Filters]"], ") -> int:"
        ),
    }
    return f'''"""The {many} of a tenant."""

from __future__ import annotations

{_imports(imports)}

SQL = SqlFile("{aggregate.name}", Path(__file__).parent / "sql")


class {record}(Stored, frozen=True):
    """One {aggregate.one.replace("_", " ")}."""{_body(fields)}


class New{record}(TypedDict, total=False):
    """What a new {aggregate.one.replace("_", " ")} consists of."""{_body(new)}


class {record}Changes(TypedDict, total=False):
    """What `update` may change."""{_body(changes)}


class {record}Filters(TypedDict, total=False):
    """What `get_all`, `iterate` and `count` may ask for; `None` asks for nothing."""{_body(filters)}


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


def _of_new(column: Column) -> str:
    return f"Required[{column.kind.argument}]" if column.is_required else column.annotated(column.kind.argument)


def with_query(module: str, aggregate: Aggregate, name: str) -> str | None:
    """The aggregate's module with one query more; `None` where it no longer looks as it was written."""
    head = f"\n\nclass {aggregate.repository}(Repository["
    if head not in module:
        return None
    constant = f'{name.upper()} = SQL.query("{name}", {aggregate.record}, limit=Limit)\n'
    module = module.replace(head, f"\n\n{constant}{head}", 1).rstrip("\n")
    if "    Limit,\n" not in module and " Limit" not in module.split(head)[0].split("SQL = ")[0]:
        module = _with_import(module, "Limit")
    signature = _wrapped(
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
    return module[:start] + "".join(f"    {each},\n" for each in _sorted(names)) + module[end:]


def conftest(extension: str) -> str:
    """What lets the tests find the extension, and the package."""
    return f'''"""Lets the tests of this directory use the extension {extension}."""

from __future__ import annotations

import pytest
from thea_store import Extension

from {extension} import {extension.upper()}


@pytest.fixture(scope="session")
def thea_extensions() -> list[Extension]:
    """Whatever database the tests get, it has these tables."""
    return [{extension.upper()}]
'''


def isolation_tests(extension: str) -> str:
    """The proof, as a test."""
    return f'''"""Each query and table keeps tenants apart."""

from __future__ import annotations

from thea_store.testing import prove

from {extension} import {extension.upper()}


def test_each_query_and_table_keeps_tenants_apart() -> None:
    assert prove({extension.upper()}).is_isolated
'''


def aggregate_tests(aggregate: Aggregate, tests_of_parents: Mapping[str, str]) -> str:
    """What the common functions do, and that another tenant gets nothing.

    `tests_of_parents` are the texts of the test modules of the extension's own tables that it hangs on, by their
    names: what makes a row there is taken from them.
    """
    record, repository = aggregate.record, aggregate.repository
    imports = {"thea_store Store", f"{aggregate.extension}.{aggregate.name} {repository}"}
    for column in aggregate.columns:
        words = set(re.findall(r"\w+", column.kind.sample + column.kind.other))
        imports |= {need for need in (*column.kind.imports, "datetime UTC") if need.split(" ")[1] in words}
    parents = _parents(aggregate)
    makers, more = _makers(tests_of_parents)
    imports |= more
    references = [f"{p.reference}={p.reference}" for p in aggregate.parents]
    given = [f"{column.name}={column.kind.sample}" for column in aggregate.columns]
    made = _wrapped("    ", f"return await {repository}(store).create(", ["tenant", *references, *given], ")")
    changed = aggregate.columns[0]
    helper = f'''async def _add(store: Store, tenant: str, telegram_id: int = 1) -> {record}:
    """One {aggregate.one.replace("_", " ")} of a new user."""
{parents}{made}
'''
    imports |= {f"{aggregate.extension}.{aggregate.name} {record}"}
    update = _wrapped(
        "        ",
        f"changed = await {repository}(tx).update(",
        ["thea_tenant", "made.id", f"{changed.name}={changed.kind.other}"],
        ")",
    )
    log = _wrapped(
        "    ", "log = await thea_store.audit.get_for(", ["thea_tenant", f'"{aggregate.table}"', "made.id"], ")"
    )
    with_parent = ""
    if aggregate.parents and aggregate.parents[0].table == "thea.users":
        with_parent = f"""

{_test("test_it_is_hidden_and_restored_with_its_user")}
    made = await _add(thea_store, thea_tenant)
    await thea_store.users.delete(thea_tenant, made.user_id)

    assert await {repository}(thea_store).get_by_id(thea_tenant, made.id) is None
    await thea_store.users.restore(thea_tenant, made.user_id)
    assert await {repository}(thea_store).exists(thea_tenant, made.id)
"""
    return f'''"""The {aggregate.name.replace("_", " ")}: what they do, and that another tenant gets nothing."""

from __future__ import annotations

{_imports(imports | {"! pytest"}, own=aggregate.extension)}

pytestmark = pytest.mark.asyncio


{makers}{helper}

{_test("test_one_that_is_made_is_found_again")}
    made = await _add(thea_store, thea_tenant)

    assert made.{changed.name} == {changed.kind.sample}
    assert await {repository}(thea_store).get_by_id(thea_tenant, made.id) == made
    assert (await {repository}(thea_store).get_all(thea_tenant)).items == [made]
    assert await {repository}(thea_store).count(thea_tenant) == 1


{_test("test_another_tenant_gets_nothing")}
    made = await _add(thea_store, thea_tenant)
    other = f"{{thea_tenant}}-other"

    assert await {repository}(thea_store).get_by_id(other, made.id) is None
    assert (await {repository}(thea_store).get_all(other)).items == []
    assert not await {repository}(thea_store).exists(other, made.id)


{_test("test_a_change_is_kept_and_audited")}
    made = await _add(thea_store, thea_tenant)
    async with thea_store.transaction(thea_tenant, actor="user:7") as tx:
{update}
{log}

    assert changed.{changed.name} == {changed.kind.other}
    assert changed.updated_at > made.updated_at
    assert (log[-1].actor, log[-1].action) == ("user:7", "update")


{_test("test_one_that_is_deleted_is_gone_until_it_is_restored")}
    made = await _add(thea_store, thea_tenant)
    await {repository}(thea_store).delete(thea_tenant, made.id)

    left = {repository}(thea_store).iterate(thea_tenant)
    assert [each async for each in left] == []
    restored = await {repository}(thea_store).restore(thea_tenant, made.id)
    assert restored.deleted_at is None
    await {repository}(thea_store).purge(thea_tenant, made.id)
    assert await {repository}(thea_store).count(thea_tenant) == 0
{with_parent}'''


def query_test(aggregate: Aggregate, name: str) -> str:
    """A test of a new query."""
    return f"""

{_test(f"test_{name}_gives_a_tenants_own")}
    made = await _add(thea_store, thea_tenant)

    assert await {aggregate.repository}(thea_store).{name}(thea_tenant) == [made]
    assert await {aggregate.repository}(thea_store).{name}(f"{{thea_tenant}}-other") == []
"""


def _parents(aggregate: Aggregate) -> str:
    """Statements that make what a row hangs on."""
    lines = []
    for parent in aggregate.parents:
        maker = _MAKERS.get(parent.table)
        if maker is None:
            lines.append(f"    {parent.reference} = (await _add_{parent.name}(store, tenant, -telegram_id - 1)).id\n")
        else:
            lines.append(maker)
    return "".join(lines)


def _makers(tests: Mapping[str, str]) -> tuple[str, set[str]]:
    """The functions by which other tests make their rows, renamed, and what these import."""
    functions, imports = "", set[str]()
    for name, text in tests.items():
        for maker in re.findall(r"^async def _add\w*\(.*?\n(?=\n\n)", text, re.MULTILINE | re.DOTALL):
            functions += f"{maker.replace('async def _add(', f'async def _add_{name}(')}\n\n"
        for module, plain, several in re.findall(
            r"^from ([\w.]+) import (?:([\w, ]+)|\(([^)]*)\))$", text, re.MULTILINE
        ):
            names = re.split(r"[,\s]+", plain or several)
            imports |= {f"{module} {each}" for each in names if each and re.search(rf"\b{each}\b", functions)}
    return functions, {each for each in imports if not each.startswith("__future__")}


_USER = "    user_id = (await store.users.create(tenant, telegram_id=telegram_id)).id\n"
_MAKERS = {
    "thea.users": _USER,
    "thea.conversations": "    person = (await store.users.create(tenant, telegram_id=-telegram_id)).id\n"
    '    conversation_id = (await store.conversations.create(tenant, person, f"session-{telegram_id}")).id\n',
    "thea.notes": "    writer = (await store.users.create(tenant, telegram_id=-telegram_id - 1)).id\n"
    '    note_id = (await store.notes.create(tenant, writer, "Comprar pan")).id\n',
}


def _test(name: str) -> str:
    return _wrapped("", f"async def {name}(", ["thea_store: Store", "thea_tenant: str"], ") -> None:")


def _wrapped(indent: str, head: str, parts: Sequence[str], tail: str) -> str:
    """A definition or a call in the form that formatters give it: on one line, on three, or a line for each part."""
    line = f"{indent}{head}{', '.join(parts)}{tail}"
    if len(line) <= _WIDTH:
        return line
    inner = f"{indent}    {', '.join(parts)}"
    if len(inner) > _WIDTH:
        inner = "\n".join(f"{indent}    {part}," for part in parts)
    return f"{indent}{head}\n{inner}\n{indent}{tail}"


def _body(lines: Iterable[str]) -> str:
    text = "".join(f"\n    {line}" for line in lines)
    return text and f"\n{text}"


def _imports(needs: set[str], own: str = "") -> str:
    """Import statements in isort's order: the standard library, other packages, one's own."""
    by_module: dict[str, set[str]] = {}
    for need in needs:
        module, name = need.split(" ")
        by_module.setdefault(module, set()).add(name)
    plain = sorted(by_module.pop("!", ()))
    standard = {"collections.abc", "datetime", "decimal", "pathlib", "typing", "uuid"}
    groups = [
        [_import(module, by_module[module]) for module in sorted(by_module) if module in standard],
        [
            *(f"import {name}" for name in plain),
            *(
                _import(module, by_module[module])
                for module in sorted(by_module)
                if module not in standard and not (own and module.startswith(f"{own}."))
            ),
        ],
        [_import(module, by_module[module]) for module in sorted(by_module) if own and module.startswith(f"{own}.")],
    ]
    return "\n\n".join("\n".join(group) for group in groups if group)


def _import(module: str, names: set[str]) -> str:
    line = f"from {module} import {', '.join(_sorted(names))}"
    if len(line) <= _WIDTH and module != "thea_store":
        return line
    if module == "thea_store" and len(names) == 1:
        return line
    return f"from {module} import (\n" + "".join(f"    {name},\n" for name in _sorted(names)) + ")"


def _sorted(names: Iterable[str]) -> list[str]:
    """As isort has them: constants, classes, the rest."""
    return sorted(
        names, key=lambda name: (0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2, name)
    )
