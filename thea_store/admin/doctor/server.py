"""The server: its version, its clock, its room, and whether it takes writes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from time import time as now

from thea_store.admin.doctor.findings import Check, CheckContext, Verdict, ok, problem, quoted, warning
from thea_store.postgres.encoding import UTF8

__all__ = ["CHECKS"]

_OLDEST, _NEWEST = 15, 18
_SKEW = 5.0

_VERSION = "select current_setting('server_version_num')::int / 10000, current_setting('server_version')"


def _version(context: CheckContext) -> Sequence[Verdict]:
    [(major, version)] = context.ask(_VERSION)
    if major < _OLDEST:
        return [problem(f"PostgreSQL {version} is too old", f"upgrade the server to {_OLDEST} or newer")]
    if major > _NEWEST:
        fix = f"look for a newer thea_store, or run a server of version {_OLDEST} to {_NEWEST}"
        return [warning(f"PostgreSQL {version} is newer than this library knows", fix)]
    return [ok(f"PostgreSQL {version}")]


_ENCODING = "select current_setting('server_encoding'), current_database()"


def _encoding(context: CheckContext) -> Sequence[Verdict]:
    [(encoding, database)] = context.ask(_ENCODING)
    if encoding == UTF8:
        return [ok(UTF8)]
    fix = (
        f"dump it, and restore it into a database made with `create database {quoted(database)} "
        "encoding 'UTF8' template template0`"
    )
    return [problem(f"the database's encoding is {encoding}, so it cannot hold every text", fix)]


_WRITES = "select pg_is_in_recovery(), current_setting('default_transaction_read_only') = 'on', current_user::text"


def _writes(context: CheckContext) -> Sequence[Verdict]:
    [(standby, read_only, login)] = context.ask(_WRITES)
    if standby:
        return [problem("the server is a standby, which takes no writes", "give the primary's URL in DATABASE_URL")]
    if read_only:
        fix = (
            f"`alter role {quoted(login)} reset default_transaction_read_only`, and the same of the database "
            "or the server if it was set there"
        )
        return [problem("default_transaction_read_only is on, so every write fails", fix)]
    return [ok("the server is a primary and takes writes")]


_CLOCK = "select extract(epoch from clock_timestamp())::double precision"


def _clock(context: CheckContext) -> Sequence[Verdict]:
    before = now()
    [(server,)] = context.ask(_CLOCK)
    after = now()
    skew = max(before - server, server - after, 0.0)
    if skew <= _SKEW:
        return [ok(f"the server's differs by less than {_SKEW:g} s")]
    side = "ahead of" if server > after else "behind"
    fix = "synchronise both clocks (NTP): reminders and retention compare the service's time with the server's"
    return [warning(f"the server's is {skew:,.0f} s {side} this machine's", fix)]


# A limit of -1 is none. `reserved_connections` came with PostgreSQL 16.
_ROOM = """
select l.name, l.free
from pg_roles r, pg_database d, lateral (values
  (
    'max_connections, less what is reserved',
    current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int
      - coalesce(current_setting('reserved_connections', true), '0')::int
  ),
  ('the connection limit of the login', nullif(r.rolconnlimit, -1)),
  ('the connection limit of the database', nullif(d.datconnlimit, -1))
) as l (name, free)
where r.rolname = current_user and d.datname = current_database() and l.free is not null
order by l.free, l.name
limit 1
"""


def _pool(context: CheckContext) -> Sequence[Verdict]:
    [(name, free)] = context.ask(_ROOM)
    wanted = context.settings.pool_size + context.settings.max_overflow
    if context.pooled:
        return [ok(f"a pooler shares out {free} connections ({name})")]
    if wanted <= free:
        return [ok(f"up to {wanted} connections of {free} ({name}): room for {free // wanted} process(es)")]
    fix = f"lower DATABASE_POOL_SIZE and DATABASE_MAX_OVERFLOW to {free} together, or raise that limit"
    return [problem(f"one process may want {wanted} connections, and there are {free} ({name})", fix)]


CHECKS: Mapping[str, Check] = {
    "version": _version,
    "encoding": _encoding,
    "writes": _writes,
    "clock": _clock,
    "pool": _pool,
}
