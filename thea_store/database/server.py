"""One server of a store: what makes connections to it, the pool of them, and what becomes of one whose call failed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from thea_store.database.connection import Connection
from thea_store.database.connector import Connector
from thea_store.database.driver_errors import answered, is_silent, needs_new_connections, takes_no_writes
from thea_store.database.pool import Pool
from thea_store.postgres.password import PasswordSource
from thea_store.postgres.url import DatabaseUrl
from thea_store.settings import Settings

__all__ = ["Server"]


@dataclass(eq=False)
class Server:
    """A server, and the connections to it."""

    connector: Connector
    pool: Pool

    @classmethod
    def at(
        cls,
        address: DatabaseUrl,
        settings: Settings,
        password: PasswordSource | None,
        admit: Callable[[str | None], None],
        *,
        standby: bool = False,
    ) -> Self:
        """The server there, with a pool that opens no connection yet; `admit` may refuse a tenant's calls."""
        connector = Connector(
            address,
            settings.command_timeout,
            direct_only=settings.tenant_scope == "session",
            password=password,
            standby=standby,
            tenants=settings.tenants,
        )
        pool = Pool(
            connector,
            place=str(connector.address),
            size=settings.pool_size,
            overflow=settings.max_overflow,
            recycle=settings.pool_recycle,
            # Who would wait for a standby's connection goes to another server.
            timeout=min(settings.pool_timeout, connector.prompt) if standby else settings.pool_timeout,
            standby=standby,
            admit=admit,
        )
        return cls(connector, pool)

    def take_back(self, connection: Connection, error: BaseException) -> None:
        """Take back a connection whose call ended with this error, of the driver's or a cancellation."""
        pool = self.pool
        if needs_new_connections(error) and not (pool.standby and takes_no_writes(error)):
            pool.expire()
        if is_silent(error):
            pool.doubt()
            pool.end(connection)
        elif answered(error):
            pool.release(connection)
        else:
            connection.unclear = self.connector.direct_only and connection.tenant is None
            pool.settle(connection)
