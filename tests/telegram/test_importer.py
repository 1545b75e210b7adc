from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.exports import ANA, BEN, BOT, NOON, account, brought_in, chat, said, written
from tests.support.profiles import scaled
from thea_store import ExportFileError, InvalidArgumentError, InvalidTenantError, Message, Store
from thea_store.resources import sample_export
from thea_store.telegram import importer
from thea_store.telegram.export import ExportReader
from thea_store.telegram.importer import ImportReport, TelegramImport
from thea_store.telegram.turns import Turns

Superuser = psycopg.Connection[Any]

TALK = chat(said(1, ANA, "hola"), said(2, BOT, "buenas"), said(3, ANA, "adiós"), said(4, BOT, "hasta luego"))
SESSION = f"telegram:{BOT}:{ANA}"

_tenants = (f"import-{number}" for number in itertools.count())


async def imported(store: Store, tenant: str, path: Path, **options: Any) -> ImportReport:
    return await TelegramImport(store, tenant, path, **options).run()


async def messages(store: Store, tenant: str, session: str = SESSION) -> list[Message]:
    return await store.messages.get_context_window(tenant, session, limit=1000)


async def talk(store: Store, tenant: str, session: str = SESSION) -> list[tuple[str, str | None]]:
    return [(each.user_message, each.bot_response) for each in await messages(store, tenant, session)]


def writes(superuser: Superuser, tenant: str) -> list[Any]:
    """The moment and version of every row of the tenant."""
    tables = ("users", "conversations", "message_history")
    rows = [
        superuser.execute(
            f"select id, updated_at, ctid from thea.{t} where tenant_id = %s order by id", [tenant]
        ).fetchall()
        for t in tables
    ]
    return [*rows, superuser.execute("select count(*) from thea.audit_log where tenant_id = %s", [tenant]).fetchone()]


# --- what comes in ------------------------------------------------------------------------------


async def test_a_chat_with_a_bot_becomes_a_conversation(store: Store, tenant: str, tmp_path: Path) -> None:
    report = await imported(store, tenant, written(tmp_path / "result.json", TALK))

    assert await talk(store, tenant) == [("hola", "buenas"), ("adiós", "hasta luego")]
    assert [(m.message_id, m.created_at) for m in await messages(store, tenant)] == [
        (1, NOON + timedelta(minutes=1)),
        (3, NOON + timedelta(minutes=3)),
    ]
    assert report == ImportReport(messages=4, answers=2, turns=Counter({"new": 2}), new_users=1, new_conversations=1)


async def test_a_new_conversation_spans_its_messages_and_is_closed(store: Store, tenant: str, tmp_path: Path) -> None:
    await imported(store, tenant, written(tmp_path / "result.json", TALK))
    conversation = await store.conversations.get_by_session_id(tenant, SESSION)
    assert conversation is not None

    assert conversation.started_at == NOON + timedelta(minutes=1)
    assert conversation.last_activity == NOON + timedelta(minutes=4)
    assert conversation.last_message_id == 3
    assert not conversation.is_active


async def test_the_next_live_message_opens_the_conversation(store: Store, tenant: str, tmp_path: Path) -> None:
    await imported(store, tenant, written(tmp_path / "result.json", TALK))
    user = await store.users.get_by_telegram_id(tenant, ANA)
    assert user is not None
    await store.messages.add_message(tenant, user.id, SESSION, user_message="¿sigues ahí?")
    (conversation,) = await store.conversations.get_active(tenant, user.id)

    assert conversation.session_id == SESSION
    assert [asked for asked, _ in await talk(store, tenant)] == ["hola", "adiós", "¿sigues ahí?"]


async def test_an_account_comes_in_with_all_its_chats(store: Store, tenant: str, tmp_path: Path) -> None:
    group = chat(
        said(1, ANA, "uno"), said(2, BEN, "dos"), said(3, BOT, "a uno", reply_to=1), said(4, "channel9", "no"),
        id_=99, kind="private_supergroup",
    )  # fmt: skip
    personal = chat(said(1, ANA, "hola"), said(2, BEN, "buenas"), id_=BEN, kind="personal_chat")
    path = written(tmp_path / "result.json", account(TALK, group, personal))
    report = await imported(store, tenant, path, assistant=BOT)

    assert await talk(store, tenant, f"telegram:-1000000000099:{ANA}") == [("uno", "a uno")]
    assert await talk(store, tenant, f"telegram:-1000000000099:{BEN}") == [("dos", None)]
    assert await talk(store, tenant, f"telegram:personal_chat:{BEN}:{ANA}") == [("hola", None)]
    assert await talk(store, tenant, f"telegram:personal_chat:{BEN}:{BEN}") == [("buenas", None)]
    assert (report.new_users, report.new_conversations, report.skipped) == (2, 5, {"no_person": 1})


