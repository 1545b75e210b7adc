"""Runs `thea-store` in the tests' own process, with no setting but the test's own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner, Result

from thea_store.cli import commands as cli

__all__ = ["Run", "no_settings", "run"]

Run = Callable[..., Result]

# For each call, typer makes all commands anew of their functions, which takes longer than most commands do.
_made_once = cache(get_command)


@pytest.fixture
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Neither variables nor a `.env`."""
    for name in ("DATABASE_URL", "DATABASE_MIGRATOR_URL", "DATABASE_REPLICA_URL", "DATABASE_WORKER_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, no_settings: None) -> Run:  # noqa: ARG001 - has been done by then
    """Runs a command with these variables, in a thread, since it has an event loop of its own."""

    monkeypatch.setattr("typer.testing._get_command", _made_once)

    def invoke(*arguments: str, **environment: str) -> Result:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(CliRunner().invoke, cli.app, arguments).result()

    return invoke
