"""The calls that wait for a connection, by their tenants.

A connection that becomes free goes to the waiting tenants in turn, and within a tenant to the call that has waited
longest. So a call waits for one call of each other tenant, however many calls another tenant has in line.

A tenant that holds more than half of all connections gets no other one while another tenant waits: otherwise calls
that take long would collect all connections, turn by turn.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Waiters"]

T = TypeVar("T")

_Tenant = str | None
"""`None` is a call for no tenant."""


class Waiters(Generic[T]):
    """Futures of the calls in line."""

    def __init__(self) -> None:
        # The tenant whose turn is next comes first. Each call has the time since which it waits.
        self._by_tenant: OrderedDict[_Tenant, OrderedDict[asyncio.Future[T], float]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, tenant: _Tenant, future: asyncio.Future[T]) -> None:
        """Put a call in line, as the last one of its tenant."""
        self._by_tenant.setdefault(tenant, OrderedDict())[future] = time.monotonic()
        self._count += 1

    def count(self, tenant: _Tenant) -> int:
        """How many calls of this tenant are in line."""
        return len(self._by_tenant.get(tenant, ()))

    def oldest(self) -> float | None:
        """Since when the call waits that has waited longest; `None` where none waits."""
        return min((next(iter(calls.values())) for calls in self._by_tenant.values()), default=None)

    def remove(self, tenant: _Tenant, future: asyncio.Future[T]) -> None:
        """Take a call out of the line; nothing happens where it has left it already."""
        calls = self._by_tenant.get(tenant)
        if calls is None or calls.pop(future, None) is None:
            return
        self._count -= 1
        if not calls:
            del self._by_tenant[tenant]

    def take(self, has_its_share: Callable[[_Tenant], bool]) -> tuple[_Tenant, asyncio.Future[T]] | None:
        """The next call, which leaves the line, and its tenant; `None` where none waits.

        A tenant that has its share is passed over, as long as there is another one.
        """
        while self._by_tenant:
            first = next(iter(self._by_tenant))
            tenant = first
            if len(self._by_tenant) > 1:
                tenant = next((each for each in self._by_tenant if not has_its_share(each)), first)
            future = next(iter(self._by_tenant[tenant]))
            self.remove(tenant, future)
            if not future.done():  # else its call was cancelled in this turn of the event loop
                if tenant in self._by_tenant:
                    self._by_tenant.move_to_end(tenant)
                return tenant, future
        return None

    def take_all(self, since: float | None = None) -> list[asyncio.Future[T]]:
        """Those calls that wait since this time or longer, which leave the line; all where no time is given."""
        leaving = [
            (tenant, future)
            for tenant, calls in self._by_tenant.items()
            for future, waits_since in calls.items()
            if since is None or waits_since <= since
        ]
        for tenant, future in leaving:
            self.remove(tenant, future)
        return [future for _, future in leaving if not future.done()]

    def take_oldest(self, count: int) -> list[asyncio.Future[T]]:
        """So many of the calls that have waited longest, which leave the line."""
        waits_since = {future: at for calls in self._by_tenant.values() for future, at in calls.items()}
        oldest = set(sorted(waits_since, key=waits_since.__getitem__)[: max(0, count)])
        for tenant, calls in list(self._by_tenant.items()):
            for future in oldest & calls.keys():
                self.remove(tenant, future)
        return [future for future in oldest if not future.done()]
