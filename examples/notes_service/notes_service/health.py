"""What a load balancer asks."""

from __future__ import annotations

from fastapi import APIRouter, Response, status

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
