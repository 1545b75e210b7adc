"""Cursors: whatever a client sends as one is a page's place or refused."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest

from thea_store import InvalidArgumentError
from thea_store.repositories import cursors

NOW = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)


def made_up(place: bytes) -> str:
    """A cursor by somebody who knows how its digest is made."""
    return base64.urlsafe_b64encode(cursors._digest("users.all", "acme", place) + place).decode().rstrip("=")


@pytest.mark.parametrize("key", [0, 1, -1, 2**63 - 1, -(2**63)])
def test_a_cursor_leads_back_to_its_place(key: int) -> None:
    cursor = cursors.encode("users.all", "acme", NOW, key)

    assert cursors.decode("users.all", "acme", cursor) == (NOW, key)


@pytest.mark.parametrize(
    "place",
    [
        (2**62).to_bytes(8) + bytes(8),
        (-(2**62)).to_bytes(8, signed=True) + bytes(8),
        bytes(8) + b"\x7f" * 9,
        bytes(8) + b"\x7f" * 20,
        bytes(8) + b"\x01",
        bytes(8),
        b"",
    ],
)
def test_a_made_up_cursor_is_refused(place: bytes) -> None:
    with pytest.raises(InvalidArgumentError, match="cursor"):
        cursors.decode("users.all", "acme", made_up(place))
