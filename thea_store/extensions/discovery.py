"""Which extensions there are: those that a call gives, those of the settings, and those that are installed."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from importlib.metadata import entry_points

from thea_store.errors import ExtensionError
from thea_store.extensions.extension import Extension

__all__ = ["ENTRY_POINTS", "discover"]

ENTRY_POINTS = "thea_store.extensions"
"""The group of entry points by which an installed distribution names its extensions."""


def discover(given: Iterable[Extension] = (), setting: str = "") -> tuple[Extension, ...]:
    """Each extension once, by name; `setting` is `DATABASE_EXTENSIONS`, as `package.module:NAME, …`.

    `ExtensionError` where one cannot be imported or is none, and where two different ones have the same name.
    """
    found: dict[str, Extension] = {}
    for origin, extension in (*_given(given), *_of_setting(setting), *_installed()):
        twin = found.setdefault(extension.name, extension)
        if twin is not extension:
            raise ExtensionError(f"{origin}: there are two extensions of the name {extension.name}: rename one of them")
    return tuple(found[name] for name in sorted(found))


def _given(extensions: Iterable[Extension]) -> Iterator[tuple[str, Extension]]:
    for extension in extensions:
        yield "extensions=", _checked("extensions=", extension)


def _of_setting(setting: str) -> Iterator[tuple[str, Extension]]:
    for place in filter(None, map(str.strip, setting.split(","))):
        origin = f"DATABASE_EXTENSIONS: {place}"
        module, colon, name = place.partition(":")
        if not colon or not name:
            raise ExtensionError(f"{origin} names no extension: write `package.module:NAME`")
        try:
            thing = importlib.import_module(module)
            for part in name.split("."):
                thing = getattr(thing, part)
        except (ImportError, AttributeError, ValueError) as error:
            raise ExtensionError(f"{origin} cannot be imported: {error}") from error
        yield origin, _checked(origin, thing)


def _installed() -> Iterator[tuple[str, Extension]]:
    for point in entry_points(group=ENTRY_POINTS):
        origin = f"the entry point {point.name} = {point.value}"
        try:
            thing = point.load()
        except (ImportError, AttributeError) as error:
            raise ExtensionError(f"{origin} cannot be imported: {error}; mend or uninstall its distribution") from error
        yield origin, _checked(origin, thing)


def _checked(origin: str, thing: object) -> Extension:
    if not isinstance(thing, Extension):
        raise ExtensionError(f"{origin} is no `thea_store.Extension`")
    return thing
