"""What the directory says of tenants' calls: how many at once, how long a statement may run, whether reads are noted.

The directory has these limits, and each process keeps them for its own calls. It asks in the background, for the
tenants that it was called for, at most once in ten seconds: so no call waits for the answer, and a limit holds in a
running process within ten seconds and the time of the question. A tenant without a limit costs a look into a table of
those that have one.

- *Calls in flight* are connections that the tenant's calls and transactions hold or wait for. One more is refused.
- *Whether reads are noted* in the activity log. Of a tenant that was not asked for yet, the server decides, once any
  tenant at all has something said of its calls: so no read of a new process goes without its entry.
- *The time of a statement* travels with the statement, in the transaction that it is alone in or that begins with it.
  No session keeps it, so it cannot reach another tenant's statement. What a connection asks about a statement before
  its first use of it is no part of that, and takes as long as any statement may.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from thea_store.errors import InsufficientPrivilegeError, QuotaExceededError, StoreError

__all__ = ["CallLimit", "CallLimits", "limit_time"]

EVERY = 10.0
"""Seconds between two questions."""

Ask = Callable[[Collection[str]], Awaitable[Mapping[str, "CallLimit"] | None]]
"""Gives what is said of those of these tenants of whom something is; `None` where nothing is said of any tenant."""


class CallLimit(NamedTuple):
    """What one tenant may do in calls; `None` is as much as it likes."""

    calls_in_flight: int | None = None
    statement_ms: int | None = None
    log_reads: bool = False


class CallLimits:
    """The limits of the tenants that a store is called for, as they were at most some seconds ago.

    `in_flight` tells how many calls a tenant has, and `longest_ms` how long each statement may run anyway.
    """

    def __init__(self, in_flight: Callable[[str], int], longest_ms: int) -> None:
        self._in_flight, self._longest_ms = in_flight, longest_ms
        self._ask: Ask | None = None
        self._limits: Mapping[str, CallLimit] = {}
        # The tenants that the last answer is about; `None` where it is about all, because nothing is said of any.
        self._asked: Collection[str] | None = None
        self._called: set[str] = set()  # the tenants that were called for since the last question
        self._timer: asyncio.TimerHandle | None = None
        self._question: asyncio.Task[None] | None = None

    def ask_by(self, ask: Ask) -> None:
        """Let the limits be asked for so."""
        self._ask = ask

    def admit(self, tenant_id: str | None) -> None:
        """Take note of a call; `QuotaExceededError` when the tenant has as many in flight as it may have."""
        if not tenant_id:
            return
        if self._ask is not None:
            self._called.add(tenant_id)
            if self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(EVERY, self._begin_to_ask)
        limit = self._limits.get(tenant_id)
        if limit is None or limit.calls_in_flight is None:
            return
        if self._in_flight(tenant_id) >= limit.calls_in_flight:
            raise QuotaExceededError(
                f"this tenant may have {limit.calls_in_flight} calls in flight in each process, and has them; nothing "
                "was done: try again when one has ended, or let an operator raise it",
                "calls_in_flight",
                limit.calls_in_flight,
            )

    def statement_ms(self, tenant_id: str) -> int | None:
        """For how many milliseconds a statement of the tenant may run; `None` where it is as long as any."""
        limit = self._limits.get(tenant_id)
        if limit is None or limit.statement_ms is None or limit.statement_ms >= self._longest_ms:
            return None
        return limit.statement_ms

    def reads_are_noted(self, tenant_id: str) -> bool:
        """Whether a read of the tenant is to be noted, as far as is known: the server decides in the end."""
        limit = self._limits.get(tenant_id)
        if limit is not None:
            return limit.log_reads
        return bool(tenant_id) and self._asked is not None and tenant_id not in self._asked

    async def close(self) -> None:
        """Ask no more. Idempotent."""
        self._ask = None
        if self._timer is not None:
            self._timer.cancel()
        if self._question is not None:
            self._question.cancel()
            await asyncio.gather(self._question, return_exceptions=True)

    def _begin_to_ask(self) -> None:
        self._question = asyncio.create_task(self.refresh(), name="thea_store limits")

    async def refresh(self) -> None:
        """Ask for the tenants that were called for, and for those that had a limit; what is known stays on an error."""
        asked, self._called = {*self._called, *self._limits}, set()
        try:
            if self._ask is not None:
                limits = await self._ask(asked)
                self._limits, self._asked = limits or {}, None if limits is None else asked
        except InsufficientPrivilegeError:  # the login is not one that these limits are for
            self._ask = None
        except StoreError:
            self._called |= asked  # the next call asks again
            self._asked = () if self._asked is None else self._asked  # nobody knows by now
        finally:
            self._timer = None


def limit_time(milliseconds: int | None) -> Sequence[str]:
    """The statement that gives a transaction so much time for each of its statements; none for `None`."""
    return () if milliseconds is None else (f"set local statement_timeout = {milliseconds}",)
