"""A database's address, and values, as asyncpg takes them."""

from __future__ import annotations

import getpass
import os
import ssl
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import asyncpg

from thea_store.errors import StoreUnavailableError
from thea_store.postgres.url import DatabaseUrl
from thea_store.postgres.url_options import asyncpg_query, driver_settings
from thea_store.postgres.values import Range

__all__ = ["connect_arguments", "sent"]

_SYSTEM = "system"


def connect_arguments(address: DatabaseUrl, server_settings: Mapping[str, str]) -> dict[str, Any]:
    """The arguments of `asyncpg.connect` that say where to connect, and as whom.

    What stands before a URL's query is given by itself, because asyncpg reads some of it otherwise than libpq.
    """
    query = asyncpg_query(address.options)
    arguments: dict[str, Any] = {
        "user": address.user or _own_name(address),
        "password": address.password,
        "database": address.database,
        "server_settings": {**driver_settings(address.options), **server_settings},
    }
    if any(host for host, _ in address.hosts):
        arguments["host"] = [host for host, _ in address.hosts]
    if any(port for _, port in address.hosts):
        arguments["port"] = [port or 5432 for _, port in address.hosts]
    if address.hosts and all(host.startswith("/") for host, _ in address.hosts):
        # TLS is not spoken on sockets, but asyncpg would look for certificates in a home that may be closed to it.
        query["sslmode"] = "disable"
    elif query.get("sslmode") != "disable":
        _require_home(address)
    if query.get("sslrootcert") == _SYSTEM:
        arguments["ssl"] = _system_tls(query)
        query.pop("sslrootcert")
    arguments["dsn"] = f"postgresql://?{urlencode(query, quote_via=quote)}"
    return arguments


def _own_name(address: DatabaseUrl) -> str:
    """The user that both drivers take where the URL names none."""
    if name := os.environ.get("PGUSER"):
        return name
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's numeric user
        raise StoreUnavailableError(
            f"{address}: the URL names no user, and the user id {os.getuid()} of this process has no name: write the "
            "user into the URL"
        ) from None


def _require_home(address: DatabaseUrl) -> None:
    """`StoreUnavailableError` where asyncpg's look at `~/.postgresql`, for certificates, would fail."""
    directory = Path("~/.postgresql/root.crt")
    try:
        directory.expanduser().lstat()
    except PermissionError:
        raise StoreUnavailableError(
            f"{address}: TLS looks for certificates in {directory.expanduser().parent}, which this process may not "
            "enter: set HOME to a directory of its own user, or DATABASE_SSL_MODE=disable"
        ) from None
    except (OSError, RuntimeError):  # there are none, or there is no home
        return


def _system_tls(query: Mapping[str, str]) -> ssl.SSLContext:
    """Libpq's `sslrootcert=system`, which asyncpg would take for a file's name."""
    context = ssl.create_default_context()
    if certificate := query.get("sslcert"):
        context.load_cert_chain(certificate, query.get("sslkey"), lambda: query.get("sslpassword", ""))
    if version := query.get("ssl_min_protocol_version"):
        context.minimum_version = ssl.TLSVersion[version.replace(".", "_")]
    if version := query.get("ssl_max_protocol_version"):
        context.maximum_version = ssl.TLSVersion[version.replace(".", "_")]
    return context


def sent(values: Sequence[object]) -> Sequence[object]:
    """The values as the driver takes them: ranges as its own."""
    if Range not in map(type, values):
        return values
    return [_sent_range(value) if isinstance(value, Range) else value for value in values]


def _sent_range(value: Range[Any]) -> asyncpg.Range[Any]:
    first, last = value.bounds
    return asyncpg.Range(value.lower, value.upper, lower_inc=first == "[", upper_inc=last == "]", empty=value.empty)
