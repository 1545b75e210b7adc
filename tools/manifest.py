"""What a release promised to its processes: `released/<version>.json`, written by running this file.

Processes of that release go on working beside newer ones for as long as every query of it still fits the newest
schema, which tests/released/test_released_queries.py looks after.

The file of the version in thea_store/__init__.py says what the checkout does, and is written anew with every
change of a query or migration; once CHANGELOG.md has that version, it is never changed again.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from thea_store import __version__
from thea_store.admin.manifest import Manifest, manifest_of
from thea_store.embedded import EmbeddedPostgres
from thea_store.migrator import available, migrate
from thea_store.store import SQL_FILES

ROOT = Path(__file__).parents[1]
RELEASED = ROOT / "released"
CHANGELOG = ROOT / "CHANGELOG.md"


def of_this_checkout(url: str) -> Manifest:
    """What the code promises, by the word of a server that has its migrations."""
    return manifest_of(url, SQL_FILES, available(), __version__)


def write(manifest: Manifest, directory: Path = RELEASED, changelog: Path = CHANGELOG) -> Path:
    """Write the manifest, unless it would change one that is released: then `ValueError`."""
    path = directory / f"{manifest.version}.json"
    text = manifest.as_text()
    if path.exists() and path.read_text() != text and manifest.version in out(changelog):
        raise ValueError(f"{path.name} is released, and so never changed: set the next __version__ first")
    path.write_text(text)
    return path


# --- reading ------------------------------------------------------------------------------------


def known(directory: Path = RELEASED) -> list[Manifest]:
    """Every manifest there is."""
    return [Manifest.model_validate_json(path.read_text()) for path in sorted(directory.glob("*.json"))]


def out(changelog: Path = CHANGELOG) -> set[str]:
    """The versions that are out."""
    return set(re.findall(r"^## \[(\d+\.\d+\.\d+)\]", changelog.read_text(), re.MULTILINE))


def number(version: str) -> tuple[int, int, int]:
    major, minor, patch = map(int, version.split("."))
    return major, minor, patch


def still_served(versions: Iterable[str], current: str) -> list[str]:
    """The versions whose processes may run beside this one: those of its own line, and the last before it.

    A line is a major version; before 1.0 a minor one, as in Semantic Versioning.
    """

    def line(version: str) -> tuple[int, ...]:
        major, minor, _ = number(version)
        return (major,) if major else (major, minor)

    earlier = sorted((version for version in versions if number(version) < number(current)), key=number)
    return [version for version in earlier if line(version) == line(current) or version == earlier[-1]]


# --- the command --------------------------------------------------------------------------------


async def main() -> Path:
    """Write the manifest of this checkout, by the word of an embedded server."""
    async with EmbeddedPostgres() as server:
        await asyncio.to_thread(migrate, server.migrator_url)
        return write(await asyncio.to_thread(of_this_checkout, server.app_url))


if __name__ == "__main__":
    try:
        sys.stdout.write(f"{asyncio.run(main()).relative_to(ROOT)} says what this checkout does\n")
    except ValueError as error:
        sys.exit(str(error))
