"""How the data keys of an encrypted tenant are read: by the call that needs them, on the way it takes itself."""

from __future__ import annotations

from thea_store.encryption import WrappedKey
from thea_store.queries.file import SqlFile

__all__ = ["GET_WRAPPED", "SQL"]

SQL = SqlFile("keys")

GET_WRAPPED = SQL.query("get_wrapped", WrappedKey)
