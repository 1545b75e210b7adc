"""Spans and metrics of stores for OpenTelemetry; needs the extra `otel`.

Both follow the semantic conventions for databases (https://opentelemetry.io/docs/specs/semconv/db/). `error.type` is
the class of the library's error, and `db.response.status_code` the SQLSTATE, where the server gave one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol
from weakref import WeakKeyDictionary

from opentelemetry import metrics, trace
from opentelemetry.metrics import CallbackOptions, Meter, MeterProvider, Observation
from opentelemetry.trace import SpanKind, Status, StatusCode, TracerProvider

from thea_store.telemetry.calls import SERVERS, Call, Observer
from thea_store.telemetry.measures import ERROR, MEASURES, QUERY, SERVER, Attributes, Histogram, Measure
from thea_store.telemetry.pools import BOUNDS, Pool
from thea_store.telemetry.statistics import Watched

__all__ = ["instrument"]

_SYSTEM = {"db.system.name": "postgresql"}
_PORT = 5432
_DURATION = "db.client.operation.duration"


class _Observed(Protocol):
    """A store."""

    @property
    def observer(self) -> Observer: ...


def instrument(
    store: _Observed,
    *,
    tracer_provider: TracerProvider | None = None,
    meter_provider: MeterProvider | None = None,
    tenants: bool = False,
    histograms: bool = False,
) -> Callable[[], None]:
    """Make spans and metrics of what this store does, with the global providers unless others are given.

    What comes back ends that. `tenants` puts the tenant into each span as `thea_store.tenant`; it never gets into a
    metric. `histograms` records `db.client.operation.duration` as the histogram of the conventions, at each call;
    without it there are counters of the calls and of their seconds alone, which are read when somebody asks.
    """
    tracers = tracer_provider or trace.get_tracer_provider()
    meters = meter_provider or metrics.get_meter_provider()
    stops = [
        store.observer.listen(_Spans(tracers, store.observer, tenants=tenants)),
        _watched(meters).add(store.observer),
    ]
    if histograms:
        stops.append(store.observer.listen(_recorder(_meter(meters))))

    def stop() -> None:
        for each in stops:
            each()

    return stop


# --- spans --------------------------------------------------------------------------------------


class _Spans:
    """Makes a span of each call that has ended, unless its parent is not sampled."""

    def __init__(self, provider: TracerProvider, observer: Observer, *, tenants: bool) -> None:
        self._tracer = provider.get_tracer("thea_store")
        self._tenants = tenants
        self._places = {
            server: _place([pool for pool in observer.pools if pool.server == server]) for server in SERVERS
        }

    def __call__(self, call: Call) -> None:
        parent = trace.get_current_span().get_span_context()
        if parent.is_valid and not parent.trace_flags.sampled:
            return
        end = time.time_ns()
        attributes: dict[str, str | int] = {QUERY: call.query, **self._places[call.server]}
        if self._tenants:
            attributes["thea_store.tenant"] = call.tenant_id
        span = self._tracer.start_span(
            call.query, kind=SpanKind.CLIENT, attributes=attributes, start_time=end - round(call.seconds * 1e9)
        )
        if call.error is None:
            span.set_attribute("db.response.returned_rows", call.rows)
        else:
            span.set_attributes(_failure(call.error))
            span.set_status(Status(StatusCode.ERROR))
        if call.attempts > 1:
            span.set_attribute("thea_store.attempts", call.attempts)
        span.end(end)


def _place(pools: Sequence[Pool]) -> dict[str, str | int]:
    """Where calls of this kind of server go: as the settings say, so to any of several hosts."""
    found: dict[str, str | int] = {**_SYSTEM}
    hosts = [host for pool in pools for host in pool.address.hosts]
    if pools and (database := pools[0].address.database):
        found["db.namespace"] = database
    if hosts:
        found["server.address"] = ",".join(name for name, _ in hosts)
        ports = {port or _PORT for _, port in hosts}
        if len(ports) == 1 and ports != {_PORT}:
            found["server.port"] = ports.pop()
    return found


def _failure(error: BaseException) -> dict[str, str]:
    found = {ERROR: type(error).__name__}
    state = getattr(error.__cause__, "sqlstate", None)
    return found | {"db.response.status_code": state} if state else found


# --- metrics ------------------------------------------------------------------------------------

_all_watched: WeakKeyDictionary[MeterProvider, Watched] = WeakKeyDictionary()


def _meter(provider: MeterProvider) -> Meter:
    return provider.get_meter("thea_store")


def _watched(provider: MeterProvider) -> Watched:
    """The stores whose figures this provider reads; the first one makes the instruments."""
    if provider in _all_watched:
        return _all_watched[provider]
    watched = _all_watched[provider] = Watched()
    meter = _meter(provider)
    for measure in MEASURES:
        if isinstance(measure, Histogram):
            number, seconds = _of_histogram(measure, watched)
            meter.create_observable_counter(measure.number, [number], "{call}", measure.description)
            meter.create_observable_counter(measure.time, [seconds], "s", measure.description)
        elif measure.kind == "counter":
            meter.create_observable_counter(
                measure.name, [_of_measure(measure, watched)], measure.unit, measure.description
            )
        else:
            meter.create_observable_gauge(
                measure.name, [_of_measure(measure, watched)], measure.unit, measure.description
            )
    return watched


_Callback = Callable[[CallbackOptions], Iterator[Observation]]


def _of_measure(measure: Measure, watched: Watched) -> _Callback:
    def observed(_: CallbackOptions) -> Iterator[Observation]:
        for attributes, value in measure.points(watched):
            yield Observation(value, _SYSTEM | dict(attributes))

    return observed


def _of_histogram(histogram: Histogram, watched: Watched) -> tuple[_Callback, _Callback]:
    def number(_: CallbackOptions) -> Iterator[Observation]:
        for attributes, durations in histogram.points(watched):
            yield Observation(sum(durations.buckets), _SYSTEM | dict(attributes))

    def seconds(_: CallbackOptions) -> Iterator[Observation]:
        for attributes, durations in histogram.points(watched):
            yield Observation(durations.seconds, _SYSTEM | dict(attributes))

    return number, seconds


def _recorder(meter: Meter) -> Callable[[Call], None]:
    description = next(measure.description for measure in MEASURES if measure.name == _DURATION)
    histogram = meter.create_histogram(_DURATION, "s", description, explicit_bucket_boundaries_advisory=list(BOUNDS))

    def record(call: Call) -> None:
        attributes: Attributes = _SYSTEM | {QUERY: call.query, SERVER: call.server}
        if call.error is not None:
            attributes = {**attributes, ERROR: type(call.error).__name__}
        histogram.record(call.seconds, dict(attributes))

    return record
