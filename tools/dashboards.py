"""Writes the dashboard of deploy/observability/grafana/: built by code, so that a panel is one line here.

    python tools/dashboards.py

The test of the dashboard asks a real Prometheus for each panel's expression.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from grafana_foundation_sdk.builders import dashboard, prometheus, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef

DASHBOARD = Path(__file__).resolve().parents[1] / "deploy/observability/grafana/dashboards/thea-store.json"
SOURCE = DataSourceRef(type_val="prometheus", uid="prometheus")

CALLS = "db_client_operation_duration_seconds"
WAITS = "db_client_connection_wait_time_seconds"
OWN = "thea_store_tenant_connection"
POOL = "db_client_connection_pool_name"


class Shown(NamedTuple):
    """A panel: its title, what it tells, the unit, and the expressions with their legends."""

    title: str
    tells: str
    unit: str
    expressions: Sequence[tuple[str, str]]


ROWS: dict[str, list[Shown]] = {
    "Calls": [
        Shown(
            "Calls by query",
            "How often each query is called.",
            "reqps",
            [(f"sum by (db_query_summary) (rate({CALLS}_count[5m]))", "{{db_query_summary}}")],
        ),
        Shown(
            "Slowest queries",
            "95 of 100 calls of a query take no longer than this, the wait for a connection included.",
            "s",
            [
                (
                    f"topk(10, histogram_quantile(0.95, sum by (le, db_query_summary) (rate({CALLS}_bucket[5m]))))",
                    "{{db_query_summary}}",
                )
            ],
        ),
        Shown(
            "Time by query",
            "Which queries take the service's time: seconds of all calls in each second.",
            "percentunit",
            [(f"topk(10, sum by (db_query_summary) (rate({CALLS}_sum[5m])))", "{{db_query_summary}}")],
        ),
        Shown(
            "Failed calls",
            "Calls that ended in an error, by its class.",
            "reqps",
            [(f'sum by (error_type) (rate({CALLS}_count{{error_type!=""}}[5m]))', "{{error_type}}")],
        ),
        Shown(
            "Tried again, refused, unknown",
            "Calls that were tried again; work that was declined; writes of which nobody knows whether they were done.",
            "reqps",
            [
                ("sum(rate(thea_store_retries_total[5m]))", "tried again"),
                ("sum(rate(thea_store_refused_total[5m]))", "refused"),
                ("sum(rate(thea_store_outcomes_unknown_total[5m]))", "outcome unknown"),
            ],
        ),
        Shown(
            "Rows",
            "Rows that the server returned.",
            "rowsps",
            [("sum by (db_query_summary) (rate(thea_store_rows_total[5m]))", "{{db_query_summary}}")],
        ),
    ],
    "Connections": [
        Shown(
            "Connections",
            "Those of each pool by state, and the most that there may be.",
            "short",
            [
                (
                    f"sum by ({POOL}, db_client_connection_state) (db_client_connection_count)",
                    "{{db_client_connection_pool_name}} {{db_client_connection_state}}",
                ),
                (f"sum by ({POOL}) (db_client_connection_max)", "{{db_client_connection_pool_name}} limit"),
            ],
        ),
        Shown(
            "Calls that wait",
            "Calls in line for a connection, and those that got none in time.",
            "short",
            [
                (f"sum by ({POOL}) (db_client_connection_pending_requests)", "{{db_client_connection_pool_name}}"),
                (
                    f"sum by ({POOL}) (increase(db_client_connection_timeouts_total[5m]))",
                    "{{db_client_connection_pool_name}} timeouts",
                ),
            ],
        ),
        Shown(
            "Wait for a connection",
            "95 of 100 calls wait no longer than this.",
            "s",
            [
                (
                    f"histogram_quantile(0.95, sum by (le, {POOL}) (rate({WAITS}_bucket[5m])))",
                    "{{db_client_connection_pool_name}}",
                )
            ],
        ),
        Shown(
            "Tenant's own connection",
            "The share of calls that found a connection which carried their tenant already: they take one round trip.",
            "percentunit",
            [
                (
                    f"sum by ({POOL}) (rate({OWN}_found_total[5m])) / sum by ({POOL}) (rate({OWN}_asked_total[5m]))",
                    "{{db_client_connection_pool_name}}",
                )
            ],
        ),
        Shown(
            "Connections that ended",
            "By the reason: `expired` after a failover, `lost` by the network or the server.",
            "cps",
            [("sum by (thea_store_reason) (rate(thea_store_connections_ended_total[5m]))", "{{thea_store_reason}}")],
        ),
        Shown(
            "Connections opened, and not",
            "How many are opened, and by which error they could not be.",
            "cps",
            [
                ("sum(rate(db_client_connection_create_time_seconds_count[5m]))", "opened"),
                ("sum by (error_type) (rate(thea_store_connections_failed_total[5m]))", "{{error_type}}"),
            ],
        ),
    ],
    "Replicas": [
        Shown(
            "Calls by kind of server",
            "How much is read on replicas.",
            "reqps",
            [(f"sum by (thea_store_server) (rate({CALLS}_count[5m]))", "{{thea_store_server}}")],
        ),
        Shown(
            "Behind the primary",
            "Seconds that each replica is behind, as last measured by a service.",
            "s",
            [(f"max by ({POOL}) (thea_store_replica_lag_seconds)", "{{db_client_connection_pool_name}}")],
        ),
    ],
}


def panel(shown: Shown) -> timeseries.Panel:
    """One panel, with all its expressions."""
    made = timeseries.Panel().title(shown.title).description(shown.tells).unit(shown.unit).datasource(SOURCE)
    made = made.min(0).fill_opacity(10).span(12).height(8)
    for expression, legend in shown.expressions:
        made = made.with_target(prometheus.Dataquery().expr(expression).legend_format(legend))
    return made


def rendered() -> str:
    """The dashboard as Grafana reads it."""
    made = dashboard.Dashboard("thea_store").uid("thea-store").tags(["thea_store", "postgresql"]).editable()
    made = made.refresh("30s").time("now-1h", "now").timezone("browser")
    for title, panels in ROWS.items():
        made = made.with_row(dashboard.Row(title))
        for shown in panels:
            made = made.with_panel(panel(shown))
    return (
        json.dumps(json.loads(JSONEncoder(sort_keys=True, indent=2).encode(made.build())), indent=2, sort_keys=True)
        + "\n"
    )


if __name__ == "__main__":
    DASHBOARD.write_text(rendered())
