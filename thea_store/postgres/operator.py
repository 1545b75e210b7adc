"""A look at a live database's catalogs, for the operator's commands: read-only, bounded in time.

No error quotes the driver's text, which may hold a URL: each says in the library's own words why there
is no connection, and what to do.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import Connection, IsolationLevel

from thea_store.errors import StoreUnavailableError
from thea_store.postgres.session import fixed_locally, start_up_options
from thea_store.postgres.url import DatabaseUrl

__all__ = ["UnreachableError", "connect", "forget_login", "is_refused_by_pooler", "read_only", "unreachable"]

_PATIENCE = "5"
_POOLER_SAYS = "unsupported startup parameter"

_NO_DATABASE = "there is no such database"
# Of the texts of libpq, PostgreSQL and PgBouncer, in which alone a refused connection tells its reason.
_REASONS = {
    r"password|SCRAM|SASL|auth failed|authentication failed": (
        "the server refuses the password",
        "correct the user and the password in the URL, or set it: `alter role … password '…'`",
    ),
    r'role "" does not exist|no such user': (
        "the server knows no such login",
        "correct the user in the URL, or make it: `create role … login password '…' in role thea_app`",
    ),
    r"local user with ID": (
        "the URL names no user, and the user id of this process has no name",
        "write the user into the URL",
    ),
    r"not permitted to log in": ("the login may not log in", "`alter role … login`"),
    r'database "" does not exist|no such database': (
        _NO_DATABASE,
        "correct its name in the URL, or create it: `create database …`",
    ),
    r"permission denied for database": ("the login may not connect", "`grant connect on database … to …`"),
    r"pg_hba\.conf": (
        "the server refuses this login from here",
        "let it in, in pg_hba.conf, or check DATABASE_SSL_MODE",
    ),
    r"too many (clients|connections)|remaining connection slots|no more connections": (
        "the server has no connection left",
        "lower DATABASE_POOL_SIZE and DATABASE_MAX_OVERFLOW, or raise max_connections",
    ),
    r"starting up|shutting down|not yet accepting|recovery mode": (
        "the server is starting or stopping",
        "wait a moment and run again",
    ),
    r"is read-only|hot standby": ("none of the hosts is a primary", "promote one, or add the primary to the URL"),
    r"does not support SSL|SSL (is )?not (enabled|supported)|SSL was required": (
        "the server speaks no TLS",
        "switch `ssl` on in postgresql.conf, or where the network is trusted set DATABASE_SSL_MODE=prefer",
    ),
    r"SSL|certificate|TLS": ("no TLS connection comes about", "check DATABASE_SSL_MODE and DATABASE_SSL_CA"),
    r"resolve|translate host name|Name or service|name resolution": (
        "the host's name is not known",
        "correct the host in the URL",
    ),
    r"time(d )?out": (
        f"the server keeps silent for {_PATIENCE} s",
        "look whether it hangs, and whether a firewall is in the way",
    ),
}
_NO_ANSWER = ("no PostgreSQL answers", "start it, or correct the URL")


class UnreachableError(StoreUnavailableError):
    """There is no connection: `found` says why, `fix` what to do."""

    def __init__(self, found: str, fix: str) -> None:
        super().__init__(f"{found}: {fix}")
        self.found, self.fix = found, fix


def connect(
    address: DatabaseUrl,
    *,
    application_name: str = "thea_store operator",
    standby: bool = False,
    as_it_comes: bool = False,
) -> Connection[Any]:
    """A connection that begins only read-only transactions; `UnreachableError` where there is none.

    Of several hosts the primary is taken, or with `standby` preferably one that is none. Its settings are those
    that sessions of the library have, or with `as_it_comes` those that the server gives to this login; a pooler
    takes none, so each transaction fixes them once more.
    """
    options = {"application_name": application_name, "connect_timeout": _PATIENCE}
    if len(address.hosts) > 1:
        options["target_session_attrs"] = "prefer-standby" if standby else "read-write"
    own, rest = address.with_options(**options).without_option("options")
    try:
        connection = _connect(
            rest.render(), own or "", "" if as_it_comes else start_up_options(statement_timeout="30s")
        )
    except (psycopg.Error, OSError, ValueError) as error:
        forget_login(error)
        raise unreachable(error, address) from error
    connection.read_only = True
    connection.isolation_level = IsolationLevel.READ_COMMITTED
    connection.deferrable = False
    return connection


def _connect(url: str, own: str, ours: str) -> Connection[Any]:
    """Connect with the URL's own start-up options, and with ours after them, so that ours count."""
    try:
        return psycopg.connect(
            url,
            autocommit=True,
            # Behind a pooler the next statement may meet another server process, which prepared nothing.
            prepare_threshold=None,
            # Else the driver gives bytes for the text of a database in SQL_ASCII.
            client_encoding="utf8",
            options=f"{own} {ours}".strip(),
        )
    except psycopg.OperationalError as error:
        if not ours or not is_refused_by_pooler(error):
            raise
        forget_login(error)
    return _connect(url, own, "")


def is_refused_by_pooler(error: psycopg.Error) -> bool:
    """Whether a pooler is in between, which does not take the start-up settings."""
    return _POOLER_SAYS in str(error)


def forget_login(error: Exception) -> None:
    """Take from a failed connection's error what psycopg keeps in it: all that it connected with, the password too."""
    if isinstance(error, psycopg.Error):
        error._pgconn = None  # noqa: SLF001 - psycopg's own copies and pickles of it do the same


@contextmanager
def read_only(connection: Connection[Any]) -> Iterator[None]:
    """A read-only transaction of at most ten seconds, in which the server writes names out in full."""
    with connection.transaction():
        connection.execute(fixed_locally(search_path="pg_catalog", statement_timeout="10s").encode())
        yield


def unreachable(error: Exception, address: DatabaseUrl) -> UnreachableError:
    """The error of a connection that could not be made, with the reason and the remedy in the library's own words."""
    found, fix = _reason(str(error))
    if found == _NO_DATABASE and address.database is None:
        found = "the URL names no database, and there is none with the name of the login"
        fix = "write the database's name behind the host: postgresql://…/thea"
    return UnreachableError(f"{address}: {found}", fix)


def _reason(text: str) -> tuple[str, str]:
    text = re.sub(r"""(["']).*?\1""", r"\1\1", text)  # a host may be called "password"
    for pattern, reason in _REASONS.items():
        if re.search(pattern, text, re.IGNORECASE):
            return reason
    return _NO_ANSWER
