"""Writes docs/reference/plain.md: what the pages of the reference show, for readers who do not build the pages.

A code host shows a directive such as `::: thea_store.Store` as it stands. This page has the same names in the same
order, with their signatures and docstrings, read from the source without importing it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

import griffe

# griffe's Object or Alias: the second has what its target has.
Thing: TypeAlias = Any

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "reference"
PLAIN = PAGES / "plain.md"
# In the order of the built pages.
ORDER = [name for name in re.findall(r"reference/(\w+)\.md", (ROOT / "mkdocs.yml").read_text()) if name != PLAIN.stem]
LONGEST = 80
# What only the importer calls, as in mkdocs.yml.
HIDDEN = re.compile(r"_|import_many$|lock_sessions$|advance$|model_config$")
DIRECTIVE = re.compile(r"^::: ([\w.]+)\n((?:    .*\n)*)", re.MULTILINE)


def main() -> None:
    PLAIN.write_text(rendered())


def rendered() -> str:
    package = griffe.load("thea_store", search_paths=[ROOT])
    parts = [
        "# The reference as plain text",
        "Written by `make reference` from the source. On the built pages the same stands under *Reference*.",
    ]
    for page in ORDER:
        text = (PAGES / f"{page}.md").read_text()
        title, introduction = re.findall(r"^# (.*)\n\n((?:[^:\n].*\n)*)", text)[0]
        parts += [f"## {title}", introduction.strip()]
        for path, options in DIRECTIVE.findall(text):
            parts += described(package, path, options)
    text = "\n\n".join(part for part in parts if part) + "\n"
    return re.sub(r"^(- .*)\n\n(?=- )", r"\1\n", text, flags=re.MULTILINE)


def described(package: Thing, path: str, options: str) -> Iterator[str]:
    thing = package[path.partition(".")[2]]
    chosen = re.search(r"members: \[(.*)\]", options)
    names = [name.strip() for name in chosen[1].split(",")] if chosen else None
    yield heading(3, thing)
    yield docstring(thing)
    members = thing.members if "inherited_members: false" in options else thing.all_members
    for name, member in members.items():
        if name in names if names is not None else is_shown(thing, name, member):
            yield from part(member, 4)


def is_shown(thing: Thing, name: str, member: Thing) -> bool:
    foreign = thing.is_module and member.is_alias
    return not HIDDEN.match(name) and not foreign and (member.is_function or member.is_attribute or member.is_class)


def part(member: Thing, level: int) -> Iterator[str]:
    if member.is_attribute:
        kind = f": {member.annotation}" if member.annotation else ""
        yield f"- `{member.name}{kind}`" + (f": {' '.join(docstring(member).split())}" if docstring(member) else "")
        return
    yield heading(level, member)
    yield docstring(member)
    if member.is_class:
        for name, inner in member.members.items():
            if is_shown(member, name, inner):
                yield from part(inner, level + 1)


def heading(level: int, thing: Thing) -> str:
    title = f"{'#' * level} `{thing.path if thing.is_module else thing.name}`"
    if thing.is_function:
        shown = "async def" if "async" in thing.labels else "def"
        return f"{title}\n\n```text\n{shown} {thing.name}({arguments(thing)}) -> {thing.annotation}\n```"
    if thing.is_attribute:
        return f"{title}\n\n```text\n{thing.name} = {thing.value}\n```"
    return title


def arguments(function: Thing) -> str:
    shown, named_only, positional = list[str](), False, False
    for each in function.parameters:
        if each.name in {"self", "cls"}:
            continue
        if positional and each.kind is not griffe.ParameterKind.positional_only:
            shown.append("/")
        positional = each.kind is griffe.ParameterKind.positional_only
        if each.kind is griffe.ParameterKind.keyword_only and not named_only:
            shown.append("*")
            named_only = True
        stars = {griffe.ParameterKind.var_positional: "*", griffe.ParameterKind.var_keyword: "**"}.get(each.kind, "")
        named_only = named_only or stars == "*"
        default = f" = {each.default}" if each.default is not None and not stars else ""
        shown.append(f"{stars}{each.name}{f': {each.annotation}' if each.annotation else ''}{default}")
    inline = ", ".join([*shown, "/"] if positional else shown)
    return inline if len(inline) <= LONGEST else "\n    " + ",\n    ".join(shown) + ",\n"


def docstring(thing: Thing) -> str:
    return thing.docstring.value.strip() if thing.docstring else ""


if __name__ == "__main__":
    main()
