"""What is given to be written is written: no statement forgets a column that its call takes.

The calls and their fields are found by signature, so that a new field is asked for without being named here.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, get_type_hints

import pytest
from pydantic import BaseModel

from tests.support.calls import CALLS, REPOSITORIES, Call, Ground, prepare
from thea_store import Store

RECORDS: dict[str, type[BaseModel]] = {
    name: get_type_hints(kind.create)["return"] for name, kind in REPOSITORIES.items() if hasattr(kind, "create")
}
SOMEWHERE = Ground("acme", "otro", 1, dict.fromkeys(REPOSITORIES, 1), dict.fromkeys(REPOSITORIES, 1))
# What a row does not have of itself.
OTHER = {
    "is_active": False,
    "language_code": "pt",
    "status": "completed",
    "timezone": "America/Lima",
    "all_day": True,
    "start_datetime": datetime(2027, 3, 1, tzinfo=UTC),
    "end_datetime": datetime(2027, 3, 2, tzinfo=UTC),
}
# Mere activity, which is no edit.
UNTOLD = {"last_activity", "last_message_id"}
PARENTS = {"id", "user_id", "conversation_id"}


def arguments_of(call: Call, ground: Ground) -> tuple[dict[str, Any], dict[str, Any]]:
    """All that the call is given, and what of it becomes the columns of a row."""
    arguments = call.arguments(ground)
    [row] = arguments.get("rows", [arguments])
    row |= {name: value + timedelta(days=7) for name, value in row.items() if type(value) is date}
    row |= {name: value for name, value in OTHER.items() if name in row}
    columns = RECORDS[call.repository].model_fields.keys() - PARENTS
    return arguments, {name: row[name] for name in row.keys() & columns}


def writes_fields(call: Call) -> bool:
    """Whether it answers with a row, of which it was given some fields."""
    record = RECORDS.get(call.repository)
    returned = get_type_hints(getattr(REPOSITORIES[call.repository], call.method))["return"]
    whole = returned is record or call.method == "create_many"
    return whole and call.writes and len(arguments_of(call, SOMEWHERE)[1]) > 1


def left_out(call: Call, given: dict[str, Any], before: BaseModel, written: BaseModel) -> list[str]:
    """What was given and is not in the row that was written."""
    for name, value in given.items():
        assert name.endswith("id") or getattr(before, name) != value, f"{name} was so before: give it another in OTHER"
    return [f"{call}: {name} is not written" for name, value in given.items() if getattr(written, name) != value]


WRITES = [call for call in CALLS if writes_fields(call)]


@pytest.mark.parametrize("call", WRITES, ids=str)
async def test_what_is_given_is_written(store: Store, tenant: str, call: Call) -> None:
    ground = await prepare(store, tenant)
    before = await getattr(store, call.repository).get_by_id(tenant, ground.live[call.repository])
    arguments, given = arguments_of(call, replace(ground, text="otro", telegram_id=ground.telegram_id + 1))
    table: Any = call.repository.replace("messages", "message_history")
    earlier = len(await store.audit.get_for(tenant, table, before.id))
    answer = await call.run(store, tenant, arguments)
    [written] = answer if isinstance(answer, list) else [answer]

    assert (written.id == before.id) == (call.method == "update")
    assert left_out(call, given, before, written) == []
    assert written == await getattr(store, call.repository).get_by_id(tenant, written.id)
    entries = (await store.audit.get_for(tenant, table, written.id))[earlier if written.id == before.id else 0 :]
    assert given.keys() - UNTOLD - {name for entry in entries for name in entry.after or ()} == set()


@pytest.mark.parametrize("call", [call for call in WRITES if re.match("upsert_|get_or_create_", call.method)], ids=str)
async def test_what_is_given_takes_the_place_of_what_was_there(store: Store, tenant: str, call: Call) -> None:
    ground = await prepare(store, tenant)
    before = await getattr(store, call.repository).get_by_id(tenant, ground.live[call.repository])
    arguments, given = arguments_of(call, replace(ground, text="otro"))
    for name in given.keys() & {"telegram_id", "external_id"}:
        arguments[name] = given[name] = getattr(before, name)
    written = await call.run(store, tenant, arguments)

    assert written.id == before.id
    assert left_out(call, given, before, written) == []


def test_all_that_take_fields_are_tried() -> None:
    methods = {str(call) for call in WRITES}

    assert methods >= {f"{name}.{method}" for name in RECORDS for method in ("create", "create_many", "update")}
    assert methods >= {"events.upsert_external", "messages.add_message", "users.get_or_create_from_telegram"}
