"""`EmbeddedPostgres`: the asynchronous face of a server run."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from thea_store.embedded.account import PORT
from thea_store.embedded.launch import ServerRun
from thea_store.embedded.roles import DATABASE, LOGINS, MIGRATOR, SUPERUSER
from thea_store.errors import EmbeddedServerError

__all__ = ["EmbeddedPostgres"]


class EmbeddedPostgres:
    """A PostgreSQL of our own, with the roles and the database of the library, without its tables.

    Without `path` the data is thrown away when the server stops, and nothing is synced to disk.
    With `path` the data stays there, is durable, and belongs to one running server at a time.
    `bin_dir` names the programs of another PostgreSQL than the `embedded` extra's.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        bin_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        self._path = None if path is None else _absolute(path)
        self._bin_dir = None if bin_dir is None else _absolute(bin_dir)
        self._run: ServerRun | None = None
        self._busy = asyncio.Lock()

    def __repr__(self) -> str:
        """The path, or that there is none, and whether the server runs."""
        data = "throwaway" if self._path is None else str(self._path)
        return f"<EmbeddedPostgres {data}, {'stopped' if self._run is None else 'running'}>"

    @property
    def superuser_url(self) -> str:
        """The URL of the superuser, in the database `thea`."""
        return self._url(SUPERUSER)

    @property
    def app_url(self) -> str:
        """The URL of a service's login: a member of `thea_app`, without any other power."""
        return self.url_of("thea_app")

    @property
    def worker_url(self) -> str:
        """The URL of a worker's login: a member of `thea_worker`, who learns which tenants have work."""
        return self.url_of("thea_worker")

    def url_of(self, group: str) -> str:
        """The URL of a login in this group of the library's, such as `thea_privacy`, without any other power."""
        return self._url(LOGINS[group])

    @property
    def migrator_url(self) -> str:
        """The URL of the database's owner, who runs the migrations."""
        return self._url(MIGRATOR)

    async def start(self) -> None:
        """Start the server, unless it runs.

        Raises `EmbeddedServerError` when it cannot be started; nothing is left running then, nor
        after a cancellation.
        """
        async with self._busy:
            if self._run is None:
                run = ServerRun(self._path, self._bin_dir)
                try:
                    await _to_its_end(run.start, on_cancel=run.release)
                except asyncio.CancelledError:
                    await _to_its_end(run.wait)  # it may have become ready at that very moment
                    raise
                self._run = run

    async def stop(self) -> None:
        """Stop the server and remove what is temporary; nothing happens when it does not run."""
        async with self._busy:
            run, self._run = self._run, None
            if run is not None:
                run.release()
                await _to_its_end(run.wait)

    async def __aenter__(self) -> Self:
        """Start the server."""
        await self.start()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop the server."""
        await self.stop()

    def _url(self, user: str) -> str:
        if self._run is None:
            raise EmbeddedServerError(
                "the embedded PostgreSQL is not running: use it inside `async with`, or call start()"
            )
        # The port is only part of the socket's name; without it PGPORT would decide.
        host = quote(str(self._run.socket_dir), safe="")
        return f"postgresql://{user}@/{DATABASE}?host={host}&port={PORT}"


async def _to_its_end(function: Callable[[], None], *, on_cancel: Callable[[], None] | None = None) -> None:
    """Run a blocking function in a thread and wait until it is over, also when cancelled meanwhile."""
    work = asyncio.ensure_future(asyncio.to_thread(function))
    try:
        await asyncio.shield(work)
    except asyncio.CancelledError:
        if on_cancel is not None:
            on_cancel()
        # Its own failure is of no interest any more, but has to be looked at or asyncio complains.
        work.add_done_callback(lambda done: done.cancelled() or done.exception())
        await asyncio.wait([work])
        raise


def _absolute(path: str | os.PathLike[str]) -> Path:
    try:
        return Path(path).expanduser().absolute()
    except (OSError, RuntimeError) as error:  # the working directory is gone, or `~` is nowhere
        raise EmbeddedServerError(
            f"{os.fspath(path)} leads nowhere from here ({error}): give a whole path, as in embedded:/var/lib/thea"
        ) from None
