"""Counts the messages that an import leaves out, and remembers where the first ones of each kind stand."""

from __future__ import annotations

from collections import Counter
from typing import NamedTuple

__all__ = ["Place", "Skipped"]

# So many messages are named of each kind, and so many kinds are told apart by the exporter's names.
_NAMED = 5
_KINDS = 50


class Place(NamedTuple):
    """Where a message stands, by ids alone; None for what the file does not tell."""

    chat_type: str | None
    chat_id: int | None
    message_id: int | None


class Skipped(Counter[str]):
    """How many messages were skipped, by the reason."""

    def __init__(self, counts: Counter[str] | dict[str, int] | None = None) -> None:
        super().__init__(counts or {})
        self.first: dict[str, list[Place]] = {}
        """The first few of each reason."""

    def add(self, reason: str, place: Place) -> None:
        """Count one more message."""
        if reason not in self and len(self) >= _KINDS:
            reason = reason.partition(":")[0]
        self[reason] += 1
        first = self.first.setdefault(reason, [])
        if len(first) < _NAMED:
            first.append(place)

    def clear(self) -> None:
        """Forget all."""
        super().clear()
        self.first.clear()

    def joined(self, other: Skipped) -> Skipped:
        """Both together, where no reason is in both."""
        both = Skipped({**self, **other})
        both.first = {**self.first, **other.first}
        return both
