"""How far a standby has come, against the primary."""

from __future__ import annotations

from typing import NamedTuple

from thea_store.errors import StoreError
from thea_store.postgres.url import DatabaseUrl
from thea_store.verification.connecting import connected

__all__ = ["Replayed", "replayed", "written"]


class Replayed(NamedTuple):
    """How far a standby has come."""

    is_standby: bool
    missing: int | None
    """Bytes of the primary's log that it has not replayed; `None` where the primary's position is not known."""
    seconds: float | None
    """Seconds since the last transaction that it replayed, where something is missing, and else 0."""


def written(address: DatabaseUrl) -> str | None:
    """The position of a primary's log; `None` where it does not answer, or is a standby. Blocks."""
    try:
        with connected(address) as connection:
            row = connection.execute(_WRITTEN).fetchone()
    except StoreError:
        return None
    return row[0] if row else None


def replayed(address: DatabaseUrl, position: str | None) -> Replayed:
    """How far a standby has come, against that position of the primary's log. Blocks; `StoreUnavailableError`."""
    with connected(address, standby=True) as connection:
        [(is_standby, missing, seconds)] = connection.execute(_REPLAYED, {"written": position}).fetchall()
    if not is_standby or missing is None:
        return Replayed(is_standby, None, None)
    return Replayed(is_standby, missing, seconds if missing else 0.0)


_WRITTEN = "select case when not pg_is_in_recovery() then pg_current_wal_lsn()::text end"
_REPLAYED = """
select
  pg_is_in_recovery(),
  greatest(pg_wal_lsn_diff(%(written)s::text::pg_lsn, pg_last_wal_replay_lsn()), 0)::bigint,
  extract(epoch from now() - pg_last_xact_replay_timestamp())::double precision
"""
