"""The one encoding of a database that can hold every text."""

from __future__ import annotations

__all__ = ["UTF8", "wrong_encoding"]

UTF8 = "UTF8"
"""The name of that encoding, as `server_encoding` gives it."""


def wrong_encoding(encoding: str) -> str:
    """What is wrong with a database in another encoding, and what to do."""
    return (
        f"the database's encoding is {encoding}, in which not every text can be stored or searched: make one with "
        "`create database … encoding 'UTF8' template template0`"
    )
