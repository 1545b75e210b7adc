"""JSON as a text: what is ready to be sent, and what comes back."""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from pydantic_core import from_json

__all__ = ["JsonText", "parse"]


class JsonText(NamedTuple):
    """A JSON text, whole once its pieces are joined: a large one is put together once, where it is sent."""

    pieces: list[bytes]


def parse(text: bytes) -> Any:
    """The value that a JSON text means; ValueError where it is none, RecursionError where it is nested too deeply."""
    # pydantic's parser is six times as fast, but refuses a nesting that its own writer makes.
    try:
        return from_json(text)
    except ValueError:
        return json.loads(text)
