"""URLs with a marked password, well formed and not, all of servers that do not exist."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import quote

# What ends a part of a URL, is dropped from it, or is no text: inside a password that was not encoded.
_STRANGE = ("", *"/?#@:[]%&=;,+\\ \n\t\0ñ℀\ud800", "%00", "%zz", "%ff")
_FORMS = ("postgresql://ana:{}@/db?host=/nowhere", "postgresql:///db?host=/nowhere&user=ana&password={}")
_BROKEN_FORMS = (
    "postgresql://ana:{}@/db?host=/nowhere&port=x",
    "postgresql://ana:{}@/db?host=/nowhere&sslmod=require",
    "postgresql://ana:{}@/db?host=/nowhere&connect_timeout=x",
    "postgresql://ana:{}@/nowhere:port/db",
    "postgresql://ana:{}@[::1/db",
    "postgresql:ana:{}@/db?host=/nowhere",
    "mysql://ana:{}@/db?host=/nowhere",
    "ana:{}@/nowhere/db",
    "postgresql://ana:{}",
    "{}",
)


def urls(secret: str) -> Iterator[str]:
    """Each form with each kind of password, as it stands and encoded; `secret` stands in it before and behind."""
    for form in _FORMS:
        for strange in (*_STRANGE, f"&{secret}="):
            password = f"{secret}{strange}{secret}"
            yield form.format(password)
            yield form.format(quote(password, safe="", errors="replace"))
    for form in _BROKEN_FORMS:
        yield form.format(secret)
