"""What a pool of connections counts."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from thea_store.postgres.url import DatabaseUrl

__all__ = ["BOUNDS", "Durations", "Ended", "Pool", "PoolFigures", "PoolStatistics"]

BOUNDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds: the upper bounds of the buckets. The ones that OpenTelemetry recommends for databases are among them."""

Ended = Literal["recycled", "expired", "lost", "surplus", "cut short", "not settled", "closed"]
"""Why a connection ended: too old; replaced after a failover or a change of the schema; broken; more than the pool
holds; a call was cut short, so that its tenant is not certain; it did not answer afterwards; the store closes."""


class Durations:
    """How many things took how long."""

    __slots__ = ("buckets", "seconds")

    def __init__(self) -> None:
        self.buckets = [0] * (len(BOUNDS) + 1)
        self.seconds = 0.0

    def add(self, seconds: float) -> None:
        """Count one."""
        self.buckets[bisect_left(BOUNDS, seconds)] += 1
        self.seconds += seconds

    def plus(self, other: Durations) -> None:
        """Count those of another too."""
        self.buckets = [mine + theirs for mine, theirs in zip(self.buckets, other.buckets, strict=True)]
        self.seconds += other.seconds


@dataclass(frozen=True, slots=True)
class PoolFigures:
    """How many connections there are, how many of them are idle, and how many calls wait for one."""

    size: int
    idle: int
    waiting: int
    limit: int


@dataclass(slots=True)
class PoolStatistics:
    """What happened in a pool since it was made."""

    asked: int = 0
    """Calls of a tenant that asked for a connection."""
    found: int = 0
    """Those of them that got one which carried their tenant already."""
    at_once: int = 0
    """Connections that were idle and handed out at once, also those for no tenant."""
    waits: Durations = field(default_factory=Durations)
    """How long the others waited, also those that got none."""
    timeouts: int = 0
    """Calls that got none in time."""
    opening: Durations = field(default_factory=Durations)
    """How long it took to open each connection."""
    failures: Counter[str] = field(default_factory=Counter)
    """Connections that could not be opened, by the error's class."""
    ended: Counter[Ended] = field(default_factory=Counter)
    """Connections that ended, by the reason."""

    def plus(self, other: PoolStatistics) -> PoolStatistics:
        """Itself, with what another counted."""
        self.asked += other.asked
        self.found += other.found
        self.at_once += other.at_once
        self.timeouts += other.timeouts
        self.waits.plus(other.waits)
        self.opening.plus(other.opening)
        self.failures += other.failures
        self.ended += other.ended
        return self


class Pool(NamedTuple):
    """A pool as those who measure it see it."""

    address: DatabaseUrl
    server: Literal["primary", "replica"]
    figures: Callable[[], PoolFigures]
    statistics: PoolStatistics
    lag: Callable[[], float | None]
    """Seconds that a replica was behind when it was last looked at; `None` where that is not known."""

    @property
    def name(self) -> str:
        """The server's address, without login and password."""
        return str(self.address)
