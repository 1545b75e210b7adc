from __future__ import annotations

import ast
import importlib
from pathlib import Path

import pytest

import thea_store
from thea_store.repositories.base import Record


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
    assert all(hasattr(thea_store, name) for name in thea_store.__all__)


def test_no_record_can_be_changed() -> None:
    for module in thea_store.__dict__["_MODULES"].values():
        importlib.import_module(module)
    kinds = [Record]
    for kind in kinds:
        kinds += kind.__subclasses__()

    assert len(kinds) > 20
    assert [
        kind for kind in kinds[1:] if kind.__module__.startswith("thea_store.") and not kind.model_config.get("frozen")
    ] == []


def test_a_name_that_is_not_exported_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        vars(thea_store)["__getattr__"]("Nothing")


def test_examples_and_documentation_take_from_inside_nothing_but_what_is_documented() -> None:
    checkout = Path(__file__).parents[1]
    public = ("thea_store.embedded", "thea_store.testing", "thea_store.migrator", "thea_store.telemetry")
    inside = {"adding-a-query.md", "architecture.md"}  # for those who work on the library itself
    files = [*checkout.glob("examples/**/*.py"), *checkout.glob("docs/*.md"), checkout / "README.md"]
    lines = [line for file in files if file.name not in inside for line in file.read_text().splitlines()]

    assert [line for line in lines if line.startswith("from thea_store.") and line.split()[1] not in public] == []


def _records() -> set[type[Record]]:
    found, left = set[type[Record]](), [Record]
    while left:
        left += (kinds := left.pop().__subclasses__())
        found.update(kinds)
    return found


def test_every_record_says_at_its_class_that_it_is_frozen() -> None:
    importlib.import_module("thea_store.store")
    trees = [ast.parse(path.read_text()) for path in Path(str(thea_store.__file__)).parent.rglob("*.py")]
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    frozen = {node.name for node in classes if any(keyword.arg == "frozen" for keyword in node.keywords)}
    ours = {kind for kind in _records() if kind.__module__.startswith("thea_store.") and "[" not in kind.__name__}

    assert len(ours) > 10
    assert {kind.__name__ for kind in ours} - frozen == set()
