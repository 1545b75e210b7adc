"""The data keys that a process has unwrapped, and for how long.

A tenant without keys is known as such until the server refuses a plain text of it, or shows a sealed one. The keys of
an encrypted tenant are asked for anew after a minute: so a new version is taken, and a key that was forgotten is gone
from the process, within that time.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

from pydantic import BaseModel

from thea_store.encryption.providers import KeyProvider, unwrapped_by
from thea_store.encryption.sealing import DataKey, TenantKeys

__all__ = ["FRESH", "Keyring", "WrappedKey"]

FRESH = 60.0
"""Seconds for which the keys of an encrypted tenant are taken as they were read."""

# Tenants that are remembered; beyond, the ones that came first are asked for anew.
_MOST = 10_000


class WrappedKey(BaseModel, frozen=True):
    """A data key as the database has it."""

    version: int
    wrapped: bytes
    is_retired: bool = False
    """Whether it opens what it sealed, and seals nothing any more."""


class _Known(NamedTuple):
    keys: TenantKeys | None
    until: float


class Keyring:
    """The keys of the tenants that a store is called for; without a provider, of none."""

    def __init__(self, provider: KeyProvider | None = None) -> None:
        self._provider = provider
        self._known: dict[str, _Known] = {}
        self.is_empty = provider is None
        """Whether nothing is asked for, and nothing can be sealed."""

    async def of(self, tenant_id: str, ask: Callable[[], Awaitable[Sequence[WrappedKey]]]) -> TenantKeys | None:
        """The tenant's keys, which `ask` reads where they are not known; `None` where the tenant is not encrypted.

        `EncryptionKeyError` where the provider does not unwrap one of them.
        """
        if self._provider is None:
            return None
        known = self._known.get(tenant_id)
        if known is not None and time.monotonic() < known.until:
            return known.keys
        keys = await self.unwrapped(tenant_id, await ask())
        self._known.pop(tenant_id, None)
        if len(self._known) >= _MOST:
            del self._known[next(iter(self._known))]
        # Whether a tenant has become encrypted meanwhile, the server tells.
        until = float("inf") if keys is None else time.monotonic() + FRESH
        self._known[tenant_id] = _Known(keys, until)
        return keys

    async def unwrapped(self, tenant_id: str, wrapped: Sequence[WrappedKey]) -> TenantKeys | None:
        """These keys of the tenant; `None` for none."""
        if self._provider is None or not wrapped:
            return None
        keys = [DataKey(one.version, await unwrapped_by(self._provider, tenant_id, one.wrapped)) for one in wrapped]
        return TenantKeys(tenant_id, keys, is_ended=all(one.is_retired for one in wrapped))

    def doubt(self, tenant_id: str) -> bool:
        """Have the tenant's keys asked for anew; whether it was taken for one whose texts are plain until now."""
        known = self._known.pop(tenant_id, None)
        return known is not None and (known.keys is None or known.keys.is_ended)
