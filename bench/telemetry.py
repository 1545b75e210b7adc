"""What telemetry adds to a call of one row.

    python bench/telemetry.py [calls]

What a call does for those who listen is timed alone, a hundred at a time, and the quickest hundred counts: on a busy
machine the difference between two whole calls is noise. Beside it stands what a call takes.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Annotated, Any

import typer
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, use_span
from options import Smoke
from prometheus_client import CollectorRegistry

from thea_store import Settings, Store
from thea_store.assistant.users import Users
from thea_store.telemetry import otel, prometheus

CALLS = 100
GET_BY_ID = Users.common.get_by_id
UNSAMPLED = SpanContext(1, 1, is_remote=True, trace_flags=TraceFlags(TraceFlags.DEFAULT))


def kinds(store: Store) -> dict[str, tuple[Callable[[], Callable[[], None]], Any]]:
    """Each kind's beginning, and what its calls run in."""
    registry = CollectorRegistry()
    meters = MeterProvider(metric_readers=[InMemoryMetricReader()])
    tracers = TracerProvider()
    tracers.add_span_processor(SpanProcessor())  # exports nothing: how spans are exported has a price of its own

    def traced(*, histograms: bool = False) -> Callable[[], Callable[[], None]]:
        return lambda: otel.instrument(store, tracer_provider=tracers, meter_provider=meters, histograms=histograms)

    return {
        "nobody listens": (lambda: lambda: None, nullcontext),
        "a callback": (lambda: store.on_call(lambda _: None), nullcontext),
        "Prometheus": (lambda: prometheus.instrument(store, registry), nullcontext),
        "OpenTelemetry, not sampled": (traced(), lambda: use_span(NonRecordingSpan(UNSAMPLED))),
        "OpenTelemetry, recorded": (traced(), nullcontext),
        "the same, with histograms": (traced(histograms=True), nullcontext),
    }


async def measure(turns: int) -> None:
    """Measure, and print."""
    async with Store.open(Settings(url="embedded:", pool_size=1, max_overflow=0)) as store:
        user = await store.users.create("acme", telegram_id=1)
        took: list[float] = []
        for _ in range(turns):
            started = time.perf_counter()
            await store.users.get_by_id("acme", user.id)
            took.append((time.perf_counter() - started) * 1e6)
        call = statistics.median(took)
        print(f"a call takes {call:.0f} µs in the median, {min(took):.0f} µs at the quickest")
        gc.disable()
        prices: dict[str, float] = {}
        for kind, (begin, within) in (every := kinds(store)).items():
            prices[kind] = min(observed(store, begin, within) for _ in range(turns // 10))
            gc.collect()
        for kind in every:
            print(f"{kind:<28} {prices[kind]:6.2f} µs, {prices[kind] / call:.1%} of a call")


def observed(store: Store, begin: Callable[[], Callable[[], None]], within: Callable[[], Any]) -> float:
    """Microseconds of what a call does for those who listen, without the call."""
    stop = begin()
    with within():
        started = time.perf_counter()
        for _ in range(CALLS):
            with store.observer.watch(GET_BY_ID.name, "acme", GET_BY_ID) as call:
                call.rows = 1
        took = time.perf_counter() - started
    stop()
    return took / CALLS * 1e6


def main(calls: Annotated[int, typer.Argument(min=1)] = 2000, *, smoke: Smoke = False) -> None:
    """What telemetry adds to a call of one row."""
    asyncio.run(measure(10 if smoke else calls))


if __name__ == "__main__":
    typer.run(main)
