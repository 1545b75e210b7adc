"""What the routes ask for: the store, and whose data they may touch."""

from __future__ import annotations

from typing import Annotated

from fastapi import Depends, Header, HTTPException, Request, status
from thea_store import Store

__all__ = ["CurrentStore", "Tenant"]


async def get_store(request: Request) -> Store:
    """The store that the application opened, or was given."""
    store: Store = request.app.state.store
    return store


async def pretend_to_authenticate(x_tenant: Annotated[str | None, Header()] = None) -> str:
    """The caller's tenant, which is PRETENDED to be authenticated: whoever calls is believed.

    In your service, check a token here and take the tenant from what it says. Nothing else changes:
    the routes only know the tenant, and the store lets them touch no other one's rows.
    """
    if x_tenant is None:
        raise HTTPException(status.HTTP_401_UNAUTHORIZED, "say who you are in the header X-Tenant")
    return x_tenant


CurrentStore = Annotated[Store, Depends(get_store)]
Tenant = Annotated[str, Depends(pretend_to_authenticate)]
