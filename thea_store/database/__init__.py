"""The only package that talks to asyncpg: connections, the pool, the tenant's way to the server."""

from thea_store.database.database import Database, Isolation
from thea_store.database.executor import Executor, RowKeyNeededError
from thea_store.database.limits import CallLimit
from thea_store.database.nobody import NOBODY
from thea_store.database.retries import repeat
from thea_store.database.transaction import Transaction

__all__ = ["NOBODY", "CallLimit", "Database", "Executor", "Isolation", "RowKeyNeededError", "Transaction", "repeat"]
