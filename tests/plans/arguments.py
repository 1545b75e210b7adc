"""What each query is asked with: values by the names of its parameters, for places in the skewed data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg

from tests.plans import skewed
from thea_store.assistant.note_search import parse
from thea_store.postgres.types import is_optional
from thea_store.queries.file import Query
from thea_store.queries.query import TENANT

__all__ = ["NOWHERE", "Place", "Values", "asked_by_rarity", "cases", "find_place", "find_places"]

Values = dict[str, Any]
"""The arguments of a call, by name."""

NOW = datetime.now(UTC)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a call goes: a user of a tenant, what is theirs, and how common the other values are."""

    name: str
    tenant: str
    rarity: int
    """0: what many rows have; 1: what few have; 2: what none has."""
    ids: Mapping[str, int]
    """One row of theirs in each aggregate."""
    session_id: str
    external_id: str
    telegram_id: int
    many: tuple[tuple[int, int, int, str], ...]
    """Users and conversations of the tenant, for bulk calls: user, Telegram id, conversation, session."""
    owned: int = 0
    """How many rows the user has in the table that holds most of theirs."""
    hidden: int = 0
    """How many deleted rows are in the indexes here, where all that is asked for is deleted."""


_TABLES = {
    "users": "users",
    "conversations": "conversations",
    "messages": "message_history",
    "events": "events",
    "notes": "notes",
}

NOWHERE = Place("nowhere", skewed.BIG, 2, dict.fromkeys(_TABLES, -1), "nothing", "nothing", -1, ((-1, -1, -1, "-"),))


def find_places(superuser: psycopg.Connection[Any]) -> list[Place]:
    """Users with very many rows, some, and a handful; what is deleted; a small tenant; and what is not there."""
    return [
        find_place(superuser, "heavy user", skewed.BIG, skewed.HEAVY, rarity=0, many=500),
        find_place(superuser, "heavy user and rare values", skewed.BIG, skewed.HEAVY, rarity=1, many=20),
        find_place(superuser, "middle user", skewed.BIG, skewed.MIDDLE, rarity=0, many=20),
        find_place(superuser, "light user", skewed.BIG, skewed.LIGHT, rarity=1, many=1),
        find_place(superuser, "deleted user", skewed.BIG, skewed.GONE, rarity=0, many=20),
        find_place(superuser, "deleted rows", skewed.BIG, skewed.HEAVY, rarity=0, many=20, deleted=True),
        find_place(superuser, "small tenant", skewed.SMALL, skewed.SMALL_USER, rarity=0, many=20),
        NOWHERE,
    ]


def find_place(
    superuser: psycopg.Connection[Any],
    name: str,
    tenant: str,
    user: int,
    *,
    rarity: int,
    many: int,
    deleted: bool = False,
) -> Place:
    def first(column: str, table: str, condition: str = "true") -> Any:
        row = superuser.execute(
            f"select {column} from thea.{table} where tenant_id = %s and {'id' if table == 'users' else 'user_id'} = %s"
            f" and {condition} order by (deleted_at is not null) = %s desc, id limit 1".encode(),
            [tenant, user, deleted],
        ).fetchone()
        assert row is not None, f"{name} has nothing in {table}"
        return row[0]

    found = superuser.execute(
        "select u.id, u.telegram_id, c.id, c.session_id from thea.users u"
        " join thea.conversations c on c.tenant_id = u.tenant_id and c.user_id = u.id and c.deleted_at is null"
        " where u.tenant_id = %s and u.deleted_at is null order by c.id limit %s",
        [tenant, many],
    ).fetchall()
    owned = superuser.execute(
        "select count(*) from thea.message_history where tenant_id = %s and user_id = %s", [tenant, user]
    ).fetchone()
    assert owned is not None
    return Place(
        name=name,
        tenant=tenant,
        rarity=rarity,
        ids={aggregate: user if aggregate == "users" else first("id", _TABLES[aggregate]) for aggregate in _TABLES},
        session_id=first("session_id", "conversations"),
        external_id=first("external_id", "events", "external_id is not null"),
        telegram_id=first("telegram_id", "users"),
        many=tuple(found),
        owned=owned[0],
        hidden=skewed.HIDDEN if name.startswith("deleted") else 0,
    )


# --- values -----------------------------------------------------------------------------------------

