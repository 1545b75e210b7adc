"""The tests that `new` writes, and what they need: those of an aggregate, the proof, and pytest's configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping

from thea_store.cli.new.columns import Aggregate
from thea_store.cli.new.layout import imports_of, wrapped

__all__ = ["PYTEST_INI", "aggregate_tests", "conftest", "isolation_tests", "query_test"]

PYTEST_INI = """[pytest]
testpaths = tests
# All tests share an event loop, so that they can share a store.
asyncio_default_fixture_loop_scope = session
asyncio_default_test_loop_scope = session
"""


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
    helpers, their_imports = _copied_helpers(tests_of_parents)
    imports |= their_imports
    references = [f"{p.reference}={p.reference}" for p in aggregate.parents]
    given = [f"{column.name}={column.kind.sample}" for column in aggregate.columns]
    made = wrapped("    ", f"return await {repository}(store).create(", ["tenant", *references, *given], ")")
    changed = aggregate.columns[0]
    helper = f'''async def _add(store: Store, tenant: str, telegram_id: int = 1) -> {record}:
    """One {aggregate.one.replace("_", " ")} of a new user."""
{parents}{made}
'''
    imports |= {f"{aggregate.extension}.{aggregate.name} {record}"}
    update = wrapped(
        "        ",
        f"changed = await {repository}(tx).update(",
        ["thea_tenant", "made.id", f"{changed.name}={changed.kind.other}"],
        ")",
    )
    log = wrapped(
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

{imports_of(imports | {"! pytest"}, own=aggregate.extension)}

pytestmark = pytest.mark.asyncio


{helpers}{helper}

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
        maker = _LINES_THAT_MAKE.get(parent.table)
        if maker is None:
            lines.append(f"    {parent.reference} = (await _add_{parent.name}(store, tenant, -telegram_id - 1)).id\n")
        else:
            lines.append(maker)
    return "".join(lines)


def _copied_helpers(tests: Mapping[str, str]) -> tuple[str, set[str]]:
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
_LINES_THAT_MAKE = {
    "thea.users": _USER,
    "thea.conversations": "    person = (await store.users.create(tenant, telegram_id=-telegram_id)).id\n"
    '    conversation_id = (await store.conversations.create(tenant, person, f"session-{telegram_id}")).id\n',
    "thea.notes": "    writer = (await store.users.create(tenant, telegram_id=-telegram_id - 1)).id\n"
    '    note_id = (await store.notes.create(tenant, writer, "Comprar pan")).id\n',
}


def _test(name: str) -> str:
    return wrapped("", f"async def {name}(", ["thea_store: Store", "thea_tenant: str"], ") -> None:")
