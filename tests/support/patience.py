"""How long calls wait in line for a connection, changed while a store is open."""

from __future__ import annotations

from thea_store.database.pool import Pool

__all__ = ["let_calls_wait"]


def let_calls_wait(pool: Pool, seconds: float) -> None:
    """From now on, a call in line is refused after so many seconds; for an open store there is no setting."""
    pool._timeout = seconds
    pool._watch_line()  # what watches it was set for the time before
