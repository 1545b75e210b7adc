"""Exports of parts of a chat, imported in any order, which end as the whole chat imported once.

An answer joins its message where one file has both. Where none has, it stands alone, and is there once.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.exports import ANA, BEN, BOT, account, brought_in, chat, said, written
from tests.support.profiles import scaled
from thea_store import Store
from thea_store.telegram.importer import ImportReport, TelegramImport

Superuser = psycopg.Connection[Any]
Talk = list[dict[str, Any]]

_tenants = (f"ranges-{number}" for number in itertools.count())
_numbers = itertools.count()

TALK = [
    said(1, ANA, "hola"),
    said(2, BOT, "buenas"),
    said(3, ANA, "¿qué tal?"),
    said(4, BOT, "bien"),
    said(5, BOT, "¿y tú?"),
]
GROUP = 99


async def imported(store: Store, tenant: str, path: Path, *chats: dict[str, Any], **options: Any) -> ImportReport:
    file = written(path / f"{next(_numbers)}.json", account(*chats))
    return await TelegramImport(store, tenant, file, assistant=BOT, **options).run()


async def talk(store: Store, tenant: str, session: str = f"telegram:{BOT}:{ANA}") -> list[tuple[str, str | None]]:
    window = await store.messages.get_context_window(tenant, session, limit=1000)
    return [(each.user_message, each.bot_response) for each in window]


WHOLE = [("hola", "buenas"), ("¿qué tal?", "bien\n¿y tú?")]


@pytest.mark.parametrize("order", [(0, 1), (1, 0), (0, 1, 0, 1), (1, 0, 1)])
@pytest.mark.parametrize("start", range(1, 5))
async def test_an_export_that_begins_with_an_answer_stores_it_once(
    store: Store, tenant: str, tmp_path: Path, *, order: tuple[int, ...], start: int
) -> None:
    files = [chat(*TALK), chat(*TALK[start:], said(6, ANA, "bien"))]
    for number in order:
        await imported(store, tenant, tmp_path, files[number])

    assert await talk(store, tenant) == [*WHOLE, ("bien", None)]


async def test_a_repeated_import_of_a_part_writes_nothing(
    store: Store, tenant: str, superuser: Superuser, tmp_path: Path
) -> None:
    part = chat(*TALK[1:], said(6, BOT, "a hola", reply_to=1))
    for files in ([part], [chat(*TALK), part], [part]):
        for each in files:
            report = await imported(store, tenant, tmp_path, each)
        before = brought_in(superuser, tenant)

    assert brought_in(superuser, tenant) == before
    assert (report.turns["new"], report.turns["completed"]) == (0, 0)


async def test_where_no_file_has_both_the_answer_stands_alone(store: Store, tenant: str, tmp_path: Path) -> None:
    later = [TALK[4], said(6, ANA, "bien"), said(7, BOT, "a hola", reply_to=1)]
    for messages in (later, TALK[:4]):
        await imported(store, tenant, tmp_path, chat(*messages))

    assert await talk(store, tenant) == [
        WHOLE[0],
        ("¿qué tal?", "bien"),
        ("", "¿y tú?"),
        ("bien", None),
        ("", "a hola"),
    ]

    await imported(store, tenant, tmp_path, chat(*TALK, *later[1:]))

    assert await talk(store, tenant) == [("hola", "buenas\na hola"), WHOLE[1], ("bien", None)]


async def test_in_a_group_an_answer_moves_to_the_person_who_was_answered(
    store: Store, tenant: str, other_tenant: str, superuser: Superuser, tmp_path: Path
) -> None:
    messages = [
        said(1, ANA, "uno"),
        said(2, BEN, "dos"),
        said(3, BOT, "a dos"),
        said(4, BOT, "a uno", reply_to=1),
        said(5, ANA, "¡no!"),
    ]
    late, whole = (chat(*part, id_=GROUP, kind="private_group") for part in (messages[2:], messages))
    await imported(store, tenant, tmp_path, late)
    assert await talk(store, tenant, f"telegram:-{GROUP}:{ANA}") == [("", "a dos"), ("", "a uno"), ("¡no!", None)]
    await imported(store, other_tenant, tmp_path, whole)
    for each in (whole, late):
        await imported(store, tenant, tmp_path, each)

        assert brought_in(superuser, tenant) == brought_in(superuser, other_tenant)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_an_answer_to_the_assistant_itself_moves_the_activity_also_where_a_part_came_first(
    store: Store, tenant: str, other_tenant: str, superuser: Superuser, tmp_path: Path, *, order: tuple[int, ...]
) -> None:
    messages = [said(1, BOT, "aviso"), *(said(number, ANA, "hola") for number in (2, 3)), said(4, BOT, "y", reply_to=1)]
    parts = [messages[:2], messages[1:]]
    for number in order:
        await imported(store, tenant, tmp_path, chat(*parts[number]))
    for each in (tenant, other_tenant):
        await imported(store, each, tmp_path, chat(*messages))

    assert brought_in(superuser, tenant) == brought_in(superuser, other_tenant)


async def test_answers_of_another_chat_are_left_alone(store: Store, tenant: str, tmp_path: Path) -> None:
    for kind in ("private_group", "private_supergroup"):
        await imported(store, tenant, tmp_path, chat(*TALK[1:], id_=GROUP, kind=kind))
    await imported(store, tenant, tmp_path, chat(*TALK, id_=GROUP, kind="private_group"))

    assert await talk(store, tenant, f"telegram:-{GROUP}:{ANA}") == WHOLE
    assert await talk(store, tenant, f"telegram:{-(10**12) - GROUP}:{ANA}") == [("", "buenas"), WHOLE[1]]


async def test_what_a_bot_stored_itself_is_not_stored_again(store: Store, tenant: str, tmp_path: Path) -> None:
    user = await store.users.create(tenant, telegram_id=ANA)
    session = f"telegram:-{GROUP}:{ANA}"
    live = {"user_message": "hola", "bot_response": "buenas", "message_id": 1}
    await store.messages.add_message(tenant, user.id, session, **live)  # type: ignore[arg-type]
    for messages in (TALK, TALK[1:], TALK):
        await imported(store, tenant, tmp_path, chat(*messages, id_=GROUP, kind="private_group"))

    assert sorted(await talk(store, tenant, session)) == WHOLE


async def test_what_a_service_wrote_without_a_question_is_never_taken_back(
    store: Store, tenant: str, tmp_path: Path
) -> None:
    user = await store.users.create(tenant, telegram_id=ANA)
    session = f"telegram:-{GROUP}:{ANA}"
    await store.messages.add_message(tenant, user.id, session, user_message="", bot_response="aviso", message_id=2)
    await imported(store, tenant, tmp_path, chat(*TALK, id_=GROUP, kind="private_group"))

    assert ("", "aviso") in await talk(store, tenant, session)


# --- any ranges, in any order ------------------------------------------------------------------

_senders = st.sampled_from([ANA, ANA, BEN, BOT, BOT, BOT, "channel9"])
_lines = st.lists(st.tuples(_senders, st.sampled_from([None, None, 1, 2, 3, 5])), min_size=6, max_size=16)
_cuts = st.lists(st.tuples(st.integers(0, 12), st.integers(2, 10)), min_size=2, max_size=5)


def _messages(lines: list[tuple[Any, int | None]]) -> Talk:
    return [
        said(number, who, f"text {number}", reply_to=number - to if to and to < number else None)
        for number, (who, to) in enumerate(lines, 1)
    ]


def _rows(superuser: Superuser, tenant: str) -> list[tuple[Any, ...]]:
    """Session, number, and texts of what the tenant has."""
    return [(row[2], row[7], row[8], row[9]) for row in brought_in(superuser, tenant) if row[7] is not None]


def _joined_by(part: Talk, whole: Talk) -> set[int]:
    """The answers of a part for which it has all that tells whom they answer in the whole chat."""
    numbers = {each["id"] for each in part}
    known = set()
    for each in part:
        asked = [
            one["id"] for one in whole if one["id"] < each["id"] and one["from_id"] in (f"user{ANA}", f"user{BEN}")
        ]
        reply_to = each.get("reply_to_message_id")
        if not asked or each["from_id"] != f"user{BOT}" or reply_to not in (None, *asked):
            continue
        if (reply_to or asked[-1]) in numbers:
            known.add(each["id"])
    return known


@settings(max_examples=scaled(40), suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    lines=_lines,
    cuts=_cuts,
    kind=st.sampled_from(["bot_chat", "private_group"]),
    size=st.integers(1, 6),
    data=st.data(),
)
async def test_parts_in_any_order_end_as_the_whole_chat_imported_once(
    store: Store,
    superuser: Superuser,
    tmp_path: Path,
    *,
    lines: list[tuple[Any, int | None]],
    cuts: list[tuple[int, int]],
    kind: str,
    size: int,
    data: st.DataObject,
) -> None:
    messages = _messages(lines)
    parts = [messages[start : start + length] for start, length in cuts]
    id_ = BOT if kind == "bot_chat" else GROUP
    pieces, undisturbed = next(_tenants), next(_tenants)
    for part in data.draw(st.permutations(parts)):
        await imported(store, pieces, tmp_path, chat(*part, id_=id_, kind=kind), batch_size=size)
    await imported(store, undisturbed, tmp_path, chat(*messages, id_=id_, kind=kind))

    covered = {each["id"] for part in parts for each in part}
    joined = set[int]().union(*(_joined_by(part, messages) for part in parts))
    found = {text for row in _rows(superuser, pieces) for text in (row[2], *(row[3] or "").split("\n")) if text}
    stored = [text for row in _rows(superuser, pieces) for text in (row[2], *(row[3] or "").split("\n")) if text]
    assert len(stored) == len(found)  # no text twice
    for _session, number, asked, answer in _rows(superuser, undisturbed):
        answers = [int(text.removeprefix("text ")) for text in (answer or "").split("\n") if text]
        if asked and number in covered:
            expected = [f"text {each}" for each in answers if each in joined] or None
            row = next(row for row in _rows(superuser, pieces) if row[1] == number)
            assert row[2:] == (asked, expected and "\n".join(expected))
    # Each answer that a part has with somebody's message is there.
    writers = [{each["from_id"] for each in part} & {f"user{ANA}", f"user{BEN}"} for part in parts]
    for part, people in zip(parts, writers, strict=True):
        assert not people or {each["text"] for each in part if each["from_id"] != "channel9"} <= found

    await imported(store, pieces, tmp_path, chat(*messages, id_=id_, kind=kind), batch_size=size)
    assert brought_in(superuser, pieces) == brought_in(superuser, undisturbed)

    for part in data.draw(st.permutations(parts)):
        report = await imported(store, pieces, tmp_path, chat(*part, id_=id_, kind=kind), batch_size=size)
        assert (report.turns["new"], report.turns["completed"], report.new_users) == (0, 0, 0)
    assert brought_in(superuser, pieces) == brought_in(superuser, undisturbed)