# What many rows have, what few have, and what none has.
_BY_RARITY: dict[str, tuple[Any, Any, Any]] = {
    "actor": ("bot", "operator", "nobody"),
    "category": ("trabajo", "visado", "nada"),
    "current_state": ("waiting", "handed_over", "nothing"),
    "event_type": ("meeting", "visit", "nothing"),
    "groups": (parse("importante"), parse("ornitorrinco"), parse("nada")),
    "intent": ("create_event", "complaint", "nothing"),
    "language_code": ("es", "eu", "xx"),
    "location_key": ("calle 5", "calle 45", "nowhere"),
    "status": ("scheduled", "completed", "cancelled"),
    "table": ("notes", "users", "users"),
    "tags": (["tag1", "tag2"], ["pasaporte"], ["nada"]),
}

_PLAIN: dict[str, Any] = {
    "active_since": NOW - 7 * _DAY,
    "after": NOW,
    "after_at": NOW - 180 * _DAY,
    "after_id": 0,
    "audit.after_id": UUID(int=2**127),
    "people.entries+after_at.after_id": UUID(int=2**127),
    "people.get_erasures+after_at.after_id": UUID(int=2**127),
    "people.get_erasures+subject_id+after_at.after_id": UUID(int=2**127),
    "people.entries.after_id": UUID(int=2**127),
    "people.get_erasures.after_id": UUID(int=2**127),
    "at": NOW,
    "batch_size": 1000,
    "before": NOW + 7 * _DAY,
    "bot_response": "Hecho.",
    "conversations.changes": {"current_state": "done"},
    "events.changes": {"title": "Reunión"},
    # A tenant that is not encrypted.
    "messages.add.sealed": None,
    "messages.changes": {"bot_response": "Hecho."},
    "notes.changes": {"title": "Lista"},
    "users.changes": {"timezone": "Europe/Lisbon"},
    "confidence_score": 0.5,
    "conversations": 20,
    "created_at": NOW,
    "created_before": NOW - 160 * _DAY,
    "created_from": NOW - 200 * _DAY,
    "entities_extracted": {"a": 1},
    "events": 20,
    "expected_state": "idle",
    "given": ["location"],
    "hours": 24.0,
    "include_deleted": True,
    "intent_detected": "greet",
    "is_active": True,
    "is_pinned": True,
    "keep": 20_000,
    "other_user_ids": [],
    "limit": 51,
    "low_confidence": 0.5,
    "match_all": True,
    "message_id": 10**12,
    "messages": 20,
    "new_state": "done",
    "notes": 20,
    "now": NOW,
    "occurrence_start": NOW,
    "older_than": NOW - 300 * _DAY,
    "patch": {"theme": "light"},
    "processing_time_ms": 100,
    "profile": {"username": "ana", "first_name": "Ana", "last_name": "García", "language_code": "es"},
    "removed": ["old"],
    "running": True,
    "scheduled_only": True,
    "series_limit": 5001,
    "since": NOW - 355 * _DAY,
    "slow_ms": 1000,
    "starts_before": NOW + 7 * _DAY,
    "starts_from": NOW - 7 * _DAY,
    "user_message": "Hola",
}


def _values(query: Query[Any], place: Place) -> Values:
    aggregate = query.name.partition(".")[0]
    known = _PLAIN | {name: values[place.rarity] for name, values in _BY_RARITY.items()} | _of_place(place, aggregate)
    values: Values = {}
    for name in query.parameters:
        keys = [key for key in (f"{query.name}.{name}", f"{aggregate}.{name}", name) if key in known]
        if not keys and name != TENANT:
            raise LookupError(
                f"{query.name} has a parameter :{name} of which nothing is known: give it a value in _PLAIN of "
                "tests/plans/arguments.py, or in _BY_RARITY where it chooses rows"
            )
        if name != TENANT:
            values[name] = known[keys[0]]
    return values


def _of_place(place: Place, aggregate: str) -> Values:
    ids = place.ids
    return {
        "conversation_id": ids["conversations"],
        "exclude_event_id": ids["events"],
        "external_id": place.external_id,
        "id": ids.get(aggregate),
        "note_id": ids["notes"],
        "row_id": ids["users"],
        "row_ids": [ids["users"]],
        "subject_id": ids["users"],
        "session_id": place.session_id,
        "telegram_id": place.telegram_id,
        "tenants": [place.tenant],
        "user_id": ids["users"],
        "user_ids": [user for user, *_ in place.many],
        **_rows(place),
    }


