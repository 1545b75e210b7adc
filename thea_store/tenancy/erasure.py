"""That a person was erased: what is asked of the database for it, and the certificate."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from thea_store.queries.arguments import Id, LongText
from thea_store.queries.file import SqlFile
from thea_store.repositories.records import Record

__all__ = ["ERASE", "SQL", "Erasure"]


class Erasure(Record, frozen=True):
    """The certificate that a person was erased. It names them by their former id alone."""

    id: UUID
    at: datetime
    actor: str | None
    request_id: str | None
    login: str
    """The database's login that did it."""
    user_id: int
    reason: str
    counts: dict[str, int]
    """The person's rows that are gone, by table."""
    counts_of_others: dict[str, int]
    """Rows of other people that hung on the person's and went with them, by table; empty unless that was asked for."""
    redacted: int
    """The audit entries that no longer say what was in a row."""


SQL = SqlFile("erasure")

ERASE = SQL.query("erase", Erasure, subject_id=Id, reason=LongText, with_others=bool)
