"""The only package that talks to asyncpg: connections, the pool, the tenant's way to the server.

A store calls `database`, and a repository what it has of `executor`; `nobody` is that of queries of no tenant.

- What is sent: `single_call` a statement alone, `transaction` several, with their `savepoints`. `wire` and `reading`
  have what goes before a statement, `acting` on whose behalf it is, `retries` what is done again.
- Where to: a `server`, or one of its `replicas`. The `pool` has the connections to one, and `waiters` who waits for
  them; `connector` makes each `connection`, with `driver`, `keepalive` and `origin`.
- What a driver's error is, tells `driver_errors`, and what the caller gets instead, `failures`.
- What is asked beside the calls: `limits` of tenants, `keys` of encrypted ones, plans (`explaining`).
"""

from thea_store.database.database import Database, Isolation
from thea_store.database.executor import Executor, RowKeyNeededError
from thea_store.database.limits import CallLimit
from thea_store.database.nobody import NOBODY
from thea_store.database.retries import repeat
from thea_store.database.transaction import Transaction

__all__ = ["NOBODY", "CallLimit", "Database", "Executor", "Isolation", "RowKeyNeededError", "Transaction", "repeat"]