def _rows(place: Place) -> Values:
    """The rows of bulk calls, by query."""
    event = {"title": "Dentista", "start_datetime": NOW}
    span = {"started_at": NOW - _DAY, "last_activity": NOW}
    new = [(n, *row) for n, row in enumerate(place.many)]
    chat = place.session_id.partition(":")[0] + ":"
    return {
        "users.create_many.rows": [{"telegram_id": 10**12 + n} for n, *_ in new],
        "users.import_many.rows": [
            {"telegram_id": telegram + 10**12 * (n % 2), "first_name": None} for n, _, telegram, *_ in new
        ],
        "conversations.create_many.rows": [{"user_id": user, "session_id": f"new-{n}"} for n, user, *_ in new],
        "conversations.import_many.rows": [
            {"telegram_id": telegram, "session_id": f"new-{n}" if n % 2 else session, **span}
            for n, _, telegram, _, session in new
        ],
        "conversations.lock_sessions.rows": [
            {"telegram_id": telegram, "session_id": session, **span} for _, _, telegram, _, session in new
        ],
        "conversations.advance.rows": [{"id": conversation, **span} for _, _, _, conversation, _ in new],
        "messages.create_many.rows": [
            {"user_id": user, "conversation_id": conversation, "user_message": "Hola"}
            for _, user, _, conversation, _ in new
        ],
        # An export of one chat that was imported before, and of another.
        "messages.import_many.rows": [
            {
                "conversation_id": place.many[n % 2 and -1][2],
                "message_id": 26 + 50 * n,
                "user_message": "Hola",
                "bot_response": "Hola",
                "answer_ids": None,
                "created_at": NOW,
            }
            for n, *_ in new
        ],
        "messages.get_answers.rows": [
            {"conversation_id": place.many[n % 2 and -1][2], "message_id": 26 + 50 * n} for n, *_ in new
        ],
        "messages.find_answers.rows": [{"session": chat, "message_id": 27 + 50 * n} for n, *_ in new],
        "messages.take_back_answers.rows": [
            {"session": chat, "message_id": 51 + 50 * n, "kept_in": None} for n, *_ in new
        ],
        "events.create_many.rows": [{"user_id": user, **event} for _, user, *_ in new],
        "events.upsert_external.row": {
            "user_id": place.ids["users"],
            "external_id": place.external_id,
            "all_day": False,
            **event,
        },
        "events.move_on.rows": [
            {
                "id": place.ids["events"] + 5 * n,
                "reminded_until": NOW,
                "reminded": [NOW],
                "reminded_at": [NOW],
                "next_reminder_at": None,
            }
            for n, *_ in new
        ],
        "notes.create_many.rows": [{"user_id": user, "content": "Comprar pan"} for _, user, *_ in new],
    }


# --- cases ------------------------------------------------------------------------------------------

# Two hundred thousand rows of one user, and twenty thousand of one conversation, each with its triggers.
_TOO_LONG = {"users.delete", "users.purge", "conversations.delete", "conversations.purge"}


def cases(query: Query[Any], place: Place) -> Iterator[tuple[str, Values]]:
    """What the query is asked with: nothing optional, each option alone, and all of them."""
    if query.name in _TOO_LONG and place.ids["users"] == skewed.HEAVY:
        return
    values = _values(query, place)
    names = [name for name in values if _is_option(query, name)]
    options = [["after_at", "after_id"]] if "after_at" in names else []
    options += [[name] for name in names if not name.startswith("after_")]
    least = values | {name: _off(query, name) for names in options for name in names}
    yield "nothing", least
    for names in options:
        yield names[0], least | {name: values[name] for name in names}
    if len(options) > 1:
        yield "everything", values


def asked_by_rarity(query: Query[Any]) -> set[tuple[str, int]]:
    """The cases in which a common and a rare value must both lead to rows, with the rarity of each."""
    given = [name for name in _BY_RARITY if name in query.parameters]
    return {(name if _is_option(query, name) else "nothing", rarity) for name in given for rarity in (0, 1)}


def _is_option(query: Query[Any], name: str) -> bool:
    return query.types[name] is bool or is_optional(query.types[name])


def _off(query: Query[Any], name: str) -> bool | None:
    return False if query.types[name] is bool else None
