"""A database's URL as the parameters with which a migrator connects."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

from thea_store.errors import InvalidArgumentError
from thea_store.migrator.statements import APPLICATION_NAME
from thea_store.postgres.session import start_up_options
from thea_store.postgres.url import DatabaseUrl

__all__ = ["connection_parameters"]

# What a migration means may not depend on a role's or database's settings, and a warning must reach its reader. Each
# transaction has its own bounds.
_SETTINGS = start_up_options(check_function_bodies="on", client_min_messages="notice", statement_timeout="0")

# A server that vanishes is noticed within a minute, however long the statement takes.
_WATCH = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}


def connection_parameters(url: str) -> tuple[DatabaseUrl, dict[str, Any]]:
    """The address, to name in errors, and psycopg's parameters; `InvalidArgumentError` for no such URL."""
    try:
        address = DatabaseUrl.parse(url)
    except ValueError as error:
        raise InvalidArgumentError("url", str(error)) from None
    defaults = {"connect_timeout": "10"}
    if len(address.hosts) > 1:
        defaults["target_session_attrs"] = "read-write"
    parameters = None
    with suppress(psycopg.Error):  # its text quotes the URL, password and all
        parameters = conninfo_to_dict(address.with_options(**defaults).render())
    if parameters is None:
        raise InvalidArgumentError("url", "is not one that libpq understands")
    # The name is how migrators know each other, so the URL's own does not count.
    ours = {
        "application_name": APPLICATION_NAME,
        "client_encoding": "utf8",
        "prepare_threshold": None,
        "options": f"{parameters.get('options', '')} {_SETTINGS}".strip(),  # the last of two that differ counts
    }
    return address, {**_WATCH, **parameters, **ours}
