"""What a load balancer asks, and what Prometheus does."""

from __future__ import annotations

from fastapi import APIRouter, Response, status
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from thea_store import StoreUnavailableError

from notes_service.dependencies import CurrentStore

__all__ = ["router"]

router = APIRouter(tags=["operation"])


@router.get("/health")
async def get_health(store: CurrentStore, response: Response) -> dict[str, bool]:
    """Whether requests can be served; a 503 when the database is out of reach or too old for this service.

    What is wrong is for the operator (`thea-store doctor`), not for whoever asks.
    """
    health = await store.health()
    ready = health.reachable and not health.pending_migrations
    if not ready:
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
    return {"ready": ready}


@router.get("/ready")
async def get_ready(store: CurrentStore, response: Response) -> dict[str, bool]:
    """Whether the database answers within two seconds: for a probe every few seconds."""
    try:
        await store.ping(timeout=2.0)
    except StoreUnavailableError:
        response.status_code = status.HTTP_503_SERVICE_UNAVAILABLE
        return {"ready": False}
    return {"ready": True}


@router.get("/metrics")
async def get_metrics() -> Response:
    """What the store counts, as Prometheus reads it."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)
