"""What the long proofs have in common with the tests."""

from __future__ import annotations

import profiles  # noqa: F401 - loads one
from stepping import pytest_terminal_summary

__all__ = ["pytest_terminal_summary"]
