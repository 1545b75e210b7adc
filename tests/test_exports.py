from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import thea_store


def test_what_type_checkers_see_is_what_there_is() -> None:
    tree = ast.parse(Path(str(thea_store.__file__)).read_text())
    seen = {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("thea_store.")
        for alias in node.names
    }

    assert seen == vars(thea_store)["_MODULES"]
    assert {*seen, "__version__"} == set(thea_store.__all__)
    assert all(getattr(thea_store, name) is getattr(importlib.import_module(str(seen[name])), name) for name in seen)
    assert set(thea_store.__all__) <= set(dir(thea_store))


def test_a_name_that_is_not_exported_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        vars(thea_store)["__getattr__"]("Nothing")


def test_examples_and_documentation_take_from_inside_nothing_but_what_is_documented() -> None:
    checkout = Path(__file__).parents[1]
    public = ("thea_store.embedded", "thea_store.testing", "thea_store.migrator")
    inside = {"adding-a-query.md", "architecture.md"}  # for those who work on the library itself
    files = [*checkout.glob("examples/**/*.py"), *checkout.glob("docs/*.md"), checkout / "README.md"]
    lines = [line for file in files if file.name not in inside for line in file.read_text().splitlines()]

    assert [line for line in lines if line.startswith("from thea_store.") and line.split()[1] not in public] == []
