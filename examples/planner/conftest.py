"""Lets the tests of this directory use the extension planner."""

from __future__ import annotations

import pytest
from thea_store import Extension

from planner import PLANNER


@pytest.fixture(scope="session")
def thea_extensions() -> list[Extension]:
    """Whatever database the tests get, it has these tables."""
    return [PLANNER]
