"""The standbys that reads go to: which one, when one is left out, and that a tenant reads what it wrote.

A standby is looked at every few seconds. It is left out while it does not answer, for a moment after a read failed on
it, and while it is far behind. A read that fails on a standby is done on the primary, whose word is final. So a standby
can make a read slower, but cannot fail one that the primary would serve.

A standby is behind. What a tenant wrote through this store, it finds there again: the position of the primary's log
comes with the commit of a transaction, and is asked for once after any other write. A read waits on the standby, in its
own message and for a moment at most, until that position is replayed. A standby that is late refuses the read, and the
primary serves it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from thea_store.database.driver_errors import LATE, is_late, takes_no_writes
from thea_store.database.server import Server
from thea_store.database.transaction import POSITION
from thea_store.errors import InvalidArgumentError, PoolTimeoutError, QueryTimeoutError, QuotaExceededError, StoreError

__all__ = ["Replica", "Replicas"]

# Seconds between two looks at the standbys, and for which one is left out after a read failed on it.
_LOOK = 2.0
_ASIDE = 1.0

# A read that failed on so many goes to the primary.
_AT_MOST = 2

# Tenants whose last write is remembered. What is forgotten counts as everybody's.
_TENANTS = 10_000

# What waits holds a snapshot, which may hold back the replay itself: so the wait is short.
_PATIENCE_MS = 100

_REPLAYED = "select pg_is_in_recovery(), pg_last_wal_replay_lsn() - '0/0'::pg_lsn"

_WAIT = """
do $$
begin
  if not pg_is_in_recovery() then
    return;
  end if;
  for turn in 1 .. {turns} loop
    if pg_last_wal_replay_lsn() - '0/0'::pg_lsn >= {position} then
      return;
    end if;
    perform pg_sleep(0.002);
  end loop;
  raise exception 'this standby has not replayed what was written' using errcode = '{late}';
end
$$
"""


def _wait_until_replayed(position: int) -> str:
    """A statement that ends when a standby has replayed the log up to there, or is refused soon with `LATE`."""
    return _WAIT.format(turns=_PATIENCE_MS // 2, position=int(position), late=LATE)


# Errors that would have come at any server.
_OF_THE_CALL = (InvalidArgumentError, PoolTimeoutError, QueryTimeoutError, QuotaExceededError)


@dataclass(eq=False)
class Replica(Server):
    """A standby, and what was found when it was looked at the last time."""

    answers: bool = False
    replayed: int = 0
    """The position of the primary's log up to which it has surely replayed."""
    lag: float | None = None
    """Seconds that it was behind; 0 where nothing was missing, `None` where that is not known."""
    aside_until: float = 0.0

    def failed(self, error: StoreError) -> None:
        """Leave it out for a moment, where the error is the standby's."""
        is_its_own = not isinstance(error, _OF_THE_CALL)
        if is_its_own and not is_late(error.__cause__) and not takes_no_writes(error.__cause__):
            self.aside_until = time.monotonic() + _ASIDE

    def known_lag(self) -> float | None:
        """Seconds that it was behind when it was looked at."""
        return self.lag

    def load(self) -> int:
        """How many calls it serves, and how many wait for it."""
        figures = self.pool.figures()
        return figures.size - figures.idle + figures.waiting


@dataclass(eq=False)
class _Write:
    """A write whose position may not have been asked for yet."""

    position: int | None = None


@dataclass
class _Writes:
    """The last write of each tenant."""

    by_tenant: OrderedDict[str, _Write] = field(default_factory=OrderedDict)
    everybodys: _Write = field(default_factory=lambda: _Write(0))

    def note(self, tenant_id: str, position: int | None) -> None:
        before = self.by_tenant.get(tenant_id)
        if before is not None and position is not None:
            # That one may have been done after this one, though it was noted before.
            position = None if before.position is None else max(before.position, position)
        self.by_tenant[tenant_id] = _Write(position)
        self.by_tenant.move_to_end(tenant_id)
        if len(self.by_tenant) > _TENANTS:
            self.by_tenant.popitem(last=False)
            self.everybodys = _Write()

    def of(self, tenant_id: str) -> list[_Write]:
        own = self.by_tenant.get(tenant_id)
        return [self.everybodys] if own is None else [self.everybodys, own]


