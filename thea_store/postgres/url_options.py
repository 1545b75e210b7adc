"""libpq's connection keys: which of them a URL may give, and why not the others.

A store connects with two drivers. What it takes must mean the same with both: asyncpg (for its calls) and
libpq (for its checks, migrations and the operator's commands).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

__all__ = ["asyncpg_query", "checked", "conflict", "driver_settings"]

_TLS_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_NUMBER = re.compile(r"[0-9]{1,9}")  # what fits into a C integer
_STRONG_TLS = frozenset(_TLS_MODES[3:])

# Both drivers read these in a URL and mean the same by them.
_OF_BOTH = frozenset(
    {
        "gsslib",
        "krbsrvname",
        "passfile",
        "ssl_max_protocol_version",
        "ssl_min_protocol_version",
        "sslcert",
        "sslcrl",
        "sslkey",
        "sslmode",
        "sslnegotiation",
        "sslpassword",
        "sslrootcert",
        "target_session_attrs",
    }
)
# The server itself reads these, whichever driver sends them.
_OF_THE_SERVER = frozenset({"application_name", "options"})
# libpq reads these; for asyncpg's connections the library itself does what they say, or it says nothing to do.
_OF_LIBPQ = frozenset(
    {
        "channel_binding",
        "client_encoding",
        "connect_timeout",
        "fallback_application_name",
        "gssdelegation",
        "gssencmode",
        "keepalives",
        "keepalives_count",
        "keepalives_idle",
        "keepalives_interval",
        "load_balance_hosts",
        "max_protocol_version",
        "min_protocol_version",
        "sslcertmode",
        "sslcompression",
        "sslsni",
        "tcp_user_timeout",
    }
)
_TAKEN = _OF_BOTH | _OF_THE_SERVER | _OF_LIBPQ

_NOT_IN_ASYNCPG = "asyncpg has nothing like it, so the calls of a store would go without"
_REFUSED = {
    "hostaddr": "asyncpg connects to host alone: give the address as host",
    "oauth_client_id": "asyncpg cannot log in by OAuth: give a token as the password, by Store.open(password=…)",
    "oauth_client_secret": "asyncpg cannot log in by OAuth: give a token as the password, by Store.open(password=…)",
    "oauth_issuer": "asyncpg cannot log in by OAuth: give a token as the password, by Store.open(password=…)",
    "oauth_scope": "asyncpg cannot log in by OAuth: give a token as the password, by Store.open(password=…)",
    "replication": "a store makes ordinary connections: leave it out",
    "require_auth": f"{_NOT_IN_ASYNCPG}: use sslmode=verify-full, and let pg_hba.conf say how to log in",
    "requirepeer": f"{_NOT_IN_ASYNCPG}: leave it out, and let the socket's directory be the server's own",
    "scram_client_key": "asyncpg logs in with a password alone: give that",
    "scram_server_key": "asyncpg logs in with a password alone: give that",
    "service": "a service file could override what the library sets: write what it says into the URL",
    "servicefile": "a service file could override what the library sets: write what it says into the URL",
    "sslcrldir": f"{_NOT_IN_ASYNCPG}: put the lists into one file, and give it as sslcrl",
    "sslkeylogfile": "it would write the keys of every connection to a file: leave it out",
    # Of other programs, in URLs that providers hand out for them.
    "pgbouncer": "it is Prisma's: leave it out, and set DATABASE_TENANT_SCOPE=transaction",
    "schema": "it is Prisma's, and the library's tables are in the schema thea: leave it out",
    "connection_limit": "it is Prisma's: leave it out, and set DATABASE_POOL_SIZE",
    "pool_timeout": "it is Prisma's: leave it out, and set DATABASE_POOL_TIMEOUT",
    "sslaccept": "it is Prisma's: leave it out, and set sslmode",
    "prepared_statement_cache_size": "it is SQLAlchemy's: leave it out",
    "statement_cache_size": "it is Prisma's and asyncpg's: leave it out, and set DATABASE_TENANT_SCOPE=transaction",
    "uselibpqcompat": "it is node-postgres's: leave it out, for sslmode has libpq's meanings here",
    # Of older versions of libpq, which do nothing with them.
    "authtype": "libpq does nothing with it: leave it out",
    "tty": "libpq does nothing with it: leave it out",
}


def _one_of(*values: str) -> Callable[[str], str | None]:
    return lambda value: None if value in values else f"must be one of {', '.join(values)}"


def _only(value: str, reason: str, *others: str) -> Callable[[str], str | None]:
    return lambda given: None if given in (value, *others) else f"can only be {value}: {reason}"


def _number(value: str) -> str | None:
    return None if _NUMBER.fullmatch(value) else "must be a whole number"


_VALUES: dict[str, Callable[[str], str | None]] = {
    "channel_binding": _one_of("disable", "prefer", "require"),
    "client_encoding": lambda value: (
        None
        if value.lower().replace("-", "") in {"utf8", "auto"}
        else "can only be UTF8: the drivers speak nothing else"
    ),
    "connect_timeout": _number,
    "gssdelegation": _only("0", _NOT_IN_ASYNCPG),
    "gssencmode": _only("prefer", "asyncpg does not encrypt by GSSAPI; use sslmode", "disable"),
    "gsslib": _one_of("gssapi", "sspi"),
    "keepalives": _one_of("0", "1"),
    "keepalives_count": _number,
    "keepalives_idle": _number,
    "keepalives_interval": _number,
    "load_balance_hosts": _one_of("disable", "random"),
    "max_protocol_version": _one_of("3.0", "3.2", "latest"),
    "min_protocol_version": _only("3.0", "asyncpg speaks that version"),
    "ssl_max_protocol_version": _one_of("TLSv1.2", "TLSv1.3"),
    "ssl_min_protocol_version": _one_of("TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"),
    "sslcertmode": _only("allow", "asyncpg sends a client certificate where the server asks for one"),
    "sslcompression": _only("0", "TLS compression is unsafe, and servers refuse it"),
    "sslmode": _one_of(*_TLS_MODES),
    "sslnegotiation": _one_of("postgres", "direct"),
    "sslsni": _only("1", "asyncpg always tells the host's name"),
    "target_session_attrs": _one_of("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
    "tcp_user_timeout": _number,
}


def checked(options: Mapping[str, str], *, may_show_names: bool) -> dict[str, str]:
    """The options that count, without those that are empty; `ValueError` says why one cannot be taken."""
    for name, value in sorted(options.items()):
        if not value and name in _TAKEN | _REFUSED.keys():
            continue
        if reason := _REFUSED.get(name):
            raise ValueError(f"has the option {name}: {reason}")
        if name not in _TAKEN:
            shown = f" {name!r}" if may_show_names else ""
            raise ValueError(f"has the unknown option{shown}; known are {', '.join(sorted(_TAKEN))}")
        check = _VALUES.get(name)
        if check is not None and (reason := check(value)):
            raise ValueError(f"has the option {name}, which {reason}")
    return {name: value for name, value in options.items() if value}


def conflict(options: Mapping[str, str]) -> str | None:
    """Why these options cannot stand together, with the settings' own among them; `None` where they can."""
    mode = options.get("sslmode", "prefer")
    if options.get("sslnegotiation") == "direct" and mode not in _STRONG_TLS:
        return "has sslnegotiation=direct, which needs sslmode=require or stronger (or DATABASE_SSL_MODE)"
    if options.get("sslrootcert") == "system" and mode != "verify-full":
        return "has sslrootcert=system, which needs sslmode=verify-full"
    if options.get("channel_binding") == "require" and mode == "disable":
        return "has channel_binding=require, which needs TLS: sslmode=require or stronger"
    return None


def asyncpg_query(options: Mapping[str, str]) -> dict[str, str]:
    """Of these options, what asyncpg reads in a URL's query."""
    query = {name: value for name, value in options.items() if name in _OF_BOTH}
    # asyncpg does not bind to the channel, so what can be had of it is that there is one.
    if options.get("channel_binding") == "require" and query.get("sslmode") not in _STRONG_TLS:
        query["sslmode"] = "require"
    return query


def driver_settings(options: Mapping[str, str]) -> dict[str, Any]:
    """Of these options, what the server reads at the start of a connection."""
    name = options.get("application_name") or options.get("fallback_application_name")
    settings = {"application_name": name, "options": options.get("options")}
    return {key: value for key, value in settings.items() if value}
