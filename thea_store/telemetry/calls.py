"""Each call of a store, seen when it ends."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

from thea_store.errors import QueryTimeoutError
from thea_store.postgres.url import DatabaseUrl
from thea_store.queries.file import Query
from thea_store.telemetry.pools import Pool, PoolFigures, PoolStatistics

__all__ = ["SERVERS", "Call", "Observer", "Server", "Watch"]

Server = Literal["primary", "replica"]
SERVERS: tuple[Server, ...] = ("primary", "replica")

_log = logging.getLogger("thea_store.queries")
_telemetry = logging.getLogger("thea_store.telemetry")


class Call(NamedTuple):
    """One call that has ended: the statement of a repository's function, or the `begin` or `commit` of a transaction.

    Its text form leaves the tenant out.
    """

    query: str
    """The query's name, `notes.search`; `begin` and `commit` for those of a transaction."""
    statement: str
    """The name by which `pg_stat_statements` shows it: that of the variant, `notes.get_all+user_id`."""
    tenant_id: str
    seconds: float
    """From the asking for a connection to the rows, with all that was tried again."""
    rows: int
    """How many rows the server returned; 0 for a call that failed."""
    error: BaseException | None
    """Why it failed: an error of the library, a cancellation; `None` where it went well."""
    attempts: int
    """How often it was tried."""
    in_transaction: bool
    """Whether it was one call of a transaction, instead of its own transaction."""
    server: Server

    def __repr__(self) -> str:
        outcome = "ok" if self.error is None else type(self.error).__name__
        return f"Call({self.statement}, {outcome}, {self.seconds * 1000:.1f} ms, {self.rows} row(s), {self.server})"


class Watch:
    """A call under way: `with observer.watch(…) as call:`. It ends with the block."""

    __slots__ = ("_observer", "_started", "attempts", "in_transaction", "query", "rows", "sent", "server", "tenant_id")

    def __init__(
        self,
        observer: Observer,
        query: str,
        tenant_id: str,
        sent: Query[Any] | None,
        server: Server,
        *,
        in_transaction: bool,
    ) -> None:
        self._observer, self.query, self.tenant_id, self.sent = observer, query, tenant_id, sent
        self.server: Server = server
        self.in_transaction = in_transaction
        self.rows, self.attempts = 0, 1

    @property
    def statement(self) -> str:
        """The name of the query that is sent: that of the variant, where there are any."""
        return self.sent.name if self.sent is not None else self.query

    def retried(self) -> None:
        """Count that the call is tried again."""
        self.attempts += 1
        self._observer.retried(self.query)

    def __enter__(self) -> Self:
        self._started = time.perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._observer.ended(self, time.perf_counter() - self._started, error)


class Observer:
    """Sees the calls and the pools of one store, logs what is slow, and tells whoever listens."""

    def __init__(self, *, echo: bool = False, slow_ms: float = float("inf")) -> None:
        self._echo, self._slow = echo, slow_ms / 1000
        self._listeners: tuple[Callable[[Call], object], ...] = ()
        self.on_slow: Callable[[Watch], None] | None = None
        """Called for each call whose statement was slow, besides the log."""
        self.retries: Counter[str] = Counter()
        """How often something was tried again, by the query's name; `run` is a whole transaction."""
        self.pools: list[Pool] = []
        self.closed = False

    def watch(
        self,
        query: str,
        tenant_id: str,
        sent: Query[Any] | None = None,
        *,
        server: Server = "primary",
        in_transaction: bool = False,
    ) -> Watch:
        """The call that is about to begin, for a `with` block round it; `sent` is the query, or its variant."""
        return Watch(self, query, tenant_id, sent, server, in_transaction=in_transaction)

    def add_pool(
        self,
        address: DatabaseUrl,
        server: Server,
        figures: Callable[[], PoolFigures],
        statistics: PoolStatistics,
        lag: Callable[[], float | None] = lambda: None,
    ) -> None:
        """Have a pool measured too; `lag` gives the seconds that a replica was behind when it was last looked at."""
        self.pools.append(Pool(address, server, figures, statistics, lag))

    def listen(self, callback: Callable[[Call], object]) -> Callable[[], None]:
        """Have each call told to `callback` when it ends; what comes back ends that."""
        self._listeners += (callback,)

        def stop() -> None:
            self._listeners = tuple([each for each in self._listeners if each is not callback])

        return stop

    def retried(self, name: str) -> None:
        """Count that a call, or all of a transaction, is tried again."""
        self.retries[name] += 1

    def ended(self, watch: Watch, seconds: float, error: BaseException | None) -> None:
        """Log the call where it is slow, and tell it."""
        if seconds >= self._slow:
            _log.warning(
                "slow query %s: %.1f ms", watch.statement, seconds * 1000, extra=_fields(watch, seconds, error)
            )
            if self.on_slow is not None and (error is None or isinstance(error, QueryTimeoutError)):
                self.on_slow(watch)
        elif self._echo:
            _log.info("%s: %.1f ms", watch.statement, seconds * 1000, extra=_fields(watch, seconds, error))
        if self._listeners:
            self._tell(watch, seconds, error)

    def _tell(self, watch: Watch, seconds: float, error: BaseException | None) -> None:
        call = Call(
            watch.query,
            watch.statement,
            watch.tenant_id,
            seconds,
            watch.rows,
            error,
            watch.attempts,
            watch.in_transaction,
            watch.server,
        )
        for listener in self._listeners:
            try:
                listener(call)
            except Exception:  # noqa: BLE001 - whatever the service wrote there
                # The call has ended well or badly already; a mistake of the callback's does not change that.
                _telemetry.exception("a callback of on_call failed, at the end of %s", call.query)


def _fields(watch: Watch, seconds: float, error: BaseException | None) -> dict[str, object]:
    return {
        "query": watch.statement,
        "duration_ms": round(seconds * 1000, 3),
        "rows": watch.rows,
        "outcome": "ok" if error is None else type(error).__name__,
        "attempts": watch.attempts,
        "server": watch.server,
    }
