"""Runs `thea-store` in the tests' own process, with no setting but the test's own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from thea_store.cli import commands as cli

__all__ = ["Run", "no_settings", "run"]

Run = Callable[..., Result]


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither variables nor a `.env`."""
    for name in ("DATABASE_URL", "DATABASE_MIGRATOR_URL", "DATABASE_REPLICA_URL", "DATABASE_WORKER_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, no_settings: None) -> Run:  # noqa: ARG001 - has been done by then
    """Runs a command with these variables, in a thread, since it has an event loop of its own."""

    def invoke(*arguments: str, **environment: str) -> Result:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(CliRunner().invoke, cli.app, arguments).result()

    return invoke
