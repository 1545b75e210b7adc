"""What came of a proof."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

__all__ = ["Fault", "Report", "Subject"]

Subject = Literal["query", "table", "function", "view", "proof"]


@dataclass(frozen=True, slots=True)
class Fault:
    """A place where tenants are not kept apart, or where that could not be shown."""

    subject: Subject
    name: str
    rule: str
    """Which of the rules it breaks, in a word or two."""
    found: str
    """What was found, with `file:line` where there is one, and what to do."""


@dataclass(frozen=True, slots=True)
class Report:
    """What was proven, and what was not; `faults` is empty where all is isolated."""

    extensions: tuple[str, ...]
    queries: int
    tables: int
    calls: int
    """How often a query was run with a lock taken away."""
    attacks: int
    """How many statements of an attacker were tried."""
    controls: int
    """How many of these proofs were shown to fail where their subject is broken on purpose."""
    faults: tuple[Fault, ...] = field(default=())
    unshown: tuple[str, ...] = field(default=())
    """Queries that reach nobody else without both locks either: for the rows of this proof, or for any."""

    @property
    def is_isolated(self) -> bool:
        """Whether nothing was found."""
        return not self.faults

    def as_json(self) -> dict[str, Any]:
        """The report for a machine."""
        return asdict(self) | {"is_isolated": self.is_isolated}

    def sentences(self) -> Iterable[str]:
        """A sentence for each fault."""
        return (f"{fault.subject} {fault.name}: {fault.rule}: {fault.found}" for fault in self.faults)
