"""Passwords that change while a store is open: asked for at each new connection."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import replace

from thea_store.errors import InvalidArgumentError, StoreUnavailableError
from thea_store.postgres.url import DatabaseUrl

__all__ = ["PasswordSource", "check_password_source", "with_password"]

PasswordSource = Callable[[], str | Awaitable[str]]
"""A function that returns the password to connect with now, or an awaitable of it."""

_PATIENCE = 15.0


def check_password_source(source: object) -> None:
    """`InvalidArgumentError` unless `source` is `None` or can be called."""
    if source is not None and not callable(source):
        raise InvalidArgumentError(
            "password", "must be a function that returns the password; a fixed password belongs into the URL"
        )


async def with_password(address: DatabaseUrl, source: PasswordSource | None) -> DatabaseUrl:
    """The address with the password that `source` returns now; the address itself where there is no source.

    A source that is no coroutine function runs in a thread, because it may block. `StoreUnavailableError` where it
    raises, takes longer than 15 s, or returns something else than a password.
    """
    if source is None:
        return address
    try:
        async with asyncio.timeout(_PATIENCE):
            password = await _ask(source)
    except Exception as error:
        # Its own text may quote a secret.
        raise StoreUnavailableError(
            f"{address}: the function given as `password` failed with {type(error).__name__} (it may take "
            f"{_PATIENCE:g} s), so there is no password to connect with: mend it, or what it asks"
        ) from error
    if not isinstance(password, str) or not password or "\0" in password:
        raise StoreUnavailableError(
            f"{address}: the function given as `password` must return a text that is not empty and has no NUL in it"
        )
    return replace(address, password=password)


async def _ask(source: PasswordSource) -> object:
    # The call of a coroutine function runs nothing yet, so it needs no thread.
    answer = source() if inspect.iscoroutinefunction(source) else await asyncio.to_thread(source)
    return await answer if inspect.isawaitable(answer) else answer
