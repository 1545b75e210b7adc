"""Which databases stay on a server that goes on after the tests, and for how long."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from thea_store.testing.logins import do

if TYPE_CHECKING:
    from psycopg import Connection

__all__ = ["drop", "keep", "new_name", "sweep"]

_PREFIX, _STAMP = "thea_test_", "%Y%m%d%H%M%S"
_ABANDONED = timedelta(days=1)
_MARK, _MOST = "kept after a failure", 20


def new_name() -> str:
    """A free name, which tells its age."""
    return f"{_stamped(datetime.now(UTC))}_{uuid.uuid4().hex[:8]}"


def keep(connection: Connection[Any], database: str) -> None:
    """Let a database stay, until twenty newer ones have been kept."""
    do(connection, f"comment on database {database} is '{_MARK}'")


def drop(connection: Connection[Any], database: str) -> None:
    """Drop a database, unless it is to stay."""
    if database not in _kept(connection):
        do(connection, f"drop database if exists {database} with (force)")


def sweep(connection: Connection[Any]) -> None:
    """Drop what runs left behind that were killed a day ago or earlier, and the oldest of what was kept."""
    kept = _kept(connection)
    found = connection.execute("select datname from pg_database where starts_with(datname, %s)", [_PREFIX])
    limit = _stamped(datetime.now(UTC) - _ABANDONED)
    abandoned = [name for (name,) in found if name < limit and name not in kept]
    for name in [*abandoned, *kept[:-_MOST]]:
        do(connection, f"drop database if exists {name} with (force)")


def _stamped(moment: datetime) -> str:
    return _PREFIX + moment.strftime(_STAMP)


def _kept(connection: Connection[Any]) -> list[str]:
    """The names of the databases that stay, the oldest first."""
    found = connection.execute(
        "select datname from pg_database where starts_with(datname, %s)"
        " and shobj_description(oid, 'pg_database') = %s order by datname",
        [_PREFIX, _MARK],
    )
    return [name for (name,) in found]
