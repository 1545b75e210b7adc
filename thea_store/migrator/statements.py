"""The statements round the migrations; those on yoyo's own tables that yoyo has, it sends itself."""

from __future__ import annotations

__all__ = [
    "APPLICATION_NAME",
    "APPLIED",
    "BLOCKERS",
    "FORGET_PLAIN_LOCK",
    "HAS_LOCK_TABLE",
    "HAS_MIGRATIONS",
    "HOLDS_LOCK",
    "LOCK_HOLDER",
    "OTHER_MIGRATORS",
    "PLAIN_LOCK",
    "SHUT_OUT_PLAIN_YOYO",
    "TRY_LOCK",
    "UNLOCK",
    "settings",
]

APPLICATION_NAME = "thea-store migrate"

# A key of two numbers, which the server keeps apart for each database: "thea" in ASCII, and migrations.
TRY_LOCK = "select pg_try_advisory_lock(1952998753, 1)"
UNLOCK = "select pg_advisory_unlock(1952998753, 1)"

_LOCKS = """
from pg_locks as l
where l.locktype = 'advisory'
and l.database = (select oid from pg_database where datname = current_database())
and l.classid = 1952998753 and l.objid = 1 and l.objsubid = 2
and l.granted
"""

# Asked inside each transaction: behind a pooler it may run on another server process than the lock.
HOLDS_LOCK = f"select exists (select {_LOCKS} and l.pid = pg_backend_pid())"

LOCK_HOLDER = f"""
select h.pid, a.application_name, a.backend_start
from (select l.pid {_LOCKS}) as h
left join pg_stat_activity as a on a.pid = h.pid
limit 1
"""  # noqa: S608  # put together from constants

# Who stands before another session in the queue for a lock, and the table, where it waits for one.
BLOCKERS = """
select distinct
    b.pid, a.usename, a.application_name, a.xact_start,
    (select w.relation::regclass::text from pg_locks as w where w.pid = %(pid)s and not w.granted limit 1)
from unnest(pg_blocking_pids(%(pid)s)) as b (pid)
left join pg_stat_activity as a on a.pid = b.pid
order by b.pid
"""

HAS_MIGRATIONS = "select to_regclass('public._yoyo_migration') is not null"
HAS_LOCK_TABLE = "select to_regclass('public.yoyo_lock') is not null"

# Each applied migration with the comment of its newest application.
APPLIED = """
select m.migration_id, l.comment
from public._yoyo_migration as m
left join lateral (
    select comment
    from public._yoyo_log
    where migration_id = m.migration_id
    and operation in ('apply', 'mark')
    order by created_at_utc desc
    limit 1
) as l on true
order by m.migration_id
"""

PLAIN_LOCK = "select pid, ctime from public.yoyo_lock"
FORGET_PLAIN_LOCK = "delete from public.yoyo_lock where pid = %s and ctime is not distinct from %s"
SHUT_OUT_PLAIN_YOYO = "lock table public.yoyo_lock in share mode"

# Sessions that could be a plain yoyo: who cannot write its lock is none (the services' logins cannot),
# nor is one of ours.
OTHER_MIGRATORS = """
select a.pid
from pg_stat_activity as a
join pg_roles as r on r.oid = a.usesysid
where a.datname = current_database()
and a.pid <> pg_backend_pid()
and a.application_name is distinct from %s
and has_table_privilege(a.usesysid, 'public.yoyo_lock', 'insert')
order by a.pid
"""

# yoyo's statement, with the comment that takes the checksum (in yoyo's placeholders).
LOG = """
insert into {0.log_table_quoted}
    (id, migration_hash, migration_id, operation, username, hostname, created_at_utc, comment)
values (:id, :migration_hash, :migration_id, :operation, :username, :hostname, :created_at_utc, :comment)
"""


def settings(lock_timeout: float) -> str:
    """What each transaction begins with, so that neither a role's settings nor an earlier file's count.

    All is local to the transaction: behind a pooler nothing stays on the server's session.
    """
    return f"""
        reset session authorization;
        reset role;
        reset all;
        set local search_path = public;
        -- A backfill that row security would narrow must fail, not do less than it says.
        set local row_security = off;
        set local lock_timeout = {max(1, round(lock_timeout * 1000))};
        set local statement_timeout = 0;
        set local idle_in_transaction_session_timeout = 0;
        select set_config('transaction_timeout', '0', true)
        where current_setting('server_version_num')::integer >= 170000;
        -- The server notices a killed migrator within this time, in the middle of a statement too.
        select set_config('client_connection_check_interval', '1s', true)
        where version() like '%linux%';
    """
