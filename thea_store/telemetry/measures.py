"""The metrics, each with its name, its unit and where its figures come from: the same for every exporter.

Names and attributes are those of the OpenTelemetry semantic conventions for databases, where those have one
(https://opentelemetry.io/docs/specs/semconv/db/database-metrics/); the others begin with `thea_store.`. No attribute is
a tenant or a value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Literal, NamedTuple, TypeAlias, get_args

from thea_store.telemetry.pools import Durations, Ended, PoolStatistics
from thea_store.telemetry.statistics import Watched

__all__ = ["ERROR", "MEASURES", "POOL", "QUERY", "SERVER", "Attributes", "Histogram", "Measure"]

QUERY, ERROR = "db.query.summary", "error.type"
POOL, STATE = "db.client.connection.pool.name", "db.client.connection.state"
SERVER, REASON = "thea_store.server", "thea_store.reason"

Attributes: TypeAlias = Mapping[str, str]


class Measure(NamedTuple):
    """A counter, or a figure of now."""

    name: str
    unit: str
    kind: Literal["counter", "gauge"]
    description: str
    attributes: tuple[str, ...]
    """Those that a point may have."""
    points: Callable[[Watched], Iterable[tuple[Attributes, float]]]


class Histogram(NamedTuple):
    """How many things took how long."""

    name: str
    description: str
    attributes: tuple[str, ...]
    points: Callable[[Watched], Iterable[tuple[Attributes, Durations]]]
    number: str
    """The name of a counter of how many there were, for an exporter that has no histograms."""
    time: str
    """The name of a counter of their seconds, likewise."""


_Points: TypeAlias = Callable[[Watched], Iterator[tuple[Attributes, float]]]

# --- calls --------------------------------------------------------------------------------------


def _durations(watched: Watched) -> Iterator[tuple[Attributes, Durations]]:
    for outcome, series in watched.series().items():
        attributes = {QUERY: outcome.query, SERVER: outcome.server}
        yield (attributes | {ERROR: outcome.error} if outcome.error else attributes), series.durations


def _rows(watched: Watched) -> Iterator[tuple[Attributes, float]]:
    for outcome, series in watched.series().items():
        if not outcome.error:
            yield {QUERY: outcome.query, SERVER: outcome.server}, series.rows


def _retries(watched: Watched) -> Iterator[tuple[Attributes, float]]:
    for query, number in watched.retries().items():
        yield {QUERY: query}, number


def _unknown(watched: Watched) -> Iterator[tuple[Attributes, float]]:
    for outcome, series in watched.series().items():
        if outcome.error == "OutcomeUnknownError":
            yield {QUERY: outcome.query}, sum(series.durations.buckets)


def _refused(watched: Watched) -> Iterator[tuple[Attributes, float]]:
    numbers: dict[str, int] = {}
    for outcome, series in watched.series().items():
        if series.refused:
            numbers[outcome.error] = numbers.get(outcome.error, 0) + sum(series.durations.buckets)
    for error, number in numbers.items():
        yield {ERROR: error}, number


# --- pools --------------------------------------------------------------------------------------


def _of_open(
    figure: Callable[[Watched], Iterator[tuple[str, str, str | None, float]]],
) -> _Points:
    """Added up where several stores of the process have a pool on the same server."""

    def points(watched: Watched) -> Iterator[tuple[Attributes, float]]:
        found: dict[tuple[str, str, str | None], float] = {}
        for name, server, state, number in figure(watched):
            found[name, server, state] = found.get((name, server, state), 0) + number
        for (name, server, state), number in found.items():
            attributes = {POOL: name, SERVER: server}
            yield (attributes | {STATE: state} if state else attributes), number

    return points


@_of_open
def _connections(watched: Watched) -> Iterator[tuple[str, str, str | None, float]]:
    for pool in watched.open_pools():
        figures = pool.figures()
        yield pool.name, pool.server, "idle", figures.idle
        yield pool.name, pool.server, "used", figures.size - figures.idle


@_of_open
def _limits(watched: Watched) -> Iterator[tuple[str, str, str | None, float]]:
    for pool in watched.open_pools():
        yield pool.name, pool.server, None, pool.figures().limit


@_of_open
def _pending(watched: Watched) -> Iterator[tuple[str, str, str | None, float]]:
    for pool in watched.open_pools():
        yield pool.name, pool.server, None, pool.figures().waiting


def _lags(watched: Watched) -> Iterator[tuple[Attributes, float]]:
    # Of several stores with the same replica, each measured it; the longest lag is told.
    found: dict[str, float] = {}
    for pool in watched.open_pools():
        if (lag := pool.lag()) is not None:
            found[pool.name] = max(lag, found.get(pool.name, 0.0))
    for name, lag in found.items():
        yield {POOL: name}, lag


def _counted(number: Callable[[PoolStatistics], float]) -> _Points:
    def points(watched: Watched) -> Iterator[tuple[Attributes, float]]:
        for (name, server), statistics in watched.pools().items():
            yield {POOL: name, SERVER: server}, number(statistics)

    return points


def _counted_by(attribute: str, numbers: Callable[[PoolStatistics], Iterable[tuple[str, int]]]) -> _Points:
    def points(watched: Watched) -> Iterator[tuple[Attributes, float]]:
        for (name, server), statistics in watched.pools().items():
            for why, number in numbers(statistics):
                yield {POOL: name, SERVER: server, attribute: why}, number

    return points


def _reasons(statistics: PoolStatistics) -> Iterator[tuple[str, int]]:
    """All of them from the start: a counter that appears with its first event has no increase then, so no alert."""
    for reason in get_args(Ended):
        yield reason, statistics.ended[reason]


def _waits(watched: Watched) -> Iterator[tuple[Attributes, Durations]]:
    for (name, server), statistics in watched.pools().items():
        statistics.waits.buckets[0] += statistics.at_once  # a copy: `pools` adds up anew at each call
        yield {POOL: name, SERVER: server}, statistics.waits


def _opening(watched: Watched) -> Iterator[tuple[Attributes, Durations]]:
    for (name, server), statistics in watched.pools().items():
        yield {POOL: name, SERVER: server}, statistics.opening


_POOL = (POOL, SERVER)

MEASURES: tuple[Measure | Histogram, ...] = (
    Histogram(
        "db.client.operation.duration",
        "Duration of calls: waiting for a connection, the server's answer, and what was tried again.",
        (QUERY, SERVER, ERROR),
        _durations,
        "thea_store.operations",
        "thea_store.operation.time",
    ),
    Measure("thea_store.rows", "{row}", "counter", "Rows that the server returned.", (QUERY, SERVER), _rows),
    Measure(
        "thea_store.retries", "{retry}", "counter", "Calls and transactions that were tried again.", (QUERY,), _retries
    ),
    Measure(
        "thea_store.outcomes.unknown",
        "{call}",
        "counter",
        "Writes and commits of which nobody knows whether they were done.",
        (QUERY,),
        _unknown,
    ),
    Measure(
        "thea_store.refused",
        "{call}",
        "counter",
        "Calls that were declined, without having been begun.",
        (ERROR,),
        _refused,
    ),
    Measure(
        "db.client.connection.count", "{connection}", "gauge", "Connections by state.", (*_POOL, STATE), _connections
    ),
    Measure("db.client.connection.max", "{connection}", "gauge", "The most connections there may be.", _POOL, _limits),
    Measure(
        "db.client.connection.pending_requests",
        "{request}",
        "gauge",
        "Calls that wait for a connection.",
        _POOL,
        _pending,
    ),
    Measure(
        "db.client.connection.timeouts",
        "{timeout}",
        "counter",
        "Calls that got no connection in time.",
        _POOL,
        _counted(lambda statistics: statistics.timeouts),
    ),
    Histogram(
        "db.client.connection.wait_time",
        "How long a call waited for a connection.",
        _POOL,
        _waits,
        "thea_store.connection.waits",
        "thea_store.connection.wait_time",
    ),
    Histogram(
        "db.client.connection.create_time",
        "How long it took to open a connection.",
        _POOL,
        _opening,
        "thea_store.connections.opened",
        "thea_store.connection.create_time",
    ),
    Measure(
        "thea_store.connections.failed",
        "{connection}",
        "counter",
        "Connections that could not be opened.",
        (*_POOL, ERROR),
        _counted_by(ERROR, lambda statistics: statistics.failures.items()),
    ),
    Measure(
        "thea_store.connections.ended",
        "{connection}",
        "counter",
        "Connections that ended, by the reason.",
        (*_POOL, REASON),
        _counted_by(REASON, _reasons),
    ),
    Measure(
        "thea_store.tenant_connection.asked",
        "{call}",
        "counter",
        "Calls of a tenant that got a connection.",
        _POOL,
        _counted(lambda statistics: statistics.asked),
    ),
    Measure(
        "thea_store.tenant_connection.found",
        "{call}",
        "counter",
        "Those of them whose connection carried their tenant already.",
        _POOL,
        _counted(lambda statistics: statistics.found),
    ),
    Measure(
        "thea_store.replica.lag", "s", "gauge", "Seconds that a replica is behind, as last measured.", (POOL,), _lags
    ),
)
