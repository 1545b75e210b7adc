"""Tenants that share everything that tenants can share, and what is stored of one.

Whoever makes twins of two names has two tenants with the same Telegram ids, session ids, external ids, tags and
texts, row for row. Only the ids of the rows tell them apart, so a query that forgets the tenant finds the other's.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
from psycopg import sql

from thea_store import Event, Store, User
from thea_store.assistant.message_import import NewTurn

__all__ = [
    "ACTOR",
    "KEYS",
    "LOGS",
    "LONG_AGO",
    "Twin",
    "certify",
    "count_messages",
    "make_twin",
    "snapshot",
    "tenant_tables",
]

LONG_AGO = datetime(2020, 5, 4, 9, 0, tzinfo=UTC)
"""When the twins' events and messages begin."""

ACTOR = "operadora"
"""Who changed one user, as the audit log has it."""


LOGS = ("thea.audit_log", "thea.compliance_log", "thea.message_counts", "thea.message_folds")
"""The tables that nobody writes but the database itself."""


KEYS = "thea.encryption_keys"
"""The table that operators write, and services read."""


@dataclass(frozen=True)
class Twin:
    """A tenant with rows of every kind."""

    tenant: str
    ids: Mapping[str, tuple[int, ...]]
    """The ids of its rows in the order of making, by the table's name; the same place is the same row in each twin."""


async def make_twin(store: Store, tenant: str) -> Twin:
    """A tenant with the content that every twin has; rows that are deleted belong to it."""
    ana, luis, gone = [
        await store.users.create(
            tenant, telegram_id=telegram_id, username=name.lower(), first_name=name, language_code="es"
        )
        for telegram_id, name in ((1001, "Ana"), (1002, "Luis"), (1003, "Eva"))
    ]
    people = (ana, luis, gone)
    await store.users.update(tenant, luis.id, is_active=False, last_activity=LONG_AGO)
    async with store.transaction(tenant, actor=ACTOR, request_id="petición-1") as tx:
        await tx.users.merge_preferences(tenant, ana.id, {"idioma": "es", "avisos": True})
    notes = [number for user in people for number in await _notes(store, tenant, user)]
    events = [number for user in people for number in await _events(store, tenant, user)]
    conversations, messages = [], []
    for user in people:
        sessions, said = await _conversations(store, tenant, user)
        conversations += sessions
        messages += said
    # What hangs on her is hidden with her.
    await store.users.delete(tenant, gone.id)
    return Twin(
        tenant,
        {
            "users": tuple(user.id for user in people),
            "notes": tuple(notes),
            "events": tuple(events),
            "conversations": tuple(conversations),
            "message_history": tuple(messages),
        },
    )


def certify(superuser_url: str, tenant: str) -> None:
    """Two certificates that somebody was erased, and two keys, as no service's login can write them.

    The keys come past the trigger that would have plain texts refused from then on: a twin writes them.
    """
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        with connection.transaction():
            # Of the transaction alone, so that the nodes of a cluster learn of it.
            connection.execute("set local session_replication_role = replica")
            connection.execute(
                "insert into thea.encryption_keys (tenant_id, version, wrapped)"
                " select %s, n, sha256(convert_to(n::text, 'UTF8')) from generate_series(1, 2) n",
                [tenant],
            )
        connection.execute(
            "insert into thea.compliance_log (tenant_id, action, subject_id, reason, details)"
            " select tenant_id, 'erase user', subject_id, 'carta',"
            " jsonb_build_object('counts', '{}'::jsonb, 'counts_of_others', '{}'::jsonb, 'redacted', 0)"
            " from thea.audit_log where tenant_id = %s order by at, id limit 2",
            [tenant],
        )


def count_messages(superuser_url: str, tenant: str) -> None:
    """The sums of the tenant's old messages, as a worker makes them."""
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        # It waits for every transaction of the server that began before.
        until = time.monotonic() + 30
        while not connection.execute("select from thea.message_counts where tenant_id = %s", [tenant]).rowcount:
            connection.execute("select thea.fold_messages(%s)", [tenant])
            assert time.monotonic() < until
            time.sleep(0.01)


