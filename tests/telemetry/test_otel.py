"""What OpenTelemetry gets of a store, by its semantic conventions for databases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags, use_span

from thea_store import DuplicateError, Store
from thea_store.telemetry import otel


class Collected:
    """Providers that keep what they get."""

    def __init__(self) -> None:
        self.exporter, self._reader = InMemorySpanExporter(), InMemoryMetricReader()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.meters = MeterProvider(metric_readers=[self._reader])

    def spans(self) -> tuple[ReadableSpan, ...]:
        return self.exporter.get_finished_spans()

    def points(self, name: str) -> list[Any]:
        data = self._reader.get_metrics_data()
        metrics = [
            metric
            for resource in (data.resource_metrics if data else [])
            for scope in resource.scope_metrics
            for metric in scope.metrics
        ]
        return [point for metric in metrics if metric.name == name for point in metric.data.data_points]


@pytest.fixture
def collected() -> Iterator[Collected]:
    made = Collected()
    yield made
    made.tracers.shutdown()
    made.meters.shutdown()


@pytest.fixture
def instrumented(store: Store, collected: Collected) -> Iterator[Store]:
    stop = otel.instrument(store, tracer_provider=collected.tracers, meter_provider=collected.meters)
    yield store
    stop()


async def test_a_span_has_the_name_of_its_query_and_the_attributes_of_the_conventions(
    instrumented: Store, collected: Collected, tenant: str
) -> None:
    user = await instrumented.users.create(tenant, telegram_id=424242, first_name="hunter2")
    await instrumented.notes.search(tenant, user.id, "hunter2")

    span = collected.spans()[-1]
    assert (span.name, span.kind) == ("notes.search", SpanKind.CLIENT)
    attributes = dict(span.attributes or {})
    assert attributes["db.system.name"] == "postgresql"
    assert attributes["db.query.summary"] == "notes.search"
    assert attributes["db.response.returned_rows"] == 0
    assert {"db.namespace", "server.address"} <= attributes.keys()
    assert span.status.status_code is StatusCode.UNSET
    assert 0 < (span.end_time or 0) - (span.start_time or 0) < 60e9
    assert not any(word in span.to_json() for span in collected.spans() for word in (tenant, "hunter2", "424242"))


async def test_a_span_of_a_failed_call_says_how_it_failed(
    instrumented: Store, collected: Collected, tenant: str
) -> None:
    await instrumented.users.create(tenant, telegram_id=1)
    with pytest.raises(DuplicateError):
        await instrumented.users.create(tenant, telegram_id=1)

    span = collected.spans()[-1]
    attributes = dict(span.attributes or {})
    assert span.status.status_code is StatusCode.ERROR
    assert (attributes["error.type"], attributes["db.response.status_code"]) == ("DuplicateError", "23505")


async def test_spans_belong_to_the_callers_span(instrumented: Store, collected: Collected, tenant: str) -> None:
    with collected.tracers.get_tracer("service").start_as_current_span("request") as request:
        async with instrumented.transaction(tenant) as tx:
            await tx.users.count(tenant)

    names = [span.name for span in collected.spans()]
    assert names == ["begin", "users.count", "commit", "request"]
    parents = {span.parent.span_id for span in collected.spans() if span.parent}
    assert parents == {request.get_span_context().span_id}


async def test_a_call_whose_parent_is_not_sampled_makes_no_span(
    instrumented: Store, collected: Collected, tenant: str
) -> None:
    unsampled = SpanContext(1, 1, is_remote=True, trace_flags=TraceFlags(TraceFlags.DEFAULT))
    with use_span(NonRecordingSpan(unsampled)):
        await instrumented.users.count(tenant)

    assert collected.spans() == ()


async def test_the_tenant_is_in_a_span_where_that_is_asked_for_and_never_in_a_metric(
    store: Store, collected: Collected, tenant: str
) -> None:
    stop = otel.instrument(
        store, tracer_provider=collected.tracers, meter_provider=collected.meters, tenants=True, histograms=True
    )
    await store.users.count(tenant)
    stop()

    assert dict(collected.spans()[-1].attributes or {})["thea_store.tenant"] == tenant
    assert tenant not in str(collected._reader.get_metrics_data())


async def test_metrics_are_read_from_the_librarys_own_counters(
    instrumented: Store, collected: Collected, tenant: str
) -> None:
    for _ in range(3):
        await instrumented.users.count(tenant)
    [calls] = [
        point
        for point in collected.points("thea_store.operations")
        if point.attributes["db.query.summary"] == "users.count"
    ]

    assert calls.value == 3
    assert calls.attributes["db.system.name"] == "postgresql"
    states = {
        point.attributes["db.client.connection.state"] for point in collected.points("db.client.connection.count")
    }
    assert states == {"idle", "used"}
    assert all(point.value > 0 for point in collected.points("db.client.connection.max"))
    assert collected.points("db.client.operation.duration") == []


async def test_the_histogram_of_the_conventions_is_recorded_where_that_is_asked_for(
    store: Store, collected: Collected, tenant: str
) -> None:
    stop = otel.instrument(store, tracer_provider=collected.tracers, meter_provider=collected.meters, histograms=True)
    await store.users.create(tenant, telegram_id=1)
    with pytest.raises(DuplicateError):
        await store.users.create(tenant, telegram_id=1)
    stop()
    await store.users.count(tenant)

    points = collected.points("db.client.operation.duration")
    assert [(point.count, point.attributes.get("error.type")) for point in points] == [(1, None), (1, "DuplicateError")]
    # The bounds that the conventions recommend are among them.
    assert {0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5, 10} <= set(points[0].explicit_bounds)