class Replicas:
    """The standbys of one primary."""

    def __init__(self, primary: Server, replicas: Sequence[Replica], *, max_lag: float) -> None:
        self._primary, self.each, self._max_lag = primary, replicas, max_lag
        self._writes = _Writes()
        # Of the primary's log, and when each was seen; the oldest are forgotten.
        self._positions: deque[tuple[float, int]] = deque(maxlen=10_000)
        self._turn = 0
        self._watching: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Look at each standby once, which takes a few seconds at most, and go on looking; nothing is raised."""
        for replica in self.each:
            replica.pool.start_later()
        await self.look()
        self._watching = asyncio.create_task(self._watch(), name="thea_store replicas")

    async def close(self, patience: float) -> None:
        """Wait up to `patience` seconds for running reads, then end them. Idempotent."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait([self._watching])
        await asyncio.gather(*(replica.pool.close(patience) for replica in self.each))

    def in_order(self) -> list[Replica]:
        """Those that may serve a read, the one with the least to do first; in turns where they are alike."""
        self._turn += 1
        now = time.monotonic()
        usable = [replica for replica in self.each if self._is_usable(replica, now)]
        start = self._turn % len(usable) if usable else 0
        return sorted(usable[start:] + usable[:start], key=Replica.load)[:_AT_MOST]

    def _is_usable(self, replica: Replica, now: float) -> bool:
        return replica.answers and now >= replica.aside_until and (replica.lag or 0.0) <= self._max_lag

    @property
    def knows_positions(self) -> bool:
        """Whether the primary has told its position: some servers do not."""
        return bool(self._positions)

    # --- reading what was written -----------------------------------------------------------------

    def wrote(self, tenant_id: str, position: int | None = None) -> None:
        """Note that the tenant wrote, or may have written: up to this position of the log, or until now."""
        self._writes.note(tenant_id, position)

    async def wait_for(self, replica: Replica, tenant_id: str) -> list[str]:
        """The statement that makes a read there wait for what the tenant wrote; none where it surely is there.

        `StoreError` where the primary does not tell up to where it wrote.
        """
        writes = self._writes.of(tenant_id)
        if unknown := [write for write in writes if write.position is None]:
            position = await _ask(self._primary, POSITION)
            for write in unknown:
                write.position = position
        needed = max(write.position or 0 for write in writes)
        return [_wait_until_replayed(needed)] if needed > replica.replayed else []

    # --- looking ----------------------------------------------------------------------------------

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_LOOK)
            await self.look()

    async def look(self) -> None:
        """Find out which standbys answer, and how far each has replayed."""
        if self._primary.pool.figures().idle:  # else a call may need the next connection
            with contextlib.suppress(StoreError):
                self._positions.append((time.monotonic(), await _ask(self._primary, POSITION)))
        await asyncio.gather(*(self._look_at(replica) for replica in self.each))
        replayed = min((replica.replayed for replica in self.each if replica.answers), default=0)
        while len(self._positions) > 1 and self._positions[0][1] <= replayed:
            self._positions.popleft()

    async def _look_at(self, replica: Replica) -> None:
        try:
            replayed = await _ask(replica, _REPLAYED)
        except PoolTimeoutError:  # all its connections are in use, so it does serve
            return
        except StoreError:
            replica.answers, replica.lag = False, None
            replica.pool.abandon()
        else:
            replica.answers, replica.replayed = True, max(replica.replayed, replayed)
            missing = [seen for seen, position in self._positions if position > replica.replayed]
            replica.lag = time.monotonic() - missing[0] if missing else 0.0


_PRIMARYS = 2**63
"""A primary, where a replica's URL leads to one, has all of its own log."""


async def _ask(server: Server, sql: str) -> int:
    """The last column of the only row; a number without a fraction."""
    connection = await server.pool.acquire(None)
    try:
        [row] = await connection.raw.fetch(sql, timeout=connection.prompt)
    except Exception as error:
        connection.raw.terminate()
        server.pool.end(connection)
        raise StoreError(f"{server.connector.address}: does not tell its position ({type(error).__name__})") from error
    except BaseException:
        server.pool.settle(connection)
        raise
    server.pool.release(connection)
    return _PRIMARYS if row[0] is False else int(row[-1] or 0)
