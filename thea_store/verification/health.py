"""What an operator asks first."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from thea_store.errors import StoreError
from thea_store.migrator import Lineage, pending
from thea_store.migrator.files import lineage_of
from thea_store.postgres.password import PasswordSource, with_password
from thea_store.repositories.base import Record
from thea_store.settings import Settings
from thea_store.telemetry import PoolFigures
from thea_store.verification import opening

__all__ = ["Health", "PoolHealth", "ask"]


class PoolHealth(Record, frozen=True):
    """Connections of this process: open, idle among them, calls waiting for one, and the most there may be."""

    size: int
    idle: int
    waiting: int
    limit: int


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
    replica_lag: float | None
    """Seconds that the replica is behind; `None` without a replica, or when it does not answer."""
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
        return Health(
            reachable=False,
            problem=str(error),
            server_version=None,
            schema_version=None,
            pending_migrations=(),
            pool=pool,
            replica_lag=None,
            role_is_safe=None,
        )
    applied = server.applied or frozenset()
    return Health(
        reachable=True,
        problem=None,
        server_version=server.version,
        schema_version=max((id_ for id_ in applied if lineage_of(id_) == ""), default=None),
        pending_migrations=pending(applied, lineages),
        pool=pool,
        replica_lag=await _lag(settings, password),
        role_is_safe=server.is_safe,
    )


async def _lag(settings: Settings, password: PasswordSource | None) -> float | None:
    if settings.replica_url is None:
        return None
    try:
        address = await with_password(settings.address(settings.replica_url), password)
        return await asyncio.to_thread(opening.replica_lag, address)
    except StoreError:
        return None
