"""Cursors: the place of a page's last row, tied to its question and tenant.

A question is a query and all that was asked of it: its filters, its order, and whether deleted rows count.

The digest is no secret: row security, not the cursor, decides what a page may show. It is there so
that a cursor that was altered, or that belongs elsewhere, is refused instead of giving a senseless page.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
from datetime import UTC, datetime, timedelta
from uuid import UUID

from thea_store.errors import InvalidArgumentError
from thea_store.queries.arguments import FIRST_MOMENT, LAST_MOMENT

__all__ = ["NOT_OURS", "Key", "decode", "encode"]

_DIGEST, _TIME = 8, 8
# A text is longer than the other kinds of key, by NUL characters at its end where it is short.
_UUID, _TEXT = 16, 17
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


Key = int | UUID | str
"""What a row is known by; a text has no NUL character."""


NOT_OURS = "is not the next_cursor of a page of this very call, with the same filters and order: start without one"
"""Why a cursor is refused."""


def encode(question: str, tenant_id: str, at: datetime, key: Key) -> str:
    """The cursor of the row with this time and key."""
    time = ((at - _EPOCH) // _MICROSECOND).to_bytes(_TIME, signed=True)
    place = time + _bytes(key)
    return base64.urlsafe_b64encode(_digest(question, tenant_id, place) + place).decode().rstrip("=")


def decode(question: str, tenant_id: str, cursor: object) -> tuple[datetime, Key]:
    """The row's time and key; `InvalidArgumentError` unless a page of this question gave this tenant the cursor."""
    if isinstance(cursor, str) and cursor.isascii() and isinstance(tenant_id, str):
        try:
            raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raw = b""
        digest, place = raw[:_DIGEST], raw[_DIGEST:]
        time, key = place[:_TIME], place[_TIME:]
        if digest == _digest(question, tenant_id, place) and key:
            # Encoded anew, because base64 has several spellings of the same bytes. No row has a time or key
            # that overflows, but whoever knows the digest can make up a cursor that has.
            with contextlib.suppress(OverflowError, UnicodeDecodeError):
                at = _EPOCH + int.from_bytes(time, signed=True) * _MICROSECOND
                found = _key(key)
                if FIRST_MOMENT <= at <= LAST_MOMENT and encode(question, tenant_id, at, found) == cursor:
                    return at, found
    raise InvalidArgumentError("cursor", NOT_OURS)


def _bytes(key: Key) -> bytes:
    if isinstance(key, str):
        return key.encode().ljust(_TEXT, b"\0")
    return key.bytes if isinstance(key, UUID) else key.to_bytes(8, signed=True)


def _key(raw: bytes) -> Key:
    if len(raw) >= _TEXT:
        text = raw.rstrip(b"\0").decode()
        return text if text.isprintable() else ""
    return UUID(bytes=raw) if len(raw) == _UUID else int.from_bytes(raw, signed=True)


def _digest(question: str, tenant_id: str, place: bytes) -> bytes:
    key = hashlib.blake2b(f"{question}\0{tenant_id}".encode(errors="surrogatepass"), digest_size=32).digest()
    return hashlib.blake2b(place, digest_size=_DIGEST, key=key).digest()
