"""What the calls and the pools of one or several stores add up to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import NamedTuple

from thea_store.telemetry.calls import Call, Observer, Server
from thea_store.telemetry.pools import Durations, Pool, PoolStatistics

__all__ = ["Outcome", "Series", "Watched"]


class Outcome(NamedTuple):
    """What is counted together: a query, on a kind of server, with how it ended. There are only so many of them."""

    query: str
    server: Server
    error: str
    """The class of the error; empty where it went well."""


class Series:
    """The calls of one outcome."""

    __slots__ = ("durations", "refused", "rows")

    def __init__(self, *, refused: bool) -> None:
        self.durations, self.rows = Durations(), 0
        self.refused = refused
        """Whether the library or the server declined the work, without having begun it."""


class Watched:
    """The stores that one exporter tells of. Its figures may be read from another thread."""

    def __init__(self) -> None:
        # By an outcome as a plain tuple, which takes a call a third of the time to make.
        self._series: dict[tuple[str, Server, str], Series] = {}
        self._observers: list[Observer] = []
        self._stops: dict[Observer, Callable[[], None]] = {}
        # What stores counted that are closed by now: a counter never goes back.
        self._retries: Counter[str] = Counter()
        self._pools: dict[tuple[str, Server], PoolStatistics] = {}

    def add(self, observer: Observer) -> Callable[[], None]:
        """Tell of this store too, once however often it is asked for; what comes back ends that."""
        if observer in self._stops:
            return self._stops[observer]
        self._observers.append(observer)
        stop = observer.listen(self.count)

        def remove() -> None:
            stop()
            if observer in self._observers:
                self._retire(observer)

        self._stops[observer] = remove
        return remove

    def count(self, call: Call) -> None:
        """Count a call that has ended."""
        error = call.error
        outcome = (call.query, call.server, "" if error is None else type(error).__name__)
        series = self._series.get(outcome)
        if series is None:
            series = self._series[outcome] = Series(refused=getattr(error, "refused", False))
        series.durations.add(call.seconds)
        series.rows += call.rows

    def series(self) -> Mapping[Outcome, Series]:
        """The calls, by what is counted together."""
        return {Outcome(*outcome): series for outcome, series in self._series.copy().items()}

    def retries(self) -> Counter[str]:
        """How often something was tried again, by the query's name."""
        self._retire_closed()
        return sum([observer.retries for observer in self._observers], self._retries.copy())

    def open_pools(self) -> list[Pool]:
        """The pools of the stores that are open."""
        self._retire_closed()
        return [pool for observer in self._observers for pool in observer.pools]

    def pools(self) -> dict[tuple[str, Server], PoolStatistics]:
        """What happened in the pools, those of closed stores included, by place and kind of server."""
        found = {place: PoolStatistics().plus(statistics) for place, statistics in self._pools.copy().items()}
        for pool in self.open_pools():
            found[pool.name, pool.server] = found.get((pool.name, pool.server), PoolStatistics()).plus(pool.statistics)
        return found

    def _retire_closed(self) -> None:
        for observer in [each for each in self._observers if each.closed]:
            self._retire(observer)

    def _retire(self, observer: Observer) -> None:
        self._observers.remove(observer)
        del self._stops[observer]
        self._retries += observer.retries
        for pool in observer.pools:
            kept = self._pools.setdefault((pool.name, pool.server), PoolStatistics())
            kept.plus(pool.statistics)
