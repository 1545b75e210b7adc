"""The roles and the database that an operator would make once on a server."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, LiteralString

from thea_store.embedded.account import PORT
from thea_store.errors import EmbeddedServerError

if TYPE_CHECKING:
    import psycopg
    from psycopg import sql

__all__ = ["DATABASE", "LOGINS", "MIGRATOR", "SUPERUSER", "create_roles", "require_driver"]

DATABASE = "thea"
SUPERUSER = "postgres"
MIGRATOR = "thea_migrator"
LOGINS = {
    "thea_app": "thea_service",
    "thea_worker": "thea_finder",
    "thea_admin": "thea_operator",
    "thea_privacy": "thea_officer",
    "thea_mover": "thea_carrier",
    "thea_auditor": "thea_examiner",
}
"""A login of each group."""


def require_driver() -> None:
    """Import the driver, which takes a while; `EmbeddedServerError` when it is not installed."""
    try:
        import psycopg  # noqa: F401, PLC0415 - the driver of the operator's side, only needed here
    except ImportError as error:
        raise EmbeddedServerError(
            f"psycopg cannot be imported ({error}): pip install 'thea_store[embedded]'"
        ) from error


def create_roles(socket_dir: Path) -> None:
    """Create what is missing of the roles and the database; `EmbeddedServerError` when that fails."""
    import psycopg  # noqa: PLC0415
    from psycopg import sql  # noqa: PLC0415

    try:
        with _connection(socket_dir, SUPERUSER, "postgres") as superuser:
            _create(superuser, "create role thea_migrator login createrole")
            _create(superuser, "create database thea owner thea_migrator")
        # The rest without a superuser, as on a managed server: what works here works there.
        with _connection(socket_dir, MIGRATOR, DATABASE) as migrator:
            for group, login in LOGINS.items():
                names = {"group": sql.Identifier(group), "login": sql.Identifier(login)}
                _create(migrator, sql.SQL("create role {group} nologin").format(**names))
                _create(migrator, sql.SQL("create role {login} login in role {group}").format(**names))
    except psycopg.Error as error:
        raise EmbeddedServerError(f"the roles and the database could not be created: {error}") from error


def _connection(socket_dir: Path, user: str, database: str) -> psycopg.Connection[tuple[object, ...]]:
    import psycopg  # noqa: PLC0415

    return psycopg.connect(
        host=str(socket_dir), port=PORT, user=user, dbname=database, autocommit=True, connect_timeout=10
    )


def _create(connection: psycopg.Connection[tuple[object, ...]], statement: LiteralString | sql.Composed) -> None:
    from psycopg import errors  # noqa: PLC0415

    with contextlib.suppress(errors.DuplicateObject, errors.DuplicateDatabase):
        connection.execute(statement)
