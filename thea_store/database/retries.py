"""Doing again what the server undid, or what surely never reached it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from thea_store.errors import StoreError

__all__ = ["ATTEMPTS", "repeat"]

T = TypeVar("T")

ATTEMPTS = 3
"""How often a call is tried, the first time included."""


async def repeat(
    work: Callable[[], Awaitable[T]], attempts: int = ATTEMPTS, *, retried: Callable[[], None] = lambda: None
) -> T:
    """What `work()` returns, tried up to `attempts` times while its error is repeatable; `retried` is told of each."""
    attempt = 0
    while True:
        attempt += 1
        try:
            return await work()
        except StoreError as error:
            if not error.repeatable or attempt >= attempts:
                raise
            retried()
        # Longer each time, and never as long as a rival's pause, so that they do not meet again.
        await asyncio.sleep(random.uniform(0.5, 1.0) * 0.02 * 2 ** min(attempt, 8))