KINDS = {
    "bot_chat": "7",
    "private_group": "-7",
    "private_supergroup": "-1000000000007",
    "personal_chat": "personal_chat:7",
    "saved_messages": "saved_messages:7",
    "private_channel": "channel:7",
    "of_the_future": "of_the_future:7",
}


async def test_chats_of_different_kinds_that_share_an_id_are_conversations_of_their_own(
    store: Store, tenant: str, tmp_path: Path
) -> None:
    chats = [chat(said(1, ANA, f"{kind} {n}"), said(2, ANA, kind), id_=7, kind=kind) for n, kind in enumerate(KINDS)]
    report = await imported(store, tenant, written(tmp_path / "result.json", account(*chats)))

    assert report.turns == {"new": 2 * len(KINDS)}
    for number, (kind, key) in enumerate(KINDS.items()):
        assert await talk(store, tenant, f"telegram:{key}:{ANA}") == [(f"{kind} {number}", None), (kind, None)]


async def test_a_chat_that_became_public_is_the_same_chat(store: Store, tenant: str, tmp_path: Path) -> None:
    for kind in ("private_supergroup", "public_supergroup"):
        report = await imported(store, tenant, written(tmp_path / "r.json", chat(said(1, ANA, "hola"), kind=kind)))

    assert report.turns == {"unchanged": 1}


async def test_a_broken_chat_does_not_stop_the_import_of_those_after_it(
    store: Store, tenant: str, tmp_path: Path
) -> None:
    broken = {"name": "PIN", "type": "private_group", "id": "99", "messages": [said(1, ANA, "PIN")]}
    path = written(tmp_path / "result.json", account(chat(said(1, BEN, "uno"), id_=8000), broken, TALK))
    job = TelegramImport(store, tenant, path)

    with pytest.raises(ExportFileError, match=r"place 2 of `chats` \(private_group\) has no valid `id`") as error:
        await job.run()
    assert "PIN" not in str(error.value)
    assert len(await talk(store, tenant)) == 2
    assert len(await talk(store, tenant, f"telegram:8000:{BEN}")) == 1
    assert len(job.report.broken_chats) == 1


async def test_a_chat_that_comes_twice_in_a_file_is_whole_at_once(
    store: Store, tenant: str, other_tenant: str, superuser: Superuser, tmp_path: Path
) -> None:
    start = {**TALK, "messages": TALK["messages"][:3]}
    await imported(store, tenant, written(tmp_path / "twice.json", account(start, chat(id_=1), TALK, start)))
    await imported(store, other_tenant, written(tmp_path / "once.json", TALK))

    assert brought_in(superuser, tenant) == brought_in(superuser, other_tenant)


async def test_what_is_skipped_is_named_by_its_kind_and_id(store: Store, tenant: str, tmp_path: Path) -> None:
    group = chat(
        said(1, ANA, ""), said(2, "channel9", "no"), said(3, ANA, "sí"), said(3, ANA, "sí"), kind="private_group"
    )
    report = await imported(store, tenant, written(tmp_path / "result.json", group))

    assert report.skipped == {"empty": 1, "no_person": 1, "repeated": 1}
    assert report.skipped.first == {
        "empty": [("private_group", BOT, 1)],
        "no_person": [("private_group", BOT, 2)],
        "repeated": [("private_group", BOT, 3)],
    }


async def test_two_people_may_bring_their_chats_with_the_same_bot(store: Store, tenant: str, tmp_path: Path) -> None:
    await imported(store, tenant, written(tmp_path / "ana.json", TALK))
    await imported(store, tenant, written(tmp_path / "ben.json", chat(said(1, BEN, "soy Ben"), said(2, BOT, "lo sé"))))

    assert await talk(store, tenant, f"telegram:{BOT}:{BEN}") == [("soy Ben", "lo sé")]
    assert len(await talk(store, tenant)) == 2


async def test_an_import_is_seen_by_its_tenant_alone(
    store: Store, tenant: str, other_tenant: str, tmp_path: Path
) -> None:
    await imported(store, tenant, written(tmp_path / "result.json", TALK))

    assert await store.messages.count(other_tenant) == 0
    assert await store.users.count(other_tenant) == 0


async def test_the_audit_log_names_the_import(store: Store, tenant: str, superuser: Superuser) -> None:
    await imported(store, tenant, sample_export())
    actors = superuser.execute("select distinct actor from thea.audit_log where tenant_id = %s", [tenant]).fetchall()

    assert actors == [("import:telegram",)]


async def test_a_wrong_tenant_or_file_is_refused_at_once(store: Store, tmp_path: Path) -> None:
    with pytest.raises(InvalidTenantError):
        TelegramImport(store, " ", sample_export())
    with pytest.raises(InvalidArgumentError, match="batch_size: must be greater than or equal to 1"):
        TelegramImport(store, "acme", sample_export(), batch_size=0)
    with pytest.raises(ExportFileError):
        TelegramImport(store, "acme", tmp_path / "none.json")


