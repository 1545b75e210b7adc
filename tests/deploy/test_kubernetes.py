"""The manifests for Kubernetes: each fits its schema, and what they name is there."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from thea_store.telemetry import prometheus

ROOT = Path(__file__).resolve().parents[2]
PLACE = ROOT / "deploy" / "kubernetes"
FILES = sorted(path for path in PLACE.rglob("*.yaml") if path.name != "kustomization.yaml")
# What operators bring; their schemas are not those of Kubernetes.
CUSTOM = {"Cluster", "ObjectStore", "PodMonitor", "Pooler", "PrometheusRule", "ScheduledBackup"}


def documents(text: str) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(text) if document]


BASE = [document for path in FILES for document in documents(path.read_text())]


def found(kind: str, name: str) -> dict[str, Any]:
    [document] = [each for each in BASE if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return document


def names_of_objects(path: Path) -> set[str]:
    return set(yaml.safe_load((path / "kustomization.yaml").read_text())["resources"])


def fit(each: dict[str, Any]) -> None:
    if each["kind"] not in CUSTOM:
        kubernetes_validate.validate(each, "1.34", strict=True)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_manifest_fits_the_schema_of_kubernetes(path: Path) -> None:
    for document in documents(path.read_text()):
        fit(document)


def test_a_misspelt_field_does_not_fit() -> None:
    wrong = found("Job", "thea-migrate")
    wrong = {**wrong, "spec": {**wrong["spec"], "backofLimit": 1}}

    with pytest.raises(kubernetes_validate.ValidationError):
        fit(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("overlay", ["development", "production"])
def test_an_overlay_is_put_together(overlay: str) -> None:
    program = shutil.which("kubectl")
    if program is None:
        pytest.skip("kubectl is not installed")
    command = [program, "kustomize", str(PLACE / "overlays" / overlay)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    made = documents(done.stdout)
    for document in made:
        fit(document)
    assert {document["kind"] for document in BASE} - {"ObjectStore"} <= {document["kind"] for document in made}
    assert "image: notes-service\n" not in done.stdout


def test_every_file_belongs_to_a_kustomization() -> None:
    listed = {
        path.parent / name for path in PLACE.rglob("kustomization.yaml") for name in names_of_objects(path.parent)
    }

    assert set(FILES) - listed == set()
    assert [path for path in listed if not path.exists()] == []


def test_the_alerts_are_those_of_prometheus() -> None:
    shipped = yaml.safe_load((ROOT / "deploy" / "observability" / "prometheus" / "alerts.yml").read_text())

    assert found("PrometheusRule", "thea-store")["spec"]["groups"] == shipped["groups"]


def test_secrets_are_named_and_never_written() -> None:
    text = "".join(path.read_text() for path in FILES)
    logins = re.findall(r"postgresql://\w+:([^@]+)@", text)

    assert "kind: Secret\n" not in text
    assert logins
    assert set(logins) == {"$(PASSWORD)"}


def test_the_probes_ask_what_the_service_answers() -> None:
    [container] = found("Deployment", "notes")["spec"]["template"]["spec"]["containers"]
    routes = (ROOT / "examples" / "notes_service" / "notes_service" / "health.py").read_text()
    asked = {container[probe]["httpGet"]["path"] for probe in ("readinessProbe", "startupProbe")}
    asked |= {endpoint["path"] for endpoint in found("PodMonitor", "notes")["spec"]["podMetricsEndpoints"]}

    assert asked == {"/ready", "/metrics"}
    assert all(f'@router.get("{path}")' in routes for path in asked)
    # A database that does not answer is no reason to start the service again.
    assert "httpGet" not in container["livenessProbe"]
    assert "ping(timeout=" in routes


def test_the_autoscaler_asks_for_a_metric_that_there_is() -> None:
    metrics = found("HorizontalPodAutoscaler", "notes")["spec"]["metrics"]
    names = {metric["pods"]["metric"]["name"] for metric in metrics if metric["type"] == "Pods"}

    assert names
    assert names <= {family.name for family in prometheus.described()}


def test_all_pods_together_leave_room_for_operators() -> None:
    most = found("HorizontalPodAutoscaler", "notes")["spec"]["maxReplicas"]
    room = int(found("Cluster", "thea")["spec"]["postgresql"]["parameters"]["max_connections"])

    assert most * (5 + 10) <= room - 20
