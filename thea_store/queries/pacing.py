"""Long loops that let others have their turn."""

from __future__ import annotations

import asyncio
import time

__all__ = ["Pace"]

# Seconds for which a call may compute before the event loop serves others.
_TURN = 0.01


class Pace:
    """Gives way to the event loop's other tasks, once a turn is over."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    async def keep(self) -> None:
        """Let others have their turn, where this one has lasted long enough."""
        if time.perf_counter() - self._since >= _TURN:
            await asyncio.sleep(0)
            self._since = time.perf_counter()
