"""What the migrations make, for `doctor`: thea_store/admin/doctor/manifest.json, written by running this file.

An argument names the directory of another server's programs. The functions that servers mark as leakproof differ
between versions, so those of each server that this was run on are kept.
"""

from __future__ import annotations

import asyncio
import json
import sys

from thea_store.admin.doctor.manifest import FILE, leakproof, objects
from thea_store.embedded import EmbeddedPostgres
from thea_store.migrator import migrate
from thea_store.postgres.operator import connect, read_only
from thea_store.postgres.url import DatabaseUrl


def manifest(url: str) -> str:
    """The file's text, by the word of a database with the shipped migrations."""
    with connect(DatabaseUrl.parse(url)) as connection, read_only(connection):

        def ask(query):  # type: ignore[no-untyped-def]
            return connection.execute(query).fetchall()

        kinds: dict[str, dict[str, dict[str, str]]] = {}
        for (kind, table, name), definition in sorted(objects(ask).items()):
            kinds.setdefault(kind, {}).setdefault(table, {})[name] = definition
        known = set(json.loads(FILE.read_text(encoding="utf-8"))["leakproof"]) if FILE.exists() else set()
        content = {"objects": kinds, "leakproof": sorted(known | leakproof(ask))}
        return json.dumps(content, ensure_ascii=False, indent=1) + "\n"


async def main(bin_dir: str | None) -> None:
    """Write the file by the word of an embedded server."""
    async with EmbeddedPostgres(bin_dir=bin_dir) as server:
        await asyncio.to_thread(migrate, server.migrator_url)
        text = await asyncio.to_thread(manifest, server.migrator_url)
    FILE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if sys.argv[1:] else None))
