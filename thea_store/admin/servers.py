"""The servers that a service's URLs name: whether each answers, what it is, and how far a standby is behind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Literal

import psycopg
from psycopg import Connection

from thea_store.postgres.operator import UnreachableError, connect, read_only
from thea_store.postgres.url import DatabaseUrl
from thea_store.settings import Settings

__all__ = ["ServerStatus", "faults", "statuses"]


@dataclass(frozen=True, slots=True)
class ServerStatus:
    """One server, as it answers now."""

    place: str
    """Host, port and database; never a login."""
    named_in: str
    """The variable that names it."""
    state: Literal["up", "down"]
    problem: str | None = None
    """Why there is no answer, and what to do."""
    role: Literal["primary", "standby"] | None = None
    version: str | None = None
    connections: int | None = None
    """Clients' connections to the server, of whoever."""
    max_connections: int | None = None
    position: str | None = None
    """Where in the write-ahead log it is: a primary's end, a standby's last change that can be read."""
    lag_bytes: int | None = None
    """What the standby has not replayed of what the primary had written a moment before; `None` without a primary."""
    lag_seconds: float | None = None
    """How old the standby's last change is, where it is behind; `None` where it is not."""


def statuses(settings: Settings) -> list[ServerStatus]:
    """Each server of DATABASE_URL and DATABASE_REPLICA_URL, in order; raises nothing for one that is down. Blocks.

    All are asked at once, so that those which do not answer cost five seconds together.
    """
    named = list(_each(settings))
    with ExitStack() as resources, ThreadPoolExecutor(len(named)) as threads:
        opened = list(threads.map(lambda each: _opened(each[1]), named))
        for connection in opened:
            if isinstance(connection, Connection):
                resources.enter_context(connection)
        found = [
            _identified(variable, address, connection)
            for (variable, address), connection in zip(named, opened, strict=True)
        ]
        # The primary's position first: a standby that has all of it is not behind, whatever is written meanwhile.
        end = next((each.position for each in found if each.role == "primary"), None)
        return [
            _measured(each, connection, end) if each.role == "standby" and isinstance(connection, Connection) else each
            for each, connection in zip(found, opened, strict=True)
        ]


def faults(found: Sequence[ServerStatus]) -> list[str]:
    """What is wrong with these servers, in a sentence each, with what to do; empty where all is well."""
    sentences = [f"{each.place}: {each.problem}" for each in found if each.state == "down"]
    primaries = [each for each in found if each.role == "primary" and each.named_in == "DATABASE_URL"]
    if not primaries:
        sentences.append(
            "no server of DATABASE_URL is a primary, so every write fails: promote one, or add the primary to the URL"
        )
    if len(primaries) > 1:
        places = " and ".join(each.place for each in primaries)
        sentences.append(
            f"{places} each take writes, so they go apart: stop the one that was demoted, and look at the cluster"
        )
    return sentences


def _each(settings: Settings) -> Iterator[tuple[str, DatabaseUrl]]:
    seen: set[str] = set()
    for variable, url in (("DATABASE_URL", settings.url), ("DATABASE_REPLICA_URL", settings.replica_url)):
        if not url:
            continue
        _, address = settings.address(url).without_option("target_session_attrs")
        for host in address.each_host() or [address]:
            if str(host) not in seen:
                seen.add(str(host))
                yield variable, host


def _opened(address: DatabaseUrl) -> Connection[Any] | UnreachableError:
    try:
        return connect(address, application_name="thea_store status")
    except UnreachableError as error:
        return error


_ABOUT = """
select
  pg_is_in_recovery(),
  current_setting('server_version'),
  (select count(*) from pg_stat_activity where backend_type = 'client backend'),
  current_setting('max_connections')::int,
  case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end::text
"""

_LAG = """
select
  pg_last_wal_replay_lsn()::text,
  greatest(pg_wal_lsn_diff(%(end)s::pg_lsn, pg_last_wal_replay_lsn()), 0)::bigint,
  extract(epoch from now() - pg_last_xact_replay_timestamp())::double precision
"""


def _identified(variable: str, address: DatabaseUrl, connection: Connection[Any] | UnreachableError) -> ServerStatus:
    place = str(address)
    if isinstance(connection, UnreachableError):
        return ServerStatus(place, variable, "down", f"{connection.found.removeprefix(f'{place}: ')}: {connection.fix}")
    try:
        with read_only(connection):
            standby, version, number, limit, position = connection.execute(_ABOUT).fetchone() or (None,) * 5
    except psycopg.Error:
        return ServerStatus(place, variable, "down", "the connection was lost: look at the server's log")
    role: Literal["primary", "standby"] = "standby" if standby else "primary"
    return ServerStatus(place, variable, "up", None, role, version, number, limit, position)


def _measured(status: ServerStatus, connection: Connection[Any], end: str | None) -> ServerStatus:
    if end is None:
        return status
    try:
        with read_only(connection):
            position, behind, seconds = connection.execute(_LAG, {"end": end}).fetchone() or (None,) * 3
    except psycopg.Error:
        return replace(status, state="down", problem="the connection was lost: look at the server's log")
    return replace(status, position=position, lag_bytes=behind, lag_seconds=seconds if behind else None)
