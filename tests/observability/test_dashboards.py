"""The dashboard and the alerts, as far as no server is needed."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.observability.timeline import promtool
from thea_store.telemetry import prometheus
from thea_store.telemetry.measures import MEASURES
from tools import dashboards

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "deploy" / "observability"
ALERTS = PLACE / "prometheus" / "alerts.yml"


def expressions() -> dict[str, str]:
    """Those of the dashboard, by panel and legend."""
    return {
        f"{shown.title}: {legend}": expression
        for panels in dashboards.ROWS.values()
        for shown in panels
        for expression, legend in shown.expressions
    }


def test_the_dashboard_is_what_its_program_writes() -> None:
    assert dashboards.DASHBOARD.read_text() == dashboards.rendered(), "run `python tools/dashboards.py`"


def test_the_dashboard_has_every_panel_once_with_its_data_source() -> None:
    board = json.loads(dashboards.DASHBOARD.read_text())
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]

    assert len(panels) == len({panel["title"] for panel in panels}) == sum(map(len, dashboards.ROWS.values()))
    assert all(panel["datasource"]["uid"] == "prometheus" and panel["description"] for panel in panels)
    source = (PLACE / "grafana/provisioning/datasources/prometheus.yml").read_text()
    assert "uid: prometheus" in source


def families() -> set[str]:
    """The metrics' names as Prometheus has them."""
    return {metric.name for metric in prometheus.described()}


def test_every_metric_is_on_the_dashboard_and_it_names_no_other() -> None:
    text = " ".join(expressions().values()) + ALERTS.read_text()
    labels = {name.replace(".", "_") for measure in MEASURES for name in measure.attributes}
    used = set(re.findall(r"\b(?:thea_store|db_client)_[a-z_]+", text)) - labels

    assert {
        re.sub(r"_(total|bucket|count|sum)$", "", name) if name not in families() else name for name in used
    } == families()


def test_every_alert_has_its_runbook() -> None:
    runbooks = (ROOT / "docs" / "runbooks.md").read_text()
    alerts = re.findall(r"alert: (\w+)", ALERTS.read_text())
    named = re.findall(r"runbook: runbooks\.md#(\w+)", ALERTS.read_text())

    assert named == [alert.lower() for alert in alerts]
    assert re.findall(r"^## (\w+)$", runbooks, re.MULTILINE) == alerts


@pytest.mark.parametrize("command", [["check", "rules", "alerts.yml"], ["test", "rules", "alerts.test.yml"]])
def test_the_rules_pass_their_own_tests(command: list[str]) -> None:
    done = subprocess.run([promtool(), *command], cwd=ALERTS.parent, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_an_alert_that_lost_its_threshold_fails_its_test(tmp_path: Path) -> None:
    weakened = ALERTS.read_text().replace('thea_store_reason="expired"', 'thea_store_reason!=""')
    assert weakened != ALERTS.read_text()
    (tmp_path / "alerts.yml").write_text(weakened)
    (tmp_path / "alerts.test.yml").write_text((ALERTS.parent / "alerts.test.yml").read_text())
    command = [promtool(), "test", "rules", "alerts.test.yml"]

    assert subprocess.run(command, cwd=tmp_path, capture_output=True, check=False).returncode != 0
