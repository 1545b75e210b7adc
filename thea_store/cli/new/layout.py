"""Python as formatters lay it out: long calls and definitions, and the imports of a module."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["body", "imports_of", "in_order", "wrapped"]

_WIDTH = 88
"""Of a line, as formatters have it by default."""


def wrapped(indent: str, head: str, parts: Sequence[str], tail: str) -> str:
    """A definition or a call in the form that formatters give it: on one line, on three, or a line for each part."""
    line = f"{indent}{head}{', '.join(parts)}{tail}"
    if len(line) <= _WIDTH:
        return line
    inner = f"{indent}    {', '.join(parts)}"
    if len(inner) > _WIDTH:
        inner = "\n".join(f"{indent}    {part}," for part in parts)
    return f"{indent}{head}\n{inner}\n{indent}{tail}"


def body(lines: Iterable[str]) -> str:
    """The lines of a class behind its docstring; empty where there are none."""
    text = "".join(f"\n    {line}" for line in lines)
    return text and f"\n{text}"


def imports_of(needs: set[str], own: str = "") -> str:
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
    line = f"from {module} import {', '.join(in_order(names))}"
    if len(line) <= _WIDTH and module != "thea_store":
        return line
    if module == "thea_store" and len(names) == 1:
        return line
    return f"from {module} import (\n" + "".join(f"    {name},\n" for name in in_order(names)) + ")"


def in_order(names: Iterable[str]) -> list[str]:
    """As isort has them: constants, classes, the rest."""
    return sorted(
        names, key=lambda name: (0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2, name)
    )
