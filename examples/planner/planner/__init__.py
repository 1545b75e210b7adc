"""The extension planner: its tables stand in the PostgreSQL schema `planner`."""

from __future__ import annotations

from pathlib import Path

from thea_store import Aggregate, Extension

from planner.links import Links
from planner.tasks import Tasks

PLANNER = Extension(
    "planner",
    aggregates=[
        Aggregate(Tasks, table="planner.tasks"),
        Aggregate(Links, table="planner.links"),
    ],
    migrations=Path(__file__).parent / "migrations",
)
