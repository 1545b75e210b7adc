"""What a driver's error means to the caller, told by SQLSTATE; nothing else translates errors.

The driver's error stays behind ours as its cause, and so stands in logged tracebacks, in services' error
trackers: what of it may quote a value is taken out.
"""

from __future__ import annotations

import asyncpg

from thea_store.database.driver_errors import (
    DEMOTED,
    answered,
    is_misconfigured,
    is_of_other_types,
    is_silent,
    is_unavailable,
    sqlstate,
)
from thea_store.errors import (
    ConflictError,
    DuplicateError,
    EncryptionKeyError,
    ErasureRefusedError,
    InsufficientPrivilegeError,
    InvalidArgumentError,
    InvalidReferenceError,
    OutcomeUnknownError,
    QueryTimeoutError,
    QuotaExceededError,
    SearchUnavailableError,
    StoreError,
    StoreUnavailableError,
    TenantEndedError,
    TenantSuspendedError,
    UnknownTenantError,
)

__all__ = ["statement_failed", "translate", "unreachable"]

# PostgreSQL manual, appendix A. The server undid the statement, and the same again may succeed.
_UNDONE = {"40001", "40P01", DEMOTED}

# What a commit itself is refused for: constraints and triggers that waited for it, other transactions, its own failure.
_OF_COMMITS = {"23", "25", "40", "P0", "TH"}

_LOGIN = {
    "28000": "the server refuses this login (pg_hba.conf or TLS): check DATABASE_URL and DATABASE_SSL_MODE",
    "28P01": "the server refuses the password: check the user and password in DATABASE_URL",
    "3D000": "the database does not exist: create it, or correct the name in DATABASE_URL",
    "42501": "the login may not connect to this database: `grant connect on database … to …`",
}

# PostgreSQL makes the texts of these classes of the schema's names alone. The others may quote a value.
# TH are those that our own functions raise.
_OF_NAMES = {"08", "0A", "23", "25", "26", "28", "3D", "40", "42", "53", "55", "57", "TH"}
_NAMES = {"sqlstate", "schema_name", "table_name", "column_name", "data_type_name", "constraint_name"}
_NOT_SHOWN = "its text is not shown, because it may quote a value"
# What asyncpg itself says of these tells of the connection, not of values. (TimeoutError is an OSError.)
_OF_CONNECTIONS = (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError)


def unreachable(error: BaseException, place: str) -> StoreError:
    """The error of a connection that could not be made; `error` loses what may quote a value."""
    _silence(error)
    if hint := _LOGIN.get(sqlstate(error)):
        return StoreUnavailableError(f"{place}: {hint}")
    if sqlstate(error) == "53300":
        return StoreUnavailableError(
            f"{place}: the server has no connection left: lower DATABASE_POOL_SIZE or raise max_connections"
        )
    if is_misconfigured(error):
        return StoreUnavailableError(
            f"{place}: no connection with these TLS settings ({type(error).__name__}): check DATABASE_SSL_MODE, "
            "DATABASE_SSL_CA and the certificates in DATABASE_URL"
        )
    if is_silent(error):
        return StoreUnavailableError(
            f"{place}: the server does not answer: look whether it hangs, whether a firewall is in the way, and "
            "whether DATABASE_URL names the right host"
        )
    return StoreUnavailableError(
        f"no PostgreSQL answers at {place} ({type(error).__name__}): start it, or correct DATABASE_URL"
    )


def translate(
    error: BaseException,
    query: str,
    *,
    unknown: bool = False,
    prompt: bool = False,
    standby: bool = False,
    behind_commit: bool = False,
    longest_ms: int | None = None,
) -> StoreError:
    """The library's error for a driver's, raised while `query` ran; `error` loses what may quote a value.

    `unknown` says that the statement or commit may have been done if the server did not answer; `prompt`, that a
    server which works would have answered at once, so that another connection is worth a try; `standby`, that it ran
    on a standby; `behind_commit`, that something stood behind a commit in the same message, so that the error may be
    that one's; `longest_ms`, that it might run for so long by its tenant's limit.
    """
    _silence(error)
    if behind_commit and answered(error) and sqlstate(error)[:2] not in _OF_COMMITS:
        failure: StoreError = _not_known(query)
    elif longest_ms is not None and sqlstate(error) == "57014":
        failure = _beyond_time(query, longest_ms)
    else:
        failure = _meaning(error, query, unknown=unknown, standby=standby)
    undone = sqlstate(error) in _UNDONE or (is_of_other_types(error) and (answered(error) or not unknown))
    lost = is_unavailable(error) or (prompt and is_silent(error))
    failure.repeatable = undone or (lost and isinstance(failure, StoreUnavailableError))
    return failure


