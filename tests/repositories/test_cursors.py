"""Cursors: whatever a client sends as one is a page's place or refused."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from thea_store import InvalidArgumentError, Store
from thea_store.assistant.users import Users
from thea_store.repositories import cursors
from thea_store.repositories.paging import _asked

ORDER = {"newest_first": True, "include_deleted": False}
NOW = datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)


def made_up(place: bytes) -> str:
    """A cursor by somebody who knows how its digest is made."""
    return base64.urlsafe_b64encode(cursors._digest("users.all", "acme", place) + place).decode().rstrip("=")


TEXTS = ["a", "ñandú", "x" * 16, "x" * 17, "x" * 50]


@pytest.mark.parametrize("key", [0, 1, -1, 2**63 - 1, -(2**63), UUID(int=1), *TEXTS])
def test_a_cursor_leads_back_to_its_place(key: int | UUID | str) -> None:
    cursor = cursors.encode("users.all", "acme", NOW, key)

    assert cursors.decode("users.all", "acme", cursor) == (NOW, key)


async def test_a_cursor_with_a_key_of_another_kind_is_refused(store: Store, tenant: str) -> None:
    for number in (1, 2):
        await store.users.create(tenant, telegram_id=number)
    page = await store.users.get_all(tenant, limit=1)
    question = _asked(Users.common.get_all, {**dict.fromkeys(Users.common.filters), **ORDER})
    assert cursors.encode(question, tenant, page.items[0].created_at, page.items[0].id) == page.next_cursor

    for key in (UUID(int=7), "a text that is no id"):
        with pytest.raises(InvalidArgumentError, match="^cursor"):
            await store.users.get_all(tenant, limit=1, cursor=cursors.encode(question, tenant, NOW, key))


def test_a_question_about_each_of_two_times_that_a_clock_shows_twice_is_another_one() -> None:
    first = datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Madrid"))
    second = first.replace(fold=1)
    assert first == second

    questions = [
        _asked(Users.common.get_all, {**dict.fromkeys(Users.common.filters), **ORDER, "active_since": since})
        for since in (first, second)
    ]
    assert questions[0] != questions[1]


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


def test_what_is_no_text_is_no_cursor_and_nobodys() -> None:
    ours = cursors.encode("users.all", "acme", NOW, 1)

    for tenant, cursor in [("acme", 5), ("acme", b"x"), ("acme", None), (5, ours), (None, ours)]:
        with pytest.raises(InvalidArgumentError, match="^cursor"):
            cursors.decode("users.all", tenant, cursor)  # type: ignore[arg-type]


def test_a_cursor_outlives_an_update_of_the_library() -> None:
    # A client has one from a process of the version before, and asks one of the next.
    assert cursors.encode("users.all", "acme", NOW, 7) == "f2BgQpHYCtkABkde9kzzRgAAAAAAAAAH"
