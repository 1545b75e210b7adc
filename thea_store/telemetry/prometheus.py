"""The metrics of stores for Prometheus; needs the extra `prometheus`.

A metric has the name that OpenTelemetry's own translation gives it: `db.client.operation.duration`, in seconds, becomes
`db_client_operation_duration_seconds`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol
from weakref import WeakKeyDictionary

from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from thea_store.telemetry.calls import Observer
from thea_store.telemetry.measures import MEASURES, Histogram, Measure
from thea_store.telemetry.pools import BOUNDS, Durations
from thea_store.telemetry.statistics import Watched

__all__ = ["instrument"]


class _Observed(Protocol):
    """A store."""

    @property
    def observer(self) -> Observer: ...


def instrument(store: _Observed, registry: CollectorRegistry = REGISTRY) -> Callable[[], None]:
    """Show what this store does in the registry; what comes back ends that. A closed store is no longer shown.

    Several stores may share a registry: their calls are added up. The service itself serves the registry, for instance
    by `prometheus_client.start_http_server`, in each of its processes.
    """
    if registry not in _collectors:
        _collectors[registry] = _Collector()
        registry.register(_collectors[registry])
    return _collectors[registry].watched.add(store.observer)


class _Collector(Collector):
    """Makes the metrics of the counters when somebody asks, so that a call pays for the counting alone."""

    def __init__(self) -> None:
        self.watched = Watched()

    def describe(self) -> Iterator[Metric]:
        """The metrics without their figures, for the registry to find a name that two collectors have."""
        return described()

    def collect(self) -> Iterator[Metric]:
        """The metrics."""
        for measure in MEASURES:
            family = _family(measure)
            for attributes, value in measure.points(self.watched):
                labels = [attributes.get(name, "") for name in measure.attributes]
                if isinstance(value, Durations):
                    assert isinstance(family, HistogramMetricFamily)  # noqa: S101 - by its measure
                    family.add_metric(labels, _buckets(value), value.seconds)
                else:
                    assert not isinstance(family, HistogramMetricFamily)  # noqa: S101 - by its measure
                    family.add_metric(labels, value)
            yield family


def described() -> Iterator[Metric]:
    """The metrics without their figures."""
    for measure in MEASURES:
        yield _family(measure)


_collectors: WeakKeyDictionary[CollectorRegistry, _Collector] = WeakKeyDictionary()


def _family(measure: Measure | Histogram) -> HistogramMetricFamily | CounterMetricFamily | GaugeMetricFamily:
    labels = [name.replace(".", "_") for name in measure.attributes]
    name = measure.name.replace(".", "_")
    if isinstance(measure, Histogram):
        return HistogramMetricFamily(f"{name}_seconds", measure.description, labels=labels)
    if measure.kind == "counter":
        return CounterMetricFamily(name, measure.description, labels=labels)
    return GaugeMetricFamily(f"{name}_seconds" if measure.unit == "s" else name, measure.description, labels=labels)


def _buckets(durations: Durations) -> list[tuple[str, float]]:
    """The number of those up to each bound, as Prometheus has it."""
    found, total = list[tuple[str, float]](), 0
    for bound, number in zip([*map(str, BOUNDS), "+Inf"], list(durations.buckets), strict=True):
        total += number
        found.append((bound, total))
    return found
