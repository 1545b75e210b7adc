"""Texts as people type them, and as they fit into a line."""

from __future__ import annotations

import unicodedata

__all__ = ["cut", "plain"]


def plain(text: str) -> str:
    """The text without accents and capitals, as many characters long, so that a place in one is that in the other."""
    return "".join(unicodedata.normalize("NFD", character)[0].lower()[0] for character in text)


def cut(text: str, length: int) -> str:
    """The text in one line of at most so many characters."""
    line = " ".join(text.split())
    return line if len(line) <= length else f"{line[: length - 1]}…"