def _meaning(error: BaseException, query: str, *, unknown: bool, standby: bool) -> StoreError:
    if isinstance(error, asyncpg.DataError) and not sqlstate(error).startswith("22P"):
        return InvalidArgumentError(query, "an argument does not fit its column's type")
    if answered(error):
        return _refused(error, query)
    if unknown:
        return _not_known(query)
    if is_silent(error):
        return StoreUnavailableError(
            f"{query}: the server did not answer in time: it hangs, or the network is silent; nothing was written: try "
            "again"
        )
    if is_unavailable(error):
        return StoreUnavailableError(f"{query}: {_lost(error, standby=standby)}; nothing was written: try again")
    return StoreError(f"{query}: the driver failed with {type(error).__name__}")


def _not_known(query: str) -> StoreError:
    return OutcomeUnknownError(
        f"{query}: the server's answer did not come; the write may or may not be there: read it back before trying "
        "again"
    )


_TIMEOUT = "{query}: took longer than DATABASE_COMMAND_TIMEOUT and was cancelled; nothing was written"

_FORGOTTEN = ", or the query gives it no value: `thea-store check` tells"

# What the server says last, before it ends a connection itself.
_ENDED = {
    "25P03": "the server ended the connection, because the transaction was idle for too long "
    "(idle_in_transaction_session_timeout)",
    "25P04": "the server ended the connection, because the transaction took too long (transaction_timeout)",
    "40001": "the standby ended the connection, because what was read there held back the replay of the primary's "
    "changes (a recovery conflict: see hot_standby_feedback and max_standby_streaming_delay)",
    "57P01": "the connection was ended by the server's operator, or the server is shutting down",
    "57P05": "the server ended the connection, because it was idle for too long (idle_session_timeout)",
}


def _lost(error: BaseException, *, standby: bool) -> str:
    if reason := _ENDED.get(sqlstate(error.__cause__ or error)):
        return reason
    # The driver does not pass on what the server says between two statements.
    hint = " (on a standby perhaps by a recovery conflict: see hot_standby_feedback)" if standby else ""
    return f"the connection to the server was lost{hint}"


def _refused(error: BaseException, query: str) -> StoreError:  # noqa: C901, PLR0911 - a line for each meaning
    state = sqlstate(error)
    # Told of the aggregate: the query's name is not always that of the method which ran it.
    aggregate = query.partition(".")[0]
    if state.startswith("TH0"):
        return _of_tenant(error, query)
    match state:
        case "23505":
            fields = _fields(error)
            return DuplicateError(f"{aggregate}: a row with the same {', '.join(fields) or 'key'} exists", fields)
        case "23503" | "23502":
            # Required values are checked before; what is still null is a parent that was not found.
            fields = _fields(error) or ["the parent"]
            # By the names that we give, a column which refers to a row ends with `_id`.
            forgotten = "" if state == "23503" or fields[0].endswith("_id") else _FORGOTTEN
            return InvalidReferenceError(f"{aggregate}: {', '.join(fields)} names no row of this tenant{forgotten}")
        case "23514":
            return _unfulfilled(error, query)
        case "57014" | "55P03":
            return QueryTimeoutError(_TIMEOUT.format(query=query))
        case "40001" | "40P01":
            return ConflictError(
                f"{query}: the server undid this work because of another transaction: run all of it again, "
                "or use store.run(…, retry=3)"
            )
        case "25006":
            return StoreUnavailableError(f"{query}: the server is read-only (a standby, or a read-only transaction)")
        case "25P02":
            return StoreError(statement_failed(query))
        case "42501":
            return InsufficientPrivilegeError(f"{query}: {_lacking(aggregate)}")
        case "TH101" | "TH102":
            return ErasureRefusedError(f"{query}: {error}: nothing was removed; {_WAYS_OUT[state]}")
        case "42P01" | "42703" | "42883" | "42804":
            return StoreError(f"{query}: the schema changed under the running service: run `thea-store check`")
    if state.startswith("22") or state == "54000":  # a document beyond what a value may hold
        return InvalidArgumentError(query, f"the server refuses a value (SQLSTATE {state})")
    return StoreError(f"{query}: {_trouble(error)}")


# What lets a person be erased on whose rows others depend.
_WAYS_OUT = {
    "TH101": "move or remove those rows first, or erase with `with_others`",
    "TH102": "remove those rows first, or let the key be `on delete cascade`",
}


# The constraint by which deploy/citus/distribute.sql refuses limits that the database would have to keep.
_ON_CLUSTER = "tenants_limits_on_cluster_check"


def _unfulfilled(error: BaseException, query: str) -> InvalidArgumentError:
    if _ON_CLUSTER in str(error):  # a cluster does not tell the name by itself
        return InvalidArgumentError(
            "limits", "a Citus cluster keeps none of rows or of text: leave these two out (docs/citus.md)"
        )
    return InvalidArgumentError(", ".join(_fields(error)) or query, "does not fulfil the database's check")


