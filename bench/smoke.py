"""The option of every program here that shows whether it still runs: `tests/bench` does so nightly."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["Smoke"]

Smoke = Annotated[
    bool, typer.Option("--smoke", help="The smallest sizes: to see that it runs; the figures say nothing.")
]
