"""An hour of a service in seconds: what its registry shows, as if a quarter of a minute lay between two looks.

A real Prometheus reads it as its own history. So its rules and its dashboards can be asked about hours for which nobody
has to wait.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

__all__ = ["STEP", "Prometheus", "Timeline", "promtool", "running"]

STEP = 15
"""Seconds between two looks."""


def promtool() -> str:
    """The program, of Debian's package `prometheus`; without it the test is skipped."""
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not installed (Debian's package prometheus)")
    return program


class Timeline:
    """What was seen, at which second."""

    def __init__(self, registry: CollectorRegistry, began: float) -> None:
        self._registry, self.now = registry, began
        self._types: dict[str, str] = {}
        self._seen: defaultdict[str, defaultdict[str, list[tuple[float, float]]]] = defaultdict(
            lambda: defaultdict(list)
        )

    def look(self, times: int = 1) -> None:
        """Write down what the registry shows, that many times."""
        for _ in range(times):
            self.now += STEP
            for metric in self._registry.collect():
                self._types[metric.name] = metric.type
                for sample in metric.samples:
                    labels = {"job": "notes", "instance": "replayed", **sample.labels}
                    shown = ",".join(f"{name}={json.dumps(value)}" for name, value in labels.items())
                    self._seen[metric.name][f"{sample.name}{{{shown}}}"].append((sample.value, self.now))

    def write(self, directory: Path) -> None:
        """Make blocks of it, as Prometheus keeps them."""
        lines = []
        for name, series in self._seen.items():
            lines.append(f"# TYPE {name} {self._types[name]}")
            lines += [f"{labels} {value} {at:.3f}" for labels, points in series.items() for value, at in points]
        text = directory / "history.txt"
        text.write_text("\n".join([*lines, "# EOF", ""]))
        command = [promtool(), "tsdb", "create-blocks-from", "openmetrics", str(text), str(directory / "data")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


class Prometheus:
    """A server that runs, asked by its HTTP API."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1"

    def ask(self, path: str, **parameters: object) -> Any:
        """The data of an answer."""
        url = f"{self._url}/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)["data"]

    def over_time(self, expression: str, began: float, ended: float) -> list[list[float]]:
        """For each series of the expression, the seconds at which it has a value."""
        found = self.ask("query_range", query=expression, start=began, end=ended, step=STEP)["result"]
        return [[float(at) for at, value in series["values"] if value != "NaN"] for series in found]

    def fires(self, rule: dict[str, Any], began: float, ended: float) -> set[float]:
        """The seconds at which an alert fires: its expression has had a value for as long as the rule says."""
        firing: set[float] = set()
        for seconds in self.over_time(rule["query"], began, ended):
            since = previous = float("-inf")
            for at in seconds:
                since = at if at - previous > STEP else since
                previous = at
                if at - since >= rule["duration"]:
                    firing.add(at)
        return firing

    def until_ready(self) -> None:
        """Wait until it answers."""
        for _ in range(300):
            try:
                self.ask("query", query="1")
            except (urllib.error.URLError, ConnectionError):
                time.sleep(0.1)
            else:
                return
        pytest.fail("Prometheus does not answer")


@contextmanager
def running(configuration: str, directory: Path) -> Iterator[Prometheus]:
    """Debian's Prometheus on the history of this directory; without the program, the test is skipped."""
    program = shutil.which("prometheus")
    if program is None:
        pytest.skip("prometheus is not installed (Debian's package prometheus)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (directory / "prometheus.yml").write_text(configuration)
    command = [
        program,
        f"--config.file={directory}/prometheus.yml",
        f"--storage.tsdb.path={directory}/data",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with tempfile.TemporaryFile() as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            server = Prometheus(port)
            server.until_ready()
            yield server
        finally:
            process.terminate()