def _of_tenant(error: BaseException, query: str) -> StoreError:  # noqa: PLR0911 - as above
    """What our own functions raise of a tenant, told by SQLSTATE."""
    match sqlstate(error):
        case "TH004":
            return _beyond_limit(error, query)
        case "TH005":
            return InvalidArgumentError("limits", "rows: has a name that is no table of tenants: correct it")
        case "TH006":
            return EncryptionKeyError(
                f"{query}: the texts of this tenant are encrypted, and this process has no key for them; nothing was "
                "written: set DATABASE_ENCRYPTION_KEYS"
            )
        case "TH007":
            return SearchUnavailableError(
                f"{query}: the notes of this tenant are encrypted, so their words cannot be searched: find them by "
                "tags or categories"
            )
        case "TH001":
            return TenantSuspendedError(
                f"{query}: this tenant is suspended, and nothing was done: an operator resumes it with "
                "`store.tenants.resume`"
            )
        case "TH002":
            return TenantEndedError(f"{query}: this tenant has ended, and nothing was done")
        case _:
            return UnknownTenantError(
                f"{query}: the directory has no such tenant, and DATABASE_TENANTS=registered lets no other one in: an "
                "operator puts it there with `store.tenants.create`"
            )


def _beyond_limit(error: BaseException, query: str) -> QuotaExceededError:
    counted = str(getattr(error, "constraint_name", ""))
    [allowed] = [int(word) for word in str(error).split() if word.isdigit()]
    of_text = counted == "text_bytes"
    what = f"{allowed} bytes of text" if of_text else f"{allowed} rows in {counted}"
    return QuotaExceededError(
        f"{query}: this tenant may have {what}, and nothing was written: purge some, or let an operator raise it",
        "text_bytes" if of_text else "rows",
        allowed,
        None if of_text else counted,
    )


def _beyond_time(query: str, longest_ms: int) -> QuotaExceededError:
    return QuotaExceededError(
        f"{query}: a statement of this tenant may run for {longest_ms} ms, and was cancelled; nothing was written: ask "
        "for less at once, or let an operator raise it",
        "statement_ms",
        longest_ms,
    )


# Which group may run the queries of an aggregate that is not a service's.
_GROUP_OF = {
    "tenants": "thea_admin",
    "retention": "thea_admin",
    "work": "thea_worker",
    "erasure": "thea_privacy",
}


def _lacking(aggregate: str) -> str:
    if group := _GROUP_OF.get(aggregate):
        return f"only a login in the group {group} may do this: open a store with one"
    return "the login lacks a privilege: `grant thea_app to …`, then `thea-store doctor`"


def _trouble(error: BaseException) -> str:
    """What is wrong with the server, where it is nothing that a caller can do about."""
    state = sqlstate(error)
    match state[:2]:
        case "53" if state == "53100":
            return "the server's disk is full: make room there; nothing was written"
        case "53":  # "insufficient resources": memory, files
            return f"the server lacks resources (SQLSTATE {state}), its log says which; nothing was written"
        case "58" | "XX":  # "system error" and "internal error": of the machine, or of PostgreSQL
            return f"the server failed (SQLSTATE {state}), its log says why; nothing was written"
    return f"the server refuses it with SQLSTATE {state} ({type(error).__name__})"


def statement_failed(query: str) -> str:
    """What is said of a transaction in which nothing more can be done."""
    return (
        f"{query}: an earlier statement of this transaction failed, so nothing more can be done in it: wrap what may "
        "fail in tx.savepoint()"
    )


def _silence(error: BaseException) -> None:
    """Take out of a driver's error what may quote a value: DETAIL, CONTEXT, the statement, some texts.

    Left are its class, SQLSTATE, the names of what it is about, and texts that are made of names.
    """
    kept = set(_NAMES)
    if sqlstate(error)[:2] in _OF_NAMES:
        kept |= {"message", "hint"}
    elif not isinstance(error, _OF_CONNECTIONS):
        error.args = (_NOT_SHOWN,)
        # What a codec stumbled over, which quotes the value again.
        error.__cause__ = error.__context__ = None
    if isinstance(error, asyncpg.PostgresError):
        for name in vars(error).keys() - kept:
            delattr(error, name)
    if error.__cause__ is not None:  # behind a lost connection there is what the server said last
        _silence(error.__cause__)


def _fields(error: BaseException) -> list[str]:
    # Under row security the server does not tell the key; our constraints are named
    # <table>_<column>_key, _fkey or _check. The name may be missing or changed on a distributed server.
    if column := getattr(error, "column_name", None):
        return [str(column)]
    table, name = getattr(error, "table_name", None), getattr(error, "constraint_name", None)
    if not table or not name or not name.startswith(f"{table}_"):
        return []
    return [name.removeprefix(f"{table}_").rpartition("_")[0]]
