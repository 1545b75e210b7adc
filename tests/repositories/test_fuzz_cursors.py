"""Whatever comes for a cursor is refused by name, or is the place of a page of this very call, filters and tenant.

And where somebody knows how cursors are made, they still see no row but their tenant's.
"""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product
from random import Random
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
import pytest_asyncio

from tests.hostile.texts import NOWHERE, PLAIN, REFUSED, SOMEWHERE, closed_store, refusal
from tests.support.calls import CALLS, NOW, Call, prepare
from tests.support.fuzzing import cursor_text
from thea_store import InvalidArgumentError, Page, Store
from thea_store.queries.arguments import FIRST_MOMENT, LAST_MOMENT
from thea_store.repositories import cursors

SEED, TEXTS = 20260309, 10_000
PAGED = [call for call in CALLS if "cursor" in call.arguments(NOWHERE)]
OPTIONS = {"cursor", "limit", "newest_first", "include_deleted"}
TIMES = [FIRST_MOMENT, LAST_MOMENT, NOW, datetime(1970, 1, 1, tzinfo=UTC)]
BEYOND = [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)]
KEYS: list[int | UUID] = [0, 1, -1, 2**63 - 1, -(2**63), UUID(int=0), UUID(int=2**128 - 1)]


@pytest_asyncio.fixture(scope="module")
async def closed() -> Store:
    return await closed_store()


def test_a_random_text_is_no_cursor() -> None:
    random = Random(SEED)
    valid = {
        cursors.encode(query, tenant, at, key): (query, tenant, at, key)
        for query in ("users.get_all {}", "users.get_all {1}", "audit.get_all {}")
        for tenant in ("acme", "acm\u00e9", "e")
        for at in TIMES
        for key in KEYS
    }
    taken = 0
    for _ in range(TEXTS):
        text = cursor_text(random, list(valid))
        query, tenant = random.choice(["users.get_all {}", "audit.get_all {}"]), random.choice(["acme", "e"])
        try:
            found = cursors.decode(query, tenant, text)
        except InvalidArgumentError as error:
            assert error.argument == "cursor"  # noqa: PT017 - or it is taken
            assert valid.get(text, ())[:2] != (query, tenant)
        else:
            taken += 1

            assert valid[text] == (query, tenant, *found)

    assert taken > 20


@pytest.mark.parametrize("call", PAGED, ids=str)
async def test_what_is_no_cursor_is_refused_by_name_before_there_is_a_connection(closed: Store, call: Call) -> None:
    for text in [*(PLAIN | REFUSED | SOMEWHERE).values(), b"", 5, ["a"], {}, True]:
        refused = await refusal(closed, call, {**call.arguments(NOWHERE), "cursor": text})

        assert refused is not None
        assert refused.argument == "cursor"


# --- cursors that belong elsewhere --------------------------------------------------------------

Asked = tuple[Call, dict[str, Any]]


async def variants(store: Store, tenant: str) -> list[Asked]:
    """Each call that has pages: with no filter, with each alone, in both orders, with deleted rows and without."""
    ground = await prepare(store, tenant)
    found: list[Asked] = []
    for call in PAGED:
        arguments = call.arguments(ground) | {"limit": 1, "cursor": None}
        usual = {name: value for name, value in arguments.items() if name in {"limit", "cursor"}}
        flags = [name for name in ("newest_first", "include_deleted") if name in arguments]
        options = [dict(zip(flags, values, strict=True)) for values in product([True, False], repeat=len(flags))]
        filters = [{}, *({name: value} for name, value in arguments.items() if name not in OPTIONS)]
        found += [(call, usual | option | one) for option in options for one in filters]
    return found


async def test_a_cursor_of_another_call_order_or_tenant_is_refused(
    store: Store, tenant: str, other_tenant: str
) -> None:
    asked = await variants(store, tenant)
    await prepare(store, other_tenant)
    pages: list[Page[Any]] = [await call.run(store, tenant, arguments) for call, arguments in asked]
    given = [(number, page.next_cursor) for number, page in enumerate(pages) if page.next_cursor]
    taken = 0
    for number, cursor in given:
        for call, arguments in asked:
            with pytest.raises(InvalidArgumentError, match=r"^cursor: "):
                await call.run(store, other_tenant, arguments | {"cursor": cursor})
            try:
                page = await call.run(store, tenant, arguments | {"cursor": cursor})
            except InvalidArgumentError as error:
                assert error.argument == "cursor"  # noqa: PT017 - as above
                assert (call, arguments) != asked[number]
            else:
                taken += 1

                assert (call, arguments) == asked[number]
                assert {getattr(row, "tenant_id", tenant) for row in page.items} <= {tenant}

    assert taken == len(given) > 30


async def test_a_cursor_is_taken_with_the_same_moment_of_another_timezone(store: Store, tenant: str) -> None:
    user = await store.users.create(tenant, telegram_id=1)
    for number in range(3):
        await store.notes.create(tenant, user.id, f"Note {number}")
    since = datetime(2026, 1, 1, tzinfo=UTC)
    first = await store.notes.get_all(tenant, created_from=since, limit=1)
    moved = since.astimezone(ZoneInfo("America/Lima"))

    second = await store.notes.get_all(tenant, created_from=moved, limit=1, cursor=first.next_cursor)

    assert [note.content for note in second.items] == ["Note 1"]


# A service erases nobody, so it has no pages of erasures.
@pytest.mark.parametrize("call", [call for call in PAGED if call.repository != "people"], ids=str)
async def test_a_cursor_of_another_value_of_any_filter_is_refused(store: Store, tenant: str, call: Call) -> None:
    ground = await prepare(store, tenant)
    arguments = call.arguments(ground)
    filters = {name: value for name, value in arguments.items() if name not in OPTIONS}
    usual = {name: {"limit": 1, "cursor": None}.get(name, True) for name in OPTIONS & arguments.keys()}
    page = await call.run(store, tenant, usual)

    assert page.next_cursor is not None
    assert filters
    for name, value in filters.items():
        with pytest.raises(InvalidArgumentError, match=r"^cursor: .*with the same filters and order"):
            await call.run(store, tenant, usual | {"cursor": page.next_cursor, name: value})


async def test_a_forged_cursor_shows_no_row_of_another_tenant(
    store: Store, tenant: str, other_tenant: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As by somebody who can make any digest: then every cursor fits every call."""
    monkeypatch.setattr(cursors, "_digest", lambda *_: bytes(cursors._DIGEST))
    asked, others = await variants(store, tenant), await variants(store, other_tenant)
    pages = [await call.run(store, other_tenant, arguments) for call, arguments in others]
    made = {cursors.encode("", "", at, key) for at in TIMES + BEYOND for key in KEYS[-3:]}
    forged = sorted(made | {page.next_cursor for page in pages if page.next_cursor})
    own = {
        (str(call), row.id)
        for call, arguments in asked
        for row in (await call.run(store, tenant, arguments | {"limit": 100})).items
    }
    shown = 0
    for call, arguments in asked:
        for cursor in forged:
            try:
                page = await call.run(store, tenant, arguments | {"limit": 100, "cursor": cursor})
            except InvalidArgumentError as error:
                assert error.argument in {"cursor", "after_id"}  # noqa: PT017 - as above
            else:
                shown += len(page.items)

                assert {(str(call), row.id) for row in page.items} <= own

    assert shown > len(asked)
