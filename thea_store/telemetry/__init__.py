"""What a store tells of its work: of each call, of its pools, in logs, to Prometheus and to OpenTelemetry.

A call is named by its query (`notes.search`). No value is told, and no tenant becomes a metric's label.

`thea_store.telemetry.prometheus` and `thea_store.telemetry.otel` need the extras `prometheus` and `otel`. Nothing here
imports them, and while nobody listens, a call pays for two readings of the clock.
"""

from thea_store.telemetry.calls import Call, Observer
from thea_store.telemetry.logs import JsonFormatter
from thea_store.telemetry.pools import PoolFigures, PoolStatistics

__all__ = ["Call", "JsonFormatter", "Observer", "PoolFigures", "PoolStatistics"]
