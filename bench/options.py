"""Options that the programs here have in common."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["Server", "Smoke"]

Server = Annotated[str | None, typer.Option(help="A superuser's URL; without it, an embedded PostgreSQL.")]

Smoke = Annotated[
    bool, typer.Option("--smoke", help="The smallest sizes: to see that it runs; the figures say nothing.")
]
"""`tests/bench` runs each program so, nightly."""