def snapshot(connection: psycopg.Connection[Any], tenant: str) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of the tenant by their table's name, in an order; the connection must see everything.

    The values are texts as the server writes them, since Python has no infinity among its times.
    """
    return {
        table: connection.execute(_all_rows(table, columns), [tenant]).fetchall()
        for table, columns in tenant_tables(connection).items()
    }


def tenant_tables(connection: psycopg.Connection[Any]) -> dict[str, list[str]]:
    """The tables of the schema `thea` that have a tenant, and their columns."""
    found = connection.execute(
        "select c.relname, array_agg(a.attname::text order by a.attnum) from pg_class c"
        " join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped"
        " where c.relnamespace = 'thea'::regnamespace and c.relkind in ('r', 'p')"
        " group by c.relname having 'tenant_id' = any(array_agg(a.attname)) order by c.relname"
    )
    return dict(found)


def _all_rows(table: str, columns: Sequence[str]) -> sql.Composed:
    texts = sql.SQL(", ").join(sql.SQL("t.{}::text").format(sql.Identifier(column)) for column in columns)
    return sql.SQL("select {} from thea.{} t where t.tenant_id = %s order by t::text").format(
        texts, sql.Identifier(table)
    )


async def _notes(store: Store, tenant: str, user: User) -> list[int]:
    bread = await store.notes.create(
        tenant,
        user.id,
        "Comprar pan y leche en la panadería",
        title="Compra",
        category="casa",
        tags=["compra", "urgente"],
        is_pinned=True,
        extra_data={"precio": 3},
        reminder_datetime=LONG_AGO,
    )
    trip = await store.notes.create(tenant, user.id, "Viaje a Lisboa", category="viajes", tags=["urgente"])
    deleted = await store.notes.create(tenant, user.id, "Comprar pan viejo", category="casa", tags=["compra"])
    await store.notes.delete(tenant, deleted.id)
    return [bread.id, trip.id, deleted.id]


async def _events(store: Store, tenant: str, user: User) -> list[int]:
    async def event(title: str, number: int, **more: Any) -> Event:
        fields = {"start_datetime": LONG_AGO + timedelta(days=number), "external_id": f"cal-{number}", **more}
        return await store.events.create(
            tenant, user.id, title, location="Oficina central", category="trabajo", **fields
        )

    meeting = await event("Reunión", 0, end_datetime=LONG_AGO + timedelta(hours=1), reminder_minutes=15)
    weekly = await event("Clase", 1, recurrence_rule="FREQ=WEEKLY", reminder_minutes=30)
    holiday = await event("Vacaciones", 2, end_datetime=LONG_AGO + timedelta(days=9))
    deleted = await event("Cita anulada", 3, reminder_minutes=5)
    birthday = await event(
        "Cumpleaños",
        4,
        start_datetime=LONG_AGO.replace(hour=0) + timedelta(days=4),
        all_day=True,
        recurrence_rule="FREQ=YEARLY",
        reminder_minutes=60,
    )
    await store.events.skip(tenant, birthday.id, birthday.start_datetime)
    await store.events.complete(tenant, holiday.id)
    await store.events.delete(tenant, deleted.id)
    return [meeting.id, weekly.id, holiday.id, deleted.id, birthday.id]


async def _conversations(store: Store, tenant: str, user: User) -> tuple[list[int], list[int]]:
    conversations, messages = [], []
    for kind in ("abierta", "cerrada", "borrada"):
        session = f"{user.telegram_id}-{kind}"
        made = await store.conversations.create(
            tenant, user.id, session, current_state="saludo", context_data={"paso": 1}
        )
        conversations.append(made.id)
        messages += await _messages(store, tenant, user, made.id)
        if kind == "abierta":
            await store.conversations.update(tenant, made.id, last_activity=LONG_AGO)
        if kind == "cerrada":
            await store.conversations.close_conversation(tenant, made.id)
        if kind == "borrada":
            await store.conversations.delete(tenant, made.id)
    return conversations, messages


async def _messages(store: Store, tenant: str, user: User, conversation_id: int) -> list[int]:
    # As an import leaves it: an answer that stands alone.
    details: dict[str, Any] = {
        "intent_detected": "saludar",
        "entities_extracted": {"día": "hoy"},
        "confidence_score": 0.25,
        "processing_time_ms": 2000,
    }
    imported: NewTurn = {
        "conversation_id": conversation_id,
        "message_id": 0,
        "user_message": "Hola, ¿qué hay hoy? (0)",
        "bot_response": None,
        "answer_ids": [0],
        "created_at": LONG_AGO,
    }
    await store.messages.import_many(tenant, [imported])
    first = (await store.messages.get_all(tenant, conversation_id=conversation_id)).items[0].id
    await store.messages.update(tenant, first, **details)
    rows = [
        {
            "user_id": user.id,
            "conversation_id": conversation_id,
            "user_message": f"Hola, ¿qué hay hoy? ({number})",
            "bot_response": "Nada",
            "message_id": number,
            **details,
            **({"created_at": LONG_AGO + timedelta(minutes=number)} if number < 2 else {}),
        }
        for number in range(1, 4)
    ]
    made = [first, *(message.id for message in await store.messages.create_many(tenant, rows))]
    await store.messages.delete(tenant, made[-1])
    return made
