"""What writers were told of each text, held against what is there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["Told", "Verdict", "judge"]


@dataclass
class Told:
    """What the writers were told of each text, and when."""

    done: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    at: list[tuple[float, float]] = field(default_factory=list)
    """When each write that was done began and ended."""
    longest: float = 0.0
    """Seconds that the longest call took, whatever its outcome."""


class Verdict(NamedTuple):
    """The texts of which a writer was told what is not so; all are empty where everything is well."""

    lost: list[str]
    """Acknowledged, and not there."""
    twice: list[str]
    """Written once by the writer, and there more than once."""
    wrong: list[str]
    """There, though the writer was told that nothing was written."""


def judge(told: Told, counted: Mapping[str, int]) -> Verdict:
    """What is wrong, given how often each text is there."""
    return Verdict(
        lost=sorted(told.done - counted.keys()),
        twice=sorted(text for text, count in counted.items() if count > 1),
        wrong=sorted(told.failed & counted.keys()),
    )
