"""The settings that every session of the library fixes, because what its statements mean depends on them.

A role, a database or the server's configuration may set each of them otherwise. A direct connection gives
them as start-up settings, which win over those three; behind a pooler, which takes none, each transaction
begins with them.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = [
    "FIXED",
    "SHOW_SHARDS",
    "STATE",
    "UNSAFE_REPLICATION_ROLE",
    "fixed_at_once",
    "fixed_locally",
    "literal",
    "local_statements",
    "start_up_options",
    "start_up_settings",
    "which_tenants",
]

FIXED: Mapping[str, str] = {
    # Before those whose values are names.
    "quote_all_identifiers": "off",
    # Whose session it is, until the library says so.
    "app.tenant_id": "",
    "app.actor": "",
    "app.request_id": "",
    # How statements are read.
    "standard_conforming_strings": "on",
    "search_path": "pg_catalog, public, pg_temp",
    "transform_null_equals": "off",
    "array_nulls": "on",
    # What they see.
    "row_security": "on",
    "default_transaction_isolation": "read committed",
    "default_transaction_deferrable": "off",
    "gin_fuzzy_search_limit": "0",
    "default_text_search_config": "pg_catalog.simple",
    # What becomes of an error.
    "exit_on_error": "off",
    # How values become texts, also within JSON and in the catalogs' functions.
    "timezone": "UTC",
    "datestyle": "ISO, MDY",
    "intervalstyle": "postgres",
    "extra_float_digits": "1",
    "bytea_output": "hex",
}


def which_tenants(tenants: str) -> dict[str, str]:
    """The setting that says which tenants a session takes; where any may work, it is left as the operator has it."""
    return {} if tenants == "any" else {"app.tenants": tenants}


# PgBouncer refuses a start-up setting that it does not know, or drops it, if it was told to. No role has this one.
_MARK = {"app.connection": "direct"}

STATE = """
select
  coalesce(current_setting('app.connection', true), '') = 'direct' as arrived,
  current_setting('session_replication_role') as replication_role,
  current_setting('server_encoding') as encoding,
  exists (select from pg_catalog.pg_extension where extname = 'citus') as is_distributed,
  current_setting('default_transaction_isolation') as isolation
"""
"""Asks a new session whether its start-up settings arrived, whether triggers fire, and what the server is like."""

SHOW_SHARDS = "set citus.override_table_visibility = off"
"""Has Citus hide no shards in the catalog, where the driver looks up types: it asks of each table, for a second."""

UNSAFE_REPLICATION_ROLE = (
    "session_replication_role is not `origin` in a new session, so neither the audit log nor foreign keys would be "
    "kept: `alter role … reset session_replication_role`, or the same of the database or the server, where it was set"
)
"""Why a session is refused in which triggers do not fire. A weak login may not set it, so it cannot be fixed."""

# A list of names, which quotes would make one name.
_LISTS = {"search_path"}


def fixed_locally(**others: str) -> str:
    """Statements that fix the settings, and these others, until the end of the transaction."""
    return "".join(f"{statement}; " for statement in local_statements(**others))


def local_statements(**others: str) -> list[str]:
    """The same, one by one."""
    settings = {**FIXED, **others}
    return [f"set local {name} = {value if name in _LISTS else literal(value)}" for name, value in settings.items()]


def fixed_at_once(**others: str) -> str:
    """One statement that fixes them, these others too, for the transaction that it begins; it returns no row.

    Where a transaction is not read committed by itself, the server refuses it with SQLSTATE 25001.
    """
    settings = {**FIXED, "transaction_isolation": "read committed", **others}
    calls = ", ".join(f"set_config({literal(name)}, {literal(value)}, true)" for name, value in settings.items())
    return f"select from (select {calls} offset 0) as set (first) where first is null"


def start_up_settings(**others: str) -> dict[str, str]:
    """The settings, and these others, for a connection's start."""
    return {**_MARK, **FIXED, **others}


def start_up_options(**others: str) -> str:
    """The same as libpq's connection parameter `options`."""
    return " ".join(f"-c {name}={_escaped(value)}" for name, value in start_up_settings(**others).items())


def literal(text: str) -> str:
    """A string constant that means `text` whatever `standard_conforming_strings` is."""
    doubled = text.replace("\\", "\\\\").replace("'", "''")
    return f"E'{doubled}'"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(" ", "\\ ")