# --- again --------------------------------------------------------------------------------------


async def test_a_second_run_writes_nothing(store: Store, tenant: str, superuser: Superuser) -> None:
    first = await imported(store, tenant, sample_export())
    before = writes(superuser, tenant)
    second = await imported(store, tenant, sample_export())

    assert writes(superuser, tenant) == before
    assert second.turns == {"unchanged": first.turns["new"]}
    assert (second.messages, second.new_users, second.new_conversations) == (first.messages, 0, 0)


async def test_a_longer_export_of_the_same_chat_adds_what_is_new(store: Store, tenant: str, tmp_path: Path) -> None:
    start = chat(said(1, ANA, "hola"))
    await imported(store, tenant, written(tmp_path / "result.json", start))
    report = await imported(store, tenant, written(tmp_path / "result.json", TALK))

    assert await talk(store, tenant) == [("hola", "buenas"), ("adiós", "hasta luego")]
    assert report.turns == {"new": 1, "completed": 1}


async def test_another_answer_than_the_chats_stays(store: Store, tenant: str, tmp_path: Path) -> None:
    path = written(tmp_path / "result.json", TALK)
    await imported(store, tenant, path)
    first, _ = await messages(store, tenant)
    await store.messages.update(tenant, first.id, bot_response="buenos")
    report = await imported(store, tenant, path)

    assert await talk(store, tenant) == [("hola", "buenos"), ("adiós", "hasta luego")]
    assert report.turns == {"unchanged": 2}


async def test_a_profile_that_is_there_stays(store: Store, tenant: str, tmp_path: Path) -> None:
    await store.users.create(tenant, telegram_id=ANA, first_name="Ana María")
    report = await imported(store, tenant, written(tmp_path / "result.json", TALK))
    user = await store.users.get_by_telegram_id(tenant, ANA)

    assert user is not None
    assert (user.first_name, report.new_users) == ("Ana María", 0)


async def test_what_was_deleted_stays_deleted(store: Store, tenant: str, tmp_path: Path) -> None:
    path = written(tmp_path / "result.json", account(TALK, chat(said(1, BEN, "hola"), id_=8000)))
    await imported(store, tenant, path)
    first, _ = await messages(store, tenant)
    await store.messages.delete(tenant, first.id)
    ben = await store.users.get_by_telegram_id(tenant, BEN)
    assert ben is not None
    await store.users.delete(tenant, ben.id)
    report = await imported(store, tenant, path)

    assert await talk(store, tenant) == [("adiós", "hasta luego")]
    assert await store.users.get_by_telegram_id(tenant, BEN) is None
    assert report.turns == {"unchanged": 2, "deleted": 1}


async def test_history_does_not_move_a_newer_conversation_back(store: Store, tenant: str, tmp_path: Path) -> None:
    user = await store.users.create(tenant, telegram_id=ANA)
    live = await store.messages.add_message(tenant, user.id, SESSION, user_message="ahora", message_id=900)
    await imported(store, tenant, written(tmp_path / "result.json", TALK))
    conversation = await store.conversations.get_by_session_id(tenant, SESSION)
    assert conversation is not None

    assert (conversation.last_activity, conversation.last_message_id) == (live.created_at, 900)
    assert conversation.started_at == NOON + timedelta(minutes=1)
    assert conversation.is_active


async def test_history_from_the_middle_of_a_conversation_does_not_touch_it(
    store: Store, tenant: str, tmp_path: Path
) -> None:
    await imported(store, tenant, written(tmp_path / "ends.json", chat(said(1, ANA, "hola"), said(9, ANA, "adiós"))))
    before = await store.conversations.get_by_session_id(tenant, SESSION)
    await imported(store, tenant, written(tmp_path / "middle.json", chat(said(5, ANA, "¿qué tal?"))))

    assert await store.conversations.get_by_session_id(tenant, SESSION) == before
    assert [asked for asked, _ in await talk(store, tenant)] == ["hola", "¿qué tal?", "adiós"]


async def test_messages_of_one_second_keep_their_order(store: Store, tenant: str, tmp_path: Path) -> None:
    at_once = [said(n, ANA, str(n)) | {"date_unixtime": str(int(NOON.timestamp()))} for n in range(1, 8)]
    path = written(tmp_path / "result.json", chat(*at_once))
    for _ in range(2):
        await imported(store, tenant, path, batch_size=2)
    conversation = await store.conversations.get_by_session_id(tenant, SESSION)

    assert [asked for asked, _ in await talk(store, tenant)] == ["1", "2", "3", "4", "5", "6", "7"]
    assert conversation is not None
    assert conversation.last_message_id == 7


