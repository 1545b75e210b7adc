"""The application: where the store, the routes and the meaning of errors are put together."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from thea_store import Store
from thea_store.telemetry import prometheus

from notes_service import errors, health, notes, reminders, users

__all__ = ["create_app"]


def create_app(store: Store | None = None) -> FastAPI:
    """The service on this store, which stays its owner's to close.

    Without one it opens its own when it starts, from `DATABASE_URL` and the other settings of
    thea_store, and closes it when it ends.
    """
    app = FastAPI(title="Notes and reminders", lifespan=_own_store if store is None else None)
    app.state.store = store
    app.include_router(users.router)
    app.include_router(notes.router)
    app.include_router(reminders.router)
    app.include_router(health.router)
    errors.install(app)
    return app


@asynccontextmanager
async def _own_store(app: FastAPI) -> AsyncIterator[None]:
    async with Store.open() as store:
        prometheus.instrument(store)
        app.state.store = store
        yield
