"""Work in a process of its own, whose memory peak is that of the work alone."""

from __future__ import annotations

import multiprocessing
import resource
import time
from collections.abc import Callable
from typing import Any

__all__ = ["measure"]


def _measured(queue: Any, work: Callable[..., object], arguments: tuple[Any, ...]) -> None:
    began = time.perf_counter()
    result = work(*arguments)
    seconds = time.perf_counter() - began
    queue.put((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, getattr(result, "pause", None)))


def measure(name: str, rows: int, work: Callable[..., object], *arguments: Any) -> None:
    """Print how long the work took, and its memory peak."""
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=_measured, args=(queue, work, arguments))
    process.start()
    seconds, peak, pause = queue.get()
    process.join()
    stopped = "" if pause is None else f", service stopped for {pause:.2f} s"
    print(f"{name:<32}{seconds:>8.1f} s{rows / seconds:>12,.0f} rows/s{peak:>8.0f} MB at most{stopped}")