async def test_two_imports_at_once_bring_nothing_twice(
    store: Store, tenant: str, other_tenant: str, superuser: Superuser, tmp_path: Path
) -> None:
    chats = [
        chat(
            *(said(n, BOT if n % 2 else ANA if n % 4 else BEN, f"{n}") for n in range(1, 60)),
            id_=id_,
            kind="private_group",
        )
        for id_ in (31, 32)
    ]
    one, two = (written(tmp_path / f"{n}.json", account(*order)) for n, order in enumerate((chats, chats[::-1])))
    reports = await asyncio.gather(
        *(imported(store, tenant, path, assistant=BOT, batch_size=7) for path in (one, two, one))
    )
    await imported(store, other_tenant, one, assistant=BOT)

    assert brought_in(superuser, tenant) == brought_in(superuser, other_tenant)
    assert sum(report.turns["new"] for report in reports) == await store.messages.count(tenant)
    assert sum(report.new_conversations for report in reports) == 4


async def test_an_import_waits_for_another_that_is_in_the_same_conversation(
    store: Store, tenant: str, tmp_path: Path
) -> None:
    await imported(store, tenant, written(tmp_path / "start.json", chat(said(1, ANA, "hola"))))
    path = written(tmp_path / "result.json", TALK)
    async with store.transaction(tenant) as tx:
        await importer._write(tx, tenant, list(dict.fromkeys(Turns().fold(ExportReader(path)))))
        second = asyncio.create_task(imported(store, tenant, path))
        await asyncio.sleep(0.1)
        waited = not second.done()
    report = await second

    assert waited
    assert report.turns == {"unchanged": 2}


# --- interrupted --------------------------------------------------------------------------------


async def test_a_broken_file_leaves_what_was_read_and_names_the_place(
    store: Store, tenant: str, tmp_path: Path
) -> None:
    path = written(tmp_path / "result.json", TALK)
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(b"hasta luego")])
    broken = TelegramImport(store, tenant, path)

    with pytest.raises(ExportFileError, match="Everything up to its message number 3 was read"):
        await broken.run()
    assert await talk(store, tenant) == [("hola", "buenas"), ("adiós", None)]
    assert (broken.report.messages, broken.report.turns) == (3, {"new": 2})

    path.write_bytes(whole)
    report = await imported(store, tenant, path)

    assert await talk(store, tenant) == [("hola", "buenas"), ("adiós", "hasta luego")]
    assert report.turns == {"unchanged": 1, "completed": 1}


def _export(lines: list[list[tuple[Any, str, int | None]]]) -> dict[str, Any]:
    chats = [(BOT, "bot_chat"), (99, "private_group"), (BEN, "personal_chat")]
    return account(
        *(
            chat(*(said(n, who, text, reply_to=to) for n, (who, text, to) in enumerate(one, 1)), id_=id_, kind=kind)
            for one, (id_, kind) in zip(lines, chats, strict=False)
        )
    )


_senders = st.sampled_from([ANA, ANA, BEN, BOT, BOT, BOT, "channel9", None])
_lines = st.tuples(_senders, st.text("aeñ🐈\n ", max_size=3), st.none() | st.integers(1, 12))
_exports = st.lists(st.lists(_lines, min_size=1, max_size=12), min_size=1, max_size=3).map(_export)


@settings(max_examples=scaled(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(export=_exports, cuts=st.lists(st.floats(0, 1), max_size=3), size=st.integers(1, 5))
async def test_an_import_that_was_cut_off_anywhere_ends_like_one_that_was_not(
    store: Store, superuser: Superuser, tmp_path: Path, *, export: dict[str, Any], cuts: list[float], size: int
) -> None:
    path = written(tmp_path / "result.json", export)
    whole = path.read_bytes()
    resumed, undisturbed = next(_tenants), next(_tenants)
    for cut in sorted(cuts):
        path.write_bytes(whole[: int(cut * (len(whole) - 1))])
        with pytest.raises(ExportFileError):
            await imported(store, resumed, path, assistant=BOT, batch_size=size)
    path.write_bytes(whole)
    await imported(store, resumed, path, assistant=BOT, batch_size=size)
    await imported(store, undisturbed, path, assistant=BOT)

    assert brought_in(superuser, resumed) == brought_in(superuser, undisturbed)

    before = writes(superuser, resumed)
    await imported(store, resumed, path, assistant=BOT)

    assert writes(superuser, resumed) == before


async def test_the_report_is_json(store: Store, tenant: str) -> None:
    report = await imported(store, tenant, sample_export())

    assert json.loads(json.dumps(report.as_json()))["exchanges"] == {
        "new": 25,
        "completed": 0,
        "unchanged": 0,
        "deleted": 0,
    }
