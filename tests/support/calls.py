"""Every public call of the repositories, found by signature, with arguments that speak of a tenant's own rows.

A new aggregate and a new method are picked up without registration. A parameter gets the value that stands in `_values`
under its name, and else one of its type.
"""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Required, get_args, get_origin, get_type_hints
from uuid import UUID

from pydantic import TypeAdapter, ValidationError
from typing_extensions import is_typeddict

from thea_store import Store, StoreTransaction
from thea_store.assistant import AGGREGATES
from thea_store.repositories.audit import Audit
from thea_store.tenancy.people import People

NOW = datetime(2026, 3, 2, 10, 0, tzinfo=UTC)
REPOSITORIES: dict[str, type[Any]] = {
    **{each.sql.aggregate: each.repository for each in AGGREGATES},
    "audit": Audit,
    "people": People,
}
# What no service's login may do: tests/tenancy tries it with the login that may.
_OF_OTHER_LOGINS = {("people", "erase")}
_READS = re.compile(r"get_(?!or_create)|count|exists|export|iterate|search|find_|tag_counts|analyze_")
_numbers = itertools.count(5_000_000_000)

# fmt: off
_EARLY = (
    "active_since", "created_at", "created_before", "created_from", "now", "older_than", "since", "start",
    "start_datetime", "started_at", "starts_before", "starts_from",
)
# fmt: on


@dataclass(frozen=True)
class Ground:
    """What the calls are about: a tenant, a text that all its rows contain, and the ids of one row of each kind."""

    tenant: str
    text: str
    telegram_id: int
    live: Mapping[str, int]
    deleted: Mapping[str, int]


@dataclass(frozen=True)
class Call:
    """One method of one repository."""

    repository: str
    method: str

    def __str__(self) -> str:
        return f"{self.repository}.{self.method}"

    @property
    def writes(self) -> bool:
        """Whether the call may change something."""
        return not _READS.match(self.method)

    def arguments(self, ground: Ground) -> dict[str, Any]:
        """A value for every parameter, the optional ones too, but the tenant."""
        function = getattr(REPOSITORIES[self.repository], self.method)
        hints = get_type_hints(function, include_extras=True)
        values = _values(self, ground)
        arguments: dict[str, Any] = {}
        for name, parameter in inspect.signature(function).parameters.items():
            if name in {"self", "tenant_id"}:
                continue
            if parameter.kind is parameter.VAR_KEYWORD:
                (fields,) = get_args(hints[name])
                arguments |= _fields(self, values, fields, ground.text)
            else:
                rows = _rows(self, ground, hints[name])
                arguments[name] = rows or _value(self, values, name, hints[name], ground.text)
        return arguments

    async def run(self, api: Store | StoreTransaction, tenant: str, arguments: Mapping[str, Any]) -> Any:
        """What the call returns; of an iterator all that it gives."""
        function = getattr(getattr(api, self.repository), self.method)
        given = dict(arguments)
        positional = [
            given.pop(parameter.name)
            for parameter in inspect.signature(function).parameters.values()
            if parameter.kind is parameter.POSITIONAL_ONLY and parameter.name != "tenant_id"
        ]
        result = function(tenant, *positional, **given)
        return [one async for one in result] if isinstance(result, AsyncIterator) else await result


CALLS = [
    Call(repository, method)
    for repository, kind in REPOSITORIES.items()
    for method in dir(kind)
    if not method.startswith("_") and callable(getattr(kind, method)) and (repository, method) not in _OF_OTHER_LOGINS
]


