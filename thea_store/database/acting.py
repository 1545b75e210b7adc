"""On whose behalf calls are made: the actor and the request of a block, for the audit log.

They are kept in a context variable, so they belong to the task that entered the block, and to the tasks that it begins
there. Each store has its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NamedTuple

from thea_store.queries.arguments import Key, check

__all__ = ["UNSAID", "Acting", "acting", "who_acts"]


class Acting(NamedTuple):
    """Who acts, and in which request; `None` where that is not said."""

    actor: str | None = None
    request_id: str | None = None

    @property
    def settings(self) -> dict[str, str]:
        """The settings in which the audit log's trigger finds what is said; empty where nothing is."""
        said = {"app.actor": self.actor, "app.request_id": self.request_id}
        return {name: value for name, value in said.items() if value is not None}


UNSAID = Acting()

# The blocks round this task, the innermost last, each with the database whose calls it is about.
_around: ContextVar[tuple[tuple[object, Acting], ...]] = ContextVar("thea_store_acting", default=())


@contextmanager
def acting(database: object, actor: str | None, request_id: str | None) -> Iterator[None]:
    """Let calls of this database be made by this actor; what is not given here is as outside of the block."""
    check("actor", actor, Key | None)
    check("request_id", request_id, Key | None)
    before = _around.get()
    _around.set((*before, (database, who_acts(database, actor, request_id))))
    try:
        yield
    finally:
        _around.set(before)


def who_acts(database: object, actor: str | None = None, request_id: str | None = None) -> Acting:
    """Who acts here: what is given, and where it is not, what the innermost block of this database says."""
    outside = next((said for of, said in reversed(_around.get()) if of is database), UNSAID)
    return Acting(outside.actor if actor is None else actor, outside.request_id if request_id is None else request_id)
