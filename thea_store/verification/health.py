"""What an operator asks first."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal

from thea_store.errors import StoreError
from thea_store.migrator import Lineage, pending
from thea_store.migrator.files import lineage_of
from thea_store.postgres.password import PasswordSource, with_password
from thea_store.postgres.url import DatabaseUrl
from thea_store.repositories.base import Record
from thea_store.settings import Settings
from thea_store.telemetry import PoolFigures
from thea_store.verification import opening, replaying

__all__ = ["Health", "PoolHealth", "ReplicaHealth", "ask"]


class PoolHealth(Record, frozen=True):
    """Connections of this process: open, idle among them, calls waiting for one, and the most there may be."""

    size: int
    idle: int
    waiting: int
    limit: int


class ReplicaHealth(Record, frozen=True):
    """A replica as it answers now."""

    place: str
    """Its host, port and database."""
    state: Literal["follows", "behind", "down", "primary"]
    """`behind` where it is so far behind that no read goes there; `primary` where the URL leads to no standby."""
    problem: str | None
    """Why it cannot be reached; `None` when it can."""
    lag_bytes: int | None
    """Bytes of the primary's log that it has not replayed; `None` where one of the two does not answer."""
    lag_seconds: float | None
    """Seconds since the last transaction that it replayed, where anything is missing, and else 0; `None` as before."""


class Health(Record, frozen=True):
    """The state of the database as this store sees it."""

    reachable: bool
    problem: str | None
    """Why the database cannot be reached; `None` when it can."""
    server_version: str | None
    schema_version: str | None
    """The newest applied migration of the library."""
    pending_migrations: tuple[str, ...]
    pool: PoolHealth
    replicas: tuple[ReplicaHealth, ...]
    """Each host of `DATABASE_REPLICA_URL`, in its order."""
    replica_lag: float | None
    """Seconds that the replica which is furthest behind is; `None` where none tells."""
    role_is_safe: bool | None
    """Whether row security binds the login, whatever it may become."""


async def ask(
    settings: Settings,
    figures: PoolFigures,
    password: PasswordSource | None = None,
    lineages: Sequence[Lineage] = (),
) -> Health:
    """Ask the server, and the replica where there is one; never raises for a database that is down."""
    pool = PoolHealth(size=figures.size, idle=figures.idle, waiting=figures.waiting, limit=figures.limit)
    try:
        address = await with_password(settings.address(), password)
        server = await asyncio.to_thread(opening.identify, address)
    except StoreError as error:
        replicas = await _replicas(settings, password, None)
        return Health(
            reachable=False,
            problem=str(error),
            server_version=None,
            schema_version=None,
            pending_migrations=(),
            pool=pool,
            replicas=replicas,
            replica_lag=_furthest(replicas),
            role_is_safe=None,
        )
    replicas = await _replicas(settings, password, address)
    applied = server.applied or frozenset()
    return Health(
        reachable=True,
        problem=None,
        server_version=server.version,
        schema_version=max((id_ for id_ in applied if lineage_of(id_) == ""), default=None),
        pending_migrations=pending(applied, lineages),
        pool=pool,
        replicas=replicas,
        replica_lag=_furthest(replicas),
        role_is_safe=server.is_safe,
    )


def _furthest(replicas: Sequence[ReplicaHealth]) -> float | None:
    return max((each.lag_seconds for each in replicas if each.lag_seconds is not None), default=None)


async def _replicas(
    settings: Settings, password: PasswordSource | None, primary: DatabaseUrl | None
) -> tuple[ReplicaHealth, ...]:
    if settings.replica_url is None:
        return ()
    address = settings.address(settings.replica_url)
    written = await asyncio.to_thread(replaying.written, primary) if primary is not None else None
    hosts = address.each_host() or [address]
    return tuple(await asyncio.gather(*(_replica(settings, password, host, written) for host in hosts)))


async def _replica(
    settings: Settings, password: PasswordSource | None, host: DatabaseUrl, written: str | None
) -> ReplicaHealth:
    try:
        address = await with_password(host, password)
        found = await asyncio.to_thread(replaying.replayed, address, written)
    except StoreError as error:
        return ReplicaHealth(place=str(host), state="down", problem=str(error), lag_bytes=None, lag_seconds=None)
    state: Literal["follows", "behind", "primary"] = "follows"
    if not found.is_standby:
        state = "primary"
    elif found.missing and (found.seconds is None or found.seconds > settings.replica_max_lag):
        state = "behind"
    return ReplicaHealth(place=str(host), state=state, problem=None, lag_bytes=found.missing, lag_seconds=found.seconds)
