"""Settings of a role or a database that would change what a statement means, and what each setting is about."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import psycopg
from psycopg import sql

from thea_store.postgres.session import FIXED
from thea_store.postgres.url import DatabaseUrl
from thea_store.testing import TestDatabase

HOSTILE = {
    "app.tenant_id": "somebody",
    "app.actor": "somebody",
    "app.request_id": "something",
    "standard_conforming_strings": "off",
    "search_path": "thea, pg_temp",
    "transform_null_equals": "on",
    "array_nulls": "off",
    "row_security": "off",
    "default_transaction_isolation": "serializable",
    "default_transaction_deferrable": "on",
    "gin_fuzzy_search_limit": "1",
    "default_text_search_config": "pg_catalog.german",
    "exit_on_error": "on",
    "timezone": "Asia/Kathmandu",
    "datestyle": "SQL, DMY",
    "intervalstyle": "sql_standard",
    "extra_float_digits": "-15",
    "bytea_output": "escape",
    "quote_all_identifiers": "on",
}
"""For each setting that sessions fix, a value with which something would go wrong, or be written otherwise."""

UNMEANT = {
    "Connections and Authentication / Connection Settings",
    "File Locations",
    "Resource Usage / Cost-Based Vacuum Delay",
    "Connections and Authentication / Authentication",
    "Connections and Authentication / TCP Settings",
    "Developer Options",
    "Lock Management",
    "Query Tuning / Genetic Query Optimizer",
    "Query Tuning / Other Planner Options",
    "Query Tuning / Planner Cost Constants",
    "Query Tuning / Planner Method Configuration",
    "Replication / Sending Servers",
    "Reporting and Logging / Process Title",
    "Reporting and Logging / What to Log",
    "Reporting and Logging / When to Log",
    "Resource Usage / Disk",
    "Resource Usage / I/O",
    "Resource Usage / Memory",
    "Resource Usage / Worker Processes",
    "Resource Usage / Asynchronous Behavior",
    "Statistics / Cumulative Query and Index Statistics",
    "Statistics / Monitoring",
    "Vacuuming / Cost-Based Vacuum Delay",
    "Vacuuming / Default Behavior",
    "Vacuuming / Freezing",
    "Write-Ahead Log / Settings",
    "Client Connection Defaults / Other Defaults",
    "Client Connection Defaults / Shared Library Preloading",
}
"""The categories whose settings decide how fast, how durably or with how much noise a statement runs, not what it
means."""

EXCEPTIONS = {
    "vacuum_freeze_min_age": "when rows are frozen",
    "vacuum_freeze_table_age": "when rows are frozen",
    "vacuum_failsafe_age": "when rows are frozen",
    "vacuum_multixact_freeze_min_age": "when rows are frozen",
    "vacuum_multixact_freeze_table_age": "when rows are frozen",
    "vacuum_multixact_failsafe_age": "when rows are frozen",
    "backslash_quote": "the library writes no backslash before a quote",
    "check_function_bodies": "fixed by the migrator, who alone makes functions",
    "client_encoding": "each driver sends its own",
    "client_min_messages": "fixed by the migrator, who alone reads notices",
    "createrole_self_grant": "the migrations grant what they need",
    "default_table_access_method": "the operator's choice of storage",
    "default_tablespace": "the operator's choice of storage",
    "default_toast_compression": "the operator's choice of storage",
    "default_transaction_read_only": "a way to forbid writes, which `doctor` reports",
    "escape_string_warning": "a warning alone",
    "event_triggers": "a superuser's",
    "gin_pending_list_limit": "speed alone",
    "icu_validation_level": "no collation is made",
    "idle_in_transaction_session_timeout": "the operator's bound, which docs/operations.md recommends",
    "idle_session_timeout": "the operator's bound; a connection that has ended is replaced",
    "lc_messages": "errors are told apart by SQLSTATE",
    "lc_monetary": "no money is formatted",
    "lc_numeric": "numbers are formatted by no locale's rule",
    "lc_time": "no month is named",
    "lo_compat_privileges": "large objects are not used",
    "lock_timeout": "the operator's bound",
    "restrict_nonsystem_relation_kind": "an error where it applies",
    "session_replication_role": "refused: a weak login may not fix it",
    "statement_timeout": "fixed as DATABASE_COMMAND_TIMEOUT, and in each other kind of session",
    "synchronize_seqscans": "every ordering ends in a unique key",
    "temp_tablespaces": "temporary tables are not used",
    "timezone_abbreviations": "times are sent with an offset or as numbers",
    "transaction_deferrable": "of one transaction, not of a session",
    "transaction_isolation": "of one transaction, not of a session",
    "transaction_read_only": "of one transaction, not of a session",
    "transaction_timeout": "the operator's bound",
    "xmlbinary": "XML is not used",
    "xmloption": "XML is not used",
}
"""Single settings that sessions leave alone, and why."""

assert HOSTILE.keys() == FIXED.keys()


@contextmanager
def hostile_login(
    database: TestDatabase, level: str, settings: dict[str, str], group: str = "thea_app"
) -> Iterator[str]:
    """The URL of a login of the test's own, with these settings on the role or on the database."""
    name, secret = f"hostile_{uuid.uuid4().hex[:12]}", uuid.uuid4().hex
    on = sql.SQL("role {}" if level == "role" else "database {}").format(
        sql.Identifier(name if level == "role" else database.name)
    )
    with psycopg.connect(database.superuser_url, autocommit=True) as superuser:
        made = sql.SQL("create role {} login password {} in role {}")
        superuser.execute(made.format(sql.Identifier(name), sql.Literal(secret), sql.Identifier(group)))
        for setting, value in settings.items():
            words = [sql.Literal(word.strip()) for word in value.split(",")] if setting == "search_path" else [value]
            change = sql.SQL("alter {} set {} = {}").format(
                on,
                sql.SQL(setting),
                sql.SQL(", ").join(words),
            )
            superuser.execute(change)
    try:
        yield replace(DatabaseUrl.parse(database.app_url), user=name, password=secret).render()
    finally:
        # By a session that has none of these settings: they are the database's, too.
        options = "-c row_security=on -c exit_on_error=off -c session_replication_role=origin -c statement_timeout=0"
        with psycopg.connect(database.superuser_url, autocommit=True, options=options) as superuser:
            superuser.execute(sql.SQL("alter {} reset all").format(on))
            superuser.execute(sql.SQL("drop owned by {0}").format(sql.Identifier(name)))
            superuser.execute(sql.SQL("drop role {}").format(sql.Identifier(name)))