async def prepare(store: Store, tenant: str, text: str = "pan") -> Ground:
    """Rows to call upon: one of each kind, and one of each that is deleted."""
    number = next(_numbers)
    user = await store.users.create(tenant, telegram_id=number, first_name=text, preferences={text: text})
    live: dict[str, int] = {"users": user.id}
    deleted: dict[str, int] = {}
    for ids in (live, deleted):
        if ids is deleted:
            ids["users"] = (await store.users.create(tenant, telegram_id=next(_numbers), first_name=text)).id
        session = text if ids is live else f"{text} {next(_numbers)}"
        ids["conversations"] = (await store.conversations.create(tenant, user.id, session, current_state=text)).id
        ids["messages"] = (await store.messages.create(tenant, user.id, ids["conversations"], text)).id
        ids["events"] = (
            await store.events.create(tenant, user.id, text, NOW, reminder_minutes=5, external_id=session)
        ).id
        ids["notes"] = (await store.notes.create(tenant, user.id, text, title=text, tags=[text])).id
    await store.messages.delete(tenant, deleted["messages"])
    for repository in ("conversations", "events", "notes", "users"):
        await getattr(store, repository).delete(tenant, deleted[repository])
    # A message comes back alone only where its conversation is there.
    message = await store.messages.create(tenant, user.id, live["conversations"], text)
    await store.messages.delete(tenant, message.id)
    deleted["messages"] = message.id
    ground = Ground(tenant, text, number, live, deleted)
    for name, kind in REPOSITORIES.items():
        if name not in live and hasattr(kind, "create"):
            create = Call(name, "create")
            live[name] = (await create.run(store, tenant, create.arguments(ground))).id
            # Other texts, which may have to differ.
            others = create.arguments(replace(ground, text=f"{text} {next(_numbers)}"))
            deleted[name] = (await create.run(store, tenant, others)).id
            await getattr(store, name).delete(tenant, deleted[name])
    return ground


def _values(call: Call, ground: Ground) -> dict[str, object]:
    text, number = ground.text, next(_numbers)
    is_new = call.method in {"create", "create_many", "update"} or (call.repository, call.method) == (
        "users",
        "import_many",
    )
    own = ground.deleted if call.method == "restore" else ground.live
    values: dict[str, object] = dict.fromkeys(_EARLY, NOW - timedelta(days=1))
    values |= {
        **{f"{name.removesuffix('s')}_id": row for name, row in ground.live.items()},
        "id": own.get(call.repository),
        "row_id": ground.live["notes"],
        "exclude_event_id": ground.live["events"],
        "telegram_id": number if is_new else ground.telegram_id,
        "message_id": number,
        "last_message_id": number,
        "answer_ids": [number],
        "session": text,
        "kept_in": None,
        "timezone": "Europe/Madrid",
        "language_code": "es",
        "status": "scheduled",
        "table": "notes",
        "recurrence_rule": "FREQ=DAILY;COUNT=3",
        "all_day": False,
        "end_datetime": NOW + timedelta(days=1),
        "occurrence_start": NOW,
        "tags": [text, f"{text} {number}"],
        "cursor": None,
        "confidence_score": 0.5,
        "low_confidence": 0.5,
    }
    if is_new:
        values |= {"session_id": f"{text} {number}", "external_id": f"{text} {number}"}
    return values


def _rows(call: Call, ground: Ground, hint: object) -> list[dict[str, Any]] | None:
    """One row, where the parameter takes many: of its `TypedDict`, or of what `create` takes."""
    if call.method == "create_many":
        return [Call(call.repository, "create").arguments(ground)] if "Iterable" in str(hint) else None
    for row in get_args(hint):
        if is_typeddict(row):
            return [_fields(call, _values(call, ground), row, ground.text)]
    return None


def _fields(call: Call, values: Mapping[str, object], fields: type[Any], text: str) -> dict[str, Any]:
    """A value for each field of a `TypedDict`."""
    hints = get_type_hints(fields, include_extras=True)
    return {name: _value(call, values, name, hint, text) for name, hint in hints.items()}


def _value(call: Call, values: Mapping[str, object], name: str, hint: Any, text: str) -> object:
    """The value under this name, or else the first that the type takes."""
    if name in values:
        return values[name]
    hint = get_args(hint)[0] if get_origin(hint) is Required else hint
    late = NOW + timedelta(days=1)
    for value in (text, True, 3, 0.5, Decimal(3), {text: text}, [text], late, late.date(), UUID(int=3)):
        try:
            TypeAdapter(hint).validate_python(value, strict=True)
        except ValidationError:
            continue
        return value
    raise AssertionError(f"{call} has a parameter `{name}` of {hint}: give it a value in tests/support/calls.py")
