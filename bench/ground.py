"""The ground on which the peers meet: one server, one database, the same rows for all."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from itertools import accumulate

import psycopg

from thea_store.embedded import EmbeddedPostgres
from thea_store.postgres.url import DatabaseUrl
from thea_store.testing import TestServer

__all__ = ["TENANTS", "Ground", "Place", "Traffic", "one_tenant", "prepared_ground", "zipf"]

TENANTS, USERS, MESSAGES, OTHERS = 100, 30, 60, 20
# So many of a tenant's users have messages, events and notes; the others fill pages of users and of conversations.
ACTIVE = 10
_PLAIN = "thea_bench_plain"

# Filled without triggers, which would only make the filling slow; they fire for all that is measured.
_FILL = f"""
set session_replication_role = replica;

insert into thea.users (tenant_id, telegram_id, username, first_name, last_name, language_code, preferences)
select 'tenant-' || t, u, 'user_' || u, 'Ana', 'García', 'es', '{{"theme": "dark", "reminders": {{"sound": true}}}}'
from generate_series(1, {TENANTS}) t, generate_series(1, {USERS}) u;

insert into thea.conversations (tenant_id, user_id, session_id, context_data)
select tenant_id, id, 'session-' || id, '{{"step": "date", "draft": {{"title": "dentist"}}}}'
from thea.users;

insert into thea.message_history (
  tenant_id, user_id, conversation_id, message_id, user_message, bot_response, intent_detected,
  entities_extracted, confidence_score, processing_time_ms, created_at
)
select
  c.tenant_id, c.user_id, c.id, m, 'Remind me of the dentist tomorrow at ten, please, and of what to bring.',
  'Done: dentist, tomorrow at 10:00. I shall remind you an hour before.', 'create_event',
  '{{"when": "tomorrow 10:00", "title": "dentist"}}', 0.93, 120,
  now() - make_interval(mins => {MESSAGES} - m, secs => c.id)
from thea.conversations c
join thea.users u using (tenant_id)
cross join generate_series(1, {MESSAGES}) m
where u.id = c.user_id
  and u.telegram_id <= {ACTIVE};

insert into thea.events (
  tenant_id, user_id, title, start_datetime, end_datetime, location, category, reminder_minutes, extra_data, created_at
)
select
  u.tenant_id, u.id, 'Dentist', now() + make_interval(days => e), now() + make_interval(days => e, hours => 1),
  'Calle Mayor 3', 'health', 30, '{{"color": "red"}}', now() - make_interval(mins => {OTHERS} - e, secs => u.id)
from thea.users u, generate_series(1, {OTHERS}) e
where u.telegram_id <= {ACTIVE};

insert into thea.notes (tenant_id, user_id, title, content, category, tags, extra_data, search_vector, created_at)
select
  u.tenant_id, u.id, 'Shopping', 'Bread, milk, and whatever else there is no more of at home.', 'home',
  '{{shopping,week}}', '{{"color": "red"}}', '', now() - make_interval(mins => {OTHERS} - n, secs => u.id)
from thea.users u, generate_series(1, {OTHERS}) n
where u.telegram_id <= {ACTIVE};
"""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a call goes: a user of a tenant, and that user's session."""

    tenant_id: str
    user_id: int
    session_id: str


@dataclass(frozen=True, slots=True, eq=False)
class Traffic:
    """Where calls go."""

    draw: Callable[[random.Random], Place]
    stretch: int = 1
    """How many times as many calls make a fair sample, where some cost more than others."""


@dataclass(frozen=True, slots=True)
class Ground:
    """A filled database and its two logins."""

    server: str
    app_url: str
    """The service's weak role, which row security binds."""
    plain_url: str
    """The same privileges on the same tables, with `bypassrls`: row security does not apply."""
    superuser_url: str
    """To look at the server while others work."""
    places: tuple[tuple[Place, ...], ...]
    """The active users of each tenant."""


@asynccontextmanager
async def prepared_ground(superuser_url: str | None) -> AsyncIterator[Ground]:
    """A new, filled database on that server, or on an embedded PostgreSQL; dropped at the end."""
    if superuser_url is None:
        async with EmbeddedPostgres() as server, prepared_ground(server.superuser_url) as ground:
            yield ground
        return
    with ExitStack() as resources:
        resources.callback(_drop_plain_login, superuser_url)
        database = TestServer(superuser_url).new_database(resources)
        with psycopg.connect(database.superuser_url, autocommit=True) as connection:
            connection.execute(_FILL.encode())
            connection.execute("vacuum analyze")
            plain_url = _make_plain_login(connection, DatabaseUrl.parse(database.app_url))
            about = _describe(connection, database.app_url)
            yield Ground(about, database.app_url, plain_url, database.superuser_url, _places(connection))


def one_tenant(ground: Ground) -> Traffic:
    """Every call goes to the same tenant, to any of its users."""
    users = ground.places[0]
    return Traffic(lambda rng: rng.choice(users))


def zipf(ground: Ground) -> Traffic:
    """Tenant number n is called 1/n as often as the first, whichever was called before."""
    weights = list(accumulate(1 / n for n in range(1, len(ground.places) + 1)))
    return Traffic(lambda rng: rng.choice(rng.choices(ground.places, cum_weights=weights)[0]), stretch=3)


def _make_plain_login(connection: psycopg.Connection[tuple[object, ...]], service: DatabaseUrl) -> str:
    password = service.password or ""
    if connection.execute("select from pg_roles where rolname = %s", [_PLAIN]).fetchone() is None:
        statement = f"create role {_PLAIN} login bypassrls password '{password}' in role thea_app"
        connection.execute(statement.encode())
    return replace(service, user=_PLAIN).render()


def _drop_plain_login(superuser_url: str) -> None:
    with psycopg.connect(superuser_url, autocommit=True) as connection:
        connection.execute(f"drop role if exists {_PLAIN}".encode())


def _places(connection: psycopg.Connection[tuple[object, ...]]) -> tuple[tuple[Place, ...], ...]:
    tenants: dict[str, list[Place]] = {f"tenant-{n}": [] for n in range(1, TENANTS + 1)}
    for tenant_id, user_id, session_id in connection.execute(
        "select u.tenant_id, u.id, c.session_id from thea.conversations c join thea.users u using (tenant_id)"
        f" where u.id = c.user_id and u.telegram_id <= {ACTIVE} order by c.id"
    ):
        tenants[str(tenant_id)].append(Place(str(tenant_id), int(str(user_id)), str(session_id)))
    return tuple(map(tuple, tenants.values()))


def _describe(connection: psycopg.Connection[tuple[object, ...]], url: str) -> str:
    row = connection.execute("select current_setting('server_version'), current_setting('fsync')").fetchone()
    release, fsync = row or ("?", "?")
    way = "unix socket" if DatabaseUrl.parse(url).hosts[0][0].startswith("/") else "TCP"
    return f"PostgreSQL {release}, {way}, fsync {fsync}"
