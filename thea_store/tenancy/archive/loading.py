"""Sends rows to the database that they are brought into, batch after batch, and keeps count of what became of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, LiteralString

from psycopg import Connection
from psycopg.types.json import Jsonb

from thea_store.tenancy.archive.file import batches
from thea_store.tenancy.archive.session import Progress, transaction
from thea_store.tenancy.archive.tables import Table

__all__ = ["Loader", "Tally"]

# How many ids of rows that did not come in are told.
_SHOWN = 20


@dataclass(slots=True)
class Tally:
    """What became of the rows of one table."""

    loaded: int = 0
    present: int = 0
    """Were here already, and are the same."""
    differing: list[int] = field(default_factory=list)
    """The ids of those that are here already and differ: they were left as they are."""
    matched: dict[int, int] = field(default_factory=dict)
    """The ids of those whose key a row here has under another id: that row stands for them."""
    left_out: list[int] = field(default_factory=list)
    """The ids of those that refer to a row which is not here, or that a key keeps out."""

    @property
    def seen(self) -> int:
        """How many rows there were to bring in."""
        return self.loaded + self.present + len(self.differing) + len(self.matched) + len(self.left_out)

    def as_json(self) -> dict[str, Any]:
        """The counts, and the first ids of what did not come in."""
        return {
            "loaded": self.loaded,
            "present": self.present,
            "differing": len(self.differing),
            "matched": len(self.matched),
            "left_out": len(self.left_out),
            "differing_ids": self.differing[:_SHOWN],
            "left_out_ids": self.left_out[:_SHOWN],
        }


@dataclass(slots=True)
class Loader:
    """Brings rows in, each batch in a transaction of its own, so that what is done is kept when it is stopped."""

    connection: Connection[Any]
    tenant_id: str
    actor: str
    statement: LiteralString
    """Brings one batch in: its parameters are those in `arguments`, and `table`, `rows` and `ids`."""
    arguments: Mapping[str, Any]
    given: Mapping[str, Any] | None
    """How the rows' ids become those here; `None` where both are the same and computed columns are kept."""
    tallies: dict[str, Tally] = field(default_factory=dict)

    def load(self, table: Table, lines: Callable[[], Iterable[bytes]], on_progress: Progress) -> None:
        """Bring all rows of a table in; `lines` gives them, and again where rows hang on others of this table."""
        waiting: int | None = None
        while True:
            tally = self.tallies.get(table.name, Tally())
            # What an earlier pass loaded is present in the next.
            tally = self.tallies[table.name] = Tally(loaded=tally.loaded, present=-tally.loaded)
            orphans: list[int] = []
            for rows in batches(lines()):
                orphans += self._send(table, rows, tally)
                if waiting is None:
                    on_progress(table.name, len(rows))
            if not orphans or not table.refers_to_itself or len(orphans) == waiting:
                tally.left_out += orphans
                return
            waiting = len(orphans)

    def _send(self, table: Table, rows: Sequence[bytes], tally: Tally) -> list[int]:
        """Bring rows in; the ids of those that refer to a row which is not here come back."""
        ids = self._ids(rows)
        arguments = {
            **self.arguments,
            "tenant": self.tenant_id,
            "table": table.name,
            "rows": (b"[" + b",".join(rows) + b"]").decode(),
            "ids": None if ids is None else Jsonb(ids),
        }
        with transaction(self.connection, self.tenant_id, actor=self.actor):
            [(found,)] = self.connection.execute(self.statement, arguments).fetchall()
        tally.loaded += found["loaded"]
        if table.is_log:
            tally.present += len(rows) - found["loaded"]
            return []
        tally.present += found["present"]
        tally.differing += found["differing"]
        tally.matched |= {int(archived): id_ for archived, id_ in found["matched"].items()}
        tally.left_out += found["refused"]
        return list(found["orphaned"])

    def _ids(self, rows: Sequence[bytes]) -> Mapping[str, Any] | None:
        """What a batch must know of ids: of rows that are here under another id, those that it may refer to."""
        matched = {name: tally.matched for name, tally in self.tallies.items() if tally.matched}
        if not matched:
            return self.given
        numbers = {number for row in rows for number in _numbers(json.loads(row))}
        known = {name: {str(id_): ids[id_] for id_ in numbers & ids.keys()} for name, ids in matched.items()}
        return {**(self.given or {}), "matched": known}


def _numbers(value: object) -> Iterator[int]:
    """Every whole number of a row and of the objects in it, one of which may be a reference."""
    if isinstance(value, int) and not isinstance(value, bool):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _numbers(each)
