"""What all commands share: their exit statuses, `--json`, and where errors and warnings go."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["FAILED", "MISUSED", "AsJson", "say"]

FAILED, MISUSED = 1, 2

AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]


def say(sentence: str) -> None:
    """Print an error or a warning to standard error."""
    typer.echo(f"thea-store: {sentence}", err=True)
